"""Admission: never more runs or memory than allowed, first come first served, nothing leaks."""

from __future__ import annotations

import asyncio

import pytest

from common.contracts.task import KindNotOffered
from common.errors import BadSettings
from common.work import EQUAL, JobKind, JobSpec, Limits
from dux_taskd import executor as executor_module
from dux_taskd.executor import Capacity, Executor
from dux_taskd.sandbox.model import Ended, Offer, Outcome, Probe, Progress, Run
from dux_taskd.settings import TaskSettings, cpus_milli, size_bytes
from tests.tasks.task_kit import wait_until

SETTINGS = TaskSettings(network_profile="", data_dir="", run_dir="")


class Slow:
    """A runner that runs until it is let go, and counts."""

    kind = JobKind.WASM
    engine = "slow"

    def __init__(self, *, holds: bool = True) -> None:
        self.holds, self.now, self.most, self.go = holds, 0, 0, asyncio.Event()

    async def run(self, run: Run, *, deadline_s: float, progress: Progress) -> Outcome:
        assert run.package == b""
        assert deadline_s > 0
        progress(1)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go.wait()
        finally:
            self.now -= 1
        return Outcome(ended=Ended.DONE, engine=self.engine)

    async def probe(self) -> Offer:
        return Offer(kind=self.kind, engine=self.engine, probes=(Probe(name="x", holds=self.holds, detail="planted"),))


def job(memory: int = 1 << 20) -> JobSpec:
    return JobSpec(
        v=1, kind=JobKind.WASM, package=bytes(32), entry="", args=(), input_blob=bytes(32), input_hash=bytes(32),
        input_private=False, limits=Limits(fuel=1, memory_bytes=memory, wall_s=1, output_bytes=1), comparator=EQUAL,
        audience=(),
    )  # fmt: skip


async def test_no_more_runs_at_a_time_than_allowed() -> None:
    """Ten jobs, two at a time; all are done in the end; a cancelled one gives its room back."""
    runner = Slow()
    executor = Executor((runner,), Capacity(2, 1 << 30))
    await executor.probe()
    jobs = [asyncio.ensure_future(executor.execute(job(), b"", b"", lambda _: None)) for _ in range(10)]
    await wait_until(lambda: runner.now == 2)
    jobs[0].cancel()
    jobs[5].cancel()
    await wait_until(lambda: runner.now == 2 and jobs[0].done() and jobs[5].done())
    runner.go.set()
    done = await asyncio.gather(*jobs, return_exceptions=True)
    assert sum(isinstance(one, Outcome) for one in done) == 8
    assert runner.most == 2


async def test_declared_memory_is_the_other_limit() -> None:
    """Two jobs of which only one fits run one after the other; one above everything runs alone."""
    runner = Slow()
    executor = Executor((runner,), Capacity(8, 3 << 20))
    await executor.probe()
    jobs = [asyncio.ensure_future(executor.execute(job(2 << 20), b"", b"", lambda _: None)) for _ in range(2)]
    jobs.append(asyncio.ensure_future(executor.execute(job(1 << 30), b"", b"", lambda _: None)))
    await wait_until(lambda: runner.now == 1)
    runner.go.set()
    await asyncio.gather(*jobs)
    assert runner.most == 1


async def test_a_kind_that_does_not_hold_is_refused() -> None:
    """Fail closed: a probe that did not hold, or a kind without a runner, runs nothing."""
    executor = Executor((Slow(holds=False),), Capacity(1, 1))
    await executor.probe()
    with pytest.raises(KindNotOffered, match="planted"):
        await executor.execute(job(), b"", b"", lambda _: None)
    run = Run(package=b"", entry="python", args=(), input=b"", limits=job().limits)
    with pytest.raises(KindNotOffered, match="switched off"):
        await executor.run(JobKind.NATIVE, run, lambda _: None)


async def test_a_kind_that_failed_its_probe_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine is no verdict for ever: the kind is offered as soon as its probes hold."""
    monkeypatch.setattr(executor_module, "PROBE_AGAIN_S", 0.01)
    runner = Slow(holds=False)
    executor = Executor((runner,), Capacity(1, 1))
    probing = asyncio.ensure_future(executor.keep_probing())
    await executor.probed.wait()
    assert not executor.offered
    runner.holds = True
    await probing
    assert executor.offered == {JobKind.WASM}


def test_an_offer_without_probes_is_none() -> None:
    """Nothing tried, nothing offered."""
    assert not Offer(kind=JobKind.WASM, engine="", probes=()).offered


@pytest.mark.parametrize(("text", "found"), [("512m", 512 << 20), ("2g", 2 << 30), ("64k", 65_536), ("7", 7)])
def test_sizes_are_read_as_written(text: str, found: int) -> None:
    """The specification's way to write a size."""
    assert size_bytes(text, "x") == found


@pytest.mark.parametrize("text", ["", "m", "1.5g", "-1", "2t", "9999999"])
def test_other_sizes_are_refused_with_their_key(text: str) -> None:
    """The error names the key."""
    with pytest.raises(BadSettings, match="memory"):
        size_bytes(text, "sandbox.memory_limit")


@pytest.mark.parametrize(("text", "milli"), [("1.0", 1000), ("0.5", 500), ("2", 2000), ("0", 10), ("1.25", 1250)])
def test_cpu_limits(text: str, milli: int) -> None:
    """CPUs as the specification writes them, never less than a hundredth."""
    from msgspec.structs import replace  # noqa: PLC0415

    assert cpus_milli(replace(SETTINGS, sandbox=replace(SETTINGS.sandbox, cpu_limit=text))) == milli
