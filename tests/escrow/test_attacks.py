"""Peers that sign what no honest program signs: nobody honest loses a coin, and no daemon dies of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from common.codec import canonical
from common.contracts.base import PEER_HANDLE, PeerCallIn
from common.contracts.escrow_views import CaseOpened, Closed, Funded, KeyRevealed
from common.contracts.peer_escrow import STATEMENTS, STATEMENTS_GET, StatementsCall
from common.identity.purposes import Purpose
from common.receipts import Attested, Outcome
from common.rpc.client import LocalClient
from common.units import FLOP, Did, Florins
from dux_escrowd.book import Book
from dux_escrowd.orders import Word
from dux_escrowd.statements import Statement, next_statement, opened_statement
from dux_escrowd.words import Said, SaidAward, SaidCancelAsk, SaidDispute, SaidReady, SaidRelease
from tests.attacks.registry import attack
from tests.escrow.kit import Net, Node, deliver, holds_soon, in_state, judge, market, propose, until
from tests.escrow.test_bad_days import vote

pytestmark = pytest.mark.patient

NAMES = ("buyer", "seller", "anna", "bert", "carl")
PRICE = Florins(10 * FLOP)
JUNK = (b"\x30" * 71,)


def book_of(node: Node) -> Book:
    """The node's own books."""
    assert node.daemon is not None
    assert node.daemon.parts.table.store is not None
    return Book(node.daemon.parts.table.store)


def signed(node: Node, statement: Statement) -> bytes:
    """The statement under the node's own key, as a changed program may sign whatever it likes."""
    body = canonical(statement)
    return canonical(Attested(body, node.did, 0, node.key.sign(Purpose.ESCROW_STATEMENT, body)))


def say(node: Node, contract_id: str, word: Word, said: Said, hashes: list[bytes], **changes: Any) -> Statement:
    """A statement of the node after those with these hashes."""
    row = book_of(node).shelf.contract(contract_id)
    assert row is not None
    fields: dict[str, Any] = {"height": 1, "block": "00"} | changes
    return next_statement(
        net=node.net.bench.genesis, cid=bytes.fromhex(row.cid or ""), signer=node.did, hashes=hashes, heads={},
        word=word, said=said, **fields,
    )  # fmt: skip


async def hand(sender: Node, to: Node, contract_id: str, *statements: bytes) -> None:
    """Hand statements over, past the sender's own daemon."""
    assert to.daemon is not None
    call = StatementsCall(bytes.fromhex(contract_id), statements)
    params = PeerCallIn(method=STATEMENTS.name, params=canonical(call), sender=sender.did)
    await LocalClient(to.daemon.parts.table, "p2pd").call(PEER_HANDLE, params)


async def hand_next(sender: Node, to: Node, contract_id: str, word: Word, said: Said) -> None:
    """The sender's next statement with this content."""
    hashes = book_of(to).shelf.chain(contract_id, sender.did)
    await hand(sender, to, contract_id, signed(sender, say(sender, contract_id, word, said, hashes)))


async def mined_until(net: Net, predicate: Callable[[], Any], what: str, blocks: int = 40) -> None:
    """Block after block until the predicate is true: liars that never answer keep some node busy for ever."""
    for _ in range(blocks):
        if await holds_soon(predicate, 0.6):
            return
        await net.mine()
    raise AssertionError(f"not within {blocks} blocks: {what}")


@attack("escrow", tries="junk signatures beside the buyer's release", meets="the seller is paid by the buyer's")
async def test_junk_beside_a_release_does_not_keep_the_seller_from_its_pay(net: Net) -> None:
    """RELEASE with junk signatures by somebody else of the contract: the seller's spend is made from the buyer's."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        liar = max(arbiters, key=lambda node: node.did)
        assert liar.did > buyer.did
        contract_id = await propose(buyer, seller, arbiters)
        await mined_until(net, lambda: seller.told(Funded), "funded")
        outpoint = seller.lot(contract_id).outpoint or ""
        await hand_next(liar, seller, contract_id, Word.RELEASE, SaidRelease(outpoint, PRICE, JUNK))
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        await judge(buyer, contract_id, good=True)
        await mined_until(net, lambda: seller.told(Closed), "paid", blocks=20)
        settlement = (await seller.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.RELEASED, PRICE)


@attack(
    "escrow",
    tries="a buyer tells seller and arbiters two stories, and signs an award itself",
    meets="heard, judged and paid",
)
async def test_a_buyers_lies_do_not_keep_the_seller_from_its_award(net: Net) -> None:
    """A chain forked between seller and arbiters, and an AWARD signed by the buyer: the dispute is heard and paid."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        deaf = [node.did for node in arbiters]
        forked = False  # until then the arbiters must not hear the buyer's READY from the seller either
        net.lost = lambda sender, to, method: (
            (sender is buyer and to in deaf and method == STATEMENTS.name)
            or (sender.did in deaf and (to == buyer.did or not forked) and method == STATEMENTS_GET.name)
        )
        contract_id = await propose(buyer, seller, arbiters)

        async def all_know() -> bool:
            return all(_ready(node, contract_id) for node in arbiters)

        await until(all_know, "all but the buyer are ready for the arbiters")
        own = opened_statement(book_of(buyer).shelf.said(contract_id, buyer.did)[0])
        assert isinstance(own.said, SaidReady)
        fork = signed(buyer, say(buyer, contract_id, Word.READY, own.said, [], height=2))
        for node in arbiters:
            await hand(buyer, node, contract_id, fork)
        forked = True
        await mined_until(net, lambda: seller.told(Funded), "funded")
        outpoint = seller.lot(contract_id).outpoint or ""
        panel = tuple(Did(did) for did in sorted(node.did for node in arbiters))
        await until(lambda: len(book_of(seller).shelf.chain(contract_id, buyer.did)) == 1, "READY of the buyer")
        await hand_next(buyer, seller, contract_id, Word.CANCEL_ASK, SaidCancelAsk())
        await hand_next(buyer, seller, contract_id, Word.AWARD, SaidAward(outpoint, PRICE, panel, JUNK))
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        buyer.off = True
        heights = (await seller.show(contract_id)).heights
        assert heights is not None
        await net.mine_to(heights.dispute_by - 1)
        for node in arbiters:
            await mined_until(net, in_state(node, contract_id, "DISPUTED"), "the arbiter hears the seller", blocks=6)
        await net.mine_to(heights.answer_by)
        for node in arbiters:
            await mined_until(net, lambda node=node: node.told(CaseOpened), "the arbiter has the case", blocks=3)
            await vote(node, contract_id, PRICE)
        await mined_until(net, lambda: seller.told(Closed), "paid", blocks=30)
        settlement = (await seller.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.AWARDED, PRICE)


@attack(
    "escrow",
    tries="a buyer tells of a dispute to the arbiters only",
    meets="they hand it on; the seller answers in time",
)
async def test_a_dispute_told_to_the_panel_alone_reaches_the_seller(net: Net) -> None:
    """A buyer that says DISPUTE to the arbiters only: they hand it on, and the seller answers with what it has done."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await mined_until(net, lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        buyer.off = True
        for node in arbiters:
            await hand_next(buyer, node, contract_id, Word.DISPUTE, SaidDispute("nothing came"))
        await until(in_state(seller, contract_id, "DISPUTED", "ANSWERED"), "the seller hears of it")
        for node in arbiters:
            await until(lambda node=node: _has_heard_seller(node, contract_id), "the arbiter hears the seller")


async def _has_heard_seller(node: Node, contract_id: str) -> bool:
    lot = node.lot(contract_id)
    return lot.answered and lot.started and lot.delivered_at is not None


def _ready(node: Node, contract_id: str) -> bool:
    lot = book_of(node).shelf.lot(contract_id)
    return lot is not None and len(lot.ready) == len(NAMES) - 1
