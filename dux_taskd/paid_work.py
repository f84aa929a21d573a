"""Calls that a seller works at: each is a task of this process and outlives the request that began it.

Promise: the same request joins the task that it began; nobody's deadline cuts a task; there are at most `WORKS_MAX`. At
the end of the process tasks are cancelled, but for those that are storing how they ended. Knows nothing of channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dux_taskd.lease import Gauge

T = TypeVar("T")
Name = tuple[str, int]  # a channel and a call's number, as whoever asks says them

WORKS_MAX = 128
STOP_S = 5.0


@dataclass(eq=False)
class Work(Generic[T]):
    """One task. `admitted`: its name was proven; `ending`: it stores how it ended, and is let do so.

    `gauge`: whether it runs on credit, where it is paid by time.
    """

    name: Name
    task: asyncio.Task[T] = field(init=False)
    admitted: bool = False
    ending: bool = False
    gauge: Gauge = field(default_factory=Gauge)


class Works(Generic[T]):
    """The tasks, by what was asked."""

    def __init__(self) -> None:
        self._works: dict[bytes, Work[T]] = {}

    def get(self, asked: bytes) -> Work[T] | None:
        """The task that the same request began."""
        return self._works.get(asked)

    def begin(self, asked: bytes, name: Name, run: Callable[[Work[T]], Coroutine[Any, Any, T]]) -> Work[T] | None:
        """A new task, or None when there are as many as there may be."""
        if len(self._works) >= WORKS_MAX:
            return None
        work: Work[T] = Work(name)
        work.task = asyncio.ensure_future(run(work))
        self._works[asked] = work
        work.task.add_done_callback(lambda task: self._ended(asked, task))
        return work

    def _ended(self, asked: bytes, task: asyncio.Task[T]) -> None:
        del self._works[asked]
        if not task.cancelled():
            task.exception()  # taken: whoever waits gets it, and nobody has to wait

    def others(self, own: Work[T]) -> list[Work[T]]:
        """Tasks under the same name."""
        return [work for work in self._works.values() if work.name == own.name and work is not own]

    def admitted(self) -> list[Name]:
        """Calls that are at work here, each once."""
        return sorted({work.name for work in self._works.values() if work.admitted})

    async def stop(self) -> None:
        """Cancel, and wait a moment for ends to be stored."""
        works = list(self._works.values())
        for work in works:
            if not work.ending:
                work.task.cancel()
        if works:
            await asyncio.wait([work.task for work in works], timeout=STOP_S)


async def within(work: Work[T], until: float) -> T | None:
    """What came of it; None: at that time of the loop's clock it is not done, or it runs short before. It goes on."""
    short = asyncio.ensure_future(work.gauge.short.wait())
    try:
        left_s = max(0.0, until - asyncio.get_running_loop().time())
        await asyncio.wait((work.task, short), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        short.cancel()
    return work.task.result() if work.task.done() else None


async def fed(work: Work[Any], within_s: float) -> None:
    """Wait a moment for fuel that has just come to reach the work."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await work.gauge.fed.wait()
