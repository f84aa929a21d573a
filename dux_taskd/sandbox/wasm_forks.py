"""Workers as forks of one process that has everything loaded: milliseconds instead of most of a hundred.

Promise: every job still has a process of its own, which nobody else's job was ever in. The process that is forked goes
when nothing was wanted for a while, so that an idle node does not carry it, and after so many forks, so that not all
jobs for ever live at the same addresses. Where it cannot be had, a fresh worker is started instead.
"""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio.subprocess import DEVNULL, Process
from io import FileIO

from structlog.typing import FilteringBoundLogger

from dux_taskd.sandbox.wasm_abi import WISH_BYTES
from dux_taskd.sandbox.wasm_process import ENVIRONMENT, PIPE_BYTES_MAX, PYTHON, Worker, kill, start_fresh

IDLE_S = 30.0  # after the last job; it holds 28 MiB
FORKS_MAX = 500  # of one process
ANSWER_WITHIN_S = 20.0  # a fresh Python on a loaded machine
END_WITHIN_S = 5.0


class ForkedWorker:
    """A fork, with the pipes that taskd holds of it."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(self, mother: Mother, pidfd: int) -> None:
        self._mother, self._pidfd = mother, pidfd
        self._pipes: list[asyncio.BaseTransport] = []

    async def open(self, to_stdin: int, from_stdout: int, from_stderr: int) -> None:
        """Make streams of our ends of its pipes; cut off in the middle, none of them stays open."""
        ends = [os.fdopen(from_stdout, "rb", 0), os.fdopen(from_stderr, "rb", 0), os.fdopen(to_stdin, "wb", 0)]
        try:
            self.stdout, self.stderr = await self._reader(ends), await self._reader(ends)
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.connect_write_pipe(
                lambda: asyncio.streams.FlowControlMixin(loop=loop), ends[0]
            )
            self.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
            self._pipes.append(transport)
        except BaseException:
            for end in ends:
                end.close()
            await self.end()
            raise

    async def _reader(self, ends: list[FileIO]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=PIPE_BYTES_MAX)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), ends[0]
        )
        del ends[0]  # the transport closes it from now on
        self._pipes.append(transport)
        return reader

    async def end(self) -> None:
        """Kill and wait until it is gone."""
        try:
            kill(self._pidfd)
            await _readable(self._pidfd)  # a handle of a process is readable once it has ended
        finally:
            os.close(self._pidfd)
            for pipe in self._pipes:
                pipe.close()
            await self._mother.lost_one()


class Mother:
    """The process that is forked, and the forks of it that live."""

    def __init__(self, process: Process, wishes: socket.socket) -> None:
        self._process, self._wishes = process, wishes
        self._turn = asyncio.Lock()
        self.forks = self.living = 0
        self.is_retired = False

    async def fork(self, memory_bytes: int) -> ForkedWorker:
        """One more worker.

        Raises:
            OSError, EOFError, TimeoutError: the process does not serve.
        """
        self.living += 1  # from the wish on: nobody hangs up on a wish
        ours, theirs = _pipes()
        try:
            async with self._turn, asyncio.timeout(ANSWER_WITHIN_S):
                pidfd = await self._ask(memory_bytes, theirs)
        except BaseException:
            self.is_retired = True  # its answer may come later, and nobody would know whose it is
            _close(*ours)
            await self.lost_one()
            raise
        finally:
            _close(*theirs)
        self.forks += 1
        worker = ForkedWorker(self, pidfd)
        await worker.open(*ours)
        return worker

    async def _ask(self, memory_bytes: int, pipes: tuple[int, int, int]) -> int:
        if self.is_retired:
            raise EOFError("it forks no more")
        socket.send_fds(self._wishes, [memory_bytes.to_bytes(WISH_BYTES, "little")], pipes)
        await _readable(self._wishes.fileno())
        _, handles, _, _ = socket.recv_fds(self._wishes, 1, 1)
        if not handles:
            raise EOFError("the process that is forked has ended")
        return handles[0]

    async def lost_one(self) -> None:
        """One of its forks is gone."""
        self.living -= 1
        if self.is_retired and not self.living:
            await self.close()

    async def retire(self) -> None:
        """No more forks; it goes with the last of them."""
        self.is_retired = True
        if not self.living:
            await self.close()

    async def close(self) -> None:
        """End it now, and with it every fork that lives: hanging up is enough."""
        self._wishes.close()
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Forks:
    """Starts workers; hand `start` to a WasmRunner, run `keep` in the background, and `close` at the end."""

    def __init__(self, log: FilteringBoundLogger, *, idle_s: float = IDLE_S, forks_max: int = FORKS_MAX) -> None:
        self._log = log
        self._idle_s, self._forks_max = idle_s, forks_max
        self._mother: Mother | None = None
        self._making = asyncio.Lock()
        self._last_used = 0.0

    async def start(self, memory_bytes: int) -> Worker:
        """A fork, or a fresh worker where forking does not go."""
        self._last_used = asyncio.get_running_loop().time()
        mother = None
        try:
            mother = await self._current()
            return await mother.fork(memory_bytes)
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            self._log.warning("no fork, a fresh worker instead", reason=str(error) or type(error).__name__)
            if mother is not None:
                await self._let_go(mother)
            return await start_fresh(memory_bytes)

    async def keep(self) -> None:
        """Let the process go whenever it has not been wanted for a while."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._idle_s / 4)
            if self._mother is not None and loop.time() - self._last_used > self._idle_s:
                await self._let_go(self._mother)

    async def close(self) -> None:
        """End everything."""
        if self._mother is not None:
            mother, self._mother = self._mother, None
            await mother.close()

    async def _current(self) -> Mother:
        async with self._making:
            if self._mother is not None and (self._mother.is_retired or self._mother.forks >= self._forks_max):
                await self._let_go(self._mother)
            if self._mother is None:
                self._mother = await _make()
            return self._mother

    async def _let_go(self, mother: Mother) -> None:
        if self._mother is mother:
            self._mother = None
        await mother.retire()


async def _make() -> Mother:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *PYTHON, "dux_taskd.sandbox.wasm_forker", str(theirs.fileno()),
            stdin=DEVNULL, stdout=DEVNULL, env=ENVIRONMENT, cwd="/", pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )  # fmt: skip
    return Mother(process, ours)


def _pipes() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(our ends, the worker's ends) of stdin, stdout, stderr."""
    (in_read, in_write), (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe(), os.pipe()
    return (in_write, out_read, err_read), (in_read, out_write, err_write)


def _close(*files: int) -> None:
    for file in files:
        os.close(file)


async def _readable(file: int) -> None:
    """Return when something can be read from the file."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(file, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(file)
