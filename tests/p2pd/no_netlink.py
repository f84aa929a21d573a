"""What p2pd's unit forbids, without systemd: `no_netlink.py MODULE ARGUMENTS` runs a module that may not have netlink.

The kernel's filter says EAFNOSUPPORT, as for systemd's RestrictAddressFamilies. Source: seccomp(2), bpf(2).
"""

import ctypes
import errno
import platform
import runpy
import socket
import struct
import sys

SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
LOAD, EQUAL, ANSWER = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16  # in struct seccomp_data
ALLOW, SAY = 0x7FFF0000, 0x00050000 | errno.EAFNOSUPPORT
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def forbid() -> None:
    """From now on, in this process and its children."""
    steps = [
        (LOAD, 0, 0, NUMBER_AT),
        (EQUAL, 0, 3, SOCKET_CALL[platform.machine()]),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
        (EQUAL, 0, 1, socket.AF_NETLINK),
        (ANSWER, 0, 0, SAY),
        (ANSWER, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    program = Program(len(steps), ctypes.cast(code, ctypes.c_void_p))
    assert libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()


if __name__ == "__main__":
    forbid()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
