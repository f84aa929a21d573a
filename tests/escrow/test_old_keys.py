"""A party that slept while its signing key changed: what it had said counts, and it goes on."""

from __future__ import annotations

import pytest

from common.codec import canonical
from common.contracts import escrow
from common.contracts.base import PEER_HANDLE, PeerCallIn
from common.contracts.escrow import BadStatement
from common.contracts.escrow_views import CaseOpened, Closed, Delivered, Funded, KeyRevealed
from common.contracts.peer_escrow import STATEMENTS, StatementsCall
from common.receipts import Outcome
from common.rpc.client import LocalClient
from common.units import FLOP, Florins
from dux_escrowd.orders import Word
from dux_escrowd.statements import opened_statement
from tests.escrow.kit import Net, Node, deliver, judge, market, propose, request_id, until

NAMES = ("buyer", "seller", "anna", "bert", "carl")


async def vote(arbiter: Node, contract_id: str, gross: int) -> None:
    await arbiter.event(CaseOpened)
    said = escrow.Vote(request_id=request_id(), contract_id=contract_id, gross_florins=Florins(gross), reason="looked")
    await arbiter.call(escrow.VOTE, said)


@pytest.mark.parametrize("recovers", [False, True])
async def test_what_a_seller_said_before_its_key_changed_wins_its_case(net: Net, *, recovers: bool) -> None:
    """It delivers while nobody hears it, its key changes more than a day before the others do; it is paid in full.

    The panel hears its words first in the dispute, of it and of the buyer, who holds them under the old key.
    """
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        seller.changes_key(recovers=recovers)
        await judge(buyer, contract_id, good=False)
        for arbiter in arbiters:
            await vote(arbiter, contract_id, 10 * FLOP)
        await net.mine_until(lambda: seller.told(Closed), "the award is final")
        settlement = (await seller.event(Closed)).settlement
        assert (settlement.outcome, settlement.gross_florins) == (Outcome.AWARDED, 10 * FLOP)
        assert not net.spread, "no proof of fault"
        for arbiter in arbiters:
            held = [opened_statement(data) for data in arbiter.shelf().said(contract_id, seller.did)]
            assert Word.DELIVERED in {one.statement.kind for one in held}
            keys = {one.attested.key_seq for one in held}
            assert (1 in keys) if recovers else (keys <= {0, 1})


async def test_words_of_a_party_that_is_away_count_under_the_key_of_then(net: Net) -> None:
    """The panel hears them of the buyer alone, more than a day after the seller's key was rotated away."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        seller.changes_key()
        seller.off = True
        await judge(buyer, contract_id, good=False)
        for arbiter in arbiters:
            await until(lambda one=arbiter: one.shelf().heard(contract_id, Word.DELIVERED), "the delivery is heard of")
            held = arbiter.shelf().heard(contract_id, Word.DELIVERED)
            assert [heard.attested.key_seq for heard in held] == [0]


async def test_words_of_a_key_that_a_recovery_stopped_are_refused(net: Net) -> None:
    """They could be a thief's: an old envelope is sent by hand, the owner's own under its new key is taken."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        seller.off = True
        await deliver(seller, contract_id)
        await until(lambda: seller.shelf().heard(contract_id, Word.DELIVERED), "it is signed")
        old = seller.shelf().said(contract_id, seller.did, len(buyer.shelf().chain(contract_id, seller.did)))
        assert {opened_statement(data).attested.key_seq for data in old} == {0}
        seller.changes_key(recovers=True)
        assert buyer.daemon is not None
        stolen = StatementsCall(bytes.fromhex(contract_id), tuple(old))
        told = PeerCallIn(method=STATEMENTS.name, params=canonical(stolen), sender=seller.did)
        with pytest.raises(BadStatement):
            await LocalClient(buyer.daemon.parts.table, "p2pd").call(PEER_HANDLE, told)
        seller.off = False
        await buyer.event(Delivered)
        held = [opened_statement(data) for data in buyer.shelf().said(contract_id, seller.did)]
        assert held[-1].attested.key_seq == 1
