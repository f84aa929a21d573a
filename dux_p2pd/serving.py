"""The streams that a peer opens: one handler each, within its slot, its deadline and the peer's budget.

Promise: at most `limits.executing` handlers run for a peer, cancelled ones counted until they ended; a handler never
outlives its deadline, its stream or the session; whatever it raises becomes the answer's error, and only a DuxError's
text leaves the node.

Source: transport_identity.md §1.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from common.errors import DeadlinePassed, DuxError, Internal
from common.nets import net_of
from common.units import Did
from dux_p2pd.calls import RequestHead
from dux_p2pd.gate import CallBudget
from dux_p2pd.session import Handler, Headers, Prompt, Session
from dux_p2pd.stream import WireStream
from dux_p2pd.wire_counts import WireCounts
from dux_p2pd.wire_errors import FramingBroken, MessageTooLong, PeerBusy
from dux_p2pd.wire_limits import HEAD_S, MESSAGE_BYTES, REQUEST_S_MAX, PeerLimits


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


class Serving:
    """The handlers of one session."""

    def __init__(
        self, session: Session, services: Services, limits: PeerLimits, done: Callable[[WireStream], None]
    ) -> None:
        """`done` is told of each stream whose handler has ended, even if it never began."""
        self._session, self._services, self._limits, self._done = session, services, limits, done
        self._loop = asyncio.get_running_loop()
        self._net = net_of(session.peer.address[0])
        self._fresh: dict[int, WireStream] = {}  # opened within the bytes that are being read
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.executing = 0

    def has_room(self) -> bool:
        """Whether one more handler may run."""
        return self.executing < self._limits.executing

    def begin(self, stream: WireStream) -> None:
        """The peer opened a stream; `go_on` follows when all that came with it is here."""
        self.executing += 1
        self._fresh[stream.id] = stream

    def go_on(self) -> None:
        """Answer at once what came whole and needs no waiting; every other stream gets a task."""
        while self._fresh:
            stream = self._fresh.pop(next(iter(self._fresh)))
            try:
                prompt = self._prompt_for(stream)
            except FramingBroken:
                return  # the session has ended by that
            if prompt is None:
                self._spawn(stream, self._serve(stream))
            else:
                self._answer_at_once(stream, prompt)

    def _prompt_for(self, stream: WireStream) -> Prompt | None:
        stream.head = stream.head_at_hand() if stream.is_whole else None
        return None if stream.head is None else self._services.prompt(stream.head.method)

    def _answer_at_once(self, stream: WireStream, prompt: Prompt) -> None:
        try:
            self._pay(stream.method)
            answer = _checked(prompt(self._session, stream.take_all()))
            if not stream.finish_now(answer):
                self._spawn(stream, self._finish(stream, answer))
                return
        except Exception as error:  # noqa: BLE001 - whatever a peer makes a handler do becomes its answer
            self._fail(stream, error)
        self.executing -= 1
        self._done(stream)

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
            self._done(stream)

    async def _serve(self, stream: WireStream) -> None:
        """The slot is free in the step that sends the answer's last byte: the peer may use it at once."""
        try:
            await self._answered(stream)
        except Exception:  # no peer can end the transport's task group, whatever it makes a handler do
            self._services.log.exception("a stream's task failed", did=self._session.peer.did)
        finally:
            self._ended(stream)

    async def _answered(self, stream: WireStream) -> None:
        try:
            await self._answer(stream)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(stream, error)

    def _fail(self, stream: WireStream, error: Exception) -> None:
        """The error is the answer."""
        if isinstance(error, DuxError):
            stream.answer_error(error)
        elif isinstance(error, TimeoutError):
            stream.answer_error(DeadlinePassed(method=stream.method, deadline_s=stream.deadline_s))
        else:
            did = self._session.peer.did
            self._services.log.error("peer call failed", did=did, method=stream.method, exc_info=error)
            stream.answer_error(Internal(call_id="-"))

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
        stream.timer = self._loop.call_later(stream.deadline_s, self._overdue, stream)

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

    def _overdue(self, stream: WireStream) -> None:
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
