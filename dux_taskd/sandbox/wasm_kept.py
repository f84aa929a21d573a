"""Workers kept for the next run of the same owner's calls to the same package: the module stays compiled.

Promise: a kept worker gets runs of one owner and one package only, with no more memory than it was started for; each
run has a store, a memory and fuel of its own in it. One that ended in any other way than by its own answer is not kept,
nor one that has served long, nor one that nobody has wanted for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dux_taskd.sandbox.model import Run
from dux_taskd.sandbox.wasm_process import Worker

KEPT_MAX = 16  # idle ones; each has a few MiB of its own
RUNS_MAX = 200  # of one worker
IDLE_S = 2.0
ROUND_BYTES = 64 << 20  # so that inputs of other sizes find the same worker


@dataclass(frozen=True)
class Key:
    """What two runs must share to be one worker's."""

    owner: str
    package: bytes
    memory_bytes: int


@dataclass
class Kept:
    """A worker and what it has done."""

    key: Key
    worker: Worker
    runs: int = 0
    since: float = 0.0  # idle


def key_of(run: Run, memory_bytes: int) -> Key | None:
    """The key of a run that needs so much; None where no owner asked for it."""
    if not run.owner:
        return None
    rounded = -(-memory_bytes // ROUND_BYTES) * ROUND_BYTES
    return Key(run.owner, run.package, rounded)


class Shelf:
    """The idle ones, longest idle first. Run `keep` in the background and `close` at the end."""

    def __init__(self, now: Callable[[], float], *, idle_s: float = IDLE_S, kept_max: int = KEPT_MAX) -> None:
        self._now, self._idle_s, self._kept_max = now, idle_s, kept_max
        self._idle: list[Kept] = []
        self._is_closed, self._filled = False, asyncio.Event()

    def take(self, key: Key) -> Kept | None:
        """The one that was used last, so that those that are too many fall idle."""
        for place in range(len(self._idle) - 1, -1, -1):
            if self._idle[place].key == key:
                return self._idle.pop(place)
        return None

    async def put(self, kept: Kept) -> None:
        """Back after a run that it answered by itself."""
        kept.runs += 1
        if self._is_closed or kept.runs >= RUNS_MAX:
            await kept.worker.end()
            return
        kept.since = self._now()
        self._idle.append(kept)
        self._filled.set()
        if len(self._idle) > self._kept_max:
            await self._idle.pop(0).worker.end()

    async def keep(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """End whoever has been idle for long."""
        while True:
            await self._filled.wait()
            await sleep(self._idle_s / 2)
            while self._idle and self._now() - self._idle[0].since >= self._idle_s:
                await self._idle.pop(0).worker.end()
            if not self._idle:
                self._filled.clear()

    async def close(self) -> None:
        """End all; whatever comes back later ends, too."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().worker.end()
