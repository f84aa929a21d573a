"""What several tests of work need."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

SLOT_UIDS = 2_000_000_000 + os.getpid() % 10_000 * 4_096  # of this test run's launchers alone


async def wait_until(predicate: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait for the predicate, not for a time."""
    async with asyncio.timeout(within_s):
        while not predicate():
            await asyncio.sleep(0.01)


def child_processes(pid: int = 0) -> set[int]:
    """The numbers of a process's living children; of this one's by default."""
    pid = pid or os.getpid()
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return {int(number) for number in listed.split()}
