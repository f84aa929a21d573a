"""The other daemons of this node, over HTTP on loopback; who hosts a node in one process gives others.

Promises one client per neighbour, made when first asked for and closed with the daemon. Source: architecture.md §3.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from common.node_ports import rpc_port
from common.rpc.client import HttpClient


class HttpNeighbours:
    """Clients of the other daemons of this node, made when first asked for and closed with the daemon."""

    def __init__(self, settings: Any, caller: str, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._caller = caller
        self._stack = stack
        self._clients: dict[str, HttpClient] = {}

    def __call__(self, daemon: str) -> HttpClient:
        """The client that calls `daemon` under this daemon's name."""
        if daemon not in self._clients:
            url = f"http://{self._settings.host}:{rpc_port(daemon, self._settings.port_base)}/"
            client = HttpClient(daemon, url, Path(self._settings.run_dir) / daemon / f"{self._caller}.token")
            self._stack.push_async_callback(client.close)
            self._clients[daemon] = client
        return self._clients[daemon]
