"""The DHT: signed records at places, found and kept together with the other nodes.

A value is a set of records, at most one per signer and name. Putting offers a record to the k nodes nearest to its
place, with the signer's event log; getting asks them all and takes the union of what verifies. Own records are
offered again every hour, others' too when nobody else did, and to a node that newly came near.

Source: network.md §4, transport_identity.md §3.1 and §3.2, settled.md 16.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import from_canonical
from common.contracts.peer_p2p import (
    CONTACTS_MAX,
    DHT_FIND,
    DHT_GET_AT,
    DHT_STORE,
    DID_LOG,
    NODE_NS,
    RECORDS_BYTES_MAX,
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
from common.errors import DuxError
from common.identity.errors import BadSignature
from common.identity.log import encode_log
from common.identity.news import NEWS_BYTES_MAX, LogNews
from common.units import Did
from dux_p2pd.directory import Directory, Known
from dux_p2pd.lookup import Found, Lookup, lookup
from dux_p2pd.peers import PeerBook
from dux_p2pd.records import RecordBody, record_key, split_record
from dux_p2pd.routing import DuxNode, DuxTable, K
from dux_p2pd.rules import contact_at
from dux_p2pd.scores import BLAME_BAD_RECORD
from dux_p2pd.session import Address, Peer, Session
from dux_p2pd.shelf import RecordShelf
from dux_p2pd.store import RecordRow
from dux_p2pd.tasks import Tasks

STORES_AT_ONCE = 8
HAND_OVER_MAX = 256  # records offered to one new neighbour
RESULTS_MAX = 256  # records in one answer to a local daemon


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
        self._peers = peers
        self._directory = directory
        self._tasks = tasks
        self._clock = clock
        self._log = log
        peers.on_up.append(self._met)
        peers.on_down.append(self._lost)

    # the table

    def _met(self, session: Session) -> None:
        """A proved node whose record names the address we see it at may stand in the table."""
        node = self._node_of(session)
        if node is None or not self.table.is_new_node(node):
            return
        self.table.add_contact(node)
        if not self.table.is_new_node(node):
            self._tasks.spawn(self._hand_over(node), "hand over")

    def _node_of(self, session: Session) -> DuxNode | None:
        known, host = self._directory.get(session.peer.did), session.peer.address[0]
        for text in known.record.endpoints if known and known.record else ():
            address = contact_at(text)
            if address is not None and (address[0] == host or session.peer.dialled):
                return DuxNode(session.peer.did, *address)
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
        return await self._ask_find(node, node.id) is not None

    # asking others

    async def _ask_find(self, node: DuxNode, key: bytes) -> Found | None:
        try:
            answer = await self._peers.call(node.did, DHT_FIND, FindNode(key=key), hint=node.address)
        except DuxError as error:
            self._log.debug("dht call failed", did=node.did, reason=error.message)
            self._drop_if_resting(node)
            return None
        return Found(nodes=self._nodes(answer.contacts))

    async def _ask_get(self, node: DuxNode, key: bytes) -> Found | None:
        try:
            answer = await self._peers.call(node.did, DHT_GET_AT, FindValue(key=key), hint=node.address)
        except DuxError as error:
            self._log.debug("dht call failed", did=node.did, reason=error.message)
            self._drop_if_resting(node)
            return None
        return Found(records=answer.records, nodes=self._nodes(answer.contacts))

    def _drop_if_resting(self, node: DuxNode) -> None:
        if self._peers.is_resting(node.did, node.address):
            self.table.remove_contact(node)

    def _nodes(self, contacts: tuple[Contact, ...]) -> tuple[DuxNode, ...]:
        """The nodes named in an answer, as far as they can be nodes at all."""
        found = []
        for contact in contacts[:CONTACTS_MAX]:
            address = contact_at(f"{contact.host}:{contact.port}")
            if contact.did != self._directory.did and address is not None:
                try:
                    found.append(DuxNode(contact.did, *address))
                except DuxError:
                    continue
        return tuple(found)

    async def find(self, key: bytes, *, paths: int = 1) -> Lookup:
        """The nodes nearest to a place that answer now."""
        return await lookup(key, self.table.nearest(key), self._ask_find, paths=paths)

    async def get(self, ns: str, name: str) -> list[RecordBody]:
        """Everybody's newest record under a name; withdrawn ones are left out."""
        key = record_key(ns, name)
        outcome = await lookup(key, self.table.nearest(key), self._ask_get)
        newest: dict[Did, RecordBody] = {}
        for data, giver in [*((row.envelope, None) for row in self.shelf.at(key)), *outcome.records]:
            body = await self._believed(data, giver)
            if body is not None and (body.ns, body.name) == (ns, name):
                held = newest.get(body.did)
                if held is None or (held.key_seq, held.seq_ms) < (body.key_seq, body.seq_ms):
                    newest[body.did] = body
        found = sorted(newest.values(), key=lambda body: -body.seq_ms)
        return [body for body in found if body.payload][:RESULTS_MAX]

    async def _believed(self, data: bytes, giver: DuxNode | None) -> RecordBody | None:
        try:
            signed, body = split_record(data)
            if self.shelf.fault(body) is not None:
                return None
            if giver is not None and self._lacks_key(body):
                await self.ask_log(giver.did, body.did, giver.address)
        except DuxError as error:
            self._log.debug("record not believed", reason=error.message)
            return None
        if self.shelf.is_genuine(signed, body):
            return body
        if giver is not None and not self._lacks_key(body):
            self._peers.blame(giver.did, BLAME_BAD_RECORD, "gave a forged record")
        return None

    def _lacks_key(self, body: RecordBody) -> bool:
        """Whether the signer's log, as far as it is known, ends before the key that the record names."""
        known = self._directory.get(body.did)
        return known is None or known.log.key_of(body.key_seq) is None

    async def ask_log(self, whom: Did, did: Did, hint: Address | None = None) -> Known | None:
        """What a node knows of a DID, taken into the directory; None when it knows nothing or lies."""
        try:
            answer = await self._peers.call(whom, DID_LOG, AskLog(did=did), hint=hint)
            if not answer.log:
                return None
            known = self._directory.learn(did, answer.log, answer.node_record)
            if answer.proof:
                self._directory.hear(from_canonical(answer.proof, LogNews, max_bytes=NEWS_BYTES_MAX))
            return self._directory.get(did) or known
        except DuxError as error:
            self._log.debug("log not had", did=did, at=whom, reason=error.message)
            return None

    # putting

    async def put(self, data: bytes, body: RecordBody) -> int:
        """Offer a record to the k nearest nodes; how many keep it."""
        outcome = await self.find(record_key(body.ns, body.name))
        return await self._offer(data, body.did, outcome.nodes)

    async def _offer(self, data: bytes, signer: Did, nodes: list[DuxNode]) -> int:
        known = self._directory.get(signer)
        if known is None:
            return 0
        params, slots = Store(record=data, log=encode_log(known.log)), asyncio.Semaphore(STORES_AT_ONCE)
        kept: list[bool] = []

        async def one(node: DuxNode) -> None:
            async with slots:
                kept.append(await self._store_at(node, params))

        async with asyncio.TaskGroup() as group:
            for node in nodes[:K]:
                group.create_task(one(node))
        return sum(kept)

    async def _store_at(self, node: DuxNode, params: Store) -> bool:
        try:
            return (await self._peers.call(node.did, DHT_STORE, params, hint=node.address)).kept
        except DuxError as error:
            self._log.debug("store failed", did=node.did, reason=error.message)
            return False

    async def offer_again(self, rows: list[RecordRow]) -> None:
        """Offer records that were not offered for long to whoever is nearest now."""
        for row in rows:
            outcome = await self.find(row.key)
            await self._offer(row.envelope, row.did, outcome.nodes)
        self.shelf.table.offered(rows, self._clock.unix_ms())

    async def _hand_over(self, node: DuxNode) -> None:
        """Give a new neighbour the records that it is near to."""
        for row in self.shelf.table.all(self._clock.unix_ms(), HAND_OVER_MAX):
            near = self.table.nearest(row.key, K)
            if any(one.id == node.id for one in near):
                await self._offer(row.envelope, row.did, [node])

    # answering others

    async def on_find(self, params: FindNode, peer: Peer) -> Contacts:
        """DHT_FIND."""
        return Contacts(contacts=self._contacts(params.key, peer.did))

    async def on_get_at(self, params: FindValue, peer: Peer) -> Values:
        """DHT_GET_AT."""
        records: list[bytes] = []
        room = RECORDS_BYTES_MAX
        for row in self.shelf.at(params.key):
            if len(row.envelope) > room:
                break
            room -= len(row.envelope)
            records.append(row.envelope)
        return Values(records=tuple(records), contacts=self._contacts(params.key, peer.did))

    def _contacts(self, key: bytes, asker: Did) -> tuple[Contact, ...]:
        near = [node for node in self.table.nearest(key) if node.did != asker]
        return tuple(Contact(did=node.did, host=node.ip, port=node.port) for node in near[:CONTACTS_MAX])

    async def on_store(self, params: Store, peer: Peer) -> Stored:
        """DHT_STORE."""
        _, body = split_record(params.record)
        near = self.table.nearer_than_us(record_key(body.ns, body.name))
        wanted = self.shelf.refusal(body, near, 2 * K) is None
        if wanted and body.did != self._directory.did:
            self._directory.learn(body.did, params.log)
        try:
            refused = self.shelf.offer(params.record, nearer_nodes=near, near_max=2 * K)
        except BadSignature:
            self._peers.blame(peer.did, BLAME_BAD_RECORD, "offered a forged record")
            raise
        if refused is None and body.ns == NODE_NS.name and body.payload:
            self._directory.learn(body.did, params.log, body.payload)
        return Stored(kept=refused is None, reason=refused or "")

    async def on_log(self, params: AskLog, _peer: Peer) -> LogAnswer:
        """DID_LOG."""
        known = self._directory.get(params.did)
        if known is None:
            return LogAnswer(log=b"", node_record=b"", proof=b"")
        return LogAnswer(log=encode_log(known.log), node_record=known.record_bytes, proof=known.proof)
