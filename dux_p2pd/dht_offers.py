"""Giving records to those who should hold them: at a put, again from time to time, to newcomers, and before leaving.

Promise: a record is offered to the k nodes nearest to each of its keys (`placing.py`), and a put ends when half as many
keep it: the others are offered it while the caller goes on; the nearest holder goes first when records are
offered again, so that the others need not; a node that comes near is handed what it should hold by the three nearest
holders, not by all; a node that is stopped in order hands on what only fewer would hold after it. Every burst is
bounded.

Source: network.md §4 (republish, hand-over), transport_identity.md §3.2.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.peer_p2p import Store
from common.identity.log import encode_log
from common.units import Did
from dux_p2pd.dht_calls import DhtCalls
from dux_p2pd.directory import Directory
from dux_p2pd.placing import Placing
from dux_p2pd.record_table import RecordRow
from dux_p2pd.routing import DuxNode, DuxTable, K
from dux_p2pd.shelf import RecordShelf
from dux_p2pd.tasks import Tasks

PLACED_BEHIND_MAX = 16  # records that are still being offered after their put has ended; more puts wait for their end
HAND_OVER_MAX = 256  # records looked at for newcomers, and when leaving
HANDERS = 3  # holders that hand a record to a newcomer
NEWCOMERS_WAIT_S = 3.0  # newcomers are seen to together
LEFT_MAX = 1024  # nodes remembered that were here
LEFT_FOR_MS = 3_600_000  # then everybody counts as new again
TRAVEL_MS = 60_000  # a record travels, and clocks differ: so much older ones are given again
LEAVE_S = 2.0  # the longest that handing over may hold up the end
HEIRS = 2  # nodes that are offered each record of one who leaves
TURN_MS = 180_000  # each holder waits so much longer than the next nearer one before it offers again


@dataclass(frozen=True, slots=True)
class Parcel:
    """A record on its way to one of its keys."""

    data: bytes
    signer: Did
    key: bytes
    salt: int
    stamp: int

    @classmethod
    def of_row(cls, row: RecordRow) -> Parcel:
        """A record that is held here."""
        return cls(row.envelope, row.did, row.key, row.salt, row.stamp)


class Offers:
    """Offers records to others."""

    def __init__(
        self,
        table: DuxTable,
        shelf: RecordShelf,
        calls: DhtCalls,
        directory: Directory,
        tasks: Tasks,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._table, self._shelf, self._calls, self._directory, self._tasks = table, shelf, calls, directory, tasks
        self._clock, self._log = clock, log
        self._behind: set[asyncio.Task[None]] = set()
        self._newcomers: dict[bytes, DuxNode] = {}
        self._left_ms: OrderedDict[bytes, int] = OrderedDict()  # by node: when it went out of the table
        table.on_gone = self._gone

    async def put(self, parcel: Parcel) -> int:
        """Offer a record to the k nearest nodes; how many keep it once enough of them do. The rest follow."""
        placing = self._placing(parcel)
        if placing is None:
            return 0
        task = self._tasks.spawn(placing.run(), "put") if len(self._behind) < PLACED_BEHIND_MAX else None
        if task is None:
            return await placing.run()
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
        task.add_done_callback(lambda _: placing.enough.set())
        await placing.enough.wait()
        return placing.kept

    async def place(self, parcel: Parcel) -> int:
        """The same to its end; how many keep it."""
        placing = self._placing(parcel)
        return 0 if placing is None else await placing.run()

    def _placing(self, parcel: Parcel) -> Placing | None:
        params, calls = self._params(parcel), self._calls
        if params is None:
            return None
        start, give = self._table.nearest(parcel.key), partial(calls.store, params=params)
        return Placing(parcel.key, start, calls.find, give, calls.put_manners)

    def _params(self, parcel: Parcel) -> Store | None:
        known = self._directory.get(parcel.signer)
        if known is None:
            return None
        return Store(record=parcel.data, log=encode_log(known.log), salt=parcel.salt, stamp=parcel.stamp)

    async def offer(self, parcel: Parcel, nodes: list[DuxNode]) -> int:
        """Offer a record to these nodes, at most k; how many keep it."""
        params = self._params(parcel)
        if params is None:
            return 0
        async with asyncio.TaskGroup() as group:
            kept = [group.create_task(self._calls.store(node, params)) for node in nodes[:K]]
        return sum(one.result() for one in kept)

    # again

    async def again(self, rows: list[RecordRow], *, period_ms: int) -> None:
        """Offer records that were not offered for a period to whoever is nearest now."""
        now_ms = self._clock.unix_ms()
        for row in rows:
            turn_ms = 0 if row.mine else TURN_MS * self._table.nearer_than_us(row.key)
            if now_ms - row.offered_ms >= period_ms + turn_ms:
                await self.place(Parcel.of_row(row))
                self._shelf.table.offered([row], self._clock.unix_ms())

    # newcomers

    def met(self, node: DuxNode) -> None:
        """A node has come into the table."""
        if not self._newcomers:
            self._tasks.spawn(self._see_to_newcomers(), "hand over")
        self._newcomers[node.id] = node

    async def _see_to_newcomers(self) -> None:
        """Who was here a while ago, and has its disk or was only out of reach, lacks no more than what is new since."""
        await asyncio.sleep(NEWCOMERS_WAIT_S)
        newcomers, self._newcomers = self._newcomers, {}
        now_ms = self._clock.unix_ms()
        since_ms = {node_id: self._lacks_since_ms(node_id, now_ms) for node_id in newcomers}
        since, ours = min(since_ms.values()), self._table.ours(HANDERS)  # nearly all records are others' to hand over
        for place in self._shelf.table.places(now_ms, HAND_OVER_MAX, since_ms=since, within=ours):
            if self._table.nearer_than_us(place.key, HANDERS) >= HANDERS:
                continue
            near = self._table.nearest(place.key, K)
            lacking = [node for node in near if place.seq_ms >= since_ms.get(node.id, now_ms + 1)]
            row = self._shelf.table.held(place) if lacking else None
            if row is not None:
                await self.offer(Parcel.of_row(row), lacking)

    def _gone(self, node: DuxNode) -> None:
        """It has left the table."""
        self._left_ms.pop(node.id, None)
        self._left_ms[node.id] = self._clock.unix_ms()
        if len(self._left_ms) > LEFT_MAX:
            self._left_ms.popitem(last=False)

    def _lacks_since_ms(self, node_id: bytes, now_ms: int) -> int:
        """A node that was here a while ago is given what was signed since then; else all."""
        left_ms = self._left_ms.pop(node_id, 0)
        return left_ms - TRAVEL_MS if now_ms - left_ms < LEFT_FOR_MS else 0

    # leaving

    async def leave(self) -> None:
        """Hand on the records of others that this node is among the k nearest to."""
        try:
            async with asyncio.timeout(LEAVE_S):
                for row in self._shelf.table.all(self._clock.unix_ms(), HAND_OVER_MAX):
                    if self._table.nearer_than_us(row.key, K) < K:
                        await self.offer(Parcel.of_row(row), self._heirs(row.key))
        except TimeoutError:
            self._log.info("left before all records were handed over")

    def _heirs(self, key: bytes) -> list[DuxNode]:
        """Who is among the k nearest once we are gone, the farthest first: it is likeliest to lack the record."""
        near = [node for node in self._table.nearest(key, K) if not self._calls.is_last(node)]
        return near[-HEIRS:]
