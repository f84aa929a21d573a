"""The base of every daemon: settings, log, store, server, neighbours and an orderly end.

A subclass gives `name`, `settings_type` and `assemble`; nothing else is overridden. A daemon does not know whether it
is alone in its process: `main()` runs one under systemd or a terminal, `run()` runs it beside its siblings.
Source: architecture.md §1-3, style.md 2.2.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, NoReturn

import structlog
from structlog.typing import FilteringBoundLogger

from common import __version__
from common.backups import Backups
from common.clock import Clock, SystemClock
from common.contracts.base import DISCOVER, INFO, DaemonInfo, Discovery
from common.contracts.wallet_chain import CHAIN_TIP
from common.errors import BadSettings, DuxError
from common.log import LEVELS, set_level, start_logging
from common.neighbours import HttpNeighbours
from common.network import NetworkProfile
from common.node_ports import rpc_port
from common.notify import Notifier
from common.openrpc import openrpc_document
from common.parameter_file import load_network
from common.parameter_follow import ParameterFollower
from common.parts import Neighbours, Parts, S, run_loops
from common.randomness import Randomness, SystemRandomness
from common.rpc.client import Client, LocalClient
from common.rpc.method import CALL_GRAPH, DAEMONS, Empty
from common.rpc.server import RpcServer, Tokens
from common.rpc.table import Ctx, MethodTable
from common.settings import CONFIG_DEFAULT, effective, load_settings

STOP_WITHIN_S = 5.0
EXIT_BAD_SETTINGS = 78  # EX_CONFIG of sysexits(3): systemd does not restart on it


class DuxOSDaemon(Generic[S]):
    """One daemon, assembled from parts."""

    name: ClassVar[str]
    settings_type: type[S]
    new_loop: ClassVar[Callable[[], asyncio.AbstractEventLoop] | None] = None  # of its process; None: asyncio's own

    def __init__(
        self,
        settings: S,
        network: NetworkProfile,
        *,
        log: FilteringBoundLogger | None = None,
        clock: Clock | None = None,
        randomness: Randomness | None = None,
        neighbours: Neighbours | None = None,
        store_in_memory: bool = False,
    ) -> None:
        self.settings = settings
        self.network = network
        self.log: FilteringBoundLogger = log or structlog.get_logger().bind(daemon=self.name)
        self.clock: Clock = clock or SystemClock()
        self.random: Randomness = randomness or SystemRandomness()
        self._neighbours = neighbours
        self.profile_path: Path | None = None  # where later parameter sets come beside; None: none come
        self._store_in_memory = store_in_memory
        self._started = self.clock.monotonic()
        self.stopping = asyncio.Event()
        self.port = 0
        self.parts: Parts[S]

    async def assemble(self, parts: Parts[S]) -> None:
        """Put the daemon's parts together: open the store, serve the methods, start the loops."""
        raise NotImplementedError

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything entered in order; left in reverse order when the block ends."""
        async with AsyncExitStack() as stack:
            self.parts = parts = self._make_parts(stack)
            await self.assemble(parts)
            self._backups = self._make_backups(parts)
            self._serve_own(parts)
            await self._listen(parts)
            yield

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Serve until `stopping` is set or a loop fails.

        Raises:
            DuxError, ExceptionGroup: what ended it, when it was not asked to end.
        """
        notifier = Notifier(os.environ)
        async with self.running():
            self.log.info("daemon ready", port=self.port, version=__version__)
            notifier.send("READY=1", f"STATUS=listening on {self.settings.host}:{self.port}")
            if ready:
                ready.set()
            loops = [*self.parts.loops, ("watchdog", lambda: self._watchdog(notifier)), ("backup", self._backups.run)]
            loops += self._parameters()
            work = asyncio.ensure_future(run_loops(loops))
            asked = asyncio.ensure_future(self.stopping.wait())
            try:
                await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
            finally:
                notifier.send("STOPPING=1")
                asked.cancel()
                await _end(work)
        self.log.info("daemon stopped")

    def _make_parts(self, stack: AsyncExitStack) -> Parts[S]:
        table = MethodTable(log=self.log, clock=self.clock, randomness=self.random)
        data_dir = Path(self.settings.data_dir) / self.name
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Parts(
            name=self.name,
            settings=self.settings,
            network=self.network,
            clock=self.clock,
            random=self.random,
            log=self.log,
            stack=stack,
            table=table,
            neighbours=self._neighbours or HttpNeighbours(self.settings, self.name, stack),
            data_dir=data_dir,
            run_dir=Path(self.settings.run_dir) / self.name,
            store_in_memory=self._store_in_memory,
        )

    def _parameters(self) -> list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """The loop that takes later parameter sets, where this daemon can ask the wallet for the height."""
        if self.profile_path is None or not (self.name == "flopd" or "flopd" in CALL_GRAPH.get(self.name, ())):
            return []
        own = self.name == "flopd"
        wallet: Client = LocalClient(self.parts.table, "cli") if own else self.parts.neighbour("flopd")

        async def tip() -> int:
            return int((await wallet.call(CHAIN_TIP, Empty())).height)

        follower = ParameterFollower(
            self.profile_path, self.network, tip, clock=self.clock, log=self.log, taken=self.parts.on_parameters
        )
        return [("parameters", follower.run)]

    def _make_backups(self, parts: Parts[S]) -> Backups:
        store = None if self._store_in_memory else parts.table.store
        backups = Backups(store, parts.data_dir / "backup", self.name, self.settings.backup_interval, self.log)
        parts.problems.append(lambda: backups.problem)
        return backups

    def _serve_own(self, parts: Parts[S]) -> None:
        async def info(_params: Empty, _ctx: Ctx) -> DaemonInfo:
            return self._info()

        async def discover(_params: Empty, _ctx: Ctx) -> Discovery:
            return Discovery(document=openrpc_document(self.name, list(parts.table.methods.values())))

        parts.table.serve(INFO, info)
        parts.table.serve(DISCOVER, discover)

    async def _listen(self, parts: Parts[S]) -> None:
        tokens = Tokens(parts.run_dir, parts.table.callers(), self.random)
        server = RpcServer(parts.table, tokens, health=self._health, metrics=self._metrics, log=self.log)
        server.extra_routes = parts.routes
        parts.stack.push_async_callback(server.stop)
        wanted = rpc_port(self.name, self.settings.port_base) if self.name in DAEMONS else self._own_port()
        try:
            self.port = await server.start(self.settings.host, wanted, parts.run_dir / "probe.sock")
        except OSError as error:
            raise BadSettings(path="port_base", detail=f"cannot listen on {wanted}: {error.strerror}") from error

    def _own_port(self) -> int:
        return int(getattr(self.settings, "port", 0))

    def _info(self) -> DaemonInfo:
        problems = [problem for check in self.parts.problems if (problem := check())]
        return DaemonInfo(
            name=self.name,
            version=__version__,
            pid=os.getpid(),
            uptime_s=round(self.clock.monotonic() - self._started, 1),
            healthy=not problems,
            problems=problems,
        )

    async def _health(self) -> tuple[int, str, str]:
        info = self._info()
        text = "ok\n" if info.healthy else "".join(f"{problem}\n" for problem in info.problems)
        return (200 if info.healthy else 503), "text/plain", text

    async def _metrics(self) -> tuple[int, str, str]:
        lines = [f'dux_info{{daemon="{self.name}",version="{__version__}"}} 1']
        gauges = {"uptime_seconds": lambda: self.clock.monotonic() - self._started, **self.parts.gauges}
        lines += [f"dux_{self.name}_{name} {value():g}" for name, value in gauges.items()]
        lines += self._spent()
        return 200, "text/plain", "\n".join(lines) + "\n"

    def _spent(self) -> list[str]:
        """Where the daemon's time went: its decisions on disk, and the calls that it answered."""
        store, table = self.parts.table.store, self.parts.table
        lines = []
        if store is not None:
            lines.append(f"dux_{self.name}_decisions_total {store.decisions}")
            lines.append(f"dux_{self.name}_decisions_seconds_total {store.decisions_s:.6f}")
        for method, taken in table.taken.items():
            if taken.calls:
                lines.append(f'dux_{self.name}_calls_total{{method="{method}"}} {taken.calls}')
                lines.append(f'dux_{self.name}_calls_seconds_total{{method="{method}"}} {taken.seconds:.6f}')
        return lines

    async def _watchdog(self, notifier: Notifier) -> None:
        pause_s = (notifier.watchdog_s or self.settings.watchdog_s) / 3
        while True:
            notifier.send("WATCHDOG=1")
            await asyncio.sleep(pause_s)

    def reload(self, read: Callable[[], S]) -> None:
        """SIGHUP: take the log level and what the daemon's hooks take; the rest keeps its value until a restart."""
        try:
            settings = read()
        except BadSettings as error:
            self.log.error("settings not reloaded", reason=error.message)  # noqa: TRY400 - the reason is the whole story
            return
        set_level(settings.log_level)
        for hook in self.parts.on_reload:
            hook(settings)
        self.log.info("settings reloaded", log_level=settings.log_level)

    @classmethod
    def main(cls, arguments: list[str] | None = None) -> NoReturn:
        """The process: read the settings, run, exit. 0 asked to stop, 1 failed, 78 settings unusable."""
        options = _options(cls.name, arguments)

        def read() -> S:
            loaded = load_settings(options.config, cls.name, cls.settings_type_of(), os.environ)
            return _with_options(loaded, options)

        try:
            settings = read()
            profile_path = options.config / settings.network_profile
            network = load_network(profile_path, now_ms=SystemClock().unix_ms())
        except BadSettings as error:
            sys.stderr.write(f"{error.message}\n")
            sys.exit(EXIT_BAD_SETTINGS)
        if options.check_config:
            sys.stdout.write(effective(settings))
            sys.exit(0)
        log = start_logging(cls.name, settings.log_level, Path(settings.log_file) if settings.log_file else None)
        try:
            with asyncio.Runner(loop_factory=cls.new_loop) as runner:
                runner.run(cls._process(settings, network, profile_path, log, read))
        except (DuxError, ExceptionGroup) as error:
            log.error("daemon failed", reason=_reason(error), exc_info=error)  # noqa: TRY400 - the trace goes along
            sys.exit(EXIT_BAD_SETTINGS if isinstance(error, BadSettings) else 1)
        sys.exit(0)

    @classmethod
    def settings_type_of(cls) -> type[S]:
        """The settings struct of this daemon."""
        return cls.settings_type

    @classmethod
    async def _process(
        cls,
        settings: S,
        network: NetworkProfile,
        profile_path: Path,
        log: FilteringBoundLogger,
        read: Callable[[], S],
    ) -> None:
        daemon = cls(settings, network, log=log)
        daemon.profile_path = profile_path
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.stopping.set)
        loop.add_signal_handler(signal.SIGHUP, daemon.reload, read)
        await daemon.run()


def _options(daemon: str, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"dux-{daemon}", description=f"The DuxNet daemon {daemon}.")
    parser.add_argument("--config", type=Path, default=CONFIG_DEFAULT, help="folder with common.yaml and <daemon>.yaml")
    parser.add_argument("--check-config", action="store_true", help="print the settings in force and exit")
    parser.add_argument("--log-level", choices=sorted(LEVELS), help="overrides log_level")
    parser.add_argument("--log-file", type=Path, help="overrides log_file")
    parser.add_argument("--version", action="version", version=__version__)
    return parser.parse_args(arguments)


def _with_options(settings: S, options: argparse.Namespace) -> S:
    import msgspec  # noqa: PLC0415 - only here, to copy a frozen struct

    changes: dict[str, Any] = {}
    if options.log_level:
        changes["log_level"] = options.log_level
    if options.log_file:
        changes["log_file"] = str(options.log_file)
    changed: S = msgspec.structs.replace(settings, **changes)
    if changed.log_level not in LEVELS:
        raise BadSettings(path="log_level", detail=f"one of {', '.join(LEVELS)}, not {changed.log_level!r}")
    return changed


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return str(error) or type(error).__name__


async def _end(work: asyncio.Future[None]) -> None:
    if work.done():
        work.result()
        return
    work.cancel()
    await asyncio.wait((work,), timeout=STOP_WITHIN_S)
