"""p2pds as processes of their own, as systemd runs them, each at its own 127.x address."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from common.contracts import p2p
from common.errors import DuxError
from common.network import Bootstrap, NetworkProfile, save_profile
from common.peers import Peers
from common.rpc.client import HttpClient
from common.rpc.method import Empty
from tests.p2pd.overlay_kit import Node, profile, wait_until


class Process:
    """One node directory and its p2pd process."""

    def __init__(self, node: Node) -> None:
        self.node = node
        config = node.folder / "config"
        config.mkdir()
        save_profile(node.profile, config / "profile.yaml")
        plain = msgspec.to_builtins(node.settings)
        shared = {key: plain.pop(key) for key in ("network_profile", "data_dir", "run_dir", "port_base")}
        (config / "common.yaml").write_text(yaml.safe_dump(shared))
        (config / "p2pd.yaml").write_text(yaml.safe_dump({key: plain[key] for key in node.own_settings}))
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._clients: list[HttpClient] = []

    async def start(self) -> None:
        with (self.node.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "dux_p2pd", "--config", str(self._config), stdout=log, stderr=log
            )
        await wait_until(self._answers, "the daemon answers")

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self.node.folder / "log").read_text()
        try:
            await self.client("cli").call(p2p.P2P_INFO, Empty(), deadline_s=2)
        except DuxError:
            return False
        return True

    def client(self, caller: str) -> HttpClient:
        client = self.node.http(caller)
        self._clients.append(client)
        return client

    def peers(self, caller: str) -> Peers:
        return Peers(self.client(caller))

    async def sessions(self) -> int:
        return (await self.client("cli").call(p2p.P2P_INFO, Empty())).sessions

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        os.kill(self._process.pid, number)
        return await self._process.wait()

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.end(signal.SIGKILL)
        for client in self._clients:
            await client.close()


@asynccontextmanager
async def processes(
    count: int, network: Callable[[tuple[Bootstrap, ...]], NetworkProfile] = profile, **settings: Any
) -> AsyncIterator[list[Process]]:
    """`count` processes, all connected to all; `settings` of each p2pd."""
    with tempfile.TemporaryDirectory(prefix="duxtest-") as name:
        first = Node(1, Path(name) / "1", network(()), **settings)
        others = network((Bootstrap(address=first.address, did=first.did),))
        rest = [Node(i, Path(name) / str(i), others, **settings) for i in range(2, count + 1)]
        made = [Process(node) for node in (first, *rest)]
        try:
            await asyncio.gather(*(process.start() for process in made))
            await wait_until(lambda: all_see(made, count - 1), "all connected")
            yield made
        finally:
            for process in made:
                await process.close()


async def all_see(made: list[Process], sessions: int) -> bool:
    return all([await process.sessions() >= sessions for process in made])
