"""What this node asks single other nodes of the DHT, and what it makes of their answers.

Promise: an answer is bounded, names only what can be a node, and counts for the time its sender takes; who does not
answer is None, never an error. Source: network.md §4, transport_identity.md §3.1.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from functools import lru_cache

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import from_canonical
from common.contracts.peer_p2p import (
    CONTACTS_MAX,
    DHT_FIND,
    DHT_GET_AT,
    DHT_STORE,
    DID_LOG,
    RECORDS_BYTES_MAX,
    AskLog,
    Contact,
    FindNode,
    FindValue,
    Store,
)
from common.errors import DuxError
from common.identity.news import NEWS_BYTES_MAX, LogNews
from common.units import Did
from dux_p2pd.directory import Directory, Known
from dux_p2pd.lookup import Found, Manners
from dux_p2pd.peers import PeerBook
from dux_p2pd.routing import DuxNode, DuxTable
from dux_p2pd.rules import contact_at
from dux_p2pd.session import Address

KEEPERS_COUNTED_MAX = 128  # the latest
NAMED_MAX = 16_384  # nodes named by others, remembered


class DhtCalls:
    """The calls."""

    def __init__(
        self, table: DuxTable, peers: PeerBook, directory: Directory, *, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._table, self._peers, self._directory, self._log = table, peers, directory, log
        self.kept: OrderedDict[Did, int] = OrderedDict()  # records kept for this node, by keeper
        self._asked: dict[tuple[Did, Did], asyncio.Future[Known | None]] = {}  # logs: who is asked now, for whose
        self.manners = Manners(soft_s=self._soft_s, is_last=self.is_last, clock=clock)
        self.put_manners = replace(self.manners, is_at_hand=peers.is_connected)

    def _soft_s(self, node: DuxNode) -> float:
        return self._peers.patience.soft_s(node.did)

    def is_last(self, node: DuxNode) -> bool:
        """Whether this node did not answer a moment ago, so that others are asked first."""
        return self._peers.patience.is_silent(node.did) or self._peers.is_resting(node.did, node.addresses)

    async def find(self, node: DuxNode, key: bytes) -> Found | None:
        """The nodes that it knows nearest to a place."""
        try:
            answer = await self._peers.call(node.did, DHT_FIND, FindNode(key=key), hints=node.addresses)
        except DuxError as error:
            self._failed(node, error)
            return None
        return Found(nodes=self._nodes(answer.contacts))

    async def get(self, node: DuxNode, key: bytes) -> Found | None:
        """What it holds at a place, and the nodes that it knows nearest."""
        try:
            answer = await self._peers.call(node.did, DHT_GET_AT, FindValue(key=key), hints=node.addresses)
        except DuxError as error:
            self._failed(node, error)
            return None
        if sum(len(record) for record in answer.records) > RECORDS_BYTES_MAX:
            return None
        return Found(records=answer.records, nodes=self._nodes(answer.contacts))

    async def store(self, node: DuxNode, params: Store) -> bool:
        """Whether it keeps a record now, or kept this very one already."""
        try:
            kept = (await self._peers.call(node.did, DHT_STORE, params, hints=node.addresses)).kept
        except DuxError as error:
            self._failed(node, error)
            return False
        if kept:
            self._count(node.did)
        return kept

    def _count(self, keeper: Did) -> None:
        self.kept[keeper] = self.kept.pop(keeper, 0) + 1
        if len(self.kept) > KEEPERS_COUNTED_MAX:
            self.kept.popitem(last=False)

    async def log_of(self, whom: Did, did: Did, hints: tuple[Address, ...] = ()) -> Known | None:
        """What a node knows of a DID, taken into the directory; None when it knows nothing or lies.

        Who asks the same node for the same log meanwhile has part in the one question.
        """
        question = whom, did
        while (running := self._asked.get(question)) is not None:
            await asyncio.wait([running])
            if not running.cancelled():
                return running.result()
        future = self._asked[question] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(known := await self._ask_log(whom, did, hints))
        finally:
            del self._asked[question]
            future.cancel()  # of one whose asker was told to stop: another asks for itself
        return known

    async def _ask_log(self, whom: Did, did: Did, hints: tuple[Address, ...]) -> Known | None:
        try:
            answer = await self._peers.call(whom, DID_LOG, AskLog(did=did), hints=hints)
            if not answer.log:
                return None
            known = self._directory.learn(did, answer.log, answer.node_record)
            if answer.proof:
                self._directory.hear(from_canonical(answer.proof, LogNews, max_bytes=NEWS_BYTES_MAX))
            return self._directory.get(did) or known
        except DuxError as error:
            self._log.debug("log not had", did=did, at=whom, reason=error.message)
            return None

    def _failed(self, node: DuxNode, error: DuxError) -> None:
        self._log.debug("dht call failed", did=node.did, reason=error.message)
        if self._peers.is_resting(node.did, node.addresses):
            self._table.remove_contact(node)

    def _nodes(self, contacts: tuple[Contact, ...]) -> tuple[DuxNode, ...]:
        """The nodes named in an answer, as far as they can be nodes at all."""
        named, own = [self._node(one) for one in contacts[:CONTACTS_MAX]], self._directory.did
        return tuple([node for node in named if node is not None and node.did != own])

    def _node(self, contact: Contact) -> DuxNode | None:
        """By the addresses that this machine has a way to, where there are several."""
        node = node_named(contact.did, contact.endpoints)
        if node is None or len(node.addresses) == 1:
            return node
        return node_at(node.did, self._peers.with_way(node.addresses))


@lru_cache(NAMED_MAX)
def node_named(did: Did, endpoints: tuple[str, ...]) -> DuxNode | None:
    """A node as others name it, where it can be one; answers name the same ones again and again."""
    addresses = dict.fromkeys(address for text in endpoints if (address := contact_at(text)) is not None)
    try:
        return node_at(did, tuple(addresses)) if addresses else None
    except DuxError:
        return None


@lru_cache(NAMED_MAX)
def node_at(did: Did, addresses: tuple[Address, ...]) -> DuxNode:
    """A node at these addresses, the first of which counts as its place."""
    return DuxNode(did, *addresses[0], also=addresses[1:])
