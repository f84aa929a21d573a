"""Asks the network for a name's event log without being that name: under an identity made for this one question.

A node whose keys were replaced cannot introduce itself, and its owner must know the newest log before the recovery is
signed. Everything that is answered is checked and merged as p2pd does; nothing of it is kept.

Source: transport_identity.md §2.3 (restoring from a phrase).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.p2p_errors import PeerUnknown
from common.contracts.peer_p2p import CONTACTS_MAX, DHT_GET_AT, DID_LOG, NODE_NS, AskLog, FindValue
from common.errors import DuxError
from common.identity.branch import OperationalBranch, make_branch
from common.identity.log import Log
from common.identity.news import NEWS_BYTES_MAX, LogNews
from common.network import NetworkProfile
from common.randomness import Randomness
from common.store import Store
from common.units import Did
from dux_p2pd.directory import Directory
from dux_p2pd.keeper import Keeper
from dux_p2pd.key_source import BranchKeys
from dux_p2pd.peers import ANSWER_BYTES_MAX
from dux_p2pd.records import record_key
from dux_p2pd.rules import contact_at
from dux_p2pd.session import Address, Incoming, Session
from dux_p2pd.store import MIGRATIONS, NodeTable, OwnTable
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.tls_transport import TlsTransport
from dux_p2pd.transport_keys import TransportKeys

ROUNDS = 3  # the addresses given, those they name as nearest to the DID, and those these name
ASKED_MAX = 24
CALL_S = 5.0
DAY_S = 86_400


class LogFetch:
    """One question, asked of many."""

    def __init__(self, network: NetworkProfile, *, clock: Clock, random: Randomness, log: FilteringBoundLogger) -> None:
        self._network = network
        self._clock = clock
        self._random = random
        self._log = log

    async def fetch(self, did: Did, addresses: Sequence[Address]) -> Log:
        """The union of what all nodes reached know of the DID.

        Raises:
            PeerUnknown: nobody reached knows it.
        """
        now_ms, bits = self._clock.unix_ms(), self._network.inception_bits
        made = partial(make_branch, net=1, account=0, made_ms=now_ms, inception_bits=bits)
        branch = await asyncio.to_thread(made, self._random.bytes(64))  # on main its work takes seconds
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="duxnet-")))
            store = Store.open(None, MIGRATIONS, self._clock)
            stack.callback(store.close)
            keeper, directory = self._papers(folder, store, branch)
            transport = await stack.enter_async_context(self._transport(keeper, directory))
            await transport.serve(lambda _session: None, _answer_nothing)
            await self._walk(transport, directory, did, addresses)
            known = directory.get(did)
        if known is None:
            raise PeerUnknown(did=did)
        return known.log

    def _papers(self, folder: Path, store: Store, branch: OperationalBranch) -> tuple[Keeper, Directory]:
        now_ms, bits = self._clock.unix_ms(), self._network.inception_bits
        keys = TransportKeys(folder, self._random, now_ms=now_ms, period_s=7 * DAY_S)
        keeper = Keeper(BranchKeys(branch), keys, OwnTable(store), clock=self._clock, inception_bits=bits)
        directory = Directory(
            NodeTable(store),
            keeper,
            clock=self._clock,
            inception_bits=bits,
            known_after_s=0,
            keep_max=ASKED_MAX * CONTACTS_MAX,
            trusted=frozenset(),
        )
        return keeper, directory

    def _transport(self, keeper: Keeper, directory: Directory) -> TlsTransport:
        return TlsTransport(
            contexts=contexts_of_seed(keeper.transport.seed, self._network.alpn),
            listen=("127.0.0.1", 0),
            network=self._network.genesis,
            papers=directory,
            clock=self._clock,
            log=self._log,
        )

    async def _walk(
        self, transport: TlsTransport, directory: Directory, did: Did, addresses: Sequence[Address]
    ) -> None:
        asked: set[Address] = set()
        following = list(addresses)
        for _ in range(ROUNDS):
            now = [one for one in dict.fromkeys(following) if one not in asked][: ASKED_MAX - len(asked)]
            asked.update(now)
            found = await asyncio.gather(*(self._ask(transport, directory, did, address) for address in now))
            following = [address for nearer in found for address in nearer]

    async def _ask(self, transport: TlsTransport, directory: Directory, did: Did, address: Address) -> list[Address]:
        """What one node knows, taken into the directory; and the nodes that it holds to be nearer."""
        try:
            session = await transport.connect(address)
            data = await session.request(DID_LOG.name, canonical(AskLog(did=did)), deadline_s=CALL_S)
            answer = from_canonical(data, DID_LOG.result, max_bytes=ANSWER_BYTES_MAX)
            if answer.log:
                directory.learn(did, answer.log, answer.node_record)
            if answer.proof:
                directory.hear(from_canonical(answer.proof, LogNews, max_bytes=NEWS_BYTES_MAX))
            place = canonical(FindValue(key=record_key(NODE_NS.name, did)))
            data = await session.request(DHT_GET_AT.name, place, deadline_s=CALL_S)
            contacts = from_canonical(data, DHT_GET_AT.result, max_bytes=ANSWER_BYTES_MAX).contacts
        except DuxError as error:
            self._log.info("no log from there", address=address[0], reason=error.message)
            return []
        texts = [text for one in contacts for text in one.endpoints]
        return [found for text in texts if (found := contact_at(text)) is not None]


async def _answer_nothing(_session: Session, incoming: Incoming) -> bytes | None:
    incoming.stream.reset()
    return None
