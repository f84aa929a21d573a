"""Real nodes for a long time under churn and traffic: what grows although nothing grew?

After a warm-up, and again at the end, everything pauses until what was under way is over; then each process tells what
is open in it. Between the two, memory may not have grown by more than a share of itself, there may be no more sockets
and handles than the sessions explain, and no more tasks than the same nodes and sessions had before.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from bench.swarm import HostGone, JobFailed, Swarm
from bench.swarm_node import did_of_node
from common.codec import canonical
from common.contracts.peer_registry import PRESENCE_PROBE, ProbeAsk
from common.contracts.peer_store import TAG_NS, TOPIC_SERVICE, TagPointer
from common.receipts import Attested

HOSTS = 2
WARM_UP_SHARE, WARM_UP_MAX_S = 0.25, 600.0
REST_S, REST_SHORT_S = 30.0, 6.0  # without churn and traffic, before what is open is counted
SHORT_S = 300.0
SAMPLE_S = 10.0
CHURN_EVERY_S, AWAY_S = 10.0, 3.0
TURN_S = 0.5  # one wish of each kind so often
GROWTH_MAX = 0.05
TASKS_SPARE, TASKS_SHARE = 20, 0.15
HANDLES_SPARE = 12  # pipes, files that are open for a moment
FORM_WITHIN_S = 120.0
NAMES = 3  # records of each node, put again and again: after the warm-up their number stays


class Rest(msgspec.Struct, frozen=True):
    """What was open in all processes together while nothing happened."""

    nodes: int
    sessions: int
    tasks: int
    sockets: int
    handles: int
    rss_mib: float

    @property
    def spare_sockets(self) -> int:
        """Sockets that no session and no listener explains."""
        return self.sockets - self.sessions - self.nodes


class Soaked(msgspec.Struct, frozen=True, kw_only=True):
    """The report. `broken` names every law that did not hold, with its figures."""

    nodes: int
    minutes: float
    warm: Rest
    end: Rest
    growth: float
    rss_mib: list[float]
    done: dict[str, int]
    failed: dict[str, int]
    broken: list[str]


class Soak:
    """One run."""

    def __init__(
        self, folder: Path, *, nodes: int, minutes: float, growth_max: float = GROWTH_MAX,
        tell: Callable[[str], None] = lambda _text: None, program: str = "bench.swarm_host",
    ) -> None:  # fmt: skip
        sizes = [nodes // HOSTS + (1 if at < nodes % HOSTS else 0) for at in range(HOSTS)]
        self._swarm = Swarm(folder, sizes, settings={"on_disk": True}, program=program)
        self._nodes, self._seconds, self._growth_max, self._tell = nodes, minutes * 60, growth_max, tell
        self._rest_s = REST_S if self._seconds > SHORT_S else REST_SHORT_S
        self._away: set[int] = set()
        self._done: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._rss_mib: list[float] = []

    async def run(self) -> Soaked:
        """Form, warm up, rest, go on, rest, judge."""
        async with self._swarm as swarm:
            await swarm.start()
            await swarm.until(lambda node: node.sessions >= min(4, self._nodes - 1), FORM_WITHIN_S)
            warm_up_s = min(WARM_UP_MAX_S, self._seconds * WARM_UP_SHARE)
            await self._busy(warm_up_s)
            warm = await self._rest()
            self._tell(f"warm: {warm.rss_mib:.1f} MiB, {warm.tasks} tasks, {warm.sessions} session ends")
            self._rss_mib.clear()
            await self._busy(self._seconds - warm_up_s)
            end = await self._rest()
        self._tell(f"end: {end.rss_mib:.1f} MiB, {end.tasks} tasks, {end.sessions} session ends")
        growth = end.rss_mib / warm.rss_mib - 1
        return Soaked(
            nodes=self._nodes, minutes=self._seconds / 60, warm=warm, end=end, growth=round(growth, 4),
            rss_mib=self._rss_mib, done=dict(self._done), failed=dict(self._failed),
            broken=broken_laws(warm, end, self._growth_max),
        )  # fmt: skip

    async def _rest(self) -> Rest:
        await asyncio.sleep(self._rest_s)
        found = await self._swarm.census()
        rss_mib = sum(one.pop("rss_kib") for one in found) / 1024
        return Rest(**{key: sum(one[key] for one in found) for key in found[0]}, rss_mib=round(rss_mib, 2))

    async def _busy(self, seconds: float) -> None:
        """Churn and traffic for so long; nobody is away afterwards."""
        loops = [asyncio.ensure_future(work) for work in (self._churn(), self._sample(), *self._traffic())]
        await asyncio.sleep(seconds)
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)
        await self._swarm.start_nodes(sorted(self._away))
        self._away.clear()

    async def _churn(self) -> None:
        """One node after another stops in order and starts again from its disk."""
        for at in itertools.count(1):
            await asyncio.sleep(CHURN_EVERY_S)
            number = 1 + at * 7 % self._nodes
            self._away.add(number)
            await self._swarm.stop_nodes([number])
            await asyncio.sleep(AWAY_S)
            await self._swarm.start_nodes([number])
            self._away.discard(number)
            self._done["restart"] += 1

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            self._rss_mib.append(round(sum(self._swarm.memory_mib()), 2))

    # traffic

    def _traffic(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._again("put", self._put), self._again("get", self._get), self._again("call", self._call),
            self._again("gossip", self._say),
        ]  # fmt: skip

    async def _again(self, kind: str, act: Callable[[int, int], Coroutine[Any, Any, bool]]) -> None:
        for at in itertools.count():
            began = time.perf_counter()
            here = [number for number in range(1, self._nodes + 1) if number not in self._away]
            number = here[at * 13 % len(here)]
            done = False
            with suppress(JobFailed, HostGone, TimeoutError):
                done = await act(number, at)
            (self._done if done or number in self._away else self._failed)[kind] += 1
            await asyncio.sleep(max(0.0, TURN_S - (time.perf_counter() - began)))

    async def _put(self, number: int, at: int) -> bool:
        payload = canonical(TagPointer(service_ids=(f"service-{at}",)))
        name = f"w/{number}-{at // self._nodes % NAMES}"
        return int((await self._swarm.put(number, TAG_NS.name, name, payload, caller="stored"))[1]) > 0

    async def _get(self, number: int, at: int) -> bool:
        await self._swarm.get(number, TAG_NS.name, f"w/{1 + at * 11 % self._nodes}-{at % NAMES}")
        return True

    async def _call(self, number: int, at: int) -> bool:
        other = 1 + (number + at) % self._nodes
        ask = canonical(ProbeAsk(slot=at, nonce=bytes(32)))
        try:
            await self._swarm.peer_call(number, did_of_node(other), PRESENCE_PROBE.name, ask, caller="registryd")
        except JobFailed:
            return other in self._away
        return True

    async def _say(self, number: int, at: int) -> bool:
        payload = canonical(Attested(body=at.to_bytes(200), did=did_of_node(number), key_seq=0, signature=bytes(64)))
        await self._swarm.publish(number, TOPIC_SERVICE.name, payload, caller="stored")
        await self._swarm.heard()
        return True


def broken_laws(warm: Rest, end: Rest, growth_max: float) -> list[str]:
    """What grew that should not have."""
    found = []
    if end.rss_mib > warm.rss_mib * (1 + growth_max):
        found.append(f"memory grew from {warm.rss_mib:.1f} to {end.rss_mib:.1f} MiB, {growth_max:.0%} are allowed")
    explained = warm.tasks * (end.nodes + end.sessions) / max(1, warm.nodes + warm.sessions)
    if end.tasks > explained * (1 + TASKS_SHARE) + TASKS_SPARE:
        found.append(f"{end.tasks} tasks, where {explained:.0f} are explained")
    if end.spare_sockets > max(0, warm.spare_sockets) + HANDLES_SPARE:
        found.append(f"{end.spare_sockets} sockets belong to no session, {warm.spare_sockets} did after warming up")
    spare, before = end.handles - end.sockets, warm.handles - warm.sockets
    if spare > before + HANDLES_SPARE:
        found.append(f"{spare} files are open, {before} were after warming up")
    return found
