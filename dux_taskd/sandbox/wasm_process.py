"""A worker process for one wasm job, as taskd holds it: three pipes, and an end that leaves nothing behind.

Promise: `end` kills exactly the process it was made for, also after its number went to another, and returns when it is
gone. Two ways to get one: a fresh Python (here), or a fork of one that has everything loaded (wasm_forks).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

_ROOT = str(Path(__file__).resolve().parents[2])
ENVIRONMENT = {"PYTHONPATH": _ROOT, "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}  # all that a worker sees of ours
PYTHON = (sys.executable, "-s", "-P", "-B", "-m")
PIPE_BYTES_MAX = 1 << 20  # read ahead of whoever reads


class Worker(Protocol):
    """One process for one job."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    async def end(self) -> None:
        """Kill and wait: no worker outlives its run."""
        ...


Start = Callable[[int], Awaitable[Worker]]
"""Starts a worker that may write to so many bytes of memory."""


class FreshWorker:
    """A Python of its own."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None  # noqa: S101 - started with pipes
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr
        self._process = process
        self._fd = os.pidfd_open(process.pid)

    async def end(self) -> None:
        """Kill and wait."""
        try:
            kill(self._fd)
        finally:
            os.close(self._fd)
        await self._process.wait()


async def start_fresh(memory_bytes: int) -> Worker:
    """A worker that loads everything itself: most of a hundred milliseconds."""
    process = await asyncio.create_subprocess_exec(
        *PYTHON, "dux_taskd.sandbox.wasm_worker", str(memory_bytes), stdin=PIPE, stdout=PIPE, stderr=PIPE,
        env=ENVIRONMENT, cwd="/", start_new_session=True, limit=PIPE_BYTES_MAX,
    )  # fmt: skip
    return FreshWorker(process)


def kill(pidfd: int) -> None:
    """SIGKILL to the process behind a pidfd, if it still lives."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
