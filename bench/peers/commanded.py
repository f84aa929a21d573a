"""A peer's program that is told what to measure, a line at a time, and answers with a line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.peers.fetched import Missing
from dux_cli.supervisor import child_environment

ANSWER_WITHIN_S = 180.0
LINE_BYTES_MAX = 1 << 22


class Commanded:
    """The program's pipes."""

    def __init__(self, what: str, process: asyncio.subprocess.Process) -> None:
        self._what, self._process = what, process

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def line(self) -> str:
        """The next line that it says.

        Raises:
            Missing: it ended, or says nothing.
        """
        if self._process.stdout is None:
            raise RuntimeError("started with pipes")
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                said = await self._process.stdout.readline()
        except TimeoutError as error:
            raise Missing(what=self._what, reason=f"no answer within {ANSWER_WITHIN_S:g} s") from error
        if not said:
            raise Missing(what=self._what, reason="its program ended")
        return said.decode().strip()

    async def ask(self, *words: object) -> str:
        """What it says to this."""
        if self._process.stdin is None:
            raise RuntimeError("started with pipes")
        self._process.stdin.write((" ".join(str(word) for word in words) + "\n").encode())
        return await self.line()

    async def figure(self, *words: object) -> float:
        """A number."""
        return float(await self.ask(*words))


@asynccontextmanager
async def commanded(what: str, command: Sequence[str | Path], log: Path) -> AsyncIterator[Commanded]:
    """The program, ended afterwards; what it complains of goes to `log`."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=errors, limit=LINE_BYTES_MAX, env=child_environment(), process_group=0,
        )  # fmt: skip
    try:
        yield Commanded(what, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
