"""Bounded fuzzing of what comes from the network: heads, frames in a living session, and HELLO inside a doorway.

Cases per run: 300 + 300 + 60 + 25, each an example of hypothesis; a failure is shrunk and kept by it.
"""

import asyncio
import struct
from contextlib import suppress
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import DuxError
from dux_p2pd.calls import AnswerHead, RequestHead, answer_error, answer_ok, head_in, request_head
from dux_p2pd.frames import ACK, FIN, RST, SYN, Kind, encode
from dux_p2pd.memory_transport import MemoryLine, MemoryNetwork
from dux_p2pd.mux import Mux
from dux_p2pd.mux_events import Answered, Asked, Finished, Opened, Received
from dux_p2pd.wire_errors import FramingBroken, MessageTooLong, PeerBusy
from dux_p2pd.wire_limits import HEAD_BYTES, KNOWN, STRANGER, WINDOW_BYTES
from tests.p2pd.wire_kit import VirtualLoop, memory_node, unread_bytes

pytestmark = pytest.mark.patient

A, B = "127.0.1.1", "127.0.2.1"


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([RequestHead, AnswerHead]))
def test_a_head_is_whole_waiting_or_a_breach(data, kind):
    """Any bytes: a head and where it ends, None, or FramingBroken; bytes behind a head change nothing."""
    try:
        found = head_in(data, kind)
    except FramingBroken:
        return
    if found is None:
        assert len(data) < HEAD_BYTES + 2
    else:
        head, end = found
        assert int.from_bytes(data[:2]) == end - 2
        assert head_in(data[:end] + b"\xff", kind) == (head, end)


@given(st.text(min_size=1, max_size=64), st.floats(0.001, 600), st.binary(max_size=200), st.integers(0, 400))
def test_heads_come_back_as_they_went(method, deadline_s, value, cut):
    """What was framed is split off whole, and not before it is whole."""
    framed = request_head(method, deadline_s, (("x", value),))
    if cut < len(framed):
        assert head_in(framed[:cut], RequestHead) is None
    head, end = head_in(framed + b"body", RequestHead)
    assert (head.method, head.headers, end) == (method, (("x", value),), len(framed))


def test_every_error_fits_an_answer_head():
    """However long its text, an error's head stays within 1 KiB."""
    long = answer_error(PeerBusy(did="d" * 500, method="ü" * 500, detail="𝄞" * 5000))
    assert len(long) <= HEAD_BYTES + 2
    assert head_in(long, AnswerHead)[0].code == PeerBusy.code
    assert head_in(answer_ok(), AnswerHead)[0].code == 0


def any_frame():
    """Frames near the edge of sense: few streams, all flags, odd lengths."""
    data = st.builds(
        lambda s, f, d: encode(Kind.DATA, f, s, len(d), d),
        st.integers(1, 9),
        st.sampled_from([0, SYN, FIN, SYN | FIN, ACK, RST, ACK | FIN]),
        st.binary(min_size=0, max_size=40),
    )
    credit = st.builds(
        lambda s, f, n: encode(Kind.CREDIT, f, s, n),
        st.integers(1, 9),
        st.sampled_from([0, SYN, FIN, ACK, RST, ACK | RST]),
        st.sampled_from([0, 1, 5000, 2**24, 2**32 - 1]),
    )
    control = st.sampled_from([encode(Kind.PING, SYN, 0, 7), encode(Kind.GO_AWAY, 0, 0, 1)])
    raw = st.builds(
        lambda v, k, f, s, n: struct.pack(">BBHII", v, k, f, s, n),
        st.integers(0, 1),
        st.integers(0, 4),
        st.integers(0, 31),
        st.integers(0, 9),
        st.integers(0, 60),
    )
    return st.one_of(data, data, credit, control, raw)


@settings(max_examples=300, deadline=None)
@given(st.lists(any_frame(), max_size=40), st.booleans(), st.booleans())
def test_a_mux_fed_with_near_sense_keeps_its_laws(frames, dialler, known):
    """Unread bytes within bounds, peer streams within the limit, ends once; nothing but FramingBroken is raised."""
    limits = KNOWN if known else STRANGER
    mux = Mux(dialler=dialler, limits=limits)
    mux.open(b"ours", finish=False)
    open_by_peer, ended = set(), set()
    try:
        for frame in frames:
            for event in mux.receive(frame, 0.0):
                if isinstance(event, Opened | Asked):
                    open_by_peer.add(event.stream)
                if isinstance(event, Finished | Asked | Answered):
                    assert event.stream not in ended
                    ended.add(event.stream)
                if isinstance(event, Received | Asked) and event.stream in open_by_peer:
                    mux.consumed(event.stream, len(event.data) // 2)
            mux.take_output()
            assert mux.open_streams - mux.own_streams <= limits.streams
            assert unread_bytes(mux) <= (limits.streams + 1) * WINDOW_BYTES + limits.credit_bytes
    except FramingBroken:
        return


def in_virtual_time(main):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


@settings(max_examples=60, deadline=None)
@given(st.lists(any_frame(), max_size=15))
def test_a_living_session_survives_or_ends_and_its_node_serves_on(frames):
    """Frames of hypothesis amid honest calls: the session goes on or closes; other sessions never notice."""

    async def main():
        net = MemoryNetwork()
        async with (
            memory_node(net, "a", host=A) as a,
            memory_node(net, "b", host=B) as b,
            memory_node(net, "c", host="127.0.3.1") as c,
        ):
            honest, hostile = await c.dial(b), await a.dial(b)
            call = asyncio.ensure_future(hostile.request("m", b"x" * 100, deadline_s=5))
            await asyncio.sleep(0.01)
            for frame in frames:
                hostile._line.send(frame)
            await asyncio.gather(call, return_exceptions=True)
            await asyncio.sleep(40)
            assert await honest.request("m", b"fine", deadline_s=5) == b"m:fine"
            there = next(session for session in b.sessions if session.did == a.did)
            assert there.closed.done() or there._serving.executing == 0

    in_virtual_time(main)


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 600), st.integers(0, 255))
def test_a_doorway_fed_with_changed_hellos_lets_nobody_wrong_in(noise, place, change):
    """A byte changed under way, or noise behind it: no session, or the session of the honest DID."""
    honest_send, bent = MemoryLine.send, []

    def send(line, data):
        """The first words of the dialler are bent."""
        if not bent:
            changed = bytearray(data)
            changed[place % len(changed)] ^= change
            data = bytes(changed) + noise
            bent.append(data)
        honest_send(line, data)

    async def main():
        net = MemoryNetwork()
        async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
            with suppress(DuxError):
                await (await a.dial(b)).request("m", b"", deadline_s=2)
            assert bent
            assert all(session.did == a.did for session in b.sessions)
            await asyncio.sleep(6)
            assert not b.transport.gate._half_open

    with patch.object(MemoryLine, "send", send):
        in_virtual_time(main)


def test_a_request_head_over_its_limit_is_refused_before_it_is_sent():
    """Method and headers that pass 1 KiB are the caller's mistake, with the limit."""
    with pytest.raises(MessageTooLong, match="1024"):
        request_head("m", 1.0, (("stamp", b"x" * HEAD_BYTES),))
