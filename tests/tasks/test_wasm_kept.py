"""Kept workers: one owner's and one package's, each run as if it were the first, and none for long."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import structlog
import wasmtime

from common.clock import SystemClock
from common.work import Limits
from dux_taskd.sandbox import wasm_abi, wasm_kept, wasm_probe
from dux_taskd.sandbox.model import Ended, Outcome, Run
from dux_taskd.sandbox.wasm import WasmRunner
from dux_taskd.sandbox.wasm_forks import Forks
from dux_taskd.sandbox.wasm_kept import Shelf
from dux_taskd.sandbox.wasm_process import Worker
from tests.tasks.task_kit import wait_until

HEAD, RUN = wasm_probe._HEAD, wasm_probe._RUN
ONE_BYTE = "(i64.or (i64.shl (i64.const 65536) (i64.const 32)) (i64.const 1))"
COUNTS = (
    f"(module {HEAD} (global $calls (mut i32) (i32.const 0)) {RUN}"
    " (global.set $calls (i32.add (global.get $calls) (i32.const 1)))"
    " (i32.store8 (i32.const 8) (i32.add (i32.load8_u (i32.const 8)) (i32.const 1)))"
    " (i32.store8 (i32.const 65536) (i32.add (global.get $calls) (i32.load8_u (i32.const 8))))"
    f" {ONE_BYTE}))"
)
LIMITS = Limits(fuel=1_000_000, memory_bytes=1 << 20, wall_s=60, output_bytes=4_096)


class Bench:
    """A runner with a shelf, and how many workers were started."""

    def __init__(self) -> None:
        self.forks = Forks(structlog.get_logger())
        self.shelf = Shelf(SystemClock().monotonic, idle_s=0.2, kept_max=2)
        self.started: list[Worker] = []
        self.runner = WasmRunner(SystemClock(), self._start, self.shelf)

    async def _start(self, memory_bytes: int) -> Worker:
        self.started.append(await self.forks.start(memory_bytes))
        return self.started[-1]

    async def go(
        self, text: str = wasm_probe.ECHO, *, owner: str = "anna", data: bytes = b"duck",
        fuel: int = LIMITS.fuel, deadline_s: float = 60.0,
    ) -> Outcome:  # fmt: skip
        """One run of a module given as text."""
        limits = Limits(fuel=fuel, memory_bytes=1 << 20, wall_s=60, output_bytes=4_096)
        run = Run(package=bytes(wasmtime.wat2wasm(text)), entry=wasm_abi.ENTRY, args=(), input=data, limits=limits,
                  owner=owner)  # fmt: skip
        return await self.runner.run(run, deadline_s=deadline_s, progress=lambda _: None)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    found = Bench()
    yield found
    await found.shelf.close()
    await found.forks.close()


async def test_one_owners_calls_share_a_process_and_nothing_else(bench: Bench) -> None:
    """Memory, globals and fuel of each run are those of a first one."""
    outcomes = [await bench.go(COUNTS) for _ in range(3)]
    assert [one.output for one in outcomes] == [b"\2"] * 3
    assert len({one.fuel_used for one in outcomes}) == 1
    assert len(bench.started) == 1


@pytest.mark.parametrize("other", ["owner", "package", "memory"])
async def test_another_owner_package_or_need_gets_another_process(bench: Bench, other: str) -> None:
    """What a process was kept for is all that it is taken for."""
    await bench.go()
    await bench.go(
        COUNTS if other == "package" else wasm_probe.ECHO,
        owner="bert" if other == "owner" else "anna",
        data=b"duck" if other != "memory" else bytes(wasm_kept.ROUND_BYTES // 2),
    )
    assert len(bench.started) == 2


async def test_a_run_without_an_owner_keeps_nothing(bench: Bench) -> None:
    """Two jobs are two processes."""
    assert [(await bench.go(owner="")).output for _ in range(2)] == [b"duck"] * 2
    assert len(bench.started) == 2


async def test_calls_side_by_side_have_a_process_each(bench: Bench) -> None:
    """Nobody waits for a kept one; those beyond the shelf's room are ended."""
    outcomes = await asyncio.gather(*(bench.go(data=b"%d" % number) for number in range(4)))
    assert [one.output for one in outcomes] == [b"0", b"1", b"2", b"3"]
    assert len(bench.shelf._idle) == 2


async def test_a_process_that_was_stopped_is_not_kept(bench: Bench) -> None:
    """Out of fuel, trapped or too late: the next run finds another."""
    assert (await bench.go(wasm_probe.LOOP)).ended is Ended.OUT_OF_FUEL
    assert (await bench.go(wasm_probe.LOOP, fuel=10**15, deadline_s=0.2)).ended is Ended.DEADLINE
    assert bench.shelf._idle == []
    assert len(bench.started) == 2


async def test_the_time_limit_of_one_run_does_not_end_the_next(bench: Bench) -> None:
    """The first one's timer would ring in the middle of the second."""
    two = f"(module {HEAD} {RUN} (if (local.get 3) (then (loop (br 0)))) (i64.const 0)))"
    assert (await bench.go(two, data=b"", deadline_s=0.4)).ended is Ended.DONE
    assert (await bench.go(two, fuel=2_000_000_000)).ended is Ended.OUT_OF_FUEL
    assert len(bench.started) == 1


async def test_one_that_died_on_the_shelf_costs_the_next_run_nothing(bench: Bench) -> None:
    """The run is done by another."""
    await bench.go()
    signal.pidfd_send_signal(bench.started[0]._pidfd, signal.SIGKILL)  # type: ignore[attr-defined]
    assert (await bench.go()).output == b"duck"
    assert len(bench.started) == 2


async def test_a_cancelled_run_ends_its_process(bench: Bench) -> None:
    """Whoever gives up a call leaves nothing running, and nothing on the shelf."""
    task = asyncio.ensure_future(bench.go(wasm_probe.LOOP, fuel=10**15))
    await wait_until(lambda: bool(bench.started))
    task.cancel()
    await asyncio.wait((task,))
    assert bench.shelf._idle == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(bench.started[0]._pidfd)  # type: ignore[attr-defined]


async def test_none_is_kept_for_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle for a moment, or after so many runs, or when all ends."""
    keeping = asyncio.ensure_future(bench.shelf.keep())
    await bench.go()
    await wait_until(lambda: bench.shelf._idle == [])
    keeping.cancel()
    monkeypatch.setattr(wasm_kept, "RUNS_MAX", 2)
    for _ in range(3):
        await bench.go()
    assert len(bench.started) == 3
    await bench.shelf.close()
    await bench.go()
    assert bench.shelf._idle == []
