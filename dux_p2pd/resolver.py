"""Whom a DID stands for now: what is held, what its own node says, what the DHT says; the union of them counts.

Source: transport_identity.md §2.4.
"""

from __future__ import annotations

import asyncio

from common.clock import Clock
from common.contracts.p2p_errors import PeerUnknown
from common.contracts.peer_p2p import NODE_NS
from common.identity.did import did_bytes
from common.units import Did
from dux_p2pd.dht import Dht
from dux_p2pd.directory import Directory, Known
from dux_p2pd.peers import PeerBook
from dux_p2pd.records import record_key

PATHS = 3
ASKED_MAX = 8  # nodes near the DID's place that are asked for its log


class Resolver:
    """Resolves DIDs; several callers who want the same DID at once share one search."""

    def __init__(self, dht: Dht, peers: PeerBook, directory: Directory, *, clock: Clock) -> None:
        self._dht = dht
        self._peers = peers
        self._directory = directory
        self._clock = clock
        self._searching: dict[Did, asyncio.Future[None]] = {}

    def age_s(self, known: Known) -> int:
        """How long ago what is known was last confirmed."""
        return max(0, self._clock.unix_ms() - known.learned_ms) // 1000

    async def resolve(self, did: Did, max_age_s: int) -> Known:
        """What is known of the DID, asked for anew when older than `max_age_s`; older when nobody answers now.

        Raises:
            NotADid: another form. PeerUnknown: nobody reached knows it.
        """
        did_bytes(did)
        known = self._directory.get(did)
        if known is None or known.record is None or self.age_s(known) > max_age_s:
            await self._search_once(did)
            known = self._directory.get(did)
        if known is None:
            raise PeerUnknown(did=did)
        return known

    async def locate(self, did: Did) -> Known:
        """The DID with a node record that says where it is.

        Raises:
            PeerUnknown: nobody reached has one.
        """
        await self._search_once(did)
        known = self._directory.get(did)
        if known is None or known.record is None:
            raise PeerUnknown(did=did)
        return known

    async def _search_once(self, did: Did) -> None:
        running = self._searching.get(did)
        if running is not None:
            await asyncio.wait([running])
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._searching[did] = future
        try:
            await self._search(did)
        finally:
            del self._searching[did]
            future.set_result(None)

    async def _search(self, did: Did) -> None:
        outcome = await self._dht.find(record_key(NODE_NS.name, did), paths=PATHS)
        asked = {node.did: node.address for node in outcome.nodes[:ASKED_MAX]}
        async with asyncio.TaskGroup() as group:
            for whom, address in asked.items():
                group.create_task(self._dht.ask_log(whom, did, address))
            if self._peers.is_connected(did) and did not in asked:
                group.create_task(self._dht.ask_log(did, did))
