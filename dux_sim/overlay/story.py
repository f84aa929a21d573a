"""An hour of a thousand p2pds: they come, go, lie and are parted, and their owners want answers; then all is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from common.contracts.p2p import GOSSIP_PUBLISH, Publish
from common.contracts.peer_registry import TOPIC_NODE
from common.errors import DuxError
from common.randomness import Randomness
from dux_sim.money.laws import Violation
from dux_sim.overlay.laws import Findings, Word, findings, summary, together, violations
from dux_sim.overlay.people import People
from dux_sim.overlay.post import Border
from dux_sim.overlay.world import FIRST, Member, OverlayWorld
from dux_sim.telling import judged
from dux_sim.world.faults import Fault, FaultKind
from dux_sim.world.history import History
from dux_sim.world.signatures import judged_once

HOUR_S = 3600.0
JOIN_EVERY_S = 0.1  # between two nodes at the start
SETTLE_S = 90.0
HEAL_S = 180.0
LIARS = 10  # one in so many lies
CHURN_PER_NODE_HOUR = 0.6
CHURN_LEAST_PER_HOUR = 100.0  # a short history of a few nodes has all of it, too
CHURN_TURNS, NEW_TURN, GONE_TURN = 10, 3, 9
ADVERTISE_AFTER_S = 30.0
AWAY_LEAST_S, AWAY_SPREAD_S = 20.0, 220.0
PARTITION_EVERY_S, PARTITION_S = 900.0, 240.0
SCALE_LEAST = 300
MESSAGES = 60
CAPABILITIES_MAX, NODES_PER_CAPABILITY = 12, 16
WORKERS = 4  # one in so many works


@dataclass(frozen=True)
class Load:
    """What is wished in an hour, by all nodes together."""

    puts: int
    lookups: int
    calls: int
    offers: int
    messages: int


def load_of(nodes: int) -> Load:
    """A thousand nodes wish 9,000 times an hour; the fewer they are, the more each of them."""
    scale = max(nodes, SCALE_LEAST) / 1000
    return Load(
        puts=int(1000 * scale), lookups=int(2500 * scale), calls=int(4000 * scale), offers=int(1500 * scale),
        messages=MESSAGES,
    )  # fmt: skip


class OverlayStory:
    """Runs one network."""

    def __init__(
        self, *, nodes: int, seed: int, hours: float, kinds: Sequence[FaultKind], load: Load | None = None,
        trace: bool = False, until: int | None = None, border: Border | None = None, region: int = 0,
    ) -> None:  # fmt: skip
        self.world = OverlayWorld(seed, trace=trace, until=until, border=border, region=region)
        self.faults: tuple[Fault, ...] = ()  # drawn as it goes
        self._kinds, self._seconds, self._load = tuple(kinds), hours * HOUR_S, load or load_of(nodes)
        self._random = self.world.stream("churn")
        kinds_of_work = max(1, min(CAPABILITIES_MAX, nodes // NODES_PER_CAPABILITY))
        self.people = People(self.world, [f"capability-{number}" for number in range(kinds_of_work)])
        self.words: list[Word] = []
        self._turn = 0
        for number in range(nodes):
            self._add(number)

    @property
    def history(self) -> History:
        """What happened so far."""
        return self.world.history

    def _add(self, number: int) -> Member:
        lies = "liars" in self._kinds and number >= FIRST and number % LIARS == LIARS - 1
        member = self.world.add_member(lies=lies)
        if lies:
            self.world.fault("liar", member.name, member)
        elif number % WORKERS == 0:
            member.house.capabilities = (self.people.capabilities[(number // WORKERS) % len(self.people.capabilities)],)
        return member

    def run(self) -> list[Violation]:
        """The hours, the healing, the judgement."""
        with judged_once():
            return judged(self.world, self._play(), self._judge)

    def find(self) -> Findings:
        """The same as far as this process plays it, without the judgement; the world is left as it stands.

        Raises:
            Stuck: it cannot go on.
        """
        with judged_once():
            self.world.run(self._play())
            return findings(self.world, self.people, self.words)

    def _judge(self) -> list[Violation]:
        found = together([findings(self.world, self.people, self.words)])
        self.history.exits.update(summary(found))
        return violations(found)

    async def _play(self) -> None:
        for member in list(self.world.members):
            self.world.start(member)
            await asyncio.sleep(JOIN_EVERY_S)
        await asyncio.sleep(SETTLE_S)
        await self._advertise()
        loops = [asyncio.ensure_future(work) for work in self._loops()]
        await asyncio.sleep(self._seconds)
        for loop in loops:
            loop.cancel()
        await self._heal()

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        load, people = self._load, self.people
        wishes = (
            (load.puts, people.put), (load.lookups, people.lookup), (load.calls, people.probe),
            (load.offers, people.hire), (load.messages, self._say),
        )  # fmt: skip
        found = [self._now_and_then(count, wish) for count, wish in wishes]
        if "churn" in self._kinds:
            per_hour = max(CHURN_LEAST_PER_HOUR, CHURN_PER_NODE_HOUR * len(self.world.members))
            found.append(self._now_and_then(per_hour, self._churn))
        if "partition" in self._kinds:
            found.append(self._partitions())
        return found

    async def _now_and_then(self, per_hour: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """So often in an hour, never in step."""
        random: Randomness = self.world.stream(f"pace/{getattr(act, '__name__', '')}")
        while True:
            await asyncio.sleep(HOUR_S / per_hour * (0.5 + random.uniform()))
            self.world.spawn(act())

    # what goes wrong

    async def _churn(self) -> None:
        """In turn a process is killed, a machine loses its power, somebody new comes; one in ten is gone for good."""
        turn, self._turn = self._turn, self._turn + 1
        if turn % CHURN_TURNS == NEW_TURN:
            newcomer = self._add(len(self.world.members))
            self.world.fault("joined", newcomer.name, newcomer)
            self.world.start(newcomer)
            await self._advertise_soon(newcomer)
            return
        there = [one for one in self.world.members if one.is_there]
        member = there[self._random.below(len(there))]
        (self.world.crash if turn % 2 == 0 else self.world.darken)(member)
        await asyncio.sleep(AWAY_LEAST_S + self._random.uniform() * AWAY_SPREAD_S)
        if turn % CHURN_TURNS == GONE_TURN and member.node.number >= FIRST:
            self.world.fault("gone", member.name, member)
            self.world.let_go(member)
            return
        self.world.bring_back(member)
        await self._advertise_soon(member)

    async def _advertise_soon(self, member: Member) -> None:
        await asyncio.sleep(ADVERTISE_AFTER_S)
        if member.is_there and member.is_here:
            await self.people.advertise(member)

    async def _partitions(self) -> None:
        while True:
            await asyncio.sleep(min(PARTITION_EVERY_S, self._seconds / 3))
            share = 0.2 + self._random.uniform() * 0.2
            apart = self._random.sample(self.world.members, int(share * len(self.world.members)))
            self.world.fault("partition", f"{len(apart)} of {len(self.world.members)}")
            self.world.part(apart)
            await asyncio.sleep(min(PARTITION_S, self._seconds / 6))
            self.world.part(())
            if self.world.is_first:
                self.history.note("healed", "")

    async def _heal(self) -> None:
        self.world.part(())
        for member in self.world.members:
            if not member.is_gone:
                self.world.bring_back(member)
        await asyncio.sleep(HEAL_S)

    # what is said

    async def _advertise(self) -> None:
        for member in list(self.world.members):
            if member.house.capabilities or member.lies:
                if member.is_here:
                    self.world.spawn(self.people.advertise(member))
                await asyncio.sleep(JOIN_EVERY_S)
        await asyncio.sleep(10)

    async def _say(self) -> None:
        """Somebody tells everybody something."""
        here = self.people.there()
        who, word = here[self._random.below(len(here))], self._random.bytes(24)
        listeners = [one for one in self.world.members if not one.lies and one is not who]
        said = Word(who, word, self.world.loop.time(), tuple(listeners))
        self.words.append(said)
        if not who.is_here:
            return
        publish = Publish(topic=TOPIC_NODE.name, payload=word)
        try:
            await who.node.door("registryd", "p2pd").call(GOSSIP_PUBLISH, publish)
        except DuxError as error:
            self.history.tell("gossip", error.message)
            said.is_void = True
