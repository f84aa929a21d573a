"""The command line of bubblewrap for one slot. Pure: from figures to words.

Every option is here and nowhere else. Source: facts/sandboxes.md «Exact options»; bwrap(1) 0.8.
"""

from __future__ import annotations

import msgspec

BWRAP = "/usr/bin/bwrap"
INNER_ID = "65534"
TMP_BYTES = 64 << 20
SHM_BYTES = 1 << 20
RESULT_NAME = "result"
OUT_MOUNT = "/tmp"  # noqa: S108 - only in the slot's own mount namespace, before bwrap replaces everything

ENVIRONMENT = {"PATH": "/usr/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}  # noqa: S108


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of the open files that bwrap inherits."""

    script: int
    input: int
    filter: int
    status: int


def command_line(program: str, args: tuple[str, ...], files: Files) -> list[str]:
    """Bwrap's words for this program; `/out` is whatever tmpfs stands at OUT_MOUNT."""
    return [
        BWRAP,
        *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *("--unshare-user", "--disable-userns", "--uid", INNER_ID, "--gid", INNER_ID, "--hostname", "job"),
        *("--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"),
        *("--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev"),
        *("--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"),  # noqa: S108
        *("--ro-bind-data", str(files.script), "/job/main", "--ro-bind-data", str(files.input), "/job/input"),
        *("--bind", OUT_MOUNT, "/out"),
        *(word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)),
        *("--remount-ro", "/", "--chdir", "/tmp"),  # noqa: S108
        *("--json-status-fd", str(files.status), "--seccomp", str(files.filter)),
        *("--", program, "/job/main", *args),
    ]
