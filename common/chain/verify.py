"""Judges: is this signature right, would the network take this spend.

An invalid transaction handed to a node gets the sender banned (escrow_protocol.md attack 31), so everything is judged
here first, by btclib's script engine with the rules of this coin: CLTV yes, witness and CSV no, and the relay policy on
top.
"""

from __future__ import annotations

from collections.abc import Sequence

import coincurve

from common.chain.fees import FEE_FLOOR_FLORINS, FEE_MAX_FLORINS, TX_BYTES_MAX, is_dust
from common.chain.tx import HASH_TYPE_ALL, Tx, TxOutput, serialize
from common.errors import CallerMistake

_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class SpendRefused(CallerMistake):
    """The network would refuse this transaction: {reason}; nothing was broadcast."""

    code = 2015
    key = "spend-refused"


def is_pubkey(pubkey: bytes) -> bool:
    """Whether these are the 33 bytes of a compressed point of secp256k1."""
    if len(pubkey) != 33 or pubkey[0] not in (2, 3):  # noqa: PLR2004 - the two compressed forms
        return False
    try:
        coincurve.PublicKey(pubkey)
    except ValueError:
        return False
    return True


def is_signature(pubkey: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether this is the key's low-S DER signature of the 32-byte digest, with SIGHASH_ALL behind it."""
    if signature[-1:] != HASH_TYPE_ALL or not _is_low_s(signature[:-1]):
        return False
    try:
        return coincurve.PublicKey(pubkey).verify(signature[:-1], digest, hasher=None)
    except ValueError:
        return False


def _is_low_s(der: bytes) -> bool:
    try:
        s_at = 4 + der[3] + 2
        return 0 < int.from_bytes(der[s_at:], "big") <= _HALF_ORDER and len(der) == der[1] + 2
    except IndexError:
        return False


def verify_spend(tx: Tx, spent: list[TxOutput]) -> None:
    """Nothing happens for a transaction whose every input the network would take; `spent` in the order of the inputs.

    Judges scripts with relay policy, amounts, dust, size and the fee; not whether the outputs exist, nor the lock time
    against the present tip.

    Raises:
        SpendRefused: with the first rule it breaks.
    """
    _check_amounts(tx, spent, len(serialize(tx)))
    verify_known(tx, spent)


def verify_known(tx: Tx, spent: Sequence[TxOutput | None]) -> None:
    """Nothing happens for a transaction whose inputs may spend those outputs that are known; None: one that is not.

    Raises:
        SpendRefused: with the first rule that an input breaks.
    """
    if not any(spent):
        return
    from common.chain.script_judge import first_fault  # noqa: PLC0415 - 0.1 s that only who broadcasts has to pay

    known = [(int(one.value_florins), one.script) if one else None for one in spent]
    fault = first_fault(serialize(tx), known)
    if fault:
        raise SpendRefused(reason=fault)


def _check_amounts(tx: Tx, spent: list[TxOutput], size_bytes: int) -> None:
    if len(spent) != len(tx.inputs):
        raise SpendRefused(reason=f"{len(tx.inputs)} inputs, but {len(spent)} outputs to spend")
    fee = sum(int(output.value_florins) for output in spent) - int(tx.paid_florins)
    if not FEE_FLOOR_FLORINS <= fee <= FEE_MAX_FLORINS:
        raise SpendRefused(reason=f"a fee of {fee} florins")
    if not tx.outputs or any(is_dust(int(output.value_florins)) for output in tx.outputs):
        raise SpendRefused(reason="no output, or one that is dust")
    if size_bytes > TX_BYTES_MAX:
        raise SpendRefused(reason=f"{size_bytes} bytes")
