"""The streams that a peer opens: one handler each, within its slot, its deadline and the peer's budget.

Promise: at most `limits.executing` handlers run for a peer, cancelled ones counted until they ended; a handler never
outlives its deadline, its stream or the session; whatever it raises becomes the answer's error, and only a DuxError's
text leaves the node.

Source: transport_identity.md §1.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import msgspec
from structlog.typing import FilteringBoundLogger

from common.errors import DeadlinePassed, DuxError, Internal
from common.nets import net_of
from common.units import Did
from dux_p2pd.calls import RequestHead, answer_error, answer_ok, head_in
from dux_p2pd.gate import CallBudget
from dux_p2pd.session import Handler, Headers, Prompt, Session
from dux_p2pd.stream import Carrier, WireStream
from dux_p2pd.wire_counts import WireCounts
from dux_p2pd.wire_errors import FramingBroken, MessageTooLong, PeerBusy
from dux_p2pd.wire_limits import HEAD_S, MESSAGE_BYTES, REQUEST_S_MAX, WRITE_SLICE_BYTES, PeerLimits

_OK = answer_ok()


class Services(msgspec.Struct, frozen=True):
    """What all sessions of a transport share."""

    handler: Handler
    prompt: Callable[[str], Prompt | None]
    budget: CallBudget
    method_s_max: Mapping[str, float]  # maxima that differ from REQUEST_S_MAX
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    log: FilteringBoundLogger
    count: WireCounts
    breached: Callable[[Did, str], None]  # told of every peer that broke the framing

    def longest_s(self, method: str) -> float:
        """The longest that a call of this method may take."""
        return self.method_s_max.get(method, REQUEST_S_MAX)


class WireIncoming:
    """Implements `session.Incoming`."""

    def __init__(self, stream: WireStream, headers: Headers) -> None:
        self.stream, self.headers = stream, headers
        self.method, self.deadline_s = stream.method, stream.deadline_s

    async def body(self, max_bytes: int = MESSAGE_BYTES) -> bytes:
        """The whole request."""
        return await self.stream.read_all(max_bytes)


class Host(Session, Carrier, Protocol):
    """What the handlers need of their session."""

    def take_in(self, number: int, head: RequestHead | None, body: bytes) -> WireStream:
        """A stream for a small call that is not answered at once."""
        ...

    def expire_at(self, stream: WireStream, ends: float) -> None:
        """The stream's handler has until then, by the loop's clock."""
        ...

    def let_go(self, stream: WireStream) -> None:
        """The handler has ended, even if it never began."""
        ...


class Serving:
    """The handlers of one session."""

    def __init__(self, session: Host, services: Services, limits: PeerLimits) -> None:
        self._session, self._services, self._limits = session, services, limits
        self._loop = asyncio.get_running_loop()
        self._net = net_of(session.peer.address[0])
        self._fresh: dict[int, bytes] = {}  # small calls that came within the bytes that are being read
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.executing = 0

    def has_room(self) -> bool:
        """Whether one more handler may run."""
        return self.executing < self._limits.executing

    def begin(self, stream: WireStream) -> None:
        """The peer opened a stream: it gets a task."""
        self.executing += 1
        self._spawn(stream, self._serve(stream))

    def take(self, number: int, message: bytes) -> None:
        """A small call came, whole; `go_on` follows when all that came with it is here."""
        if self.has_room():
            self.executing += 1
            self._fresh[number] = message
        else:
            self._session.mux.refuse(number)

    def go_on(self) -> None:
        """Answer at once what needs no waiting; every other call gets a task."""
        while self._fresh:
            number = next(iter(self._fresh))
            message = self._fresh.pop(number)
            try:
                found = head_in(message, RequestHead)
            except FramingBroken as error:
                self._session.breach(error)
                return
            head, at = found or (None, 0)
            prompt = self._services.prompt(head.method) if head is not None else None
            if head is None or prompt is None:
                self._session.mux.consumed(number, at)
                stream = self._session.take_in(number, head, message[at:])
                self._spawn(stream, self._serve(stream))
            else:
                self._answer_at_once(number, head, message, at, prompt)

    def _answer_at_once(self, number: int, head: RequestHead, message: bytes, at: int, prompt: Prompt) -> None:
        """`at` is where the body begins."""
        session, mux = self._session, self._session.mux
        answer: bytes | None = None
        try:
            self._pay(head.method)
            answer = _checked(prompt(session, message[at:]))
        except Exception as error:  # noqa: BLE001 - whatever a peer makes a handler do becomes its answer
            whole = answer_error(self._told(error, head.method, head.deadline_ms / 1000))
        else:
            whole = _OK + answer
        if session.closed.done():
            return  # by what the handler did
        if answer is not None and (not session.has_room or mux.credit(number) < len(whole)):
            mux.consumed(number, len(message))
            stream = session.take_in(number, head, b"")
            self._spawn(stream, self._finish(stream, answer))
            return
        self.executing -= 1
        mux.answer(number, whole)
        if mux.output_bytes >= WRITE_SLICE_BYTES:
            session.flush()

    def _spawn(self, stream: WireStream, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[stream.id] = self._services.spawn(work)
        task.add_done_callback(lambda _: self._ended(stream))

    def cancel(self, number: int) -> None:
        """The peer dropped this stream; the slot is free when the handler has ended."""
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()
        elif self._fresh.pop(number, None) is not None:
            self.executing -= 1

    def cancel_all(self) -> None:
        """The session is over."""
        self._fresh.clear()
        for task in self._tasks.values():
            task.cancel()

    def _ended(self, stream: WireStream) -> None:
        """Once per handler: at its own end, or after it where it was cancelled before it began."""
        if self._tasks.pop(stream.id, None) is not None:
            self.executing -= 1
            self._session.let_go(stream)

    async def _serve(self, stream: WireStream) -> None:
        """The slot is free in the step that sends the answer's last byte: the peer may use it at once."""
        try:
            try:
                await self._answer(stream)
            except Exception as error:  # noqa: BLE001 - as below
                self._fail(stream, error)
        except Exception:  # no peer can end the transport's task group, whatever it makes a handler do
            self._services.log.exception("a stream's task failed", did=self._session.peer.did)
        finally:
            self._ended(stream)

    def _fail(self, stream: WireStream, error: Exception) -> None:
        """The error is the answer."""
        stream.answer_error(self._told(error, stream.method, stream.deadline_s))

    def _told(self, error: Exception, method: str, deadline_s: float) -> DuxError:
        """What the peer learns of it."""
        if isinstance(error, DuxError):
            return error
        if isinstance(error, TimeoutError):
            return DeadlinePassed(method=method, deadline_s=deadline_s)
        self._services.log.error("peer call failed", did=self._session.peer.did, method=method, exc_info=error)
        return Internal(call_id="-")

    async def _answer(self, stream: WireStream) -> None:
        head = stream.head or stream.head_at_hand()
        if head is None:
            async with asyncio.timeout(HEAD_S):
                head = await stream.read_request_head()
        self._pay(head.method)
        self._limit(stream, head)
        answer = await self._services.handler(self._session, WireIncoming(stream, head.headers))
        if answer is None:
            await stream.close()
        else:
            await stream.finish_with(_checked(answer))

    def _limit(self, stream: WireStream, head: RequestHead) -> None:
        stream.deadline_s = min(head.deadline_ms / 1000, self._services.longest_s(head.method))
        self._session.expire_at(stream, self._loop.time() + stream.deadline_s)

    async def _finish(self, stream: WireStream, answer: bytes) -> None:
        """An answer that was ready at once, and for which the line or the credit had no room."""
        if stream.head is not None:
            self._limit(stream, stream.head)
        try:
            await stream.finish_with(answer)
        except DuxError as error:
            stream.answer_error(error)
        finally:
            self._ended(stream)

    def overdue(self, stream: WireStream) -> None:
        """The caller hears of it at once; the slot is free when the handler has ended."""
        stream.answer_error(DeadlinePassed(method=stream.method, deadline_s=stream.deadline_s))
        self.cancel(stream.id)

    def _pay(self, method: str) -> None:
        """Take the call's cost from the peer's budget.

        Raises:
            PeerBusy: it is used up.
        """
        peer, now = self._session.peer, self._loop.time()
        if not self._services.budget.admit(peer.did, self._net, method, now, known=peer.known):
            self._services.count.calls_refused += 1
            raise PeerBusy(did="this node", method=method, detail="too many calls in a short time")


def _checked(answer: bytes) -> bytes:
    """The answer, when it fits one message.

    Raises:
        MessageTooLong: it does not.
    """
    if len(answer) > MESSAGE_BYTES:
        raise MessageTooLong(limit_bytes=MESSAGE_BYTES, found_bytes=len(answer))
    return answer
