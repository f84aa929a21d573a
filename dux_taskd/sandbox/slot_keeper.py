"""Keeps one slot for one run: sets up the group, starts the job, ends it, collects. A process of its own, then gone.

Promise: when it has answered, nothing of the job is alive; when its caller hangs up, the job dies at once. If a slot
cannot be emptied the keeper exits with an error, and the launcher uses that slot no more.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time

import msgspec

from common.errors import BadParams
from dux_taskd.sandbox import collector, slot_inside
from dux_taskd.sandbox.cgroups import Group, Parents
from dux_taskd.sandbox.slot_wire import COMMANDS, SlotEnd, SlotEnded, SlotRequest, receive, send

SETUP_S_MAX = 10.0
REQUEST_S_MAX = 5.0
STATUS_BYTES_MAX = 4_096
FILES_WANTED = 3
CLEAN_EXIT, STUCK_EXIT = 0, 1


class _Started(msgspec.Struct, frozen=True):
    """A job that runs: its process, its output folder, where bwrap tells its exit."""

    pidfd: int
    pid: int
    folder: int
    status: int


def keep(caller: socket.socket, parents: Parents, uid: int) -> int:
    """Serve one caller; the exit code of this process."""
    caller.settimeout(REQUEST_S_MAX)
    request, fds = receive(caller, SlotRequest)
    if request.command not in COMMANDS or len(fds) != FILES_WANTED:
        raise BadParams(detail=f"command {request.command!r} with {len(fds)} files")
    group = Group.make(
        parents,
        f"slot-{uid}",
        memory_bytes=request.memory_bytes,
        processes=request.processes,
        cpus_milli=request.cpus_milli,
    )
    ended, result = SlotEnded(SlotEnd.BROKEN, -1, "not started", False, 0, 0, ""), -1
    try:
        ended, result = _run(caller, request, uid, group, fds)
    finally:
        if not group.end():
            return STUCK_EXIT  # noqa: B012 - an unclean slot must be said, whatever else went wrong
        group.remove()
    with contextlib.suppress(OSError):
        send(caller, ended, (result,) if result >= 0 else ())
    return CLEAN_EXIT


def _run(caller: socket.socket, request: SlotRequest, uid: int, group: Group, fds: list[int]) -> tuple[SlotEnded, int]:
    """Start, wait, kill, measure, collect."""
    started = _start(request, uid, group, fds)
    if isinstance(started, str):
        return SlotEnded(SlotEnd.BROKEN, -1, started, False, 0, 0, ""), -1
    end = _wait(caller, started, request.wall_ms / 1000)
    if not group.end():
        raise OSError("the slot could not be emptied")
    os.waitpid(started.pid, 0)
    code = _exit_code(started.status)
    if end is SlotEnd.EXITED and code is None and not group.out_of_memory():
        end = SlotEnd.BROKEN  # bwrap never got as far as the job
    result, fault = _collect(started.folder, request, uid)
    ended = SlotEnded(
        end=end,
        exit_code=-1 if code is None else code,
        detail="" if end is not SlotEnd.BROKEN else "bubblewrap could not set up the sandbox; its words are in the log",
        out_of_memory=group.out_of_memory(),
        memory_peak_bytes=group.memory_peak_bytes(),
        cpu_ms=group.cpu_ms(),
        output_fault=fault,
    )
    return ended, result


def _start(request: SlotRequest, uid: int, group: Group, fds: list[int]) -> _Started | str:
    """Fork the slot's first process and hear that it got down to its rights; else its words."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    status, status_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        here.close()
        slot_inside.enter_and_exec(request, uid, group, [*fds, status_end], there)
    there.close()
    for number in (*fds, status_end):
        os.close(number)
    here.settimeout(SETUP_S_MAX)
    try:
        said, folders, _, _ = socket.recv_fds(here, 1024, 1)
        last_words = here.recv(1024) if said == b"ok" else said  # exec closes its end without a word
    except TimeoutError:
        last_words, folders = f"not set up within {SETUP_S_MAX} s".encode(), []
    if last_words or not folders:
        return last_words.decode("utf-8", "replace") or "the slot's process ended during set-up"
    return _Started(pidfd=os.pidfd_open(pid), pid=pid, folder=folders[0], status=status)


def _wait(caller: socket.socket, started: _Started, wall_s: float) -> SlotEnd:
    """Until the job exits, its time is over, or the caller hangs up."""
    watch = select.poll()
    watch.register(started.pidfd, select.POLLIN)
    watch.register(caller.fileno(), select.POLLRDHUP | select.POLLHUP)
    until = time.monotonic() + wall_s
    events: list[tuple[int, int]] = []
    while not events and (left := until - time.monotonic()) > 0:
        events = watch.poll(max(1, int(left * 1000)))
    return SlotEnd.EXITED if any(fd == started.pidfd for fd, _ in events) else SlotEnd.DEADLINE


def _exit_code(status: int) -> int | None:
    """The job's exit code as bwrap told it; None when it told none."""
    os.set_blocking(status, False)
    try:
        said = os.read(status, STATUS_BYTES_MAX)
    except BlockingIOError:
        return None
    found = re.search(rb'"exit-code":\s*(\d{1,3})', said)
    return int(found.group(1)) if found else None


def _collect(folder: int, request: SlotRequest, uid: int) -> tuple[int, str]:
    """The result, opened by a process with the slot's own rights: (descriptor or -1, fault)."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            slot_inside.become(uid)
            file = collector.open_result(folder, bytes_max=request.output_bytes)
            socket.send_fds(there, [b"ok"], [file])
        except BaseException as error:  # noqa: BLE001 - a forked child must never unwind into its parent's code
            there.send(str(error)[:300].encode() or b"unknown")
        os._exit(0)
    there.close()
    os.close(folder)
    said, files, _, _ = socket.recv_fds(here, 1024, 1)
    os.waitpid(pid, 0)
    return (files[0], "") if said == b"ok" else (-1, said.decode("utf-8", "replace") or "the collector ended early")
