"""Killed between decision and effect, and between effect and its note: started again, everything still happens once."""

from __future__ import annotations

import pytest

from common.chain.tx import Outpoint
from common.contracts import escrow
from common.contracts.escrow_views import CaseOpened, Closed, Funded, KeyRevealed
from common.receipts import Outcome
from common.units import FLOP, Florins
from dux_escrowd.hearing import outpoint_of
from tests.escrow.kit import Net, Node, deliver, in_state, judge, market, propose, request_id, until

pytestmark = pytest.mark.patient

NAMES = ("buyer", "seller", "anna", "bert", "carl")


def died(nodes: list[Node]) -> set[str]:
    """Kinds of effects around which somebody died both ways."""
    deaths = [death for node in nodes for death in node.deaths]
    return {kind for kind, moment in deaths if moment == "before" and (kind, "after") in deaths}


async def one_coin(node: Node, contract_id: str) -> Outpoint:
    """The contract was funded exactly once; its coin."""
    assert node.daemon is not None
    row = node.daemon.parts.table.store
    assert row is not None
    script = row.row("SELECT script FROM contracts WHERE contract_id = ?", contract_id)
    assert script is not None
    coins = await node.wallet.coins(script["script"])
    assert len(coins.coins) == 1, "paid once, whatever died"
    return coins.coins[0].outpoint


async def test_dying_around_every_effect_of_a_paid_job_changes_nothing(net: Net) -> None:
    """Each node dies once before and once after each kind of effect; the coin is funded once and paid once."""
    async with market(net, *NAMES) as nodes:
        buyer, seller, *arbiters = nodes
        for node in nodes:
            node.mortal = True
        contract_id = await propose(buyer, seller, arbiters, deliver_blocks=40)
        await until(in_state(buyer, contract_id, "AGREED", "FUNDED_SEEN"), "agreed in spite of all")
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await net.mine_until(lambda: buyer.told(KeyRevealed), "the key is shown")
        await judge(buyer, contract_id, good=True)
        await net.mine_until(lambda: buyer.told(Closed), "paid")
        await net.mine_until(lambda: seller.told(Closed), "paid at the seller, too")
        expected = {"offer", "quote", "terms", "seats", "seal", "statements", "Adopt", "Fund", "Say"}
        assert died(nodes) >= expected | {"PingArbiters", "ShowKey", "SignRelease", "Settle"}
        assert (await seller.event(Closed)).settlement.gross_florins == 10 * FLOP
        assert await one_coin(buyer, contract_id) == outpoint_of((await buyer.show(contract_id)).outpoint or "")


async def test_dying_around_every_effect_of_a_dispute_changes_nothing(net: Net) -> None:
    """The same through dispute, votes and award: still one award, for what two arbiters voted."""
    async with market(net, *NAMES) as nodes:
        buyer, seller, *arbiters = nodes
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        for node in nodes:
            node.mortal = True
        await judge(buyer, contract_id, good=False, reason="wrong")
        for arbiter in arbiters:
            await arbiter.event(CaseOpened)
            said = escrow.Vote(
                request_id=request_id(), contract_id=contract_id, gross_florins=Florins(4 * FLOP), reason="half"
            )
            await arbiter.call(escrow.VOTE, said)
        await net.mine_until(lambda: seller.told(Closed), "awarded")
        await net.mine_until(lambda: buyer.told(Closed), "awarded at the buyer, too")
        assert died(nodes) >= {"Say", "ShowCase", "statements", "SignAward", "Settle"}
        settlement = (await buyer.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.AWARDED, 4 * FLOP)
        await one_coin(buyer, contract_id)


async def test_the_log_replays_to_the_same_lots_and_is_signed(net: Net) -> None:
    """After deaths and restarts the hash-chained log alone still gives every lot; a changed line is noticed."""
    async with market(net, *NAMES) as nodes:
        buyer, seller, *arbiters = nodes
        contract_id = await propose(buyer, seller, arbiters)
        buyer.mortal = True
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await until(in_state(buyer, contract_id, "FUNDED"), "funded at the buyer")
        page = await buyer.call(escrow.AUDIT, escrow.AuditRead())
        assert page.replayed
        assert page.lines[-1].hash == page.last_hash
        assert buyer.daemon is not None
        store = buyer.daemon.parts.table.store
        assert store is not None
        with store.transaction() as tx:
            forged = """replace(CAST(body AS TEXT), '"state":"AGREED"', '"state":"CLOSED"')"""
            tx.execute(f"UPDATE audit SET body = CAST({forged} AS BLOB)")
        assert not (await buyer.call(escrow.AUDIT, escrow.AuditRead())).replayed
