"""The process whose forks run wasm jobs: `python -m dux_taskd.sandbox.wasm_forker FD`.

It has loaded what a worker needs and run one module of ours. It reads nothing but taskd's wish for another worker
(eight bytes: its memory; with them the pipes of the job), and never sees a byte of a job. Each fork gives up its rights
exactly as a fresh worker does, before it reads its job. taskd gets a handle of the fork that stays right however
numbers are reused. When taskd goes, this process goes, and its forks with it.
"""

from __future__ import annotations

import gc
import os
import resource
import selectors
import socket
import sys
import traceback
from typing import NoReturn

from dux_taskd.sandbox import confine, wasm_engine, wasm_probe, wasm_worker
from dux_taskd.sandbox.wasm_abi import WISH_BYTES, WorkerJob

PIPES = 3  # stdin, stdout, stderr


class Forker:
    """Forks on request and reaps."""

    def __init__(self, wishes: socket.socket) -> None:
        self._wishes = wishes
        self._selector = selectors.DefaultSelector()
        self._selector.register(wishes, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until taskd hangs up."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._wishes:
                    self._reap(key.fd)
                elif not self._fork_one():
                    return

    def _fork_one(self) -> bool:
        wish, pipes, _, _ = socket.recv_fds(self._wishes, WISH_BYTES, PIPES)
        if len(wish) != WISH_BYTES or len(pipes) != PIPES:
            return False  # taskd is gone
        mother, child = os.getpid(), os.fork()
        if child == 0:
            be_worker(int.from_bytes(wish, "little"), pipes, mother)
        for pipe in pipes:
            os.close(pipe)
        handle = os.pidfd_open(child)  # nobody but us reaps it, so the number is still its own
        self._selector.register(handle, selectors.EVENT_READ)
        socket.send_fds(self._wishes, [b"+"], [handle])
        return True

    def _reap(self, handle: int) -> None:
        os.waitid(os.P_PIDFD, handle, os.WEXITED)
        self._selector.unregister(handle)
        os.close(handle)


def be_worker(memory_bytes: int, pipes: list[int], mother: int) -> NoReturn:
    """In the fork: nothing of this process but its code stays open; then a worker like any other."""
    try:
        confine.die_with_parent()
        if os.getppid() != mother:
            os._exit(1)  # it died before the kernel was told to end us with it
        os.setsid()
        for number, pipe in enumerate(pipes):
            os.dup2(pipe, number)
        os.closerange(PIPES, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        wasm_worker.confine_self(memory_bytes)
        wasm_worker.work()
    except BaseException:  # noqa: BLE001 - whatever it was, this fork must never go back into the loop
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def warm_up() -> None:
    """Run the probe's own module once, without threads: what the compiler sets up at its first use, forks then have."""
    job = WorkerJob(
        module=wasm_probe.BYTES[wasm_probe.ECHO], args=b"", input=b"", fuel=1_000, memory_bytes=1 << 20,
        output_bytes=1, wall_s=1.0,
    )  # fmt: skip
    wasm_engine.execute(wasm_engine.Machine(), job, lambda: None, lambda _: None)


def main() -> None:
    """Serve the socket whose number is the one argument."""
    confine.die_with_parent()
    confine.no_new_privileges()
    warm_up()
    gc.collect()
    gc.freeze()  # so that a fork's first collection does not copy every page
    Forker(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
