"""Liars, vanishing sellers, silent arbiters: nobody honest loses more than the bounds say, and everybody gets out."""

from __future__ import annotations

import pytest

from common.chain.fees import FEE_LADDER
from common.chain.tx import parse
from common.contracts import escrow
from common.contracts.escrow_views import CaseOpened, Closed, Delivered, Disputed, Funded, KeyRevealed
from common.receipts import Outcome
from common.units import FLOP, Florins
from tests.escrow.kit import (
    IDLE_WAIT_S,
    Net,
    Node,
    deliver,
    holds_soon,
    in_state,
    judge,
    market,
    propose,
    request_id,
    until,
)

pytestmark = pytest.mark.patient

NAMES = ("buyer", "seller", "anna", "bert", "carl")
BLOCKS_LEFT_OUT_MAX = 12  # a rung is two, and a busy machine's daemons may hear of one late


async def vote(arbiter: Node, contract_id: str, gross: int) -> None:
    """An arbiter's taskd has looked and decides."""
    await arbiter.event(CaseOpened)
    said = escrow.Vote(request_id=request_id(), contract_id=contract_id, gross_florins=Florins(gross), reason="looked")
    await arbiter.call(escrow.VOTE, said)


async def test_a_seller_that_never_starts_costs_the_buyer_only_the_reserve(net: Net) -> None:
    """No START within its blocks: the arbiters award everything back by chain evidence alone, long before T."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await until(in_state(seller, contract_id, "AGREED"), "agreed")
        await until(in_state(buyer, contract_id, "AGREED", "FUNDED_SEEN", "FUNDED"), "the seller's word has arrived")
        seller.off = True
        await net.mine_until(lambda: buyer.told(Closed), "the award is final")
        settlement = (await buyer.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.AWARDED, 0)
        view = await buyer.show(contract_id)
        assert view.status == "REFUNDED"
        assert view.heights is not None
        assert settlement.height is not None
        assert settlement.height < view.heights.dispute_by


async def test_a_vanished_seller_and_silent_arbiters_end_in_a_refund_at_t(net: Net) -> None:
    """Without a quorum nobody is paid, and from height T the buyer takes everything back alone."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await until(in_state(seller, contract_id, "AGREED"), "agreed")
        await until(in_state(buyer, contract_id, "AGREED", "FUNDED_SEEN", "FUNDED"), "the seller's word has arrived")
        seller.off = arbiters[0].off = arbiters[1].off = True
        await net.mine_until(in_state(buyer, contract_id, "DISPUTED"), "the buyer asks the arbiters")
        agreed = (await buyer.show(contract_id)).heights
        assert agreed is not None
        await net.mine_to(agreed.timeout - 2)
        await net.mine_until(lambda: buyer.told(Closed), "the refund is final")
        settlement = (await buyer.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.REFUNDED, 0)
        heights = (await buyer.show(contract_id)).heights
        assert heights is not None
        assert settlement.height is not None
        assert settlement.height > heights.timeout


async def test_a_wrong_result_is_judged_by_the_arbiters_and_paid_back(net: Net) -> None:
    """The buyer disputes with evidence; each arbiter gets job, key and delivery; two of three votes repay the buyer."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        key = (await buyer.event(KeyRevealed)).content_key
        await judge(buyer, contract_id, good=False, reason="it is not my picture")
        case = await arbiters[0].event(CaseOpened)
        assert (case.content_key, case.job, case.ciphertext_blob) == (key, b"\x93job", "bb" * 32)
        assert (case.reason, b"seen" in case.evidence) == ("it is not my picture", True)
        await vote(arbiters[0], contract_id, 0)
        await vote(arbiters[1], contract_id, 10 * FLOP)
        await vote(arbiters[2], contract_id, 0)
        await net.mine_until(lambda: buyer.told(Closed), "the award is final")
        closed = await buyer.event(Closed)
        assert (closed.settlement.outcome, closed.settlement.gross_florins) == (Outcome.AWARDED, 0)
        assert {arbiters[0].did, arbiters[2].did} <= set(closed.voted) <= {one.did for one in arbiters}


async def test_a_buyer_that_never_releases_loses_the_dispute_that_the_seller_opens(net: Net) -> None:
    """Silence after delivery: the seller asks the arbiters by itself in time and is paid; those who voted get p."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        buyer.off = True
        agreed = (await buyer.show(contract_id)).heights
        assert agreed is not None
        await net.mine_to(agreed.dispute_by - 1)
        assert not await seller.told(Disputed)
        await net.mine_until(lambda: seller.told(Disputed), "the seller disputes by itself", blocks=3)
        await until(in_state(arbiters[0], contract_id, "DISPUTED"), "an arbiter hears it")
        await until(in_state(arbiters[2], contract_id, "DISPUTED"), "the other hears it")
        await net.mine_to(agreed.answer_by)
        assert not await arbiters[0].told(CaseOpened)
        await net.mine_until(lambda: arbiters[0].told(CaseOpened), "the answer's time is over", blocks=3)
        await vote(arbiters[0], contract_id, 10 * FLOP)
        await vote(arbiters[2], contract_id, 10 * FLOP)
        await until(in_state(arbiters[0], contract_id, "ANSWERED"), "committed")
        await net.mine_to(agreed.commit_by)
        await net.mine_until(lambda: seller.told(Closed), "the award is final")
        settlement = (await seller.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.AWARDED, 10 * FLOP)
        assert settlement.fund_florins == FLOP // 2


async def test_a_release_that_got_lost_is_found_by_the_dispute(net: Net) -> None:
    """No word of the payment reaches the seller: it asks for it, or the arbiters are shown it; paid all the same."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        net.lost = lambda sender, to, _method: sender is buyer and to == seller.did
        await judge(buyer, contract_id, good=True)
        agreed = (await buyer.show(contract_id)).heights
        assert agreed is not None
        await net.mine_to(agreed.dispute_by - 1)
        await net.mine_until(lambda: seller.told(Closed), "paid all the same")
        settlement = (await seller.event(Closed)).settlement
        assert settlement.gross_florins == 10 * FLOP
        assert not await arbiters[0].told(CaseOpened), "a release that is shown needs no judgement"


async def test_a_swap_shows_the_key_with_the_payment(net: Net) -> None:
    """The buyer pays first for a small lot, and reads K from the chain: the same content key that the seller used."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters, policy="swap", price_florins=Florins(2 * FLOP))
        await net.mine_until(lambda: seller.told(Funded), "funded")
        key = await seller.call(escrow.RESULT_KEY, escrow.ContractRef(contract_id=contract_id))
        await deliver(seller, contract_id)
        await buyer.event(Delivered)
        assert not await buyer.told(KeyRevealed)
        shown = await buyer.show(contract_id)
        assert (shown.policy, shown.swap_limit_florins, shown.result_lock) == ("swap", 250_000_000, True)
        await net.mine_until(lambda: buyer.told(KeyRevealed), "K is on the chain")
        assert (await buyer.event(KeyRevealed)).content_key == key.content_key
        await net.mine_until(lambda: seller.told(Closed), "paid")


async def test_without_a_lock_the_buyer_reads_the_result_before_it_pays(net: Net) -> None:
    """Script E: the key is the buyer's with the delivery, and all sides see in the contract that it was agreed so."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters, result_lock=False)
        assert not (await seller.show(contract_id)).result_lock, "seen with the offer, before anything is signed"
        await net.mine_until(lambda: seller.told(Funded), "funded")
        key = await seller.call(escrow.RESULT_KEY, escrow.ContractRef(contract_id=contract_id))
        await deliver(seller, contract_id)
        assert (await buyer.event(KeyRevealed)).content_key == key.content_key
        assert [(await node.show(contract_id)).result_lock for node in (buyer, seller, arbiters[0])] == [False] * 3
        await judge(buyer, contract_id, good=True)
        await net.mine_until(lambda: seller.told(Closed), "paid")


async def test_a_seller_that_gives_up_pays_everything_back_at_once(net: Net) -> None:
    """Cancel before delivery: the buyer asks, the seller agrees, the coin goes back without arbiters."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await until(in_state(buyer, contract_id, "FUNDED"), "funded at the buyer, too")
        await buyer.call(escrow.CANCEL, escrow.Cancel(request_id=request_id(), contract_id=contract_id))
        await seller.call(escrow.CANCEL, escrow.Cancel(request_id=request_id(), contract_id=contract_id))
        await net.mine_until(lambda: buyer.told(Closed), "cancelled")
        assert (await buyer.event(Closed)).settlement.outcome is Outcome.CANCELLED
        assert (await seller.show(contract_id)).status == "CANCELLED"


async def test_a_cancel_that_no_miner_takes_climbs_the_fee_ladder(net: Net) -> None:
    """The seller has signed every rung: the buyer's node replaces its repayment by one with four times the fee."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await until(in_state(buyer, contract_id, "FUNDED"), "funded at the buyer, too")
        locked = int((await buyer.show(contract_id)).locked_florins)
        await seller.call(escrow.CANCEL, escrow.Cancel(request_id=request_id(), contract_id=contract_id))
        await until(lambda: bool(waits(net)), "the repayment waits at the node")
        (first,) = waits(net)
        base = locked - paid_by(net, first)
        for _ in range(BLOCKS_LEFT_OUT_MAX):
            if first not in waits(net):
                break
            await net.mine_empty()
            await holds_soon(net.is_idle, IDLE_WAIT_S)
        assert len(waits(net)) == 1
        await net.mine_until(lambda: buyer.told(Closed), "cancelled")
        settlement = (await buyer.event(Closed)).settlement
        assert (settlement.outcome, settlement.txid != first) == (Outcome.CANCELLED, True)
        assert settlement.fee_florins in [base * step for step in FEE_LADDER[1:]]


def waits(net: Net) -> list[str]:
    """The ids of what waits at the node."""
    found: list[str] = net.bench.rpc("getrawmempool")
    return found


def paid_by(net: Net, txid: str) -> int:
    """What the outputs of a transaction that waits hold."""
    return int(parse(bytes.fromhex(net.bench.rpc("getrawtransaction", txid))).paid_florins)


async def test_a_seller_that_is_too_late_ends_the_dispute_by_giving_all_back(net: Net) -> None:
    """It is told that the time to deliver is over; its cancel takes all back at once, and nobody has voted."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await net.mine_until(lambda: seller.told(Disputed), "nothing came in time")
        assert (await seller.event(Disputed)).too_late
        await seller.call(escrow.CANCEL, escrow.Cancel(request_id=request_id(), contract_id=contract_id))
        await net.mine_until(lambda: buyer.told(Closed), "the cancel is final")
        settlement = (await buyer.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.CANCELLED, 0)
        heights = (await buyer.show(contract_id)).heights
        assert heights is not None
        assert settlement.height is not None
        assert settlement.height < heights.answer_by
