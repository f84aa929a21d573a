"""Runs jobs in the sandboxes that the probe has seen to hold, as many at a time as the machine gives.

Promise: a kind that is not offered is refused, whoever asks; a run waits until its declared memory is free. It knows no
contract and no price.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.contracts.task import KindNotOffered
from common.work import JobKind, JobSpec, Limits
from dux_taskd.sandbox.model import Offer, Outcome, Progress, Run, Runner

PROBE_AGAIN_S = 60.0


class Capacity:
    """Admission by number of runs and declared memory, first come first served."""

    def __init__(self, jobs_max: int, memory_bytes_max: int) -> None:
        self._jobs_free, self._memory_free = jobs_max, memory_bytes_max
        self._memory_max = memory_bytes_max
        self._waiting: deque[tuple[int, asyncio.Event]] = deque()

    @asynccontextmanager
    async def room(self, memory_bytes: int) -> AsyncIterator[None]:
        """Hold room for one run; a run that wants more than there ever is gets all of it."""
        wanted = min(memory_bytes, self._memory_max)
        turn = asyncio.Event()
        self._waiting.append((wanted, turn))
        self._admit()
        try:
            await turn.wait()
        except BaseException:
            self._leave(wanted, turn)
            raise
        try:
            yield
        finally:
            self._leave(wanted, turn)

    def _admit(self) -> None:
        while self._waiting and self._jobs_free and self._waiting[0][0] <= self._memory_free:
            wanted, turn = self._waiting.popleft()
            self._jobs_free -= 1
            self._memory_free -= wanted
            turn.set()

    def _leave(self, wanted: int, turn: asyncio.Event) -> None:
        if turn.is_set():
            self._jobs_free += 1
            self._memory_free += wanted
        else:
            self._waiting.remove((wanted, turn))
        self._admit()


class Executor:
    """Everything that runs foreign code goes through here."""

    def __init__(self, runners: tuple[Runner, ...], capacity: Capacity) -> None:
        self._runners = {runner.kind: runner for runner in runners}
        self._capacity = capacity
        self.offers: dict[JobKind, Offer] = {}
        self.probed = asyncio.Event()
        self.sandbox_ms = 0  # wall time of all runs so far, the probes' not counted

    async def probe(self) -> None:
        """Try the limits of every runner that is not offered; until the first time nothing is."""
        for kind, runner in self._runners.items():
            if kind not in self.offered:
                self.offers[kind] = await runner.probe()
        self.probed.set()

    async def keep_probing(self) -> None:
        """Probe now, and again while a kind is missing: a loaded machine or a launcher that came late is no verdict."""
        await self.probe()
        while self.offered != frozenset(self._runners):
            await asyncio.sleep(PROBE_AGAIN_S)
            await self.probe()

    @property
    def offered(self) -> frozenset[JobKind]:
        """The kinds that this machine runs safely."""
        return frozenset(kind for kind, offer in self.offers.items() if offer.offered)

    def engine(self, kind: JobKind) -> str:
        """The engine that runs this kind, as receipts name it."""
        return self._runners[kind.runtime].engine

    async def execute(self, job: JobSpec, package: bytes, data: bytes, progress: Progress) -> Outcome:
        """Run a job to its end.

        Raises:
            KindNotOffered: the probe has not seen this kind to hold here.
        """
        await self.probed.wait()
        run = Run(package=package, entry=job.entry, args=job.args, input=data, limits=job.limits)
        return await self.run(job.kind.runtime, run, progress)

    async def run(self, kind: JobKind, run: Run, progress: Progress) -> Outcome:
        """Run anything of a kind (as `execute`)."""
        if kind not in self.offered:
            offer = self.offers.get(kind)
            raise KindNotOffered(kind=kind.value, reason=offer.reason if offer else "it is switched off here")
        async with self._capacity.room(_memory_of(run.limits)):
            outcome = await self._runners[kind].run(run, deadline_s=float(run.limits.wall_s), progress=progress)
        self.sandbox_ms += outcome.wall_ms
        return outcome


def _memory_of(limits: Limits) -> int:
    return limits.memory_bytes + 2 * limits.output_bytes
