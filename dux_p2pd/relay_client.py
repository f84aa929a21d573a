"""Being reached through relays, and reaching others through theirs.

Promise: a node that cannot be reached itself keeps reservations at up to three public nodes and names them in its
node record; a caller that holds that record reaches it through one of them, and the two prove their DIDs to each other
end to end. A relay cannot pretend to be either; it can refuse, and then the next one is asked.

Source: network.md §3.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.p2p_errors import PeerUnreachable, RelayRefused
from common.contracts.peer_reach import RELAY_CIRCUIT, RELAY_RESERVE, RelayAsk
from common.errors import DuxError
from common.identity.node_record import RELAYS_MAX
from common.nets import net_of
from common.randomness import Randomness
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.circuits import is_relayed, relay_address
from dux_p2pd.directory import Directory
from dux_p2pd.keeper import Keeper
from dux_p2pd.peers import PeerBook
from dux_p2pd.relay_server import TO
from dux_p2pd.relayed_line import RelayedLine
from dux_p2pd.session import Incoming, Session
from dux_p2pd.tasks import Tasks
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.wire_session import WireSession

TURN_S = 30.0
CIRCUIT_S = 300.0
RETIRE_S = 240.0  # the session inside ends in order before the relay ends the circuit
ASKED_PER_TURN = 3
RELAYS_COUNTED_MAX = 256


class RelayClient:
    """This node at the ends of circuits."""

    def __init__(
        self,
        transport: BaseTransport,
        keeper: Keeper,
        peers: PeerBook,
        directory: Directory,
        tasks: Tasks,
        *,
        alpn: str,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
        is_wanted: Callable[[], bool],
    ) -> None:
        """`is_wanted`: whether this node needs to be reached through others now."""
        self._transport = transport
        self._keeper = keeper
        self._peers = peers
        self._directory = directory
        self._tasks = tasks
        self._alpn = alpn
        self._clock = clock
        self._random = random
        self._log = log
        self._is_wanted = is_wanted
        self._until: dict[Did, float] = {}  # when a reservation is to be renewed, by relay
        self.carried: OrderedDict[Did, tuple[int, int]] = OrderedDict()  # circuits and bytes, by relay
        self.upgrade: Callable[[Session, tuple[bytes, ...]], Coroutine[None, None, None]] | None = None
        self._changed = asyncio.Event()
        self._dialling: dict[Did, asyncio.Future[None]] = {}
        peers.on_down.append(self._lost)
        peers.on_up.append(lambda _: self._changed.set())

    @property
    def relays(self) -> tuple[Did, ...]:
        """Through whom this node is reached now."""
        return tuple(self._until)

    # being reached

    def look(self) -> None:
        """Whether relays are wanted may have changed."""
        self._changed.set()

    def _lost(self, did: Did) -> None:
        if did in self._until:
            del self._until[did]
            self._changed.set()

    async def run(self) -> None:
        """Keep as many reservations as are wanted, for ever."""
        while True:
            self._changed.clear()
            await self._turn()
            try:
                async with asyncio.timeout(TURN_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _turn(self) -> None:
        if not self._is_wanted():
            self._until.clear()
        else:
            now = self._clock.monotonic()
            due = [did for did, until in self._until.items() if until <= now]
            for did in [*due, *self._candidates(RELAYS_MAX - len(self._until))]:
                await self._reserve(did)
        self._keeper.announce_relays(self.relays)

    def _candidates(self, missing: int) -> list[Did]:
        """Nodes that we have dialled ourselves, so others can too; of different networks first."""
        if missing <= 0:
            return []
        used = {net_of(s.peer.address[0]) for did in self._until if (s := self._peers.session_with(did)) is not None}
        free = [
            session
            for session in self._peers.sessions()
            if session.peer.dialled and not is_relayed(session.peer.address) and session.peer.did not in self._until
        ]
        free = self._random.sample(free, len(free))
        free.sort(key=lambda session: net_of(session.peer.address[0]) in used)
        return [session.peer.did for session in free[: max(missing, ASKED_PER_TURN)]]

    async def _reserve(self, relay: Did) -> None:
        if relay not in self._until and len(self._until) >= RELAYS_MAX:
            return
        try:
            granted = await self._peers.call(relay, RELAY_RESERVE, RelayAsk())
        except DuxError as error:
            self._until.pop(relay, None)
            self._log.info("no reservation", relay=relay, reason=error.message)
            return
        left_s = max(0, granted.until_ms - self._clock.unix_ms()) / 1000
        self._until[relay] = self._clock.monotonic() + left_s / 2
        self._log.info("reached through a relay", relay=relay, for_s=int(left_s))

    async def serve_incoming(self, session: Session, incoming: Incoming) -> None:
        """RELAY_INCOMING: somebody's TLS, carried by one of our relays.

        Raises:
            RelayRefused: it is none of our relays, or its network sends too many.
        """
        relay = session.peer.did
        if relay not in self._until:
            raise RelayRefused(reason="this node has no reservation with you")
        address = relay_address(relay)
        net, gate = net_of(address[0]), self._transport.gate
        refused = gate.admit(net, self._transport.now())
        if refused is not None:
            raise RelayRefused(reason=refused)
        contexts = contexts_of_seed(self._keeper.transport.seed, self._alpn)
        line = RelayedLine(self._transport, contexts, incoming.stream, address)
        line.up.add_done_callback(lambda _: gate.leave(net))
        await self._run(line, relay)

    async def _run(self, line: RelayedLine, relay: Did) -> None:
        """Use a circuit to its end, and count what the relay has done for us."""
        try:
            await line.run()
        finally:
            circuits, carried = self.carried.pop(relay, (0, 0))
            self.carried[relay] = circuits + 1, carried + line.carried_bytes
            if len(self.carried) > RELAYS_COUNTED_MAX:
                self.carried.popitem(last=False)

    # reaching others

    async def through(self, did: Did) -> Session | None:
        """A session with a node through one of the relays that its record names; None: it names none.

        Raises:
            PeerUnreachable, PeerMisbehaved: no relay led there.
        """
        while did in self._dialling:
            await asyncio.wait((self._dialling[did],))
            kept = self._peers.session_with(did)
            if kept is not None:
                return kept
        self._dialling[did] = asyncio.get_running_loop().create_future()
        try:
            return await self._through_any(did)
        finally:
            self._dialling.pop(did).set_result(None)

    async def _through_any(self, did: Did) -> Session | None:
        known = self._directory.get(did)
        record = known.record if known is not None else None
        if record is None or not record.relays:
            return None
        last: DuxError = PeerUnreachable(address=did, detail="none of its relays is another node")
        for relay in record.relays[:RELAYS_MAX]:
            if relay in (did, self._keeper.did):
                continue
            try:
                return await self._through(relay, did, record.transport_keys)
            except DuxError as error:
                last = error
        raise last

    async def _through(self, relay: Did, did: Did, keys: tuple[bytes, ...]) -> WireSession:
        carrier = await self._peers.session_to(relay)
        if is_relayed(carrier.peer.address):
            raise PeerUnreachable(address=did, detail="its relay is itself behind a relay")
        stream = await carrier.open_stream(RELAY_CIRCUIT, ((TO, did.encode()),), deadline_s=CIRCUIT_S)
        contexts = contexts_of_seed(self._keeper.transport.seed, self._alpn)
        line = RelayedLine(self._transport, contexts, stream, relay_address(relay), did=did, keys=keys)
        self._tasks.spawn(self._run(line, relay), "circuit")
        session = await line.up
        timer = asyncio.get_running_loop().call_later(RETIRE_S, session.retire, "a circuit lasts minutes")
        session.closed.add_done_callback(lambda _: timer.cancel())
        if self.upgrade is not None:
            self._tasks.spawn(self.upgrade(session, keys), "direct path")
        return session
