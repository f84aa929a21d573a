"""A pay-per-call channel on the chain: its script, and the few transactions that can leave it.

Payer and payee build the same bytes from the same terms; a wallet signs nothing else. `state(cum)` pays the payee what
a voucher says, five per cent of it to the fund, a developer's royalty where the terms name one, and the rest back to
the payer; `refund` gives the payer everything from the height EXP on. The payer signs states with ALL|ANYONECANPAY,
which is safe here alone, because the payee signs the final whole: so the payee can add an input for the fee.

The bytes that a voucher's coin part signs are put together here and not by a library, because two of them are hashed
for every call; a test holds them against python-bitcoinlib's. Source: channel_protocol.md §2, §3; settled.md 8, 29.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import coincurve
from bitcoin.core import script as op
from bitcoin.core.script import SIGHASH_ALL, SIGHASH_ANYONECANPAY, CScript

from common.chain.address import pay_to_script
from common.chain.fees import GROSS_MIN_FLORINS, fee_for, is_dust
from common.chain.heights import LOCKTIME_HEIGHT_MAX
from common.chain.script import PLACEHOLDER_SIG, PUBKEY_BYTES, BadScript, checked
from common.chain.tx import SEQUENCE_REPLACEABLE, Outpoint, Tx, TxInput, TxOutput, sighash, size_with
from common.codec import Canon, canonical
from common.errors import CallerMistake
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import BPS, FLOP, Florins, tax_of

CHANNEL_VERSION = 1
TERMS_BYTES_MAX = 2_048
FIRST_MIN_FLORINS = GROSS_MIN_FLORINS  # the fund's output is then no dust; what the first calls leave is credit
CAP_MIN_FLORINS = FLOP
HASH_TYPE_STATE = bytes([SIGHASH_ALL | SIGHASH_ANYONECANPAY])
SIGOPS = 2
CHANNELS_REMEMBERED = 256
U32, U64 = 4, 8


class BadState(CallerMistake):
    """No such state of the channel: {reason}."""

    code = 2040
    key = "bad-channel-state"


class ChannelTerms(Canon, frozen=True):
    """What both sides agree before the payer funds; keys and the change script are made for this channel alone."""

    version: int
    network: str  # genesis hash, hex
    payer: str  # DID
    payee: str
    payer_key: bytes
    payee_key: bytes
    change_script: bytes  # where the payer's rest goes
    payout_script: bytes  # where the payee is paid
    fund_script: bytes
    tax_bps: int
    developer_script: bytes  # empty: no royalty
    royalty_bps: int  # of the provider's part
    fee_rate_florins_per_kb: int
    cap_florins: Florins  # what the payer means to fund; the coin itself counts
    exp: int  # from this height on the payer can take everything back
    profile: str  # of heights and limits: common/chain/channel_heights
    window: int  # w: calls in flight
    mirror_florins: Florins  # x: so much may be paid before a copy of the best voucher lies elsewhere
    limit_florins: Florins  # U: the payee closes when it holds so much


class ChannelName(Canon, frozen=True):
    """What a channel's id is the hash of."""

    network: str
    script: bytes


@lru_cache(maxsize=CHANNELS_REMEMBERED)
def channel_script(payer_key: bytes, payee_key: bytes, exp: int) -> bytes:
    """Both together at any time, or the payer alone from EXP on.

    Raises:
        BadScript: keys of a wrong length, or EXP is no height.
    """
    if {len(payer_key), len(payee_key)} != {PUBKEY_BYTES}:
        raise BadScript(reason="keys are compressed, 33 bytes")
    if not 0 < exp < LOCKTIME_HEIGHT_MAX:
        raise BadScript(reason=f"EXP = {exp} is not a height")
    script = CScript(
        [
            *(op.OP_IF, payee_key, op.OP_CHECKSIGVERIFY),
            *(op.OP_ELSE, exp, op.OP_CHECKLOCKTIMEVERIFY, op.OP_DROP, op.OP_ENDIF),
            *(payer_key, op.OP_CHECKSIG),
        ]
    )
    return checked(bytes(script), SIGOPS)


def script_of(terms: ChannelTerms) -> bytes:
    """The redeem script."""
    return channel_script(terms.payer_key, terms.payee_key, terms.exp)


def channel_output_script(terms: ChannelTerms) -> bytes:
    """The output script that the payer funds."""
    return pay_to_script(script_of(terms))


def chid(terms: ChannelTerms) -> bytes:
    """The channel's id (32 bytes): of its network and script."""
    name = ChannelName(network=terms.network, script=script_of(terms))
    return bytes(tagged_hash(Purpose.CHANNEL, canonical(name)))


def close_sig(script: bytes, payer_sig: bytes, payee_sig: bytes) -> bytes:
    """The input script of a state."""
    return bytes(CScript([payer_sig, payee_sig, 1, script]))


def refund_sig(script: bytes, payer_sig: bytes) -> bytes:
    """The input script of the refund."""
    return bytes(CScript([payer_sig, 0, script]))


@lru_cache(maxsize=CHANNELS_REMEMBERED)
def state_fee(terms: ChannelTerms) -> Florins:
    """What every state pays to the miners out of the payer's part: by the size with every output and signature."""
    outputs = tuple(TxOutput(Florins(0), script) for script in _receivers(terms, b""))
    bare = Tx((TxInput(Outpoint("00" * 32, 0)),), outputs)
    sig_bytes = len(close_sig(script_of(terms), PLACEHOLDER_SIG, PLACEHOLDER_SIG))
    return fee_for(size_with(bare, [sig_bytes]), terms.fee_rate_florins_per_kb)


def usable(terms: ChannelTerms, value_florins: int) -> Florins:
    """The highest cumulative voucher that a coin of this value carries."""
    return Florins(max(0, value_florins - int(state_fee(terms))))


def shares_of(terms: ChannelTerms, value_florins: int, cum_florins: int) -> tuple[int, int, int, int]:
    """What payee, fund, developer and payer get, in florins; what would be dust is 0.

    Raises:
        BadState: more than the coin carries, or less than the fund's output needs.
    """
    if not 0 <= cum_florins <= int(usable(terms, value_florins)):
        raise BadState(reason=f"{cum_florins} florins of a coin that carries {int(usable(terms, value_florins))}")
    if 0 < cum_florins < FIRST_MIN_FLORINS:
        raise BadState(reason=f"the first voucher is {FIRST_MIN_FLORINS} florins; what calls leave of it is credit")
    tax = int(tax_of(cum_florins, terms.tax_bps))
    royalty = _no_dust((cum_florins - tax) * terms.royalty_bps // BPS) if terms.developer_script else 0
    rest = _no_dust(value_florins - cum_florins - int(state_fee(terms)))
    return cum_florins - tax - royalty, tax, royalty, rest


def _no_dust(florins: int) -> int:
    return 0 if is_dust(florins) else florins


def _receivers(terms: ChannelTerms, next_script: bytes) -> tuple[bytes, ...]:
    developer = (terms.developer_script,) if terms.developer_script else ()
    return (terms.payout_script, terms.fund_script, *developer, next_script or terms.change_script)


def _outputs(
    terms: ChannelTerms, value_florins: int, cum_florins: int, next_script: bytes
) -> tuple[tuple[int, bytes], ...]:
    payee, fund, developer, payer = shares_of(terms, value_florins, cum_florins)
    paid = (payee, fund, developer, payer) if terms.developer_script else (payee, fund, payer)
    pairs = zip(paid, _receivers(terms, next_script), strict=True)
    return tuple((florins, script) for florins, script in pairs if florins)


def state_tx(
    terms: ChannelTerms,
    outpoint: Outpoint,
    value_florins: int,
    cum_florins: int,
    *,
    next_script: bytes = b"",
    fee_inputs: tuple[Outpoint, ...] = (),
) -> Tx:
    """state(cum), unsigned. `next_script`: the payer's rest opens the next channel; 0 gives all back to the payer.

    Raises:
        BadState: the amount is none that this channel can pay, or nothing would be left.
    """
    outputs = tuple(
        TxOutput(Florins(florins), script)
        for florins, script in _outputs(terms, value_florins, cum_florins, next_script)
    )
    if not outputs:
        raise BadState(reason="nothing would be left after the fee")
    return Tx((TxInput(outpoint), *(TxInput(point) for point in fee_inputs)), outputs)


def refund_tx(terms: ChannelTerms, outpoint: Outpoint, value_florins: int, fee_florins: int) -> Tx:
    """The payer takes everything, from EXP on, at a fee of its choice.

    Raises:
        BadState: nothing would be left.
    """
    rest = value_florins - fee_florins
    if is_dust(rest):
        raise BadState(reason=f"{rest} florins would be left after the fee")
    return Tx((TxInput(outpoint),), (TxOutput(Florins(rest), terms.change_script),), terms.exp)


def refund_fee(terms: ChannelTerms) -> Florins:
    """The refund's fee at the first step."""
    bare = Tx((TxInput(Outpoint("00" * 32, 0)),), (TxOutput(Florins(0), terms.change_script),))
    return fee_for(size_with(bare, [len(refund_sig(script_of(terms), PLACEHOLDER_SIG))]), terms.fee_rate_florins_per_kb)


@lru_cache(maxsize=CHANNELS_REMEMBERED)
def _input_bytes(script: bytes, outpoint: Outpoint) -> bytes:
    """Version, the one input that is signed with its script, sequence: the same for every voucher of a channel."""
    spent = bytes.fromhex(outpoint.txid)[::-1] + outpoint.vout.to_bytes(U32, "little")
    head = (1).to_bytes(U32, "little") + b"\x01" + spent + bytes([len(script)]) + script
    return head + SEQUENCE_REPLACEABLE.to_bytes(U32, "little")


def state_digest(
    terms: ChannelTerms, outpoint: Outpoint, value_florins: int, cum_florins: int, next_script: bytes = b""
) -> bytes:
    """What the payer's coin signature of state(cum) signs (32 bytes, ALL|ANYONECANPAY).

    Raises:
        BadState: as `state_tx`.
    """
    outputs = _outputs(terms, value_florins, cum_florins, next_script)
    paid = b"".join(florins.to_bytes(U64, "little") + bytes([len(script)]) + script for florins, script in outputs)
    tail = bytes(U32) + HASH_TYPE_STATE + bytes(U32 - 1)  # lock time, hash type
    body = _input_bytes(script_of(terms), outpoint) + bytes([len(outputs)]) + paid + tail
    return hashlib.sha256(hashlib.sha256(body).digest()).digest()


def whole_digest(terms: ChannelTerms, tx: Tx) -> bytes:
    """What the payee signs of a state, and the payer of a refund: everything."""
    return sighash(tx, 0, script_of(terms))


@lru_cache(maxsize=CHANNELS_REMEMBERED)
def point_of(pubkey: bytes) -> coincurve.PublicKey:
    """The key in the form that verifies; taking it apart costs as much as a tenth of a verification.

    Raises:
        ValueError: no point of the curve.
    """
    return coincurve.PublicKey(pubkey)


def is_state_signature(pubkey: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether this is the key's signature of a state's digest, with the hash type behind it."""
    if signature[-1:] != HASH_TYPE_STATE:
        return False
    try:
        return point_of(pubkey).verify(signature[:-1], digest, hasher=None)
    except ValueError:
        return False
