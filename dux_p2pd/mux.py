"""Many streams on one connection, without I/O: bytes and times in, events and bytes out.

Theory: either end opens streams (the dialler odd ids, the other even ones, each the next in order). Both directions
of a stream have credit, 16 KiB at first; the sender never sends beyond it, and beyond the initial windows the receiver
grants only to streams that are being read, out of one purse per connection. A stream is gone when both ends said FIN
and everything was read, or when either said RST. A reset of a stream that the acceptor never acknowledged means "not
executed". An event that breaks a rule raises `FramingBroken`, and the connection is to be closed.

Promise: bytes held unread never exceed streams x 16 KiB + the purse, whatever the peer sends; a peer that floods with
cheap frames (resets, pings, tiny frames, data for dropped streams) is told off by name. Knows no methods, no tasks, no
clock.

Source: transport_identity.md §1.5; the yamux specification.
"""

from __future__ import annotations

from collections.abc import Iterator

from dux_p2pd.flow import Flow, Purse
from dux_p2pd.frames import (
    ACK,
    CREDIT,
    DATA,
    FIN,
    GO_AWAY,
    HEADER_BYTES,
    PING,
    RST,
    SYN,
    Frame,
    FrameReader,
    encode,
    header,
)
from dux_p2pd.meters import SpanMeter
from dux_p2pd.mux_events import Answered, Asked, Dropped, Event, Finished, GoingAway, Opened, Received, Writable
from dux_p2pd.wire_errors import FramingBroken
from dux_p2pd.wire_limits import (
    FRAME_BYTES,
    PETTY_CREDIT_BYTES,
    PETTY_DATA_BYTES,
    PETTY_FRAMES_PER_SPAN,
    PINGS_PER_SPAN,
    RESETS_PER_SPAN,
    SPAN_S,
    WINDOW_BYTES,
    PeerLimits,
)

_LAST_ID = 2**32 - 3
_CALL, _ANSWER = SYN | FIN, ACK | FIN  # the flags of a small call's two frames


class Mux:
    """One end's view of all streams of a connection."""

    def __init__(self, *, dialler: bool, limits: PeerLimits, frame_bytes: int = FRAME_BYTES) -> None:
        """A fresh connection; `limits` are what the peer may hold of ours, `frame_bytes` the longest DATA it takes."""
        self._limits = limits
        self._frame_bytes = min(frame_bytes, FRAME_BYTES)
        self._next_own = 1 if dialler else 2
        self._next_peer = 2 if dialler else 1
        self._flows: dict[int, Flow] = {}
        self.own_streams = 0  # of them, those that we opened
        self._purse = Purse(limits.credit_bytes)
        self._reader = FrameReader()
        self._output: list[bytes | memoryview] = []
        self.output_bytes = 0  # ready for the connection
        self._pings = SpanMeter(PINGS_PER_SPAN, SPAN_S)
        self._resets = SpanMeter(RESETS_PER_SPAN, SPAN_S)
        self._petty = SpanMeter(PETTY_FRAMES_PER_SPAN, SPAN_S)
        self._sent_resets = SpanMeter(RESETS_PER_SPAN // 2, SPAN_S)
        self._stray_bytes_left = 0  # what may still be under way on streams that we dropped
        self._said_goodbye = self._heard_goodbye = False

    # -- what the owner asks for

    def open(self, data: bytes | memoryview, *, finish: bool) -> tuple[int, int]:
        """A new stream with its first bytes: its id, and how many of them fitted its credit."""
        stream = self._next_own
        self._next_own += 2
        self._flows[stream] = Flow(own=True, hello_flag=SYN)
        self.own_streams += 1
        return stream, self.send(stream, data, finish=finish)

    def send(self, stream: int, data: bytes | memoryview, *, finish: bool) -> int:
        """Send what fits the credit and say how much that was; FIN goes with the last byte if all of it fitted."""
        flow = self._flows[stream]
        taken = min(flow.send_window, len(data))
        finish = finish and taken == len(data)
        flow.send_window -= taken
        at = 0
        while at < taken or finish or flow.hello_flag:
            end = min(at + self._frame_bytes, taken)
            last = FIN if finish and end == taken else 0
            self._output += header(DATA, flow.hello_flag | last, stream, end - at), data[at:end]
            self.output_bytes += HEADER_BYTES + end - at
            flow.hello_flag = 0
            at = end
            if at == taken:
                break
        if finish:
            flow.sent_fin = True
            self._forget_if_done(stream, flow)
        return taken

    def answer(self, stream: int, data: bytes) -> None:
        """The whole answer to a small call of which all is read; it fits the credit."""
        self._flows[stream].unread = 0
        self.send(stream, data, finish=True)

    def credit(self, stream: int) -> int:
        """Bytes that may be sent on the stream now."""
        flow = self._flows.get(stream)
        return flow.send_window if flow else 0

    def consumed(self, stream: int, count: int) -> bool:
        """The owner has read so many bytes: the peer gets credit for them once it is worth a frame.

        Whether that led to anything: a frame to send, or the end of the stream.
        """
        flow = self._flows.get(stream)
        if flow is None:
            return False
        grant = flow.consumed(count, self._purse)
        if grant:
            self._say(encode(CREDIT, flow.take_hello_flag(), stream, grant))
        return self._forget_if_done(stream, flow) or grant > 0

    def reset(self, stream: int) -> None:
        """Drop the stream, whatever its state; nothing happens to one that is gone."""
        flow = self._flows.get(stream)
        if flow is None:
            return
        if not (flow.sent_fin and flow.got_fin):
            self._drop(stream, flow, RST | (flow.hello_flag & ACK))
        self._forget(stream, flow)

    def refuse(self, stream: int) -> None:
        """Reset a stream that the peer opened, saying that nothing was executed."""
        flow = self._flows.get(stream)
        if flow is not None:
            self._drop(stream, flow, RST)
            self._forget(stream, flow)

    def may_reset(self, now: float) -> bool:
        """Whether another reset keeps well below the rate at which the peer would hang up; counts it."""
        return not self._sent_resets.over(1, now)

    def ping(self, number: int) -> None:
        """Ask for a sign of life."""
        self._say(encode(PING, SYN, 0, number))

    def go_away(self, code: int) -> None:
        """Open no new streams from now on, nor take any once the peer has answered with a GOAWAY of its own.

        What it opened before it heard of ours is served: nobody's call is lost because the two crossed.
        0 in order, 1 the peer broke the rules, 2 our own fault, 3 no room for it.
        """
        self._said_goodbye = True
        self._say(encode(GO_AWAY, 0, 0, code))

    def take_output(self) -> bytes:
        """All bytes for the connection since the last time."""
        output = b"".join(self._output)
        self._output.clear()
        self.output_bytes = 0
        return output

    @property
    def open_streams(self) -> int:
        """Streams of both sides that are not gone."""
        return len(self._flows)

    def has(self, stream: int) -> bool:
        """Whether the stream is not gone yet."""
        return stream in self._flows

    @property
    def can_open(self) -> bool:
        """Whether new streams are possible at all: nobody said GOAWAY and ids are left."""
        return not (self._said_goodbye or self._heard_goodbye) and self._next_own <= _LAST_ID

    @property
    def is_parted(self) -> bool:
        """Whether both ends said GOAWAY, so that no new stream can be under way."""
        return self._said_goodbye and self._heard_goodbye

    # -- what the peer sends

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        """What these bytes mean, in order. The owner may refuse or reset a stream between two events.

        Raises:
            FramingBroken: at the first breach of a rule.
        """
        for frame in self._reader.feed(data):
            if frame.kind is DATA and (event := self._on_usual(frame)) is not None:
                yield event
            elif frame.kind is DATA or frame.kind is CREDIT:
                yield from self._on_stream(frame, now)
            elif frame.kind is PING:
                self._on_ping(frame, now)
            else:
                self._heard_goodbye = True
                yield GoingAway(frame.value)

    def _on_usual(self, frame: Frame) -> Event | None:
        """Bytes in mid-stream, a small call or its answer, in one look; None for all else."""
        number, size = frame.stream, frame.value
        if not frame.flags:
            flow = self._flows.get(number)
            if flow is not None and size >= PETTY_DATA_BYTES:
                flow.received(size)
                return Received(number, frame.payload)
        elif frame.flags == _CALL:
            if size and number == self._next_peer and self._has_place:
                self._next_peer += 2
                self._flows[number] = Flow(own=False, hello_flag=ACK).ended_with(size)
                return Asked(number, frame.payload)
        elif frame.flags == _ANSWER:
            flow = self._flows.get(number)
            if size and flow is not None and flow.is_answered_by(size):
                self._forget(number, flow)
                return Answered(number, frame.payload)
        return None

    def _on_ping(self, frame: Frame, now: float) -> None:
        if self._pings.over(1, now):
            raise FramingBroken(reason="ping flood")
        if frame.flags == SYN:
            self._say(encode(PING, ACK, 0, frame.value))

    def _on_stream(self, frame: Frame, now: float) -> Iterator[Event]:
        flags = frame.flags
        if not flags & (SYN | FIN | RST):
            self._count_petty(frame, now)
        if flags & SYN and self._accept(frame, now):
            yield Opened(frame.stream)
        flow = self._flows.get(frame.stream)
        if flow is None:
            self._on_gone(frame, now)
            return
        if flags & ACK:
            flow.acknowledge(frame.stream)
        if flags & RST:
            yield self._on_reset(frame, flow, now)
            return
        if frame.value:
            yield self._on_bytes(frame, flow)
        if flags & FIN:
            yield self._on_finish(frame, flow)

    def _count_petty(self, frame: Frame, now: float) -> None:
        small = PETTY_DATA_BYTES if frame.kind is DATA else PETTY_CREDIT_BYTES
        if frame.value < small and self._petty.over(1, now):
            raise FramingBroken(reason="flood of tiny frames")

    def _accept(self, frame: Frame, now: float) -> bool:
        """Whether there is room for one more stream of the peer."""
        if frame.stream != self._next_peer:
            raise FramingBroken(reason=f"opened stream {frame.stream}, {self._next_peer} is next")
        self._next_peer += 2
        if not self._has_place:
            self._say(encode(CREDIT, RST, frame.stream, 0))
            self._stray_bytes_left += WINDOW_BYTES
            self._count_reset(now)
            return False
        self._flows[frame.stream] = Flow(own=False, hello_flag=ACK)
        return True

    @property
    def _has_place(self) -> bool:
        """Whether the peer may open one more stream."""
        return not self._heard_goodbye and len(self._flows) - self.own_streams < self._limits.streams

    def _on_gone(self, frame: Frame, now: float) -> None:
        """A frame for a stream that we dropped may still be under way; one for a stream that never was may not."""
        ours = frame.stream % 2 == self._next_own % 2
        if frame.stream >= (self._next_own if ours else self._next_peer):
            raise FramingBroken(reason=f"a frame for stream {frame.stream}, which was never opened")
        self._stray_bytes_left -= len(frame.payload)
        if self._stray_bytes_left < 0 or self._petty.over(1, now):
            raise FramingBroken(reason="more on dropped streams than can have been under way")
        if frame.flags & RST:
            self._count_reset(now)

    def _on_reset(self, frame: Frame, flow: Flow, now: float) -> Event:
        self._count_reset(now)
        self._forget(frame.stream, flow)
        return Dropped(frame.stream, refused=flow.own and not flow.acknowledged)

    def _count_reset(self, now: float) -> None:
        if self._resets.over(1, now):
            raise FramingBroken(reason="rapid reset")

    def _on_bytes(self, frame: Frame, flow: Flow) -> Event:
        if frame.kind is DATA:
            flow.received(frame.value)
            return Received(frame.stream, frame.payload)
        flow.granted(frame.value)
        return Writable(frame.stream)

    def _on_finish(self, frame: Frame, flow: Flow) -> Event:
        if flow.got_fin:
            raise FramingBroken(reason=f"stream {frame.stream} ended twice")
        flow.got_fin = True
        self._forget_if_done(frame.stream, flow)
        return Finished(frame.stream)

    def _drop(self, stream: int, flow: Flow, flags: int) -> None:
        self._say(encode(CREDIT, flags, stream, 0))
        if not flow.got_fin:
            self._stray_bytes_left += flow.receive_window

    def _forget_if_done(self, stream: int, flow: Flow) -> bool:
        is_done = flow.sent_fin and flow.got_fin and not flow.unread
        if is_done:
            self._forget(stream, flow)
        return is_done

    def _forget(self, stream: int, flow: Flow) -> None:
        if self._flows.pop(stream, None) is not None:
            self.own_streams -= flow.own
            if flow.drawn:
                flow.give_back(self._purse)

    def _say(self, frame: bytes) -> None:
        self._output.append(frame)
        self.output_bytes += len(frame)
