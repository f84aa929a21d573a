"""What keeps a node in the network: asking the bootstrap list, coming back after a loss, refreshing, offering again.

Promise: while there is any node of the list, of the network profile or of those met before that answers, this one is
connected; each address is tried again with growing pauses. A node that has once been in the network finds it again with
every bootstrap node dead.

Source: network.md §3 and §4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.peer_p2p import LOG_NS, LOG_TTL_S, NODE_NS, chunk_name
from common.errors import DuxError
from common.identity.did import node_id_of
from common.identity.node_record import REISSUE_MS
from common.identity.stamp import make_stamp
from common.network import Bootstrap
from common.randomness import Randomness
from common.units import Did, UnixMs
from dux_p2pd.dht import Dht
from dux_p2pd.keeper import Keeper
from dux_p2pd.log_chunks import chunks_of
from dux_p2pd.peers import PeerBook
from dux_p2pd.records import RecordBody, record_key, sign_record, split_record, stamped_record
from dux_p2pd.remembered import Remembered
from dux_p2pd.rules import pause_s
from dux_p2pd.session import Session
from dux_p2pd.sources import BOOTSTRAP, REMEMBERED, Source, Sources

DIALS_AT_ONCE = 4
ALONE_DIALS_AT_ONCE = 24  # by who is connected to nobody: two rounds, of which each may cost 5 s, reach all remembered
REST_S = 0.25  # between two looks at the connections: many come and go at a time
TURN_S = 1.0  # between two looks at the connections while some are missing
IDLE_TURN_S = 15.0  # otherwise: a connection that is lost wakes the loop anyway
REFRESH_FIRST_S = 2.0  # whoever came in is not alone: others come at the same time; doubled up to
FEW_PEERS, FEW_REFRESH_S = 4, 10.0  # with fewer than these, no longer than this: one lost packet hides a node till then
SHAKEN_REFRESH_S = 60.0  # while the network is being shaken, and for a while after it; then
REFRESH_S = 300.0  # the nodes around are asked this often who else is there
SHAKEN_FOR_S = 600.0
SHAKEN_PART = 0.2  # of the connections lost between two refreshes: half the network may be elsewhere
NODE_RECORD_TTL_S = 172_800
ANNOUNCE_AT_ONCE = 16  # nodes known to one who announces itself without waiting
ANNOUNCE_SPREAD_S = 2.0  # per node that is known beyond these: the first announcement waits up to so long, at most
ANNOUNCE_SPREAD_S_MAX = 60.0  # it costs some forty connections: a thousand that begin at once must spread them
RECORDS_EVERY_S = 300.0  # the own log is put, and what is due offered again, at such a moment
REPUBLISH_ROWS_MAX = 256
FIRST_WIDTH = 8  # nodes of the own neighbourhood that are asked when coming in; those they name are met afterwards


class Upkeep:
    """The loops."""

    def __init__(
        self,
        peers: PeerBook,
        dht: Dht,
        keeper: Keeper,
        met: Remembered,
        bootstrap: list[Bootstrap],
        *,
        region: str = "",
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
        target: int,
        republish_s: int,
    ) -> None:
        self._peers = peers
        self._dht = dht
        self._keeper = keeper
        self._met = met
        self._clock = clock
        self._random = random
        self._log = log
        self._target = target
        self._republish_ms = republish_s * 1000
        self.sources = Sources(region, keeper.did)
        for one in bootstrap:
            self.sources.add(one.address, one.did, kind=BOOTSTRAP, region=one.region)
        self._changed = asyncio.Event()
        self._refreshed_s = float("-inf")
        self._refreshes = 0  # since this node was last alone
        self._lost = 0  # connections, since the last refresh
        self._shaken_s = clock.monotonic()  # since when it is quiet
        self._announce_from_s: float | None = None  # since when the first announcement waits
        self._announce_share = random.uniform()  # of the longest time that it may wait
        self._told: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # endpoints and relays at the last refresh
        self.on_moved: list[Callable[[], Awaitable[None]]] = []  # this node is new, or reached elsewhere
        self.on_failure: Callable[[DuxError], None] = lambda _error: None  # an address gave no session
        self._announced = False  # since this start, to somebody
        peers.on_down.append(lambda _: self._changed.set())
        peers.on_lost.append(self._has_lost)
        peers.on_up.append(self._has_come)
        peers.on_up.append(met.came)
        keeper.on_move.append(self.look)

    def look(self) -> None:
        """There may be somebody new to connect to."""
        self._changed.set()

    def _has_come(self, _session: Session) -> None:
        if self._peers.count() == 1:
            self._refreshed_s, self._refreshes = float("-inf"), 0
        self._changed.set()

    def _has_lost(self, _did: Did) -> None:
        self._lost += 1

    # connections

    async def run_connections(self) -> None:
        """Stay connected, for ever."""
        while True:
            self._changed.clear()
            if self._peers.is_alone():
                self._recall()
            await self._dial_sources()
            await self._dial_contacts()
            await self._refresh()
            try:
                async with asyncio.timeout(self._turn_s()):
                    await self._changed.wait()
            except TimeoutError:
                continue
            if self._peers.count():
                await asyncio.sleep(REST_S)

    def _recall(self) -> None:
        """Who has nobody begins again from those it has met."""
        for text, did, rank in self._met.best():
            self.sources.add(text, did, kind=REMEMBERED, rank=rank)
        for text in self._keeper.endpoints:
            self.sources.forget(text)

    def _turn_s(self) -> float:
        """Until there may be something to do: the next address that is due, or a contact that rests no longer."""
        if self._announce_from_s is not None and not self._announced:
            return TURN_S
        if self._peers.count() >= self._target:
            return IDLE_TURN_S
        connected = {session.peer.did for session in self._peers.sessions()}
        if not connected or any(node.did not in connected for node in self._dht.table.contacts()):
            return TURN_S
        now_s = self._clock.monotonic()
        due = [source.due_s - now_s for source in self.sources if source.did not in connected]
        idle_s = IDLE_TURN_S if len(connected) >= FEW_PEERS else FEW_REFRESH_S / 2
        return min(idle_s, max(TURN_S, min(due, default=idle_s)))

    async def _dial_sources(self) -> None:
        """Try addresses while there are fewer connections than wanted."""
        if self._peers.count() >= self._target:
            return
        sessions, now_s = self._peers.sessions(), self._clock.monotonic()
        connected = {session.peer.did for session in sessions}
        open_now = {session.peer.address for session in sessions}
        due = [
            source
            for source in self.sources
            if source.is_due(now_s, alone=not sessions)
            and source.did not in connected
            and source.address not in open_now
        ]
        count = min(self._target - len(sessions), DIALS_AT_ONCE) if sessions else ALONE_DIALS_AT_ONCE
        async with asyncio.TaskGroup() as group:
            for source in self.sources.choose(due, count, self._random):
                group.create_task(self._dial(source))

    async def _dial(self, source: Source) -> None:
        source.tried_s = self._clock.monotonic()
        try:
            session = await self._peers.dial(source.address, source.did)
        except DuxError as error:
            self.sources.failed(source)
            self._met.failed(source.did)
            self.on_failure(error)
            self._log.info("address did not answer", address=source.address[0], reason=error.message)
        else:
            source.failures = 0
            source.did = session.peer.did
        source.due_s = self._clock.monotonic() + pause_s(source.failures, self._random.uniform())

    async def _dial_contacts(self) -> None:
        """Connect to nodes of the routing table while there are fewer connections than wanted."""
        missing = self._target - self._peers.count()
        if missing <= 0:
            return
        free = [
            node
            for node in self._dht.table.contacts()
            if not self._peers.is_connected(node.did) and not self._peers.is_resting(node.did, node.addresses)
        ]
        async with asyncio.TaskGroup() as group:
            for node in self._random.sample(free, min(missing, DIALS_AT_ONCE)):
                group.create_task(self._dht.ping(node))

    # the table

    async def _refresh(self) -> None:
        """Look up the own neighbourhood, later only ask those around who else is there; and keep every bucket in use.

        At once when this node is reached elsewhere than before.
        """
        whereabouts = self._keeper.endpoints, self._keeper.relays
        moved = self._told != whereabouts
        if not self._peers.count():
            return
        is_due = moved or self._clock.monotonic() - self._refreshed_s >= self._pause_s()
        if is_due:
            await self._look_around(whole=self._refreshes == 0 or moved)
            self._refreshed_s, self._told = self._clock.monotonic(), whereabouts
        if is_due if self._announced else self._may_announce():
            await self.announce()
        if moved:
            for told in self.on_moved:
                await told()

    def _pause_s(self) -> float:
        """Between two refreshes: ever longer after coming in, shorter again when many connections are lost at once."""
        now_s = self._clock.monotonic()
        if self._lost > SHAKEN_PART * (self._lost + self._peers.count()):
            self._shaken_s, self._refreshes = now_s, min(self._refreshes, 1)
        longest_s = SHAKEN_REFRESH_S if now_s - self._shaken_s < SHAKEN_FOR_S else REFRESH_S
        longest_s = longest_s if self._peers.count() >= FEW_PEERS else FEW_REFRESH_S
        return min(longest_s, REFRESH_FIRST_S * 2.0 ** min(self._refreshes, 16))

    async def _look_around(self, *, whole: bool) -> None:
        self._refreshes, self._lost = self._refreshes + 1, 0
        if whole:
            await self._dht.find(node_id_of(self._keeper.did), width=FIRST_WIDTH)
        await self._dht.look_around()
        for bucket in self._dht.table.lonely_buckets():
            low, high = bucket.range
            place = low + int.from_bytes(self._random.bytes(32), "big") % (high - low + 1)
            await self._dht.find(place.to_bytes(32, "big"), width=FIRST_WIDTH)
        while self._dht.table.to_ping:
            node = self._dht.table.to_ping.popleft()
            if self._peers.is_connected(node.did) or await self._dht.ping(node):
                self._dht.table.saw(node)
            else:
                self._dht.table.remove_contact(node)

    def _may_announce(self) -> bool:
        """Where many begin at once, finding each other comes first; the loop goes on meanwhile."""
        now_s = self._clock.monotonic()
        if self._announce_from_s is None:
            self._announce_from_s = now_s
        others = max(0, len(self._dht.table.contacts()) - ANNOUNCE_AT_ONCE)
        wait_s = self._announce_share * min(ANNOUNCE_SPREAD_S_MAX, ANNOUNCE_SPREAD_S * others)
        if now_s < self._announce_from_s + wait_s:
            return False
        self._announce_from_s = None  # should nobody take it, there is a next time
        return True

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
        data, bits = sign_record(body, self._keeper.signer), self._dht.shelf.stamp_bits
        stamp = await asyncio.to_thread(make_stamp, stamped_record(body), bits) if bits else 0
        return await self._dht.put(data, body, stamp), UnixMs(body.seq_ms)

    async def announce_log(self) -> None:
        """Put the own event log into the DHT, chunk by chunk, when it has changed or half its records' life is over."""
        if not self._keeper.may_sign or self._peers.is_alone():
            return
        for number, payload in enumerate(chunks_of(self._keeper.log)):
            name = chunk_name(self._keeper.did, number)
            mine = [row for row in self._dht.shelf.at(record_key(LOG_NS.name, name)) if row.mine]
            held = [split_record(row.envelope)[1] for row in mine]
            half_ms = self._clock.unix_ms() - LOG_TTL_S * 500
            if not any(body.payload == payload and body.seq_ms > half_ms for body in held):
                await self.put(LOG_NS.name, name, payload, LOG_TTL_S)

    async def run_records(self) -> None:
        """Offer own and others' records again, and forget what has expired, for ever."""
        while True:
            await asyncio.sleep(min(self._republish_ms / 1000, RECORDS_EVERY_S) * (0.75 + 0.5 * self._random.uniform()))
            self._dht.shelf.table.sweep(self._clock.unix_ms())
            await self._republish()
            await self.announce_log()

    async def _republish(self) -> None:
        now_ms = self._clock.unix_ms()
        if self._peers.is_alone():
            return
        due = self._dht.shelf.table.due(now_ms - self._republish_ms, now_ms, REPUBLISH_ROWS_MAX)
        await self._dht.offer_again(due, period_ms=self._republish_ms)
