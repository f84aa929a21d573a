"""From the order to the result of the smallest job in each sandbox, beside `docker run` of a program that does nothing.

How it is fair: each figure is the whole way of one job, nothing kept warm that the product does not keep warm itself,
until the sandbox is gone; docker runs as hardened as our own sandboxes, from a local image of two megabytes. They take
turns. Where no engine runs and none can be started, the row says so and shows the absolute figure.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from bench.measure import Call, Contender, Run, in_turns
from bench.peers.docker import Docker, NoEngine, engine
from bench.rows import Finding, Goal, Samples
from common.clock import SystemClock
from common.errors import Unavailable
from common.log import start_logging
from common.work import Limits
from dux_cli.supervisor import child_environment
from dux_taskd.sandbox import model, wasm_abi
from dux_taskd.sandbox.native import NativeRunner
from dux_taskd.sandbox.wasm import WasmRunner
from dux_taskd.sandbox.wasm_forks import Forks
from dux_taskd.sandbox.wasm_probe import BYTES, ECHO

ROUNDS = 25
WARM_UPS = 2
LIMITS = Limits(fuel=1_000_000, memory_bytes=64 << 20, wall_s=10, output_bytes=1 << 16)
SCRIPT = b"cat /job/input > /out/result"
DUCK = b"duck"
LAUNCHER_WITHIN_S = 20.0
FIRST_UID = 2_100_000_000  # slots of this benchmark alone


class JobFailed(Unavailable):
    """The sandbox did not run the smallest job: {detail}."""

    code = 1342
    key = "job-failed"


async def measure(run: Run) -> list[Finding]:
    """Wasm and native, each in turns with docker."""
    async with AsyncExitStack() as stack:
        docker = await _docker(stack, run)
        peer = "docker run" if isinstance(docker, Docker) else docker
        contend = [await _wasm(stack), await _native(stack, run.folder), await _container(docker)]
        wasm, native, container = await in_turns(run.rounds(ROUNDS), *contend)
    at_native = peer if native else f"{peer} (no native jobs here: only root can start their slot launcher)"
    return [
        _finding("sandbox start wasm", 0.05, wasm, peer, container, "92 bytes: forked, compiled, run, gone"),
        _finding("sandbox start native", 0.25, native, at_native, container, "bash in bubblewrap copies four bytes"),
    ]


def _finding(name: str, bound: float, ours: Samples | None, peer: str, theirs: Samples | None, note: str) -> Finding:
    goal = Goal("ratio", "<=", bound)
    return Finding(name=name, unit="ms", ours=ours, goal=goal, peer=peer, theirs=theirs, note=note)


async def _docker(stack: AsyncExitStack, run: Run) -> Docker | str:
    """The engine, or why there is none."""
    if run.quick:
        return "docker run: left out of a quick run"
    place = run.folder / "docker"
    place.mkdir()
    try:
        docker = await stack.enter_async_context(engine(place))
    except NoEngine as error:
        run.tell(error.message)
        return error.message
    run.tell("beside a docker engine")
    return docker


async def _container(docker: Docker | str) -> Contender | None:
    return await _warmed(docker.run_once) if isinstance(docker, Docker) else None


async def _wasm(stack: AsyncExitStack) -> Contender:
    forks = Forks(start_logging("taskd", "WARNING"))
    stack.push_async_callback(forks.close)
    runner = WasmRunner(SystemClock(), forks.start)
    job = model.Run(package=BYTES[ECHO], entry=wasm_abi.ENTRY, args=(), input=DUCK, limits=LIMITS)
    return await _warmed(partial(_job, runner, job))


async def _native(stack: AsyncExitStack, folder: Path) -> Contender | None:
    if os.geteuid() != 0:
        return None
    socket = await stack.enter_async_context(_launcher(folder / "slots.sock"))
    runner = NativeRunner(SystemClock(), socket, ("bash",))
    job = model.Run(package=SCRIPT, entry="bash", args=(), input=DUCK, limits=LIMITS)
    return await _warmed(partial(_job, runner, job))


async def _job(runner: model.Runner, job: model.Run) -> None:
    outcome = await runner.run(job, deadline_s=LIMITS.wall_s, progress=lambda _: None)
    if outcome.output != DUCK:
        raise JobFailed(detail=f"{runner.kind.value}: {outcome.ended.value} {outcome.detail}")


async def _warmed(work: Call) -> Contender:
    """The work as a contender in milliseconds, after a few runs that do not count: files are in the cache."""

    async def timed() -> float:
        began = time.perf_counter()
        await work()
        return (time.perf_counter() - began) * 1000

    for _ in range(WARM_UPS):
        await timed()
    return timed


@asynccontextmanager
async def _launcher(socket: Path) -> AsyncIterator[Path]:
    """The slot launcher, as `duxnet up` starts it for root."""
    words = ["--socket", str(socket), "--serve-uid", str(os.getuid()), "--first-uid", str(FIRST_UID)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "dux_taskd.sandbox.slot_launcher", *words, env=child_environment(), process_group=0
    )
    try:
        async with asyncio.timeout(LAUNCHER_WITHIN_S):
            while not socket.exists():
                if process.returncode is not None:
                    raise JobFailed(detail="the slot launcher ended at its start")
                await asyncio.sleep(0.02)
        yield socket
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
