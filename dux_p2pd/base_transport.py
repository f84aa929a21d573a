"""What every transport shares: one session per DID, bans, dialling once, tasks that end with the transport.

Promise: two nodes that dial each other at the same time end with one session, the one dialled by the lower DID, and
neither loses a request that was under way on the other. It does not know how bytes travel.

Source: transport_identity.md §1.3 (last sentence), network.md §2.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.errors import DuxError
from common.nets import net_of
from common.units import Did
from dux_p2pd.gate import Bans, CallBudget, Gate
from dux_p2pd.hello import Introduced, Myself
from dux_p2pd.mux import Mux
from dux_p2pd.rules import endpoint_of
from dux_p2pd.serving import Services
from dux_p2pd.session import Address, Handler, OnSession, Papers, Peer, Prompt
from dux_p2pd.wire_counts import WireCounts
from dux_p2pd.wire_errors import HelloRefused, PeerUnreachable
from dux_p2pd.wire_limits import NET_BAN_S_MAX
from dux_p2pd.wire_session import Line, WireSession

T = TypeVar("T")


class BaseTransport(ABC):
    """Sessions of one node. Enter it, call `serve`, then `connect`; leaving it ends everything it started."""

    def __init__(
        self,
        *,
        network: str,
        papers: Papers,
        clock: Clock,
        log: FilteringBoundLogger,
        features: tuple[str, ...] = (),
        budget: CallBudget | None = None,
        method_s_max: Mapping[str, float] | None = None,
    ) -> None:
        """`network` is the hex genesis hash of the coin chain; `budget` is what peers may spend on our methods."""
        self.log, self.papers, self.gate, self.count = log, papers, Gate(), WireCounts()
        self.on_breach: Callable[[Did, str], None] = lambda _did, _reason: None
        self.prompt: Callable[[str], Prompt | None] = lambda _method: None  # who answers a method at once, if anybody
        self._clock = clock
        self._did_bans = Bans()
        self.refuses: Callable[[Did], bool] = lambda _did: False  # this node's owner or the rules keep it out
        self.me = Myself(
            network=network, papers=papers, features=features, now_ms=clock.unix_ms, is_banned=self._is_banned
        )
        self._budget, self._method_s_max = budget or CallBudget(), dict(method_s_max or {})
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sessions: dict[Did, WireSession] = {}  # the newest of each
        self._up: dict[Did, WireSession] = {}  # of these, the ones on which something new may begin
        self._all: dict[WireSession, None] = {}  # in the order in which they came up
        self._of: dict[Did, dict[WireSession, None]] = {}  # the same by DID: the one kept, and those that drain
        self._is_stopping = False
        self._dialling: dict[tuple[Did, Address], asyncio.Task[WireSession | DuxError]] = {}
        self._on_session: OnSession | None = None
        self._services: Services | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._stop_listening()
        for session in list(self._all):
            session.end("this node is shutting down")
        for task in list(self._tasks):
            task.cancel()
        await self._group.__aexit__(None, None, None)  # an error of the body stays itself, not an ExceptionGroup

    # -- session.Transport

    async def serve(self, on_session: OnSession, handler: Handler) -> Address:
        """Accept connections, report sessions, answer their streams; the address listened on."""
        self._on_session = on_session
        self._services = Services(
            handler=handler,
            prompt=self.prompt,
            budget=self._budget,
            method_s_max=self._method_s_max,
            spawn=self._group.create_task,
            log=self.log,
            count=self.count,
            breached=self._breached,
        )
        return await self._listen()

    async def connect(
        self,
        address: Address,
        expected_did: Did | None = None,
        expected_transport_keys: tuple[bytes, ...] | None = None,
    ) -> WireSession:
        """A session with the node at this address; the one there is already, if it is with the same DID."""
        if self._is_stopping:
            raise PeerUnreachable(address=f"{address[0]}:{address[1]}", detail="this node is stopping")
        if expected_did is None:
            return await self._dial(address, None, expected_transport_keys)
        kept = self.session_with(expected_did)
        if kept is not None:
            return kept
        place = expected_did, address  # a node with several addresses may be tried at all of them
        task = self._dialling.get(place)
        if task is None:
            task = self._spawn(self._dial_known(address, expected_did, expected_transport_keys))
            self._dialling[place] = task
            task.add_done_callback(lambda _: self._dialling.pop(place, None))
        outcome = await asyncio.shield(task)
        if isinstance(outcome, DuxError):
            raise outcome
        return self.session_with(expected_did) or outcome  # the peer's own dial may have taken its place by now

    def session_with(self, did: Did) -> WireSession | None:
        """The one session kept with this DID, if any."""
        return self._up.get(did)

    def ban(self, did: Did, duration_s: float) -> None:
        """Refuse the DID for so long, and its network for at most ten minutes of that."""
        now = self.now()
        self._did_bans.add(did, now + duration_s)
        session = self._sessions.get(did)
        if session is not None:
            self.gate.bans.add(net_of(session.peer.address[0]), now + min(duration_s, NET_BAN_S_MAX))
            session.end("banned")

    def part_with(self, did: Did) -> None:
        """End the session with a node that is refused from now on."""
        session = self._sessions.get(did)
        if session is not None:
            session.end("refused here")

    async def drain(self, limit_s: float) -> None:
        """Take nothing new, let the requests of every session end, at the latest after so long; then all are closed."""
        self._is_stopping = True
        await self._stop_listening()
        for session in list(self._all):
            session.retire("this node is shutting down")
        ends = [session.closed for session in self._all]
        if ends:
            await asyncio.wait(ends, timeout=limit_s)

    @abstractmethod
    def use_seed(self, seed: bytes) -> None:
        """Show the transport key of this seed on connections from now on."""

    def has_way_to(self, address: Address) -> bool:  # noqa: ARG002 - a transport without routes reaches all or nothing
        """Whether this machine could send anything there at all: not when it has no address of that family."""
        return True

    @abstractmethod
    async def probe(self, address: Address, keys: tuple[bytes, ...]) -> bool:
        """Whether a node with one of these keys answers there, on a connection of its own. Never raises."""

    # -- for the doorway

    def now(self) -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time()

    def is_surplus(self, did: Did, *, dialled: bool) -> bool:
        """Whether a new connection with this DID loses against the session that is there.

        Of two that were dialled from different ends the one dialled by the lower DID stays; a second dial from the
        same end means that this end lost the first; and one that no longer answers loses against any. The one that
        stays is asked for a sign of life: a peer whose address has changed gets in at its next try.
        """
        old = self.session_with(did)
        if old is None or old.is_suspect() or old.peer.dialled == dialled:
            return False
        lower_dials_new = (self.papers.did < did) == dialled
        if not lower_dials_new:
            old.probe()
        return not lower_dials_new

    def establish(
        self, line: Line, who: Introduced, *, transport_key: bytes, address: Address, dialled: bool
    ) -> WireSession:
        """Make the session of a line whose both ends have introduced themselves, and report it."""
        if self._services is None or self._on_session is None:
            raise HelloRefused(reason="this node does not serve yet")
        peer = Peer(
            did=who.vouched.did,
            transport_key=transport_key,
            node_record=who.vouched.node_record,
            features=who.features,
            address=address,
            dialled=dialled,
            version=who.version,
            known=who.known,
            clock_skew_ms=who.clock_skew_ms,
        )
        mux = Mux(dialler=dialled, limits=who.limits, frame_bytes=who.shown.frame)
        session = WireSession(
            peer=peer, mux=mux, line=line, peer_streams=who.shown.streams, limits=who.limits, services=self._services
        )
        self.count.sessions_made += 1
        self._keep(session)
        if who.skew_is_odd:
            self.log.warning("a peer's clock differs from ours", did=peer.did, skew_ms=who.clock_skew_ms)
        try:
            self._on_session(session)
        except Exception:
            session.end("this node could not take it in")
            raise
        return session

    # -- inside

    @abstractmethod
    async def _listen(self) -> Address:
        """Begin to accept connections."""

    @abstractmethod
    async def _stop_listening(self) -> None:
        """Accept no more connections, and drop those that are not sessions yet."""

    @abstractmethod
    async def _dial(self, address: Address, did: Did | None, keys: tuple[bytes, ...] | None) -> WireSession:
        """A new connection to the address, up."""

    async def _dial_known(self, address: Address, did: Did, keys: tuple[bytes, ...] | None) -> WireSession | DuxError:
        """Dial; if the peer dialled us meanwhile and hung up on ours, take that session. Errors are returned."""
        try:
            return await self._dial(address, did, keys)
        except DuxError as error:
            return self.session_with(did) or error
        except Exception as error:
            self.log.exception("dialling broke", did=did)
            return PeerUnreachable(address=endpoint_of(address), detail=type(error).__name__)

    def _keep(self, session: WireSession) -> None:
        old = self._sessions.get(session.did)  # it may be draining already, where the other end was quicker
        of_did = self._of.setdefault(session.did, {})
        for drained in [one for one in of_did if one.is_draining and one is not old]:
            drained.end("two newer connections with the same node are there")
        self._sessions[session.did] = self._up[session.did] = session
        session.on_leaving = self._leaves
        self._all[session] = of_did[session] = None
        session.closed.add_done_callback(lambda _: self._let_go(session))
        if old is not None:
            old.retire("another connection with the same node is kept")

    def _leaves(self, session: WireSession) -> None:
        if self._up.get(session.did) is session:
            del self._up[session.did]

    def _let_go(self, session: WireSession) -> None:
        self._all.pop(session, None)
        of_did = self._of.get(session.did, {})
        of_did.pop(session, None)
        if not of_did:
            self._of.pop(session.did, None)
        if self._sessions.get(session.did) is session:
            del self._sessions[session.did]

    def _breached(self, did: Did, reason: str) -> None:
        self.count.framing_broken += 1
        self.on_breach(did, reason)

    def _is_banned(self, did: Did) -> bool:
        is_banned = self._did_bans.has(did, self.now()) or self.refuses(did)
        self.count.introductions_banned += is_banned
        return is_banned

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
