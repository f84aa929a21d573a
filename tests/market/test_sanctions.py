"""Who is kept from what: faults prove themselves, cost what the rules say, and an operator's ban binds its own node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.codec import canonical
from common.contracts import registry
from common.contracts.base import EventsSince
from common.contracts.peer_registry import TOPIC_STANDING
from common.contracts.registry import ListNodes, NodeName
from common.contracts.registry_standing import (
    BadFaultProof,
    BadSanction,
    Ban,
    FaultsAsked,
    NotSanctioned,
    ReportFault,
    SanctionsAsked,
    Unban,
)
from common.identity.ecvrf import PROOF_BYTES
from common.identity.purposes import Purpose
from common.receipts import Attested
from common.rpc.client import LocalClient
from common.standing import AuditVerdict, BenchmarkResult, FaultProof, Kind, Note
from common.units import FLOP, BlockHeight, Did, Florins, UnixMs
from dux_registryd.daemon import RegistryDaemon
from dux_registryd.fault_rules import DAY_MS, NO_PENALTY, Contradiction, contradiction, penalty_of
from dux_registryd.model import Presence, State
from dux_registryd.reputation_rules import score_of, weigh
from dux_registryd.sanction_rules import by_rules, causes_of, in_force, may_be_listed, may_serve, worst
from tests.attacks.registry import attack
from tests.market.fakes import FakeNet, attest, did_number, running, until
from tests.market.makers import NETWORK, NOW_MS, TAX_BPS, heartbeat, node, receipt
from tests.market.test_registryd import QUICK, gossip, register
from tests.market.test_reputation_rules import settled

DAY = DAY_MS


def beats(number: int, **changes: Any) -> tuple[Attested, Attested]:
    """Two heartbeats of a node at one moment with different loads."""
    one = heartbeat(did=did_number(number), **changes)
    other = heartbeat(did=did_number(number), **changes | {"cpu_available": 99})
    return attest(number, Purpose.HEARTBEAT, one), attest(number, Purpose.HEARTBEAT, other)


def proof(number: int, **changes: Any) -> Note:
    one, other = beats(number, **changes)
    return Note(Kind.FAULT, canonical(FaultProof("heartbeat", canonical(one), canonical(other))))


@attack(
    "registry",
    tries="signs two words at one place: heartbeats, descriptions, receipts",
    meets="a fault that proves itself",
)
def test_two_words_at_one_place_are_a_fault() -> None:
    """Heartbeats and descriptions of one moment, money told twice of one payment; a receipt's height may move."""
    one, other = beats(3)
    found = contradiction("heartbeat", one, other)
    assert isinstance(found, Contradiction)
    assert (found.signer, found.claim, found.at_ms) == (did_number(3), "heartbeat", NOW_MS)
    made = node(did=did_number(3))
    told = [attest(3, Purpose.REGISTRATION, node(did=did_number(3), hostname=name)) for name in ("a", "b")]
    assert isinstance(contradiction("node", *told), Contradiction)
    assert isinstance(contradiction("node", attest(3, Purpose.REGISTRATION, made), told[0]), Contradiction)

    def paid(**changes: Any) -> Attested:
        fields = {"buyer": did_number(2), "seller": did_number(3), "signer": did_number(3)}
        return attest(3, Purpose.SETTLED_RECEIPT, receipt(**fields | changes))

    cheaper = paid(gross_florins=Florins(500_000_000), tax_florins=Florins(25_000_000))
    assert isinstance(contradiction("receipt", paid(), cheaper), Contradiction)
    for harmless in (paid(height=105), paid(output_hash=b"\x01" * 32), paid(txid="ee" * 32), paid(cid=b"\x09" * 32)):
        assert isinstance(contradiction("receipt", paid(), harmless), str)


def test_two_figures_or_two_verdicts_of_one_hand_are_a_fault() -> None:
    """A challenger measures a node once a period, an auditor judges an audit once."""
    figures = BenchmarkResult(
        network=NETWORK, period=1, beacon=b"\x01" * 32, target=did_number(1), prober=did_number(3), cpu_single=1_000,
        cpu_all=8_000, memory_mb=256, disk_mb=256, up_kbps=9, down_kbps=9, rtt_ms=3, failed="", at_ms=UnixMs(NOW_MS),
        proof=bytes(PROOF_BYTES),
    )  # fmt: skip
    one, other, next_period = (
        attest(3, Purpose.BENCHMARK, replace(figures, **more)) for more in ({}, {"cpu_all": 1}, {"period": 2})
    )
    assert isinstance(contradiction("benchmark", one, other), Contradiction)
    assert isinstance(contradiction("benchmark", one, next_period), str)
    judged = AuditVerdict(
        network=NETWORK, audit=b"\x02" * 32, auditor=did_number(3), passed=True, reason="", height=BlockHeight(5),
        at_ms=UnixMs(NOW_MS),
    )  # fmt: skip
    yes, no, elsewhere = (
        attest(3, Purpose.AUDIT_VERDICT, replace(judged, **more))
        for more in ({}, {"passed": False}, {"audit": b"3" * 32})
    )
    assert isinstance(contradiction("verdict", yes, no), Contradiction)
    assert isinstance(contradiction("verdict", yes, elsewhere), str)


@attack("registry", tries="accuses with what is no fault: the same twice, two signers, junk", meets="proves nothing")
def test_what_proves_nothing() -> None:
    """The same twice, two moments, two signers, an unknown claim, another kind of thing, junk."""
    one, other = beats(3)
    later = attest(3, Purpose.HEARTBEAT, heartbeat(did=did_number(3), at_ms=NOW_MS + 1))
    theirs = attest(4, Purpose.HEARTBEAT, heartbeat(did=did_number(4)))
    stolen = attest(4, Purpose.HEARTBEAT, heartbeat(did=did_number(3), cpu_available=99))
    junk = Attested(body=b"junk", did=did_number(3), key_seq=0, signature=b"\x00" * 64)
    for claim, pair in (
        ("heartbeat", (one, one)),
        ("heartbeat", (one, later)),
        ("heartbeat", (one, theirs)),
        ("heartbeat", (one, stolen)),
        ("heartbeat", (one, junk)),
        ("node", (one, other)),
        ("weather", (one, other)),
    ):
        assert isinstance(contradiction(claim, *pair), str)


def test_the_first_costs_tiers_the_second_months_the_third_the_name() -> None:
    """Two tiers and half of what was earned before for 180 days; again within 180 days 90 days off; three: out."""
    now = 1_000 * DAY
    assert penalty_of((), now) == NO_PENALTY
    assert penalty_of((now + 1,), now) == NO_PENALTY
    first = penalty_of((now - 10 * DAY,), now)
    assert (first.tiers_down, first.halved_days, first.suspended_until_ms, first.banned) == (2, (10,), 0, False)
    old = penalty_of((now - 181 * DAY,), now)
    assert (old.tiers_down, old.halved_days) == (0, (181,))
    second = penalty_of((now - 10 * DAY, now - 190 * DAY), now)
    assert second.suspended_until_ms == now + 80 * DAY
    apart = penalty_of((now - 10 * DAY, now - 191 * DAY), now)
    assert (apart.suspended_until_ms, apart.banned) == (0, False)
    assert penalty_of((now - 10 * DAY, now - 400 * DAY, now - 800 * DAY), now).banned


@given(st.lists(st.integers(0, 999), max_size=5))
def test_the_order_in_which_faults_come_to_light_changes_nothing(days: list[int]) -> None:
    """What a fault costs follows from when it was committed."""
    now = 1_000 * DAY
    moments = [day * DAY for day in days]
    assert penalty_of(moments, now) == penalty_of(sorted(moments, reverse=True), now)


def test_a_fault_halves_what_was_earned_before_it_and_lowers_the_tier() -> None:
    """Older work counts half, younger whole; tier 3 becomes 1, tier 1 stays; a ban takes the last."""
    tip, present = 1_440 * 400, Presence(days_known=400, days_witnessed=60, days_good=60)
    work = [weigh(settled(120 * FLOP, price=120 * FLOP, height=tip - 1_440 * age), tip, TAX_BPS) for age in (5, 20)]
    now = 1_000 * DAY
    clean, faulty = score_of(work, present), score_of(work, present, penalty=penalty_of((now - 10 * DAY,), now))
    young, old = int(work[0].good_florins), int(work[1].good_florins)
    assert (clean.good_florins, faulty.good_florins) == (young + old, young + old // 2)
    assert (clean.trade_tier, faulty.trade_tier) == (2, 1)
    third = penalty_of((now - 1, now - 2, now - 3), now)
    assert score_of(work, present, penalty=third).trade_tier == 0


def test_what_each_state_keeps_from_a_node() -> None:
    """Banned and suspended nodes stand on no list; those relieved or frozen only do no duty."""
    did, now = Did("did:dux:x"), 1_000 * DAY

    def states(*faults: int, low_by: str = "", silent_days: int = 0) -> list[State]:
        heard = now - silent_days * DAY
        return [one.state for one in by_rules(did, penalty_of(faults, now), low_by=low_by, heard_ms=heard, now_ms=now)]

    assert states() == states(now) == []
    assert states(now - 1, now) == [State.SUSPENDED]
    assert states(now - 2, now - 1, now) == [State.BANNED]
    assert states(low_by="lost contracts") == [State.RELIEVED]
    assert (states(silent_days=30), states(silent_days=31)) == ([], [State.FROZEN])
    found = by_rules(did, penalty_of((now - 1, now), now), low_by="lost contracts", heard_ms=1, now_ms=now)
    assert worst(found) is State.SUSPENDED
    assert not may_be_listed(found)
    low = by_rules(did, NO_PENALTY, low_by="a failed audit", heard_ms=now, now_ms=now)
    assert low[0].reason == "its standing is below 1, with a failed audit on its books"
    assert may_be_listed(low)
    assert not may_serve(low)
    ended = found[0]
    assert in_force([ended], (ended.until_ms or 0) - 1)
    assert not in_force([ended], ended.until_ms or 0)


@pytest.mark.parametrize(
    ("bad", "by_audits", "words"),
    [(5, 0, "lost contracts"), (5, 5, "a failed audit"), (6, 5, "lost contracts and a failed audit")],
)
def test_who_does_no_duty_is_told_by_what(bad: int, by_audits: int, words: str) -> None:
    """A node that lost no contract is not told that it did."""
    assert causes_of(bad, by_audits) == words


# whole daemons


async def sanctions(client: LocalClient, number: int = 0) -> list[tuple[str, str, str]]:
    asked = SanctionsAsked(node_id=did_number(number) if number else "")
    found = (await client.call(registry.NODE_SANCTIONS, asked)).sanctions
    return [(one.node_id, one.state, one.set_by) for one in found]


async def test_an_operators_ban_binds_its_own_node_until_it_ends(tmp_path: Path) -> None:
    """p2pd is told, lists and draws leave the node out, events say so; elsewhere nothing changes; it ends by itself."""
    net = FakeNet()
    async with (
        running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one,
        running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two,
    ):
        for number, client in ((1, one), (2, two)):
            await client.call(registry.NODE_REGISTER, register(hostname=f"n{number}"))
        await until(lambda: _listed(one, 2))
        wish = Ban(request_id="b", node_id=did_number(2), reason="sends junk", evidence="log", days=2.0)
        view = await one.call(registry.NODE_BAN, wish)
        assert (view.state, view.set_by, view.until) == ("banned", "operator", "2026-09-23T14:13:20Z")
        assert await one.call(registry.NODE_BAN, wish) == view
        await until(lambda: did_number(2) in net.node(1).refused)
        assert await sanctions(one, 2) == await sanctions(one) == [(did_number(2), "banned", "operator")]
        assert await sanctions(two, 2) == []
        assert not await _listed(one, 2)
        only = (await one.call(registry.NODE_LIST, ListNodes(sanctioned="only"))).nodes
        assert [(node.node_id, node.sanction) for node in only] == [(did_number(2), "banned")]
        assert (await one.call(registry.NODE_LIST, ListNodes(sanctioned="shown"))).total == 2
        assert (await one.call(registry.NODE_FIND, registry.FindNodes(capabilities=("gpu_declared",)))).total == 1
        told = await one.call(registry.REPUTATION_GET, NodeName(node_id=did_number(2)))
        assert (told.duties, told.sanctions[0].reason) == ((), "sends junk")
        for reason, node_id in (("own", did_number(1)), ("form", "did:dux:x")):
            with pytest.raises(BadSanction):
                await one.call(registry.NODE_BAN, Ban(request_id=reason, node_id=node_id, reason="r"))
        with pytest.raises(NotSanctioned):
            await two.call(registry.NODE_UNBAN, Unban(request_id="u", node_id=did_number(1)))
        net.clock.advance(2 * 86_400 + 1)
        assert await sanctions(one, 2) == []
        longer = Ban(request_id="c", node_id=did_number(2), reason="r", state="suspended", days=None)
        assert (await one.call(registry.NODE_BAN, longer)).until == ""
        await until(lambda: _kinds(one, ["NodeSanctioned", "NodeSanctioned"]))
        await until(lambda: net.node(1).refused == {})
        await one.call(registry.NODE_UNBAN, Unban(request_id="u", node_id=did_number(2)))
        await until(lambda: _kinds(one, ["NodeSanctioned", "NodeSanctioned", "NodeFreed"]))


async def _listed(client: LocalClient, number: int) -> bool:
    found = (await client.call(registry.NODE_LIST, ListNodes())).nodes
    return did_number(number) in {view.node_id for view in found}


async def _kinds(client: LocalClient, wanted: list[str]) -> bool:
    page = await client.call(registry.REGISTRY_EVENTS, EventsSince())
    return [event.kind for event in page.events if event.kind in ("NodeSanctioned", "NodeFreed")] == wanted


@attack("registry", tries="forged proofs of faults, by gossip", meets="refused; true ones reach everybody")
async def test_a_proven_fault_reaches_everybody_and_three_end_a_name(tmp_path: Path) -> None:
    """Handed in at one node, verified at the other, kept, told, asked for by who was away; forged ones are refused."""
    net = FakeNet()
    async with (
        running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one,
        running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two,
    ):
        for count, changes in enumerate(({}, {"at_ms": NOW_MS - 1}, {"at_ms": NOW_MS - 2}), start=1):
            pair = [canonical(beat) for beat in beats(5, **changes)]
            wish = ReportFault(request_id=f"f{count}", claim="heartbeat", one=pair[0], other=pair[1])
            view = await one.call(registry.FAULT_REPORT, wish)
            assert (view.node_id, view.claim) == (did_number(5), "heartbeat")
            assert await one.call(registry.FAULT_REPORT, wish) == view
            await until(lambda count=count: _proven(two, count))
            state = {1: [], 2: ["suspended"], 3: ["banned"]}[count]
            assert [found[1] for found in await sanctions(two, 5)] == state
        await until(lambda: did_number(5) in net.node(2).refused)
        forged = beats(6)[0], attest(7, Purpose.HEARTBEAT, heartbeat(did=did_number(6), cpu_available=99))
        forged = forged[0], Attested(body=forged[1].body, did=did_number(6), key_seq=0, signature=forged[1].signature)
        parts = [canonical(beat) for beat in forged]
        with pytest.raises(BadFaultProof, match="does not verify"):
            await one.call(
                registry.FAULT_REPORT, ReportFault(request_id="x", claim="heartbeat", one=parts[0], other=parts[1])
            )
        with pytest.raises(BadFaultProof, match="say the same"):
            await one.call(
                registry.FAULT_REPORT, ReportFault(request_id="y", claim="heartbeat", one=parts[0], other=parts[0])
            )
        target = net.node(2)
        assert await gossip(target, TOPIC_STANDING.name, canonical(proof(5))) == "ignore"
        late = proof(6, at_ms=net.clock.unix_ms() + 10_000_000)
        assert await gossip(target, TOPIC_STANDING.name, canonical(late)) == "ignore"
        unknown = Note(Kind.SERVICE, b"junk")
        assert await gossip(target, TOPIC_STANDING.name, canonical(unknown)) in ("ignore", "reject")
        async with running(net.node(3), RegistryDaemon, tmp_path, **QUICK) as three:
            await until(lambda: _proven(three, 3))


async def _proven(client: LocalClient, count: int) -> bool:
    return len((await client.call(registry.FAULTS, FaultsAsked(node_id=did_number(5)))).faults) == count


@attack("registry", tries="frames an owner with a key that a recovery has stopped", meets="proves nothing of the name")
async def test_a_proof_by_a_stopped_key_speaks_against_the_key_and_not_against_the_name(tmp_path: Path) -> None:
    """Two words under the old key, first shown after the recovery, prove nothing; what was proven before it stays."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        here = net.node(1)
        assert await gossip(here, TOPIC_STANDING.name, canonical(proof(5))) == "accept"
        for number in (5, 6):
            net.node(number).change_key(recovered=True)
        assert await _proven(one, 1)
        framed = proof(6)
        assert await gossip(here, TOPIC_STANDING.name, canonical(framed)) == "ignore"
        assert await gossip(here, TOPIC_STANDING.name, canonical(proof(5, at_ms=NOW_MS - 1))) == "ignore"
        pair = [canonical(beat) for beat in beats(6)]
        with pytest.raises(BadFaultProof, match="a thief may have signed both"):
            await one.call(
                registry.FAULT_REPORT, ReportFault(request_id="t", claim="heartbeat", one=pair[0], other=pair[1])
            )
        assert await sanctions(one, 6) == []
        assert await _proven(one, 1)


async def test_a_fault_counts_once_two_networks_have_told_of_its_signer(tmp_path: Path) -> None:
    """Too few sources: the proof waits until it is told again, and says so; nobody is asked about a forged one."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        net.unconfirmed = {did_number(5)}
        assert await gossip(net.node(1), TOPIC_STANDING.name, canonical(proof(5))) == "ignore"
        pair = [canonical(beat) for beat in beats(5)]
        with pytest.raises(BadFaultProof, match="Only 1 of 2 independent nodes"):
            await one.call(
                registry.FAULT_REPORT, ReportFault(request_id="t", claim="heartbeat", one=pair[0], other=pair[1])
            )
        net.unconfirmed = set()
        assert await gossip(net.node(1), TOPIC_STANDING.name, canonical(proof(5))) == "accept"
        assert await _proven(one, 1)
        asked = len(net.confirmed)
        true, false = beats(6)
        false = msgspec.structs.replace(false, signature=bytes(64))
        forged = Note(Kind.FAULT, canonical(FaultProof("heartbeat", canonical(true), canonical(false))))
        assert await gossip(net.node(1), TOPIC_STANDING.name, canonical(forged)) == "reject"
        assert len(net.confirmed) == asked
