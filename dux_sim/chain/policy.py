"""What Flopcoin nodes relay and mine beyond what blocks allow: fees, dust, standard forms, limits of the mempool.

Pure. A transaction is judged here as by a node that received it from a peer. (Mainnet's own `sendrawtransaction` lets
soft dust pass, and then nobody relays it; here it is refused at once, with the words of the node that would refuse it.)

Source: facts §2; reject codes as there.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.chain.invalid import REJECT_INSUFFICIENT_FEE, REJECT_NONSTANDARD, Invalid
from common.chain.wire import Tx, TxOut
from dux_sim.chain import consensus, scripts
from dux_sim.chain.errors import REJECT_HIGH_FEE
from dux_sim.chain.tx_rules import Coin

FLOP = consensus.FLOP
RELAY_FEE_FLORINS_PER_KB = FLOP // 1000  # 0.001
INCREMENTAL_FEE_FLORINS_PER_KB = FLOP // 10_000  # what a replacement pays for its own relay
MINER_FEE_FLORINS_PER_KB = FLOP // 100  # below: relayed, never mined
HARD_DUST_FLORINS = FLOP // 1000
SOFT_DUST_FLORINS = FLOP // 100  # an output below costs as much in fees
ABSURD_FEE_FLORINS = 100 * FLOP

STANDARD_TX_BYTES_MAX = 99_999
STANDARD_VERSIONS = (1, 2)
SCRIPT_SIG_BYTES_MAX = 1650
NULL_DATA_BYTES_MAX = 83
MULTISIG_KEYS_MAX = 3
P2SH_SIGOPS_MAX = 15
TX_SIGOPS_MAX = 4000  # 16,000 of cost, four each
BYTES_PER_SIGOP = 20

ANCESTORS_MAX = 25  # the transaction itself counts
FAMILY_BYTES_MAX = 101_000
REPLACED_MAX = 100
MEMPOOL_TXS_MAX = 20_000  # bound of memory; mainnet's 300 MB is never near
EXPIRY_S = 24 * 3600
REPLACEABLE_SEQUENCE_MAX = 0xFFFFFFFD  # BIP125
BIP68_DISABLED = 1 << 31
BIP68_IS_TIME = 1 << 22
BIP68_MASK = 0xFFFF
BIP68_GRANULE_S = 512


def fee_at(rate_florins_per_kb: int, size_bytes: int) -> int:
    """The fee of a size at a rate, in florins; a positive rate never gives zero."""
    fee = rate_florins_per_kb * size_bytes // 1000
    return max(fee, 1) if size_bytes and rate_florins_per_kb else fee


def relay_size(tx: Tx, sigops: int) -> int:
    """Bytes as relay counts them: signature checks weigh 20 each, if that is more."""
    return max(len(tx.raw), sigops * BYTES_PER_SIGOP)


def check_standard(tx: Tx) -> None:
    """The form is one that nodes relay.

    Raises:
        Invalid: it is not.
    """
    if tx.version not in STANDARD_VERSIONS:
        raise _nonstandard("version")
    if len(tx.raw) > STANDARD_TX_BYTES_MAX:
        raise _nonstandard("tx-size")
    for txin in tx.inputs:
        if len(txin.script_sig) > SCRIPT_SIG_BYTES_MAX:
            raise _nonstandard("scriptsig-size")
        if not scripts.is_push_only(txin.script_sig):
            raise _nonstandard("scriptsig-not-pushonly")
    for out in tx.outputs:
        _check_output(out)
    if sum(scripts.kind_of(out.script) == "nulldata" for out in tx.outputs) > 1:
        raise _nonstandard("multi-op-return")


def _check_output(out: TxOut) -> None:
    kind = scripts.kind_of(out.script)
    if kind not in ("pubkey", "pubkeyhash", "scripthash", "multisig", "nulldata"):
        raise _nonstandard("scriptpubkey")
    if scripts.multisig_keys(out.script) > MULTISIG_KEYS_MAX:
        raise _nonstandard("scriptpubkey")
    if kind == "nulldata":
        if len(out.script) > NULL_DATA_BYTES_MAX:
            raise _nonstandard("scriptpubkey")
    elif out.value_florins < HARD_DUST_FLORINS:
        raise _nonstandard("dust")


def check_inputs_standard(tx: Tx, spent: Sequence[Coin]) -> None:
    """What is spent has a known form, and redeem scripts stay cheap.

    Raises:
        Invalid: it has not, or they do not.
    """
    for txin, coin in zip(tx.inputs, spent, strict=True):
        kind = scripts.kind_of(coin.out.script)
        if kind not in ("pubkey", "pubkeyhash", "scripthash", "multisig"):
            raise _nonstandard("bad-txns-nonstandard-inputs")
        if kind == "scripthash":
            redeem = scripts.redeem_script(txin.script_sig)
            if redeem is None or scripts.accurate_sigops(redeem) > P2SH_SIGOPS_MAX:
                raise _nonstandard("bad-txns-nonstandard-inputs")


def relay_fee(tx: Tx, size_bytes: int) -> int:
    """The least fee with which a peer passes the transaction on: by size, and 0.01 FLOP more per soft dust output."""
    dust = sum(out.value_florins < SOFT_DUST_FLORINS for out in tx.outputs if scripts.kind_of(out.script) != "nulldata")
    return fee_at(RELAY_FEE_FLORINS_PER_KB, size_bytes) + dust * SOFT_DUST_FLORINS


def check_fee(tx: Tx, size_bytes: int, fee_florins: int, *, absurd_fee_florins: int | None) -> None:
    """The fee is enough to be relayed, and no slip of the hand.

    Raises:
        Invalid: too low, or above `absurd_fee_florins` (None: no such limit).
    """
    if fee_florins < fee_at(RELAY_FEE_FLORINS_PER_KB, size_bytes):
        raise Invalid("insufficient priority", REJECT_INSUFFICIENT_FEE)
    if fee_florins < relay_fee(tx, size_bytes):
        raise Invalid("rate limited free transaction", REJECT_INSUFFICIENT_FEE)
    if absurd_fee_florins is not None and fee_florins > absurd_fee_florins:
        raise Invalid("absurdly-high-fee", REJECT_HIGH_FEE, f"{fee_florins} > {absurd_fee_florins}")


def check_sigops(sigops: int) -> None:
    """No more signature checks than a standard transaction may announce.

    Raises:
        Invalid: more.
    """
    if sigops > TX_SIGOPS_MAX:
        raise Invalid("bad-txns-too-many-sigops", REJECT_NONSTANDARD, str(sigops))


def signals_replacement(tx: Tx) -> bool:
    """Whether it may be replaced (BIP125): some input has a sequence of at most 0xfffffffd."""
    return any(txin.sequence <= REPLACEABLE_SEQUENCE_MAX for txin in tx.inputs)


def sequence_locks_hold(tx: Tx, ages_blocks: Sequence[int], ages_s: Sequence[int]) -> bool:
    """Relay honours relative lock times (BIP68) although consensus here does not.

    `ages_blocks` and `ages_s` say per input how old the spent output will be in the next block (0: unconfirmed).
    """
    if tx.version < 2:  # noqa: PLR2004 - BIP68 begins with version 2
        return True
    for txin, blocks, seconds in zip(tx.inputs, ages_blocks, ages_s, strict=True):
        if txin.sequence & BIP68_DISABLED:
            continue
        wanted = txin.sequence & BIP68_MASK
        if txin.sequence & BIP68_IS_TIME:
            if seconds < wanted * BIP68_GRANULE_S:
                return False
        elif blocks < wanted:
            return False
    return True


def _nonstandard(reason: str) -> Invalid:
    return Invalid(reason, REJECT_NONSTANDARD)
