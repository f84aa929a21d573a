"""All daemons of a node in one process, for test networks and the demo.

Keys would share memory with a sandbox launcher, so the network `main` is refused (settled.md 3). Each daemon keeps its
own port, store and tokens, and does not know that it has company; what it asks its siblings takes the short way
(`siblings.py`). When one fails, all end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from common.clock import SystemClock
from common.daemon import DuxOSDaemon
from common.errors import CallerMistake
from common.log import start_logging
from common.neighbours import HttpNeighbours
from common.parameter_file import load_network
from common.rpc.method import DAEMONS
from common.settings import load_settings
from dux_cli.siblings import Siblings

DaemonClass = type[DuxOSDaemon[Any]]


class KeysNeedWalls(CallerMistake):
    """The network main wants one process per daemon (keys must not share memory with a sandbox); use `duxnet up`."""

    code = 1121
    key = "keys-need-walls"


def daemon_class(module: str) -> DaemonClass:
    """The daemon that a package (`dux_escrowd`) or a module defines."""
    found = import_module(f"{module}.daemon" if module.removeprefix("dux_") in DAEMONS else module)
    kinds = [
        kind
        for kind in vars(found).values()
        if isinstance(kind, type) and issubclass(kind, DuxOSDaemon) and kind.__module__ == found.__name__
    ]
    if len(kinds) != 1:
        raise TypeError(f"{found.__name__} defines {len(kinds)} daemons; one is expected")
    return kinds[0]


def make_daemons(config: Path, modules: Mapping[str, str], stack: AsyncExitStack) -> list[DuxOSDaemon[Any]]:
    """Every daemon of the node, not yet running; their clients are closed with `stack`.

    Raises:
        KeysNeedWalls: the node belongs to main.
        BadSettings: a file of the configuration does not fit.
    """
    doors: dict[str, HttpNeighbours] = {}
    siblings = Siblings(lambda caller, daemon: doors[caller](daemon))
    for name in DAEMONS:
        kind = daemon_class(modules.get(name, f"dux_{name}"))
        settings = load_settings(config, name, kind.settings_type_of(), os.environ)
        profile_path = config / settings.network_profile
        network = load_network(profile_path, now_ms=SystemClock().unix_ms())
        if network.is_main:
            raise KeysNeedWalls
        doors[name] = HttpNeighbours(settings, name, stack)
        siblings.daemons[name] = daemon = kind(settings, network, neighbours=siblings.of(name))
        daemon.profile_path = profile_path
    return list(siblings.daemons.values())


async def host(config: Path, modules: Mapping[str, str]) -> None:
    """Run them all until SIGTERM or SIGINT, or until one fails."""
    async with AsyncExitStack() as stack:
        await run_all(make_daemons(config, modules, stack))


async def run_all(daemons: list[DuxOSDaemon[Any]]) -> None:
    """Run them all until SIGTERM or SIGINT, or until one fails."""
    loop = asyncio.get_running_loop()

    def stop_all() -> None:
        for daemon in reversed(daemons):
            daemon.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_all)
    async with asyncio.TaskGroup() as group:
        for daemon in daemons:
            group.create_task(daemon.run(), name=daemon.name)


def main(arguments: list[str] | None = None) -> NoReturn:
    """`python -m dux_cli.host --config DIR [--module DAEMON=MODULE …]`."""
    parser = argparse.ArgumentParser(
        prog="dux-host", description="All daemons of a test network's node in one process."
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--module", action="append", default=[], metavar="DAEMON=MODULE", help="another program for it")
    options = parser.parse_args(arguments)
    start_logging("host", "INFO")
    try:
        asyncio.run(host(options.config, dict(pair.split("=", 1) for pair in options.module)))
    except KeysNeedWalls as error:
        sys.exit(f"{error.message}")
    sys.exit(0)


if __name__ == "__main__":
    main()
