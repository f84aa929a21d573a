"""A Docker engine of the tests' own: its own folder, socket, network namespace and mounts, ended by its process id.

With DOCKER_HOST set the engine behind it is used and left as it was, but for what these tests themselves started.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "docker-compose": "docker-compose",
    "mmdebstrap": "mmdebstrap",
}
READY_WITHIN_S = 20.0
STOP_WITHIN_S = 20.0
# no bridge, no filter rules, no forwarding: a private network between containers needs none of them
MODEST = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--userland-proxy=false"]


class NoEngine(Exception):
    """The engine did not start; the text says why."""


class Engine:
    """Where the engine answers, and its command lines."""

    def __init__(self, host: str, project: str) -> None:
        self.project = project
        self.environment = os.environ | {
            "DOCKER_HOST": host,
            "DOCKER_BUILDKIT": "0",  # Debian's client has no buildx
            "COMPOSE_DOCKER_CLI_BUILD": "0",
            "COMPOSE_PROJECT_NAME": project,
            "DUX_TAG": project,
        }

    def docker(self, *words: str, within_s: float = 60.0, check: bool = True, given: bytes | None = None) -> bytes:
        """What `docker WORDS` prints."""
        return self._run(["docker", *words], within_s, check=check, given=given)

    def compose(self, *words: str, within_s: float = 120.0, check: bool = True) -> str:
        """What `docker-compose WORDS` prints."""
        return self._run(["docker-compose", *words], within_s, check=check).decode()

    def _run(self, words: list[str], within_s: float, *, check: bool, given: bytes | None = None) -> bytes:
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=self.environment,
            input=given or b"",
            capture_output=True,
            timeout=within_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(words)}: {done.returncode}\n{done.stdout[-2000:]!r}\n{done.stderr[-2000:]!r}"
            )
        return done.stdout

    def container(self, service: str) -> str:
        """The container of a service."""
        return f"{self.project}_{service}_1"


@contextmanager
def engine(project: str) -> Iterator[Engine]:
    """A running engine."""
    if os.environ.get("DOCKER_HOST"):
        yield Engine(os.environ["DOCKER_HOST"], project)
        return
    folder = Path(tempfile.mkdtemp(prefix="dux-engine-"))
    process = start(folder)
    try:
        found = Engine(f"unix://{folder}/docker.sock", project)
        wait_ready(found, process, folder)
        try:
            yield found
        finally:
            left = found.docker("ps", "--all", "--quiet").decode().split()
            if left:
                found.docker("rm", "--force", *left, check=False)
    finally:
        stop(process, folder)
        shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A dockerd in namespaces of its own: its bridges and mounts are gone when it is."""
    places = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    words = ["unshare", "--net", "--mount", "--", "dockerd", f"--host=unix://{folder}/docker.sock", *places, *MODEST]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def wait_ready(found: Engine, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Return when it answers."""
    ends = time.monotonic() + READY_WITHIN_S
    while not found.docker("version", "--format", "{{.Server.Version}}", check=False).strip():
        if process.poll() is not None or time.monotonic() > ends:
            raise NoEngine((folder / "log").read_text(errors="replace")[-600:])
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    """SIGTERM, which ends its containerd, too; SIGKILL for both after a while. Only these two ids."""
    with suppress(OSError, ValueError):
        containerd = int((folder / "exec/containerd/containerd.pid").read_text())
        started = Path(f"/proc/{containerd}/stat").read_text()
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        with suppress(OSError, NameError):
            if Path(f"/proc/{containerd}/stat").read_text().split()[21] == started.split()[21]:
                os.kill(containerd, signal.SIGKILL)


def engine_missing() -> str:
    """Why no engine can be started here, or an empty string. Tries it: one second."""
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        return f"no {', '.join(sorted(missing))} (apt-get install {' '.join(sorted(missing))})"
    if os.environ.get("DOCKER_HOST"):
        return ""
    if os.geteuid() != 0:
        return "a Docker engine of its own wants root"
    try:
        with engine("probe"):
            return ""
    except (NoEngine, OSError, subprocess.SubprocessError) as error:
        return f"no Docker engine can be started here: {error}"
