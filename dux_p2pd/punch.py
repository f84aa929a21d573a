"""Hole punching: two nodes behind NAT, connected through a relay, move to a direct path over QUIC (`iroh`, an extra).

Promise: the path carries the same TLS and HELLO as every other; iroh's own identity serves for one thing, to let in
only whom a peer has announced within the last seconds, over a session that proved its DID. When there is no such path,
the session through the relay stays as it is.

It works where a router keeps the port of what goes out and lets answers in, as Linux routers do; measured in
docs/decisions/iroh.md. Off unless `hole_punching` is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.p2p_errors import PeerUnreachable, RelayRefused, StreamBroken
from common.contracts.peer_reach import PUNCH_NOW, PunchHere
from common.errors import BadSettings
from common.randomness import Randomness
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.circuits import is_relayed
from dux_p2pd.keeper import Keeper
from dux_p2pd.meters import TokenBucket
from dux_p2pd.relayed_line import RelayedLine
from dux_p2pd.rules import contact_at, endpoint_of
from dux_p2pd.session import Address, Peer, Session
from dux_p2pd.tasks import Tasks
from dux_p2pd.tls_contexts import TlsContexts
from dux_p2pd.tls_keys import contexts_of_seed

if TYPE_CHECKING:
    from iroh import BiStream, Connection, Endpoint

ALPN = b"dux-path/1"  # of the path; what is inside names its own
PATH_S = 10.0  # both sides dial for so long
ASK_S = 5.0
EXPECTED_S = 20.0
EXPECTED_MAX = 64
BURST, PER_S = 6, 6 / 60  # dials on others' word: each is some packets towards an address that a known peer names


class IrohStream:
    """A QUIC stream as `session.Stream`."""

    def __init__(self, stream: BiStream, did: Did) -> None:
        self._send, self._receive, self._did = stream.send(), stream.recv(), did

    async def read(self, max_bytes: int) -> bytes:
        """The next bytes; b"" at the end."""
        with self._broken():
            return await self._receive.read(max_bytes)

    async def read_all(self, max_bytes: int = 1 << 20) -> bytes:
        """Everything up to the end."""
        with self._broken():
            return await self._receive.read_to_end(max_bytes)

    async def write(self, data: bytes) -> None:
        """Hand over bytes."""
        with self._broken():
            await self._send.write_all(data)

    async def close(self) -> None:
        """End our half."""
        with self._broken():
            await self._send.finish()

    def reset(self) -> None:
        """Nothing: whoever owns the connection closes it."""

    @contextmanager
    def _broken(self) -> Iterator[None]:
        from iroh import IrohError

        try:
            yield
        except IrohError as error:
            raise StreamBroken(did=self._did, method="path") from error


class Punch:
    """This node's direct paths."""

    def __init__(
        self,
        transport: BaseTransport,
        keeper: Keeper,
        tasks: Tasks,
        *,
        alpn: str,
        port: int,
        outside: Callable[[], str],
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
    ) -> None:
        """`port`: of UDP; `outside`: the host at which others see this node, empty while nobody has said."""
        self._transport = transport
        self._keeper = keeper
        self._tasks = tasks
        self._alpn, self._port = alpn, port
        self._outside = outside
        self._clock = clock
        self._secret = random.bytes(32)
        self._log = log
        self._bucket = TokenBucket(BURST, PER_S, clock.monotonic())
        self._expected: dict[bytes, tuple[Did, Address, float]] = {}  # who may come, by iroh's id
        self._endpoint: Endpoint | None = None

    async def open(self) -> None:
        """Bind the UDP port.

        Raises:
            BadSettings: the extra is not installed, or the port is taken.
        """
        try:
            import iroh
        except ImportError as error:
            raise BadSettings(path="hole_punching", detail="iroh is missing: start with DUXNET_EXTRAS=punch") from error
        options = iroh.EndpointOptions(
            preset=iroh.preset_minimal(),
            bind_addr=f"0.0.0.0:{self._port}",
            secret_key=self._secret,
            alpns=[ALPN],
            relay_mode=iroh.RelayMode.disabled(),
        )
        try:
            self._endpoint = await iroh.Endpoint.bind(options)
        except iroh.IrohError as error:
            raise BadSettings(path="hole_punching", detail=f"UDP port {self._port}: {error}") from error

    async def close(self) -> None:
        """End all paths."""
        if self._endpoint is not None:
            await self._endpoint.close()

    # the side that was called through a relay

    async def on_punch(self, params: PunchHere, peer: Peer) -> PunchHere:
        """PUNCH_NOW: dial the caller's outside address while it dials ours.

        Raises:
            RelayRefused: not now.
        """
        address, outside = contact_at(params.endpoint), self._outside()
        if address is None or not outside or not is_relayed(peer.address) or not peer.known:
            raise RelayRefused(reason="no direct path is possible from here")
        if not self._bucket.take(1, self._clock.monotonic()):
            raise RelayRefused(reason="too many paths in a short time")
        self._expect(params.path_id, peer.did, address)
        self._tasks.spawn(self._knock(params), "punch")
        return self._here(outside)

    def _expect(self, path_id: bytes, did: Did, address: Address) -> None:
        now = self._clock.monotonic()
        self._expected = {one: held for one, held in self._expected.items() if held[2] > now}
        if len(self._expected) < EXPECTED_MAX:
            self._expected[path_id] = did, (address[0], 0), now + EXPECTED_S

    async def _knock(self, there: PunchHere) -> None:
        """Open our own NAT: a path that comes about this way is not used."""
        connection = await self._connect(there)
        await asyncio.sleep(EXPECTED_S)
        connection.close(0, b"")

    async def run(self) -> None:
        """Let in whom we expect, for ever."""
        if self._endpoint is None:
            raise BadSettings(path="hole_punching", detail="not open")
        from iroh import IrohError

        while True:
            incoming = await self._endpoint.accept_next()
            if incoming is None:
                return
            with suppress(IrohError):
                connection = await (await incoming.accept()).connect()
                expected = self._expected.pop(connection.remote_id().to_bytes(), None)
                if expected is None or expected[2] < self._clock.monotonic():
                    connection.close(1, b"not expected")
                else:
                    self._tasks.spawn(self._serve(connection, expected[0], expected[1]), "path")

    async def _serve(self, connection: Connection, did: Did, address: Address) -> None:
        stream = IrohStream(await asyncio.wait_for(connection.accept_bi(), ASK_S), did)
        try:
            await RelayedLine(self._transport, self._contexts(), stream, address, framed=False).run()
        finally:
            connection.close(0, b"")

    # the side that called

    async def upgrade(self, session: Session, keys: tuple[bytes, ...]) -> None:
        """Try for a direct path beside a session through a relay; the transport then keeps the newer one.

        Raises:
            DuxError: why there is none.
        """
        outside = self._outside()
        if not outside:
            raise PeerUnreachable(address=session.peer.did, detail="nobody has said yet at what address it sees us")
        answer = await session.request(PUNCH_NOW.name, canonical(self._here(outside)), deadline_s=ASK_S)
        there = from_canonical(answer, PunchHere, max_bytes=PUNCH_NOW.params_bytes_max)
        address, did = contact_at(there.endpoint), session.peer.did
        if address is None:
            raise PeerUnreachable(address=did, detail="it names no address")
        connection = await self._connect(there)
        self._tasks.spawn(self._use(connection, did, (address[0], 0), keys), "path")

    async def _use(self, connection: Connection, did: Did, address: Address, keys: tuple[bytes, ...]) -> None:
        try:
            stream = IrohStream(await connection.open_bi(), did)
            line = RelayedLine(self._transport, self._contexts(), stream, address, did=did, keys=keys, framed=False)
            await line.run()
        finally:
            connection.close(0, b"")

    # both

    def _here(self, outside: str) -> PunchHere:
        if self._endpoint is None:
            raise RelayRefused(reason="this node makes no direct paths")
        return PunchHere(endpoint=endpoint_of((outside, self._port)), path_id=self._endpoint.id().to_bytes())

    async def _connect(self, there: PunchHere) -> Connection:
        from iroh import EndpointAddr, EndpointId, IrohError

        if self._endpoint is None:
            raise RelayRefused(reason="this node makes no direct paths")
        where = EndpointAddr(EndpointId.from_bytes(there.path_id), None, [there.endpoint])
        try:
            return await asyncio.wait_for(self._endpoint.connect(where, ALPN), PATH_S)
        except (IrohError, TimeoutError) as error:
            detail = f"no direct path ({type(error).__name__})"
            raise PeerUnreachable(address=there.endpoint, detail=detail) from error

    def _contexts(self) -> TlsContexts:
        return contexts_of_seed(self._keeper.transport.seed, self._alpn)
