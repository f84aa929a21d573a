"""Looks at the nodes that this one has drawn itself to look at, signs what it saw, and spreads what others saw of it.

A slot's work: draw for each node known (p2pd proves what our look key draws), challenge those that fell to us (up to
three tries, at times nobody can foretell), sign a sighting, hand it to the node; when the slot is over, spread the
sightings of ourselves; a slot later, count who did this duty.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical
from common.contracts.peer_registry import (
    PRESENCE_PROBE,
    PRESENCE_TELL,
    TOPIC_PRESENCE,
    ProbeAsk,
    SightingTold,
)
from common.errors import DuxError
from common.identity.ecvrf import drawn_by
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.randomness import Randomness
from common.units import Did
from common.witness import RTT_MS_MAX, Sighting, SlotEvidence, look_body
from dux_registryd.challengers import Challengers
from dux_registryd.effects import Outside
from dux_registryd.networks import Networks
from dux_registryd.presence_rules import GRACE_SLOTS, day_of, slot_of, slots_per_day
from dux_registryd.settings import RegistrydSettings
from dux_registryd.sightings import Sightings
from dux_registryd.store import Book
from dux_registryd.store_presence import OTHERS_SLOTS

AT_ONCE = 8  # challenges side by side
TRIES = 3  # of one challenge within its slot
SPREAD_PART = 0.4  # of a slot's length, as this chain makes blocks: challenges fall into its first part
COUNTED = "presence/counted"


class Prober:
    """This node's duty to look at others."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        challengers: Challengers,
        sightings: Sightings,
        networks: Networks,
        *,
        network: NetworkProfile,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
        settings: RegistrydSettings,
    ) -> None:
        self._book = book
        self._outside = outside
        self._challengers = challengers
        self._sightings = sightings
        self._networks = networks
        self._network = network
        self._rules = network.presence
        self._clock = clock
        self._random = random
        self._log = log
        self._settings = settings
        self._slot = -1
        self._turned_s, self._slot_s = clock.monotonic(), 0.0  # when this slot began here, how long the last ones took
        self.seen = 0  # since the start, for /metrics
        self._tries: dict[Did, int] = {}  # targets of this slot -> tries made; TRIES once it is seen
        self._beacon = b""  # by which this slot is drawn: another one after a reorganisation
        self._proofs: dict[Did, bytes] = {}  # what our key has drawn by it for them

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self._networks.look_round()
                await self.once()
            except DuxError as error:
                self._log.info("nobody looked at", reason=error.message)
            await asyncio.sleep(self._settings.probe_s)

    async def once(self) -> int:
        """One round; how many nodes were seen."""
        own, tip = await self._outside.own_did(), await self._outside.tip()
        held = self._book.node(own)
        if tip is None or held is None or held.info.withdrawn:
            return 0
        slot = slot_of(tip.height, self._rules)
        if slot != self._slot:
            await self._turn(own, slot)
        beacon = await self._challengers.beacon(slot)
        if beacon is None:
            return 0
        if beacon != self._beacon:
            self._beacon, self._tries, self._proofs = beacon, {}, {}
        mine = await self._drawn(own, slot, beacon)
        turns = asyncio.Semaphore(AT_ONCE)
        return sum(await asyncio.gather(*(self._look(did, slot, beacon, turns) for did in mine)))

    async def _drawn(self, own: Did, slot: int, beacon: bytes) -> list[Did]:
        """Whom this node is to look at: known to it alone until it has looked."""
        targets = self._targets(own)
        new = [did for did in targets if did not in self._proofs]
        bodies = [look_body(self._network.genesis, beacon, slot, did, own) for did in new]
        self._proofs.update(zip(new, await self._outside.proofs(Purpose.LOOK, bodies), strict=True))
        may_look = self._challengers.may_look
        return [did for did in targets if may_look(did, slot, own, drawn_by(self._proofs[did]))]

    def _targets(self, own: Did) -> list[Did]:
        known = [node.info.did for node in self._book.nodes() if node.info.did != own]
        return [did for did in known if self._tries.get(did, 0) < TRIES]

    async def _turn(self, own: Did, slot: int) -> None:
        """A new slot has begun: tell of the last ones, count duties, drop what is old."""
        last = self._slot if self._slot >= 0 else slot
        now_s = self._clock.monotonic()
        self._slot_s = (now_s - self._turned_s) / (slot - last) if slot > last else 0.0
        self._turned_s = now_s
        self._slot, self._tries, self._proofs = slot, {}, {}
        for over in range(max(last, slot - OTHERS_SLOTS), slot):
            await self._spread(own, over)
        with self._book.store.transaction() as tx:
            day, day_slots = day_of(slot, self._rules), slots_per_day(self._rules)
            self._book.thin_presence(tx, own, slot, day, slot - day_slots)
        due = slot - GRACE_SLOTS
        for over in range(max(self._book.place(COUNTED), due - OTHERS_SLOTS) + 1, due + 1):
            self._count_duties(over)

    async def _spread(self, own: Did, slot: int) -> None:
        found = self._sightings.told_of(own, slot)
        if found:
            evidence = SlotEvidence(target=own, slot=slot, sightings=found)
            await self._outside.publish(TOPIC_PRESENCE, evidence)

    def _count_duties(self, slot: int) -> None:
        """How often each was to look at nodes that were up in a slot, going by chance, and has; each slot once."""
        self._book.keep_place(COUNTED, slot)
        up = self._book.up_in(slot)
        owed = self._challengers.round_of(slot).owed(up)
        done = Counter(Did(sighting.prober) for did in up for sighting, _ in self._book.sightings(did, slot))
        with self._book.store.transaction() as tx:
            self._book.count_looks(tx, owed, done, day_of(slot, self._rules))

    async def _look(self, target: Did, slot: int, beacon: bytes, turns: asyncio.Semaphore) -> int:
        """Challenge one node; 1 if it was seen."""
        if not self._tries.get(target):
            await asyncio.sleep(self._random.uniform() * min(self._settings.probe_spread_s, self._slot_s * SPREAD_PART))
        if slot != self._sightings.slot_now():
            return 0  # the wait was longer than what was left of the slot
        async with turns:
            self._tries[target] = self._tries.get(target, 0) + 1
            try:
                seen = await self._see(target, slot, beacon)
            except DuxError as error:
                self._log.info("node not seen", did=target, slot=slot, reason=error.message)
                return 0
            self._tries[target] = TRIES if seen else self._tries[target]
            self.seen += seen
            return int(seen)

    async def _see(self, target: Did, slot: int, beacon: bytes) -> bool:
        nonce, asked = self._random.bytes(32), self._clock.monotonic()
        answer = await self._outside.ask(target, PRESENCE_PROBE, ProbeAsk(slot=slot, nonce=nonce))
        rtt_ms = int((self._clock.monotonic() - asked) * 1_000)
        if answer.nonce != nonce:
            self._log.info("node not seen", did=target, slot=slot, reason="it answered another question")
            return False
        await self._networks.look_round()
        sighting = Sighting(
            network=self._network.genesis,
            slot=slot,
            beacon=beacon,
            target=target,
            prober=await self._outside.own_did(),
            rtt_ms=min(rtt_ms, RTT_MS_MAX),
            at_ms=self._clock.unix_ms(),
            net=self._networks.seen_here(target),
            proof=self._proofs[target],
        )
        envelope = await self._outside.signed(Purpose.SIGHTING, sighting)
        await self._sightings.keep_own(sighting, envelope)
        told = await self._outside.ask(target, PRESENCE_TELL, SightingTold(signed=canonical(envelope)))
        if not told.taken:
            self._log.info("sighting not taken", did=target, slot=slot, reason=told.reason)
        return told.taken
