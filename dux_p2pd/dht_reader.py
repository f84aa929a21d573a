"""Reading the DHT: the union of what is found and verifies, with a memory for what was found and for what was not.

A name is looked up over three disjoint paths, at every key of its namespace. A lookup ends early when enough holders
give the same records and none gives others; when what they agreed on turns out to be worth nothing, all are asked.
Nothing is believed before its signature has verified against its signer's log, and a node that gave a forgery is blamed
for it.

Source: transport_identity.md §3.1 and §3.2, network.md §4.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from weakref import WeakValueDictionary

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.peer_p2p import LOG_CHUNKS_MAX, LOG_NS, LogChunk, chunk_name
from common.errors import DuxError
from common.identity.log import LogBytes
from common.identity.signed import Signed
from common.units import Did
from dux_p2pd.dht_calls import DhtCalls
from dux_p2pd.directory import Directory
from dux_p2pd.lookup import PATH_WIDTH, Lookup, lookup
from dux_p2pd.peers import PeerBook
from dux_p2pd.records import RecordBody, record_key, split_record
from dux_p2pd.routing import DuxNode, DuxTable
from dux_p2pd.scores import BLAME_BAD_RECORD
from dux_p2pd.shelf import RecordShelf

PATHS = 3
HOLDERS = 4  # that agree: then the others need not be asked
RESULTS_MAX = 256  # records in one answer to a local daemon
REMEMBERED_MAX = 1024  # names whose last answer is remembered
ABSENT_S = 5.0  # that a name has no records is remembered so long at most
LOGS_AT_ONCE = 16  # signers' logs that are asked for side by side,
LOGS_S = 10.0  # for so long in all: two silent givers of one record fit
LOG_GIVERS = 2


@dataclass(frozen=True, slots=True)
class _Seen:
    at_s: float
    bodies: list[RecordBody]


@dataclass(frozen=True, slots=True)
class _Given:
    """A record, and who gave it; nobody: it stands on the own shelf."""

    signed: Signed
    body: RecordBody
    givers: list[DuxNode]


class DhtReader:
    """Answers for local daemons."""

    def __init__(
        self,
        table: DuxTable,
        shelf: RecordShelf,
        calls: DhtCalls,
        peers: PeerBook,
        directory: Directory,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._table, self._shelf, self._calls, self._peers, self._directory = table, shelf, calls, peers, directory
        self._clock, self._log = clock, log
        self._seen: OrderedDict[tuple[str, str], _Seen] = OrderedDict()
        self._log_turns: WeakValueDictionary[Did, asyncio.Lock] = WeakValueDictionary()

    async def get(self, ns: str, name: str, *, max_age_s: float = 0.0, holders: int = HOLDERS) -> list[RecordBody]:
        """Everybody's newest record under a name; withdrawn ones are left out.

        What was found at most `max_age_s` ago is found again; that nothing was there, for a few seconds at most. With
        more `holders`, more nodes must agree before the rest is not asked.
        """
        seen = self._seen.get((ns, name))
        if seen is not None and self._clock.monotonic() - seen.at_s < (
            max_age_s if seen.bodies else min(max_age_s, ABSENT_S)
        ):
            return seen.bodies
        namespace = self._shelf.namespace(ns)
        keys = [record_key(ns, name, salt) for salt in range(1 + (namespace.salted if namespace else 0))]
        found = await asyncio.gather(*(self._get_at(key, ns, name, holders) for key in keys))
        newest = _newest(body for bodies in found for body in bodies)
        bodies = [body for body in sorted(newest, key=lambda body: (-body.seq_ms, body.did)) if body.payload]
        self._remember(ns, name, bodies[:RESULTS_MAX])
        return bodies[:RESULTS_MAX]

    def _remember(self, ns: str, name: str, bodies: list[RecordBody]) -> None:
        self._seen[ns, name] = _Seen(self._clock.monotonic(), bodies)
        self._seen.move_to_end((ns, name))
        if len(self._seen) > REMEMBERED_MAX:
            self._seen.popitem(last=False)

    def forget(self, ns: str, name: str) -> None:
        """There is something newer under this name."""
        self._seen.pop((ns, name), None)

    async def _get_at(self, key: bytes, ns: str, name: str, holders: int) -> list[RecordBody]:
        start = self._table.nearest(key)
        look = partial(lookup, key, start, self._calls.get, paths=PATHS, width=PATH_WIDTH, manners=self._calls.manners)
        outcome = await look(enough=lambda so: _agree(so, holders))
        bodies = await self._union(key, outcome, ns, name)
        if outcome.cut_short and not bodies:
            outcome = await look()
            bodies = await self._union(key, outcome, ns, name)
        return bodies

    async def _union(self, key: bytes, outcome: Lookup, ns: str, name: str) -> list[RecordBody]:
        """What verifies, each record judged once however many gave it."""
        givers: dict[bytes, list[DuxNode]] = {row.envelope: [] for row in self._shelf.at(key)}
        for data, giver in outcome.records:
            givers.setdefault(data, []).append(giver)
        read = [one for data, gave in givers.items() if (one := self._read(data, gave, ns, name)) is not None]
        await self._have_logs([one for one in read if self._lacks_key(one.body)])
        return [one.body for one in read if self._is_believed(one)]

    def _read(self, data: bytes, givers: list[DuxNode], ns: str, name: str) -> _Given | None:
        """What a record says; None when it is none, is worth nothing or stands under another name."""
        try:
            signed, body = split_record(data)
            if self._shelf.fault(body) is not None or (body.ns, body.name) != (ns, name):
                return None
            if body.ns == LOG_NS.name and self._lacks_key(body):
                self._learn_chunk(body)
        except DuxError as error:
            self._log.debug("record not believed", reason=error.message)
            return None
        return _Given(signed, body, givers)

    def _is_believed(self, given: _Given) -> bool:
        if self._shelf.is_genuine(given.signed, given.body):
            return True
        if not self._lacks_key(given.body):
            for giver in given.givers:
                self._peers.blame(giver.did, BLAME_BAD_RECORD, "gave a forged record")
        return False

    async def _have_logs(self, lacking: list[_Given]) -> None:
        """Learn the signers' logs side by side: one after the other, a name with many signers would take a minute.

        A signer whose log is not had in time is left out this time.
        """
        if not lacking:
            return
        turns = asyncio.Semaphore(LOGS_AT_ONCE)
        try:
            async with asyncio.timeout(LOGS_S), asyncio.TaskGroup() as group:
                for turn, given in enumerate(lacking):
                    group.create_task(self._have_log(turn, given, turns))
        except TimeoutError:
            self._log.info("logs not had in time", lacking=len(lacking))

    async def _have_log(self, turn: int, given: _Given, turns: asyncio.Semaphore) -> None:
        """Whoever gave a record has verified it, so it has the log; two are asked, and each giver in its turn.

        A signer found at several keys, or under several names that are read at once, is asked for by one of them.
        """
        did, first = given.body.did, turn % max(1, len(given.givers))
        alone = self._log_turns.get(did) or self._log_turns.setdefault(did, asyncio.Lock())
        async with alone:
            for giver in [*given.givers[first:], *given.givers[:first]][:LOG_GIVERS]:
                async with turns:
                    if self._lacks_key(given.body):
                        await self._calls.log_of(giver.did, did, giver.addresses)

    def _lacks_key(self, body: RecordBody) -> bool:
        """Whether the signer's log, as far as it is known, ends before the key that the record names."""
        known = self._directory.get(body.did)
        return known is None or known.log.key_of(body.key_seq) is None

    def _learn_chunk(self, body: RecordBody) -> None:
        """The first chunk is a log by itself: it proves itself like any."""
        chunk = from_canonical(body.payload, LogChunk, max_bytes=len(body.payload))
        if chunk.number == 0:
            self._directory.learn(body.did, canonical(LogBytes(events=chunk.events)), b"")

    async def log_chunks(self, did: Did) -> None:
        """Learn a DID's log from its chunks in the DHT, however many there are."""
        events: list[Signed] = []
        for number in range(LOG_CHUNKS_MAX):
            found = [body for body in await self.get(LOG_NS.name, chunk_name(did, number)) if body.did == did]
            if not found:
                break
            payload = found[0].payload
            events += from_canonical(payload, LogChunk, max_bytes=len(payload)).events
        if events:
            self._directory.learn(did, canonical(LogBytes(events=tuple(events))), b"")


def _agree(so_far: Lookup, wanted: int) -> bool:
    """Whether so many nodes gave the very same records, and nobody others: where two differ, all are asked."""
    return len(so_far.holders) >= wanted and len({records for _, records in so_far.holders}) == 1


def _newest(bodies: Iterable[RecordBody]) -> list[RecordBody]:
    """Of every signer the newest."""
    found: dict[Did, RecordBody] = {}
    for body in bodies:
        held = found.get(body.did)
        if held is None or (held.key_seq, held.seq_ms) < (body.key_seq, body.seq_ms):
            found[body.did] = body
    return list(found.values())
