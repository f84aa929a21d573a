"""What keeps a node in the network: asking the bootstrap list, coming back after a loss, refreshing, offering again.

Promise: while there is any node of the list, of the network profile or of those met before that answers, this one is
connected; each address is tried again with growing pauses. A node that has once been in the network finds it again with
every bootstrap node dead.

Source: network.md §3 and §4.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.peer_p2p import NODE_NS
from common.errors import DuxError
from common.identity.did import node_id_of
from common.identity.node_record import REISSUE_MS
from common.randomness import Randomness
from common.units import Did, UnixMs
from dux_p2pd.dht import Dht
from dux_p2pd.keeper import Keeper
from dux_p2pd.peers import PeerBook
from dux_p2pd.records import RecordBody, record_key, sign_record, split_record
from dux_p2pd.rules import may_listen_at, pause_s
from dux_p2pd.session import Address, Session
from dux_p2pd.store import NodeTable

LAST_MET_MAX = 32
DIALS_AT_ONCE = 4
ALONE_PAUSE_S = 5.0  # who is connected to nobody tries each address this often: the fault is likely at this end
TURN_S = 1.0  # between two looks at the connections while some are missing
IDLE_TURN_S = 15.0  # otherwise: a connection that is lost wakes the loop anyway
REFRESH_S = 60.0  # the own neighbourhood is looked up again this often
NODE_RECORD_TTL_S = 172_800
REPUBLISH_ROWS_MAX = 64


@dataclass(slots=True)
class _Source:
    """One address to begin from."""

    address: Address
    did: Did | None
    failures: int = 0
    due_s: float = 0.0
    tried_s: float = float("-inf")


class Upkeep:
    """The loops."""

    def __init__(
        self,
        peers: PeerBook,
        dht: Dht,
        keeper: Keeper,
        nodes: NodeTable,
        bootstrap: list[tuple[str, Did | None]],
        *,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
        target: int,
        republish_s: int,
    ) -> None:
        self._peers = peers
        self._dht = dht
        self._keeper = keeper
        self._nodes = nodes
        self._clock = clock
        self._random = random
        self._log = log
        self._target = target
        self._republish_ms = republish_s * 1000
        self._sources: dict[Address, _Source] = {}
        for text, did in bootstrap:
            self._add_source(text, did)
        self._changed = asyncio.Event()
        self._refreshed_s = float("-inf")
        self._told: tuple[str, ...] = ()  # endpoints at the last refresh
        self._announced = False  # since this start, to somebody
        peers.on_down.append(lambda _: self._changed.set())
        peers.on_up.append(self._has_come)

    def _add_source(self, text: str, did: Did | None) -> None:
        address = may_listen_at(text)
        if address is not None and text not in self._keeper.endpoints and did != self._keeper.did:
            self._sources.setdefault(address, _Source(address, did))

    def _has_come(self, _session: Session) -> None:
        if len(self._peers.sessions()) == 1:
            self._refreshed_s = float("-inf")
        self._changed.set()

    # connections

    async def run_connections(self) -> None:
        """Stay connected, for ever."""
        for text, did in self._nodes.last_met(LAST_MET_MAX):
            self._add_source(text, did)
        while True:
            self._changed.clear()
            await self._dial_sources()
            await self._dial_contacts()
            await self._refresh()
            try:
                async with asyncio.timeout(self._turn_s()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _turn_s(self) -> float:
        """Until there may be something to do: the next address that is due, or a contact that rests no longer."""
        if len(self._peers.sessions()) >= self._target:
            return IDLE_TURN_S
        connected = {session.peer.did for session in self._peers.sessions()}
        if not connected or any(node.did not in connected for node in self._dht.table.contacts()):
            return TURN_S
        now_s = self._clock.monotonic()
        due = [source.due_s - now_s for source in self._sources.values() if source.did not in connected]
        return min(IDLE_TURN_S, max(TURN_S, min(due, default=IDLE_TURN_S)))

    async def _dial_sources(self) -> None:
        """Try addresses of the list while there are fewer connections than wanted."""
        missing = self._target - len(self._peers.sessions())
        now_s = self._clock.monotonic()
        connected = {session.peer.did for session in self._peers.sessions()}
        open_now = {session.peer.address for session in self._peers.sessions()}
        due = [s for s in self._sources.values() if self._is_due(s, now_s) and s.did not in connected]
        due = [source for source in due if source.address not in open_now]
        chosen = self._random.sample(due, min(max(missing, 0), DIALS_AT_ONCE))
        async with asyncio.TaskGroup() as group:
            for source in chosen:
                group.create_task(self._dial(source))

    def _is_due(self, source: _Source, now_s: float) -> bool:
        alone = not self._peers.sessions()
        return source.due_s <= now_s or (alone and source.tried_s + ALONE_PAUSE_S <= now_s)

    async def _dial(self, source: _Source) -> None:
        source.tried_s = self._clock.monotonic()
        try:
            session = await self._peers.dial(source.address, source.did)
        except DuxError as error:
            source.failures += 1
            self._log.info("address did not answer", address=source.address[0], reason=error.message)
        else:
            source.failures = 0
            source.did = session.peer.did
        source.due_s = self._clock.monotonic() + pause_s(source.failures, self._random.uniform())

    async def _dial_contacts(self) -> None:
        """Connect to nodes of the routing table while there are fewer connections than wanted."""
        missing = self._target - len(self._peers.sessions())
        free = [
            node
            for node in self._dht.table.contacts()
            if not self._peers.is_connected(node.did) and not self._peers.is_resting(node.did, node.address)
        ]
        async with asyncio.TaskGroup() as group:
            for node in self._random.sample(free, min(max(missing, 0), DIALS_AT_ONCE)):
                group.create_task(self._dht.ping(node))

    # the table

    async def _refresh(self) -> None:
        """Look up the own neighbourhood, and a place in every bucket that nobody used for long.

        At once when this node is reached elsewhere than before.
        """
        moved = self._told != self._keeper.endpoints
        if not self._peers.sessions() or (not moved and self._clock.monotonic() - self._refreshed_s < REFRESH_S):
            return
        self._refreshed_s, self._told = self._clock.monotonic(), self._keeper.endpoints
        await self._dht.find(node_id_of(self._keeper.did))
        for bucket in self._dht.table.lonely_buckets():
            low, high = bucket.range
            place = low + int.from_bytes(self._random.bytes(32), "big") % (high - low + 1)
            await self._dht.find(place.to_bytes(32, "big"))
        while self._dht.table.to_ping:
            node = self._dht.table.to_ping.popleft()
            if not await self._dht.ping(node):
                self._dht.table.remove_contact(node)
        await self.announce()

    # records

    async def announce(self) -> None:
        """Put the node record into the DHT when it has changed or half its life is over."""
        if not self._keeper.may_sign:
            return
        record = self._keeper.record()
        held = self._dht.shelf.at(record_key(NODE_NS.name, self._keeper.did))
        mine = [split_record(row.envelope)[1] for row in held if row.mine]
        fresh = any(
            body.payload == record and self._clock.unix_ms() - body.seq_ms < REISSUE_MS and self._announced
            for body in mine
        )
        if not fresh:
            stored = await self.put(NODE_NS.name, self._keeper.did, record, NODE_RECORD_TTL_S)
            self._announced = stored[0] > 0

    async def put(self, ns: str, name: str, payload: bytes, ttl_s: int) -> tuple[int, UnixMs]:
        """Sign a record of this node, keep it and offer it; how many others keep it, and its number."""
        body = RecordBody(
            v=1,
            ns=ns,
            name=name,
            did=self._keeper.did,
            key_seq=self._keeper.key_seq,
            seq_ms=self._keeper.next_seq_ms(),
            ttl_s=ttl_s,
            payload=payload,
        )
        data = sign_record(body, self._keeper.signer)
        self._dht.shelf.keep_own(body, data)
        return await self._dht.put(data, body), UnixMs(body.seq_ms)

    async def run_records(self) -> None:
        """Offer own and others' records again, and forget what has expired, for ever."""
        while True:
            await asyncio.sleep(min(self._republish_ms / 1000, REFRESH_S))
            self._dht.shelf.table.sweep(self._clock.unix_ms())
            await self._republish()

    async def _republish(self) -> None:
        now_ms = self._clock.unix_ms()
        if not self._peers.sessions():
            return
        due = self._dht.shelf.table.due(now_ms - self._republish_ms, now_ms, REPUBLISH_ROWS_MAX)
        await self._dht.offer_again(due)
