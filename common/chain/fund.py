"""The community fund's coins: an m-of-n script, and payouts from it that every custodian builds alike.

Promises that a payout conserves what it spends to the florin, and that a custodian's signatures fit only the payout it
saw. Who is paid and how much is decided elsewhere (airdropd). Source: money.md §6, facts §4(e).
"""

from __future__ import annotations

from common.chain.address import is_p2pkh, is_p2sh, pay_to_script
from common.chain.fees import FEE_MAX_FLORINS, fee_for, is_dust
from common.chain.script import PLACEHOLDER_SIG, multisig_script, multisig_sig
from common.chain.settle import MissingSignature
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, sighash, size_with
from common.chain.verify import is_signature, verify_spend
from common.codec import Canon
from common.errors import CallerMistake
from common.units import Florins

PAYOUT_OUTPUTS_MAX = 1000
PAYOUT_INPUTS_MAX = 87  # more of an 8-of-15 input is not relayed
PAYOUT_BYTES_MAX = 65_536  # canonical bytes of a payout
FEE_SPARE = 2  # a payout pays at most twice the fee its size asks for


class BadPayout(CallerMistake):
    """This payout cannot be made: {reason}."""

    code = 2023
    key = "bad-payout"


class FundInput(Canon, frozen=True):
    """One output on the fund's script that is spent."""

    outpoint: Outpoint
    value_florins: Florins


class FundPayout(Canon, frozen=True):
    """A spend from the fund: inputs in the order of their outpoints, outputs as proposed (change is one of them)."""

    network: str
    purpose: str  # what it is for, such as the airdrop's id; part of what custodians compare
    needed: int  # m
    pubkeys: tuple[bytes, ...]  # custodians' keys in bytewise order
    inputs: tuple[FundInput, ...]
    outputs: tuple[TxOutput, ...]


def fund_redeem_script(needed: int, pubkeys: tuple[bytes, ...]) -> bytes:
    """The fund's redeem script.

    Raises:
        BadScript: more keys than fit, or fewer than needed.
    """
    return multisig_script(needed, pubkeys)


def fund_output_script(needed: int, pubkeys: tuple[bytes, ...]) -> bytes:
    """The output script that the tax is paid to."""
    return pay_to_script(fund_redeem_script(needed, pubkeys))


def payout_size(needed: int, pubkeys: tuple[bytes, ...], inputs: int, outputs: tuple[TxOutput, ...]) -> int:
    """The largest size of a payout with this many inputs and these outputs, in bytes."""
    redeem = fund_redeem_script(needed, pubkeys)
    sig_bytes = len(multisig_sig(redeem, [PLACEHOLDER_SIG] * needed))
    blank = Tx(tuple(TxInput(Outpoint("00" * 32, at)) for at in range(inputs)), outputs)
    return size_with(blank, [sig_bytes] * inputs)


def payout_fee(needed: int, pubkeys: tuple[bytes, ...], inputs: int, outputs: tuple[TxOutput, ...]) -> Florins:
    """The fee of a payout with this many inputs and these outputs."""
    return fee_for(payout_size(needed, pubkeys, inputs, outputs))


def payout_tx(payout: FundPayout) -> Tx:
    """The unsigned transaction of a payout.

    Raises:
        BadPayout: with the law it breaks.
    """
    problems = payout_problems(payout)
    if problems:
        raise BadPayout(reason="; ".join(problems))
    return Tx(tuple(TxInput(item.outpoint) for item in payout.inputs), payout.outputs)


def payout_problems(payout: FundPayout) -> list[str]:
    """Every law the payout breaks, in words."""
    points = [(item.outpoint.txid, item.outpoint.vout) for item in payout.inputs]
    spent = sum(int(item.value_florins) for item in payout.inputs)
    fee = spent - sum(int(output.value_florins) for output in payout.outputs)
    least = payout_fee(payout.needed, payout.pubkeys, len(points), payout.outputs)
    laws = {
        "keys stand in their order": list(payout.pubkeys) == sorted(set(payout.pubkeys)),
        "inputs stand once, in their order": points == sorted(set(points)),
        "there are 1 to 87 inputs": 1 <= len(points) <= PAYOUT_INPUTS_MAX,
        "there are 1 to 1000 outputs": 1 <= len(payout.outputs) <= PAYOUT_OUTPUTS_MAX,
        "no output is dust": not any(is_dust(int(output.value_florins)) for output in payout.outputs),
        "outputs pay key hashes or script hashes": all(
            is_p2pkh(item.script) or is_p2sh(item.script) for item in payout.outputs
        ),
        "the fee is what the size asks for": least <= fee <= min(FEE_SPARE * least, FEE_MAX_FLORINS),
    }
    return [law for law, holds in laws.items() if not holds]


def payout_digests(payout: FundPayout) -> list[bytes]:
    """What a custodian signs, one digest per input."""
    tx, redeem = payout_tx(payout), fund_redeem_script(payout.needed, payout.pubkeys)
    return [sighash(tx, index, redeem) for index in range(len(tx.inputs))]


def payout_signatures_are_right(payout: FundPayout, pubkey: bytes, signatures: tuple[bytes, ...]) -> bool:
    """Whether these are the custodian's signatures of every input."""
    digests = payout_digests(payout)
    return len(digests) == len(signatures) and all(
        is_signature(pubkey, digest, signature) for digest, signature in zip(digests, signatures, strict=True)
    )


def assemble_payout(payout: FundPayout, signatures: dict[bytes, tuple[bytes, ...]]) -> Tx:
    """The full, judged transaction from custodians' signatures by key; wrong ones count as missing.

    Raises:
        MissingSignature: fewer than needed are right.
        SpendRefused: the network would not take it.
    """
    right = [key for key in payout.pubkeys if payout_signatures_are_right(payout, key, signatures.get(key, ()))]
    if len(right) < payout.needed:
        raise MissingSignature(what=f"{payout.needed - len(right)} custodians' signatures")
    redeem = fund_redeem_script(payout.needed, payout.pubkeys)
    tx, used = payout_tx(payout), right[: payout.needed]
    full = tx.signed([multisig_sig(redeem, [signatures[key][at] for key in used]) for at in range(len(tx.inputs))])
    script = pay_to_script(redeem)
    verify_spend(full, [TxOutput(item.value_florins, script) for item in payout.inputs])
    return full
