"""What this machine's wasm sandbox really enforces: each limit with a run that must pass and one that must be stopped.

The modules are a few lines of WebAssembly text with their bytes beside them (a test compares), so that taskd itself
need not load wasmtime. Source: work.md §2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.work import Limits
from dux_taskd.sandbox import wasm_abi
from dux_taskd.sandbox.model import Ended, Outcome, Probe, Run

if TYPE_CHECKING:
    from dux_taskd.sandbox.model import Runner

PAGES_ASKED = 512  # 32 MiB

_HEAD = '(memory (export "memory") 2) (func (export "dux_alloc") (param i32) (result i32) (i32.const 65536))'
_RUN = '(func (export "dux_run") (param i32 i32 i32 i32) (result i64)'
ECHO = f"(module {_HEAD} {_RUN} (i64.or (i64.shl (i64.const 65536) (i64.const 32)) (i64.extend_i32_u (local.get 3)))))"
LOOP = f"(module {_HEAD} {_RUN} (loop (br 0)) (i64.const 0)))"
GROW = f"(module {_HEAD} {_RUN} (i64.extend_i32_s (memory.grow (i32.const {PAGES_ASKED})))))"
_FD_READ = '(import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))'
FILES = f"(module {_FD_READ} {_HEAD} {_RUN} (i64.const 0)))"
LONG = f"(module {_HEAD} {_RUN} (i64.const 0x1000000001000)))"

BYTES = {
    ECHO: bytes.fromhex(
        "0061736d01000000010e0260017f017f60047f7f7f7f017e03030200010503010002072003066d656d6f"
        "72790200096475785f616c6c6f630000076475785f72756e00010a16020600418080040b0d0042808004"
        "4220862003ad840b"
    ),
    LOOP: bytes.fromhex(
        "0061736d01000000010e0260017f017f60047f7f7f7f017e03030200010503010002072003066d656d6f"
        "72790200096475785f616c6c6f630000076475785f72756e00010a12020600418080040b090003400c00"
        "0b42000b"
    ),
    GROW: bytes.fromhex(
        "0061736d01000000010e0260017f017f60047f7f7f7f017e03030200010503010002072003066d656d6f"
        "72790200096475785f616c6c6f630000076475785f72756e00010a11020600418080040b080041800440"
        "00ac0b"
    ),
    FILES: bytes.fromhex(
        "0061736d0100000001160360047f7f7f7f017f60017f017f60047f7f7f7f017e02220116776173695f73"
        "6e617073686f745f70726576696577310766645f72656164000003030201020503010002072003066d65"
        "6d6f72790200096475785f616c6c6f630001076475785f72756e00020a0d020600418080040b04004200"
        "0b"
    ),
    LONG: bytes.fromhex(
        "0061736d01000000010e0260017f017f60047f7f7f7f017e03030200010503010002072003066d656d6f"
        "72790200096475785f616c6c6f630000076475785f72756e00010a14020600418080040b0b004280a080"
        "808080c0000b"
    ),
}  # each text as WebAssembly

_SMALL = Limits(fuel=100_000, memory_bytes=1 << 20, wall_s=5, output_bytes=4_096)


def _limits(*, fuel: int = _SMALL.fuel, memory_bytes: int = _SMALL.memory_bytes, output_bytes: int = 4_096) -> Limits:
    return Limits(fuel=fuel, memory_bytes=memory_bytes, wall_s=_SMALL.wall_s, output_bytes=output_bytes)


async def _try(runner: Runner, text: str, limits: Limits, deadline_s: float = 5.0) -> Outcome:
    run = Run(package=BYTES[text], entry=wasm_abi.ENTRY, args=(), input=b"duck", limits=limits)
    return await runner.run(run, deadline_s=deadline_s, progress=lambda _: None)


def _verdict(name: str, outcome: Outcome, *wanted: Ended, output: bytes | None = None) -> Probe:
    holds = outcome.ended in wanted and (output is None or outcome.output == output)
    return Probe(name=name, holds=holds, detail=f"{outcome.ended.value} {outcome.detail}".strip())


async def probe(runner: Runner) -> tuple[Probe, ...]:
    """Every limit's two controls, one run after the other."""
    roomy = _limits(memory_bytes=64 << 20)
    return (
        _verdict("runs a module", await _try(runner, ECHO, _limits()), Ended.DONE, output=b"duck"),
        _verdict("stops at the fuel limit", await _try(runner, LOOP, _limits()), Ended.OUT_OF_FUEL),
        _verdict("gives memory within the limit", await _try(runner, GROW, roomy), Ended.DONE),
        _verdict("refuses memory beyond the limit", await _try(runner, GROW, _limits()), Ended.REFUSED),
        _verdict("stops at the deadline", await _try(runner, LOOP, _limits(fuel=10**15), 0.3), Ended.DEADLINE),
        _verdict("refuses modules that want files", await _try(runner, FILES, _limits()), Ended.FAILED),
        _verdict("refuses long outputs", await _try(runner, LONG, _limits(output_bytes=16)), Ended.OUTPUT_TOO_LARGE),
    )
