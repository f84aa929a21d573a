"""Starts, ends and watches the processes of one node.

Promises: a daemon is started once; it is ready when it answers `daemon.info`; it is asked to end (SIGTERM) and, when it
does not within five seconds, made to (SIGKILL). A process is only ever ended by an id that this node recorded together
with the moment at which it started, so that another process that got the same id later is left alone.
Does not know what daemons do, nor who asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from common.errors import DuxError, Unavailable
from common.rpc.method import DAEMONS, Method, P, R
from dux_cli.node_dir import NodeDir, owner_of

if TYPE_CHECKING:
    from common.contracts.base import DaemonInfo
    from common.rpc.client import HttpClient
    from dux_cli.uids import Uids

STOP_WITHIN_S = 5.0  # SIGTERM to SIGKILL
READY_WITHIN_S = 30.0
ASK_EVERY_S = 0.05  # between two looks at a daemon that is starting
LOG_TAIL_LINES = 5  # looked at when a daemon does not start
WORDS_CHARS_MAX = 600  # of them shown
CHECKOUT = Path(__file__).resolve().parents[1]
HOST = "host"  # the one process of a node that is not split
SLOTS = "slots"  # starts native jobs under users of their own; only where root gives every daemon one


class NotStarted(Unavailable):
    """{daemon} did not become ready ({reason}). Its log is {log}; the last lines: {tail}."""

    code = 1321
    key = "not-started"


class Node:
    """One node's processes: one per daemon, or one for all of them on test networks."""

    def __init__(
        self,
        folder: NodeDir,
        *,
        one_process: bool = False,
        modules: Mapping[str, str] | None = None,
        uids: Uids | None = None,
    ) -> None:
        """Hold the node in `folder`; `modules` replaces a daemon's program (daemon name -> module)."""
        self.folder = folder
        self.one_process = one_process
        self._modules = {daemon: f"dux_{daemon}" for daemon in DAEMONS} | dict(modules or {})
        self._uids = uids
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._clients: dict[str, HttpClient] = {}

    def run_instead(self, daemon: str, module: str) -> None:
        """From its next start on, this daemon is that module."""
        self._modules[daemon] = module

    async def __aenter__(self) -> Self:
        """Start every daemon and wait until all are ready."""
        try:
            await self.start()
            await self.wait_ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what was started."""
        await self.close()

    async def close(self) -> None:
        """Stop every daemon that runs and close the clients."""
        await self.stop()
        await self.close_clients()

    async def close_clients(self) -> None:
        """Close the connections to the daemons; they run on."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    def process_names(self) -> tuple[str, ...]:
        """The node's processes: its daemons (and who changes users for taskd), or the one that hosts them."""
        if self.one_process:
            return (HOST,)
        return (SLOTS, *DAEMONS) if self._uids else DAEMONS

    def pid(self, daemon: str) -> int | None:
        """The process id of a daemon that was started here and has not ended."""
        process = self._processes.get(HOST if self.one_process else daemon)
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, *daemons: str) -> None:
        """Start these daemons (all, when none is named); one that runs already is left alone."""
        for name in self._chosen(daemons):
            if self.pid(name) is None:
                self._processes[name] = await self._launch(name)

    async def _launch(self, name: str) -> asyncio.subprocess.Process:
        self.folder.logs.mkdir(exist_ok=True)
        self.folder.run.mkdir(exist_ok=True)
        user = self._uids.prepare(self.folder, name) if self._uids and name in DAEMONS else None
        with self.folder.log(name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.command(name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
                process_group=0,  # a Ctrl-C on the terminal reaches the supervisor alone, which ends them in order
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        record_pid(self.folder, name, process.pid)
        return process

    def command(self, name: str) -> list[str]:
        """The command line of a process of this node."""
        start = [sys.executable, "-P", "-m"]
        config = ["--config", str(self.folder.config)]
        if name == SLOTS and self._uids:
            taskd = self._uids.prepare(self.folder, "taskd")
            place = ["--socket", str(self.folder.run / "taskd" / "slots.sock"), "--serve-uid", str(taskd)]
            return [*start, "dux_taskd.sandbox.slot_launcher", *place]
        if name != HOST:
            return [*start, self._modules[name], *config]
        changed = [f"{d}={m}" for d, m in self._modules.items() if m != f"dux_{d}"]
        return [*start, "dux_cli.host", *config, *(word for pair in changed for word in ("--module", pair))]

    async def wait_ready(self, *daemons: str, deadline_s: float = READY_WITHIN_S) -> None:
        """Return when these daemons (all, when none is named) answer.

        Raises:
            NotStarted: one has ended or not answered in time, with the end of its log.
        """
        try:
            async with asyncio.timeout(deadline_s):
                for daemon in daemons or DAEMONS:
                    await self._wait_for(daemon)
        except TimeoutError as error:
            late = [daemon for daemon in daemons or DAEMONS if await self.info(daemon) is None]
            raise self._not_started(late[0] if late else "a daemon", f"silent for {deadline_s:g} s") from error

    async def _wait_for(self, daemon: str) -> None:
        while await self.info(daemon) is None:
            if self.pid(daemon) is None:
                raise self._not_started(daemon, "its process has ended")
            await asyncio.sleep(ASK_EVERY_S)

    def _not_started(self, daemon: str, reason: str) -> NotStarted:
        log = self.folder.log(HOST if self.one_process else daemon)
        return NotStarted(daemon=daemon, reason=reason, log=str(log), tail=last_words(log))

    async def info(self, daemon: str) -> DaemonInfo | None:
        """What the daemon says of itself, or None while it does not answer."""
        from common.contracts.base import INFO
        from common.rpc.method import Empty

        try:
            return await self.client(daemon).call(INFO, Empty(), deadline_s=2.0)
        except DuxError:
            return None

    async def stop(self, *daemons: str) -> None:
        """End these daemons (all, when none is named): SIGTERM, and SIGKILL after five seconds."""
        running = [name for name in self._chosen(daemons) if self.pid(name) is not None]
        for name in running:
            self._processes[name].terminate()
        waits = [self._processes[name].wait() for name in running]
        try:
            await asyncio.wait_for(asyncio.gather(*waits), STOP_WITHIN_S)
        except TimeoutError:
            await self.kill(*running)
        for name in running:
            pid_file(self.folder, name).unlink(missing_ok=True)

    async def kill(self, *daemons: str) -> None:
        """SIGKILL these daemons (all, when none is named) and wait until they are gone."""
        running = [name for name in self._chosen(daemons) if self.pid(name) is not None]
        for name in running:
            self._processes[name].kill()
        for name in running:
            await self._processes[name].wait()

    def _chosen(self, daemons: tuple[str, ...]) -> tuple[str, ...]:
        if self.one_process:
            return (HOST,)
        return daemons or self.process_names()

    async def wait_for_exit(self, daemon: str) -> int:
        """The exit code of a daemon, once it has ended (negative: by that signal)."""
        return await self._processes[daemon].wait()

    def client(self, daemon: str) -> HttpClient:
        """A client of the daemon under the name `cli`, kept until the node is closed."""
        if daemon not in self._clients:
            self._clients[daemon] = self.folder.client(daemon)
        return self._clients[daemon]

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = 15.0) -> R:
        """Call a method on the daemon that its contract belongs to.

        Raises:
            DuxError: as the daemon raised it.
        """
        return await self.client(owner_of(method.name)).call(method, params, deadline_s=deadline_s)


def child_environment() -> dict[str, str]:
    """This process's environment, with the checkout first on the path of modules."""
    path = os.environ.get("PYTHONPATH", "")
    return os.environ | {"PYTHONPATH": os.pathsep.join(part for part in (str(CHECKOUT), path) if part)}


def pid_file(folder: NodeDir, name: str) -> Path:
    """Where the id of a process of this node is recorded."""
    return folder.run / f"{name}.pid"


def started_at(pid: int) -> str:
    """When the process started, in clock ticks since boot; empty when there is none. Source: proc(5), stat field 22."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def record_pid(folder: NodeDir, name: str, pid: int) -> None:
    """Remember a process of this node and when it started."""
    folder.run.mkdir(exist_ok=True)
    pid_file(folder, name).write_text(f"{pid} {started_at(pid)}\n")


def recorded_pid(folder: NodeDir, name: str) -> int | None:
    """The id of a process that was recorded for this node and still is the same process."""
    try:
        pid, _, started = pid_file(folder, name).read_text().strip().partition(" ")
    except OSError:
        return None
    return int(pid) if pid.isdigit() and started and started_at(int(pid)) == started else None


async def end_recorded(folder: NodeDir, name: str, *, within_s: float = STOP_WITHIN_S) -> bool:
    """End a recorded process that this program did not start; False when there was none."""
    pid = recorded_pid(folder, name)
    if pid is None:
        pid_file(folder, name).unlink(missing_ok=True)
        return False
    os.kill(pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(within_s):
            while recorded_pid(folder, name) == pid:  # noqa: ASYNC110 - not our child: nothing tells us of its end
                await asyncio.sleep(ASK_EVERY_S)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
    pid_file(folder, name).unlink(missing_ok=True)
    return True


def last_words(path: Path) -> str:
    """Why a program ended, as far as the end of its log tells: the last reason given, else its last lines."""
    lines = tail(path, LOG_TAIL_LINES)
    for line in reversed(lines):
        try:
            told = json.loads(line[line.index("{") :])
        except ValueError:
            continue
        if isinstance(told, dict) and told.get("reason"):
            return f"{told.get('event', '')}: {told['reason']}"
    return " | ".join(lines)[-WORDS_CHARS_MAX:]


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a text file; none when it is missing. Reads at most 64 KiB."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 65_536))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []
