"""Airdrops among real daemons on a real chain: paid evenly, once, whatever is silent, lying or killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from common.chain.tx import serialize
from common.chain.tx import txid as txid_of
from common.chain.wire import unshown
from common.codec import canonical, from_canonical
from common.contracts import airdrop as ac
from common.contracts.airdrop import Phase
from common.contracts.base import EventsSince, EventView
from common.contracts.p2p import PeerCall
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.peer_airdrop import PROPOSAL, SIGNATURE, ProposalCall, RoundName, SignatureCall
from common.rpc.method import Empty
from common.units import FLOP, Did, Florins
from dux_airdropd import payout_rules, rules
from dux_airdropd.evidence_rules import in_order
from dux_airdropd.model import Proof, Proposal
from dux_sim.chain import audit
from tests.airdrop.conftest import Made
from tests.airdrop.world import World, sign_all

pytestmark = pytest.mark.patient


def prepared(world: World) -> None:
    """All nodes are there, two trades lift the fund over 100 FLOP: nodes 0 to 3 took part, node 4 did not."""
    world.announce(*range(len(world.nodes)))
    world.trade(0, 1)
    world.trade(2, 3)


def check_paid_once(world: World, eligible: int = 4) -> None:
    """The even share arrived at each eligible node, at nobody else, once; coins are conserved."""
    received = [world.paid(number) for number in range(len(world.nodes))]
    assert len(set(received[:eligible])) == 1
    assert received[0] > 0
    assert not any(received[eligible:])
    assert audit.supply_of(world.chain.chain).conserved
    spends = {view.spend.txid for view in world.coins_on(world.fund_script) if view.spend is not None}
    assert len(spends) == 1


async def test_the_fund_goes_out_evenly_and_everybody_can_recompute_it(make: Made) -> None:
    """At 100 FLOP the four nodes that took part get equal shares of all of it, and a bystander's node proves it."""
    world = await make()
    prepared(world)
    await world.run(12)
    check_paid_once(world)
    assert sum(world.paid(n) for n in range(4)) > 99 * FLOP
    for node in world.nodes:
        status = await node.status()
        assert (status.phase, status.number, status.balance_florins) == (Phase.WATCHING, 1, Florins(0))
    bystander = world.nodes[4]
    history = (await bystander.ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops
    assert [(view.number, view.phase, view.eligible) for view in history] == [(0, Phase.PAID, 4)]
    assert history[0].spent_florins == history[0].paid_florins + history[0].fee_florins
    proof = await world.nodes[0].ask(ac.AIRDROP_PROOF, ac.NumberAsked(number=0))
    verdict = await bystander.ask(ac.AIRDROP_VERIFY, ac.VerifyProof(proof=proof.proof))
    assert verdict.valid, verdict.problems
    shares = (await bystander.ask(ac.AIRDROP_SHOW, ac.NumberAsked(number=0))).shares
    assert [share.paid_florins for share in shares] == [Florins(world.paid(n)) for n in range(4)]
    kinds = [event.kind for event in await events(world, 0)]
    assert kinds == ["CutoffReached", "PayoutProposed", "AirdropPaid"]


async def events(world: World, number: int) -> list[EventView]:
    """What a node's airdropd has told."""
    return (await world.nodes[number].ask(ac.AIRDROP_EVENTS, EventsSince())).events


async def test_below_the_threshold_nothing_happens(make: Made) -> None:
    """99.5 FLOP are watched and explained, not paid."""
    world = await make()
    world.announce(*range(5))
    world.trade(0, 1)
    await world.run(10)
    assert not world.signed
    explained = await world.nodes[0].ask(ac.AIRDROP_EXPLAIN, ac.ExplainAsked())
    assert explained.lines == ["The fund holds 99.5 FLOP of the 100 FLOP at which it is handed back."]
    told = await world.nodes[4].ask(ac.AIRDROP_ELIGIBLE, Empty())
    reasons = {item.did: item.reason for item in told.candidates}
    assert reasons[world.nodes[0].did] == ""
    assert reasons[world.nodes[4].did] == "no settled receipt since the last cut-off"
    mine = await world.nodes[4].ask(ac.AIRDROP_EXPLAIN, ac.ExplainAsked(did=world.nodes[4].did))
    assert mine.lines == [f"{world.nodes[4].did} would get nothing: no settled receipt since the last cut-off."]
    yours = await world.nodes[4].ask(ac.AIRDROP_EXPLAIN, ac.ExplainAsked(did=world.nodes[0].did))
    assert "equal share" in yours.lines[0]
    assert "49.7" in yours.lines[1]
    nobody = await world.nodes[4].ask(ac.AIRDROP_EXPLAIN, ac.ExplainAsked(did="did:dux:" + "z" * 52))
    assert "unknown here" in nobody.lines[0]


async def test_with_no_airdrop_under_way_nothing_is_asked_until_a_block_comes(make: Made) -> None:
    """A look costs one question for the tip; only a new block makes it ask for the fund's coins."""
    world = await make()
    await world.run(2)
    node = world.nodes[0]
    before = node.calls
    await node.look()
    assert node.calls - before == 2  # the way there and back
    await world.run(1)
    assert node.calls - before > 4


async def test_evidence_that_one_custodian_alone_holds_counts(make: Made) -> None:
    """A node whose heartbeat and trade only custodian 2 has witnessed is in the union, and paid."""
    world = await make()
    world.announce(0, 1, 2, 3)
    world.announce(4, seen_by=[2])
    world.trade(0, 1)
    world.trade(3, 4, seen_by=[2])
    world.trade(2, 3, gross=4 * FLOP)
    await world.run(12)
    assert world.paid(4) == world.paid(0) > 0


async def test_late_evidence_enters_with_the_next_attempt(make: Made) -> None:
    """When nothing is known of anybody there is no payout; as soon as evidence arrives there is one."""
    world = await make()
    world.announce(*range(5), seen_by=[4])
    world.trade(0, 1, seen_by=[4])
    world.trade(2, 3, seen_by=[4])
    await world.run(7)
    assert not world.signed
    assert "nobody is eligible" in " ".join([(await node.status()).problem for node in world.nodes[:3]])
    late = world.nodes[4]
    for node in world.nodes[:3]:
        node.heartbeats, node.receipts, node.nodes = late.heartbeats, late.receipts, late.nodes
    await world.run(8)
    check_paid_once(world)


async def test_the_network_is_asked_for_the_logs_of_who_is_paid_before_anybody_signs(make: Made) -> None:
    """Planted bug noticed: a node that recovered its name, unheard of here, is paid at a thief's address."""
    world = await make()
    prepared(world)
    world.recovered = {world.nodes[3].did}
    await world.run(12)
    check_paid_once(world, eligible=3)
    proposal = await world.nodes[0].ask(ac.AIRDROP_PROOF, ac.NumberAsked(number=0))
    verdict = await world.nodes[4].ask(ac.AIRDROP_VERIFY, ac.VerifyProof(proof=proposal.proof))
    assert verdict.valid, verdict.problems


async def test_a_node_of_whom_too_few_can_tell_holds_up_nobody(make: Made) -> None:
    """Its log is taken as it is known, and all are paid."""
    world = await make()
    prepared(world)
    world.unconfirmed = {world.nodes[3].did}
    await world.run(12)
    check_paid_once(world)


@pytest.mark.parametrize("silent", [0, 1, 2])
async def test_any_one_custodian_may_be_silent(silent: int, make: Made) -> None:
    """Two of three are enough, whether the silent one would have proposed or signed; it catches up afterwards."""
    world = await make(durable=True)
    prepared(world)
    await world.nodes[silent].stop()
    await world.run(14)
    check_paid_once(world)
    await world.nodes[silent].start()
    await world.run(3)
    status = await world.nodes[silent].status()
    assert (status.number, status.phase) == (1, Phase.WATCHING)
    found = await world.nodes[silent].ask(ac.AIRDROP_PROOF, ac.NumberAsked(number=0))
    others = await world.nodes[(silent + 1) % 3].ask(ac.AIRDROP_PROOF, ac.NumberAsked(number=0))
    assert found == others


async def test_below_m_custodians_nothing_is_paid(make: Made) -> None:
    """One of three cannot pay; when a second returns, it is paid."""
    world = await make(durable=True)
    prepared(world)
    for number in (1, 2):
        await world.nodes[number].stop()
    await world.run(14)
    assert not any(world.paid(number) for number in range(5))
    status = await world.nodes[0].status()
    assert (status.signatures, status.signatures_needed) == (1, 2)
    await world.nodes[2].start()
    await world.run(14)
    check_paid_once(world)


# lies


def reproposed(world: World, change: Callable[[Proposal], Proposal]) -> None:
    """Custodian 0 announces a changed proposal in place of each of its own."""
    liar = world.nodes[0]

    def tamper(sender: Did, call: PeerCall) -> PeerCall:
        if sender != liar.did or call.method != PROPOSAL.name:
            return call
        told = from_canonical(call.params, ProposalCall, max_bytes=4096)
        lie = change(from_canonical(liar.blobs[told.blob], Proposal, max_bytes=10**7))
        data = canonical(lie)
        liar.blobs["lie"] = data
        told = msgspec.structs.replace(told, blob="lie", size_bytes=len(data), proposal_id=rules.proposal_id(lie))
        return msgspec.structs.replace(call, params=canonical(told))

    world.tamper = tamper


def to_thief(proposal: Proposal) -> Proposal:
    """All of the payout to one script."""
    thief = msgspec.structs.replace(proposal.payout.outputs[0], script=b"\x76\xa9\x14" + b"t" * 20 + b"\x88\xac")
    payout = msgspec.structs.replace(proposal.payout, outputs=(thief, *proposal.payout.outputs[1:]))
    return msgspec.structs.replace(proposal, payout=payout)


def without_a_node(proposal: Proposal) -> Proposal:
    """One item of evidence left out (the payout is then not what the rest gives, but the omission is named first)."""
    return msgspec.structs.replace(proposal, items=proposal.items[1:])


def with_forged_item(proposal: Proposal) -> Proposal:
    """One item's signature broken."""
    first = proposal.items[0]
    forged = msgspec.structs.replace(first, data=first.data[:-1] + bytes([first.data[-1] ^ 1]))
    items = in_order([forged, *proposal.items[1:]])
    return msgspec.structs.replace(proposal, items=items)


def for_other_ledger(proposal: Proposal) -> Proposal:
    """A ledger that owes its friend something."""
    owed = payout_rules.ledger_lines({Did("did:dux:" + "z" * 52): 5})
    return msgspec.structs.replace(proposal, ledger=owed)


def for_other_round(proposal: Proposal) -> Proposal:
    """A cut-off of its own choice."""
    return msgspec.structs.replace(proposal, cutoff_height=proposal.cutoff_height - 1)


LIES = [
    (to_thief, "its payout is not what its evidence gives"),
    (without_a_node, "it leaves out 1 items"),
    (with_forged_item, "does not verify"),
    (for_other_ledger, "its carry-over ledger differs"),
    (for_other_round, "it is for another airdrop, or another cut-off"),
]


@pytest.mark.parametrize(("lie", "words"), LIES, ids=[lie.__name__ for lie, _ in LIES])
async def test_a_lying_proposer_gets_no_signature(lie: Callable[[Proposal], Proposal], words: str, make: Made) -> None:
    """Both honest custodians refuse and say why; the next attempt pays what is right."""
    world = await make()
    prepared(world)
    reproposed(world, lie)
    await world.run(16)
    for number in (1, 2):
        verdicts = [
            event.body["own_verdict"] for event in await events(world, number) if event.kind == "PayoutProposed"
        ]
        assert words in verdicts[0]
        assert verdicts[-1] == ""
    right = world_proposal(world)
    wrong = lie(right).payout
    signers = {did for did, payout in world.signed if payout == wrong}
    assert wrong == right.payout or not signers
    check_paid_once(world)


def world_proposal(world: World) -> Proposal:
    """The honest proposal of custodian 0."""
    held = world.nodes[0].daemon.watch._books.proposals(0)
    return next(item.proposal for item in held if item.sender == world.nodes[0].did)


async def test_a_custodian_that_does_not_recompute_would_be_noticed(
    make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug, signing whatever is proposed, makes the thief's payout signed: the test above sees it."""
    world = await make()
    prepared(world)
    reproposed(world, to_thief)
    monkeypatch.setattr(rules, "signing_fault", lambda *_: "")
    await world.run(16)
    wrong = to_thief(world_proposal(world)).payout
    assert {did for did, payout in world.signed if payout == wrong}


async def test_forged_signatures_are_not_kept(make: Made) -> None:
    """A custodian that sends noise as its signatures is refused; the third one's complete the payout."""
    world = await make()
    prepared(world)

    def tamper(sender: Did, call: PeerCall) -> PeerCall:
        if sender != world.nodes[1].did or call.method != SIGNATURE.name:
            return call
        told = from_canonical(call.params, SignatureCall, max_bytes=10_000)
        told = msgspec.structs.replace(told, signatures=tuple(b"\x30\x01" for _ in told.signatures))
        return msgspec.structs.replace(call, params=canonical(told))

    world.tamper = tamper
    await world.run(14)
    check_paid_once(world)


async def test_strangers_take_no_part(make: Made) -> None:
    """A node that is no custodian can neither ask for evidence nor propose, and is told so."""
    world = await make()
    prepared(world)
    await world.run(3)
    mine = world.nodes[0].daemon.watch._books.open_round()
    assert mine is not None
    name = RoundName(mine.number, mine.cutoff_height, mine.cutoff_hash)
    with pytest.raises(PeerAnswered, match="no custodian"):
        await world.nodes[4].daemon.outside.ask_evidence(world.nodes[0].did, name)
    other = msgspec.structs.replace(name, cutoff_hash="00" * 32)
    with pytest.raises(ac.OtherRound):
        await world.nodes[1].daemon.outside.ask_evidence(world.nodes[0].did, other)


# crashes


@pytest.mark.parametrize("victim", [0, 1])
async def test_killed_at_any_call_it_is_still_paid_once(victim: int, make: Made) -> None:
    """A custodian killed before or after each of its calls in turn: every history pays everybody once."""
    plain = await make()
    prepared(plain)
    await plain.run(12)
    check_paid_once(plain)
    calls = plain.nodes[victim].calls
    assert calls > 100
    for at in range(1, calls, max(1, calls // 12)):
        world = await make(durable=True)
        prepared(world)
        world.fuse = (victim, at)
        await world.run(16)
        assert world.nobody_left_to_kill
        check_paid_once(world)


# the chain moves


async def test_a_reorganised_cutoff_starts_anew(make: Made) -> None:
    """When the block of the cut-off leaves the chain, the round is forgotten and found again on the new one."""
    world = await make()
    prepared(world)
    await world.run(2)
    before = await world.nodes[0].status()
    assert before.phase is Phase.GATHERING
    chain = world.chain.chain
    world.chain.exclude(chain.active[before.cutoff_height or 0])
    await world.run(14)
    kinds = [event.kind for event in await events(world, 0)]
    assert "AirdropAbandoned" in kinds
    spends = [view.spend for view in world.coins_on(world.fund_script) if view.spend is not None]
    assert len({spend.txid for spend in spends}) == 1
    assert (await world.nodes[0].ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops[0].phase is Phase.PAID


async def test_a_payout_that_a_deep_fork_brings_back_under_another_id_is_booked_under_that_one(make: Made) -> None:
    """Other custodians' signatures are in the block: everybody's books follow, also those of one who only looks on."""
    world = await make()
    prepared(world)
    await world.run(14)
    before = (await world.nodes[4].ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops[0]
    payout = world.signed[0][1]
    world.chain.exclude(world.chain.chain.active[before.paid_height or 0])
    world.chain.pool.drop_with_descendants(unshown(before.txid))
    twin = next(
        made
        for signers in ((0, 1), (0, 2), (1, 2))
        if txid_of(made := sign_all(payout, [world.nodes[number] for number in signers])) != before.txid
    )
    for node in world.nodes:
        await node.look()
        status = await node.status()
        assert (status.number, status.phase) == (before.number, Phase.PAYING)
    world.broadcast(serialize(twin))
    await world.run(6)
    check_paid_once(world)
    for node in world.nodes:
        after = (await node.ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops
        assert [(view.number, view.phase, view.txid) for view in after] == [(0, Phase.PAID, txid_of(twin))]
        assert (await node.ask(ac.AIRDROP_PROOF, ac.NumberAsked(number=0))).txid == txid_of(twin)
    kinds = [event.kind for event in await events(world, 4)]
    assert kinds[-3:] == ["AirdropPaid", "AirdropReopened", "AirdropPaid"]


async def test_what_followed_a_payout_that_is_gone_is_forgotten_with_it(make: Made) -> None:
    """The ledger goes back to what it was, and a later airdrop that had begun on the lost change is begun anew."""
    world = await make(fund=3 * FLOP // 10, threshold_florins=Florins(35 * FLOP // 100))
    world.announce(*range(5))
    world.trade(0, 1, gross=FLOP)
    await world.run(12)
    first = (await world.nodes[0].ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops[0]
    world.announce(*range(5))
    world.trade(0, 1, gross=4 * FLOP)
    world.trade(2, 3, gross=4 * FLOP)
    await world.run(2)
    assert (await world.nodes[0].status()).phase is not Phase.WATCHING
    world.chain.exclude(world.chain.chain.active[first.paid_height or 0])
    await world.nodes[4].look()
    assert (await world.nodes[4].status()).phase is Phase.PAYING
    assert [view.number for view in (await world.nodes[4].ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops] == [0]
    await world.run(rules.LAPSE_BLOCKS)  # what was traded in the lost blocks is no evidence any more
    world.announce(*range(5))
    world.trade(0, 1, gross=4 * FLOP)
    world.trade(2, 3, gross=4 * FLOP)
    await world.run(20)
    history = (await world.nodes[4].ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops
    assert [view.phase for view in history if view.phase is not Phase.ABANDONED] == [Phase.PAID, Phase.PAID]
    assert len({view.txid for view in history if view.phase is Phase.PAID}) == 2
    assert audit.supply_of(world.chain.chain).conserved


async def test_airdrops_follow_each_other(make: Made) -> None:
    """Two airdrops follow each other, each on the evidence since the one before."""
    world = await make(fund=3 * FLOP // 10, threshold_florins=Florins(35 * FLOP // 100))
    world.announce(*range(5))
    world.trade(0, 1, gross=FLOP)
    await world.run(12)
    check_paid_once(world, eligible=2)
    assert (await world.nodes[0].status()).number == 1
    world.announce(*range(5))
    world.trade(0, 1, gross=4 * FLOP)
    world.trade(2, 3, gross=4 * FLOP)
    await world.run(14)
    history = (await world.nodes[4].ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops
    assert [view.number for view in history] == [1, 0]
    assert audit.supply_of(world.chain.chain).conserved


async def test_a_foreign_spend_of_the_fund_ends_the_round(make: Made) -> None:
    """Coins spent for something that nobody can prove: the round is abandoned, and the next cut-off decides."""
    world = await make()
    prepared(world)
    await world.run(2)
    other = world.spend_fund()
    world.tamper = refuse_all
    await world.run(4)
    assert world.tx_view(other).height is not None
    assert (await world.nodes[0].status()).phase is not Phase.WATCHING
    await world.run(rules.FORGET_FOREIGN_BLOCKS + 2)
    status = await world.nodes[0].status()
    assert (status.phase, status.number) == (Phase.WATCHING, 1)
    history = (await world.nodes[0].ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops
    assert history[0].phase is Phase.ABANDONED


async def test_a_cut_off_from_which_nobody_can_be_paid_lapses_and_a_later_one_pays(make: Made) -> None:
    """The fund is full before anybody has traded: it is not stuck, on custodians and others alike."""
    world = await make(fund=101 * FLOP)
    world.announce(*range(5))
    await world.run(20)
    status = await world.nodes[0].status()
    assert (status.phase, status.number) == (Phase.GATHERING, 0)
    world.announce(*range(5))
    world.trade(2, 3)
    world.trade(0, 1)
    await world.run(rules.LAPSE_BLOCKS)
    world.announce(*range(5))
    await world.run(20)
    for node in (world.nodes[0], world.nodes[4]):
        history = (await node.ask(ac.AIRDROP_HISTORY, ac.HistoryAsked())).airdrops
        assert [(view.number, view.phase) for view in history] == [(1, Phase.PAID), (0, Phase.ABANDONED)]
    assert min(world.paid(number) for number in range(4)) > 0
    assert len([payout for _, payout in world.signed]) <= len(world.nodes)
    assert audit.supply_of(world.chain.chain).conserved


def refuse_all(_sender: Did, call: PeerCall) -> PeerCall:
    """No peer call says anything useful."""
    return msgspec.structs.replace(call, params=b"\xc0")


# asked for what is not there


async def test_questions_about_unknown_airdrops_say_what_to_do(make: Made) -> None:
    """An unknown number, a proof that is not ready, noise for a proof: each its own error."""
    world = await make()
    prepared(world)
    await world.run(2)
    node = world.nodes[0]
    with pytest.raises(ac.NoSuchAirdrop, match="lists those there are"):
        await node.ask(ac.AIRDROP_SHOW, ac.NumberAsked(number=7))
    with pytest.raises(ac.ProofNotReady, match="gathering"):
        await node.ask(ac.AIRDROP_PROOF, ac.NumberAsked(number=0))
    with pytest.raises(ac.BadProof, match="no proof"):
        await node.ask(ac.AIRDROP_VERIFY, ac.VerifyProof(proof=b"\x00"))
    lines = (await node.ask(ac.AIRDROP_EXPLAIN, ac.ExplainAsked())).lines
    assert "Custodians exchange evidence until height" in lines[1]
    assert (await node.ask(ac.AIRDROP_LEDGER, Empty())).owed_florins == {}


async def test_changed_proofs_are_found_out(make: Made) -> None:
    """A proof with another payout, another transaction or another height is not valid; an unknown one waits."""
    world = await make()
    prepared(world)
    await world.run(12)
    node = world.nodes[4]
    data = (await node.ask(ac.AIRDROP_PROOF, ac.NumberAsked(number=0))).proof
    proof = from_canonical(data, Proof, max_bytes=10**7)
    change = msgspec.structs.replace
    lies = [
        (change(proof, proposal=to_thief(proof.proposal)), "its payout is not what its evidence gives"),
        (change(proof, txid="ab" * 32), "the chain does not show its transaction"),
        (change(proof, paid_height=proof.paid_height + 1), "its transaction is at height"),
        (change(proof, proposal=without_a_node(proof.proposal)), ""),
        (change(proof, proposal=change(proof.proposal, number=5)), "have not come to airdrop 5"),
        (change(proof, proposal=change(proof.proposal, network="00" * 32)), "another network"),
    ]
    for lie, words in lies:
        verdict = await node.ask(ac.AIRDROP_VERIFY, ac.VerifyProof(proof=canonical(lie)))
        assert not verdict.valid
        assert words in " ".join(verdict.problems), verdict.problems


async def test_late_progress_is_explained(make: Made) -> None:
    """While custodians sign, and while the payment is shallow, people are told so."""
    world = await make()
    prepared(world)
    seen: list[str] = []
    for _ in range(10):
        await world.run(1)
        seen += (await world.nodes[0].ask(ac.AIRDROP_EXPLAIN, ac.ExplainAsked())).lines
    assert any("propose and sign payouts; 2 of 3" in line for line in seen)
    assert any("has to lie 2 blocks deep" in line for line in seen)


async def test_main_is_refused_at_start(tmp_path: Path) -> None:
    """Rule `full` on main does not start, and says which rule main needs."""
    world = World(tmp_path)
    world.network = msgspec.structs.replace(world.network, name="main")
    with pytest.raises(ac.RuleRefused, match="main needs 'bonded'"):
        await world.nodes[0].start()
