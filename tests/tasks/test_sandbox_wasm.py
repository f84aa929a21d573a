"""Hostile and honest wasm modules in the real worker process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
import wasmtime

from common.clock import SystemClock
from common.work import Limits
from dux_taskd.sandbox import wasm, wasm_abi, wasm_probe
from dux_taskd.sandbox.model import Ended, Outcome, Run
from dux_taskd.sandbox.wasm import WasmRunner, run_fault
from dux_taskd.sandbox.wasm_forks import Forks
from dux_taskd.sandbox.wasm_process import Start, start_fresh
from tests.tasks.task_kit import child_processes, wait_until

pytestmark = pytest.mark.patient

LIMITS = Limits(fuel=1_000_000, memory_bytes=4 << 20, wall_s=5, output_bytes=65_536)
HEAD = wasm_probe._HEAD
RUN = wasm_probe._RUN


def limits(fuel: int = LIMITS.fuel, memory_bytes: int = LIMITS.memory_bytes, output_bytes: int = 65_536) -> Limits:
    """Small limits, one of them changed."""
    return Limits(fuel=fuel, memory_bytes=memory_bytes, wall_s=5, output_bytes=output_bytes)


async def go(
    wat: str | bytes, given: Limits = LIMITS, *, data: bytes = b"", deadline_s: float = 5.0, start: Start = start_fresh
) -> Outcome:
    """Run a module given as text or bytes."""
    package = wat if isinstance(wat, bytes) else bytes(wasmtime.wat2wasm(wat))
    run = Run(package=package, entry=wasm_abi.ENTRY, args=(), input=data, limits=given)
    return await WasmRunner(SystemClock(), start).run(run, deadline_s=deadline_s, progress=lambda _: None)


@pytest.fixture(params=["fresh", "forked"])
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Both ways in which taskd gets a worker."""
    forks = Forks(structlog.get_logger())
    yield forks.start if request.param == "forked" else start_fresh
    await forks.close()


async def test_the_probe_offers_wasm_here() -> None:
    """Every positive and every negative control holds on this machine, and each is named."""
    offer = await WasmRunner(SystemClock()).probe()
    assert offer.offered, offer.reason
    assert len(offer.probes) == 7


@pytest.mark.parametrize("text", wasm_probe.BYTES)
def test_the_probes_bytes_are_their_texts(text: str) -> None:
    """The daemon itself loads no wasmtime, so the probe's modules stand there as bytes: these."""
    assert wasm_probe.BYTES[text] == bytes(wasmtime.wat2wasm(text))


async def test_a_probe_that_does_not_hold_withdraws_the_kind() -> None:
    """A sandbox that ignores its fuel limit is found out: the offer is withdrawn and says why."""

    class NoFuel(WasmRunner):
        async def run(self, run: Run, **rest: object) -> Outcome:
            if run.limits.fuel == 100_000 and len(run.package) < 90:
                return Outcome(ended=Ended.DONE, engine="planted", output=b"duck")
            return await super().run(run, **rest)  # type: ignore[arg-type]

    offer = await NoFuel(SystemClock()).probe()
    assert not offer.offered
    assert "fuel" in offer.reason


ALLOC = '(func (export "dux_alloc") (param i32) (result i32) (i32.const {}))'
ZERO = f"{RUN} (i64.const 0))"
SPIN = "(loop (br 0))"

HOSTILE: dict[str, tuple[str | bytes, Ended]] = {
    "fuel bomb": (f"(module {HEAD} {RUN} {SPIN} (i64.const 0)))", Ended.OUT_OF_FUEL),
    "fuel bomb at start": (f"(module {HEAD} {ZERO} (func $f {SPIN}) (start $f))", Ended.OUT_OF_FUEL),
    "unreachable": (f"(module {HEAD} {RUN} unreachable))", Ended.FAILED),
    "endless recursion": (f"(module {HEAD} (func $f (call $f)) {RUN} (call $f) (i64.const 0)))", Ended.FAILED),
    "memory at birth": (f'(module (memory (export "memory") 1000) {ALLOC.format(8)} {ZERO})', Ended.OUT_OF_MEMORY),
    "output outside": (f"(module {HEAD} {RUN} (i64.const 0x7fff000000000010)))", Ended.FAILED),
    "output flood": (f"(module {HEAD} {RUN} (i64.const 0x7fffffff)))", Ended.OUTPUT_TOO_LARGE),
    "no exports": ("(module)", Ended.FAILED),
    "other import": ('(module (import "env" "system" (func (param i32) (result i32))))', Ended.FAILED),
    "no room for input": (f'(module (memory (export "memory") 1) {ALLOC.format(0)} {ZERO})', Ended.OUT_OF_MEMORY),
    "room outside": (f'(module (memory (export "memory") 1) {ALLOC.format(-8)} {ZERO})', Ended.FAILED),
    # The text form of a shared memory needs a feature that our compiler of texts has off.
    "shared memory": (bytes.fromhex("0061736d01000000050401030102"), Ended.FAILED),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_modules_end_as_they_should(name: str, start: Start) -> None:
    """Each attack ends the run in its own way, with no output, and the parent goes on."""
    module, ended = HOSTILE[name]
    outcome = await go(module, data=b"twelve bytes", start=start)
    assert outcome.ended is ended, outcome
    assert outcome.output == b""


@pytest.mark.parametrize("package", [b"", b"\0asm", b"\x7fELF" + bytes(64), b"(module)"])
async def test_what_is_no_module_never_reaches_the_compiler_as_code(package: bytes) -> None:
    """Native code, text and stumps are refused; a precompiled file (ELF) in particular is never loaded."""
    outcome = await go(package)
    assert outcome.ended is Ended.FAILED


async def test_memory_bomb_gets_its_limit_and_no_more(start: Start) -> None:
    """A module that grows until it is refused ends with at most the bytes that its limit gives."""
    grow = (
        f"(module {HEAD} {RUN} (loop (br_if 0 (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) (i64.const -5)))"
    )
    outcome = await go(grow, start=start)
    assert outcome.ended is Ended.REFUSED
    assert outcome.memory_peak_bytes == LIMITS.memory_bytes


async def test_an_endless_module_with_endless_fuel_ends_at_the_deadline_without_a_result(start: Start) -> None:
    """Wall clock gives «no result», never an output that others would compare."""
    outcome = await go(wasm_probe.LOOP, limits(fuel=10**15), deadline_s=0.2, start=start)
    assert (outcome.ended, outcome.output) == (Ended.DEADLINE, b"")


async def test_fuel_and_output_are_the_same_every_time() -> None:
    """Floats that make NaN included: equal bytes and equal fuel in separate processes."""
    nan = f"(module {HEAD} {RUN} (f64.store (i32.const 0) (f64.div (f64.const 0) (f64.const 0))) (i64.const 8)))"
    first, second = await go(nan), await go(nan)
    assert first.ended is Ended.DONE
    assert (first.output, first.fuel_used) == (second.output, second.fuel_used)
    assert first.output == bytes.fromhex("000000000000f87f")


async def test_progress_only_rises() -> None:
    """Whatever a module says about its progress, the caller sees 0..1000, never falling."""
    calls = " ".join(f"(call $p (i32.const {value}))" for value in (500, 20, -7, 9_999, 300))
    head = f'(import "dux" "progress" (func $p (param i32))) {HEAD}'
    package = bytes(wasmtime.wat2wasm(f"(module {head} {RUN} {calls} (i64.const 0)))"))
    seen: list[int] = []
    run = Run(package=package, entry=wasm_abi.ENTRY, args=(), input=b"", limits=LIMITS)
    await WasmRunner(SystemClock()).run(run, deadline_s=5.0, progress=seen.append)
    assert seen == [500, 1000]


async def test_a_cancelled_run_leaves_no_process() -> None:
    """Cancelling the awaiting task kills the worker before the cancellation goes on."""
    before = child_processes()
    task = asyncio.ensure_future(go(wasm_probe.LOOP, limits(fuel=10**15)))
    await wait_until(lambda: bool(child_processes() - before))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not child_processes() - before


PARENT = """
import asyncio, sys, wasmtime
from common.clock import SystemClock
from common.work import Limits
from dux_taskd.sandbox import wasm_probe
from dux_taskd.sandbox.model import Run
from dux_taskd.sandbox.wasm import WasmRunner
limits = Limits(fuel=10**15, memory_bytes=1 << 20, wall_s=300, output_bytes=64)
package = bytes(wasmtime.wat2wasm(wasm_probe.LOOP))
run = Run(package=package, entry="dux-wasm/1", args=(), input=b"", limits=limits)
asyncio.run(WasmRunner(SystemClock()).run(run, deadline_s=300.0, progress=lambda _: None))
"""


async def test_a_killed_parent_leaves_no_worker() -> None:
    """Kill -9 of the daemon in mid-job: its worker process dies with it."""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, cwd=root)
    await wait_until(lambda: any(is_confined(pid) for pid in child_processes(process.pid)))
    workers = child_processes(process.pid)
    process.kill()
    await process.wait()
    await wait_until(lambda: not any(Path(f"/proc/{pid}/fd").exists() and is_confined(pid) for pid in workers))


def is_confined(pid: int) -> bool:
    """True while the process lives behind its filter."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "Seccomp:\t2" in status and "State:\tZ" not in status


async def test_a_killed_worker_is_broken_not_a_result() -> None:
    """A worker that dies under its job (here: killed from outside) gives BROKEN, which may be tried again."""
    before = child_processes()
    task = asyncio.ensure_future(go(wasm_probe.LOOP, limits(fuel=10**15)))
    await wait_until(lambda: bool(child_processes() - before))
    os.kill((child_processes() - before).pop(), 9)
    assert (await task).ended is Ended.BROKEN


MANY_LOCALS = f"(func (local {' '.join(['i64'] * 2_000)}))"
BOMB = f"(module {HEAD} {RUN} (i64.const 0)) {MANY_LOCALS * 400})"


async def test_compiling_is_bounded_in_memory(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    """A worker whose memory does not suffice for compiling dies alone; the parent says that it broke."""
    monkeypatch.setattr(wasm_abi, "COMPILE_MEMORY_BYTES", -(255 << 20))
    assert (await go(BOMB, start=start)).ended is Ended.BROKEN


async def test_compiling_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    """Compiling that does not end in its time is killed, without a result."""
    monkeypatch.setattr(wasm, "START_S", 0.0)
    monkeypatch.setattr(wasm, "COMPILE_S", 0.005)
    assert (await go(BOMB, start=start)).ended is Ended.DEADLINE


@pytest.mark.parametrize(
    ("entry", "given"),
    [
        ("wasi", LIMITS),
        (wasm_abi.ENTRY, limits(fuel=0)),
        (wasm_abi.ENTRY, limits(memory_bytes=1 << 33)),
        (wasm_abi.ENTRY, limits(output_bytes=1 << 29)),
    ],
)
def test_runs_that_cannot_be_tried_say_why(entry: str, given: Limits) -> None:
    """Another interface, no fuel, more memory or output than can be given: refused before a process starts."""
    assert run_fault(Run(package=b"", entry=entry, args=(), input=b"", limits=given))
