"""Calls that a seller works at: each is a task of this process and outlives the request that began it.

Promise: the same request joins the task that it began; nobody's deadline cuts a task; there are at most `WORKS_MAX`. At
the end of the process tasks are cancelled, but for those that are storing how they ended. Knows nothing of channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Name = tuple[str, int]  # a channel and a call's number, as whoever asks says them

WORKS_MAX = 128
STOP_S = 5.0


@dataclass(eq=False)
class Work(Generic[T]):
    """One task. `admitted`: its name was proven; `ending`: it stores how it ended, and is let do so."""

    name: Name
    task: asyncio.Task[T] = field(init=False)
    admitted: bool = False
    ending: bool = False


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
    """What came of it, or None when it is not done at that time of the loop's clock; it goes on."""
    await asyncio.wait((work.task,), timeout=max(0.0, until - asyncio.get_running_loop().time()))
    return work.task.result() if work.task.done() else None
