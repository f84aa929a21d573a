"""What peers may ask and may not, offers that come to nothing, the fund's books, and a chain that changes its mind."""

from __future__ import annotations

from contextlib import AsyncExitStack

import msgspec
import pytest

from common.chain.contract import Contract, cid
from common.codec import canonical, from_canonical
from common.contracts import escrow, peer_escrow
from common.contracts.base import PEER_HANDLE, PeerCallIn
from common.contracts.escrow_views import Closed, FaultProven, Funded, KeyRevealed, QuoteRefused, Voided
from common.errors import DuxError
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.receipts import Attested
from common.rpc.client import LocalClient
from common.rpc.method import CP, CR, PeerMethod
from common.store import Store
from common.units import FLOP, Did, Florins
from dux_escrowd.agreement import contract_id_of
from dux_escrowd.book import Book
from dux_escrowd.orders import Word
from dux_escrowd.statements import next_statement
from dux_escrowd.words import SaidCancelAsk
from tests.attacks.registry import attack
from tests.escrow.kit import Net, Node, deliver, in_state, judge, market, propose, request_id, until

pytestmark = pytest.mark.patient

NAMES = ("buyer", "seller", "anna", "bert", "carl")


async def peer_call(to: Node, sender: Did, method: PeerMethod[CP, CR], params: CP) -> CR:
    """A call as p2pd hands it over, its sender proven."""
    assert to.daemon is not None
    call = PeerCallIn(method=method.name, params=canonical(params), sender=sender)
    answer = await LocalClient(to.daemon.parts.table, "p2pd").call(PEER_HANDLE, call)
    return from_canonical(answer.result, method.result, max_bytes=1_000_000)


@attack("escrow", tries="a stranger asks for the copy of a contract", meets="learns nothing")
async def test_a_copy_goes_to_those_named_and_to_nobody_else(net: Net) -> None:
    """contract_get serves the whole agreement to a party that lost its own; a stranger learns nothing."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await until(in_state(buyer, contract_id, "AGREED", "FUNDED_SEEN"), "agreed")
        name = bytes.fromhex((await buyer.show(contract_id)).cid or "")
        copy = await peer_call(seller, buyer.did, peer_escrow.CONTRACT_GET, peer_escrow.ContractGet(name))
        contract = from_canonical(copy.contract, Contract, max_bytes=8_192)
        assert cid(contract) == name
        assert len(copy.accepts) == 3
        stranger = Did("did:dux:" + "z" * 52)
        with pytest.raises(DuxError):
            await peer_call(seller, stranger, peer_escrow.CONTRACT_GET, peer_escrow.ContractGet(name))
        ask = peer_escrow.StandbyCall(bytes.fromhex(contract_id))
        with pytest.raises(DuxError):
            await peer_call(arbiters[0], stranger, peer_escrow.STANDBY, ask)
        ask_chain = peer_escrow.AskStatements(bytes.fromhex(contract_id), seller.did, 0)
        chain = await peer_call(buyer, arbiters[0].did, peer_escrow.STATEMENTS_GET, ask_chain)
        assert len(chain.statements) >= 1


async def test_an_offer_that_is_refused_locks_nothing(net: Net) -> None:
    """The seller's no reaches the buyer with its reason; no coin was bound."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        ref = await buyer.call(escrow.PROPOSE, _wish(seller, arbiters))

        async def offered() -> bool:
            return bool((await seller.call(escrow.LIST, escrow.ListContracts())).contracts)

        await until(offered, "offered")
        no = escrow.Quote(request_id=request_id(), contract_id=ref.contract_id, accept=False, reason="too busy")
        await seller.call(escrow.QUOTE, no)
        assert (await buyer.event(QuoteRefused)).reason == "too busy"
        assert (await buyer.show(ref.contract_id)).status == "CANCELLED"


async def test_an_offer_that_nobody_answers_ends_by_itself(net: Net) -> None:
    """A seller that is gone costs the buyer fund_by's blocks and nothing else; the outbox stops asking."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        seller.off = True
        ref = await buyer.call(escrow.PROPOSE, _wish(seller, arbiters))
        await net.mine(11)
        assert "in time" in (await buyer.event(QuoteRefused)).reason
        lines = (await buyer.call(escrow.EXPLAIN, escrow.ContractRef(contract_id=ref.contract_id))).lines
        assert "refused" in lines[0]


async def test_an_offer_that_the_seller_leaves_lying_ends_at_the_seller_too(net: Net) -> None:
    """Its taskd is told that there is nothing left to quote, and a quote that comes too late is not asked for again."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        ref = await buyer.call(escrow.PROPOSE, _wish(seller, arbiters))

        async def offered() -> bool:
            return bool((await seller.call(escrow.LIST, escrow.ListContracts())).contracts)

        await until(offered, "offered")
        await net.mine(11)
        assert (await seller.event(Voided)).contract_id == ref.contract_id
        late = escrow.Quote(request_id=request_id(), contract_id=ref.contract_id, accept=True, reason="")
        with pytest.raises(escrow.OfferOver):
            await seller.call(escrow.QUOTE, late)


async def test_a_panel_that_never_sits_voids_the_contract(net: Net) -> None:
    """Too few arbiters accept: after fund_by both sides are out, and nothing was funded."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        arbiters[0].off = arbiters[1].off = True
        contract_id = await propose(buyer, seller, arbiters)
        await until(in_state(seller, contract_id, "DRAWING"), "terms are signed")
        await net.mine(14)
        await buyer.event(Voided)
        await seller.event(Voided)
        assert (await buyer.show(contract_id)).outpoint is None


@attack("escrow", tries="a seller contradicts itself in signed statements", meets="proof of fault, kept and spread")
async def test_two_statements_with_one_number_are_proof_and_are_spread(net: Net) -> None:
    """A seller that contradicts itself: the buyer keeps both, tells, publishes; arbiters that hear it know it too."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await until(in_state(buyer, contract_id, "FUNDED"), "funded at the buyer")
        name = bytes.fromhex((await buyer.show(contract_id)).cid or "")
        assert buyer.daemon is not None
        assert buyer.daemon.parts.table.store is not None
        shelf = Book(buyer.daemon.parts.table.store).shelf
        await until(lambda: len(shelf.chain(contract_id, seller.did)) >= 2, "READY and START were heard")
        forked = next_statement(
            net=net.bench.genesis, cid=name, signer=seller.did, hashes=shelf.chain(contract_id, seller.did)[:1],
            heads={}, word=Word.CANCEL_ASK, said=SaidCancelAsk(), height=1, block="",
        )  # fmt: skip
        body = canonical(forked)
        attested = Attested(body, seller.did, 0, seller.key.sign(Purpose.ESCROW_STATEMENT, body))
        call = peer_escrow.StatementsCall(bytes.fromhex(contract_id), (canonical(attested),))
        await peer_call(buyer, arbiters[0].did, peer_escrow.STATEMENTS, call)
        proof = await buyer.event(FaultProven)
        assert proof.signer == seller.did
        await arbiters[1].event(FaultProven)
        assert arbiters[1].lot(contract_id).faulty == (seller.did,)
        bad = Attested(body, seller.did, 0, b"\x00" * 64)
        forged = peer_escrow.StatementsCall(bytes.fromhex(contract_id), (canonical(bad),))
        with pytest.raises(DuxError, match="signature"):
            await peer_call(arbiters[2], buyer.did, peer_escrow.STATEMENTS, forged)


async def test_a_reorganised_payment_falls_back_and_is_paid_again(net: Net) -> None:
    """The blocks with the release go away: the books go back, the seller hands it over, and it closes once more."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        await judge(buyer, contract_id, good=True)
        await until(in_state(seller, contract_id, "RELEASE_SEEN"), "released")
        await net.mine_until(lambda: seller.told(Closed), "closed")
        first = (await seller.event(Closed)).settlement
        net.bench.roll_back(2)
        net.bench.mine(3)
        for node in net.nodes.values():
            await node.wallet.synced()
        await net.mine_until(in_state(seller, contract_id, "CLOSED"), "closed on the other branch")
        await net.mine_until(in_state(buyer, contract_id, "CLOSED"), "closed at the buyer")
        last = (await seller.show(contract_id)).settlement
        assert last is not None
        assert last.gross_florins == first.gross_florins == 10 * FLOP


async def test_the_funds_books_follow_from_the_chain(net: Net) -> None:
    """fund.status shows what the chain paid to the fund: five per cent of this payment more than before."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        before = await buyer.call(escrow.FUND_STATUS, escrow.FundStatusParams())
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        await judge(buyer, contract_id, good=True)
        await net.mine_until(lambda: buyer.told(Closed), "paid")
        after = await buyer.call(escrow.FUND_STATUS, escrow.FundStatusParams(movements=1))
        assert after.balance_florins - before.balance_florins == FLOP // 2
        assert (after.movements[0].value_florins, after.paid_florins) == (FLOP // 2, 0)


def _wish(seller: Node, arbiters: list[Node]) -> escrow.Propose:
    return escrow.Propose(
        request_id=request_id(), seller=seller.did, service_id="upscale", job=b"\x93job",
        job_hash=bytes(tagged_hash(Purpose.JOB, b"\x93job")), price_florins=Florins(10 * FLOP),
        arbiters=tuple(node.did for node in arbiters), deliver_blocks=12,
    )  # fmt: skip


@attack(
    "escrow",
    tries="one buyer, or many fresh names, fill a seller's books with offers",
    meets="a limit for each and for all",
)
async def test_unfunded_offers_have_a_limit_for_each_buyer_and_for_all(net: Net) -> None:
    """One buyer, or many fresh identities, cannot fill a seller's books: the next offer waits until room is made."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        refs = [await buyer.call(escrow.PROPOSE, _wish(seller, arbiters)) for _ in range(3)]

        async def offers() -> int:
            return len((await seller.call(escrow.LIST, escrow.ListContracts())).contracts)

        async def all_there() -> bool:
            return await offers() == len(refs)

        await until(all_there, "three offers")
        more = await buyer.call(escrow.PROPOSE, _wish(seller, arbiters))
        offer = Book(_store(buyer)).records.offer
        await until(lambda: offer(more.contract_id) is not None, "the fourth offer is made")
        fourth = offer(more.contract_id)
        assert fourth is not None
        with pytest.raises(escrow.TooManyOpen, match="3 are allowed"):
            await peer_call(seller, buyer.did, peer_escrow.OFFER, fourth)
        stranger = Did("did:dux:" + "y" * 52)
        nonce = b"n" * 32
        name = contract_id_of(fourth.network, stranger, nonce)
        strange = msgspec.structs.replace(fourth, contract_id=name, buyer_nonce=nonce)
        assert (await peer_call(seller, stranger, peer_escrow.OFFER, strange)).kept
        assert await offers() == len(refs) + 1


async def test_a_node_whose_books_are_full_takes_no_offer_of_anybody(net: Net) -> None:
    """The limit over all buyers holds for identities that were never seen before, too."""
    nodes = [Node(net, name) for name in NAMES]
    nodes[1].settings = {"open_total_max": 2}
    async with AsyncExitStack() as stack:
        buyer, seller, *arbiters = [await stack.enter_async_context(node.running()) for node in nodes]
        for _ in range(2):
            await buyer.call(escrow.PROPOSE, _wish(seller, arbiters))
        await until(lambda: Book(_store(seller)).shelf.unfunded(buyer.did) == 2, "two offers")
        third = await buyer.call(escrow.PROPOSE, _wish(seller, arbiters))
        await until(lambda: Book(_store(buyer)).records.offer(third.contract_id) is not None, "a third is made")
        offer = Book(_store(buyer)).records.offer(third.contract_id)
        assert offer is not None
        stranger, nonce = Did("did:dux:" + "y" * 52), b"n" * 32
        strange = msgspec.structs.replace(
            offer, contract_id=contract_id_of(offer.network, stranger, nonce), buyer_nonce=nonce
        )
        with pytest.raises(escrow.NodeFull, match="2 contracts"):
            await peer_call(seller, stranger, peer_escrow.OFFER, strange)


def _store(node: Node) -> Store:
    assert node.daemon is not None
    assert node.daemon.parts.table.store is not None
    return node.daemon.parts.table.store


@pytest.mark.parametrize("state", ["disputed", "frozen", "ended"])
async def test_no_new_contract_with_a_name_that_something_is_held_against(net: Net, state: str) -> None:
    """The buyer's node proposes nothing to it; a seller's node refuses its offer, and says why."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        buyer.held_against[seller.did] = {state: True}
        with pytest.raises(DuxError, match="identity"):
            await buyer.call(escrow.PROPOSE, _wish(seller, arbiters))
        buyer.held_against.clear()
        seller.held_against[buyer.did] = {state: True}
        await buyer.call(escrow.PROPOSE, _wish(seller, arbiters))
        assert "identity" in (await buyer.event(QuoteRefused)).reason
        assert not (await seller.call(escrow.LIST, escrow.ListContracts())).contracts
