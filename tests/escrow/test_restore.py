"""A disk is gone and only the phrase is left: open contracts come back, and go on to where they have to end."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from common.clock import SystemClock
from common.contracts import escrow
from common.contracts import wallet_channel as purse
from common.contracts.channel_restore import CHANNEL_RESTORE
from common.contracts.escrow_restore import RECOVER, RESTORE, RecoverContracts
from common.contracts.escrow_views import CaseOpened, Funded, JobReturned, KeyRevealed, Started
from common.contracts.p2p import DhtGet, Records
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.peer_escrow import CASE_GET, CaseGet
from common.contracts.registry import NODE_LIST, ListNodes, NodeList
from common.contracts.wallet_restore import CONTRACT_BLOB_KEY
from common.errors import BadParams, Unavailable
from common.network import Custodian, FundParameters, Quorum
from common.parameters import next_set
from common.randomness import SystemRandomness
from common.receipts import Outcome
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.units import FLOP, Florins
from dux_escrowd import follower, keeping
from dux_escrowd.copies import opened, tag_of
from dux_escrowd.records import CASE, VOTE
from tests.attacks.registry import attack
from tests.chain.contract_kit import public_key
from tests.escrow.channel_kit import open_channel
from tests.escrow.kit import LOG, Net, Node, deliver, in_state, judge, market, propose, request_id, until

pytestmark = pytest.mark.patient

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
            assert not await again.told(JobReturned), "it had delivered"
            page = await again.call(escrow.AUDIT, escrow.AuditRead())
            assert page.replayed


async def test_a_seller_that_had_not_delivered_is_given_its_job_again(net: Net) -> None:
    """Once, with the time that is left; what it then delivers is sealed under the K of the phrase, and paid."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await net.mine_until(lambda: buyer.told(Started), "the buyer knows that work has begun")
        await until(lambda: net.records, "copies are kept")
        again = await back(net, seller)
        async with again.running():
            returned = await again.event(JobReturned)
            view = await again.show(contract_id)
            assert view.heights is not None
            assert (returned.contract_id, returned.buyer, returned.begun) == (contract_id, buyer.did, True)
            assert returned.blocks_left == view.heights.deliver_by - net.height > 0
            assert returned.job_hash == view.job_hash
            for _ in range(2):
                await again.call(RESTORE, Empty())
            assert [type(event) for event in await again.events()].count(JobReturned) == 1
            await deliver(again, contract_id)
            await buyer.event(KeyRevealed)
            await judge(buyer, contract_id, good=True)
            await net.mine_until(in_state(again, contract_id, "CLOSED"), "paid")
            settlement = (await again.show(contract_id)).settlement
            assert settlement is not None
            assert (settlement.outcome, settlement.gross_florins) == (Outcome.RELEASED, 10 * FLOP)
            assert not net.spread, "no proof of fault"


@pytest.mark.parametrize("copied", ["the contract", "the evidence", "the vote"])
async def test_an_arbiter_with_its_phrase_alone_votes_and_signs(net: Net, copied: str) -> None:
    """One arbiter is dead and one has lost its disk: the case comes back, its vote counts once, and it is mined.

    Evidence that its last copy has not is asked for again. What it had committed to is revealed by the new disk: a
    second vote under one number would be proof of fault.
    """
    async with market(net, *NAMES) as (buyer, seller, anna, bert, carl):
        contract_id = await propose(buyer, seller, [anna, bert, carl])
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        carl.off = True
        await judge(buyer, contract_id, good=False, reason="wrong")
        await anna.event(CaseOpened)
        if copied == "the evidence":
            await net.mine(1)
            await until(lambda: is_copied(anna, bert, contract_id, CASE), "the evidence is in the copy")
        if copied == "the vote":
            await vote(anna, contract_id)
            await until(lambda: is_committed(anna, bert, contract_id), "the other one heard what it committed to")
            await net.mine(1)  # a copy goes out at the follower's next look
            await until(lambda: is_copied(anna, bert, contract_id, VOTE), "the vote's salt is in the copy")
        again = await back(net, anna)
        async with again.running():
            found = await again.call(RESTORE, Empty())
            assert ((*found.restored, *found.known), found.problems) == ((contract_id,), ())
            assert (await again.show(contract_id)).role == "arbiter"
            for arbiter in (bert,) if copied == "the vote" else (bert, again):
                await arbiter.event(CaseOpened)
                await vote(arbiter, contract_id)
            await net.mine_until(in_state(again, contract_id, "CLOSED"), "awarded")
            settlement = (await again.show(contract_id)).settlement
            assert settlement is not None
            assert (settlement.outcome, settlement.gross_florins) == (Outcome.AWARDED, 4 * FLOP)
            assert not net.spread, "no proof of fault"


async def vote(arbiter: Node, contract_id: str) -> None:
    """Less than half for the seller."""
    wish = escrow.Vote(request_id=request_id(), contract_id=contract_id, gross_florins=Florins(4 * FLOP), reason="half")
    await arbiter.call(escrow.VOTE, wish)


async def is_committed(arbiter: Node, seen_by: Node, contract_id: str) -> bool:
    """Another arbiter holds this one's commitment."""
    return arbiter.did in [ballot.arbiter for ballot in seen_by.lot(contract_id).ballots]


async def test_evidence_is_shown_again_to_arbiters_of_an_open_dispute_alone(net: Net) -> None:
    """Before the dispute nobody is shown anything, and afterwards no party and no stranger."""
    async with market(net, *NAMES, "stranger") as (buyer, seller, anna, bert, carl, stranger):
        contract_id = await propose(buyer, seller, [anna, bert, carl])
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        assert not await is_shown(buyer, anna, contract_id)
        await judge(buyer, contract_id, good=False, reason="wrong")
        await anna.event(CaseOpened)
        askers = [anna, seller, stranger]
        assert [await is_shown(buyer, asker, contract_id) for asker in askers] == [True, False, False]
        assert not await is_shown(bert, carl, contract_id)


async def is_shown(asked: Node, asker: Node, contract_id: str) -> bool:
    """Whether a node hands the evidence to another one that asks."""
    assert asker.daemon is not None
    try:
        await asker.daemon.desk.call(asked.did, CASE_GET, CaseGet(bytes.fromhex(contract_id)))
    except PeerAnswered as error:
        return error.fields["peer_key"] != "not-found"
    return True


async def is_copied(arbiter: Node, kept_by: Node, contract_id: str, kind: str) -> bool:
    """The copy that another one keeps has this document of its owner's."""
    row = arbiter.shelf().contract(contract_id)
    assert row is not None
    assert row.key_index is not None
    number = row.key_index
    key = (await arbiter.wallet.call(CONTRACT_BLOB_KEY, Empty())).key
    held = kept_by.shelf().copy(tag_of(key, number), arbiter.did)
    return held is not None and kind in [one.kind for one in opened(held[1], key, tag_of(key, number)).documents]


def test_a_copy_opens_for_its_owner_alone() -> None:
    """Another key, another tag, a changed byte, rubbish: no copy; tags of different numbers or keys differ."""
    key = b"k" * 32
    tags = {tag_of(key, number) for number in range(30)} | {tag_of(b"x" * 32, number) for number in range(30)}
    assert len(tags) == 60
    for body in (b"", b"n" * 12, b"n" * 100):
        with pytest.raises(BadParams, match="no copy"):
            opened(body, key, tag_of(key, 0))


async def test_a_contract_without_a_pointer_is_found_by_active_nodes_and_by_name(net: Net) -> None:
    """Over two days off: no pointer lives, look-ups may fail; the registry's nodes are asked, or one that is named."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(in_state(buyer, contract_id, "FUNDED"), "funded")
        await until(lambda: net.records, "copies are kept")
        net.records.clear()
        again = await back(net, buyer)
        async with again.running():
            assert not (await again.call(RESTORE, Empty())).known
            found = await again.call(RECOVER, RecoverContracts(holder=arbiters[0].did))
            assert ((*found.restored, *found.known), found.problems) == ((contract_id,), ())
        net.records.clear()
        once_more = await back(net, again)
        alive = [msgspec.structs.replace(NODE_LIST.example[1].nodes[0], node_id=one.did) for one in (seller, *arbiters)]

        async def listed(_params: ListNodes, _ctx: Ctx) -> NodeList:
            return NodeList(nodes=tuple(alive), total=len(alive))

        async def fails(_params: DhtGet, _ctx: Ctx) -> Records:
            raise Unavailable

        once_more.registryd.serve(NODE_LIST, listed)
        once_more.p2pd = MethodTable(log=LOG, clock=SystemClock(), randomness=SystemRandomness())
        once_more._get = fails  # type: ignore[method-assign]
        once_more._serve_p2pd()
        async with once_more.running():
            found = await once_more.call(RESTORE, Empty())
            assert ((*found.restored, *found.known), found.problems) == ((contract_id,), ())


async def test_a_quiet_contract_s_pointer_is_renewed_by_the_clock(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing moves in it; its pointer would be gone after two days."""
    monkeypatch.setattr(keeping, "POINTER_AGAIN_MS", 2_000)
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(in_state(buyer, contract_id, "FUNDED"), "funded")
        await net.mine(2)
        await until(lambda: net.records, "copies are kept")
        net.records.clear()
        await asyncio.sleep(2.5)
        await net.mine(1)
        assert await buyer.state(contract_id) == "FUNDED"
        await until(lambda: any(buyer.did in by for by in net.records.values()), "the buyer's pointer is there again")


async def test_what_was_agreed_under_an_earlier_tax_and_custodians_comes_back(net: Net) -> None:
    """Tax and custodians have changed since: a contract and a channel of before are taken back all the same."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(in_state(buyer, contract_id, "FUNDED"), "funded")
        chid = await open_channel(net, buyer, seller)
        await until(lambda: net.records, "copies are kept")
        before = net.profile()
        later = next_set(before.parameters, from_height=net.height, tax_bps=400)
        keepers = tuple(
            Custodian(did=one.did, pubkey=public_key(f"new-{one.did}").hex()) for one in before.fund.custodians
        )
        fund = FundParameters(threshold=2, custodians=keepers, before=(Quorum(2, before.fund.custodians),))
        changed = msgspec.structs.replace(
            before, tax_bps=400, parameter_sets=(before.first_parameters, later), fund=fund
        )
        net.profile = lambda: changed  # type: ignore[method-assign]
        again = await back(net, buyer)
        async with again.running():
            found = await again.call(RESTORE, Empty())
            assert ((*found.restored, *found.known), found.problems) == ((contract_id,), ())
            channels = await again.call(CHANNEL_RESTORE, Empty())
            assert ((*channels.restored, *channels.known), channels.problems) == ((chid,), ())
            assert (await again.show(contract_id)).state == "FUNDED"


async def tells_keepers(node: Node, contract_id: str, kept: int) -> bool:
    seen = await node.show(contract_id)
    return (seen.copies_kept, seen.copies_wanted) == (kept, 8)


async def test_a_contract_comes_back_with_every_party_away(net: Net) -> None:
    """Active nodes that are no party keep copies as well; they learn nothing, and the phrase alone opens them."""
    async with market(net, *NAMES, "dora") as (buyer, seller, anna, bert, carl, dora):
        alive = [msgspec.structs.replace(NODE_LIST.example[1].nodes[0], node_id=dora.did)]

        async def listed(_params: ListNodes, _ctx: Ctx) -> NodeList:
            return NodeList(nodes=tuple(alive), total=len(alive))

        buyer.registryd.serve(NODE_LIST, listed)
        contract_id = await propose(buyer, seller, [anna, bert, carl])
        await net.mine_until(in_state(buyer, contract_id, "FUNDED"), "funded")
        await net.mine(1)
        await until(lambda: tells_keepers(buyer, contract_id, 5), "the other four and a stranger keep it, of eight")
        key, row = (await buyer.wallet.call(CONTRACT_BLOB_KEY, Empty())).key, buyer.shelf().contract(contract_id)
        assert row is not None
        tag = tag_of(key, row.key_index or 0)
        await until(lambda: dora.shelf().copy(tag, buyer.did), "a stranger keeps it")
        for node in (seller, anna, bert, carl):
            node.off = True
        net.records.clear()
        again = await back(net, buyer)
        async with again.running():
            found = await again.call(RECOVER, RecoverContracts(holder=dora.did))
            assert ((*found.restored, *found.known), found.problems) == ((contract_id,), ())


@attack(
    "escrow",
    tries="an old copy of the other side's, given back to its restored owner as the newest there is",
    meets="of the copies that open the one that tells most counts, whatever version a holder names",
)
async def test_an_old_copy_under_a_high_version_is_not_the_newest(net: Net) -> None:
    """Who restores from it would say again, and otherwise, what it had said: the proof of a fault that is none."""
    async with market(net, *NAMES) as (buyer, seller, anna, bert, carl):
        contract_id = await propose(buyer, seller, [anna, bert, carl])
        await net.mine_until(in_state(buyer, contract_id, "FUNDED"), "funded")
        await net.mine(1)
        key, row = (await buyer.wallet.call(CONTRACT_BLOB_KEY, Empty())).key, buyer.shelf().contract(contract_id)
        assert row is not None
        tag = tag_of(key, row.key_index or 0)
        await until(lambda: seller.shelf().copy(tag, buyer.did), "the seller has a copy")
        old = seller.shelf().copy(tag, buyer.did)
        assert old is not None
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        await net.mine(1)
        await until(lambda: (anna.shelf().copy(tag, buyer.did) or old)[0] > old[0], "anna has a later one")
        assert seller.daemon is not None
        assert buyer.daemon is not None
        with seller.daemon.desk.book.store.transaction() as tx:
            tx.execute("UPDATE party_copies SET version = ?, sealed = ? WHERE tag = ?", 2**40, old[1], tag)
        found = await keeping.Keeping(buyer.daemon.desk)._newest(key, tag, (seller.did, anna.did))
        new = anna.shelf().copy(tag, buyer.did)
        assert new is not None
        assert found == opened(new[1], key, tag)
        assert len(found.facts) > len(opened(old[1], key, tag).facts)


async def test_copies_of_a_contract_that_is_over_are_dropped(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs it back; until then everybody named has one."""
    monkeypatch.setattr(follower, "FOLLOWED_AFTER_END_BLOCKS", 3)
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await net.mine(1)
        await until(lambda: copies_at(seller) == copies_at(arbiters[0]) == 4, "all others' copies")
        await deliver(seller, contract_id)
        await buyer.event(KeyRevealed)
        await judge(buyer, contract_id, good=True)
        await net.mine_until(in_state(seller, contract_id, "CLOSED"), "paid")
        await net.mine_until(
            lambda: not any(copies_at(node) for node in (buyer, seller, *arbiters)), "they are dropped"
        )


def copies_at(node: Node) -> int:
    assert node.daemon is not None
    row = node.daemon.desk.book.store.row("SELECT count(*) AS n FROM party_copies")
    return int(row["n"]) if row else 0


async def test_numbers_that_came_to_nothing_hide_no_contract(net: Net) -> None:
    """Offers that nobody paid for used 120 keys of the seller; its next contract is found all the same."""
    async with market(net, *NAMES) as (buyer, seller, *arbiters):
        for at in range(120):
            wish = purse.NewChannelKey(request_id=f"n{at}", side="payee", nonce=str(at).encode().ljust(32, b"."))
            await seller.wallet.call(purse.PURSE_KEY, wish, "escrowd")
        contract_id = await propose(buyer, seller, arbiters)
        await net.mine_until(lambda: seller.told(Funded), "funded")
        await until(lambda: any(seller.did in by for by in net.records.values()), "copies are kept")
        again = await back(net, seller)
        async with again.running():
            found = await again.call(RESTORE, Empty())
            assert ((*found.restored, *found.known), found.problems) == ((contract_id,), ())
            wish = purse.NewChannelKey(request_id="after", side="payee", nonce=b"a" * 32)
            assert (await again.wallet.call(purse.PURSE_KEY, wish, "escrowd")).index > 120
