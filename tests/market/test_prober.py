"""One node's looking and telling: what a bundle has room for, what is kept of a crowd, and a beacon that changes."""

from __future__ import annotations

from typing import Any

import structlog

from common.codec import canonical, from_canonical
from common.contracts.peer_registry import PresenceAsk, SightingTold
from common.errors import NeighbourDown
from common.identity.ecvrf import prove, public_of
from common.identity.purposes import Purpose
from common.identity.tagged import tagged
from common.network import PresenceParameters
from common.randomness import SeededRandomness
from common.receipts import NO_HARDWARE, Attested, NodeInfo3, attested, body_of
from common.units import Did
from common.witness import SIGHTING_BYTES_MAX, SIGHTINGS_MAX, Look, Sighting, SlotEvidence
from dux_registryd.effects import TipSeen
from dux_registryd.intake import Intake, Taken
from dux_registryd.look_rules import SEAT_SIGHTINGS
from dux_registryd.prober import TRIES, Prober
from dux_registryd.settings import RegistrydSettings
from dux_registryd.sightings import Sightings
from tests.attacks.registry import attack
from tests.market.fakes import attest, did_number, look_seed, network
from tests.market.makers import node
from tests.market.test_challengers import BEACON, View, told_by

SLOT = 19
SEVEN = PresenceParameters(slot_blocks=10, challengers=7, needed=3)
OWN = did_number(1)
BY_NAME = sorted(range(2, 31), key=did_number)
CROWD, OTHERS = BY_NAME[:12], BY_NAME[12:18]  # a crowd whose names sort first, in one network; each other in its own
CROWDED = "10.99.9.0/24"


class Outside:
    """The other daemons, as far as looking and telling asks them."""

    def __init__(self) -> None:
        self.tip_seen: TipSeen | None = TipSeen(height=SLOT * 10, hash="00" * 32)
        self.beacons: bytes | None = BEACON
        self.published: list[SlotEvidence] = []
        self.proved: list[Look] = []
        self.asked: list[Did] = []

    async def own_did(self) -> Did:
        return OWN

    async def tip(self) -> TipSeen | None:
        return self.tip_seen

    async def beacon(self, _height: int) -> bytes | None:
        return self.beacons

    async def publish(self, _topic: object, evidence: SlotEvidence) -> None:
        self.published.append(evidence)

    async def proofs(self, purpose: Purpose, bodies: list[bytes]) -> list[bytes]:
        assert purpose is Purpose.LOOK
        self.proved += [from_canonical(body, Look, max_bytes=1_000) for body in bodies]
        return [prove(look_seed(1), tagged(purpose, body)) for body in bodies]

    async def ask(self, did: Did, *_: object) -> object:
        self.asked.append(did)
        raise NeighbourDown(what="node")

    async def is_signed(self, *_: object) -> bool:
        return True


class Networks:
    """Where nodes were seen."""

    def __init__(self, nets: dict[Did, str]) -> None:
        self.news = 1
        self._nets = nets

    def at(self, _slot: int) -> dict[Did, str]:
        return self._nets

    async def look_round(self) -> None:
        return


class Desk:
    """A registry's prober and sightings, over a real book and real draws."""

    def __init__(self, numbers: list[int]) -> None:
        self.view = View(dict.fromkeys([1, *numbers], 10), SLOT * 10, SEVEN)
        self.book, self.outside = self.view.book, Outside()
        seen = {did: CROWDED if did in map(did_number, CROWD) else net for did, net in self.view.nets.items()}
        networks: Any = Networks(seen)
        profile, outside = network(presence=SEVEN), self.outside
        settings = RegistrydSettings(network_profile="", data_dir="", run_dir="", probe_spread_s=0.0)
        challengers: Any = self.view.challengers
        challengers._outside, challengers._networks = outside, networks
        intake = Intake(self.book, outside, profile, self.view.clock, settings)  # type: ignore[arg-type]
        self.intake = intake
        self.sightings = Sightings(self.book, outside, intake, challengers, profile)  # type: ignore[arg-type]
        self.prober = Prober(
            self.book,
            outside,  # type: ignore[arg-type]
            challengers,
            self.sightings,
            networks,
            network=profile,
            clock=self.view.clock,
            random=SeededRandomness(7),
            log=structlog.get_logger(),
            settings=settings,
        )

    async def take(self, number: int, beacon: bytes = BEACON) -> Taken:
        return await self.sightings.take(signed(number, beacon), OWN, SLOT)

    def kept(self) -> list[int]:
        held = {sighting.prober for sighting, _ in self.book.sightings(OWN, SLOT)}
        return [number for number in range(2, 40) if did_number(number) in held]


def signed(number: int, beacon: bytes = BEACON) -> Attested:
    """What node `number` says that it saw of this one."""
    return attest(number, Purpose.SIGHTING, told_by(number, SLOT, OWN, beacon))


def tellers(bundle: tuple[bytes, ...]) -> set[int]:
    told = {body_of(attested(data), Sighting, SIGHTING_BYTES_MAX).prober for data in bundle}
    return {number for number in range(2, 40) if did_number(number) in told}


@attack(
    "presence",
    tries="a dozen cheap names of one network fill a node's bundle, so that its other sightings are not told",
    meets="one of each network is told and shown first; of one network four are kept",
)
async def test_a_crowd_of_one_network_crowds_nobody_out() -> None:
    """Names that sort before all others, in a node's file already: it tells and shows every network's word."""
    desk = Desk([*CROWD, *OTHERS])
    with desk.book.store.transaction() as tx:
        for number in (*CROWD, *OTHERS):
            desk.book.put_sighting(tx, told_by(number, SLOT, OWN), signed(number))
    await desk.prober.once()
    desk.outside.tip_seen, desk.outside.beacons = TipSeen(height=SLOT * 10 + 10, hash="00" * 32), None
    await desk.prober.once()
    (told,) = desk.outside.published
    assert (told.slot, len(told.sightings)) == (SLOT, SIGHTINGS_MAX)
    assert tellers(told.sightings) > {CROWD[0], *OTHERS}
    shown = (await desk.sightings.show(PresenceAsk(from_slot=0, to_slot=2**31 - 1), OWN)).sightings
    assert tellers(shown[: len(OTHERS) + 1]) == {CROWD[0], *OTHERS}


async def test_of_one_network_four_sightings_are_kept() -> None:
    """More are of no use, and whoever brings one need not come again; every other network's is still taken."""
    desk = Desk([*CROWD, *OTHERS])
    words = [(await desk.take(number)).word for number in CROWD]
    assert words == ["accept"] * SEAT_SIGHTINGS + ["ignore"] * (len(CROWD) - SEAT_SIGHTINGS)
    told = SightingTold(signed=canonical(signed(CROWD[-1])))
    answer = await desk.sightings.tell(told, did_number(CROWD[-1]))
    assert answer.taken
    assert "enough" in answer.reason
    assert [(await desk.take(number)).word for number in OTHERS] == ["accept"] * len(OTHERS)
    assert desk.kept() == sorted([*CROWD[:SEAT_SIGHTINGS], *OTHERS])


async def test_another_beacon_of_a_slot_draws_anew() -> None:
    """After a reorganisation every node is drawn for again, with all tries; words by the first beacon give way."""
    desk, other = Desk(OTHERS), b"\x06" * 32
    for _ in range(TRIES + 1):
        await desk.prober.once()
    nodes = {did_number(number) for number in OTHERS}
    assert {look.beacon for look in desk.outside.proved} == {BEACON}
    assert sorted(desk.outside.asked) == sorted([*nodes] * TRIES)
    first = OTHERS[:4]
    assert [(await desk.take(number)).word for number in first] == ["accept"] * 4
    desk.outside.beacons = other
    await desk.prober.once()
    assert {look.target for look in desk.outside.proved if look.beacon == other} == nodes
    assert len(desk.outside.asked) == len(nodes) * (TRIES + 1)
    assert (await desk.take(first[0])).word == "ignore"
    assert (await desk.take(first[0], other)).word == "accept"
    assert (await desk.take(first[0], other)).word == "ignore"
    judged = desk.book.slot_view(OWN, SLOT)
    assert judged is not None
    assert judged.seen == 1


async def test_a_key_heard_of_before_the_chain_is_seen_counts_from_the_last_tip_kept() -> None:
    """By the file a registry knows how far the chain was at least; only one that never saw it says nought."""
    for last, since in ((None, 0), (5_000, 5_000)):
        desk = Desk(OTHERS)
        desk.outside.tip_seen = None
        if last is not None:
            with desk.book.store.transaction() as tx:
                desk.book.set_last_tip(tx, last, "00" * 32)
        info = node(did=did_number(35))
        told = NodeInfo3(version=3, info=info, hardware=NO_HARDWARE, look_key=public_of(look_seed(35)))
        assert (await desk.intake.node(attest(35, Purpose.REGISTRATION, told))).word == "accept"
        assert desk.book.look_keys()[did_number(35)] == (public_of(look_seed(35)), since)
