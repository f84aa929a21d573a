"""A session over any line that carries bytes: requests, streams, keep-alive, orderly end.

Promise: a call ends with its answer, its deadline or the session, whichever is first; a session that is let go in order
ends only when both ends have said GOAWAY and every stream has ended; a peer that falls silent is given up after 15 s;
every breach of the framing ends the session with one log line. It does not know whether its line is TLS or memory, nor
what a method means; the streams that the peer opens are in `serving`.

Source: transport_identity.md §1.5, network.md §2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from common.errors import DeadlinePassed
from dux_p2pd.calls import RequestHead, request_head
from dux_p2pd.deadlines import Deadlines
from dux_p2pd.liveness import Liveness, Progress, Pulse
from dux_p2pd.mux import Mux
from dux_p2pd.mux_events import Answered, Asked, Dropped, Event, Finished, GoingAway, Opened, Received
from dux_p2pd.serving import Services, Serving
from dux_p2pd.session import Headers, Peer
from dux_p2pd.slots import Slots
from dux_p2pd.stream import WireStream
from dux_p2pd.wire_errors import FramingBroken, MessageTooLong, PeerBusy, SessionClosed, StreamBroken
from dux_p2pd.wire_limits import (
    BUSY_STREAMS,
    DRAIN_S,
    HEAD_S,
    MESSAGE_BYTES,
    OPEN_WAITERS,
    SESSION_LIFE_S,
    STREAM_S_MAX,
    WRITE_SLICE_BYTES,
    WRITE_STUCK_BYTES,
    PeerLimits,
)

_IN_ORDER, _THEIR_FAULT, _NO_ROOM = 0, 1, 3  # codes of GOAWAY


class Line(Protocol):
    """What carries a session's bytes."""

    def send(self, data: bytes) -> None:
        """Take bytes; never blocks."""
        ...

    def buffered_bytes(self) -> int:
        """Bytes taken and not yet gone."""
        ...

    def close(self) -> None:
        """End after what was taken has gone, within a second."""
        ...


class WireSession:
    """Implements `session.Session`, and `stream.Carrier` for its streams."""

    def __init__(
        self, *, peer: Peer, mux: Mux, line: Line, peer_streams: int, limits: PeerLimits, services: Services
    ) -> None:
        """`peer_streams` is how many streams the peer lets us open, `limits` what it may hold of ours."""
        self._loop = asyncio.get_running_loop()
        self.peer, self.mux, self.did = peer, mux, peer.did
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.leaving: asyncio.Future[None] = self._loop.create_future()
        self.had_no_room = self.is_leaving = False  # whether nothing new may begin on it
        self.on_leaving: Callable[[WireSession], None] = lambda _session: None  # told at that moment
        self._line, self._services = line, services
        self._streams: dict[int, WireStream] = {}
        self._serving = Serving(self, services, limits)
        self._slots = Slots(
            in_use=lambda: mux.own_streams, limit=peer_streams, is_over=lambda: self.closed.done() or not mux.can_open
        )
        self._deadlines = Deadlines(self._loop, self._streams, self._expire)
        self.has_room = True  # the line's buffer is below its high-water mark
        self._room = asyncio.Event()
        self._room.set()
        self._retired = False
        now = self._loop.time()
        self._born, self._progress = now, Progress()
        self._liveness = Liveness(now, asks_first=peer.dialled)
        self._sent_bytes = 0
        self._is_gathering = False
        self._pings = 0
        self._timer = self._loop.call_later(self._liveness.next_check_s(now), self._tick)

    # -- session.Session

    async def request(self, method: str, body: bytes, *, deadline_s: float, headers: Headers = ()) -> bytes:
        """The peer's answer to one message."""
        if len(body) > MESSAGE_BYTES:
            raise MessageTooLong(limit_bytes=MESSAGE_BYTES, found_bytes=len(body))
        deadline_s = min(deadline_s, self._services.longest_s(method))
        message = request_head(method, deadline_s, headers) + body
        ends = self._loop.time() + deadline_s
        if not self.has_room or not self._slots.is_free():
            await self._turn(method, deadline_s, ends)
        stream, taken = self._open(method, message, deadline_s, ends, finish=True)
        try:
            return await (stream.answer() if taken == len(message) else stream.exchange(memoryview(message)[taken:]))
        finally:
            self.drop(stream)

    async def open_stream(self, method: str, headers: Headers = (), *, deadline_s: float) -> WireStream:
        """A new stream to the peer's handler of this method."""
        deadline_s = min(deadline_s, STREAM_S_MAX)
        head, ends = request_head(method, deadline_s, headers), self._loop.time() + deadline_s
        if not self.has_room or not self._slots.is_free():
            await self._turn(method, deadline_s, ends)
        stream, _ = self._open(method, head, deadline_s, ends, finish=False)
        return stream

    async def close(self, reason: str) -> None:
        """Say GOAWAY, then close."""
        self.end(reason)

    # -- the line's side

    def feed(self, data: bytes) -> None:
        """Bytes came on the line."""
        if self.closed.done():
            return
        now = self._loop.time()
        self._liveness.heard(now)
        try:
            for event in self.mux.receive(data, now):
                if isinstance(event, Received):
                    self._on_received(event)
                elif isinstance(event, Answered):
                    self._on_answered(event)
                elif isinstance(event, Asked):
                    self._serving.take(event.stream, event.data)
                else:
                    self._on_event(event)
        except FramingBroken as error:
            self.breach(error)
            return
        self._serving.go_on()
        self.flush()

    def set_room(self, *, has_room: bool) -> None:
        """The line's buffer passed its high-water or low-water mark."""
        self.has_room = has_room
        if has_room:
            self._room.set()
        else:
            self._room.clear()
            self._is_stuck(self._loop.time())

    def end(self, reason: str, *, code: int = _IN_ORDER) -> None:
        """Say GOAWAY, close the line, fail whatever waits. Doing it twice is the same as once."""
        if self.closed.done():
            return
        self.closed.set_result(reason)
        self._leave()
        self._timer.cancel()
        self._deadlines.cancel()
        self.mux.go_away(code)
        self._line.send(self.mux.take_output())
        self._line.close()
        error = SessionClosed(did=self.did, reason=reason)
        for stream in list(self._streams.values()):
            stream.fail(error)
            self._forget(stream)
        self._serving.cancel_all()
        self._slots.wake()
        self.has_room = True
        self._room.set()

    def retire(self, reason: str, *, no_room: bool = False) -> None:
        """Open no new streams, let those under way end within 30 s, then close."""
        self._retire(reason, no_room=no_room)
        self.flush()

    def _retire(self, reason: str, *, no_room: bool) -> None:
        if self._retired or self.closed.done():
            return
        self.had_no_room = self.had_no_room or no_room
        self._retired = True
        self._leave()
        self.mux.go_away(_NO_ROOM if no_room else _IN_ORDER)
        self._loop.call_later(DRAIN_S, self.end, reason)

    def _leave(self) -> None:
        if not self.is_leaving:
            self.is_leaving = True
            self.on_leaving(self)
            self.leaving.set_result(None)

    def is_suspect(self) -> bool:
        """Whether the peer has not answered a ping for some seconds."""
        return self._liveness.is_suspect(self._loop.time())

    @property
    def is_draining(self) -> bool:
        """Whether only what was under way when it was retired still runs on it."""
        return self._retired

    def probe(self) -> None:
        """Ask for a sign of life now: somebody says that the peer is elsewhere."""
        if self._liveness.wants_probe() and not self.closed.done():
            self._liveness.asked(self._loop.time())
            self._ping()
            self.flush()

    # -- stream.Carrier

    def flush(self) -> None:
        """Send what the mux has ready, and let go of what has ended.

        On a busy session all that is said in one turn of the loop leaves together: one record and one system call for
        many small frames. On a quiet one it leaves at once.
        """
        ready_bytes = self.mux.output_bytes
        if ready_bytes:
            if ready_bytes >= WRITE_SLICE_BYTES or len(self._streams) < BUSY_STREAMS:
                self._send_out()
            elif not self._is_gathering:
                self._is_gathering = True
                self._loop.call_soon(self._gathered)
        if self._retired and self.mux.is_parted and not self.mux.open_streams:
            self.end("replaced or aged, and drained")
        else:
            self._slots.wake()

    def _send_out(self) -> None:
        output = self.mux.take_output()
        if self.closed.done():
            return
        self._sent_bytes += len(output)
        self._line.send(output)
        if not self.has_room and self._line.buffered_bytes() > WRITE_STUCK_BYTES:
            self.end("the peer asks and does not read", code=_THEIR_FAULT)

    def _gathered(self) -> None:
        """The turn is over."""
        self._is_gathering = False
        if self.mux.output_bytes:
            self._send_out()

    async def room(self) -> None:
        """Wait while the line's buffer is above its high-water mark."""
        while not self.has_room:  # who is woken first may fill the buffer again
            await self._room.wait()

    def drop(self, stream: WireStream) -> None:
        """Reset the stream and forget it; where that would look like rapid reset, let a whole request run out."""
        if not self.mux.has(stream.id):  # the usual end: both said all, and all was read
            self._forget(stream)
            return
        if not self.closed.done():
            lazily = stream.own and stream.has_said_all and not self.mux.may_reset(self._loop.time())
            if lazily:
                stream.abandon()
                return
            self.mux.reset(stream.id)
        self._forget(stream)
        self.flush()

    def _forget(self, stream: WireStream) -> None:
        self._streams.pop(stream.id, None)

    def breach(self, error: FramingBroken) -> None:
        """The peer broke a rule: end the session."""
        self._services.log.warning("peer broke the framing", did=self.did, reason=error.message)
        self.end(error.message, code=_THEIR_FAULT)
        self._services.breached(self.did, error.message)

    # -- opening

    def _open(
        self, method: str, first: bytes, deadline_s: float, ends: float, *, finish: bool
    ) -> tuple[WireStream, int]:
        """A stream of ours with its first bytes, and how many of them fitted; it fails when its time is up."""
        if not self.mux.can_open or self.closed.done():
            raise self._not_begun()
        number, taken = self.mux.open(first, finish=finish)
        stream = self._streams[number] = WireStream(self, number, method, deadline_s, own=True)
        self._deadlines.set(stream, ends)
        if finish and taken == len(first):
            stream.said_all()
        self.flush()
        return stream, taken

    def _not_begun(self) -> SessionClosed:
        return SessionClosed(did=self.did, reason="it is going away", begun=False)

    async def _turn(self, method: str, deadline_s: float, ends: float) -> None:
        """Wait for the line and for one of the peer's slots."""
        try:
            async with asyncio.timeout_at(ends):
                await self.room()
                if not await self._slots.take():
                    raise PeerBusy(did=self.did, method=method, detail=f"{OPEN_WAITERS} calls wait already")
        except TimeoutError:
            raise DeadlinePassed(method=method, deadline_s=deadline_s) from None
        self._slots.used()

    def _expire(self, stream: WireStream) -> None:
        if not stream.own:
            self._serving.overdue(stream)
            return
        stream.fail(DeadlinePassed(method=stream.method, deadline_s=stream.deadline_s))
        self.drop(stream)

    # -- what the peer does

    def _on_event(self, event: Event) -> None:
        if isinstance(event, GoingAway):
            self.had_no_room = self.had_no_room or event.code == _NO_ROOM
            self._retire("the other end lets it go", no_room=False)
            return
        if isinstance(event, Opened):
            self._accept(event.stream)
            return
        stream = self._streams.get(event.stream)
        if stream is None:
            if isinstance(event, Dropped):
                self._serving.cancel(event.stream)  # a small call that is not answered yet
        elif isinstance(event, Finished):
            stream.end()
            if stream.abandoned and not self.mux.has(stream.id):
                self._forget(stream)
        elif isinstance(event, Dropped):
            self._on_dropped(stream, refused=event.refused)
        else:
            stream.wake_writer()

    def _on_answered(self, event: Answered) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.take_last(event.data)
            if stream.abandoned:
                self._forget(stream)

    def _on_received(self, event: Received) -> None:
        stream = self._streams.get(event.stream)
        if stream is None:
            self.mux.consumed(event.stream, len(event.data))
            return
        stream.take(event.data)
        if stream.is_nuisance:
            self.mux.reset(stream.id)
            self._forget(stream)

    def _on_dropped(self, stream: WireStream, *, refused: bool) -> None:
        self._forget(stream)
        if refused and self.is_leaving:
            stream.fail(self._not_begun())
        elif refused:
            stream.fail(PeerBusy(did=self.did, method=stream.method, detail="too many requests at once"))
        else:
            stream.fail(StreamBroken(did=self.did, method=stream.method))
        self._serving.cancel(stream.id)

    def _accept(self, number: int) -> None:
        if not self._serving.has_room():
            self.mux.refuse(number)
            return
        stream = self._streams[number] = WireStream(self, number, "?", HEAD_S, own=False)
        self._serving.begin(stream)

    # -- serving.Host

    def take_in(self, number: int, head: RequestHead | None, body: bytes) -> WireStream:
        """A stream for a small call that is not answered at once."""
        stream = self._streams[number] = WireStream(self, number, "?", HEAD_S, own=False)
        stream.head = head
        stream.method = head.method if head is not None else "?"
        stream.take(body)
        stream.end()
        return stream

    def expire_at(self, stream: WireStream, ends: float) -> None:
        """The stream's handler has until then, by the loop's clock."""
        self._deadlines.set(stream, ends)

    def let_go(self, stream: WireStream) -> None:
        """The handler is done: nothing more is read of its stream."""
        if self._streams.get(stream.id) is not stream:
            return
        if self.mux.has(stream.id):
            stream.abandon()
            self.drop(stream)
        else:  # the usual end: all is said and read
            del self._streams[stream.id]

    # -- time

    def _tick(self) -> None:
        now = self._loop.time()
        pulse = self._liveness.check(now)
        if pulse is Pulse.DEAD:
            self._services.count.dead_peers += 1
            self.end("no sign of life for 15 s")
            return
        if self._is_stuck(now):
            self._services.count.stuck_peers += 1
            self.end("the peer asks and does not read", code=_THEIR_FAULT)
            return
        if pulse is Pulse.ASK:
            self._ping()
        if now - self._born > SESSION_LIFE_S:
            self.retire("24 hours old")
        self._sweep(now)
        self.flush()
        if not self.closed.done():
            self._timer = self._loop.call_later(max(0.01, self._liveness.next_check_s(now)), self._tick)

    def _is_stuck(self, now: float) -> bool:
        gone_bytes = self._sent_bytes - self._line.buffered_bytes()
        return self._progress.is_stuck(now, gone_bytes, has_room=self.has_room)

    def _ping(self) -> None:
        self._pings = (self._pings + 1) % 2**32
        self.mux.ping(self._pings)

    def _sweep(self, now: float) -> None:
        """Reset streams that nobody reads any more, as fast as a polite peer may."""
        for stream in [s for s in self._streams.values() if s.abandoned and s.own]:
            if self.mux.may_reset(now):
                self.mux.reset(stream.id)
                self._forget(stream)
