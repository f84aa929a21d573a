"""Storage receipts as evidence: each verified and counted once; none is passed on that others would find wrong."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from common.blobs import StorageReceipt
from common.codec import canonical
from common.contracts import escrow
from common.contracts.escrow_cases import EVIDENCE
from common.contracts.escrow_views import CaseOpened, Funded, KeyRevealed
from common.identity.purposes import Purpose
from common.identity.signed import Signed, sign
from common.storage_receipts import RECEIPTS_MIN, Wanted, receipt_fault, valid
from common.units import BlockHeight, Did, UnixMs
from tests.escrow.kit import Net, Node, judge, market, propose, request_id

BLOB = "bb" * 32
GOOD = StorageReceipt(1, bytes.fromhex(BLOB), Did("did:dux:" + "h" * 52), 0, BlockHeight(200), UnixMs(5))
WANTED = Wanted(blob=BLOB, until_height=200, deliverer=Did("did:dux:" + "s" * 52))


@pytest.mark.parametrize(
    ("changes", "others", "fault"),
    [
        ({}, (), ""),
        ({"until_height": 10_000}, (), ""),
        ({"until_height": 199}, (), "it ends at 199, before 200"),
        ({"blob": b"c" * 32}, (), "it is for another blob"),
        ({"holder": WANTED.deliverer}, (), "it is of who delivered"),
        ({}, (GOOD.holder,), "its holder is counted already"),
    ],
)
def test_what_a_receipt_has_to_say(changes: dict[str, Any], others: tuple[Did, ...], fault: str) -> None:
    """Its own blob, kept to the end, by somebody else, once."""
    assert receipt_fault(replace(GOOD, **changes), WANTED, others) == fault


def receipt(holder: Node, until_height: int, *, signer: Node | None = None, blob: str = BLOB) -> bytes:
    said = StorageReceipt(1, bytes.fromhex(blob), holder.did, 0, BlockHeight(until_height), UnixMs(5))
    return canonical(sign((signer or holder).key, Purpose.STORAGE_RECEIPT, said))


async def test_only_receipts_that_hold_are_evidence(net: Net, monkeypatch: Any) -> None:
    """The seller's own node refuses a forged one; an arbiter who is shown forged ones sees why each does not count."""
    async with market(net, "buyer", "seller", "anna", "bert", "carl") as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        heights = (await seller.show(contract_id)).heights
        assert heights is not None
        timeout = heights.timeout
        unsigned = canonical(Signed(body=b"\x90", sigs=()))
        two = Signed(body=canonical(replace(GOOD, holder=arbiters[0].did, until_height=timeout)), sigs=())
        bad = {
            "did not sign it": receipt(arbiters[0], timeout, signer=seller),
            "another blob": receipt(arbiters[1], timeout, blob="cc" * 32),
            f"ends at {timeout - 1}": receipt(arbiters[2], timeout - 1),
            "is no storage receipt": unsigned,
            "one signature": canonical(two),
        }
        good = receipt(buyer, timeout)
        for why, data in bad.items():
            with pytest.raises(escrow.BadReceipt, match=why):
                await seller.call(escrow.DELIVER, delivery(seller, contract_id, (good, data)))
        monkeypatch.setattr("dux_escrowd.methods.Methods._require_receipts", nothing)  # a seller that lies
        shown = (good, *list(bad.values())[:3])
        await seller.call(escrow.DELIVER, delivery(seller, contract_id, shown))
        await buyer.event(KeyRevealed)
        await judge(buyer, contract_id, good=False, reason="nothing is there")
        await arbiters[0].event(CaseOpened)
        told = await arbiters[0].call(EVIDENCE, escrow.ContractRef(contract_id=contract_id))
        assert [item.holder for item in told.storage_receipts] == [node.did for node in (buyer, *arbiters)]
        assert [bool(item.fault) for item in told.storage_receipts] == [False, True, True, True]
        assert (valid(told.storage_receipts), told.receipts_wanted) == (1, RECEIPTS_MIN)


def delivery(seller: Node, contract_id: str, receipts: tuple[bytes, ...]) -> escrow.Deliver:
    return escrow.Deliver(
        request_id=request_id(), contract_id=contract_id, ciphertext_blob=BLOB, output_commitment=b"o" * 32,
        receipts=receipts, holders=(seller.did,), work_receipt=b"work",
    )  # fmt: skip


async def nothing(*_: Any) -> None:
    return None
