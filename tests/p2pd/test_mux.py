"""The framing and the multiplexer without I/O: laws for all inputs, and each way of cheating by name."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dux_p2pd.flow import Flow, Purse
from dux_p2pd.frames import ACK, FIN, RST, SYN, FrameReader, Kind, encode
from dux_p2pd.mux import Mux
from dux_p2pd.mux_events import Answered, Asked, Dropped, Finished, GoingAway, Opened, Received, Writable
from dux_p2pd.wire_errors import FramingBroken
from dux_p2pd.wire_limits import FRAME_BYTES, KNOWN, STRANGER, WINDOW_BYTES, WINDOW_MAX_BYTES
from tests.attacks.registry import attack
from tests.p2pd.wire_kit import unread_bytes

FRAMES = st.lists(
    st.one_of(
        st.builds(
            lambda s, d, f: encode(Kind.DATA, f, s, len(d), d),
            st.integers(1, 99),
            st.binary(min_size=1, max_size=200),
            st.sampled_from([0, SYN, FIN]),
        ),
        st.builds(lambda s, n: encode(Kind.CREDIT, 0, s, n), st.integers(1, 99), st.integers(1, 2**20)),
        st.builds(lambda n: encode(Kind.PING, SYN, 0, n), st.integers(0, 2**32 - 1)),
    ),
    max_size=20,
)


@given(FRAMES, st.lists(st.integers(0, 300), max_size=40))
def test_any_split_of_the_bytes_gives_the_same_frames(frames, cuts):
    """How the network cuts the bytes changes nothing."""
    whole = b"".join(frames)
    expected = list(FrameReader().feed(whole))
    reader, got, at = FrameReader(), [], 0
    for cut in cuts:
        got += reader.feed(whole[at : at + cut])
        at += cut
    got += reader.feed(whole[at:])
    assert got == expected
    assert len(got) == len(frames)


BAD_HEADERS = {
    "version": (1, 0, 0, 1, 1),
    "type": (0, 4, 0, 1, 1),
    "flags": (0, 0, 16, 1, 1),
    "data on stream 0": (0, 0, 0, 0, 1),
    "credit on stream 0": (0, 1, 0, 0, 1),
    "ping on a stream": (0, 2, 1, 1, 1),
    "go away on a stream": (0, 3, 0, 1, 1),
    "ping neither asked nor answered": (0, 2, 0, 0, 1),
    "ping both": (0, 2, 3, 0, 1),
    "go away with flags": (0, 3, 1, 0, 1),
    "data too long": (0, 0, 0, 1, FRAME_BYTES + 1),
    "data of 4 GB": (0, 0, 1, 1, 2**32 - 1),
    "empty data": (0, 0, 0, 1, 0),
    "empty credit": (0, 1, 0, 1, 0),
    "reset with data": (0, 0, 8, 1, 5),
    "reset of an opening": (0, 1, 9, 1, 0),
    "reset and end": (0, 1, 12, 1, 0),
}


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_frame_that_cannot_be_meant_ends_the_connection_at_its_header(header):
    """Unknown frames close; nothing of their payload is waited for or kept."""
    with pytest.raises(FramingBroken):
        list(FrameReader().feed(struct.pack(">BBHII", *header)))


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_fuzz_any_bytes_give_frames_or_a_breach(data):
    """No input makes the reader or the mux raise anything but FramingBroken, nor keep more than a frame."""
    mux = Mux(dialler=True, limits=STRANGER)
    try:
        for event in mux.receive(data, 0.0):
            assert event
    except FramingBroken:
        return
    assert unread_bytes(mux) <= 8 * WINDOW_BYTES


class Pair:
    """Two ends joined by hand; every event lands in a list."""

    def __init__(self, limits=KNOWN):
        self.a, self.b = Mux(dialler=True, limits=limits), Mux(dialler=False, limits=limits)

    def to_b(self):
        return list(self.b.receive(self.a.take_output(), 0.0))

    def to_a(self):
        return list(self.a.receive(self.b.take_output(), 0.0))


@pytest.mark.parametrize("is_read_first", [True, False], ids=["read, then answered", "answered at once"])
def test_a_small_call_is_one_frame_each_way(is_read_first):
    """DATA|SYN|FIN there, DATA|ACK|FIN back, and both ends have forgotten the stream.

    Planted bug noticed: `Mux.answer` that leaves the question unread, so that the stream stays.
    """
    pair = Pair()
    stream, taken = pair.a.open(b"question", finish=True)
    out = pair.a.take_output()
    assert (taken, struct.unpack(">BBHII", out[:12])) == (8, (0, 0, SYN | FIN, 1, 8))
    assert list(pair.b.receive(out, 0.0)) == [Asked(stream, b"question")]
    assert unread_bytes(pair.b) == 8
    if is_read_first:
        pair.b.consumed(stream, 8)
        pair.b.send(stream, b"answer", finish=True)
    else:
        pair.b.answer(stream, b"answer")
    out = pair.b.take_output()
    assert struct.unpack(">BBHII", out[:12]) == (0, 0, ACK | FIN, 1, 6)
    assert list(pair.a.receive(out, 0.0)) == [Answered(1, b"answer")]
    assert pair.a.open_streams == pair.b.open_streams == pair.a.own_streams == 0


def test_what_only_looks_like_a_small_call_is_told_in_full():
    """An answer before we have said all, one behind other bytes, a call without a byte: event by event, as before.

    Planted bugs noticed: an answer taken as the last word while our half is open, or while bytes before it are unread.
    """
    pair = Pair()
    stream, _ = pair.a.open(b"half", finish=False)
    pair.to_b()
    pair.b.send(stream, b"answer", finish=True)
    assert pair.to_a() == [Received(stream, b"answer"), Finished(stream)]
    assert pair.a.has(stream)
    pair.a.send(stream, b"", finish=True)
    pair.a.consumed(stream, 6)
    assert not pair.a.has(stream)
    stream, _ = pair.a.open(b"question", finish=True)
    early = encode(Kind.DATA, 0, stream, 5, b"early")
    last = encode(Kind.DATA, ACK | FIN, stream, 4, b"late")
    assert list(pair.a.receive(early + last, 0.0)) == [
        Received(stream, b"early"),
        Received(stream, b"late"),
        Finished(stream),
    ]
    assert unread_bytes(pair.a) == 9
    assert list(acceptor().receive(encode(Kind.DATA, SYN | FIN, 1, 0), 0.0)) == [Opened(1), Finished(1)]


def test_the_answer_to_a_small_call_keeps_to_the_credit_and_comes_once():
    """One byte more than the window is a breach, and so is a second answer; a peer's own stream has no answer from it.

    Planted bugs noticed: `is_answered_by` without the window; without looking whether it was acknowledged.
    """
    for before, size, reason in ((WINDOW_BYTES - 2, 3, "with a credit of 2"), (1, 9, None)):
        mux = Mux(dialler=True, limits=STRANGER)
        stream, _ = mux.open(b"question", finish=True)
        list(mux.receive(encode(Kind.DATA, 0, stream, before, bytes(before)), 0.0))
        mux._flows[stream].unread = 0
        answer = encode(Kind.DATA, ACK | FIN, stream, size, bytes(size))
        if reason:
            breaks(mux, answer, reason)
        else:
            assert list(mux.receive(answer, 0.0)) == [Answered(stream, bytes(size))]
            breaks(mux, answer, "under way")  # the stream is gone
    mux = acceptor()
    opened(mux, 1, flags=SYN | FIN)
    breaks(mux, encode(Kind.DATA, ACK | FIN, 1, 1, b"x"), "needless")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_byte_arrives_in_order_and_credit_is_never_exceeded(data):
    """Each stream's bytes come out as they went in, and unread bytes stay within streams x 16 KiB + the purse.

    Over random interleavings of writing, delivering and reading.
    """
    pair = Pair(KNOWN)
    sent, read, waiting, unread = {}, {}, {}, {}
    for step in range(data.draw(st.integers(5, 60))):
        act = data.draw(st.sampled_from(["open", "write", "deliver", "read", "read"]))
        size = data.draw(st.integers(1, 60_000))
        if act == "open" and len(sent) < 6:
            stream, taken = pair.a.open(b"", finish=False)
            sent[stream], read[stream], waiting[stream], unread[stream] = b"", b"", b"", b""
            assert taken == 0
        elif act == "write" and sent:
            stream = data.draw(st.sampled_from(sorted(sent)))
            waiting[stream] += bytes([step % 256]) * size
            taken = pair.a.send(stream, waiting[stream], finish=False)
            sent[stream] += waiting[stream][:taken]
            waiting[stream] = waiting[stream][taken:]
        elif act == "read" and sent:
            stream = data.draw(st.sampled_from(sorted(sent)))
            part, unread[stream] = unread[stream][:size], unread[stream][size:]
            read[stream] += part
            if part:
                pair.b.consumed(stream, len(part))
        for event in pair.to_b():
            if isinstance(event, Received):
                unread[event.stream] += event.data
        pair.to_a()
        assert unread_bytes(pair.b) == sum(map(len, unread.values()))
        assert unread_bytes(pair.b) <= len(sent) * WINDOW_BYTES + KNOWN.credit_bytes
    for stream, whole in sent.items():
        assert read[stream] + unread[stream] == whole


@given(st.integers(0, 300_000), st.lists(st.tuples(st.booleans(), st.integers(1, 40_000)), max_size=80))
def test_the_law_of_flow(purse_bytes, acts):
    """Window + unread <= 16 KiB + drawn, drawn <= 512 KiB - 16 KiB, and the purse never goes below zero."""
    purse, flow = Purse(purse_bytes), Flow(own=False, hello_flag=ACK)
    for is_read, size in acts:
        if is_read:
            flow.consumed(min(size, flow.unread), purse)
        else:
            flow.received(min(size, flow.receive_window))
        assert flow.receive_window + flow.unread <= WINDOW_BYTES + flow.drawn <= WINDOW_MAX_BYTES
        assert purse.left >= 0
    flow.give_back(purse)
    assert purse.left == purse_bytes


def test_a_stranger_never_gets_more_than_the_initial_windows():
    """With an empty purse a stream that is read for long keeps its 16 KiB window."""
    purse, flow = Purse(STRANGER.credit_bytes), Flow(own=False, hello_flag=ACK)
    for _ in range(100):
        flow.received(flow.receive_window)
        flow.consumed(flow.unread, purse)
        assert flow.receive_window == WINDOW_BYTES


def opened(mux, count, *, first=1, flags=SYN):
    data = b"".join(encode(Kind.DATA, flags, first + 2 * i, 1, b"x") for i in range(count))
    return list(mux.receive(data, 0.0))


def acceptor(limits=KNOWN):
    return Mux(dialler=False, limits=limits)


def breaks(mux, data, reason, now=0.0):
    with pytest.raises(FramingBroken, match=reason):
        list(mux.receive(data, now))


@attack("flow control", tries="more bytes than its credit", meets="breach")
def test_more_than_the_credit_is_a_breach():
    """The 16385th byte that nobody read ends the connection.

    Planted bug noticed: Flow.received without its comparison with the window.
    """
    mux = acceptor()
    opened(mux, 1)
    list(mux.receive(encode(Kind.DATA, 0, 1, WINDOW_BYTES - 1, bytes(WINDOW_BYTES - 1)), 0.0))
    breaks(mux, encode(Kind.DATA, 0, 1, 1, b"x"), "credit")


@attack("framing", tries="stream ids out of order or of the other side's parity", meets="breach")
def test_ids_have_an_order_and_a_parity():
    """A stream of the wrong parity, out of order, or never opened is a breach."""
    breaks(acceptor(), encode(Kind.DATA, SYN, 2, 1, b"x"), "next")
    breaks(acceptor(), encode(Kind.DATA, SYN, 5, 1, b"x"), "next")
    breaks(acceptor(), encode(Kind.DATA, 0, 1, 1, b"x"), "never opened")
    breaks(acceptor(), encode(Kind.CREDIT, 0, 2, 9), "never opened")


def test_a_stream_ends_once():
    """Data or a second end after the end, and a needless acknowledgement, are breaches."""
    for frame, reason in [
        (encode(Kind.DATA, 0, 1, 1, b"x"), "after the end"),
        (encode(Kind.DATA, FIN, 1, 0), "twice"),
        (encode(Kind.DATA, ACK, 1, 1, b"x"), "needless"),
    ]:
        mux = acceptor()
        opened(mux, 1, flags=SYN | FIN)
        breaks(mux, frame, reason)


def test_credit_has_a_bound():
    """A peer that grants gigabytes does not know what it is doing."""
    mux = acceptor()
    opened(mux, 1)
    breaks(mux, encode(Kind.CREDIT, 0, 1, 2**31), "bounds")


@attack("stream", tries="more streams than its limit", meets="refused with a reset that says: not executed")
def test_streams_beyond_the_limit_are_refused_unexecuted():
    """The 9th stream of a stranger is reset without acknowledgement, and the opener can tell."""
    pair = Pair(STRANGER)
    for _ in range(9):
        pair.a.open(b"x", finish=True)
    assert sum(isinstance(event, Asked) for event in pair.to_b()) == 8
    assert pair.to_a() == [Dropped(17, refused=True)]


def test_a_reset_of_an_accepted_stream_is_not_a_refusal():
    """Once executed, a dropped stream says so: the caller must not take it for untouched."""
    pair = Pair()
    stream, _ = pair.a.open(b"x", finish=True)
    pair.to_b()
    pair.b.reset(stream)
    assert pair.to_a() == [Dropped(1, refused=False)]


@attack("stream", tries="101 streams opened and reset within 10 s", meets="breach")
def test_rapid_reset_is_a_breach():
    """The 101st reset within ten seconds ends the connection; a hundred do not, nor a hundred more later."""
    mux, now, stream = acceptor(), 0.0, 1
    pairs = []
    for _ in range(202):
        pairs.append(encode(Kind.DATA, SYN, stream, 1, b"x") + encode(Kind.CREDIT, RST, stream, 0))
        stream += 2
    list(mux.receive(b"".join(pairs[:100]), now))
    list(mux.receive(b"".join(pairs[100:200]), 11.0))
    breaks(mux, pairs[200], "rapid reset", 12.0)


@attack("framing", tries="pings, tiny frames, empty credit without end", meets="breach by name")
def test_floods_of_cheap_frames_are_breaches():
    """Pings, one-byte data, one-byte credit: each has a rate."""
    breaks(acceptor(), encode(Kind.PING, SYN, 0, 1) * 101, "ping")
    for frame in (encode(Kind.DATA, 0, 1, 1, b"x"), encode(Kind.CREDIT, 0, 1, 1)):
        mux = acceptor()
        opened(mux, 1)
        breaks(mux, frame * 10_001, "tiny")


@attack(
    "framing",
    tries="data on streams that were dropped",
    meets="what can have been under way is forgiven; more is a breach",
)
def test_what_was_under_way_on_a_dropped_stream_is_forgiven_and_no_more():
    """After our reset the peer's window may still arrive, once."""
    mux = acceptor()
    opened(mux, 1)
    mux.reset(1)
    list(mux.receive(encode(Kind.DATA, 0, 1, WINDOW_BYTES - 1, bytes(WINDOW_BYTES - 1)), 0.0))
    breaks(mux, encode(Kind.DATA, 0, 1, 1, b"x"), "under way")


def test_after_go_away_nothing_new_is_accepted():
    """GOAWAY lets streams under way end, also those that crossed it; what is opened after the answer to it is refused.

    Planted bug noticed: refused as soon as GOAWAY was said, a call that crossed it fails.
    """
    pair = Pair()
    pair.a.open(b"x", finish=True)
    pair.to_b()
    pair.b.go_away(0)
    pair.a.open(b"y", finish=True)
    assert Asked(3, b"y") in pair.to_b()
    assert not pair.b.can_open
    assert not pair.b.is_parted
    assert pair.to_a() == [GoingAway(0)]
    assert not pair.a.can_open
    pair.a.go_away(0)
    pair.a.open(b"z", finish=True)
    assert pair.to_b() == [GoingAway(0)]
    assert pair.a.is_parted
    assert pair.b.is_parted
    assert pair.to_a() == [Dropped(5, refused=True)]
    pair.b.consumed(1, 1)
    pair.b.send(1, b"done", finish=True)
    assert Answered(1, b"done") in pair.to_a()
    assert not pair.a.can_open


def test_a_ping_is_answered_with_its_number():
    """The answer carries the question's number."""
    mux = acceptor()
    list(mux.receive(encode(Kind.PING, SYN, 0, 77), 0.0))
    assert mux.take_output() == encode(Kind.PING, ACK, 0, 77)


def test_long_data_goes_in_frames_of_at_most_16_kib_and_stops_at_the_credit():
    """A megabyte offered on a fresh stream: 16 KiB leave, in frames that the peer accepts."""
    mux = Mux(dialler=True, limits=KNOWN, frame_bytes=1024)
    _, taken = mux.open(bytes(1_000_000), finish=True)
    frames = list(FrameReader().feed(mux.take_output()))
    assert taken == WINDOW_BYTES
    assert max(frame.value for frame in frames) == 1024
    assert not any(frame.flags & FIN for frame in frames)


def test_what_is_gone_cannot_be_dropped_again():
    """Resetting or refusing a stream that is gone says nothing; one that ended on both sides is let go silently."""
    pair = Pair()
    stream, _ = pair.a.open(b"", finish=False)
    pair.a.send(stream, b"question", finish=True)
    pair.to_b()
    pair.b.send(stream, b"an", finish=False)
    pair.b.send(stream, b"swer", finish=True)
    pair.to_a()
    assert pair.a.has(stream)  # its answer is not read yet
    pair.a.reset(stream)
    assert not pair.a.has(stream)
    for mux in (pair.a, pair.b):
        mux.take_output()
        mux.reset(99)
        mux.refuse(99)
        assert mux.take_output() == b""


def test_credit_can_end_a_stream():
    """A FIN may come with credit, also with none: nothing is granted then, and the stream has ended."""
    for credit in (0, 5):
        pair = Pair()
        stream, _ = pair.a.open(b"", finish=False)
        pair.to_b()
        events = list(pair.b.receive(encode(Kind.CREDIT, FIN, stream, credit), 0.0))
        assert events == ([Writable(stream)] if credit else []) + [Finished(stream)]


def test_an_owner_may_drop_a_stream_between_two_events():
    """A frame that opens and fills a stream tells the rest although the owner dropped it at the first event."""
    pair = Pair()
    stream, _ = pair.a.open(b"question", finish=False)
    events = pair.b.receive(pair.a.take_output(), 0.0)
    assert next(events) == Opened(stream)
    pair.b.refuse(stream)
    assert list(events) == []
    assert unread_bytes(pair.b) == 0
    stream, _ = pair.a.open(b"ques", finish=False)
    pair.a.send(stream, b"tion", finish=True)
    events = pair.b.receive(pair.a.take_output(), 0.0)
    assert [next(events), next(events)] == [Opened(stream), Received(stream, b"ques")]
    pair.b.send(stream, b"answer", finish=True)
    assert next(events) == Received(stream, b"tion")
    pair.b.consumed(stream, 8)
    pair.b.reset(stream)
    assert list(events) == [Finished(stream)]
    assert pair.b.open_streams == 0
