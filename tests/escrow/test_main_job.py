"""The paid job between five nodes: agreement, funding, delivery, key, release; the coins are where they belong."""

from __future__ import annotations

from common.contracts import escrow
from common.contracts.escrow_views import Agreed, Closed, Delivered, Funded, KeyRevealed
from common.units import FLOP
from tests.escrow.kit import Net, deliver, in_state, judge, market, propose, until


async def test_a_good_job_is_paid_95_to_5(net: Net) -> None:
    """With everybody honest the seller gets 95 % less the chain fee, the fund 5 %, the buyer its reserve; once each."""
    async with market(net, "buyer", "seller", "anna", "bert", "carl") as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await buyer.event(Agreed)
        await net.mine_until(lambda: seller.told(Funded), "the seller is told to begin")
        key = await seller.call(escrow.RESULT_KEY, escrow.ContractRef(contract_id=contract_id))
        await deliver(seller, contract_id)
        await buyer.event(Delivered)
        assert (await buyer.event(KeyRevealed)).content_key == key.content_key
        await judge(buyer, contract_id, good=True)
        await until(in_state(seller, contract_id, "RELEASE_SEEN"), "the release is on its way")
        await net.mine_until(lambda: buyer.told(Closed), "the buyer's books are closed")
        closed = (await buyer.event(Closed)).settlement
        assert (closed.gross_florins, closed.fund_florins) == (10 * FLOP, FLOP // 2)
        assert closed.provider_florins + closed.fund_florins + closed.fee_florins == 10 * FLOP
        assert (await seller.event(Closed)).settlement == closed
        view = await buyer.show(contract_id)
        assert (view.status, view.state) == ("RELEASED", "CLOSED")
