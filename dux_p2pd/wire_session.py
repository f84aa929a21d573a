"""A session over any line that carries bytes: requests, streams, handlers, keep-alive, orderly end.

Promise: at most `limits.executing` handlers run for a peer, cancelled ones counted until they ended; a handler never
outlives its deadline, its stream or the session; every breach of the framing ends the session with one log line. It
does not know whether its line is TLS or memory, nor what a method means.

Source: transport_identity.md §1.5, network.md §2.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import msgspec
from structlog.typing import FilteringBoundLogger

from common.errors import DeadlinePassed, DuxError, Internal
from dux_p2pd.calls import request_head
from dux_p2pd.gate import CallBudget, net_of
from dux_p2pd.liveness import Liveness, Pulse
from dux_p2pd.mux import Dropped, Event, Finished, GoingAway, Mux, Opened, Received
from dux_p2pd.session import Handler, Headers, Peer
from dux_p2pd.stream import WireStream
from dux_p2pd.wire_errors import FramingBroken, MessageTooLong, PeerBusy, SessionClosed, StreamBroken
from dux_p2pd.wire_limits import (
    DRAIN_S,
    HEAD_S,
    MESSAGE_BYTES,
    OPEN_WAITERS,
    REQUEST_S_MAX,
    SESSION_LIFE_S,
    STREAM_S_MAX,
    WRITE_STUCK_BYTES,
    PeerLimits,
)

_IN_ORDER, _THEIR_FAULT = 0, 1  # codes of GOAWAY


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


class Services(msgspec.Struct, frozen=True):
    """What all sessions of a transport share."""

    handler: Handler
    budget: CallBudget
    method_s_max: Mapping[str, float]  # maxima that differ from REQUEST_S_MAX
    spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], asyncio.Task[None]]
    log: FilteringBoundLogger


class WireIncoming:
    """Implements `session.Incoming`."""

    def __init__(self, stream: WireStream, headers: Headers) -> None:
        self.stream, self.headers = stream, headers
        self.method, self.deadline_s = stream.method, stream.deadline_s

    async def body(self, max_bytes: int = MESSAGE_BYTES) -> bytes:
        """The whole request."""
        return await self.stream.read_all(max_bytes)


class WireSession:
    """Implements `session.Session`, and `stream.Carrier` for its streams."""

    def __init__(
        self, *, peer: Peer, mux: Mux, line: Line, peer_streams: int, limits: PeerLimits, services: Services
    ) -> None:
        """`peer_streams` is how many streams the peer lets us open, `limits` what it may hold of ours."""
        self._loop = asyncio.get_running_loop()
        self.peer, self.mux, self.did = peer, mux, peer.did
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.is_leaving = False
        self._line, self._services, self._limits, self._peer_streams = line, services, limits, peer_streams
        self._net = net_of(peer.address[0])
        self._streams: dict[int, WireStream] = {}
        self._handlers: dict[int, asyncio.Task[None]] = {}
        self._executing = 0
        self._openers: deque[asyncio.Future[None]] = deque()
        self._promised_slots = 0
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._retired = False
        now = self._loop.time()
        self._born, self._liveness = now, Liveness(now)
        self._pings = 0
        self._timer = self._loop.call_later(self._liveness.next_check_s(now), self._tick)

    # -- session.Session

    async def request(self, method: str, body: bytes, *, deadline_s: float, headers: Headers = ()) -> bytes:
        """The peer's answer to one message."""
        if len(body) > MESSAGE_BYTES:
            raise MessageTooLong(limit_bytes=MESSAGE_BYTES, found_bytes=len(body))
        deadline_s = min(deadline_s, self._services.method_s_max.get(method, REQUEST_S_MAX))
        message = memoryview(request_head(method, deadline_s, headers) + body)
        try:
            async with asyncio.timeout(deadline_s):
                stream, taken = await self._open(method, message, deadline_s, finish=True)
                try:
                    return await stream.exchange(message[taken:])
                finally:
                    self.drop(stream)
        except TimeoutError:
            raise DeadlinePassed(method=method, deadline_s=deadline_s) from None

    async def open_stream(self, method: str, headers: Headers = (), *, deadline_s: float) -> WireStream:
        """A new stream to the peer's handler of this method."""
        deadline_s = min(deadline_s, STREAM_S_MAX)
        head = memoryview(request_head(method, deadline_s, headers))
        try:
            async with asyncio.timeout(deadline_s):
                stream, _ = await self._open(method, head, deadline_s, finish=False)
        except TimeoutError:
            raise DeadlinePassed(method=method, deadline_s=deadline_s) from None
        self._loop.call_later(deadline_s, self._expire, stream)
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
                self._on_event(event)
        except FramingBroken as error:
            self.breach(error)
            return
        self.flush()

    def set_room(self, *, has_room: bool) -> None:
        """The line's buffer passed its high-water or low-water mark."""
        if has_room:
            self._has_room.set()
        else:
            self._has_room.clear()

    def end(self, reason: str, *, code: int = _IN_ORDER) -> None:
        """Say GOAWAY, close the line, fail whatever waits. Doing it twice is the same as once."""
        if self.closed.done():
            return
        self.closed.set_result(reason)
        self.is_leaving = True
        self._timer.cancel()
        self.mux.go_away(code)
        self._line.send(self.mux.take_output())
        self._line.close()
        error = SessionClosed(did=self.did, reason=reason)
        for stream in list(self._streams.values()):
            stream.fail(error)
        self._streams.clear()
        for task in self._handlers.values():
            task.cancel()
        self._wake_openers()
        self._has_room.set()

    def retire(self, reason: str) -> None:
        """Take no new streams, let those under way end within 30 s, then close."""
        if self._retired or self.closed.done():
            return
        self._retired = self.is_leaving = True
        self.mux.go_away(_IN_ORDER)
        self._loop.call_later(DRAIN_S, self.end, reason)
        self.flush()

    def is_suspect(self) -> bool:
        """Whether the peer has not answered a ping for some seconds."""
        return self._liveness.is_suspect(self._loop.time())

    # -- stream.Carrier

    def flush(self) -> None:
        """Send what the mux has ready, and let go of what has ended."""
        output = self.mux.take_output()
        if output:
            self._line.send(output)
        if self._line.buffered_bytes() > WRITE_STUCK_BYTES:
            self.end("the peer asks and does not read", code=_THEIR_FAULT)
        elif self._retired and not self.mux.open_streams:
            self.end("replaced or aged, and drained")
        else:
            self._wake_openers()

    async def room(self) -> None:
        """Wait while the line's buffer is above its high-water mark."""
        await self._has_room.wait()

    def drop(self, stream: WireStream) -> None:
        """Reset the stream and forget it; where that would look like rapid reset, let a whole request run out."""
        if self.mux.has(stream.id) and not self.closed.done():
            lazily = stream.own and stream.has_said_all and not self.mux.may_reset(self._loop.time())
            if lazily:
                stream.abandon()
                return
            self.mux.reset(stream.id)
        self._streams.pop(stream.id, None)
        self.flush()

    def breach(self, error: FramingBroken) -> None:
        """The peer broke a rule: end the session."""
        self._services.log.warning("peer broke the framing", did=self.did, reason=error.message)
        self.end(error.message, code=_THEIR_FAULT)

    # -- opening

    async def _open(self, method: str, first: memoryview, deadline_s: float, *, finish: bool) -> tuple[WireStream, int]:
        """A stream of ours with its first bytes, and how many of them fitted."""
        await self.room()
        await self._slot(method)
        self._promised_slots -= 1
        if not self.mux.can_open or self.closed.done():
            raise SessionClosed(did=self.did, reason="it is going away")
        number, taken = self.mux.open(first, finish=finish)
        stream = self._streams[number] = WireStream(self, number, method, deadline_s, own=True)
        if finish and taken == len(first):
            stream.said_all()
        self.flush()
        return stream, taken

    async def _slot(self, method: str) -> None:
        """Wait until the peer lets us open one more stream; the slot is promised to us."""
        if not self._openers and self._has_slot():
            self._promised_slots += 1
            return
        if len(self._openers) >= OPEN_WAITERS:
            raise PeerBusy(did=self.did, method=method, detail=f"{OPEN_WAITERS} calls wait already")
        opener = self._loop.create_future()
        self._openers.append(opener)
        try:
            await opener
        except asyncio.CancelledError:
            self._give_up(opener)
            raise

    def _give_up(self, opener: asyncio.Future[None]) -> None:
        if opener in self._openers:
            self._openers.remove(opener)
        elif opener.done() and not opener.cancelled():
            self._promised_slots -= 1
            self._wake_openers()

    def _has_slot(self) -> bool:
        return self.mux.own_streams + self._promised_slots < self._peer_streams

    def _wake_openers(self) -> None:
        while self._openers and (self._has_slot() or not self.mux.can_open):
            opener = self._openers.popleft()
            if not opener.done():
                self._promised_slots += 1
                opener.set_result(None)

    def _expire(self, stream: WireStream) -> None:
        if self._streams.get(stream.id) is stream:
            stream.fail(DeadlinePassed(method=stream.method, deadline_s=stream.deadline_s))
            self.drop(stream)

    # -- what the peer does

    def _on_event(self, event: Event) -> None:
        if isinstance(event, GoingAway):
            self.is_leaving = True
            return
        if isinstance(event, Opened):
            self._accept(event.stream)
            return
        stream = self._streams.get(event.stream)
        if isinstance(event, Received):
            self._on_received(event, stream)
        elif stream is None:
            return
        elif isinstance(event, Finished):
            stream.end()
            if stream.abandoned and not self.mux.has(stream.id):
                del self._streams[stream.id]
        elif isinstance(event, Dropped):
            self._on_dropped(stream, refused=event.refused)
        else:
            stream.wake_writer()

    def _on_received(self, event: Received, stream: WireStream | None) -> None:
        if stream is None:
            self.mux.consumed(event.stream, len(event.data))
            return
        stream.take(event.data)
        if stream.is_nuisance:
            self.mux.reset(stream.id)
            del self._streams[stream.id]

    def _on_dropped(self, stream: WireStream, *, refused: bool) -> None:
        del self._streams[stream.id]
        if refused and self.is_leaving:
            stream.fail(SessionClosed(did=self.did, reason="it is going away"))
        elif refused:
            stream.fail(PeerBusy(did=self.did, method=stream.method, detail="too many requests at once"))
        else:
            stream.fail(StreamBroken(did=self.did, method=stream.method))
        task = self._handlers.get(stream.id)
        if task is not None:
            task.cancel()

    def _accept(self, number: int) -> None:
        if self._executing >= self._limits.executing:
            self.mux.refuse(number)
            return
        self._executing += 1
        stream = self._streams[number] = WireStream(self, number, "?", HEAD_S, own=False)
        task = self._handlers[number] = self._services.spawn(lambda: self._serve(stream))
        task.add_done_callback(lambda _: self._served(stream))

    async def _serve(self, stream: WireStream) -> None:
        """Run the handler of one incoming stream; whatever it raises becomes the answer's error."""
        try:
            await self._answer(stream)
        except DuxError as error:
            stream.answer_error(error)
        except TimeoutError:
            stream.answer_error(DeadlinePassed(method=stream.method, deadline_s=stream.deadline_s))
        except Exception:
            self._services.log.exception("peer call failed", did=self.did, method=stream.method)
            stream.answer_error(Internal(call_id="-"))

    async def _answer(self, stream: WireStream) -> None:
        async with asyncio.timeout(HEAD_S):
            head = await stream.read_request_head()
        now, known = self._loop.time(), self.peer.known
        if not self._services.budget.admit(self.did, self._net, head.method, now, known=known):
            raise PeerBusy(did="this node", method=head.method, detail="too many calls in a short time")
        longest_s = self._services.method_s_max.get(head.method, REQUEST_S_MAX)
        stream.deadline_s = min(head.deadline_ms / 1000, longest_s)
        async with asyncio.timeout(stream.deadline_s):
            answer = await self._services.handler(self, WireIncoming(stream, head.headers))
            if answer is None:
                await stream.close()
            elif len(answer) > MESSAGE_BYTES:
                raise MessageTooLong(limit_bytes=MESSAGE_BYTES, found_bytes=len(answer))
            else:
                await stream.finish_with(answer)

    def _served(self, stream: WireStream) -> None:
        """The handler has ended, even if it never began: its slot is free, nothing more is read of its stream."""
        self._executing -= 1
        self._handlers.pop(stream.id, None)
        if self._streams.get(stream.id) is stream:
            stream.abandon()
            self.drop(stream)

    # -- time

    def _tick(self) -> None:
        now = self._loop.time()
        pulse = self._liveness.check(now)
        if pulse is Pulse.DEAD:
            self.end("no sign of life for 15 s")
            return
        if pulse is Pulse.ASK:
            self._pings = (self._pings + 1) % 2**32
            self.mux.ping(self._pings)
        if now - self._born > SESSION_LIFE_S:
            self.retire("24 hours old")
        self._sweep(now)
        self.flush()
        if not self.closed.done():
            self._timer = self._loop.call_later(max(0.01, self._liveness.next_check_s(now)), self._tick)

    def _sweep(self, now: float) -> None:
        """Reset streams that nobody reads any more, as fast as a polite peer may."""
        for stream in [s for s in self._streams.values() if s.abandoned and s.own]:
            if self.mux.may_reset(now):
                self.mux.reset(stream.id)
                del self._streams[stream.id]
