"""One end of a circuit: the same TLS and HELLO as on a socket, on a stream that a relay carries.

Promise: the relay sees ciphertext and sizes only; a bit that it flips, drops, repeats or puts elsewhere ends the line
with one log line, as on a socket; what an end says last before it closes in order reaches the other one. At most
256 KiB wait for the relay before writers wait.

Source: network.md §2 and §3, transport_identity.md §1.2.
"""

from __future__ import annotations

import asyncio

from common.errors import DuxError
from common.units import Did
from dux_p2pd.base_transport import BaseTransport
from dux_p2pd.circuits import PIECE_BYTES, Pieces
from dux_p2pd.doorway import Doorway
from dux_p2pd.engine import Phase, Step, TlsEngine
from dux_p2pd.session import Address, Stream
from dux_p2pd.tls_contexts import TlsContexts
from dux_p2pd.wire_errors import HandshakeFailed, PeerUnreachable
from dux_p2pd.wire_limits import HANDSHAKE_S, LINGER_S, WRITE_HIGH_BYTES
from dux_p2pd.wire_session import WireSession

ENDED = "the circuit was closed"


class RelayedLine:
    """Implements `wire_session.Line`. Call `run`; `up` is the session, or why there is none."""

    def __init__(
        self,
        transport: BaseTransport,
        contexts: TlsContexts,
        stream: Stream,
        address: Address,
        *,
        did: Did | None = None,
        keys: tuple[bytes, ...] | None = None,
        framed: bool = True,
    ) -> None:
        """With a DID this end dials; without, it accepts. `framed`: a relay frames what comes."""
        self.up: asyncio.Future[WireSession] = asyncio.get_running_loop().create_future()
        self._transport, self._stream, self._address = transport, stream, address
        self._did, self._keys = did, keys
        self._engine = TlsEngine(contexts, server_side=did is None, expected_keys=keys)
        self._doorway: Doorway | None = None
        self._pieces, self._framed = Pieces(), framed
        self._out = bytearray()
        self._moved = asyncio.Event()  # there is something to write, or nothing more to come
        self.carried_bytes = 0  # ciphertext, both ways
        self._closing = self._is_full = False
        self._limit = asyncio.timeout(HANDSHAKE_S)

    # -- wire_session.Line

    def send(self, data: bytes) -> None:
        """Encrypt and queue; nothing happens on a line that is going."""
        if not self._closing and self._engine.phase is Phase.OPEN:
            self._queue(self._engine.send(data))

    def buffered_bytes(self) -> int:
        """Bytes taken and not yet gone."""
        return len(self._out)

    def close(self) -> None:
        """End when the queue has gone, at the latest after a second."""
        self._closing = True
        self._moved.set()

    # -- the line's life

    async def run(self) -> None:
        """Carry bytes until either end or the relay ends it."""
        reason = ENDED
        writing = asyncio.ensure_future(self._write())
        reading = asyncio.ensure_future(self._read())
        try:
            async with self._limit:
                self._after(self._engine.start())
                await asyncio.wait((writing, reading), return_when=asyncio.FIRST_COMPLETED)
            for task in (reading, writing):
                if task.done() and (error := task.exception()) is not None:
                    raise error
            # one direction has ended in order; reset now, the stream would take along what the relay still holds
            self.close()
            await asyncio.wait((reading, writing), timeout=LINGER_S)
        except DuxError as error:
            reason = error.message
        except TimeoutError:
            reason = f"TLS was not complete within {HANDSHAKE_S:.0f} s"
        finally:
            writing.cancel()
            reading.cancel()
            await asyncio.wait((writing, reading))
            self._closing = True
            self._stream.reset()
            self._lost(self._told() or reason)

    async def _read(self) -> None:
        while data := await self._stream.read(PIECE_BYTES):
            try:
                inside = self._pieces.take(data) if self._framed else data
            except ValueError as error:
                raise HandshakeFailed(reason=f"the relay broke the framing: {error}") from error
            self.carried_bytes += len(inside)
            if inside and not self._closing:  # as on a socket, what comes after our end is not looked at
                self._after(self._engine.receive(inside))
            if self._pieces.ended:
                self._hung_up()
        self._hung_up()

    def _hung_up(self) -> None:
        """The other end says no more: neither do we."""
        self._lost(self._told() or ENDED)
        self.close()

    async def _write(self) -> None:
        while not (self._closing and not self._out):
            self._moved.clear()
            while self._out:
                data = bytes(self._out[:PIECE_BYTES])
                del self._out[:PIECE_BYTES]
                async with asyncio.timeout(LINGER_S if self._closing else None):
                    await self._stream.write(data)
                self.carried_bytes += len(data)
                self._note_room()
            if not self._closing:
                await self._moved.wait()
        await self._stream.close()

    # -- inside

    def _told(self) -> str:
        reason = self._pieces.reason()
        return f"the relay ended the circuit: {reason}" if reason else ""

    def _queue(self, data: bytes) -> None:
        self._out += data
        self._moved.set()
        self._note_room()

    def _note_room(self) -> None:
        is_full = len(self._out) > WRITE_HIGH_BYTES
        session = self._doorway.session if self._doorway is not None else None
        if is_full != self._is_full and session is not None:
            session.set_room(has_room=not is_full)
        self._is_full = is_full

    def _after(self, step: Step) -> None:
        """Do what a step of the engine asks for.

        Raises:
            DuxError: TLS failed.
        """
        if step.error is not None:
            raise step.error
        if step.to_send:
            self._queue(step.to_send)
        if step.phase is Phase.HANDSHAKE:
            return
        doorway = self._doorway or self._open_doorway()
        if step.plaintext:
            doorway.receive(step.plaintext)
        if step.phase is Phase.ENDED:
            self.close()

    def _open_doorway(self) -> Doorway:
        """TLS is complete: the introduction begins, with a timer of its own."""
        self._limit.reschedule(None)
        self._doorway = Doorway(
            self._transport,
            self,
            dialled=self._did is not None,
            peer_key=self._engine.peer_key,
            address=self._address,
            expected_did=self._did,
            record_known=self._keys is not None,
        )
        self._doorway.outcome.add_done_callback(self._introduced)
        self._doorway.start()
        return self._doorway

    def _introduced(self, outcome: asyncio.Future[WireSession]) -> None:
        error = outcome.exception()
        if self.up.done():
            return
        if error is None:
            self.up.set_result(outcome.result())
        else:
            self._settle(error)

    def _settle(self, error: BaseException) -> None:
        if not self.up.done():
            self.up.set_exception(error)
            self.up.exception()  # nobody waits for it on the accepting side

    def _lost(self, reason: str) -> None:
        if self._doorway is not None:
            self._doorway.lost(reason)
        self._settle(PeerUnreachable(address=self._did or "a caller", detail=reason))
