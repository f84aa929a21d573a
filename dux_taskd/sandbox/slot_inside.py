"""From the launcher's rights down to the job's: the steps of a slot's first process, ending in exec of bubblewrap.

Runs in a fork of the keeper. The order is the point: group, rlimits, uid, namespaces, output tmpfs, bwrap. A step that
fails ends the process; none is skipped. Source: facts/sandboxes.md pitfalls 1, 2, 6 and «Exact options».
"""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

from dux_taskd.sandbox import bwrap, confine, seccomp
from dux_taskd.sandbox.cgroups import Group
from dux_taskd.sandbox.slot_wire import COMMANDS, SlotRequest

OUT_INODES = 64
FAILED_EXIT = 125
FILE_BYTES_MAX = 64 << 20


def become(uid: int) -> None:
    """Give up the launcher's identity and every capability with it."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getgroups() or confine.effective_capabilities():
        raise OSError("the slot's process kept rights that it must not have")
    confine.no_new_privileges()
    confine.die_with_parent()


def make_output(request: SlotRequest, uid: int) -> int:
    """A limited tmpfs in namespaces of the slot's own; its descriptor outlives them."""
    confine.unshare(confine.CLONE_NEWUSER | confine.CLONE_NEWNS)
    confine.die_with_parent()  # new capabilities (inside) have cleared it, and closed our own /proc files
    confine.set_dumpable()
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    size = (request.output_bytes + 4095) // 4096 * 4096 + 4096
    confine.mount_tmpfs(bwrap.OUT_MOUNT, size_bytes=size, inodes=OUT_INODES)
    return os.open(bwrap.OUT_MOUNT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _limits(request: SlotRequest) -> dict[int, int]:
    return {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_FSIZE: max(FILE_BYTES_MAX, request.output_bytes),
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 65_536,
        resource.RLIMIT_STACK: 8 << 20,
    }


def _memory_file(name: str, data: bytes) -> int:
    file = os.memfd_create(name, 0)
    os.write(file, data)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def enter_and_exec(request: SlotRequest, uid: int, group: Group, fds: list[int], report: socket.socket) -> None:
    """All steps; returns never. `fds` = script, input, printed, status; `report` gets the output folder or an error."""
    script, given, printed, status = fds
    try:
        os.setsid()
        group.enter()
        confine.limit_resources(_limits(request))
        become(uid)
        folder = make_output(request, uid)
        socket.send_fds(report, [b"ok"], [folder])
        filter_file = _memory_file("filter", seccomp.native_filter())
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        for number in (script, given, status, filter_file):
            os.set_inheritable(number, True)
        files = bwrap.Files(script=script, input=given, filter=filter_file, status=status)
        words = bwrap.command_line(COMMANDS[request.command], request.args, files)
        os.execve(bwrap.BWRAP, words, {})  # noqa: S606 - a list of words made here, and no shell wanted
    except BaseException as error:  # noqa: BLE001 - a forked child must never unwind into its parent's code
        report.send(f"{type(error).__name__}: {error}"[:300].encode())
    os._exit(FAILED_EXIT)
