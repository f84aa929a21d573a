"""Runs wasm modules in processes that can be killed at any moment, never two owners in one. On any Linux, without root.

Promise: a module that crashes, hangs or blows up hurts only its own process; a wall-clock deadline gives «no result».
It does not know whose job it runs or what it costs.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from common.clock import Clock
from common.work import JobKind
from dux_taskd.sandbox import wasm_abi, wasm_probe
from dux_taskd.sandbox.model import Ended, Offer, Outcome, Progress, Run
from dux_taskd.sandbox.wasm_abi import COMPILED, PROGRESS, RESULT, WorkerJob, WorkerResult
from dux_taskd.sandbox.wasm_kept import Kept, Key, Shelf, key_of
from dux_taskd.sandbox.wasm_process import Start, Worker, start_fresh

BASE_MEMORY_BYTES = 256 << 20  # Python and wasmtime themselves
START_S = 20.0  # a fresh Python on a loaded machine
COMPILE_S = 20.0
GRACE_S = 2.0  # the worker ends itself at the wall limit; after this it is killed
STDERR_BYTES_MAX = 4_096
ANSWERED = frozenset({Ended.DONE, Ended.REFUSED})  # by the package itself: its process is as good as before


def run_fault(run: Run) -> str | None:
    """Why a run cannot even be tried, or None."""
    claims = (
        (run.entry == wasm_abi.ENTRY, f"the entry must be {wasm_abi.ENTRY!r}, not {run.entry!r}"),
        (len(run.package) <= wasm_abi.MODULE_BYTES_MAX, f"modules have at most {wasm_abi.MODULE_BYTES_MAX} bytes"),
        (len(run.input) <= wasm_abi.INPUT_BYTES_MAX, f"inputs have at most {wasm_abi.INPUT_BYTES_MAX} bytes"),
        (run.limits.memory_bytes <= wasm_abi.MEMORY_BYTES_MAX, f"at most {wasm_abi.MEMORY_BYTES_MAX} bytes of memory"),
        (run.limits.output_bytes <= wasm_abi.OUTPUT_BYTES_MAX, f"at most {wasm_abi.OUTPUT_BYTES_MAX} bytes of output"),
        (run.limits.fuel > 0, "a wasm job needs fuel"),
    )
    return next((fault for holds, fault in claims if not holds), None)


def _worker_job(run: Run, deadline_s: float, module: bytes) -> bytes:
    job = WorkerJob(
        module=module,
        args="\n".join(run.args).encode(),
        input=run.input,
        fuel=run.limits.fuel,
        memory_bytes=run.limits.memory_bytes,
        output_bytes=run.limits.output_bytes,
        wall_s=min(float(run.limits.wall_s), deadline_s),
    )
    body = msgspec.msgpack.encode(job)
    return len(body).to_bytes(8, "little") + body


def worker_memory_bytes(run: Run) -> int:
    """What the worker may write to: itself, compiling, the job's memory, and copies of module, input and output."""
    copies = 2 * (len(run.package) + len(run.input)) + 2 * run.limits.output_bytes
    return BASE_MEMORY_BYTES + wasm_abi.COMPILE_MEMORY_BYTES + run.limits.memory_bytes + copies


class _Conversation:
    """The parent's side of one worker: hand over the job, read frames, each within its time."""

    def __init__(self, worker: Worker, progress: Progress) -> None:
        self._stdin, self._stdout, self._progress = worker.stdin, worker.stdout, progress

    async def hand_over(self, data: bytes, *, is_last: bool) -> None:
        self._stdin.write(data)
        await self._stdin.drain()
        if is_last:
            self._stdin.close()

    async def next_frame(self) -> tuple[bytes, bytes]:
        head = await self._stdout.readexactly(5)
        length = int.from_bytes(head[1:], "little")
        if length > wasm_abi.FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {length} bytes")
        return head[:1], await self._stdout.readexactly(length)

    async def until(self, wanted: bytes) -> bytes | WorkerResult:
        """The body of the first frame of this kind; a result ends the conversation at any point."""
        while True:
            kind, body = await self.next_frame()
            if kind == PROGRESS and len(body) == 4:  # noqa: PLR2004 - one u32
                self._progress(min(1000, int.from_bytes(body, "little")))
            elif kind == RESULT:
                return msgspec.msgpack.decode(body, type=WorkerResult)
            elif kind == wanted:
                return body
            else:
                raise ValueError(f"an unexpected frame {kind!r}")


class WasmRunner:
    """The runner of kind `wasm`."""

    kind = JobKind.WASM
    engine = wasm_abi.ENGINE

    def __init__(self, clock: Clock, start: Start = start_fresh, shelf: Shelf | None = None) -> None:
        """`start` gets a fresh worker process or a fork (wasm_forks); `shelf` keeps those of runs with an owner."""
        self._clock = clock
        self._start = start
        self._shelf = shelf

    async def run(self, run: Run, *, deadline_s: float, progress: Progress) -> Outcome:
        """Run in a process that is gone when this returns or is cancelled, or kept for its owner after an answer."""
        fault = run_fault(run)
        if fault:
            return Outcome(ended=Ended.FAILED, engine=self.engine, detail=fault)
        started = self._clock.monotonic()
        key = key_of(run, worker_memory_bytes(run)) if self._shelf else None
        if self._shelf is None or key is None:
            result = await self._run_alone(run, deadline_s, progress)
        else:
            result = await self._run_kept(self._shelf, key, run, deadline_s, progress)
        wall_ms = int((self._clock.monotonic() - started) * 1000)
        return msgspec.structs.replace(result, wall_ms=wall_ms)

    async def _run_alone(self, run: Run, deadline_s: float, progress: Progress) -> Outcome:
        worker = await self._start(worker_memory_bytes(run))
        try:
            return await self._converse(worker, run, deadline_s, progress, run.package, is_last=True)
        finally:
            await worker.end()

    async def _run_kept(self, shelf: Shelf, key: Key, run: Run, deadline_s: float, progress: Progress) -> Outcome:
        """On a kept worker; where that one has died meanwhile, or there is none, on another that is kept afterwards."""
        if kept := shelf.take(key):
            result = await self._run_on(shelf, kept, run, deadline_s, progress, b"")
            if result.ended is not Ended.BROKEN:
                return result
        kept = Kept(key, await self._start(key.memory_bytes))
        return await self._run_on(shelf, kept, run, deadline_s, progress, run.package)

    async def _run_on(
        self, shelf: Shelf, kept: Kept, run: Run, deadline_s: float, progress: Progress, module: bytes
    ) -> Outcome:
        try:
            result = await self._converse(kept.worker, run, deadline_s, progress, module, is_last=False)
        except BaseException:
            await kept.worker.end()
            raise
        await (shelf.put(kept) if result.ended in ANSWERED else kept.worker.end())
        return result

    async def probe(self) -> Offer:
        """Try every limit on this machine."""
        return Offer(kind=self.kind, engine=self.engine, probes=await wasm_probe.probe(self))

    async def _converse(
        self, worker: Worker, run: Run, deadline_s: float, progress: Progress, module: bytes, *, is_last: bool
    ) -> Outcome:
        conversation = _Conversation(worker, progress)
        wall_s = min(float(run.limits.wall_s), deadline_s)
        try:
            async with asyncio.timeout(START_S + COMPILE_S):
                await conversation.hand_over(_worker_job(run, deadline_s, module), is_last=is_last)
                first = await conversation.until(COMPILED)
            async with asyncio.timeout(wall_s + GRACE_S):
                last = first if isinstance(first, WorkerResult) else await conversation.until(RESULT)
        except TimeoutError:
            return self._no_result(Ended.DEADLINE, f"no result within {wall_s} s, or not compiled in {COMPILE_S} s")
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, msgspec.MsgspecError) as error:
            return self._no_result(Ended.BROKEN, f"the worker process ended early: {await _last_words(worker, error)}")
        if not isinstance(last, WorkerResult):
            return self._no_result(Ended.BROKEN, "the worker process gave no result")
        return Outcome(engine=self.engine, **msgspec.structs.asdict(last))

    def _no_result(self, ended: Ended, detail: str) -> Outcome:
        return Outcome(ended=ended, engine=self.engine, detail=detail)


async def _last_words(worker: Worker, error: Exception) -> str:
    """What a dead worker wrote on its way, cut."""
    said = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            said = await worker.stderr.read(STDERR_BYTES_MAX)
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__
