"""Calls between the daemons of a node that live in one process: the same contracts and checks, without a socket.

Promises what the HTTP door promises of callers, permitted methods, deadlines and bytes: nothing else is shared, and a
sibling that has not started yet is `NeighbourDown`. Bulk bytes still go through its own HTTP door, where their limits
stand. For test networks only (settled.md 3).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from common.errors import NeighbourDown
from common.rpc.client import DEADLINE_DEFAULT_S, Client, HttpClient, LocalClient
from common.rpc.method import Method, P, R

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.daemon import DuxOSDaemon


class Siblings:
    """The daemons of one process, by name. They are made after those who will call them."""

    def __init__(self, bulk: Callable[[str, str], HttpClient]) -> None:
        """`bulk(caller, daemon)` gives the HTTP client for bulk bytes."""
        self.daemons: dict[str, DuxOSDaemon[Any]] = {}
        self._bulk = bulk

    def of(self, caller: str) -> Callable[[str], Client]:
        """The neighbours of this daemon, calling under its name."""
        return lambda daemon: _Sibling(self, caller, daemon, self._bulk(caller, daemon))


class _Sibling:
    """One caller's client of one daemon."""

    def __init__(self, siblings: Siblings, caller: str, daemon: str, bulk: HttpClient) -> None:
        self._siblings, self._caller, self._daemon, self._bulk = siblings, caller, daemon, bulk

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = DEADLINE_DEFAULT_S) -> R:
        """The method's result, as over HTTP; in a task of its own, so that log lines keep to their own call.

        Raises:
            DuxError: as the sibling raised it, or NeighbourDown, DeadlinePassed.
        """
        called = self._siblings.daemons.get(self._daemon)
        if called is None or not called.port:
            raise NeighbourDown(daemon=self._daemon, address="in this process", detail="it has not started yet")
        client = LocalClient(called.parts.table, self._caller)
        return await asyncio.ensure_future(client.call(method, params, deadline_s=deadline_s))

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        """Bulk bytes over the sibling's HTTP door."""
        return await self._bulk.transfer(verb, path, body)
