"""Whether others can reach this node: asks them to dial it, and dials others back that ask.

Promise, of the answering side: only the address that the asking connection itself comes from is dialled, at a port that
is named and not privileged; "reached" means that the asker's own transport key answered there, so a scan of somebody
else's ports tells nothing; each asker, each network and all together are limited. One small request causes one
connection of the same size, towards whoever asked.

Source: network.md §3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.p2p_errors import RelayRefused
from common.contracts.peer_reach import REACH_CHECK, ReachAnswer, ReachAsk
from common.errors import DuxError
from common.nets import net_of
from common.randomness import Randomness
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.circuits import is_relayed
from dux_p2pd.directory import Directory
from dux_p2pd.endpoints import Endpoints
from dux_p2pd.meters import TokenBucket
from dux_p2pd.peers import PeerBook
from dux_p2pd.rules import endpoint_of
from dux_p2pd.session import Peer, Session

CHECK_EVERY_S = 300.0
UNSURE_EVERY_S = 10.0  # while nobody has said anything
ASKED_AT_ONCE = 3  # of different networks
DIALS_AT_ONCE = 4
PER_NET_BURST, PER_NET_PER_S = 4, 4 / 60
ALL_BURST, ALL_PER_S = 20, 1.0
NETS_MAX = 1024
CHECK_S = 8.0  # the other end takes 5 s to see that nobody is there


class DialBack:
    """The answering side."""

    def __init__(self, transport: BaseTransport, directory: Directory, *, clock: Clock) -> None:
        self._transport = transport
        self._directory = directory
        self._clock = clock
        self._slots = asyncio.Semaphore(DIALS_AT_ONCE)
        self._all = TokenBucket(ALL_BURST, ALL_PER_S, clock.monotonic())
        self._nets: dict[str, TokenBucket] = {}
        self.refused = 0

    async def on_check(self, params: ReachAsk, peer: Peer) -> ReachAnswer:
        """REACH_CHECK.

        Raises:
            RelayRefused: too many, or the asker has no address of its own here.
        """
        if is_relayed(peer.address) or not self._may(net_of(peer.address[0])):
            self.refused += 1
            raise RelayRefused(reason="it dials nobody back now; ask in a minute, over a connection of your own")
        known = self._directory.get(peer.did)
        keys = known.record.transport_keys if known is not None and known.record is not None else (peer.transport_key,)
        async with self._slots:
            reached = await self._transport.probe((peer.address[0], params.port), keys)
        return ReachAnswer(host=peer.address[0].split("%", 1)[0], reached=reached)

    def _may(self, net: str) -> bool:
        now = self._clock.monotonic()
        if net not in self._nets and len(self._nets) >= NETS_MAX:
            self._nets = {one: bucket for one, bucket in self._nets.items() if not bucket.is_full(now)}
        if self._slots.locked() or len(self._nets) >= NETS_MAX:
            return False
        bucket = self._nets.setdefault(net, TokenBucket(PER_NET_BURST, PER_NET_PER_S, now))
        return bucket.take(1, now) and self._all.take(1, now)


class Reach:
    """The asking side."""

    def __init__(
        self,
        endpoints: Endpoints,
        peers: PeerBook,
        *,
        port: int,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
    ) -> None:
        self.endpoints = endpoints
        self.on_news: list[Callable[[], None]] = []
        self._peers = peers
        self._port = port
        self._clock = clock
        self._random = random
        self._log = log
        self._wake = asyncio.Event()
        peers.on_up.append(lambda _: self._wake.set() if endpoints.how() == "unknown" else None)

    def look(self) -> None:
        """Something about our addresses has changed."""
        self._wake.set()

    async def run(self) -> None:
        """Ask again and again, for ever."""
        while True:
            self._wake.clear()
            await self._ask_some()
            sure = self.endpoints.how() != "unknown"
            try:
                async with asyncio.timeout(CHECK_EVERY_S if sure else UNSURE_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(1.0)  # several peers that come at once are one reason

    async def _ask_some(self) -> None:
        """Peers of different networks; those that we dialled first: they saw us come, wherever we are."""
        by_net: dict[tuple[str, bool], Session] = {}
        sessions = [session for session in self._peers.sessions() if not is_relayed(session.peer.address)]
        for session in self._random.sample(sessions, len(sessions)):
            host = session.peer.address[0]
            by_net.setdefault((net_of(host), ":" in host), session)
        asked = sorted(by_net.values(), key=lambda session: not session.peer.dialled)[:ASKED_AT_ONCE]
        before = self.endpoints.how()
        async with asyncio.TaskGroup() as group:
            for session in asked:
                for port in self.endpoints.ports(self._port):
                    group.create_task(self._ask(session, port))
        if self.endpoints.how() != before:
            self._log.info("reachability", before=before, now=self.endpoints.how(), told=self.endpoints.told())
        for told in self.on_news:
            told()

    async def _ask(self, session: Session, port: int) -> None:
        did = session.peer.did
        try:
            answer = await self._peers.call(did, REACH_CHECK, ReachAsk(port=port), deadline_s=CHECK_S)
            text = endpoint_of((answer.host, port))
            host = session.peer.address[0]
            self.endpoints.judged(text, did, host, self._clock.monotonic(), reached=answer.reached)
        except (DuxError, ValueError) as error:
            self._log.debug("reachability not checked", did=did, reason=str(error))
