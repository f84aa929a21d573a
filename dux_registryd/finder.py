"""Finds who offers some capabilities: among the nodes known here, and where these are too few, by the index in the DHT.

Every node that the index names is looked up and taken in like any other; a pointer alone is believed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from common.clock import Clock
from common.contracts.peer_registry import CAPABILITY_NS
from common.contracts.registry import FindNodes, NodeList, NodeStatus
from common.errors import DuxError
from common.rpc.table import Ctx
from common.units import Did
from dux_registryd.effects import Outside
from dux_registryd.intake import Intake
from dux_registryd.model import RatedNode
from dux_registryd.rules import by_reputation, capabilities_of, status_of
from dux_registryd.sanction_rules import may_be_listed
from dux_registryd.scores import Scores
from dux_registryd.settings import RegistrydSettings
from dux_registryd.store import Book
from dux_registryd.views import node_view

INDEX_AGE_S = 30  # an answer of the index so old serves again: who finds few asks again at once
LOOKUPS_AT_ONCE = 8  # DHT lookups side by side; the rest wait their turn


class Finder:
    """Searches by capability."""

    def __init__(
        self, book: Book, outside: Outside, intake: Intake, scores: Scores, *, clock: Clock, settings: RegistrydSettings
    ) -> None:
        self._book = book
        self._outside = outside
        self._intake = intake
        self._scores = scores
        self._clock = clock
        self._settings = settings

    async def find(self, params: FindNodes, _ctx: Ctx) -> NodeList:
        """Nodes that offer all of them, active ones first, then best reputation."""
        own = await self._outside.own_did()
        names = capabilities_of(params.capabilities)
        found = self._offering(names) if names else []
        if names and sum(status is NodeStatus.ACTIVE for _, status in found) < params.limit:
            await self._ask_index(names, params.limit)
            found = self._offering(names)
        found.sort(key=lambda pair: (pair[1] is not NodeStatus.ACTIVE, by_reputation(pair[0])))
        views = [node_view(rated, status, own=rated.node.info.did == own) for rated, status in found[: params.limit]]
        return NodeList(nodes=tuple(views), total=len(found))

    def _offering(self, names: Sequence[str]) -> list[tuple[RatedNode, NodeStatus]]:
        now_ms = self._clock.unix_ms()
        nodes = [node for node in self._book.nodes() if set(names) <= set(node.info.capabilities)]
        return [
            (rated, status_of(rated.node.heard_ms, now_ms, self._settings.heartbeat_s))
            for rated in self._scores.rate_all(nodes)
            if may_be_listed(rated.sanctions)
        ]

    async def _ask_index(self, names: Sequence[str], limit: int) -> None:
        """Take in the nodes that the DHT names for each of them and that nobody here knows."""
        peers = self._outside.peers
        try:
            asking = [peers.get_records(CAPABILITY_NS, name, max_age_s=INDEX_AGE_S) for name in names]
            found = await asyncio.gather(*asking)
        except DuxError:
            return  # the DHT cannot be asked now: what is known here is the answer
        first, *others = ({record.did: None for record in records if record.payload} for records in found)
        named = [did for did in first if all(did in other for other in others)]
        unknown = [did for did in named if self._book.node(did) is None]
        turns = asyncio.Semaphore(LOOKUPS_AT_ONCE)

        async def look_up(did: Did) -> None:
            async with turns:
                await self._intake.look_up(did)

        await asyncio.gather(*(look_up(did) for did in unknown[:limit]))
