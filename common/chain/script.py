"""Redeem scripts and what fulfils them: the escrow scripts E and E+h, and m-of-n multi-signature.

Promises minimal pushes, a strict branch selector (a stranger cannot change it), and scripts of at most 520 bytes and 15
signature operations. Source: escrow_protocol.md §3, facts §2 and §6.
"""

from __future__ import annotations

from collections.abc import Sequence

from bitcoin.core import script as op
from bitcoin.core.script import CScript, CScriptInvalidError

from common.chain.fees import SIGNATURE_BYTES_MAX
from common.chain.heights import LOCKTIME_HEIGHT_MAX
from common.errors import CallerMistake

REDEEM_BYTES_MAX = 520
SIGOPS_MAX = 15
PUBKEY_BYTES = 33
PREIMAGE_BYTES = 32
BRANCH_COOP = 1
BRANCH_ARBITERS = 2
BRANCH_REFUND = 3


class BadScript(CallerMistake):
    """No such script can be made: {reason}."""

    code = 2014
    key = "bad-script"


def checked(script: bytes, sigops: int) -> bytes:
    """The script itself, when nodes relay its spends.

    Raises:
        BadScript: too long or too many signature operations.
    """
    if len(script) > REDEEM_BYTES_MAX:
        raise BadScript(reason=f"{len(script)} bytes, {REDEEM_BYTES_MAX} are allowed; name fewer keys")
    if sigops > SIGOPS_MAX:
        raise BadScript(reason=f"{sigops} signature operations, {SIGOPS_MAX} are allowed; name fewer keys")
    return script


def multisig_script(needed: int, pubkeys: tuple[bytes, ...]) -> bytes:
    """`needed` of these keys, in bytewise order whatever the caller's order.

    Raises:
        BadScript: keys missing, doubled, of a wrong length, or too many.
    """
    keys = sorted(set(pubkeys))
    if len(keys) != len(pubkeys) or not 1 <= needed <= len(keys):
        raise BadScript(reason=f"{needed} of {len(keys)} different keys")
    if any(len(key) != PUBKEY_BYTES for key in keys):
        raise BadScript(reason="keys are compressed, 33 bytes")
    if len(keys) > SIGOPS_MAX:
        raise BadScript(reason=f"{len(keys)} keys, {SIGOPS_MAX} are allowed")
    return checked(bytes(CScript([needed, *keys, len(keys), op.OP_CHECKMULTISIG])), len(keys))


def escrow_script(
    *,
    buyer: bytes,
    seller: bytes,
    arbiters: tuple[bytes, ...],
    needed: int,
    timeout: int,
    result_hash: bytes,
) -> bytes:
    """E, or E+h when `result_hash` is not empty: both parties [and K] / a party and arbiters / the buyer after T.

    Raises:
        BadScript: the panel does not fit into a relayed script, or T is no height.
    """
    if not 0 < timeout < LOCKTIME_HEIGHT_MAX:
        raise BadScript(reason=f"T = {timeout} is not a height")
    lock = (
        [op.OP_SIZE, PREIMAGE_BYTES, op.OP_EQUALVERIFY, op.OP_SHA256, result_hash, op.OP_EQUALVERIFY]
        if result_hash
        else []
    )
    parties = [buyer, seller]
    script = CScript(
        [
            *(op.OP_DUP, BRANCH_COOP, op.OP_EQUAL, op.OP_IF, op.OP_DROP, *lock),
            *(2, *parties, 2, op.OP_CHECKMULTISIG),
            *(op.OP_ELSE, op.OP_DUP, BRANCH_ARBITERS, op.OP_EQUAL, op.OP_IF, op.OP_DROP),
            *(1, *parties, 2, op.OP_CHECKMULTISIGVERIFY, needed, *arbiters, len(arbiters), op.OP_CHECKMULTISIG),
            *(op.OP_ELSE, BRANCH_REFUND, op.OP_EQUALVERIFY, timeout, op.OP_CHECKLOCKTIMEVERIFY, op.OP_DROP),
            *(buyer, op.OP_CHECKSIG, op.OP_ENDIF, op.OP_ENDIF),
        ]
    )
    return checked(bytes(script), len(arbiters) + 5)


def coop_sig(script: bytes, buyer_sig: bytes, seller_sig: bytes, preimage: bytes | None) -> bytes:
    """The input script of RELEASE and CANCEL."""
    shown = [preimage] if preimage is not None else []
    return bytes(CScript([0, buyer_sig, seller_sig, *shown, BRANCH_COOP, script]))


def award_sig(script: bytes, arbiter_sigs: list[bytes], party_sig: bytes) -> bytes:
    """The input script of AWARD; arbiters' signatures in the order of their keys."""
    return bytes(CScript([0, *arbiter_sigs, 0, party_sig, BRANCH_ARBITERS, script]))


def refund_sig(script: bytes, buyer_sig: bytes) -> bytes:
    """The input script of REFUND."""
    return bytes(CScript([buyer_sig, BRANCH_REFUND, script]))


def multisig_sig(script: bytes, signatures: list[bytes]) -> bytes:
    """The input script of a multi-signature output; signatures in the order of their keys."""
    return bytes(CScript([0, *signatures, script]))


def key_sig(signature: bytes, pubkey: bytes) -> bytes:
    """The input script that spends a key hash."""
    return bytes(CScript([signature, pubkey]))


def pushes(script_sig: bytes) -> list[bytes]:
    """What an input script puts on the stack, numbers as their bytes; empty for anything that is not pushes alone.

    A spend seen on the chain is read with this: the preimage K is in there.
    """
    try:
        items = list(CScript(script_sig))
    except (ValueError, CScriptInvalidError):
        return []
    return [item if isinstance(item, bytes) else _number_bytes(item) for item in items]


def branch_of(shown: Sequence[bytes]) -> int:
    """The branch that a spend of E or E+h has taken, from what its input script pushes; 0 for a script of another kind.

    The selector lies right below the script: the script compares it byte for byte, and reads whatever lies deeper.
    """
    if len(shown) < 3 or len(shown[-2]) != 1:  # noqa: PLR2004 - signature, selector and script
        return 0
    return shown[-2][0]


def _number_bytes(number: int) -> bytes:
    return bytes([number]) if 0 < number <= 16 else b""  # noqa: PLR2004 - OP_1 to OP_16


PLACEHOLDER_SIG = b"\x30" * SIGNATURE_BYTES_MAX  # stands for a signature when sizes are counted
