"""Memory, process and CPU limits of one slot by the kernel's control groups, v2 or v1.

Promise: `Group.make` either gives a group in which every limit was written and read back, or raises OSError; `end`
returns only when no process is left in it. Knows nothing of jobs. Source: cgroups(7), facts/sandboxes.md pitfalls 3,
10.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import msgspec

ROOT = Path("/sys/fs/cgroup")
FOLDER = "duxnet-slots"
NEEDED = ("memory", "pids", "cpu")
CPU_PERIOD_US = 100_000
EMPTY_S_MAX = 5.0
POLL_S = 0.005


class Parents(msgspec.Struct, frozen=True, kw_only=True):
    """Where groups may be made: one folder (v2), or one for each controller (v1)."""

    version: int
    folders: dict[str, Path]  # controller -> folder; in v2 all the same

    @property
    def unique(self) -> tuple[Path, ...]:
        """Each folder once."""
        return tuple(dict.fromkeys(self.folders.values()))


def _memberships() -> dict[str, str]:
    """Controller -> path of this process's group; "" stands for v2."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, names, path = line.split(":", 2)
        found.update(dict.fromkeys(names.split(","), path))
    return found


def _mount_points() -> dict[str, Path]:
    """Controller -> where its v1 hierarchy is mounted; "" -> where v2 is."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text(encoding="ascii").splitlines():
        _, target, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found[""] = Path(target)
        elif kind == "cgroup":
            found.update({name: Path(target) for name in options.split(",") if name in NEEDED})
    return found


def _own_folder(mounts: dict[str, Path], paths: dict[str, str], name: str) -> Path | None:
    if name not in mounts:
        return None
    inside = mounts[name] / paths.get(name, "/").lstrip("/")
    return inside if inside.is_dir() else mounts[name]  # a namespaced view shows the group as the root


def find_parents() -> Parents:
    """The groups of this process under which slots may be made.

    Raises:
        OSError: memory, processes and CPU cannot all be limited here.
    """
    mounts, paths = _mount_points(), _memberships()
    unified = _own_folder(mounts, paths, "")
    if unified is not None:
        offered = (unified / "cgroup.controllers").read_text(encoding="ascii").split()
        if set(NEEDED) <= set(offered):
            return Parents(version=2, folders=dict.fromkeys(NEEDED, unified))
    folders = {name: folder for name in NEEDED if (folder := _own_folder(mounts, paths, name)) is not None}
    missing = sorted(set(NEEDED) - set(folders))
    if missing:
        raise OSError(f"no control group for {', '.join(missing)} (neither v2 nor v1)")
    return Parents(version=1, folders=folders)


def prepare(parents: Parents) -> Parents:
    """Make the folder of all slots; in v2, step aside first, because inner groups may hold no process."""
    if parents.version == 2:  # noqa: PLR2004 - the kernel's own version number
        top = parents.unique[0]
        if (top / "cgroup.type").exists():  # every group but the root has a type
            aside = top / "launcher"
            aside.mkdir(exist_ok=True)
            (aside / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        _enable(top)
    folders = {name: folder / f"{FOLDER}-{os.getpid()}" for name, folder in parents.folders.items()}
    made = Parents(version=parents.version, folders=folders)
    for folder in made.unique:
        folder.mkdir()
        if made.version == 2:  # noqa: PLR2004
            _enable(folder)
    return made


def _enable(folder: Path) -> None:
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in NEEDED), encoding="ascii")


def remove(parents: Parents) -> None:
    """Take the folder of all slots away again, when they are gone."""
    for folder in parents.unique:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _settings(version: int, memory_bytes: int, processes: int, cpus_milli: int) -> list[tuple[str, str, str, bool]]:
    """(controller, file, value, must exist); swap comes after memory, because it may never be lower."""
    quota = CPU_PERIOD_US * cpus_milli // 1000
    if version == 2:  # noqa: PLR2004
        return [
            ("memory", "memory.max", str(memory_bytes), True),
            ("memory", "memory.swap.max", "0", False),
            ("memory", "memory.oom.group", "1", True),
            ("pids", "pids.max", str(processes), True),
            ("cpu", "cpu.max", f"{quota} {CPU_PERIOD_US}", True),
        ]
    return [
        ("memory", "memory.limit_in_bytes", str(memory_bytes), True),
        ("memory", "memory.memsw.limit_in_bytes", str(memory_bytes), False),
        ("pids", "pids.max", str(processes), True),
        ("cpu", "cpu.cfs_period_us", str(CPU_PERIOD_US), True),
        ("cpu", "cpu.cfs_quota_us", str(quota), True),
    ]


class Group:
    """The control group of one run."""

    def __init__(self, version: int, folders: dict[str, Path]) -> None:
        self._version, self._folders = version, folders

    @classmethod
    def make(cls, parents: Parents, name: str, *, memory_bytes: int, processes: int, cpus_milli: int) -> Group:
        """A new group with its limits written."""
        group = cls(parents.version, {key: folder / name for key, folder in parents.folders.items()})
        pages = memory_bytes // 4096 * 4096
        for folder in dict.fromkeys(group._folders.values()):
            folder.mkdir()
        for controller, file, value, needed in _settings(parents.version, pages, processes, cpus_milli):
            path = group._folders[controller] / file
            if needed or path.exists():
                path.write_text(value, encoding="ascii")
                if path.read_text(encoding="ascii").strip() != value:
                    raise OSError(f"{file} does not keep {value}")
        return group

    def enter(self) -> None:
        """Put the calling process, and all that it starts, into the group."""
        for folder in dict.fromkeys(self._folders.values()):
            (folder / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    def _members(self) -> list[int]:
        lines = (self._folders["memory"] / "cgroup.procs").read_text(encoding="ascii").split()
        return [int(line) for line in lines]

    def end(self) -> bool:
        """Kill everything in the group, stopped processes and forking ones included; True when nothing is left."""
        (self._folders["pids"] / "pids.max").write_text("0", encoding="ascii")
        kill_all = self._folders["memory"] / "cgroup.kill"
        until = time.monotonic() + EMPTY_S_MAX
        while members := self._members():
            if time.monotonic() > until:
                return False
            if kill_all.exists():
                kill_all.write_text("1", encoding="ascii")
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_S)
        return True

    def out_of_memory(self) -> bool:
        """True when the kernel killed in this group for want of memory."""
        file = "memory.events" if self._version == 2 else "memory.oom_control"  # noqa: PLR2004
        return self._number("memory", file, "oom_kill") > 0

    def memory_peak_bytes(self) -> int:
        """The most memory the group ever had, tmpfs included; 0 where the kernel does not count it."""
        file = "memory.peak" if self._version == 2 else "memory.max_usage_in_bytes"  # noqa: PLR2004
        path = self._folders["memory"] / file
        return int(path.read_text(encoding="ascii")) if path.exists() else 0

    def cpu_ms(self) -> int:
        """CPU time of the whole group where the kernel counts it beside the quota, else 0."""
        return self._number("cpu", "cpu.stat", "usage_usec") // 1000

    def _number(self, controller: str, file: str, key: str) -> int:
        path = self._folders[controller] / file
        if not path.exists():
            return 0
        pairs = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        return next((int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == key), 0)  # noqa: PLR2004

    def remove(self) -> None:
        """Take the empty group away."""
        for folder in dict.fromkeys(self._folders.values()):
            with contextlib.suppress(OSError):
                folder.rmdir()
