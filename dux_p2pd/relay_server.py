"""Relay duty: others reach a node behind NAT through this one.

Promise: a circuit leads only to a node that asked for it by `relay.reserve` and is connected now; what passes is
counted against the caller, the node reached and this relay before it is passed on; a piece of 16 KiB is all that is
ever held of a direction; an end that closes its half is told to the other one after all it has sent, and what that one
says last goes back; whatever ends a circuit is told to both ends. What the bytes mean is not known here.

Source: network.md §3, mechanisms.md §2.4 (duty).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.p2p_errors import RelayRefused
from common.contracts.peer_reach import RELAY_INCOMING, RelayAsk, RelayGrant
from common.errors import DuxError
from common.nets import net_of
from common.units import Did, UnixMs
from dux_p2pd.circuits import PIECE_BYTES, RelayLedger, is_relayed, last_piece, piece
from dux_p2pd.peers import PeerBook
from dux_p2pd.session import Headers, Incoming, Peer, Session, Stream

GOODBYE_S = 2.0  # an end that does not read is not waited for longer
CLOSED = "the other end closed it"
TO = "to"


class RelayServer:
    """This node as a relay."""

    def __init__(
        self,
        ledger: RelayLedger,
        peers: PeerBook,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        on_duty: Callable[[], bool],
    ) -> None:
        """`on_duty`: whether this node is a relay now."""
        self.ledger = ledger
        self.on_duty = on_duty
        self._peers = peers
        self._clock = clock
        self._log = log

    def now(self) -> float:
        """The time that the ledger counts by."""
        return self._clock.monotonic()

    async def on_reserve(self, _params: RelayAsk, peer: Peer) -> RelayGrant:
        """RELAY_RESERVE."""
        if not self.on_duty():
            raise RelayRefused(reason="this node is no relay")
        if is_relayed(peer.address):
            raise RelayRefused(reason="ask over a connection of your own")
        refused = self.ledger.reserve(peer.did, net_of(peer.address[0]), self._clock.monotonic())
        if refused is not None:
            raise RelayRefused(reason=refused)
        return RelayGrant(until_ms=UnixMs(self._clock.unix_ms() + int(self.ledger.limits.reservation_s * 1000)))

    async def serve_circuit(self, session: Session, incoming: Incoming) -> None:
        """RELAY_CIRCUIT.

        Raises:
            RelayRefused: before a byte was carried; afterwards the reason travels as the last piece.
        """
        caller, target = session.peer.did, target_of(incoming.headers)
        if is_relayed(session.peer.address):
            raise RelayRefused(reason="a circuit does not lead through two relays")
        there = self._peers.session_with(target)
        if there is None:
            raise RelayRefused(reason="that node is not connected here")
        begun = self._clock.monotonic()
        refused = self.ledger.open(caller, target, begun)
        if refused is not None:
            raise RelayRefused(reason=refused)
        try:
            limit_s = self.ledger.limits.circuit_s
            far = await there.open_stream(RELAY_INCOMING, deadline_s=limit_s)
            await self._splice(Circuit(caller, target, incoming.stream, far), min(limit_s, incoming.deadline_s - 1))
        finally:
            self.ledger.close(caller, target, self._clock.monotonic() - begun)

    async def _splice(self, circuit: Circuit, limit_s: float) -> None:
        """Both directions; after one of them has ended in order the other has a moment to end, too."""
        there = asyncio.ensure_future(self._pump(circuit, circuit.near, circuit.far))
        back = asyncio.ensure_future(self._pump(circuit, circuit.far, circuit.near))
        try:
            done, _ = await asyncio.wait((there, back), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            reason = done.pop().result() if done else f"a circuit lasts {limit_s:.0f} s, dial again"
            if reason == CLOSED:
                await asyncio.wait((there, back), timeout=GOODBYE_S)
        except asyncio.CancelledError:
            circuit.far.reset()
            raise
        finally:
            there.cancel()
            back.cancel()
            await asyncio.wait((there, back))
        self._log.info("circuit ended", caller=circuit.caller, target=circuit.target, reason=reason)
        await asyncio.gather(self._goodbye(circuit.near, reason), self._goodbye(circuit.far, reason))

    async def _pump(self, circuit: Circuit, source: Stream, sink: Stream) -> str:
        """Carry one direction; why it ended."""
        try:
            while data := await source.read(PIECE_BYTES):
                refused = self.ledger.carry(circuit.caller, circuit.target, len(data), self._clock.monotonic())
                if refused is not None:
                    return refused
                await sink.write(piece(data))
        except DuxError:
            return "the other end is gone"
        await self._goodbye(sink, CLOSED)
        return CLOSED

    async def _goodbye(self, stream: Stream, reason: str) -> None:
        try:
            async with asyncio.timeout(GOODBYE_S):
                await stream.write(last_piece(reason))
                await stream.close()
        except (DuxError, TimeoutError):
            stream.reset()


class Circuit:
    """Two streams of two sessions."""

    def __init__(self, caller: Did, target: Did, near: Stream, far: Stream) -> None:
        self.caller, self.target, self.near, self.far = caller, target, near, far


def target_of(headers: Headers) -> Did:
    """Whom a circuit is to lead to.

    Raises:
        RelayRefused: no DID is named.
    """
    try:
        return Did(dict(headers)[TO].decode("ascii"))
    except (KeyError, UnicodeDecodeError):
        raise RelayRefused(reason="the header `to` names no DID") from None
