"""RPC of what nodes have witnessed of each other: presence and topology."""

from __future__ import annotations

import asyncio

from common.clock import Clock
from common.contracts.peer_registry import PRESENCE_SHOW_PEER, PresenceAsk
from common.contracts.registry import NodeStatus
from common.contracts.registry_witness import (
    LINKS_MAX,
    NODES_DRAWN_MAX,
    LinkView,
    PlacedNode,
    PresenceAsked,
    PresenceView,
    SlotShown,
    Topology,
    TopologyAsked,
)
from common.errors import BadParams, DuxError
from common.network import PresenceParameters
from common.receipts import attested, body_of
from common.rpc.table import Ctx
from common.units import Did
from common.witness import SIGHTING_BYTES_MAX, Sighting
from dux_registryd.effects import Outside
from dux_registryd.model import RatedNode
from dux_registryd.rules import by_reputation, status_of
from dux_registryd.sanction_rules import worst
from dux_registryd.scores import Scores
from dux_registryd.settings import RegistrydSettings
from dux_registryd.sightings import Sightings
from dux_registryd.store import Book
from dux_registryd.topology_rules import between, region_of
from dux_registryd.views import part

EVIDENCE_MAX = 400  # signed sightings in one answer, about 160 KB
CHECKED_AT_ONCE = 8  # signatures of another's evidence, side by side


class WitnessMethods:
    """What callers may ask about what was seen."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        scores: Scores,
        sightings: Sightings,
        *,
        rules: PresenceParameters,
        clock: Clock,
        settings: RegistrydSettings,
    ) -> None:
        self._book = book
        self._outside = outside
        self._scores = scores
        self._sightings = sightings
        self._rules = rules
        self._clock = clock
        self._settings = settings

    async def presence(self, params: PresenceAsked, _ctx: Ctx) -> PresenceView:
        """What others saw of a node. With `evidence` it is asked for what it keeps, and that is judged."""
        did, now = Did(params.node_id), self._sightings.slot_now() or 0
        oldest = max(0, now - params.slots + 1)
        if params.evidence:
            await self._ask_it(did, oldest, now)
        presence = self._scores.presence(did)
        slots = self._book.slots(did, oldest, params.slots)
        evidence = self._sightings.shown(did, oldest, now + 1, EVIDENCE_MAX) if params.evidence else ()
        return PresenceView(
            node_id=did,
            uptime=part(presence.uptime_bps),
            days_known=presence.days_known,
            days_good=presence.days_good,
            probing=part(presence.probing_bps),
            slots=tuple(
                SlotShown(
                    slot=view.slot,
                    from_height=view.slot * self._rules.slot_blocks,
                    drawn=view.drawn,
                    seen=view.seen,
                    up=view.up,
                    net=view.net,
                )
                for view in slots
            ),
            evidence=evidence,
        )

    async def _ask_it(self, did: Did, low: int, high: int) -> None:
        """Take in what a node can show of itself; nothing when it does not answer."""
        if did == await self._outside.own_did():
            return
        try:
            shown = await self._outside.ask(did, PRESENCE_SHOW_PEER, PresenceAsk(from_slot=low, to_slot=high))
        except DuxError:
            return
        turns = asyncio.Semaphore(CHECKED_AT_ONCE)

        async def take(data: bytes) -> None:
            async with turns:
                try:
                    envelope = attested(data)
                    sighting = body_of(envelope, Sighting, SIGHTING_BYTES_MAX)
                    if low <= sighting.slot <= high:
                        await self._sightings.take(envelope, did, sighting.slot)
                except BadParams:
                    return  # the next one may be right

        await asyncio.gather(*(take(data) for data in shown.sightings))

    async def topology(self, params: TopologyAsked, _ctx: Ctx) -> Topology:
        """Nodes heard of, and what was measured between them."""
        own, now_ms = await self._outside.own_did(), self._clock.unix_ms()
        wanted = region_of(params.region) if params.region else ""
        rated = sorted(self._scores.rate_all(self._book.nodes()), key=by_reputation)
        placed = [self._placed(one, own, now_ms) for one in rated]
        heard = [one for one in placed if one.status != NodeStatus.OFFLINE.value]
        nodes = [one for one in heard if wanted in ("", one.region)][:NODES_DRAWN_MAX]
        names = {one.node_id: one.region for one in nodes}
        links = [one for one in self._book.links(LINKS_MAX) if one.prober in names and one.target in names]
        return Topology(
            nodes=tuple(nodes),
            links=tuple(
                LinkView(
                    prober=link.prober,
                    target=link.target,
                    rtt_ms=link.rtt_ms,
                    least_ms=link.least_ms,
                    samples=link.samples,
                )
                for link in links
            ),
            regions=between(links, names),
            connected=tuple(did for did in await self._connected() if did in names),
        )

    async def _connected(self) -> list[Did]:
        try:
            return await self._outside.connected()
        except DuxError:
            return []

    def _placed(self, rated: RatedNode, own: Did, now_ms: int) -> PlacedNode:
        node = rated.node
        return PlacedNode(
            node_id=node.info.did,
            hostname=node.info.hostname,
            region=region_of(node.info.region),
            tier=rated.score.tier,
            status=status_of(node.heard_ms, now_ms, self._settings.heartbeat_s).value,
            uptime=part(rated.presence.uptime_bps),
            own=node.info.did == own,
            sanction=worst(rated.sanctions) or "",
            verified=rated.verified,
        )
