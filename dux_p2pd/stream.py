"""One stream as the overlay uses it: reading, writing, ending, with waiting in between.

Promise: a reader that does not read stops the sender at its credit; every wait ends with data, the end, or an error of
wire_errors. All state of the connection is in mux; here is only what waits.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Protocol, TypeVar

from common.errors import DeadlinePassed, DuxError
from common.units import Did
from dux_p2pd.calls import AnswerHead, RequestHead, answer_error, answer_ok, head_in
from dux_p2pd.mux import Mux
from dux_p2pd.wire_errors import AnswerTooLong, FramingBroken, PeerAnswered, PeerBusy, StreamBroken
from dux_p2pd.wire_limits import MESSAGE_BYTES, WRITE_SLICE_BYTES

H = TypeVar("H", RequestHead, AnswerHead)

_OK = answer_ok()


class Carrier(Protocol):
    """What a stream needs of its session."""

    @property
    def mux(self) -> Mux:
        """The connection's state."""
        ...

    @property
    def did(self) -> Did:
        """Who is at the other end."""
        ...

    def flush(self) -> None:
        """Send what the mux has ready."""
        ...

    has_room: bool  # the socket's buffer is below its high-water mark

    async def room(self) -> None:
        """Wait while the socket's buffer is above its high-water mark."""
        ...

    def drop(self, stream: WireStream) -> None:
        """Reset the stream and forget it."""
        ...

    def breach(self, error: FramingBroken) -> None:
        """The peer broke a rule: end the session."""
        ...


class WireStream:
    """A stream that we opened (`own`) or accepted; implements `session.Stream`."""

    # what every stream begins with; most small calls end with it, too
    head: RequestHead | None = None  # of an accepted stream, where it was read before its handler began
    abandoned = False  # nobody reads any more; what still comes is dropped
    ends = inf  # the loop's time at which it is overdue; set through `Deadlines`
    _size_bytes = 0  # unread, over all chunks
    _at = 0  # so much of the first chunk is read
    _dropped_bytes = 0
    _ended = _closed = False
    _head_done = False  # of the answer: sent (accepted stream) or read (own stream)
    _error: DuxError | None = None
    _reader: asyncio.Future[None] | None = None  # one may read and one may write at a time
    _writer: asyncio.Future[None] | None = None

    def __init__(self, carrier: Carrier, stream: int, method: str, deadline_s: float, *, own: bool) -> None:
        self.id, self.method, self.deadline_s, self.own = stream, method, deadline_s, own
        self._carrier = carrier
        self._chunks: list[bytes] = []

    # -- called by the session, in the order of the frames

    def take(self, data: bytes) -> None:
        """Bytes came."""
        if self.abandoned:
            self._carrier.mux.consumed(self.id, len(data))
            self._dropped_bytes += len(data)
            return
        self._chunks.append(data)
        self._size_bytes += len(data)
        _wake(self._reader)

    def take_last(self, data: bytes) -> None:
        """The last bytes came, and count as read: the mux has let go of them."""
        if not self.abandoned:
            self._chunks.append(data)
            self._size_bytes += len(data)
        self.end()

    def end(self) -> None:
        """The peer sends no more."""
        self._ended = True
        _wake(self._reader)

    def fail(self, error: DuxError) -> None:
        """The stream is broken; a whole answer that came before stays readable."""
        if self._error is None:
            self._error = error
        if not self._ended:
            self._clear()
        _wake(self._reader)
        _wake(self._writer)

    def wake_writer(self) -> None:
        """Credit came."""
        _wake(self._writer)

    @property
    def has_said_all(self) -> bool:
        """Whether our half is ended, so that the peer holds a whole message of ours."""
        return self._closed

    @property
    def is_nuisance(self) -> bool:
        """Whether the peer sends on and on although nobody reads."""
        return self._dropped_bytes > MESSAGE_BYTES

    # -- session.Stream

    async def read(self, max_bytes: int) -> bytes:
        """The next bytes, at least one; b"" at the end."""
        if self.own and not self._head_done:
            await self._read_answer_head()
        while not self._size_bytes and not self._ended:
            await self._more()
        return self._taken(max_bytes)

    async def read_all(self, max_bytes: int = MESSAGE_BYTES) -> bytes:
        """Everything up to the end, at most so many bytes."""
        left = limit = min(max_bytes, MESSAGE_BYTES)
        if self._ended and not self.own and self._size_bytes <= limit:  # a small call: it came whole
            return self._taken(limit)
        chunks = []
        while chunk := await self.read(limit + 1):
            chunks.append(chunk)
            left -= len(chunk)
            if left < 0:
                self._refuse_rest()
                raise AnswerTooLong(did=self._carrier.did, limit_bytes=limit)
            if self._ended and not self._size_bytes:
                break
        return b"".join(chunks)

    async def write(self, data: bytes) -> None:
        """Hand over bytes, waiting for credit and socket."""
        await self._write(memoryview(bytes(self._with_head(data))), finish=False)  # the caller's buffer may change

    async def close(self) -> None:
        """End our half."""
        if not self._closed:
            await self._write(memoryview(self._with_head(b"")), finish=True)

    def reset(self) -> None:
        """Drop both halves at once."""
        self.fail(StreamBroken(did=self._carrier.did, method=self.method))
        self._carrier.drop(self)

    # -- called by the session's own coroutines

    async def read_request_head(self) -> RequestHead:
        """What the peer wants.

        Raises:
            StreamBroken: it ended or broke off before saying it.
        """
        while (head := self.head_at_hand()) is None:
            if self._ended:
                raise StreamBroken(did=self._carrier.did, method="?")
            await self._more()
        return head

    def head_at_hand(self) -> RequestHead | None:
        """What the peer wants, if it has said so."""
        head = self._split(RequestHead)
        if head is not None:
            self.method = head.method
        return head

    async def finish_with(self, data: bytes | memoryview) -> None:
        """Write the rest and end our half, in as few frames as possible."""
        whole, carrier = self._with_head(data), self._carrier
        must_wait = not carrier.has_room or carrier.mux.credit(self.id) < len(whole)
        if must_wait or self._closed or self._error is not None:
            await self._write(memoryview(whole), finish=True)
        else:
            self._closed = True
            carrier.mux.send(self.id, whole, finish=True)
            carrier.flush()

    async def answer(self) -> bytes:
        """The whole answer to a request that has left."""
        if not self._ended and self._error is None:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if self._ended and len(self._chunks) == 1 and not self._carrier.mux.has(self.id):  # it came in one piece
            whole = self._chunks[0]
            if whole.startswith(_OK):
                return whole[len(_OK) :]
        return await self.read_all()

    async def exchange(self, rest: memoryview) -> bytes:
        """Send the rest of a request and give the whole answer; an answer that came early counts."""
        try:
            async with asyncio.timeout_at(self.ends):  # the line may have no room for long
                await self._write(rest, finish=True)
        except StreamBroken:
            if not self._ended:
                raise
        except TimeoutError:
            raise DeadlinePassed(method=self.method, deadline_s=self.deadline_s) from None
        return await self.read_all()

    def said_all(self) -> None:
        """The opening frame held everything, FIN included."""
        self._closed = True

    def answer_error(self, error: DuxError) -> None:
        """Answer with an error if nothing was answered yet, else break the stream off. Never waits."""
        data = answer_error(error)
        if self._head_done or self._error is not None or self._carrier.mux.credit(self.id) < len(data):
            self.reset()
            return
        self._head_done = self._closed = True
        self._carrier.mux.send(self.id, data, finish=True)
        self._carrier.flush()

    def abandon(self) -> None:
        """Nobody reads any more: drop what is here and what comes."""
        self.abandoned = True
        self._carrier.mux.consumed(self.id, self._size_bytes)
        self._clear()

    # -- inside

    def _refuse_rest(self) -> None:
        """Too much came: an answer is reset; a request is still answered, with the reason."""
        if self.own:
            self.reset()
        else:
            self.abandon()

    def _with_head(self, data: bytes | memoryview) -> bytes | memoryview:
        if self.own or self._head_done:
            return data
        self._head_done = True
        return answer_ok() + data

    async def _write(self, view: memoryview, *, finish: bool) -> None:
        while view or finish:
            if not self._carrier.has_room:
                await self._carrier.room()
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StreamBroken(did=self._carrier.did, method=self.method)
            part, last = view[:WRITE_SLICE_BYTES], len(view) <= WRITE_SLICE_BYTES
            taken = self._carrier.mux.send(self.id, part, finish=finish and last)
            view = view[taken:]
            self._carrier.flush()
            if not view:
                self._closed = finish
                return
            if taken < len(part):
                self._writer = asyncio.get_running_loop().create_future()
                await self._writer

    async def _read_answer_head(self) -> None:
        while (head := self._split(AnswerHead)) is None:
            if self._ended:
                raise StreamBroken(did=self._carrier.did, method=self.method)
            await self._more()
        self._head_done = True
        if head.code:
            self.abandon()
            raise self._answered(head)

    def _answered(self, head: AnswerHead) -> DuxError:
        did, method = self._carrier.did, self.method
        if head.code == PeerBusy.code:
            return PeerBusy(did=did, method=method, detail=head.detail)
        if head.code == DeadlinePassed.code:
            return DeadlinePassed(method=method, deadline_s=self.deadline_s)
        return PeerAnswered(
            did=did, method=method, peer_code=head.code, peer_key=head.key, detail=head.detail, retry=head.retry
        )

    def _split(self, kind: type[H]) -> H | None:
        """The head, once it is whole; a head that cannot be meant ends the session."""
        data = b"".join(self._chunks)  # nothing of it is read yet, and it is short
        self._chunks = [data]
        try:
            found = head_in(data, kind)
        except FramingBroken as error:
            self._carrier.breach(error)
            raise
        if found is None:
            return None
        head, end = found
        self._at, self._size_bytes = end, len(data) - end
        self._carrier.mux.consumed(self.id, end)
        return head

    async def _more(self) -> None:
        """Wait for anything to happen.

        Raises:
            the stream's error, once there is nothing left to read.
        """
        if self._error is not None:
            raise self._error
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader

    def _taken(self, max_bytes: int) -> bytes:
        """At most so many of the bytes that are here, as whole chunks where that is possible."""
        if self._size_bytes <= max_bytes:
            data = b"".join(self._chunks)[self._at :]
            self._clear()
        else:
            data = self._first(max_bytes)
            self._size_bytes -= len(data)
        if data and self._carrier.mux.consumed(self.id, len(data)):
            self._carrier.flush()
        return data

    def _first(self, max_bytes: int) -> bytes:
        """Of more than that."""
        chunks, count, size = self._chunks, 0, -self._at
        while count < len(chunks) and size + len(chunks[count]) <= max_bytes:
            size += len(chunks[count])
            count += 1
        if count:
            data, self._chunks = b"".join(chunks[:count])[self._at :], chunks[count:]
            self._at = 0
        else:
            data = chunks[0][self._at : self._at + max_bytes]
            self._at += len(data)
        return data

    def _clear(self) -> None:
        self._chunks = []
        self._size_bytes = self._at = 0


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
