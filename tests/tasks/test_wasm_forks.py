"""Workers as forks: each alone, each gone at its end, whatever happens to the process that is forked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from common.clock import SystemClock
from common.work import Limits
from dux_taskd.sandbox import wasm_abi, wasm_forks
from dux_taskd.sandbox.model import Ended, Outcome, Run
from dux_taskd.sandbox.wasm import WasmRunner
from dux_taskd.sandbox.wasm_forks import Forks
from dux_taskd.sandbox.wasm_probe import BYTES, ECHO, LOOP
from tests.tasks.task_kit import child_processes, wait_until

pytestmark = pytest.mark.patient

DUCK = b"duck"


OTHERS: set[int] = set()  # children that other tests have left running on purpose


@pytest.fixture(autouse=True)
def others() -> None:
    OTHERS.clear()
    OTHERS.update(child_processes())


@pytest.fixture
async def forks() -> AsyncIterator[Forks]:
    found = Forks(structlog.get_logger())
    yield found
    await found.close()


async def go(forks: Forks, text: str = ECHO, *, data: bytes = DUCK, fuel: int = 1_000_000) -> Outcome:
    limits = Limits(fuel=fuel, memory_bytes=1 << 20, wall_s=60, output_bytes=4_096)
    run = Run(package=BYTES[text], entry=wasm_abi.ENTRY, args=(), input=data, limits=limits)
    return await WasmRunner(SystemClock(), forks.start).run(run, deadline_s=60.0, progress=lambda _: None)


def children() -> set[int]:
    return child_processes() - OTHERS


def mother() -> int:
    """The process that is forked: this one's youngest child."""
    return max(children())


def grandchildren() -> set[int]:
    return {worker for child in children() for worker in child_processes(child)}


def files_open() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count of names


async def looping(forks: Forks) -> asyncio.Task[Outcome]:
    """A job that does not end by itself, and runs now."""
    before = grandchildren()
    task = asyncio.ensure_future(go(forks, LOOP, fuel=10**15))
    await wait_until(lambda: any(is_confined(pid) for pid in grandchildren() - before))
    return task


def is_confined(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "Seccomp:\t2" in status and "State:\tZ" not in status


def test_the_daemon_itself_loads_no_wasmtime() -> None:
    """Only the processes of jobs carry it: nine megabytes that an idle node does without."""
    loaded = "import sys, dux_taskd.daemon; print('wasmtime' in sys.modules)"
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", loaded], cwd=root, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


async def test_many_jobs_one_process_that_is_forked_and_nothing_left(forks: Forks) -> None:
    """Jobs side by side and one after another get their own outputs; no process and no open file stays of them."""
    await go(forks)
    before = children(), files_open()
    outcomes = await asyncio.gather(*(go(forks, data=b"%d" % number) for number in range(12)))
    assert [outcome.output for outcome in outcomes] == [b"%d" % number for number in range(12)]
    assert (children(), files_open()) == before
    await wait_until(lambda: not grandchildren())


async def test_a_fork_has_no_file_of_ours(forks: Forks) -> None:
    """A job's process holds its three pipes and nothing else: not the socket over which forks are ordered."""
    task = await looping(forks)
    worker = grandchildren().pop()
    held = {os.readlink(path) for path in Path(f"/proc/{worker}/fd").iterdir()}  # noqa: PTH115, ASYNC240
    assert len(held) == 3, held
    assert all(name.startswith("pipe:") for name in held), held
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_cancelled_job_ends_at_once_and_the_others_go_on(forks: Forks) -> None:
    """Cancelling kills exactly that fork."""
    stays, goes = await looping(forks), await looping(forks)
    goes.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await goes
    await wait_until(lambda: len(grandchildren()) == 1)
    assert not stays.done()
    stays.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stays
    assert (await go(forks)).output == DUCK


async def test_a_start_that_is_cancelled_gives_nobody_anothers_worker(forks: Forks) -> None:
    """Cancelled while the fork was ordered: what comes of it is never taken for the next job's."""
    await go(forks)
    for _ in range(20):
        task = asyncio.ensure_future(go(forks, data=b"never"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await go(forks)).output == DUCK
    await wait_until(lambda: len(children()) <= 1 and not grandchildren())


async def test_starts_that_wait_behind_a_cancelled_one_get_their_own_worker(forks: Forks) -> None:
    """One of many starts at once is cancelled in mid-order: each other one runs, is ended, and nothing stays."""
    await go(forks)
    for _ in range(5):
        tasks = [asyncio.ensure_future(go(forks, data=b"%d" % number)) for number in range(6)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[0].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one.output for one in outcomes[1:] if isinstance(one, Outcome)] == [b"%d" % n for n in range(1, 6)]
        await wait_until(lambda: not grandchildren())
    await wait_until(lambda: len(children()) <= 1)


async def test_when_the_forked_process_dies_its_jobs_are_broken_and_the_next_one_runs(forks: Forks) -> None:
    """Kill -9 of it: its forks die with it, their jobs may be tried again, and the next job finds another process."""
    task = await looping(forks)
    workers = grandchildren()
    os.kill(mother(), signal.SIGKILL)
    assert (await task).ended is Ended.BROKEN
    await wait_until(lambda: not any(is_confined(pid) for pid in workers))
    assert (await go(forks)).output == DUCK


async def test_without_it_a_fresh_worker_runs_the_job(forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot be started or does not serve costs time, not jobs."""
    monkeypatch.setattr(wasm_forks, "PYTHON", ("/bin/false",))
    assert (await go(forks)).output == DUCK
    monkeypatch.setattr(wasm_forks, "PYTHON", ("/no/such/program",))
    assert (await go(forks)).output == DUCK


async def test_it_is_replaced_after_so_many_forks() -> None:
    """A job under way keeps its process; the next is forked from another one."""
    forks = Forks(structlog.get_logger(), forks_max=2)
    task = await looping(forks)
    first = mother()
    for _ in range(3):
        assert (await go(forks)).output == DUCK
    assert not task.done()
    assert mother() != first
    assert len(children()) == 2
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await wait_until(lambda: len(children()) == 1)  # the first went with its last job
    await forks.close()


async def test_an_idle_node_has_none() -> None:
    """When nothing was wanted for a while it goes, and comes back with the next job."""
    forks = Forks(structlog.get_logger(), idle_s=0.2)
    keeping = asyncio.ensure_future(forks.keep())
    for _ in range(2):
        assert (await go(forks)).output == DUCK
        await wait_until(lambda: not children())
    keeping.cancel()
    await forks.close()
