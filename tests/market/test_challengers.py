"""Draws of one registry's view: who is listed, in which network, since when, and by whose height."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import ManualClock
from common.identity.ecvrf import prove, public_of
from common.identity.purposes import Purpose
from common.identity.tagged import tagged
from common.network import BenchmarkParameters, PresenceParameters
from common.receipts import Heartbeat
from common.standing import right_input
from common.store import Store
from common.units import BlockHeight, Did, UnixMs
from common.witness import Sighting, look_input
from dux_registryd.challengers import Challengers
from dux_registryd.effects import TipSeen
from dux_registryd.model import Presence, RatedNode
from dux_registryd.presence_rules import KNOWN_BLOCKS
from dux_registryd.reputation_rules import score_of
from dux_registryd.rights import Rights
from dux_registryd.settings import RegistrydSettings
from dux_registryd.store import MIGRATIONS, Book
from tests.attacks.registry import attack
from tests.market.fakes import attest, did_number, look_seed, network
from tests.market.makers import NETWORK, changed, heartbeat, node

BEACON = b"\x05" * 32
RULES = PresenceParameters(slot_blocks=10, challengers=2, needed=1)
ABOUT = did_number(1)


class View:
    """A registry's book, with the networks that the test says were seen."""

    def __init__(self, since: dict[int, int], tip: int, rules: PresenceParameters = RULES) -> None:
        self.clock = ManualClock()
        self.book = Book(Store.open(None, MIGRATIONS, self.clock))
        for number, height in since.items():
            self._add(number, height)
        self.nets = {did_number(number): f"10.0.{number}.0/24" for number in since}
        rated = SimpleNamespace(
            rate_all=lambda nodes: [
                RatedNode(node=one, score=score_of([], Presence(1, 1)), jobs_done=0, jobs_failed=0) for one in nodes
            ]
        )
        self.networks = seen = SimpleNamespace(news=1, at=lambda _slot: self.nets)
        outside: Any = SimpleNamespace(tip_seen=TipSeen(height=tip, hash="00" * 32))
        self.challengers = Challengers(
            self.book,
            outside,
            rated,  # type: ignore[arg-type]
            seen,  # type: ignore[arg-type]
            rules=rules,
            clock=self.clock,
            settings=RegistrydSettings(network_profile="", data_dir="", run_dir=""),
        )

    def _add(self, number: int, height: int) -> None:
        info, beat = node(did=did_number(number)), self._beat(number, height)
        with self.book.store.transaction() as tx:
            signed = attest(number, Purpose.REGISTRATION, info)
            self.book.put_node(tx, info, signed, public_of(look_seed(number)), height)
            signed = attest(number, Purpose.HEARTBEAT, beat)
            self.book.put_heartbeat(tx, beat, signed, heard_ms=self.clock.unix_ms(), witnessed=True)

    @staticmethod
    def _beat(number: int, height: int) -> Heartbeat:
        return heartbeat(did=did_number(number), height=BlockHeight(height))


def members(drawn: tuple[Did, ...]) -> set[int]:
    return {number for number in range(1, 20) if did_number(number) in drawn}


SINCE = {1: 10, 2: 100, 3: 100, 4: 110, 5: 110, 6: 110, 7: 110}
AT = 100 + KNOWN_BLOCKS


@pytest.mark.parametrize("duty", ["audit/0", "audit/1", "audit/2", "audit/3"])
def test_every_duty_is_drawn_from_those_who_were_known_before_its_own_height(duty: str) -> None:
    """At one height two were known in time; ten blocks later all were, and others win as well."""
    view = View(SINCE, AT)
    assert members(view.challengers.drawn_for(duty, AT, BEACON, ABOUT, 2)) == {2, 3}
    assert len(view.challengers.drawn_for(duty, AT, BEACON, ABOUT, 4)) == 4  # late ones take what is left
    later = {duty: members(view.challengers.drawn_for(duty, AT + 10, BEACON, ABOUT, 2)) for duty in map(str, range(9))}
    assert any(drawn != {2, 3} for drawn in later.values())


def told_by(number: int, slot: int, target: Did = ABOUT, beacon: bytes = BEACON) -> Sighting:
    proof = prove(look_seed(number), look_input(NETWORK, beacon, slot, target, did_number(number)))
    return Sighting(NETWORK, slot, beacon, target, did_number(number), 5, UnixMs(1), "", proof)


def witnesses(view: View, slot: int) -> set[int]:
    """Whose sightings of a slot count."""
    return {number for number in SINCE if view.challengers.is_witness(told_by(number, slot))}


def test_slots_are_looked_at_by_those_whose_key_was_known_before_them() -> None:
    """Two blocks below a slot's start lies the height that counts; of later ones some draw themselves when they may."""
    view = View(SINCE, AT)
    slot = (100 + KNOWN_BLOCKS + 2) // 10 + 1
    assert 100 <= slot * 10 - 2 - KNOWN_BLOCKS < 110
    assert witnesses(view, slot) == {2, 3}
    later = [witnesses(view, slot + n) for n in range(1, 40)]
    assert {2, 4, 7} <= set().union(*later)
    assert any(not found & {2, 3} for found in later)
    assert 1 < sum(len(found) for found in later) / len(later) < 3.5  # two are wanted, with slack for others' views


@attack(
    "presence",
    tries="an old name takes another look key when a slot's beacon is known",
    meets="the new key counts from when it was told, the old one no more",
)
def test_another_look_key_counts_from_when_it_was_told() -> None:
    """However long its node has been known; the one before counts no more."""
    view = View(SINCE | {8: 100}, AT)  # so two are known in time without it, and no seat is free
    slot = (100 + KNOWN_BLOCKS + 2) // 10 + 1
    info = node(did=did_number(2))
    with view.book.store.transaction() as tx:
        signed = attest(2, Purpose.REGISTRATION, info)
        view.book.put_node(tx, info, signed, public_of(look_seed(2)), 150)
        assert view.book.look_keys()[did_number(2)] == (public_of(look_seed(2)), 100)  # the same one is not newer
        view.book.put_node(tx, info, signed, public_of(look_seed(20)), 150)
    assert view.book.look_keys()[did_number(2)] == (public_of(look_seed(20)), 150)
    assert 2 not in (found := witnesses(view, slot))
    assert 3 in found
    other = prove(look_seed(20), look_input(NETWORK, BEACON, slot, ABOUT, did_number(2)))
    assert not view.challengers.is_witness(changed(told_by(2, slot), proof=other))


@attack(
    "presence",
    tries="several names register one look key and each shows the proof that it drew for one of them",
    meets="a proof names its witness; each name draws for itself, whatever key it registered",
)
def test_a_proof_counts_in_the_name_that_drew_it_alone() -> None:
    """One key in all names: where one of them was drawn the others are only by proofs of their own, and not always."""
    view = View(dict.fromkeys(range(1, 12), 10), AT)
    with view.book.store.transaction() as tx:
        for number in range(2, 12):
            info = node(did=did_number(number))
            signed = attest(number, Purpose.REGISTRATION, info)
            view.book.put_node(tx, info, signed, public_of(look_seed(2)), 10)
    together = []
    for slot in range(AT // 10 + 1, AT // 10 + 40):
        alpha = look_input(NETWORK, BEACON, slot, ABOUT, did_number(2))
        told = changed(told_by(2, slot), proof=prove(look_seed(2), alpha))
        if not view.challengers.is_witness(told):
            continue
        assert not any(view.challengers.is_witness(changed(told, prober=did_number(n))) for n in range(3, 12))
        own = prove(look_seed(2), look_input(NETWORK, BEACON, slot, ABOUT, did_number(3)))
        together.append(view.challengers.is_witness(changed(told, prober=did_number(3), proof=own)))
    assert {True, False} == set(together)


def measures(view: View, number: int, height: int, target: Did = ABOUT, *, by: int = 0) -> bool:
    """Whether a node has a right to measure another, by the proof of its key or of that of node `by`."""
    asked = right_input(NETWORK, BEACON, height, target, did_number(number))
    proof = prove(look_seed(by or number), asked)
    return view.challengers.has_drawn(
        view.challengers.measurers(height, target, 2), target, did_number(number), asked, proof
    )


@attack(
    "registry",
    tries="a node looks up who will measure it, to buy, serve or shut out those alone",
    meets="challengers draw themselves by look keys of their own; a result without that proof counts nowhere",
)
def test_who_measures_is_drawn_by_each_key_for_itself_from_those_known_before() -> None:
    """About two of thirty come, others each time; by their own proof alone, and names of later not before all are."""
    view = View(dict.fromkeys(range(1, 31), 100), AT)
    came = [{number for number in range(1, 31) if measures(view, number, AT + n)} for n in range(30)]
    assert 1 < sum(map(len, came)) / len(came) < 3.5  # with slack for others' views
    assert len(set().union(*came)) > 15
    assert not any(measures(view, number, AT + n, by=number % 30 + 1) for n in range(5) for number in came[n])
    late = View(SINCE, AT)
    assert {number for number in SINCE if measures(late, number, AT)} == {2, 3}


async def test_a_node_measures_those_that_its_key_has_drawn_and_shows_it() -> None:
    """About two come to each of thirty nodes, so one node to two, others by another beacon; each proof is taken."""
    view, proved, beacons = View(dict.fromkeys(range(1, 31), 100), AT), list[bytes](), [BEACON]

    async def own() -> Did:
        return did_number(2)

    async def beacon(_height: int) -> bytes:
        return beacons[-1]

    async def look_round() -> None:
        return

    async def proofs(purpose: Purpose, bodies: list[bytes]) -> list[bytes]:
        proved.extend(bodies)
        return [prove(look_seed(2), tagged(purpose, body)) for body in bodies]

    view.networks.look_round = look_round
    outside: Any = SimpleNamespace(tip_seen=TipSeen(AT, "00" * 32), own_did=own, beacon=beacon, proofs=proofs)
    rights = Rights(outside, view.challengers, network(benchmark=BenchmarkParameters(period_blocks=10)))
    others = [did_number(number) for number in range(1, 31) if number != 2]
    period, came = rights.period_of(AT), list[dict[Did, bytes]]()
    for number in range(20):
        beacons.append(bytes([number]) * 32)
        came.append(await rights.own(period, others))
        assert (await rights.own(period, others), len(proved)) == (came[-1], 29 * (number + 1))  # proved once
        for did, proof in came[-1].items():
            assert await rights.fault(period, did, did_number(2), proof) is None
            assert await rights.fault(period + 2, did, did_number(2), proof) == "its period is not lately"
            assert await rights.fault(period, did, did_number(3), proof) == "its challenger was not drawn"
    assert 1 < sum(map(len, came)) / len(came) < 3
    assert len({did for found in came for did in found}) > 15


def test_a_machine_is_measured_by_nodes_of_its_tier_or_above() -> None:
    """Of thirty nodes two have the tier of the one that is measured: those, and for others all thirty."""
    view = View(dict.fromkeys(range(1, 31), 100), AT)
    view.challengers.measurers(AT, ABOUT, 2)  # the list is made
    view.challengers._tiers |= {ABOUT: 2, did_number(5): 2, did_number(6): 3}
    view.challengers._measuring.clear()
    assert {number for number in range(2, 31) if measures(view, number, AT)} == {5, 6}
    others = {number for number in range(2, 31) for n in range(8) if measures(view, number, AT + n, did_number(9))}
    assert len(others - {5, 6}) > 5


def test_none_of_the_subjects_own_network_and_one_of_each_other() -> None:
    """As it was seen, whatever all of them say in their descriptions."""
    view = View(SINCE, AT)
    view.nets |= {did_number(2): "10.0.1.0/24", did_number(4): "10.0.3.0/24"}
    drawn = view.challengers.drawn_for("audit/1", AT, BEACON, ABOUT, 9)
    assert not {2} & members(drawn)
    assert members(drawn) == {3, 5, 6, 7}
    fresh = View(SINCE, AT)
    fresh.nets = {}
    assert len(fresh.challengers.drawn_for("audit/1", AT, BEACON, ABOUT, 9)) == 1  # unseen ones share one seat
