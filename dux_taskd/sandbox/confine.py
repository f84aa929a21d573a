"""Calls into the kernel by which a process gives up its own rights. Linux, through libc; no rights are ever gained.

Every function either does what its name says or raises OSError: a caller that goes on after an error would run foreign
code with rights that it believes gone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
from collections.abc import Mapping

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
CLONE_NEWNS, CLONE_NEWUSER = 0x0002_0000, 0x1000_0000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_LAST = 5, 6, 7, 40
_CAPABILITY_VERSION_3 = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


class _Fprog(ctypes.Structure):
    _fields_ = (("count", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def machine_is_known() -> bool:
    """True where the system call tables fit: x86_64 Linux."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def no_new_privileges() -> None:
    """No program started from here on gains rights by setuid bits or file capabilities."""
    _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def die_with_parent() -> None:
    """SIGKILL when the parent thread ends. Cleared by a change of uid, so it comes after that."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0), "pdeathsig")


def set_dumpable() -> None:
    """Own /proc/self again after a change of uid, so that a uid map can be written."""
    _checked(_libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "dumpable")


def install_filter(program: bytes) -> None:
    """Put a seccomp filter on this thread and all that come from it; needs `no_new_privileges` before."""
    fprog = _Fprog(len(program) // 8, program)
    _checked(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0), "seccomp")


def unshare(flags: int) -> None:
    """Leave the namespaces named by the flags for new ones."""
    _checked(_libc.unshare(flags), "unshare")


def mount_tmpfs(target: str, *, size_bytes: int, inodes: int) -> None:
    """A limited tmpfs on an existing directory of this mount namespace."""
    options = f"size={size_bytes},nr_inodes={inodes},mode=0700".encode()
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _checked(_libc.mount(b"tmpfs", target.encode(), b"tmpfs", flags, options), f"tmpfs on {target}")


def keep_capabilities(keep: frozenset[int]) -> None:
    """Drop every capability but these, from the bounding set too; raises unless the kernel confirms it."""
    for number in range(CAP_LAST + 1):
        gone = number in keep or _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0
        if not gone and ctypes.get_errno() != errno.EINVAL:  # EINVAL: this kernel has no such capability
            _checked(-1, f"bounding set {number}")
    mask = sum(1 << number for number in keep)
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)(_CapData(mask, mask, 0), _CapData(0, 0, 0))
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def effective_capabilities() -> int:
    """The bit set of this process's effective capabilities, as the kernel shows it."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - one line of a kernel file
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))


def limit_resources(limits: Mapping[int, int]) -> None:
    """Set each rlimit, soft and hard; a hard limit that is lower already is kept."""
    for number, value in limits.items():
        hard = resource.getrlimit(number)[1]
        final = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (final, final))
