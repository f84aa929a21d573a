"""Runs scripts in the hardened sandbox, through the slot launcher; offered only where one serves this process.

Promise: no launcher, no run; there is no other way to start a script. A result comes only from a job that exited with 0
and left one plain file. Knows nothing of the kernel: that is the launcher's part.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Self

import msgspec

from common.clock import Clock
from common.errors import BadParams
from common.work import JobKind
from dux_taskd.sandbox import collector, native_probe, slot_wire
from dux_taskd.sandbox.model import Ended, Offer, Outcome, Probe, Progress, Run
from dux_taskd.sandbox.slot_wire import SlotEnd, SlotEnded, SlotRequest

ENGINE = "bwrap/dux-native/1"
SCRIPT_BYTES_MAX = 1 << 20
INPUT_BYTES_MAX = 64 << 20
OUTPUT_BYTES_MAX = 64 << 20
LOG_BYTES_KEPT = 16 << 10
LOG_BYTES_MAX = 4 << 20  # a job that prints more is ended
PROCESSES = 64
CPUS_MILLI = 1_000  # one CPU a slot, unless the operator says otherwise
QUEUE_S_MAX = 20.0  # set-up, killing and collecting beside the job's own time


class NativeRunner:
    """The runner of kind `native`."""

    kind = JobKind.NATIVE
    engine = ENGINE

    def __init__(self, clock: Clock, launcher: Path, commands: tuple[str, ...], cpus_milli: int = CPUS_MILLI) -> None:
        self._clock, self._launcher, self._commands, self._cpus_milli = clock, launcher, commands, cpus_milli

    def fault(self, run: Run) -> str | None:
        """Why a run cannot even be tried, or None."""
        allowed = [name for name in slot_wire.COMMANDS if name in self._commands]
        claims = (
            (run.entry in allowed, f"the entry must be one of {', '.join(allowed)}, not {run.entry!r}"),
            (len(run.package) <= SCRIPT_BYTES_MAX, f"scripts have at most {SCRIPT_BYTES_MAX} bytes"),
            (len(run.input) <= INPUT_BYTES_MAX, f"inputs have at most {INPUT_BYTES_MAX} bytes"),
            (run.limits.output_bytes <= OUTPUT_BYTES_MAX, f"at most {OUTPUT_BYTES_MAX} bytes of output"),
        )
        return next((fault for holds, fault in claims if not holds), None)

    async def run(self, run: Run, *, deadline_s: float, progress: Progress) -> Outcome:
        """Run in a slot; hanging up (cancellation) makes the launcher kill the job."""
        fault = self.fault(run)
        if fault:
            return self._no_result(Ended.FAILED, fault)
        started = self._clock.monotonic()
        try:
            with _Slot(self._launcher) as slot:
                outcome = await self._serve(slot, run, min(float(run.limits.wall_s), deadline_s))
        except (OSError, EOFError, BadParams) as error:
            return self._no_result(Ended.BROKEN, f"the slot launcher did not serve: {error}")
        progress(1000)
        return msgspec.structs.replace(outcome, wall_ms=int((self._clock.monotonic() - started) * 1000))

    async def probe(self) -> Offer:
        """Try every limit through the launcher, or say that there is none."""
        if not self._launcher.exists():
            why = f"no slot launcher at {self._launcher}: `duxnet up` as root or dux-slots.service starts it"
            return Offer(kind=self.kind, engine=self.engine, probes=(Probe(name="launcher", holds=False, detail=why),))
        return Offer(kind=self.kind, engine=self.engine, probes=await native_probe.probe(self))

    async def _serve(self, slot: _Slot, run: Run, wall_s: float) -> Outcome:
        with contextlib.ExitStack() as files:
            log = _Log(slot.hand_over(run, wall_s, self._cpus_milli, files))
            try:
                async with asyncio.timeout(wall_s + QUEUE_S_MAX):
                    ended, file = await _converse(slot, log)
            except TimeoutError:
                return self._no_result(Ended.BROKEN, "the slot launcher did not answer")
            except asyncio.CancelledError:
                await _end_early(slot)
                raise
            if file is not None:
                files.callback(os.close, file)
            return self._outcome(run, ended, file, log)

    def _outcome(self, run: Run, ended: SlotEnded, file: int | None, log: _Log) -> Outcome:
        verdict, detail = _verdict(ended, flooded=log.flooded)
        if file is not None and os.fstat(file).st_uid in (0, os.getuid()):
            return self._no_result(Ended.BROKEN, "the job ran under a uid that is not a slot's: tell the operator")
        output = b""
        if verdict is Ended.DONE and file is not None:
            try:
                output = collector.read_result(file, bytes_max=run.limits.output_bytes)
            except collector.NoResult as fault:
                verdict, detail = Ended.FAILED, str(fault)
        return Outcome(
            ended=verdict,
            engine=self.engine,
            output=output,
            detail=detail,
            memory_peak_bytes=ended.memory_peak_bytes,
            log=log.kept,
        )

    def _no_result(self, ended: Ended, detail: str) -> Outcome:
        return Outcome(ended=ended, engine=self.engine, detail=detail)


def _verdict(ended: SlotEnded, *, flooded: bool) -> tuple[Ended, str]:
    """How the run ended, and why. Only a job that exited with 0 and left one plain file is DONE."""
    if flooded:
        return Ended.OUTPUT_TOO_LARGE, f"it printed more than {LOG_BYTES_MAX} bytes"
    if ended.out_of_memory:  # also when its last process then slept until the deadline
        return Ended.OUT_OF_MEMORY, "the kernel ended it, or a child of it, at its memory limit"
    if ended.end is SlotEnd.DEADLINE:
        return Ended.DEADLINE, "its time was over"
    if ended.end is SlotEnd.BROKEN:
        return Ended.BROKEN, ended.detail
    if ended.exit_code != 0:
        return Ended.FAILED, f"it exited with {ended.exit_code}"
    return (Ended.FAILED, ended.output_fault) if ended.output_fault else (Ended.DONE, "")


class _Slot:
    """The connection to the launcher for one run."""

    def __init__(self, launcher: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.connect(str(launcher))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up: whatever still runs there is killed."""
        self._socket.close()

    def hang_up(self) -> None:
        """Say that no more is wanted, and still hear how it ended."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def hand_over(self, run: Run, wall_s: float, cpus_milli: int, files: contextlib.ExitStack) -> int:
        """Send the job; the end of the pipe on which its printing arrives."""
        script, given = _file_of(run.package, files), _file_of(run.input, files)
        log, log_end = os.pipe()
        files.callback(os.close, log)
        request = SlotRequest(
            command=run.entry,
            args=run.args,
            wall_ms=max(1, int(wall_s * 1000)),
            memory_bytes=run.limits.memory_bytes + len(run.package) + len(run.input) + run.limits.output_bytes,
            output_bytes=run.limits.output_bytes,
            processes=PROCESSES,
            cpus_milli=cpus_milli,
        )
        try:
            slot_wire.send(self._socket, request, (script, given, log_end))
        finally:
            os.close(log_end)
        return log

    @property
    def number(self) -> int:
        """The connection's descriptor."""
        return self._socket.fileno()

    def answer(self) -> tuple[SlotEnded, int | None]:
        """How it ended, and the result's descriptor if there is one. Call when the connection can be read."""
        ended, fds = slot_wire.receive(self._socket, SlotEnded)
        return ended, fds[0] if fds else None


class _Log:
    """The first part of what the job prints, and whether it was too much."""

    def __init__(self, number: int) -> None:
        os.set_blocking(number, False)
        self.number, self.open, self.kept, self._seen = number, True, b"", 0

    @property
    def flooded(self) -> bool:
        """True once more was printed than any job may print."""
        return self._seen > LOG_BYTES_MAX

    def drain(self) -> None:
        """Take what is there now."""
        with contextlib.suppress(BlockingIOError):
            while self.open:
                piece = os.read(self.number, 65_536)
                self.open = bool(piece)
                self._seen += len(piece)
                self.kept = (self.kept + piece)[:LOG_BYTES_KEPT]
                if self.flooded:
                    return


async def _converse(slot: _Slot, log: _Log) -> tuple[SlotEnded, int | None]:
    """Read what is printed until the launcher says how it ended; end a job that prints too much."""
    ready: set[int] = set()
    while slot.number not in ready:
        ready = await _readable([slot.number, log.number] if log.open else [slot.number])
        log.drain()
        if log.flooded:
            slot.hang_up()
            log.open = False
    return slot.answer()


async def _end_early(slot: _Slot) -> None:
    """Have the job killed, and wait until the launcher says that it is dead."""
    slot.hang_up()
    with contextlib.suppress(TimeoutError, OSError, EOFError):
        async with asyncio.timeout(QUEUE_S_MAX):
            await _readable([slot.number])
            _, file = slot.answer()
            if file is not None:
                os.close(file)


def _file_of(data: bytes, files: contextlib.ExitStack) -> int:
    """An anonymous file with these bytes, at its start, closed with the stack."""
    number = os.memfd_create("dux-job")
    files.callback(os.close, number)
    with os.fdopen(os.dup(number), "wb") as stream:
        stream.write(data)
    os.lseek(number, 0, os.SEEK_SET)
    return number


async def _readable(numbers: list[int]) -> set[int]:
    """Those of the descriptors that can be read, as soon as one can."""
    loop, ready, found = asyncio.get_running_loop(), asyncio.Event(), set[int]()

    def note(number: int) -> None:
        found.add(number)
        ready.set()

    for number in numbers:
        loop.add_reader(number, note, number)
    try:
        await ready.wait()
    finally:
        for number in numbers:
            loop.remove_reader(number)
    return found
