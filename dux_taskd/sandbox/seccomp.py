"""Filters of system calls as classic BPF, assembled here: bytes that bwrap or prctl hands to the kernel.

Promise: whatever is not listed fails with ENOSYS; no listed call can make a namespace, leave one, or reach a host
service by an unusual socket family. Pure: from tables to bytes.

Source: seccomp(2), facts/sandboxes.md pitfall 4 and «Exact options».
"""

from __future__ import annotations

import struct

from dux_taskd.sandbox import syscalls_x86_64 as sys64

AUDIT_ARCH_X86_64 = 0xC000003E
X32_BIT = 0x4000_0000

_LD_W_ABS, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NR_AT, _ARCH_AT = 0, 4

KILL, ALLOW = 0x8000_0000, 0x7FFF_0000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

# Flags of clone that make a namespace: mount, cgroup, uts, ipc, user, pid, net.
CLONE_NAMESPACES = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000
CLONE_THREAD = 0x0001_0000
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_TYPE_MASK = 1, 2, 3, 5, 0xF
TIOCSTI, TIOCLINUX, TIOCSETD = 0x5412, 0x541C, 0x5423  # push keys into, or reprogram, a terminal
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFF_FFFF)

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def _errno(number: int) -> int:
    return 0x0005_0000 | number


def _ret(value: int) -> Instruction:
    return (_RET, 0, 0, value)


def _load(offset: int) -> Instruction:
    return (_LD_W_ABS, 0, 0, offset)


def _arg(index: int) -> Instruction:
    """The lower 32 bits of an argument (little-endian machines)."""
    return _load(16 + 8 * index)


def _prologue() -> list[Instruction]:
    """Another architecture's numbering, or x32's, would make every rule below mean something else: kill."""
    return [
        _load(_ARCH_AT),
        (_JEQ, 1, 0, AUDIT_ARCH_X86_64),
        _ret(KILL),
        _load(_NR_AT),
        (_JGE, 0, 1, X32_BIT),
        _ret(KILL),
    ]


def _on(number: int, body: list[Instruction]) -> list[Instruction]:
    """Do `body`, which ends in a return on every way, when the call has this number; the number stays loaded else."""
    return [(_JEQ, 0, len(body), number), *body]


def _allow(numbers: list[int]) -> list[Instruction]:
    return [step for number in sorted(numbers) for step in _on(number, [_ret(ALLOW)])]


def _unless_flags(index: int, flags: int, errno: int) -> list[Instruction]:
    """Allow unless the argument has any of the flags."""
    return [_arg(index), (_JSET, 0, 1, flags), _ret(_errno(errno)), _ret(ALLOW)]


def _one_of(index: int, values: tuple[int, ...], *, hit: int, miss: int) -> list[Instruction]:
    """Return `hit` when the argument is one of the values, else `miss`."""
    steps = [_arg(index)]
    for value in values:
        steps += [(_JEQ, 0, 1, value), _ret(hit)]
    return [*steps, _ret(miss)]


def _family(family: int, types: tuple[int, ...]) -> list[Instruction]:
    """For one address family: allow these socket types, with any protocol."""
    steps: list[Instruction] = [_arg(1), (_AND, 0, 0, SOCK_TYPE_MASK)]
    for kind in types:
        steps += [(_JEQ, 0, 1, kind), _ret(ALLOW)]
    return _on(family, [*steps, _ret(_errno(EPERM))])


def _sockets() -> list[Instruction]:
    """Unix, IPv4, IPv6 as streams and datagrams, netlink for routes only; raw, vsock and the rest do not exist."""
    netlink = _on(AF_NETLINK, _one_of(2, (0,), hit=ALLOW, miss=_errno(EAFNOSUPPORT)))
    return [
        _arg(0),
        *_family(AF_UNIX, (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET)),
        *_family(AF_INET, (SOCK_STREAM, SOCK_DGRAM)),
        *_family(AF_INET6, (SOCK_STREAM, SOCK_DGRAM)),
        *netlink,
        _ret(_errno(EAFNOSUPPORT)),
    ]


def assemble(program: list[Instruction]) -> bytes:
    """The kernel's form: eight bytes an instruction."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def native_filter() -> bytes:
    """What a script in the native sandbox may call. clone3 gives ENOSYS, so that libc falls back to clone."""
    return assemble(
        [
            *_prologue(),
            *_on(sys64.CLONE, _unless_flags(0, CLONE_NAMESPACES, EPERM)),
            *_on(sys64.SOCKET, _sockets()),
            *_on(sys64.SOCKETPAIR, _sockets()),
            *_on(sys64.PERSONALITY, _one_of(0, PERSONALITIES, hit=ALLOW, miss=_errno(EPERM))),
            *_on(sys64.IOCTL, _one_of(1, (TIOCSTI, TIOCLINUX, TIOCSETD), hit=_errno(EPERM), miss=ALLOW)),
            *_allow(list(sys64.ALLOWED.values())),
            _ret(_errno(ENOSYS)),
        ]
    )


WORKER_CALLS = (
    *("read", "write", "close", "fstat", "lseek", "poll", "ppoll", "select", "pselect6"),
    *sys64.MEMORY,
    *("futex", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "getrandom"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill"),
    *(
        "exit",
        "exit_group",
        "getpid",
        "gettid",
        "set_robust_list",
        "rseq",
        "sched_yield",
        "sched_getaffinity",
        "getcpu",
    ),
    *("getuid", "geteuid", "getgid", "getegid", "getrusage", "uname", "sysinfo", "prctl", "restart_syscall"),
)


def worker_filter() -> bytes:
    """What the wasm worker may call once it is set up: memory, its pipes, threads. No file, socket, process or exec."""
    threads_only: list[Instruction] = [_arg(0), (_JSET, 0, 1, CLONE_THREAD), _ret(ALLOW), _ret(_errno(EPERM))]
    return assemble(
        [
            *_prologue(),
            *_on(sys64.CLONE, threads_only),
            *_allow([sys64.ALLOWED[name] for name in WORKER_CALLS]),
            _ret(_errno(ENOSYS)),
        ]
    )
