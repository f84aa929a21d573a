"""One module, run under deterministic settings. Knows wasmtime; runs only inside the worker process.

Promise: for a DONE outcome, output and fuel depend on module, arguments, input, limits and engine version alone.
Source: facts/sandboxes.md §5 (settings), wasmtime 50.
"""

from __future__ import annotations

from collections.abc import Callable

import wasmtime

from dux_taskd.sandbox import wasm_abi
from dux_taskd.sandbox.model import Ended
from dux_taskd.sandbox.wasm_abi import WorkerJob, WorkerResult

Say = Callable[[int], None]

_ENDS = {
    wasmtime.TrapCode.OUT_OF_FUEL: Ended.OUT_OF_FUEL,
    wasmtime.TrapCode.INTERRUPT: Ended.DEADLINE,
}


class _Stop(Exception):
    """The run ends here, in this way."""

    def __init__(self, ended: Ended, detail: str) -> None:
        super().__init__(detail)
        self.ended, self.detail = ended, detail


def make_engine() -> wasmtime.Engine:
    """An engine whose results do not depend on the machine, without features that no module needs."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.cranelift_nan_canonicalization = True
    config.wasm_relaxed_simd_deterministic = True
    config.wasm_threads = False
    config.shared_memory = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_component_model = False
    config.wasm_stack_switching = False
    config.wasm_exceptions = False
    config.wasm_gc = False
    config.wasm_function_references = False
    config.parallel_compilation = False
    config.memory_init_cow = False
    return wasmtime.Engine(config)


def _type_text(kind: object) -> str:
    """A type as the interface's tables write it."""
    if isinstance(kind, wasmtime.FuncType):
        results = ",".join(map(str, kind.results))
        return f"func({','.join(map(str, kind.params))})" + (f"->{results}" if results else "")
    return "memory" if isinstance(kind, wasmtime.MemoryType) else type(kind).__name__


def compile_module(engine: wasmtime.Engine, data: bytes) -> wasmtime.Module:
    """The module, compiled here from .wasm bytes: never a precompiled file, which would be native code."""
    if not data.startswith(b"\0asm"):
        raise _Stop(Ended.FAILED, "the package is no WebAssembly module")
    try:
        module = wasmtime.Module(engine, data)
    except wasmtime.WasmtimeError as error:
        raise _Stop(Ended.FAILED, f"the module does not compile: {str(error)[:200]}") from error
    imports = {(i.module, i.name or ""): _type_text(i.type) for i in module.imports}
    fault = wasm_abi.interface_fault(imports, {e.name: _type_text(e.type) for e in module.exports})
    if fault:
        raise _Stop(Ended.FAILED, f"the module is refused: {fault}")
    return module


class Machine:
    """An engine, and the module that it compiled: what runs of one owner share. No run leaves anything in it."""

    def __init__(self) -> None:
        self.engine = make_engine()
        self._module: wasmtime.Module | None = None

    def module(self, data: bytes) -> wasmtime.Module:
        """The module of these bytes, or the one of before where there are none."""
        if data or self._module is None:
            self._module = compile_module(self.engine, data)
        return self._module


class _Instance:
    """One instance with its store, limits set before any of its code runs."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module, job: WorkerJob, say: Say) -> None:
        self.store = wasmtime.Store(engine)
        self.store.set_limits(
            memory_size=job.memory_bytes,
            table_elements=wasm_abi.TABLE_ELEMENTS_MAX,
            instances=1,
            tables=4,
            memories=1,
        )
        self.store.set_fuel(job.fuel)
        self.store.set_epoch_deadline(1)
        linker = wasmtime.Linker(engine)
        linker.define_func("dux", "progress", wasmtime.FuncType([wasmtime.ValType.i32()], []), say)
        try:
            self.exports = linker.instantiate(self.store, module).exports(self.store)
        except wasmtime.WasmtimeError as error:
            raise _Stop(Ended.OUT_OF_MEMORY, f"the module does not fit its limits: {str(error)[:200]}") from error
        memory = self.exports["memory"]
        assert isinstance(memory, wasmtime.Memory)  # noqa: S101 - compile_module has checked the interface
        self.memory = memory

    def call(self, name: str, *values: int) -> int:
        """An exported function's integer."""
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)  # noqa: S101 - compile_module has checked the interface
        answer = function(self.store, *values)
        assert isinstance(answer, int)  # noqa: S101 - as its checked type says
        return answer

    def put(self, data: bytes) -> int:
        """The address of a copy of `data` in the module's memory."""
        address = self.call("dux_alloc", len(data)) & 0xFFFF_FFFF
        if not address:
            raise _Stop(Ended.OUT_OF_MEMORY, f"the module has no room for {len(data)} bytes")
        if address + len(data) > self.memory.data_len(self.store):
            raise _Stop(Ended.FAILED, "dux_alloc gave an address outside the memory")
        self.memory.write(self.store, data, address)
        return address

    def take(self, answer: int, bytes_max: int) -> bytes:
        """The output that `dux_run` answered with."""
        if answer < 0:
            raise _Stop(Ended.REFUSED, f"the package refused with code {-answer}")
        address, length = answer >> 32, answer & 0xFFFF_FFFF
        if length > bytes_max:
            raise _Stop(Ended.OUTPUT_TOO_LARGE, f"the output has {length} bytes, the job allows {bytes_max}")
        if address + length > self.memory.data_len(self.store):
            raise _Stop(Ended.FAILED, "the output lies outside the memory")
        return bytes(self.memory.read(self.store, address, address + length))


def execute(machine: Machine, job: WorkerJob, compiled: Callable[[], None], say: Say) -> WorkerResult:
    """Compile, run once, read the output. `compiled` is called when the module's own time begins."""
    instance: _Instance | None = None
    try:
        module = machine.module(job.module)
        compiled()
        instance = _Instance(machine.engine, module, job, say)
        args, given = instance.put(job.args), instance.put(job.input)
        answer = instance.call("dux_run", args, len(job.args), given, len(job.input))
        output = instance.take(answer, job.output_bytes)
        return _result(instance, job, Ended.DONE, "", output)
    except _Stop as stop:
        return _result(instance, job, stop.ended, stop.detail, b"")
    except wasmtime.Trap as trap:
        ended = _ENDS.get(trap.trap_code, Ended.FAILED) if trap.trap_code is not None else Ended.FAILED
        return _result(instance, job, ended, trap.message.strip().splitlines()[-1].strip()[:200], b"")


def _result(instance: _Instance | None, job: WorkerJob, ended: Ended, detail: str, output: bytes) -> WorkerResult:
    used = 0 if instance is None else job.fuel - instance.store.get_fuel()
    peak = 0 if instance is None else instance.memory.data_len(instance.store)
    return WorkerResult(ended=ended, detail=detail, output=output, fuel_used=used, memory_peak_bytes=peak)
