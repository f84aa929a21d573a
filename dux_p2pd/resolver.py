"""Whom a DID stands for now: what is held, what its own node says, what the DHT says; the union of them counts.

Source: transport_identity.md §2.4.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from common.clock import Clock
from common.contracts.p2p_errors import PeerUnknown, TooFewSources
from common.contracts.peer_p2p import NODE_NS
from common.identity.did import did_bytes
from common.nets import net_of
from common.units import Did
from dux_p2pd.dht import Dht
from dux_p2pd.directory import Directory, Known
from dux_p2pd.peers import PeerBook
from dux_p2pd.records import record_key
from dux_p2pd.session import Address

PATHS = 3
ASKED_MAX = 8  # nodes near the DID's place that are asked for its log
SOURCES_MAX = 4096  # DIDs whose last search is remembered


class Resolver:
    """Resolves DIDs; several callers who want the same DID at once share one search."""

    def __init__(self, dht: Dht, peers: PeerBook, directory: Directory, *, clock: Clock) -> None:
        self._dht = dht
        self._peers = peers
        self._directory = directory
        self._clock = clock
        self._searching: dict[Did, asyncio.Future[None]] = {}
        self._sources: OrderedDict[Did, tuple[int, int]] = OrderedDict()

    def age_s(self, known: Known) -> int:
        """How long ago what is known was last confirmed."""
        return max(0, self._clock.unix_ms() - known.learned_ms) // 1000

    async def resolve(self, did: Did, max_age_s: int, min_sources: int = 0) -> Known:
        """What is known of the DID, asked for anew when older than `max_age_s`; older when nobody answers now.

        With `min_sources`, so many independent nodes must have confirmed it within `max_age_s`; in a network that
        has fewer beside this one, all of them.

        Raises:
            NotADid: another form. PeerUnknown: nobody reached knows it. TooFewSources: too few have confirmed it.
        """
        did_bytes(did)
        known = self._directory.get(did)
        enough = self.sources(did, max_age_s) >= min_sources
        if known is None or known.record is None or self.age_s(known) > max_age_s or not enough:
            await self._search_once(did)
            known = self._directory.get(did)
        if known is None:
            raise PeerUnknown(did=did)
        wanted = min(min_sources, len({net_of(s.peer.address[0]) for s in self._peers.sessions()}))
        found = self.sources(did, max_age_s)
        if did != self._directory.did and found < wanted:
            raise TooFewSources(did=did, found=found, wanted=wanted)
        return known

    def sources(self, did: Did, max_age_s: int) -> int:
        """How many independent nodes answered about the DID in the last search, if that is not older."""
        at_ms, count = self._sources.get(did, (0, 0))
        return count if self._clock.unix_ms() - at_ms <= max_age_s * 1000 else 0

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

    async def search(self, did: Did) -> None:
        """Ask the network about a DID, this node's own among them; what it says is in the directory afterwards."""
        await self._search_once(did)

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
        asked: dict[Did, tuple[Address, ...]] = {node.did: node.addresses for node in outcome.nodes[:ASKED_MAX]}
        if self._peers.is_connected(did) and did not in asked:
            asked[did] = ()
        confirmed: set[str] = set()

        async def ask(whom: Did, hints: tuple[Address, ...]) -> None:
            session = self._peers.session_with(whom)
            if await self._dht.ask_log(whom, did, hints) is not None:
                session = self._peers.session_with(whom) or session
                confirmed.add(net_of(session.peer.address[0]) if session else whom)

        async with asyncio.TaskGroup() as group:
            for whom, hints in asked.items():
                group.create_task(ask(whom, hints))
        if self._directory.get(did) is None:
            await self._dht.reader.log_chunks(did)
        self._sources[did] = (int(self._clock.unix_ms()), len(confirmed))
        self._sources.move_to_end(did)
        if len(self._sources) > SOURCES_MAX:
            self._sources.popitem(last=False)
