"""Storage receipts as evidence: whether each is what it claims to be, and whether there are enough of them.

Promise: a receipt counts once, for its own blob, of a holder that is not the deliverer, kept until the height that is
wanted, under the holder's signature; whatever else was sent is named with its fault. Source: escrow_protocol.md §8, §9.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common.blobs import RECEIPT_BYTES_MAX, StorageReceipt
from common.codec import Wire, from_canonical
from common.contracts.escrow_cases import CheckedReceipt
from common.contracts.p2p import Signature
from common.contracts.p2p_errors import PeerUnknown
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.identity.signed import Signed, decode_signed
from common.peers import Peers
from common.units import Did

RECEIPTS_MIN = 3  # of others than who delivered
KEY_AWAY = "its holder's keys cannot be had now"


class Wanted(Wire, frozen=True, kw_only=True):
    """What receipts are wanted for."""

    blob: str
    until_height: int
    deliverer: Did


async def checked(peers: Peers, receipts: Iterable[bytes], wanted: Wanted) -> tuple[CheckedReceipt, ...]:
    """Each of them, in order."""
    found: list[CheckedReceipt] = []
    for data in receipts:
        found.append(await _checked(peers, data, wanted, [item.holder for item in found if not item.fault]))
    return tuple(found)


def promised(receipts: Iterable[CheckedReceipt], stores: Sequence[Did]) -> tuple[Did, ...]:
    """Which of these nodes have promised, or may have: one whose keys cannot be had now is not taken for a liar."""
    return tuple(item.holder for item in receipts if item.fault in ("", KEY_AWAY) and item.holder in stores)


def valid(receipts: Iterable[CheckedReceipt]) -> int:
    """How many count."""
    return sum(not item.fault for item in receipts)


async def _checked(peers: Peers, data: bytes, wanted: Wanted, others: Sequence[Did]) -> CheckedReceipt:
    try:
        signed = decode_signed(data, max_bytes=RECEIPT_BYTES_MAX)
        said = from_canonical(signed.body, StorageReceipt, max_bytes=RECEIPT_BYTES_MAX)
    except BadParams:
        return CheckedReceipt(holder=Did(""), until_height=0, fault="it is no storage receipt")
    fault = receipt_fault(said, wanted, others) or await _signature_fault(peers, signed, said)
    return CheckedReceipt(holder=said.holder, until_height=int(said.until_height), fault=fault)


def receipt_fault(said: StorageReceipt, wanted: Wanted, others: Sequence[Did]) -> str:
    """Why its words do not count, or nothing. `others`: holders that are counted already."""
    laws = (
        (said.blob.hex() == wanted.blob, "it is for another blob"),
        (said.until_height >= wanted.until_height, f"it ends at {said.until_height}, before {wanted.until_height}"),
        (said.holder != wanted.deliverer, "it is of who delivered"),
        (said.holder not in others, "its holder is counted already"),
    )
    return next((why for holds, why in laws if not holds), "")


async def _signature_fault(peers: Peers, signed: Signed, said: StorageReceipt) -> str:
    if len(signed.sigs) != 1:
        return "it does not bear one signature"
    by = Signature(did=said.holder, key_seq=said.key_seq, signature=signed.sigs[0])
    try:
        right = await peers.is_signed(Purpose.STORAGE_RECEIPT, signed.body, by, said.at_ms)
    except PeerUnknown:
        return KEY_AWAY
    return "" if right else "its holder did not sign it"
