"""The transport over TCP and TLS: sockets, timers, and nothing that is decided elsewhere.

Order for an accepted connection: gate (before any TLS object), 5 s timer, TLS within its byte limits, HELLO within 5 s,
session. A connection that fails anywhere is aborted with one log line, and no exception of one reaches another.

Source: transport_identity.md §1.2 and §1.5.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any, cast

from aiohappyeyeballs import start_connection

from common.errors import DuxError
from common.nets import net_of
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.doorway import Doorway
from dux_p2pd.engine import Phase, Step, TlsEngine
from dux_p2pd.local_address import has_way_to
from dux_p2pd.one_link import connected, host_of, is_of_one_link
from dux_p2pd.probe import answers
from dux_p2pd.rules import contact_at, endpoint_of
from dux_p2pd.session import Address
from dux_p2pd.tls_contexts import TlsContexts
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.whereabouts import Whereabouts
from dux_p2pd.wire_errors import HandshakeFailed, PeerUnreachable
from dux_p2pd.wire_limits import (
    HANDSHAKE_S,
    HAPPY_EYEBALLS_S,
    LINGER_S,
    READ_BYTES,
    TAKE_BYTES,
    TCP_USER_TIMEOUT_MS,
    WRITE_HIGH_BYTES,
)
from dux_p2pd.wire_session import WireSession

_OPEN = Phase.OPEN


class TlsTransport(BaseTransport):
    """Sessions over TCP."""

    def __init__(
        self,
        *,
        contexts: TlsContexts,
        listen: Address,
        also_listen: tuple[str, ...] = (),
        bind_source: bool = False,
        whereabouts: Whereabouts | None = None,
        **shared: Any,
    ) -> None:
        """`listen` is host and port (0 = any free one), `also_listen` further hosts for the same port.

        `bind_source` dials from the listened-on host of the same family, for nodes on loopback.

        `whereabouts` hears which addresses of this machine are in use.
        The other arguments are those of BaseTransport.
        """
        super().__init__(**shared)
        self.contexts = contexts
        self._listen_on = listen
        self._also_listen = also_listen
        self._sources = (listen[0], *also_listen) if bind_source else ()
        self._servers: list[asyncio.Server] = []
        self.whereabouts = whereabouts
        self.lines: set[TlsLine] = set()
        self.inbox = memoryview(bytearray(READ_BYTES))

    def use_contexts(self, contexts: TlsContexts) -> None:
        """Show another transport key on connections from now on."""
        self.contexts = contexts

    def use_seed(self, seed: bytes) -> None:
        """Show the transport key of this seed on connections from now on."""
        self.use_contexts(contexts_of_seed(seed, self.contexts.alpn))

    def has_way_to(self, address: Address) -> bool:
        """Whether this machine has a route there."""
        return has_way_to(address)

    async def probe(self, address: Address, keys: tuple[bytes, ...]) -> bool:
        """Whether a node with one of these keys answers there."""
        return await answers(self.contexts, address, keys, self._source_for(address[0]))

    async def _listen(self) -> Address:
        loop = asyncio.get_running_loop()
        host, port = self._listen_on
        server = await loop.create_server(lambda: TlsLine(self, None), host, port, backlog=128)
        self._servers.append(server)
        bound = server.sockets[0].getsockname()
        for another in self._also_listen:
            await self._listen_also(another, int(bound[1]))
        return str(bound[0]), int(bound[1])

    async def _listen_also(self, host: str, port: int) -> None:
        """A machine without IPv6 still has IPv4: what cannot be listened on is told and left out."""
        try:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: TlsLine(self, None), host, port, backlog=128)
        except OSError as error:
            self.log.info("not listened on", address=host, reason=error.strerror)
        else:
            self._servers.append(server)

    def _source_for(self, host: str) -> Address | None:
        """The own address to dial a host from, where that is fixed."""
        same = [own for own in self._sources if (":" in own) == (":" in host)]
        return (same[0], 0) if same else None

    async def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        for line in list(self.lines):
            line.stop_waiting()

    async def _dial(self, address: Address, did: Did | None, keys: tuple[bytes, ...] | None) -> WireSession:
        line = TlsLine(self, Dialled(address, did, keys))
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._connect_to(address, line)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: a host that cannot be a name
            raise PeerUnreachable(address=endpoint_of(address), detail=str(error) or "no answer") from error
        try:
            return await line.up
        finally:
            line.stop_waiting()

    async def _connect_to(self, address: Address, line: TlsLine) -> None:
        """A name may have addresses of both families, which race; an address has nothing to race."""
        loop, own = asyncio.get_running_loop(), self._source_for(address[0])
        if is_of_one_link(address):
            await loop.create_connection(lambda: line, sock=await connected(address, own))
            return
        if contact_at(endpoint_of((address[0], 1))) is not None:
            await loop.create_connection(lambda: line, *address, local_addr=own)
            return
        there = await loop.getaddrinfo(*address, type=socket.SOCK_STREAM)
        here = await loop.getaddrinfo(*own, type=socket.SOCK_STREAM) if own else None
        winner = await start_connection(there, local_addr_infos=here, happy_eyeballs_delay=HAPPY_EYEBALLS_S)
        await loop.create_connection(lambda: line, sock=winner)


class Dialled:
    """What the dialler knows of the node it calls."""

    def __init__(self, address: Address, did: Did | None, keys: tuple[bytes, ...] | None) -> None:
        self.address, self.did, self.keys = address, did, keys


class TlsLine(asyncio.BufferedProtocol):
    """One TCP connection; implements `wire_session.Line`."""

    def __init__(self, transport: TlsTransport, dialled: Dialled | None) -> None:
        """`dialled` is None for an accepted connection."""
        self._owner, self._dialled = transport, dialled
        self._loop = asyncio.get_running_loop()
        self.up: asyncio.Future[WireSession] = self._loop.create_future()
        self._tcp: asyncio.Transport | None = None
        self._engine: TlsEngine | None = None
        self._doorway: Doorway | None = None
        self._session: WireSession | None = None  # once it is up
        self._timer: asyncio.TimerHandle | None = None
        self._net: str | None = None  # while it counts as half open
        self._address: Address = dialled.address if dialled else ("", 0)
        self._own_host = ""  # our end's, once it is told
        self._is_closing = False  # nothing more is sent, and what comes is not looked at

    # -- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Judge the address, then begin TLS."""
        transport = cast("asyncio.Transport", transport)  # another loop's need not be a subclass
        self._tcp = transport
        name = transport.get_extra_info("peername")
        if not name or not self._admit(str(name[0])):
            transport.abort()
            return
        self._address = host_of(name), int(name[1])
        self._owner.lines.add(self)
        _tune(transport)
        self._tell_own_host(transport)
        self._timer = self._loop.call_later(
            HANDSHAKE_S, self._fail, HandshakeFailed(reason=f"not complete within {HANDSHAKE_S:.0f} s")
        )
        self._begin()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - as much as one turn may take
        """Where ciphertext goes: one buffer for all lines, since it is used up before the next is read."""
        return self._owner.inbox

    def buffer_updated(self, nbytes: int) -> None:
        """Ciphertext came."""
        engine, inbox = self._engine, self._owner.inbox[:nbytes]
        for at in range(0, nbytes, TAKE_BYTES):
            if engine is None or self._is_over():
                return
            self._after(engine.receive(inbox[at : at + TAKE_BYTES]))

    def eof_received(self) -> bool:
        """The peer closed its half, and everything before that was read: we close ours."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._owner.lines.discard(self)
        if self._owner.whereabouts is not None and self._own_host:
            self._owner.whereabouts.closed(self._own_host)
        reason = str(exc) if exc else "the connection was closed"
        if self._doorway is not None:
            self._doorway.lost(reason)  # which settles, with its own reason
        else:
            self._settle(HandshakeFailed(reason=reason))

    def pause_writing(self) -> None:
        """The socket's buffer is above its high-water mark."""
        self._set_room(has_room=False)

    def resume_writing(self) -> None:
        """The socket's buffer has drained."""
        self._set_room(has_room=True)

    # -- wire_session.Line

    def send(self, data: bytes) -> None:
        """Encrypt and hand to the socket; nothing happens on a line that is going."""
        if self._engine is None or self._tcp is None or self._is_closing or self._tcp.is_closing():
            return
        try:
            self._tcp.write(self._engine.send(data))
        except Exception as error:  # noqa: BLE001 - a broken engine ends this line only
            self._fail(HandshakeFailed(reason=f"{type(error).__name__}: {error}"))

    def buffered_bytes(self) -> int:
        """Bytes taken and not yet gone."""
        return self._tcp.get_write_buffer_size() if self._tcp is not None else 0

    def close(self) -> None:
        """Say that nothing more comes once the buffer has gone, and read on until the other end says so too.

        At the latest after a second it is over. Closed at once, the kernel would answer bytes that are under way to us
        with a reset, and the other end might lose what we sent last.
        """
        if self._tcp is None or self._is_over():
            return
        self._is_closing = True
        try:
            self._tcp.write_eof()
        except OSError:
            self._tcp.abort()  # the other end is gone already
        else:
            self._loop.call_later(LINGER_S, self._tcp.abort)

    # -- inside

    def stop_waiting(self) -> None:
        """Give up a connection that is not a session yet."""
        if self._doorway is None or self._doorway.session is None:
            self._fail(HandshakeFailed(reason="given up"))

    def _admit(self, host: str) -> bool:
        if self._dialled is not None:
            return True
        net = net_of(host)
        reason = self._owner.gate.admit(net, self._owner.now())
        if reason is not None:
            self._owner.count.refused(reason)
            return False
        self._owner.count.accepted += 1
        self._net = net
        return True

    def _tell_own_host(self, transport: asyncio.Transport) -> None:
        """Before HELLO, so that it carries a record with the address of this very connection."""
        name = transport.get_extra_info("sockname")
        if self._owner.whereabouts is not None and name:
            self._own_host = str(name[0])
            self._owner.whereabouts.opened(self._own_host)

    def _begin(self) -> None:
        contexts, dialled = self._owner.contexts, self._dialled
        keys = dialled.keys if dialled else None
        self._engine = TlsEngine(contexts, server_side=dialled is None, expected_keys=keys)
        self._after(self._engine.start())

    def _after(self, step: Step) -> None:
        """Do what a step of the engine asks for; every exception ends this line only."""
        try:
            if step.error is not None:
                self._fail(step.error)
                return
            if step.to_send and self._tcp is not None:
                self._tcp.write(step.to_send)
            if self._session is not None and step.phase is _OPEN:
                if step.plaintext:
                    self._session.feed(step.plaintext)
            elif step.phase is not Phase.HANDSHAKE:
                self._deliver(step)
        except Exception as error:
            self._owner.log.exception("a connection broke", address=self._address[0])
            self._fail(HandshakeFailed(reason=type(error).__name__))

    def _deliver(self, step: Step) -> None:
        doorway = self._doorway or self._open_doorway()
        if step.plaintext:
            doorway.receive(step.plaintext)
        if step.phase is Phase.ENDED:
            self.close()

    def _open_doorway(self) -> Doorway:
        """TLS is complete: the introduction begins, with a timer of its own."""
        if self._engine is None or self._timer is None:
            raise HandshakeFailed(reason="no handshake took place")
        self._timer.cancel()
        dialled = self._dialled
        self._doorway = Doorway(
            self._owner,
            self,
            dialled=dialled is not None,
            peer_key=self._engine.peer_key,
            address=self._address,
            expected_did=dialled.did if dialled else None,
            record_known=dialled is not None and dialled.keys is not None,
        )
        self._doorway.outcome.add_done_callback(self._introduced)
        self._doorway.start()
        return self._doorway

    def _introduced(self, outcome: asyncio.Future[WireSession]) -> None:
        error = outcome.exception()
        if isinstance(error, DuxError):
            self._settle(error)
            return
        self._leave_gate()
        self._session = outcome.result()
        if not self.up.done():
            self.up.set_result(self._session)

    def _fail(self, error: DuxError) -> None:
        """Abort: nothing more is sent."""
        if self._tcp is not None and not self._is_over():
            if self._doorway is None:
                self._owner.count.handshakes_failed += 1
                self._owner.log.info("handshake failed", address=self._address[0], reason=error.message)
            self._tcp.abort()
        self._settle(error)

    def _is_over(self) -> bool:
        return self._is_closing or self._tcp is None or self._tcp.is_closing()

    def _settle(self, error: DuxError) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._leave_gate()
        if not self.up.done():
            self.up.set_exception(error)
            self.up.exception()  # nobody waits for it on the accepting side

    def _leave_gate(self) -> None:
        if self._net is not None:
            self._owner.gate.leave(self._net)
            self._net = None

    def _set_room(self, *, has_room: bool) -> None:
        if self._doorway is not None and self._doorway.session is not None:
            self._doorway.session.set_room(has_room=has_room)


def _tune(transport: asyncio.Transport) -> None:
    """Small frames leave at once; a peer that acknowledges nothing for 15 s is gone; the write buffer has a limit."""
    transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
    sock = transport.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
