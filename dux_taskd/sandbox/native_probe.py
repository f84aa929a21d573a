"""What this machine's native sandbox really enforces: a job that must pass and one that must be stopped, per limit.

One job looks around from inside and says what it could do; what it must not be able to do is planted outside first, and
seen to be there from outside. The rest are small bombs. Source: work.md §2, facts/sandboxes.md §3.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from common.work import Limits
from dux_taskd.sandbox.model import Ended, Outcome, Probe, Run

if TYPE_CHECKING:
    from dux_taskd.sandbox.model import Runner

LIMITS = Limits(fuel=0, memory_bytes=96 << 20, wall_s=20, output_bytes=1 << 20)

LOOK = r"""
import ctypes, json, os, socket, sys, threading
planted = json.load(open("/job/input"))
libc = ctypes.CDLL(None, use_errno=True)

def tries(action):
    try:
        return bool(action())
    except BaseException:
        return False

def writable(path):
    os.close(os.open(path, os.O_WRONLY))
    return True

def connects():
    with socket.create_connection(("127.0.0.1", planted["port"]), timeout=1):
        return True

def threads():
    done = []
    thread = threading.Thread(target=lambda: done.append(1))
    thread.start()
    thread.join()
    return done

seen = {
    "has threads": tries(threads),
    "has sockets of its own": tries(lambda: socket.socket(socket.AF_INET).fileno() >= 0),
    "reads its input": planted["name"] == "probe",
    "host file read": tries(lambda: open(planted["file"]).read()),
    "host listener reached": tries(connects),
    "environment of process 1 seen": open("/proc/1/environ", "rb").read() != b"",
    "kernel settings writable": any(tries(lambda: writable(p)) for p in
        ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/hostname")),
    "usr writable": tries(lambda: open("/usr/planted", "w")),
    "namespaces made": libc.unshare(0x10000000) == 0,
    "vsock opened": tries(lambda: socket.socket(40, socket.SOCK_STREAM)),
    "raw socket opened": tries(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "keys kept": libc.syscall(250, 0, -3, 1) >= 0,
    "io_uring made": libc.syscall(425, 1, ctypes.create_string_buffer(256)) >= 0,
    "other processes seen": sum(name.isdigit() for name in os.listdir("/proc")) > 3,
}
json.dump(seen, open("/out/result", "w"))
"""
MAY = frozenset({"has threads", "has sockets of its own", "reads its input"})

EAT = """
import sys
data = bytearray()
while len(data) < int(sys.argv[1]) << 20:
    data += b"x" * (4 << 20)
open("/out/result", "w").write("ate")
"""
FORK = """
import os, sys, time
made = 0
try:
    for _ in range(int(sys.argv[1])):
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError:
    pass
open("/out/result", "w").write(str(made))
os._exit(0)
"""
FILL = """
import sys
try:
    open("/out/result", "wb").write(b"x" * int(sys.argv[1]))
except OSError:
    open("/out/result", "wb").write(b"full")
"""
SLEEP = "import time\ntime.sleep(60)\n"


def _run(script: str, *args: str, given: bytes = b"", limits: Limits = LIMITS) -> Run:
    return Run(package=script.encode(), entry="python", args=args, input=given, limits=limits)


async def _try(runner: Runner, run: Run, deadline_s: float = 20.0) -> Outcome:
    return await runner.run(run, deadline_s=deadline_s, progress=lambda _: None)


def _verdict(name: str, outcome: Outcome, ended: Ended, *, holds: bool = True) -> Probe:
    log = outcome.log[-200:].decode("utf-8", "replace").strip()
    detail = " ".join(part for part in (outcome.ended.value, outcome.detail, log) if part)
    return Probe(name=name, holds=holds and outcome.ended is ended, detail=detail)


@contextlib.contextmanager
def planted() -> Iterator[dict[str, str | int]]:
    """A file that anybody may read and a listener that anybody may reach: a job must find neither, and we find both."""
    with (
        tempfile.NamedTemporaryFile("w", prefix="dux-probe-") as file,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        file.write("planted")
        file.flush()
        Path(file.name).chmod(0o644)
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            yield {"name": "probe", "file": file.name, "port": port}


async def _look_around(runner: Runner) -> list[Probe]:
    """One job that says what it can do; each line of its answer is one probe."""
    with planted() as facts:
        outcome = await _try(runner, _run(LOOK, given=json.dumps(facts).encode()))
    first = _verdict("runs a script", outcome, Ended.DONE)
    if not first.holds:
        return [first]
    seen = msgspec.json.decode(outcome.output, type=dict[str, bool])
    return [first, *(Probe(name=k, holds=v is (k in MAY), detail="yes" if v else "no") for k, v in seen.items())]


async def probe(runner: Runner) -> tuple[Probe, ...]:
    """Every limit's two controls, one run after the other; the first that cannot run at all ends the list."""
    looked = await _look_around(runner)
    if not looked[0].holds:
        return tuple(looked)
    ate, bombed = await _try(runner, _run(EAT, "32")), await _try(runner, _run(EAT, "400"))
    few, many = await _try(runner, _run(FORK, "4")), await _try(runner, _run(FORK, "5000"))
    fits, full = await _try(runner, _run(FILL, "500000")), await _try(runner, _run(FILL, "9000000"))
    slept = await _try(runner, _run(SLEEP), deadline_s=0.5)
    stopped = many.output.isdigit() and int(many.output) < 5000  # noqa: PLR2004 - what the job asked for
    return (
        *looked,
        _verdict("gives memory within the limit", ate, Ended.DONE),
        _verdict("stops at the memory limit", bombed, Ended.OUT_OF_MEMORY),
        _verdict("gives processes within the limit", few, Ended.DONE, holds=few.output == b"4"),
        _verdict("stops at the process limit", many, Ended.DONE, holds=stopped),
        _verdict("gives output within the limit", fits, Ended.DONE, holds=len(fits.output) == 500_000),  # noqa: PLR2004
        _verdict("stops at the output limit", full, Ended.DONE, holds=full.output == b"full"),
        _verdict("stops at the deadline", slept, Ended.DEADLINE),
    )
