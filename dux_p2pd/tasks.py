"""Short-lived work of the daemon: every task has an owner that outlives it, and its error is seen.

Promise: tasks end with the block; a failing one is logged and costs nobody else anything; no more than the stated
number run at once, more are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from structlog.typing import FilteringBoundLogger

from common.errors import DuxError

TASKS_MAX = 4096


class Tasks:
    """A task group whose members may fail alone."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended = True
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)  # the block's own error goes on as it is, in no group

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[None] | None:
        """Run it; None when it is dropped: too many run already (that is logged), or the block has ended."""
        if self._ended or len(self._tasks) >= TASKS_MAX:
            work.close()
            if not self._ended:
                self._log.warning("task dropped", task=name, limit=TASKS_MAX)
            return None
        task = self._group.create_task(self._guarded(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        try:
            await work
        except DuxError as error:
            self._log.info("task ended with an error", task=name, reason=error.message)
        except Exception:  # noqa: BLE001 - our own bug, met in work for one peer: the log has the trace, the others go on
            self._log.exception("task failed", task=name)
