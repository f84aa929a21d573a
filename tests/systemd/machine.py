"""A small Debian in a folder, booted with its own systemd as a container, for tests of the real units.

The root is made from the machine's own apt configuration, whatever mirror that names. systemd-nspawn gives the
container its own processes, mounts, network and users' names; kernel and control groups are the machine's.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PACKAGES = "usr-is-merged,systemd,systemd-sysv,python3,bubblewrap"
HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
NEEDED = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
BOOT_S_MAX = 60.0
DOWN_S_MAX = 30.0


def missing() -> str:
    """Why no container can be booted here, or an empty string."""
    if os.geteuid() != 0:
        return "booting the units needs root"
    absent = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    return f"booting the units needs {', '.join(absent)} (apt-get install)" if absent else ""


def sources() -> list[str]:
    """The lines of sources.list that this machine's apt would use for the suite, wherever it fetches from."""
    told = subprocess.run(["apt-get", "update", "--print-uris"], capture_output=True, text=True, check=True).stdout
    found = dict.fromkeys(re.findall(r"(?m)^'(.*)/dists/([^/]+)/InRelease'", told))
    wanted = [(place, suite) for place, suite in found if suite in (SUITE, f"{SUITE}-security")]
    assert wanted, f"apt on this machine knows no {SUITE}: the test root is made of it"
    return [f"deb {place} {suite} main" for place, suite in wanted]


def apt_options() -> list[str]:
    """What this machine's apt was told about proxies and old archives holds for the root as well."""
    shell = 'A=$(apt-config shell P Acquire::http::Proxy V Acquire::Check-Valid-Until D Acquire::Check-Date); eval "$A"'
    told = subprocess.run(["sh", "-c", f'{shell}; echo "$P|$V|$D"'], capture_output=True, text=True, check=True)
    proxy, valid, date = told.stdout.strip().split("|")
    options = [("Acquire::http::Proxy", proxy), ("Acquire::Check-Valid-Until", valid), ("Acquire::Check-Date", date)]
    return [f'--aptopt={name} "{value}"' for name, value in options if value]


def make_root(folder: Path) -> None:
    """A minimal Debian with systemd and Python, and the program installed in it; nothing of it has run yet."""
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", f"--hook-dir={HOOKS}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    run(*command, *apt_options(), SUITE, str(folder), *sources())
    (folder / "etc/apt/sources.list").write_text("")
    (folder / "etc/machine-id").write_text("")
    run(sys.executable, "-m", "dux_cli", "install", "--root", str(folder), "--enable")


def run(*command: str) -> str:
    """What a program printed; its words when it failed."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)[:200]}: {(done.stdout + done.stderr)[-2000:]}"
    return done.stdout


def note(text: str) -> None:
    """Tell a figure; pytest shows it with -s, and when the test fails."""
    sys.stdout.write(f"{text}\n")


def wait_for(what: str, holds: Callable[[], object], within_s: float) -> float:
    """Seconds until it held."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began


class ControlGroups:
    """Groups of this machine for one container, gone with it.

    `own`: where its systemd makes a group for each unit; without them two containers would share those, and each would
    end the other's processes. `lent`: groups of the kernel's v1 hierarchies, which are read-only inside; each is bound
    to a place of its own, so that the slot launcher can divide it further.
    """

    PLACE = "/mnt/control-groups"

    def __init__(self) -> None:
        name = f"duxnet-test-{os.getpid()}"
        top = Path("/sys/fs/cgroup")
        trees = [top / "systemd", top / "unified"] if (top / "systemd").is_dir() else [top]
        self.own = [tree / name for tree in trees if (tree / "cgroup.procs").exists()]
        limits = [top / controller for controller in ("memory", "pids", "cpu")]
        self.lent = [tree / name for tree in limits] if all((tree / "tasks").exists() for tree in limits) else []

    def __enter__(self) -> Self:
        for folder in (*self.own, *self.lent):
            folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        for top in (*self.own, *self.lent):
            for folder in sorted((path for path in (top, *top.rglob("*")) if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def binds(self) -> list[str]:
        """What systemd-nspawn has to be told."""
        binds = [f"--bind={folder}:{self.PLACE}/{folder.parent.name}" for folder in self.lent]
        # bubblewrap forbids its jobs more user namespaces by a file here, which the container's /proc shows read-only
        return [*binds, "--bind=/proc/sys/user:/proc/sys/user"] if binds else []

    def entering(self, *command: str) -> list[str]:
        """The command, started inside the container's own groups."""
        enter = " ".join(f"echo $$ >{folder}/cgroup.procs;" for folder in self.own)
        return ["/bin/sh", "-c", f'{enter} exec "$0" "$@"', *command]


class Machine:
    """The container, from boot to power-off."""

    def __init__(self, folder: Path, console: Path, groups: ControlGroups) -> None:
        self.folder = folder
        self.groups = groups
        self._console = console
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.leader = 0

    def boot(self) -> float:
        """Start it; seconds until systemd says that everything asked for has been started (or has failed)."""
        # without `bpf` among the calls, address filters are silently left out
        flags = "--quiet --boot --register=no --keep-unit --private-network --console=pipe --system-call-filter=bpf"
        began = time.monotonic()
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                self.groups.entering(
                    "systemd-nspawn", "--directory", str(self.folder), *flags.split(), *self.groups.binds()
                ),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        wait_for("the container's first process", self._found_leader, 10)
        if self.groups.lent:
            self.sh("mount", "-o", "remount,rw,bind", "/proc/sys/user")
        wait_for("boot", lambda: self.state() in ("running", "degraded"), BOOT_S_MAX)
        self.sh("ip", "address", "add", "10.99.0.1/32", "dev", "lo", inside=False)
        return time.monotonic() - began

    def _found_leader(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._console.read_text(errors="replace")[-2000:]
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        names = {int(pid): Path(f"/proc/{pid}/comm").read_text().strip() for pid in children}
        self.leader = next((pid for pid, name in names.items() if name == "systemd"), 0)
        return bool(self.leader)

    def state(self) -> str:
        """Systemd's own word for how the machine fares."""
        return self.sh("systemctl", "is-system-running", check=False).stdout.strip()

    def sh(self, *command: str, check: bool = True, inside: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of the container as its root; `inside=False`: one of this machine, in that network."""
        namespaces = ["-m", "-u", "-i", "-n", "-p", "-C"] if inside else ["-n"]
        words = ["nsenter", "-t", str(self.leader), *namespaces, "--", *command]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process of the container, by its id in there."""
        self.sh("/bin/sh", "-c", f"kill -{int(number)} {pid}")

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        text = self.sh("systemctl", "show", unit, f"--property={','.join(names)}").stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def journal(self, unit: str) -> list[dict[str, object]]:
        """Every line that the journal has of a unit."""
        text = self.sh("journalctl", "--unit", unit, "--output=json", "--no-pager").stdout
        return [json.loads(line) for line in text.splitlines()]

    def off(self) -> float:
        """Power it off; seconds that it took."""
        assert self._nspawn is not None
        began = time.monotonic()
        os.kill(self.leader, 38)  # SIGRTMIN+4: systemd powers off
        self._nspawn.wait(DOWN_S_MAX)
        return time.monotonic() - began

    def kill(self) -> None:
        """End it, whatever state it is in."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            os.kill(self.leader or self._nspawn.pid, 9)
            self._nspawn.wait(DOWN_S_MAX)
