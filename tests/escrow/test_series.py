"""Several lots between real daemons: one payment, stages by turn, the bond first, arbiters drawn, parts taken."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from common.chain.address import pay_to_key
from common.chain.tx import parse
from common.contracts import escrow, peer_escrow
from common.contracts.escrow_late import LATE_OK, LateInSeries, LateOk
from common.contracts.escrow_views import (
    CaseOpened,
    Closed,
    Delivered,
    Funded,
    KeyRevealed,
    PartOffered,
    QuoteRefused,
    Voided,
)
from common.contracts.wallet_chain import CHAIN_TX, TxAsked
from common.receipts import Outcome
from common.units import FLOP, Did, Florins
from dux_escrowd import agreement
from dux_escrowd.drawing import SHOWN, ShownNonces, own_nonce, shown_nonces, take_nonce
from tests.chain.contract_kit import public_key
from tests.escrow.kit import Net, Node, deliver, give, in_state, judge, market, propose, request_id, until
from tests.escrow.test_late import audit_of

pytestmark = pytest.mark.patient

SERIES = b"s" * 32


async def stages(buyer: Node, seller: Node, arbiters: list[Node], count: int, **changes: Any) -> list[str]:
    """A series of so many lots, each with 12 blocks of its own."""
    bonded = changes.pop("bonded", False)
    return [
        await propose(
            buyer, seller, arbiters, deliver_blocks=12 * (at + 1), price_florins=Florins(4 * FLOP),
            lots=escrow.SeriesWish(series=SERIES, number=at, count=count, begins_blocks=12 * at, bonded=bonded),
            **changes,
        )
        for at in range(count)
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def unhurried(net: Net) -> None:
    """The lots of a series and their bond wait for each other through loops of several daemons."""
    net.pace_s = 0.3


async def work(net: Net, buyer: Node, seller: Node, contract_id: str) -> None:
    """One stage from START to its release."""

    async def begun() -> bool:
        return any(isinstance(e, Funded) and e.contract_id == contract_id for e in await seller.events())

    async def shown() -> bool:
        return any(isinstance(e, KeyRevealed) and e.contract_id == contract_id for e in await buyer.events())

    await net.mine_until(begun, "the stage begins")
    await deliver(seller, contract_id)
    await net.mine_until(shown, "its key is shown")
    await judge(buyer, contract_id, good=True)
    await net.mine_until(in_state(seller, contract_id, "RELEASE_SEEN", "CLOSED"), "its release is on the way")


async def test_two_stages_are_funded_at_once_and_paid_by_turn(net: Net) -> None:
    """One transaction pays both lots; the second begins when the first is paid; T is later by a stage; same panel."""
    async with market(net, "buyer", "seller", "anna", "bert", "carl") as (buyer, seller, *arbiters):
        first, second = await stages(buyer, seller, arbiters, 2)
        for number, name in enumerate((first, second)):
            with pytest.raises(LateInSeries, match="goes back by its cancel"):
                await buyer.call(LATE_OK, LateOk(request_id=f"late-{number}", contract_id=name))
        await net.mine_until(in_state(seller, second, "FUNDED"), "both are funded")
        assert all(node.lot(name).deal.series for node in (buyer, seller) for name in (first, second))
        views = [await buyer.show(name) for name in (first, second)]
        points = [view.outpoint or "" for view in views]
        assert points[0].split(":")[0] == points[1].split(":")[0], "one payment"
        assert points[0] != points[1]
        assert set(views[0].arbiters) == set(views[1].arbiters)
        assert views[0].heights is not None
        assert views[1].heights is not None
        assert views[1].heights.timeout >= views[0].heights.timeout + 12
        assert not any(isinstance(e, Funded) and e.contract_id == second for e in await seller.events())
        await work(net, buyer, seller, first)
        await work(net, buyer, seller, second)
        await net.mine_until(in_state(buyer, second, "CLOSED"), "closed")
        paid = [(await buyer.show(name)).settlement for name in (first, second)]
        assert [one.gross_florins for one in paid if one] == [4 * FLOP, 4 * FLOP]


async def test_a_disputed_stage_ends_the_series(net: Net) -> None:
    """The first lot is argued about: the second goes back at once, unbegun."""
    async with market(net, "buyer", "seller", "anna", "bert", "carl") as (buyer, seller, *arbiters):
        first, second = await stages(buyer, seller, arbiters, 2)
        await net.mine_until(in_state(seller, second, "FUNDED"), "both are funded")
        await net.mine_until(lambda: seller.told(Funded), "the first begins")
        await deliver(seller, first)
        await buyer.event(KeyRevealed)
        await judge(buyer, first, good=False, reason="not what I asked for")
        await net.mine_until(in_state(buyer, second, "CLOSED"), "the second lot is back")
        settlement = (await buyer.show(second)).settlement
        assert settlement is not None
        assert settlement.outcome is Outcome.CANCELLED
        assert (await buyer.show(first)).status == "DISPUTED"


async def test_a_bond_is_locked_first_and_goes_back_after_the_work(net: Net) -> None:
    """The buyer pays nothing before the seller's bond lies deep; when the work is paid, the bond is the seller's."""
    async with market(net, "buyer", "seller", "anna", "bert", "carl") as (buyer, seller, *arbiters):
        await give(net, seller, 5 * FLOP)
        (only,) = await stages(buyer, seller, arbiters, 1, bonded=True)

        async def bond() -> str:
            found = (await seller.call(escrow.LIST, escrow.ListContracts())).contracts
            return next((view.contract_id for view in found if view.bond), "")

        await until(bond, "the seller offers its bond")
        name = await bond()
        await net.mine_until(in_state(buyer, name, "FUNDED"), "the bond lies deep")
        assert (await buyer.state(only)) in ("AGREED", "FUNDED_SEEN")
        await work(net, buyer, seller, only)
        await net.mine_until(in_state(seller, name, "CLOSED"), "the bond is back")
        settlement = (await seller.show(name)).settlement
        assert settlement is not None
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.CANCELLED, 0)
        view = await seller.show(name)
        assert (view.buyer, view.price_florins) == (seller.did, 3 * FLOP // 20)


async def test_a_seller_that_never_starts_pays_the_arbiters_from_its_bond(net: Net) -> None:
    """One award spends lot and bond: the buyer gets its whole lot back, the arbiters are paid from the bond."""
    async with market(net, "buyer", "seller", "anna", "bert", "carl") as (buyer, seller, *arbiters):
        await give(net, seller, 5 * FLOP)
        (only,) = await stages(buyer, seller, arbiters, 1, bonded=True)
        await net.mine_until(in_state(buyer, only, "FUNDED_SEEN", "FUNDED"), "the bond lies deep, the lot is paid")
        seller.off = True
        await net.mine_until(in_state(buyer, only, "CLOSED"), "the award is final")
        view = await buyer.show(only)
        assert view.settlement is not None
        assert (view.settlement.outcome, view.settlement.gross_florins) == (Outcome.AWARDED, 0)
        listed = (await buyer.call(escrow.LIST, escrow.ListContracts())).contracts
        for one in listed:
            named = (await buyer.call(escrow.LIST, escrow.ListContracts(start=one.contract_id[:16]))).contracts
            assert [found.contract_id for found in named] == [one.contract_id]
        bonds = [found for found in listed if found.bond]
        assert [bond.settlement.txid for bond in bonds if bond.settlement] == [view.settlement.txid], "one transaction"
        for contract_id in (only, bonds[0].contract_id):
            assert await audit_of(buyer, contract_id) == await audit_of(seller, contract_id)
        spend = await buyer.wallet.call(CHAIN_TX, TxAsked(txid=view.settlement.txid))
        outputs = sorted(int(output.value_florins) for output in parse(spend.raw).outputs)
        assert outputs[-1] >= view.price_florins + 3 * FLOP // 20 - 2 * FLOP // 100, "the lot, less at most the fee"
        assert outputs[:-1] == [FLOP // 20] * 3


async def test_a_part_is_paid_when_the_seller_takes_it(net: Net) -> None:
    """The buyer offers 4 of 10, the seller takes them: 5 % to the fund, a tenth of the rest to the developer."""
    async with market(net, "buyer", "seller", "anna", "bert", "carl") as (buyer, seller, *arbiters):
        script = pay_to_key(public_key("developer"))
        royalty = escrow.RoyaltyWish(developer=Did("did:dux:developer"), payout_script=script, bps=1_000)
        contract_id = await propose(buyer, seller, arbiters, royalty=royalty)
        assert (await seller.show(contract_id)).royalty_bps == 1_000
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(Delivered)
        await buyer.event(KeyRevealed)
        part = Florins(4 * FLOP)
        wish = escrow.PayPart(request_id=request_id(), contract_id=contract_id, gross_florins=part)
        await buyer.call(escrow.PAY_PART, wish)
        assert (await seller.event(PartOffered)).gross_florins == part
        taken = escrow.TakePart(request_id=request_id(), contract_id=contract_id, gross_florins=part)
        await seller.call(escrow.TAKE_PART, taken)
        await net.mine_until(lambda: buyer.told(Closed), "paid")
        settlement = (await buyer.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.RELEASED, part)
        assert settlement.fund_florins == FLOP // 5
        spend = await buyer.wallet.call(CHAIN_TX, TxAsked(txid=settlement.txid))
        paid = {output.script: int(output.value_florins) for output in parse(spend.raw).outputs}
        assert paid[script] == 38 * FLOP // 100
        assert int(settlement.provider_florins) + int(settlement.fee_florins) == 342 * FLOP // 100


async def test_arbiters_are_drawn_and_a_silent_name_is_passed_over(net: Net) -> None:
    """Five candidates for three seats: the panel is the beacon's order, and who does not answer is skipped by name."""
    names = ("buyer", "seller", "anna", "bert", "carl", "dora", "emil")
    async with market(net, *names) as (buyer, seller, *arbiters):
        arbiters[1].off = True
        contract_id = await propose(buyer, seller, arbiters)
        for party in (buyer, seller):
            await until(in_state(party, contract_id, "DRAWING"), "terms are signed")
        await net.mine_to(buyer.daemon.desk.book.records.terms(contract_id).draw_height)
        await until(in_state(seller, contract_id, "AGREED", "FUNDED_SEEN", "FUNDED"), "agreed")
        panel = (await seller.show(contract_id)).arbiters
        assert len(panel) == 3
        assert arbiters[1].did not in panel
        assert set(panel) <= {node.did for node in arbiters}
        assert set((await buyer.show(contract_id)).arbiters) == set(panel)


async def test_a_buyer_that_weighs_its_own_arbiters_up_gets_no_quote(net: Net) -> None:
    """Three favourites by its registry; the seller's knows better. By one that knows the same the draw goes on."""
    names = ("buyer", "seller", "anna", "bert", "carl", "dora", "emil")
    async with market(net, *names) as (buyer, seller, *arbiters):
        seller.weights = {node.did: FLOP for node in arbiters}
        buyer.weights = seller.weights | {node.did: 1_000 * FLOP for node in arbiters[:3]}
        lied = await propose(buyer, seller, arbiters)
        assert "part in the draw" in (await buyer.event(QuoteRefused)).reason
        assert (await seller.event(Voided)).contract_id == lied
        buyer.weights = seller.weights
        contract_id = await propose(buyer, seller, arbiters)
        for party in (buyer, seller):
            await until(in_state(party, contract_id, "DRAWING"), "terms are signed")


async def test_an_arbiter_takes_no_seat_by_weights_that_are_not_so(net: Net) -> None:
    """A seller whose registry knows nobody cannot tell; the arbiters' can, and no panel comes about."""
    names = ("buyer", "seller", "anna", "bert", "carl", "dora", "emil")
    async with market(net, *names) as (buyer, seller, *arbiters):
        for node in arbiters:
            node.weights = {one.did: FLOP for one in arbiters}
        buyer.weights = {node.did: 1_000 * FLOP for node in arbiters[:3]}
        contract_id = await propose(buyer, seller, arbiters)
        for party in (buyer, seller):
            await until(in_state(party, contract_id, "DRAWING"), "terms are signed")
        assert buyer.daemon is not None
        await net.mine_to(buyer.daemon.desk.book.records.terms(contract_id).draw_height)
        await until(lambda: any(call == ("buyer", node.name, "escrow.role") for call in net.calls for node in arbiters),
                    "arbiters are asked")  # fmt: skip
        await net.mine(2)
        assert (await buyer.state(contract_id), await seller.state(contract_id)) == ("DRAWING", "DRAWING")


async def test_much_at_stake_is_drawn_with_both_parties_nonces(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """No nonce is shown before the draw block; then both are, everybody checks the panel with them, and it is paid."""
    monkeypatch.setattr(agreement, "DRAWN_MAX_FLORINS", FLOP)
    async with market(net, "buyer", "seller", "anna", "bert", "carl", "dora") as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        for party in (buyer, seller):
            await until(in_state(party, contract_id, "DRAWING"), "terms are signed")
        desks = [node.daemon.desk for node in (buyer, seller)]
        commitments = desks[0].book.records.terms(contract_id).draw_commitments
        assert len(set(commitments)) == 2
        assert [shown_nonces(desk, contract_id) for desk in desks] == [(), ()], "the draw block is not there"
        early = peer_escrow.NonceCall(bytes.fromhex(contract_id), own_nonce(desks[0], contract_id) or b"")
        with pytest.raises(escrow.PeerNotReady, match="draw is at height"):
            await take_nonce(desks[1], early, buyer.did)
        await net.mine_to(desks[0].book.records.terms(contract_id).draw_height)  # and no further: pauses are of seconds
        await until(in_state(seller, contract_id, "AGREED", "FUNDED_SEEN", "FUNDED"), "agreed")
        nonces = {shown_nonces(desk, contract_id) for desk in desks}
        assert nonces == {tuple(own_nonce(desk, contract_id) or b"" for desk in desks)}
        panel = [node for node in arbiters if node.did in (await seller.show(contract_id)).arbiters]
        assert {shown_nonces(node.daemon.desk, contract_id) for node in panel} == nonces
        other = replace(desks[0].book.shelf.document(contract_id, SHOWN, ShownNonces), beacon=b"x" * 32)
        with desks[1].book.store.transaction() as tx:
            tx.execute("DELETE FROM documents WHERE kind = ?", SHOWN)
            desks[1].book.shelf.keep(tx, contract_id, SHOWN, other)
        with pytest.raises(escrow.TermsDiffer, match="agree anew"):
            await take_nonce(desks[1], early, buyer.did)
        with pytest.raises(escrow.NotKnownYet):
            await take_nonce(desks[1], early, arbiters[0].did)


async def test_a_panel_of_seven_awards_a_part(net: Net) -> None:
    """4 of 7 with three silent: equal votes for a part give exactly that part; the four who voted are paid."""
    names = ("buyer", "seller", "anna", "bert", "carl", "dora", "emil", "fred", "gina")
    async with market(net, *names) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters, arbiters_needed=4)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        await judge(buyer, contract_id, good=False, reason="half of it is black")
        half = Florins(5 * FLOP)
        for arbiter in arbiters[:4]:
            await arbiter.event(CaseOpened)
            said = escrow.Vote(request_id=request_id(), contract_id=contract_id, gross_florins=half, reason="half")
            await arbiter.call(escrow.VOTE, said)
        heights = (await buyer.show(contract_id)).heights
        assert heights is not None
        await until(in_state(arbiters[0], contract_id, "ANSWERED"), "committed")
        await net.mine_to(heights.commit_by)
        await net.mine_until(lambda: seller.told(Closed), "the award is final")
        settlement = (await seller.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.AWARDED, half)
        assert settlement.fund_florins == FLOP // 4
