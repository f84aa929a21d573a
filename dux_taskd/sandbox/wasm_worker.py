"""The process that runs one wasm job and ends: `python -m dux_taskd.sandbox.wasm_worker BYTES`, or a fork.

The job comes on stdin, frames go to stdout.
It is told nothing but the job, and gives up files, sockets, processes and exec before it reads the first byte of it.
So a module that broke out of wasmtime would find a process that can compute and write to one pipe.
"""

from __future__ import annotations

import resource
import sys
import threading

import msgspec

from dux_taskd.sandbox import confine, seccomp, wasm_abi, wasm_engine
from dux_taskd.sandbox.wasm_abi import COMPILED, PROGRESS, RESULT, WorkerJob, WorkerResult

ALL_DONE, STEP = 1000, 10  # thousandths
JOB_BYTES_MAX = wasm_abi.MODULE_BYTES_MAX + wasm_abi.INPUT_BYTES_MAX + 65_536


class _Reporter:
    """Writes frames; progress at most once per percent, never falling."""

    def __init__(self) -> None:
        self._said = 0
        self._lock = threading.Lock()

    def send(self, kind: bytes, body: bytes) -> None:
        with self._lock:
            sys.stdout.buffer.write(wasm_abi.frame(kind, body))
            sys.stdout.buffer.flush()

    def progress(self, permille: int) -> None:
        done = max(0, min(ALL_DONE, permille))
        if done >= self._said + STEP or done == ALL_DONE > self._said:
            self._said = done
            self.send(PROGRESS, done.to_bytes(4, "little"))


def confine_self(memory_bytes: int) -> None:
    """Give up all rights but computing in this much memory; called before any foreign byte is read."""
    limits = {
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_MEMLOCK: 65_536,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    confine.limit_resources(limits)
    confine.die_with_parent()  # a killed taskd leaves no job behind
    confine.no_new_privileges()
    if confine.machine_is_known():
        confine.install_filter(seccomp.worker_filter())


def read_job() -> WorkerJob:
    """The one job on stdin, length first."""
    length = int.from_bytes(wasm_abi.read_exactly(sys.stdin.buffer, 8), "little")
    if length > JOB_BYTES_MAX:
        raise ValueError(f"a job of {length} bytes")
    return msgspec.msgpack.decode(wasm_abi.read_exactly(sys.stdin.buffer, length), type=WorkerJob)


def run_one(job: WorkerJob, reporter: _Reporter) -> WorkerResult:
    """Run it; a timer thread ends it at its wall limit by the engine's epoch."""
    engine = wasm_engine.make_engine()
    timer = threading.Timer(job.wall_s, engine.increment_epoch)
    timer.daemon = True

    def compiled() -> None:
        reporter.send(COMPILED, b"")
        timer.start()

    try:
        return wasm_engine.execute(engine, job, compiled, reporter.progress)
    finally:
        timer.cancel()


def work() -> None:
    """Read, run, answer; once, in a process that has given up its rights."""
    reporter = _Reporter()
    result = run_one(read_job(), reporter)
    reporter.send(RESULT, msgspec.msgpack.encode(result))


def main() -> None:
    """Confine, then work. The one argument is what `worker_memory_bytes` gave the parent."""
    confine_self(int(sys.argv[1]))
    work()


if __name__ == "__main__":
    main()
