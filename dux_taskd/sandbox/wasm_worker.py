"""The process that runs one owner's wasm jobs and ends: `python -m dux_taskd.sandbox.wasm_worker BYTES`, or a fork.

A job comes on stdin, frames go to stdout; mostly one and no more, else the next of the same owner and package.
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
HEAD_BYTES = 8
JOB_BYTES_MAX = wasm_abi.MODULE_BYTES_MAX + wasm_abi.INPUT_BYTES_MAX + 65_536


def send(kind: bytes, body: bytes) -> None:
    """One frame to the parent."""
    sys.stdout.buffer.write(wasm_abi.frame(kind, body))
    sys.stdout.buffer.flush()


class _Reporter:
    """Tells a run's progress: at most once per percent, never falling."""

    def __init__(self) -> None:
        self._said = 0

    def progress(self, permille: int) -> None:
        done = max(0, min(ALL_DONE, permille))
        if done >= self._said + STEP or done == ALL_DONE > self._said:
            self._said = done
            send(PROGRESS, done.to_bytes(4, "little"))


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


def read_job() -> WorkerJob | None:
    """The next job on stdin, length first; None when there will be no more."""
    head = sys.stdin.buffer.read(HEAD_BYTES)
    if not head:
        return None
    length = int.from_bytes(head, "little")
    if length > JOB_BYTES_MAX:
        raise ValueError(f"a job of {length} bytes")
    return msgspec.msgpack.decode(wasm_abi.read_exactly(sys.stdin.buffer, length), type=WorkerJob)


def run_one(machine: wasm_engine.Machine, job: WorkerJob) -> WorkerResult:
    """Run it; a timer thread ends it at its wall limit by the engine's epoch."""
    reporter = _Reporter()
    timer = threading.Timer(job.wall_s, machine.engine.increment_epoch)
    timer.daemon = True

    def compiled() -> None:
        send(COMPILED, b"")
        timer.start()

    try:
        return wasm_engine.execute(machine, job, compiled, reporter.progress)
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()  # so that it cannot end the next run


def work() -> None:
    """Read, run, answer, until no more comes, in a process that has given up its rights."""
    machine = wasm_engine.Machine()
    while (job := read_job()) is not None:
        send(RESULT, msgspec.msgpack.encode(run_one(machine, job)))


def main() -> None:
    """Confine, then work. The one argument is what `worker_memory_bytes` gave the parent."""
    confine_self(int(sys.argv[1]))
    work()


if __name__ == "__main__":
    main()
