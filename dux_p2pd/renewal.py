"""What changes with time, and is told when it has changed: keys, node record, connections, event logs.

Promise: operational keys change by themselves after their period and on demand, never from a stale log: the network is
asked first what it knows of this node's name. Transport keys, node record and connections are renewed in time. News
of a log (a rotation, a recovery, an end, a proof of fault) goes to every connected node, and from each to whom it is
news; it ends where nobody learns anything by it.

Source: transport_identity.md §1.4, §2.2 and §2.4.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.peer_p2p import DID_TELL, Heard
from common.errors import DuxError
from common.identity.errors import BadEvent
from common.identity.log import decode_log, split_of
from common.identity.news import LogNews, news_of
from common.randomness import Randomness
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.dht import Dht
from dux_p2pd.directory import Directory, Known
from dux_p2pd.keeper import Keeper
from dux_p2pd.key_source import KeySource
from dux_p2pd.left_behind import LeftBehind
from dux_p2pd.peers import PeerBook
from dux_p2pd.resolver import Resolver
from dux_p2pd.session import Peer
from dux_p2pd.tasks import Tasks
from dux_p2pd.upkeep import Upkeep

TURN_S = 60.0
LOOK_AGAIN_S = 300.0  # at every connection: what has lost its ground is borne for an hour
LOOK_AT_SELF_S = 3600.0  # what the network knows of this node's own name is asked this often
TOLD_AT_ONCE = 8


class Renewal:
    """The loop, and what is done on demand."""

    def __init__(
        self,
        keeper: Keeper,
        directory: Directory,
        peers: PeerBook,
        dht: Dht,
        resolver: Resolver,
        upkeep: Upkeep,
        transport: BaseTransport,
        tasks: Tasks,
        *,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
        rotate_every_s: int,
    ) -> None:
        self._keeper = keeper
        self._directory = directory
        self._peers = peers
        self._dht = dht
        self._resolver = resolver
        self._upkeep = upkeep
        self._transport = transport
        self._tasks = tasks
        self._clock = clock
        self._random = random
        self._log = log
        self._rotate_every_ms = rotate_every_s * 1000
        self._looked_s = clock.monotonic()
        self._looked_again_s = float("-inf")
        self._retry_ms = 0
        self.left_behind: LeftBehind | None = None  # set at assembly
        directory.on_change.append(self._tell_change)
        peers.last_words = self._tell_of_itself

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(TURN_S * (0.9 + 0.2 * self._random.uniform()))
            await self.turn()

    async def turn(self) -> None:
        """Do what is due now."""
        now_ms = self._clock.unix_ms()
        self._renew_transport(now_ms)
        if self._clock.monotonic() - self._looked_again_s >= LOOK_AGAIN_S:
            self._looked_again_s = self._clock.monotonic()
            self._peers.look_again()
        if self._clock.monotonic() - self._looked_s >= LOOK_AT_SELF_S:
            await self._look_at_self()
        if self._keeper.may_sign and now_ms >= max(self._keeper.key_since_ms + self._rotate_every_ms, self._retry_ms):
            await self._rotate_when_due(now_ms)
        if not self._peers.is_alone():
            await self._upkeep.announce()
        elif self.left_behind is not None:
            await self.left_behind.turn()

    # transport keys

    def _renew_transport(self, now_ms: int) -> None:
        keys = self._keeper.transport
        before = keys.public
        keys.turn(now_ms)
        if keys.public != before:
            self._transport.use_seed(keys.seed)
            self._log.info("transport key changed")
        if keys.overlap_is_over:
            self._peers.retire_before(keys.since_ms, "this node has another transport key now")

    # operational keys

    async def _rotate_when_due(self, now_ms: int) -> None:
        """A node that is alone waits: a rotation that nobody hears could not be held against a thief."""
        self._retry_ms = now_ms + int(LOOK_AT_SELF_S * 1000)
        if not self._peers.sessions():
            return
        try:
            await self.rotate()
        except DuxError as error:
            self._log.warning("rotation put off", reason=error.message)

    async def rotate(self, *, transport: bool = False) -> None:
        """Another operational key now, and on wish another transport key.

        Raises:
            RotationTooSoon, LogFull, IdentityUnsure, NotFound: why not.
        """
        await self._look_at_self()
        before = len(self._keeper.log.events)
        self._keeper.rotate()
        self._log.info("signing key rotated", key_seq=self._keeper.key_seq)
        if transport:
            self._keeper.transport.replace(self._clock.unix_ms())
            self._transport.use_seed(self._keeper.transport.seed)
        await self._spread_own(before)

    async def adopt(self, keys: KeySource) -> None:
        """Go on with other keys after a recovery, and tell.

        Raises:
            BadSettings: they are not the keys that the log ends with.
        """
        self._keeper.adopt(keys)
        self._keeper.transport.replace(self._clock.unix_ms())
        self._transport.use_seed(self._keeper.transport.seed)
        await self._spread_own(self._keeper.key_seq)

    async def take_log(self, data: bytes, keys: KeySource) -> None:
        """A log of this node's own name, made with the recovery key: go on with `keys` where it ends with one of them.

        Raises:
            PeerMisbehaved, BadParams: it is no log of this name.
        """
        log = decode_log(data, now_ms=self._clock.unix_ms(), inception_bits=0)
        if log.did == self._keeper.did and not log.ended and keys.first_events(0) == log.envelopes:
            await self.adopt(keys)
            return
        self._directory.learn(self._keeper.did, data)
        await self._spread_own(log.tip.seq)

    async def _spread_own(self, since: int) -> None:
        news = news_of(self._keeper.log, since)
        if news is not None:
            await self._spread(news)
        if not self._peers.is_alone():
            await self._upkeep.announce()

    async def _look_at_self(self) -> None:
        self._looked_s = self._clock.monotonic()
        if self._peers.sessions():
            await self._resolver.search(self._keeper.did)

    # news

    def _tell_change(self, known: Known, held: Known | None) -> None:
        """A log that was known has changed: by whatever way that was learnt, the others are told."""
        if held is None or known.log == held.log:
            return
        if known.log.disputed != held.log.disputed or known.log.frozen != held.log.frozen:
            self._log.warning("a name's standing changed", did=known.log.did, sound=known.log.sound)
        news = self._directory.proof_of(known.log.did) if not known.log.sound else None
        news = news or news_of(known.log, split_of(known.log, held.log))
        if news is not None:
            self._tasks.spawn(self._spread(news), "tell of a log")

    async def _tell_of_itself(self, did: Did) -> None:
        """A machine that was left behind, or whose keys are used elsewhere, hears it from whoever parts with it."""
        known = self._directory.get(did)
        news = self._directory.proof_of(did) or (news_of(known.log, known.log.tip.seq) if known else None)
        if news is not None:
            await self._tell(did, news)

    async def on_tell(self, news: LogNews, peer: Peer) -> Heard:
        """DID_TELL: take it in; what was news is told on by `_tell_change`. Of a name unknown here nothing is kept."""
        if self._directory.get(news.did) is None:
            return Heard(new=False)
        try:
            return Heard(new=self._directory.hear(news))
        except BadEvent:
            self._tasks.spawn(self._catch_up(news, peer.did), "catch up with a log")
            return Heard(new=False)

    async def _catch_up(self, news: LogNews, whom: Did) -> None:
        """The sender has the events that are missing here."""
        if await self._dht.ask_log(whom, news.did) is not None:
            self._directory.hear(news)

    async def _spread(self, news: LogNews) -> None:
        slots = asyncio.Semaphore(TOLD_AT_ONCE)

        async def tell(did: Did) -> None:
            async with slots:
                await self._tell(did, news)

        async with asyncio.TaskGroup() as group:
            for session in self._peers.sessions():
                group.create_task(tell(session.peer.did))

    async def _tell(self, did: Did, news: LogNews) -> None:
        try:
            await self._peers.call(did, DID_TELL, news)
        except DuxError as error:
            self._log.debug("news not told", did=did, reason=error.message)
