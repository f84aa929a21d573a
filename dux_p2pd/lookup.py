"""Lookups: the `kademlia` package's crawler on our authenticated calls.

A round calls the three nearest nodes not called yet; a dead one costs the round its short time-out and is dropped. A
lookup ends when the k nearest have all answered. Several disjoint paths share a list of who was called, so that no node
answers on two of them; what any path finds counts.

Source: settled.md 16, transport_identity.md §3.1, network.md §4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from kademlia.crawling import SpiderCrawl

from dux_p2pd.gate import net_of
from dux_p2pd.routing import ALPHA, DuxNode, K, Place

CALLED_MAX = 96  # nodes one lookup calls at most, whatever it is told


@dataclass(frozen=True, slots=True)
class Found:
    """One node's answer: what it holds at the place, and the nodes that it names."""

    records: tuple[bytes, ...] = ()
    nodes: tuple[DuxNode, ...] = ()


Ask = Callable[[DuxNode, bytes], Awaitable[Found | None]]
"""The call that a lookup makes; None when the node did not answer."""


@dataclass(slots=True)
class Lookup:
    """The outcome: the nearest nodes that answered, nearest first, and every record with who gave it."""

    nodes: list[DuxNode] = field(default_factory=list)
    records: list[tuple[bytes, DuxNode]] = field(default_factory=list)


class _Calls:
    """The protocol object of the crawler: no node is called twice in one lookup."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._called: set[bytes] = set()
        self.answered: dict[bytes, DuxNode] = {}
        self.records: list[tuple[bytes, DuxNode]] = []

    def is_free(self, node: DuxNode) -> bool:
        """Whether some path may still call this node."""
        return node.id not in self._called and len(self._called) < CALLED_MAX

    async def call_find_node(self, node: DuxNode, place: Place) -> Found | None:
        """Ask one node, unless another path has asked it."""
        if not self.is_free(node):
            return None
        self._called.add(node.id)
        found = await self._ask(node, place.id)
        if found is not None:
            self.answered[node.id] = node
            self.records += [(record, node) for record in found.records]
        return found


class _Path(SpiderCrawl):  # type: ignore[misc]
    """One path of a lookup."""

    protocol: _Calls

    async def find(self) -> None:
        """Call nodes nearer and nearer until the nearest have all been called."""
        await self._find(self.protocol.call_find_node)

    async def _nodes_found(self, responses: dict[bytes, Found | None]) -> None:
        for node_id, found in responses.items():
            if found is None:
                self.nearest.remove([node_id])
            else:
                self.nearest.push([node for node in found.nodes[:K] if self.protocol.is_free(node)])
        if not self.nearest.have_contacted_all():
            await self.find()


async def lookup(key: bytes, start: list[DuxNode], ask: Ask, *, paths: int = 1) -> Lookup:
    """The k nearest nodes to a place that answer, and the records they hold there."""
    calls = _Calls(ask)
    parts = [part for part in (start[index::paths] for index in range(paths)) if part]
    async with asyncio.TaskGroup() as group:
        for part in parts:
            path: Any = _Path(calls, Place(key), part, K, ALPHA)
            group.create_task(path.find())
    place = Place(key)
    nearest = sorted(calls.answered.values(), key=place.distance_to)
    return Lookup(nodes=one_per_net(nearest)[:K], records=calls.records)


def one_per_net(nodes: list[DuxNode]) -> list[DuxNode]:
    """The first node of each /24 (IPv6: /48): whoever owns a net owns one place in a result, not all."""
    by_net: dict[str, DuxNode] = {}
    for node in nodes:
        by_net.setdefault(net_of(node.ip), node)
    return list(by_net.values())
