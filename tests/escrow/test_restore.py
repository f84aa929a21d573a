"""A disk is gone and only the phrase is left: open contracts come back, and go on to where they have to end."""

from __future__ import annotations

import pytest

from common.contracts import escrow
from common.contracts.escrow_restore import RESTORE
from common.contracts.escrow_views import Funded, KeyRevealed
from common.errors import BadParams
from common.receipts import Outcome
from common.rpc.method import Empty
from common.units import FLOP
from dux_escrowd.copies import opened, tag_of
from tests.escrow.kit import Net, Node, deliver, in_state, judge, market, propose, until

NAMES = ("buyer", "seller", "anna", "bert", "carl")


async def back(net: Net, lost: Node) -> Node:
    """The same identity and phrase on an empty disk."""
    lost.off = True
    return Node(net, f"{lost.name}-again", restored=lost)


async def test_a_buyer_with_its_phrase_alone_gets_its_refund(net: Net) -> None:
    """Everybody else vanishes after giving the copy back: at T the buyer takes all of it alone."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(in_state(buyer, contract_id, "FUNDED"), "funded")
        before = await buyer.show(contract_id)
        await until(lambda: net.records, "copies are kept")
        again = await back(net, buyer)
        async with again.running():
            found = await again.call(RESTORE, Empty())
            assert ((*found.restored, *found.known), found.problems) == ((contract_id,), ())  # it looks by itself, too
            view = await again.show(contract_id)
            assert (view.role, view.cid, view.outpoint) == ("buyer", before.cid, before.outpoint)
            assert (await again.call(RESTORE, Empty())).known == (contract_id,)
            for node in (seller, *arbiters):
                node.off = True
            assert view.heights is not None
            await net.mine_to(view.heights.timeout)
            await net.mine_until(in_state(again, contract_id, "CLOSED"), "the refund is final")
            settlement = (await again.show(contract_id)).settlement
            assert settlement is not None
            assert settlement.outcome is Outcome.REFUNDED


async def test_a_seller_with_its_phrase_alone_is_paid(net: Net) -> None:
    """It delivers, loses its disk, comes back with K from the phrase, and is paid; its chain has no fork."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        await net.mine(1)
        again = await back(net, seller)
        async with again.running():
            found = await again.call(RESTORE, Empty())
            assert (*found.restored, *found.known) == (contract_id,)
            await judge(buyer, contract_id, good=True)
            await net.mine_until(in_state(again, contract_id, "CLOSED"), "paid")
            settlement = (await again.show(contract_id)).settlement
            assert settlement is not None
            assert (settlement.outcome, settlement.gross_florins) == (Outcome.RELEASED, 10 * FLOP)
            assert not net.spread, "no proof of fault"
            page = await again.call(escrow.AUDIT, escrow.AuditRead())
            assert page.replayed


def test_a_copy_opens_for_its_owner_alone() -> None:
    """Another key, another tag, a changed byte, rubbish: no copy; tags of different numbers or keys differ."""
    key = b"k" * 32
    tags = {tag_of(key, number) for number in range(30)} | {tag_of(b"x" * 32, number) for number in range(30)}
    assert len(tags) == 60
    for body in (b"", b"n" * 12, b"n" * 100):
        with pytest.raises(BadParams, match="no copy"):
            opened(body, key, tag_of(key, 0))
