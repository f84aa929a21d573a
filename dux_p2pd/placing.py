"""Placing one record: it is offered to the nodes near its key as they answer, not only once all of them have.

Promise: in the end the k nearest nodes that answer have been offered the record; `enough` says when half as many keep
it, which is when whoever puts need wait no longer. A lookup that ends with twenty nodes costs a connection for each
that is not connected yet; those that are, are asked and offered first. A node that answers is offered the record when
it stands among the k nearest that anybody has named so far: who names nodes that do not exist delays an offer to the
end and prevents none.

Source: network.md §4 (k = 20), transport_identity.md §3.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dux_p2pd.lookup import PATH_WIDTH, Found, Manners, lookup
from dux_p2pd.routing import DuxNode, K, Place

PATHS = 3
ENOUGH = K // 2  # keepers: the rest is offered it while the caller goes on

Find = Callable[[DuxNode, bytes], Awaitable[Found | None]]
Give = Callable[[DuxNode], Awaitable[bool]]
"""Offers the record to one node; whether it keeps it now."""


class Placing:
    """One record on its way to the nodes nearest to one key."""

    def __init__(self, key: bytes, start: list[DuxNode], find: Find, give: Give, manners: Manners) -> None:
        """`start`: the nearest nodes known here."""
        self._place, self._start, self._find, self._give, self._manners = Place(key), start, find, give, manners
        place = self._place.long_id
        self._near: dict[int, DuxNode] = {place ^ node.long_id: node for node in start}  # the k nearest named so far
        self._offers: dict[bytes, asyncio.Task[None]] = {}
        self.kept = 0
        self.enough = asyncio.Event()

    async def run(self) -> int:
        """To the end; how many keep it."""
        key: bytes = self._place.id
        async with asyncio.TaskGroup() as group:
            self._group = group
            manners = self._manners
            outcome = await lookup(key, self._start, self._ask, paths=PATHS, width=PATH_WIDTH, manners=manners)
            for node in outcome.nodes:
                self._offer(node)
        return self.kept

    async def _ask(self, node: DuxNode, key: bytes) -> Found | None:
        found = await self._find(node, key)
        if found is not None:
            place = self._place.long_id
            named = self._near | {place ^ one.long_id: one for one in (node, *found.nodes)}
            self._near = {far: named[far] for far in sorted(named)[:K]}
            if place ^ node.long_id in self._near:
                self._offer(node)
        return found

    def _offer(self, node: DuxNode) -> None:
        if node.id not in self._offers:
            self._offers[node.id] = self._group.create_task(self._offered(node))

    async def _offered(self, node: DuxNode) -> None:
        is_kept = await self._give(node)
        self.kept += is_kept  # read only now: others have counted meanwhile
        if self.kept >= ENOUGH:
            self.enough.set()
