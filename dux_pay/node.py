"""The node that a program sells or buys through: its daemons' clients, by the `module` tokens of this machine.

Knows where a node's settings lie and nothing else of it; the token files are readable by the node's owner and the
members of its group. Source: settled.md 4, 24.
"""

from __future__ import annotations

import os
from pathlib import Path

from common.clock import SystemClock
from common.errors import CallerMistake
from common.network import NetworkProfile, load_profile
from common.node_ports import rpc_port
from common.randomness import SystemRandomness
from common.rpc.client import HttpClient
from common.settings import DaemonSettings, load_settings
from dux_pay.answers import Shelf
from dux_pay.seller import Seller
from dux_pay.workers import Worker

NODE_VARIABLE = "DUXNET_NODE"
CALLER = "module"
FOLDER = "http"  # of the node's data, for what is sold and bought over HTTP


class NoNodeNamed(CallerMistake):
    """There is no node at {path!r}: name its folder, or set DUXNET_NODE; `duxnet init` makes one."""

    code = 3157
    key = "no-node-named"


class Node:
    """One node's folder, and clients of its daemons; `close` when done."""

    def __init__(self, folder: Path | str | None = None) -> None:
        """Read the node's settings.

        Raises:
            NoNodeNamed: there is none.
        """
        named = Path(folder or os.environ.get(NODE_VARIABLE, ""))
        config = named if (named / "common.yaml").exists() else named / "config"
        if not (config / "common.yaml").exists():
            raise NoNodeNamed(path=str(named))
        self._config = config
        self._settings = load_settings(config, "common", DaemonSettings, {})
        self._clients: dict[str, HttpClient] = {}

    @property
    def network(self) -> NetworkProfile:
        """The network that it belongs to."""
        return load_profile(self._config / self._settings.network_profile)

    @property
    def folder(self) -> Path:
        """Where programs that sell and buy keep their files."""
        return Path(self._settings.data_dir) / FOLDER

    @property
    def run_folder(self) -> Path:
        """Where tokens lie."""
        return Path(self._settings.run_dir)

    def client(self, daemon: str) -> HttpClient:
        """A daemon of this node."""
        if daemon not in self._clients:
            url = f"http://{self._settings.host}:{rpc_port(daemon, self._settings.port_base)}/"
            token = self.run_folder / daemon / f"{CALLER}.token"
            self._clients[daemon] = HttpClient(daemon, url, token)
        return self._clients[daemon]

    def seller(self, *, body_bytes_max: int, body_s_max: float) -> Seller:
        """What sells through this node."""
        return Seller(
            escrowd=self.client("escrowd"),
            flopd=self.client("flopd"),
            network=self.network,
            clock=SystemClock(),
            shelf=Shelf(self.folder / "answers"),
            worker=Worker(self.folder / "workers", SystemRandomness()),
            body_bytes_max=body_bytes_max,
            body_s_max=body_s_max,
        )

    async def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            await client.close()
