"""The module interface `dux-wasm/1`: what a module may import and must export, and the frames of its worker process.

A module sees arguments and input and gives output; the only import is `dux.progress`, which changes nothing that it can
see. So an output is a function of (module, arguments, input, fuel limit, memory limit, engine version).

Source: docs/protocol/work.md, facts/sandboxes.md §5.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import BinaryIO

import msgspec

from dux_taskd.sandbox.model import Ended

ENTRY = "dux-wasm/1"
ENGINE = f"wasmtime-{version('wasmtime')}/{ENTRY}"  # as receipts name it; without loading it
MODULE_BYTES_MAX = 16 << 20  # python.wasm has 26 MiB and takes 18 s to compile: not yet
INPUT_BYTES_MAX = 64 << 20
OUTPUT_BYTES_MAX = 64 << 20  # what one transfer between daemons holds
MEMORY_BYTES_MAX = 2 << 30  # addresses are returned in the upper half of a signed 64-bit number
FRAME_BYTES_MAX = OUTPUT_BYTES_MAX + 65_536
TABLE_ELEMENTS_MAX = 65_536
COMPILE_MEMORY_BYTES = 1 << 30  # beside the job's own memory: compiling is an attack surface

IMPORTS = {("dux", "progress"): "func(i32)"}
EXPORTS = {
    "memory": "memory",
    "dux_alloc": "func(i32)->i32",
    "dux_run": "func(i32,i32,i32,i32)->i64",
}

WISH_BYTES = 8  # what taskd sends for another fork: how much memory it gets
COMPILED, PROGRESS, RESULT = b"C", b"P", b"R"


class WorkerJob(msgspec.Struct, frozen=True, array_like=True):
    """What the parent hands to the worker: once, or again and again for the same owner."""

    module: bytes  # empty: the one that the worker got before
    args: bytes
    input: bytes
    fuel: int
    memory_bytes: int
    output_bytes: int
    wall_s: float


class WorkerResult(msgspec.Struct, frozen=True, array_like=True):
    """What the worker answers to each job."""

    ended: Ended
    detail: str
    output: bytes
    fuel_used: int
    memory_peak_bytes: int


def interface_fault(imports: dict[tuple[str, str], str], exports: dict[str, str]) -> str | None:
    """Why a module with these imports and exports is refused, or None. More exports than needed do no harm."""
    for (module, name), kind in imports.items():
        if IMPORTS.get((module, name)) != kind:
            return f"it imports {module}.{name} ({kind}); only dux.progress is there"
    for name, kind in EXPORTS.items():
        if exports.get(name) != kind:
            return f"it must export {name} as {kind}, not {exports.get(name, 'nothing')}"
    return None


def frame(kind: bytes, body: bytes) -> bytes:
    """One frame from worker to parent: a letter, four bytes of length, the body."""
    return kind + len(body).to_bytes(4, "little") + body


def read_exactly(stream: BinaryIO, count: int) -> bytes:
    """`count` bytes, or EOFError."""
    data = stream.read(count)
    if data is None or len(data) != count:
        raise EOFError(f"wanted {count} bytes")
    return data
