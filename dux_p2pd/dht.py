"""The DHT: signed records at places, found and kept together with the other nodes.

A value is a set of records, at most one per signer and name. Putting offers a record to the k nodes nearest to its
keys, with the signer's event log (`dht_offers.py`); getting takes the union of what verifies (`dht_reader.py`). Here
stand who is in the routing table, and what others are answered.

Source: network.md §4, transport_identity.md §3.1 and §3.2, settled.md 16.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import lru_cache
from typing import Literal

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.p2p_errors import RateLimited
from common.contracts.peer_p2p import (
    CONTACT_ENDPOINTS_MAX,
    CONTACTS_MAX,
    NODE_NS,
    RECORDS_BYTES_MAX,
    RECORDS_MAX,
    AskLog,
    Contact,
    Contacts,
    FindNode,
    FindValue,
    LogAnswer,
    Store,
    Stored,
    Values,
)
from common.identity.errors import BadSignature
from common.identity.log import encode_log
from common.units import Did
from dux_p2pd.abuse import Abuse
from dux_p2pd.circuits import is_relayed
from dux_p2pd.dht_calls import NAMED_MAX, DhtCalls
from dux_p2pd.dht_offers import Offers, Parcel
from dux_p2pd.dht_reader import HOLDERS, DhtReader
from dux_p2pd.directory import Directory, Known
from dux_p2pd.lookup import Lookup, lookup, one_per_net
from dux_p2pd.meters import TokenBucket
from dux_p2pd.peers import PeerBook
from dux_p2pd.record_table import RecordRow
from dux_p2pd.records import Offered, RecordBody, record_key
from dux_p2pd.routing import DuxNode, DuxTable, K
from dux_p2pd.rules import HONEST_REFUSALS, contact_at, endpoint_of
from dux_p2pd.scores import BLAME_BAD_RECORD
from dux_p2pd.session import Address, Peer, Session
from dux_p2pd.shelf import RecordShelf
from dux_p2pd.tasks import Tasks

ANSWER_BURST_BYTES, ANSWER_BYTES_PER_S = 2 << 20, 256 << 10  # that one peer may draw; strangers a tenth
STRANGER_PART = 10
AROUND_ASKED = 4  # nearest nodes that are asked now and then who else is around
ASKERS_MAX = 4096  # remembered, the oldest go first
Family = Literal["IPv4", "IPv6", ""]  # none where it cannot be told


@lru_cache(NAMED_MAX)
def contact_of(did: Did, address: Address, own: tuple[str, ...], family: Family) -> Contact:
    """A node by where we met it and the addresses of its own record; the family that the asker uses with us first.

    Who asks over IPv4 may have no IPv6; who has both may meet it by the one where the other fails. Remembered, because
    the same nodes are named to one asker after the other.
    """
    texts = [endpoint_of(address), *(text for text in own if contact_at(text) is not None)]
    if len(texts) > 1 and family:
        texts.sort(key=lambda text: text.startswith("[") != (family == "IPv6"))
    return Contact(did=did, endpoints=tuple(dict.fromkeys(texts))[:CONTACT_ENDPOINTS_MAX])


class Dht:
    """This node's part of the DHT."""

    def __init__(
        self,
        table: DuxTable,
        shelf: RecordShelf,
        peers: PeerBook,
        directory: Directory,
        tasks: Tasks,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self.table = table
        self.shelf = shelf
        self.calls = DhtCalls(table, peers, directory, clock=clock, log=log)
        self.offers = Offers(table, shelf, self.calls, directory, tasks, clock=clock, log=log)
        self.reader = DhtReader(table, shelf, self.calls, peers, directory, clock=clock, log=log)
        self._peers = peers
        self._directory = directory
        self._tasks = tasks
        self._clock = clock
        self._drawn: OrderedDict[Did, TokenBucket] = OrderedDict()
        peers.on_up.append(self._met)
        peers.on_lost.append(self._lost)

    # the table

    def _met(self, session: Session) -> None:
        """A proved node whose record names the address we see it at may stand in the table."""
        node = self._node_of(session)
        if node is None or not self.table.is_new_node(node):
            return
        self.table.add_contact(node)
        if not self.table.is_new_node(node):
            self.offers.met(node)

    def _node_of(self, session: Session) -> DuxNode | None:
        if is_relayed(session.peer.address):
            return None
        known, host = self._directory.get(session.peer.did), session.peer.address[0]
        for text in known.record.endpoints if known and known.record else ():
            address = contact_at(text)
            if known is not None and address is not None and (address[0] == host or session.peer.dialled):
                return DuxNode(session.peer.did, *address, first_ms=known.first_ms)
        return None

    def _lost(self, did: Did) -> None:
        """A node that no longer answers leaves the table when it also cannot be dialled."""
        self._tasks.spawn(self._look_after(did), "look after lost node")

    async def _look_after(self, did: Did) -> None:
        node = next((one for one in self.table.contacts() if one.did == did), None)
        if node is None or not self._peers.has_room() or await self.ping(node):
            return
        if not self._peers.is_connected(did):  # it may have come back meanwhile, from another address
            self.table.remove_contact(node)

    async def ping(self, node: DuxNode) -> bool:
        """Whether the node answers a call."""
        return await self.calls.find(node, node.id) is not None

    # for this node's own daemons

    async def find(self, key: bytes, *, paths: int = 1, width: int = K) -> Lookup:
        """The nodes nearest to a place that answer now."""
        start, manners = self.table.nearest(key), self.calls.manners
        return await lookup(key, start, self.calls.find, paths=paths, width=width, manners=manners)

    async def look_around(self) -> None:
        """Have the nearest say whom they know around this node, and meet those of the k nearest that are new to it."""
        key = self.table.node.id
        near = [node for node in self.table.nearest(key) if not self.calls.is_last(node)]
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self.calls.find(node, key)) for node in near[:AROUND_ASKED]]
        answers = [found for task in asked if (found := task.result()) is not None]
        named = {node.id: node for node in [*near, *(node for found in answers for node in found.nodes)]}
        new = [
            one for one in one_per_net(sorted(named.values(), key=self.table.node.distance_to))[:K] if self._is_new(one)
        ]
        async with asyncio.TaskGroup() as group:
            for node in new:
                group.create_task(self.ping(node))

    def _is_new(self, node: DuxNode) -> bool:
        """Whether it may come into the table; who stands there without a connection is left in peace."""
        return self.table.is_new_node(node) and not (self._peers.is_connected(node.did) or self.calls.is_last(node))

    async def get(self, ns: str, name: str, *, max_age_s: float = 0.0, holders: int = HOLDERS) -> list[RecordBody]:
        """Everybody's newest record under a name; withdrawn ones are left out."""
        return await self.reader.get(ns, name, max_age_s=max_age_s, holders=max(1, min(holders, K)))

    async def ask_log(self, whom: Did, did: Did, hints: tuple[Address, ...] = ()) -> Known | None:
        """What a node knows of a DID, taken into the directory; None when it knows nothing or lies."""
        return await self.calls.log_of(whom, did, hints)

    async def put(self, data: bytes, body: RecordBody, stamp: int = 0) -> int:
        """Keep a record of this node, and offer it at each of its keys; how many others keep it at the plain one."""
        namespace = self.shelf.namespace(body.ns)
        salts = range(1 + (namespace.salted if namespace else 0))
        for salt in salts:
            self.shelf.keep_own(body, data, stamp, salt)
        self.reader.forget(body.ns, body.name)
        kept = [
            await self.offers.put(Parcel(data, body.did, record_key(body.ns, body.name, salt), salt, stamp))
            for salt in salts
        ]
        return kept[0]

    async def offer_again(self, rows: list[RecordRow], *, period_ms: int) -> None:
        """Offer records that were not offered for long to whoever is nearest now."""
        await self.offers.again(rows, period_ms=period_ms)

    # answering others

    def on_find(self, params: FindNode, peer: Peer) -> Contacts:
        """DHT_FIND."""
        return Contacts(contacts=self._contacts(params.key, peer))

    def on_get_at(self, params: FindValue, peer: Peer) -> Values:
        """DHT_GET_AT.

        Raises:
            RateLimited: this peer has drawn too much lately.
        """
        records: list[bytes] = []
        room = RECORDS_BYTES_MAX
        for row in self.shelf.at(params.key)[:RECORDS_MAX]:
            if len(row.envelope) <= room:
                room -= len(row.envelope)
                records.append(row.envelope)
        if not self._may_draw(peer, RECORDS_BYTES_MAX - room):
            self._peers.abuse.add(Abuse.READ_REFUSED)
            raise RateLimited(who=peer.did, what="DHT records", wait_s=1.0)
        return Values(records=tuple(records), contacts=self._contacts(params.key, peer))

    def _may_draw(self, peer: Peer, size_bytes: int) -> bool:
        """Whether this peer may be given so many bytes of records now; they are charged to it."""
        now_s, part = self._clock.monotonic(), 1 if self._directory.is_known(peer.did) else STRANGER_PART
        bucket = self._drawn.pop(peer.did, None)
        if bucket is None:
            bucket = TokenBucket(ANSWER_BURST_BYTES / part, ANSWER_BYTES_PER_S / part, now_s)
        self._drawn[peer.did] = bucket
        if len(self._drawn) > ASKERS_MAX:
            self._drawn.popitem(last=False)
        return bucket.take(size_bytes, now_s)

    def _contacts(self, key: bytes, asker: Peer) -> tuple[Contact, ...]:
        """The nearest that are not silent: who asks is not sent to the dead."""
        is_last, find = self.calls.is_last, self._directory.get
        near = [node for node in self.table.nearest(key, K + 1) if node.did != asker.did and not is_last(node)]
        family: Family = "" if is_relayed(asker.address) else "IPv6" if ":" in asker.address[0] else "IPv4"
        named = []
        for node in near[:CONTACTS_MAX]:
            known = find(node.did)
            own = known.record.endpoints if known and known.record else ()
            named.append(contact_of(node.did, node.addresses[0], own, family))
        return tuple(named)

    def on_store(self, params: Store, peer: Peer) -> Stored:
        """DHT_STORE.

        Raises:
            BadSignature: forged; the peer is blamed. BadParams: not canonical.
        """
        offered = Offered.of(params.record, params.salt, params.stamp)
        if self.shelf.holds(offered):
            return Stored(kept=True, reason="")
        body = offered.body
        near = self.table.nearer_than_us(offered.key)
        wanted = self.shelf.refusal(offered, near, 2 * K) is None
        if wanted and body.did != self._directory.did:
            self._directory.learn(body.did, params.log)
        try:
            refused = self.shelf.offer(offered, nearer_nodes=near, near_max=2 * K)
        except BadSignature:
            self._peers.blame(peer.did, BLAME_BAD_RECORD, "offered a forged record")
            raise
        if refused is None:
            self._took(body, params.log)
        elif refused not in HONEST_REFUSALS:
            self._peers.abuse.add(Abuse.RECORD_REFUSED)
        return Stored(kept=refused is None, reason=refused or "")

    def _took(self, body: RecordBody, log: bytes) -> None:
        self.reader.forget(body.ns, body.name)
        if body.ns == NODE_NS.name and body.payload:
            self._directory.learn(body.did, log, body.payload)

    def on_log(self, params: AskLog, _peer: Peer) -> LogAnswer:
        """DID_LOG."""
        known = self._directory.get(params.did)
        if known is None:
            return LogAnswer(log=b"", node_record=b"", proof=b"")
        return LogAnswer(log=encode_log(known.log), node_record=known.record_bytes, proof=known.proof)
