"""The rules of gossip without a network: meshes, scores, memory, and the order of the checks."""

from __future__ import annotations

import asyncio
import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from common.randomness import SeededRandomness
from common.units import Did
from dux_p2pd import gossip_flow
from dux_p2pd import gossip_limits as limits
from dux_p2pd.gossip_flow import Outflow
from dux_p2pd.gossip_intake import BEFORE_THE_SIGNATURE, THE_SIGNATURE, Fault, Intake, Rates
from dux_p2pd.gossip_memory import Keepsakes, Seen, Wants
from dux_p2pd.gossip_mesh import Meshes
from dux_p2pd.gossip_score import Conduct, Conducts
from dux_p2pd.mesh_rules import (
    Neighbour,
    graft_fault,
    to_graft,
    to_graft_for_more,
    to_prune,
    wants_grafting,
    wants_pruning,
)
from tests.p2pd.wire_kit import virtually

if TYPE_CHECKING:
    from dux_p2pd.peers import PeerBook

NETS = ("10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24")


def neighbour(number: int, *, score: float = 0.0, outbound: bool = False, net: str = "") -> Neighbour:
    return Neighbour(Did(f"did:{number}"), score, outbound, net or f"net {number}")


NEIGHBOURS = st.lists(st.tuples(st.integers(-5, 5), st.booleans(), st.sampled_from(NETS)), max_size=30).map(
    lambda drawn: [neighbour(i, score=s, outbound=o, net=n) for i, (s, o, n) in enumerate(drawn)]
)


@given(NEIGHBOURS)
def test_a_mesh_that_is_pruned_has_its_size_and_its_outbound_members(members: list[Neighbour]) -> None:
    """Nobody below zero stays; of too many the wanted number stays, and the quota of those we dialled."""
    gone = set(to_prune(members))
    kept = [one for one in members if one.did not in gone]
    good = [one for one in members if one.score >= 0]
    assert all(one.score >= 0 for one in kept)
    assert len(kept) == (len(good) if len(good) <= limits.MESH_HIGH else limits.MESH_WANTED)
    assert sum(one.outbound for one in kept) >= min(limits.MESH_OUTBOUND, sum(one.outbound for one in good))


@given(NEIGHBOURS, st.integers(0, 12))
def test_who_is_grafted_is_good_new_and_no_more_than_wanted(drawn: list[Neighbour], inside: int) -> None:
    """A mesh with enough members takes in nobody, but for the outbound ones that are missing."""
    members, others = drawn[:inside], drawn[inside:]
    chosen = to_graft(members, others)
    by_did = {one.did: one for one in others}
    assert len(set(chosen)) == len(chosen)
    assert all(by_did[did].score >= 0 for did in chosen)
    if len(members) >= limits.MESH_LOW:
        assert all(by_did[did].outbound for did in chosen)
    assert len(chosen) <= limits.GRAFTS_PER_BEAT + limits.MESH_OUTBOUND


def test_sybils_that_dial_us_never_fill_a_mesh() -> None:
    """A hundred inbound nodes of two nets graft: there is an end to it, and outbound ones are grafted beside."""
    members: list[Neighbour] = []
    for number in range(100):
        one = neighbour(number, net=NETS[number % 2])
        if graft_fault(one, members, in_backoff=False) is None:
            members.append(one)
    assert len(members) <= limits.MESH_WANTED
    honest = [neighbour(900 + number, outbound=True) for number in range(4)]
    assert len(to_graft(members, honest)) == limits.MESH_OUTBOUND
    assert graft_fault(honest[0], members * 3, in_backoff=False) is None


@pytest.mark.parametrize(
    ("asker", "inside", "in_backoff", "taken"),
    [
        (neighbour(99), 0, False, True),
        (neighbour(99), 0, True, False),
        (neighbour(99, score=-1), 0, False, False),
        (neighbour(99), limits.MESH_HIGH, False, False),
        (neighbour(99, outbound=True), limits.MESH_HIGH, False, True),
    ],
)
def test_a_graft_is_taken_or_refused(asker: Neighbour, inside: int, in_backoff: bool, taken: bool) -> None:  # noqa: FBT001
    """Back-off, a score below zero and a full mesh refuse; who we dialled finds room."""
    members = [neighbour(number) for number in range(inside)]
    assert (graft_fault(asker, members, in_backoff=in_backoff) is None) is taken


def test_a_mesh_that_gives_little_takes_in_who_gave_more() -> None:
    """Silent members cannot keep a mesh to themselves; among equals nothing changes."""
    members = [neighbour(number) for number in range(8)]
    giving, silent = neighbour(50, score=2.0), neighbour(51)
    assert to_graft_for_more(members, [silent, giving]) == [giving.did]
    assert to_graft_for_more(members, [silent]) == []
    assert to_graft_for_more([neighbour(1, score=3.0)], [giving]) == []


def test_twenty_invalid_messages_in_a_minute_are_the_graylist() -> None:
    """Nineteen are not; time alone brings a neighbour back; leaving and coming back wipes nothing out."""
    conducts = Conducts()
    for number in range(20):
        assert conducts.of("x", 0.0).score(number * 3.0) > limits.GRAYLIST_AT
        conducts.of("x", 0.0).gave_invalid(f"topic {number % 3}", number * 3.0)
    assert conducts.of("x", 60.0).score(60.0) < limits.GRAYLIST_AT
    assert conducts.of("x", 60.0).score(60.0 + 60.0) > limits.GRAYLIST_AT
    assert conducts.of("x", 0.0).score(3600.0 * 3) > limits.GOSSIP_AT


def test_what_was_given_on_one_topic_does_not_excuse_another() -> None:
    """The credit of a topic counts in that topic's mesh alone; blame counts everywhere."""
    conduct = Conduct(0.0)
    for _ in range(100):
        conduct.gave_first("a", 0.0)
    assert conduct.score_on("a", 0.0) == pytest.approx(limits.FIRST_WEIGHT * limits.FIRST_MAX)
    assert conduct.score_on("b", 0.0) == pytest.approx(0.0)
    for _ in range(3):
        conduct.gave_invalid("b", 0.0)
    assert conduct.score_on("a", 0.0) < limits.FIRST_WEIGHT * limits.FIRST_MAX
    assert conduct.score_on("b", 0.0) < 0


def test_some_breaches_are_free_and_many_are_not() -> None:
    """A lost message or a race breaks a rule now and then."""
    conduct = Conduct(0.0)
    for _ in range(3):
        conduct.broke_rule(0.0)
    assert conduct.score(0.0) == 0.0
    for _ in range(4):
        conduct.broke_rule(0.0)
    assert conduct.score(0.0) < limits.GOSSIP_AT


def test_seen_ids_are_forgotten_by_time_and_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither may grow for ever; within both an id stays."""
    monkeypatch.setattr("dux_p2pd.gossip_memory.SEEN_MAX", 10)
    seen = Seen()
    for number in range(15):
        seen.mark(bytes([number]), float(number))
    assert len(seen) == 10
    assert b"\x0e" in seen
    assert b"\x00" not in seen
    seen.mark(b"late", limits.SEEN_S + 14.5)
    assert len(seen) == 1


def test_kept_messages_are_bounded_and_told_at_two_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes and age bound them; each id is told twice and then no more."""
    monkeypatch.setattr("dux_p2pd.gossip_memory.KEPT_BYTES_MAX", 1000)
    kept = Keepsakes()
    for number in range(15):
        kept.put(bytes([number]), "t", bytes(100), 1.0)
    assert kept.find(b"\x00") is None
    assert kept.find(b"\x0e") is not None
    assert [len(kept.turn().get("t", [])) for _ in range(3)] == [15, 15, 0]
    kept.put(b"new", "t", b"", 1.0 + limits.KEPT_S + 1)
    assert kept.all_since(0.0) == {"t": [b"new"]}


def test_a_wanted_message_is_asked_of_one_at_a_time() -> None:
    """The next one is asked when the first did not give it; who lied is named once per id."""
    wants, one, two = Wants(), Did("one"), Did("two")
    assert wants.offered(b"x", one, 0.0)
    assert not wants.offered(b"x", two, 0.5)
    assert wants.late(1.0) == []
    assert wants.late(limits.WANT_S + 0.1) == [(b"x", one, two)]
    assert wants.late(2 * limits.WANT_S + 0.2) == [(b"x", two, None)]
    assert len(wants) == 0


def test_what_is_wanted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offers beyond the limit are not followed."""
    monkeypatch.setattr("dux_p2pd.gossip_memory.WANTED_MAX", 3)
    wants = Wants()
    assert [wants.offered(bytes([n]), Did("x"), 0.0) for n in range(5)] == [True, True, True, False, False]


def test_rates_are_per_name_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One name's flood leaves the others alone; of too many names the oldest is forgotten."""
    monkeypatch.setattr("dux_p2pd.gossip_intake.PEERS_REMEMBERED", 4)
    rates = Rates()
    taken = sum(rates.take("flood", "t", 1.0, 0.0) for _ in range(100))
    assert taken == 10
    assert rates.take("other", "t", 1.0, 0.0)
    for number in range(10):
        rates.take(str(number), "t", 1.0, 0.0)
    assert len(rates._buckets) == 4


def test_the_checks_stand_in_the_order_of_the_design() -> None:
    """Size, topic, the neighbour's bucket, seen, age, stamp, key, signature; what follows a fault is not looked at.

    Source: transport_identity.md §3.3.
    """
    assert [fault for fault, _ in BEFORE_THE_SIGNATURE] == [Fault.SEEN, Fault.AGE, Fault.FORM, Fault.STAMP]
    assert [fault for fault, _ in THE_SIGNATURE] == [Fault.SEEN, Fault.KEY, Fault.VERIFICATION_RATE, Fault.SIGNATURE]
    source = inspect.getsource(Intake.look)
    marks = ["ENVELOPE_BYTES_MAX", "_topics", "neighbour_per_s", "message_id(", "BEFORE_THE_SIGNATURE"]
    assert sorted(marks, key=source.index) == marks
    asked: list[str] = []

    def check(name: str, outcome: bool) -> Any:  # noqa: FBT001
        return lambda _intake, _message: asked.append(name) or outcome

    checks: Any = ((Fault.SEEN, check("a", False)), (Fault.AGE, check("b", True)), (Fault.STAMP, check("c", True)))
    assert Intake._first(None, checks, None) is Fault.AGE  # type: ignore[arg-type]
    assert asked == ["a", "b"]


async def test_an_offer_is_remembered_no_longer_than_its_message_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """By time in a quiet network, by count in a busy one: what a neighbour costs does not grow with its age."""
    flow = Outflow(Did("did:1"), cast("PeerBook", None), (), structlog.get_logger(), {})
    flow.owe("t", [bytes([number]) for number in range(3)])
    flow.pay(0.0)
    flow.owe("t", [b"late"])
    flow.pay(limits.KEPT_S)
    assert flow.may_ask(bytes([0]))
    flow.owe("t", [b"later"])
    flow.pay(limits.KEPT_S + 1)
    assert not flow.may_ask(bytes([1]))
    assert not flow.may_ask(bytes([2]))
    assert flow.may_ask(b"late")
    monkeypatch.setattr(gossip_flow, "OFFERED_MAX", 2)
    flow.owe("t", [b"1", b"2"])
    flow.pay(limits.KEPT_S + 2)
    assert not flow.may_ask(b"later")
    assert flow.may_ask(b"2")


def test_who_offers_twice_is_remembered_once() -> None:
    """An id that is waited for keeps a few others who have it, never the one who was asked."""
    wants = Wants()
    assert wants.offered(b"id", Did("asked"), 0.0)
    for by in ("asked", "a", "a", *(f"b{number}" for number in range(limits.OFFERERS_MAX))):
        assert not wants.offered(b"id", Did(by), 1.0)
    assert wants._wants[b"id"].others == [Did("a"), *(Did(f"b{number}") for number in range(limits.OFFERERS_MAX - 1))]


def test_records_of_neighbours_have_a_limit() -> None:
    """The oldest is forgotten."""
    conducts = Conducts()
    first = conducts.of("0", 0.0)
    for number in range(1, limits.PEERS_REMEMBERED + 1):
        conducts.of(str(number), 0.0)
    assert conducts.of("0", 0.0) is not first
    assert len(conducts._of) == limits.PEERS_REMEMBERED


@given(NEIGHBOURS, st.integers(0, 12))
def test_a_mesh_is_left_alone_exactly_when_nothing_would_be_done(drawn: list[Neighbour], inside: int) -> None:
    """Where nobody is wanted none would be grafted, where nobody is too many none would be pruned."""
    members, others = drawn[:inside], drawn[inside:]
    assert wants_grafting(members) or not to_graft(members, others)
    for most in (limits.MESH_WANTED, limits.MESH_HIGH):
        assert wants_pruning(members, most) == bool(to_prune(members, most))


def test_who_never_gave_anything_first_on_a_topic_scores_nothing_on_it() -> None:
    """So of a mesh that lacks nobody only those that did are looked at, when better ones are looked for."""
    conducts = Conducts()
    conducts.of("a", 0.0).gave_first("t", 0.0)
    conducts.of("b", 0.0).gave_first("u", 0.0)
    assert [conducts.gave(did, "t") for did in ("a", "b", "nobody")] == [True, False, False]
    assert conducts.of("a", 1.0).score_on("t", 1.0) > 0
    assert conducts.of("b", 1.0).score_on("t", 1.0) <= 0


@virtually
async def test_a_mesh_that_gives_little_takes_in_who_gave_more_and_nobody_else() -> None:
    """Once a minute; a mesh that lacks nobody looks at no others. Planted bug noticed: nobody is looked at."""
    loop, told = asyncio.get_running_loop(), list[tuple[str, str]]()
    clock: Any = SimpleNamespace(monotonic=loop.time)
    dids = [Did(f"did:{number}") for number in range(30)]

    def flow(did: Did) -> Any:
        return SimpleNamespace(graft=lambda topic: told.append((did, topic)), prune=lambda *_: None)

    def session(did: str) -> Any:
        return SimpleNamespace(peer=SimpleNamespace(dialled=True, address=(f"10.0.{did[4:]}.1", 1)))

    conducts, peers = Conducts(), cast("PeerBook", SimpleNamespace(session_with=session))
    meshes = Meshes(
        ("t", "u"), peers, conducts, {did: flow(did) for did in dids}, clock=clock, random=SeededRandomness(1)
    )
    keeping = asyncio.ensure_future(meshes.run(lambda: False))
    meshes.change()
    await asyncio.sleep(20)
    before = {topic: set(meshes.of(topic)) for topic in ("t", "u")}
    assert limits.MESH_LOW <= len(before["t"]) <= limits.MESH_WANTED
    better = next(did for did in dids if did not in before["t"] | before["u"])
    for _ in range(5):
        conducts.of(better, loop.time()).gave_first("t", loop.time())
    await asyncio.sleep(limits.OPPORTUNE_S)
    meshes.stir()
    await asyncio.sleep(20)
    assert {topic: set(meshes.of(topic)) - before[topic] for topic in before} == {"t": {better}, "u": set()}
    assert (better, "t") in told
    keeping.cancel()
