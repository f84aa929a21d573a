"""Sessions over memory lines in virtual time: deadlines, cancellation, limits, keep-alive, duplicates, lossy links."""

import asyncio

import pytest

from common.errors import BadParams, DeadlinePassed, Internal, NotNow, RemoteFailure, RemoteNotNow
from common.randomness import SeededRandomness
from dux_p2pd.gate import CallBudget
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork
from dux_p2pd.wire_errors import (
    AnswerTooLong,
    CertificateRefused,
    HelloRefused,
    MessageTooLong,
    PeerAnswered,
    PeerBusy,
    PeerUnreachable,
    SessionClosed,
    StreamBroken,
)
from dux_p2pd.wire_limits import KNOWN, MESSAGE_BYTES, SESSION_LIFE_S, STRANGER, WINDOW_BYTES
from tests.attacks.registry import attack
from tests.p2pd.wire_kit import TestPapers, memory_node, unread_bytes, virtually

pytestmark = pytest.mark.patient

A, B, C = "127.0.1.1", "127.0.2.1", "127.0.3.1"


async def settle(seconds=1.0):
    await asyncio.sleep(seconds)


@virtually
async def test_calls_both_ways_and_large_messages():
    """Either end asks; a megabyte goes and comes whole; one byte more is refused before it is sent."""
    net = MemoryNetwork(CalmWeather(delay_s=0.02))
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        assert await session.request("m", b"hi", deadline_s=5) == b"m:hi"
        big = bytes(range(256)) * 4000
        assert await session.request("m", big, deadline_s=30) == b"m:" + big
        await settle()
        assert await b.sessions[0].request("m", b"back", deadline_s=5) == b"m:back"
        with pytest.raises(MessageTooLong):
            await session.request("m", bytes(MESSAGE_BYTES + 1), deadline_s=5)
        assert session.mux.open_streams == b.sessions[0].mux.open_streams == 0


@virtually
async def test_a_thousand_calls_at_once_share_64_slots():
    """Callers beyond the peer's limit wait their turn; those beyond the queue are told to come back."""
    most = 0
    running = 0

    async def slow(_session, incoming):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return await incoming.body()

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=slow) as b:
        session = await a.dial(b)
        calls = [session.request("m", str(i).encode(), deadline_s=20) for i in range(320)]
        assert await asyncio.gather(*calls) == [str(i).encode() for i in range(320)]
        assert most == KNOWN.executing
        calls = [session.request("m", b"", deadline_s=20) for _ in range(400)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, PeerBusy) for answer in answers) == 400 - KNOWN.streams - 256


@virtually
async def test_the_answer_carries_the_handlers_error():
    """A DuxError arrives with its number, key and text; any other exception as an internal error without its text."""

    async def failing(_session, incoming):
        if incoming.method == "known":
            raise BadParams(detail="width is missing")
        raise RuntimeError("secret")

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=failing) as b:
        session = await a.dial(b)
        with pytest.raises(PeerAnswered) as caught:
            await session.request("known", b"", deadline_s=5)
        assert caught.value.fields["peer_code"] == BadParams.code
        assert "width is missing" in caught.value.message
        with pytest.raises(PeerAnswered) as caught:
            await session.request("unknown", b"", deadline_s=5)
        assert caught.value.fields["peer_key"] == "internal"
        assert "secret" not in caught.value.message


UNKNOWN = {"text": "chain still reading", "remote_code": 2113, "remote_key": "not-synced"}


@virtually
@pytest.mark.parametrize(
    ("error", "code", "for_later"),
    [
        (BadParams(detail="wrong"), BadParams.code, False),
        (NotNow(), NotNow.code, True),
        (RemoteNotNow(**UNKNOWN), 2113, True),
        (RemoteFailure(**UNKNOWN), 2113, False),
        (KeyError("a bug"), Internal.code, True),
    ],
)
async def test_the_answer_tells_whether_to_repeat_whoever_knows_the_error(error, code, for_later):
    """A daemon's "not now" stays one across two p2pds that have never heard of it; its number is the daemon's own."""

    async def failing(_session, _incoming):
        raise error

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=failing) as b:
        session = await a.dial(b)
        with pytest.raises(PeerAnswered) as caught:
            await session.request("m", b"", deadline_s=5)
        assert (caught.value.fields["peer_code"], caught.value.for_later) == (code, for_later)


@virtually
async def test_a_deadline_ends_the_call_here_and_the_handler_there():
    """The caller gets DeadlinePassed, and the handler is cancelled: nobody works for nobody."""
    ended = asyncio.Event()

    async def endless(_session, _incoming):
        try:
            await asyncio.sleep(10_000)
        finally:
            ended.set()

    net = MemoryNetwork(CalmWeather(delay_s=0.01))
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=endless) as b:
        session = await a.dial(b)
        with pytest.raises(DeadlinePassed):
            await session.request("m", b"", deadline_s=2)
        await asyncio.wait_for(ended.wait(), 1)
        with pytest.raises(DeadlinePassed):
            await session.request("m", b"", deadline_s=9999)
        assert asyncio.get_running_loop().time() < 40
        assert session.mux.open_streams == 0


@attack(
    "stream",
    tries="cancels calls to free their slots while the handlers still work",
    meets="a slot is free when its handler has ended",
)
@virtually
async def test_a_cancelled_call_cancels_the_handler_but_its_slot_stays_taken_until_it_ended():
    """Rapid reset buys nothing: cancelled handlers that take their time still count, and further calls are refused."""
    started, release = [], asyncio.Event()

    async def stubborn(_session, incoming):
        started.append(incoming.method)
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            await release.wait()
            raise

    net = MemoryNetwork()
    papers = TestPapers("b", known=False)
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=stubborn, papers=papers) as b:
        session = await a.dial(b)
        for _ in range(STRANGER.executing):
            call = asyncio.ensure_future(session.request("m", b"", deadline_s=20))
            await settle(0.1)
            call.cancel()
        await settle()
        assert len(started) == STRANGER.executing
        with pytest.raises(PeerBusy):
            await session.request("m", b"", deadline_s=20)
        release.set()
        await settle()
        with pytest.raises(DeadlinePassed):
            await session.request("m", b"", deadline_s=1)
        assert len(started) == STRANGER.executing + 1


@virtually
async def test_the_caller_hears_of_the_deadline_at_once_even_from_a_handler_that_clings():
    """The answer does not wait for the handler to end; its slot does.

    Planted bugs noticed: `_overdue` without the answer; without the cancellation.
    """
    release, ended = asyncio.Event(), []

    async def clinging(_session, incoming):
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            await release.wait()
            ended.append(incoming.method)
        return b"too late"

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=clinging) as b:
        session = await a.dial(b)
        call = asyncio.ensure_future(session.request("m", b"", deadline_s=20))
        await settle(0)
        b.sessions[0]._serving._services.method_s_max["m"] = 1.0  # the far end has less patience than the caller
        began = asyncio.get_running_loop().time()
        with pytest.raises(DeadlinePassed):
            await call
        assert asyncio.get_running_loop().time() - began < 2
        assert (b.sessions[0]._serving.executing, ended) == (1, [])
        release.set()
        await settle()
        assert (b.sessions[0]._serving.executing, ended) == (0, ["m"])
        assert not session.closed.done()


@virtually
async def test_a_long_request_that_the_line_has_no_room_for_ends_with_its_deadline():
    """While the link is cut and the buffer full, a writer waits for room, and no longer than its call may take.

    Planted bug noticed: the rest of a request is written without the deadline.
    """
    weather = CalmWeather()
    net = MemoryNetwork(weather)
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        weather.cut(A, B)
        calls = [session.request("m", bytes(200_000), deadline_s=4) for _ in range(40)]
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, DeadlinePassed) for answer in answers)
        assert asyncio.get_running_loop().time() - began < 4.5


@virtually
async def test_a_stream_that_is_over_leaves_no_timer():
    """Else each would be held until the end of its time, minutes later: the session's one timer holds none of them.

    Planted bug noticed: a timer for each stream, which nobody cancels.
    """
    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        for _ in range(30):
            await session.request("m", b"x", deadline_s=30)
            stream = await session.open_stream("m", deadline_s=300)
            await stream.close()
            assert await stream.read_all() == b"m:"
            stream.reset()
        await settle()
        waiting = [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]
        assert len(waiting) < 10
        assert not session._streams
        session.end("over")
        assert session._deadlines._timer.cancelled()


@virtually
async def test_many_timed_out_calls_do_not_look_like_rapid_reset():
    """A busy client whose calls all time out keeps its connection: resets beyond the polite rate are put off."""

    async def endless(_session, _incoming):
        await asyncio.sleep(10_000)

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=endless) as b:
        session = await a.dial(b)
        for _ in range(4):
            calls = [session.request("m", b"", deadline_s=0.5) for _ in range(50)]
            assert all(isinstance(e, DeadlinePassed) for e in await asyncio.gather(*calls, return_exceptions=True))
        assert not session.closed.done()
        await settle(40)
        assert session.mux.open_streams == 0


@virtually
async def test_a_stream_flows_both_ways_and_stops_at_the_credit_of_a_slow_reader():
    """Writing waits for reading; unread bytes stay bounded; every byte arrives."""
    gate, got = asyncio.Event(), bytearray()

    async def sink(_session, incoming):
        await incoming.stream.write(b"ready")
        await gate.wait()
        while chunk := await incoming.stream.read(50_000):
            got.extend(chunk)
        await incoming.stream.write(b"total %d" % len(got))

    net = MemoryNetwork(CalmWeather(delay_s=0.001))
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=sink) as b:
        stream = await (await a.dial(b)).open_stream("up", (("size", b"3000000"),), deadline_s=100)
        assert await stream.read(100) == b"ready"
        writing = asyncio.ensure_future(stream.write(bytes(3_000_000)))
        await settle(5)
        assert not writing.done()
        assert unread_bytes(b.sessions[0].mux) <= WINDOW_BYTES
        gate.set()
        await writing
        await stream.close()
        assert await stream.read(100) == b"total 3000000"
        assert await stream.read(100) == b""


@virtually
async def test_a_stream_that_nobody_closes_ends_with_its_deadline():
    """A forgotten stream is reset, and reading from it says why."""

    async def silent(_session, incoming):
        await incoming.stream.read(10)

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=silent) as b:
        session = await a.dial(b)
        stream = await session.open_stream("m", deadline_s=3)
        with pytest.raises(DeadlinePassed):
            await stream.read(10)
        with pytest.raises(DeadlinePassed):
            await stream.write(b"x")
        await settle()
        assert session.mux.open_streams == b.sessions[0].mux.open_streams == 0


@virtually
async def test_too_long_answers_and_broken_streams_are_named():
    """More than a megabyte in answer, and a handler that breaks off after it began."""

    async def bad(_session, incoming):
        if incoming.method == "long":
            await incoming.stream.write(bytes(MESSAGE_BYTES + 1000))
            return
        await incoming.stream.write(b"half")
        raise BadParams(detail="too late to say so")

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=bad) as b:
        session = await a.dial(b)
        with pytest.raises(AnswerTooLong):
            await session.request("long", b"", deadline_s=20)
        with pytest.raises(StreamBroken):
            await session.request("half", b"", deadline_s=20)
        assert not session.closed.done()


@attack("call", tries="more units than its budget", meets="told to wait; the handler never starts")
@virtually
async def test_a_peer_that_spends_too_much_is_told_to_wait():
    """The call budget answers PeerBusy, per method cost, and refills."""
    net, budget = MemoryNetwork(), CallBudget({"dear": 50}, burst_units=100, units_per_s=10)
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, budget=budget) as b:
        session = await a.dial(b)
        await session.request("dear", b"", deadline_s=5)
        await session.request("dear", b"", deadline_s=5)
        with pytest.raises(PeerBusy):
            await session.request("dear", b"", deadline_s=5)
        await settle(6)
        await session.request("dear", b"", deadline_s=5)


@attack(
    "TCP",
    tries="a peer that vanishes without closing",
    meets="found dead within 15 s at both ends; calls under way fail with the reason",
)
@virtually
async def test_a_half_open_peer_is_found_dead_within_15_s():
    """The link is cut in silence: both ends notice by themselves, and calls under way fail with the reason."""
    weather = CalmWeather(delay_s=0.01)
    net = MemoryNetwork(weather)
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        await settle(60)
        assert not session.closed.done()
        weather.cut(A, B)
        weather.cut(B, A)
        cut_at = asyncio.get_running_loop().time()
        with pytest.raises(SessionClosed, match="sign of life"):
            await session.request("m", b"", deadline_s=30)
        assert asyncio.get_running_loop().time() - cut_at <= 15.1
        await settle(6)
        assert b.sessions[0].closed.done()
        assert b.transport.session_with(a.did) is None


@virtually
async def test_a_short_cut_loses_nothing():
    """What was sent into a link that heals within the limit arrives, in order."""
    weather = CalmWeather(delay_s=0.01)
    net = MemoryNetwork(weather)
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        weather.cut(A, B)
        call = asyncio.ensure_future(session.request("m", b"late", deadline_s=20))
        await settle(8)
        weather.heal(A, B)
        net.resume()
        assert await call == b"m:late"


@virtually
async def test_a_lossy_link_is_slow_and_right():
    """A third of all segments lost: every answer is the right one."""
    net = MemoryNetwork(CalmWeather(SeededRandomness(7), delay_s=0.01, loss=0.3))
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        calls = [session.request("m", bytes([i]) * 5000, deadline_s=30) for i in range(40)]
        assert await asyncio.gather(*calls) == [b"m:" + bytes([i]) * 5000 for i in range(40)]
        assert asyncio.get_running_loop().time() > 0.2


@virtually
async def test_two_that_dial_each_other_end_with_the_connection_of_the_lower_did():
    """One session remains, the same one at both ends, and no caller sees an error."""
    net = MemoryNetwork(CalmWeather(delay_s=0.05))
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        one, other = await asyncio.gather(a.dial(b), b.dial(a))
        assert await one.request("m", b"1", deadline_s=5) == b"m:1"
        assert await other.request("m", b"2", deadline_s=5) == b"m:2"
        await settle(2)
        low, high = (a, b) if a.did < b.did else (b, a)
        assert low.transport.session_with(high.did).peer.dialled
        assert not high.transport.session_with(low.did).peer.dialled


@virtually
async def test_dialling_twice_dials_once():
    """Ten callers that want the same peer share one connection."""
    net = MemoryNetwork(CalmWeather(delay_s=0.05))
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        sessions = await asyncio.gather(*(a.dial(b) for _ in range(10)))
        assert len({id(session) for session in sessions}) == 1
        assert len(b.sessions) == 1


@virtually
async def test_a_restarted_peer_replaces_its_old_session():
    """A second dial from the same end wins: the first was lost there."""
    weather = CalmWeather(delay_s=0.01)
    net = MemoryNetwork(weather)
    async with memory_node(net, "b", host=B) as b:
        async with memory_node(net, "a", host=A) as a:
            await a.dial(b)
            weather.cut(A, B)
        weather.heal(A, B)
        async with memory_node(net, "a", host=A) as a:
            session = await a.dial(b)
            assert await session.request("m", b"again", deadline_s=5) == b"m:again"
            assert b.transport.session_with(a.did) is b.sessions[-1]


@virtually
async def test_wrong_keys_names_and_addresses():
    """The dialler's expectations are checked, and nobody listening is said plainly."""
    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        with pytest.raises(CertificateRefused):
            await a.transport.connect(b.address, b.did, (bytes(32),))
        with pytest.raises(HelloRefused, match="was dialled"):
            await a.transport.connect(b.address, TestPapers("c").did)
        with pytest.raises(PeerUnreachable):
            await a.transport.connect((C, 1), b.did)
        assert (await a.transport.connect(b.address)).peer.did == b.did


@attack("introduction", tries="a banned peer dials again", meets="refused until its time")
@virtually
async def test_a_banned_peer_is_out_until_its_time():
    """A ban ends the session, refuses the next, and expires."""
    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        await settle()
        b.transport.ban(a.did, 60)
        await settle()
        assert session.closed.done()
        with pytest.raises(Exception, match=r"closed|hung up"):
            await a.dial(b)
        await settle(61)
        assert await (await a.dial(b)).request("m", b"", deadline_s=5) == b"m:"


@virtually
async def test_a_session_lives_a_day_and_drains():
    """After 24 hours it goes away: what is under way ends, the next dial makes a new one."""

    async def slow(_session, _incoming):
        await asyncio.sleep(25)
        return b"done"

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=slow) as b:
        session = await a.dial(b)
        await settle(SESSION_LIFE_S - 10)
        call = asyncio.ensure_future(session.request("m", b"", deadline_s=30))
        await settle(20)
        assert a.transport.session_with(b.did) is None
        assert await call == b"done"
        await settle(10)
        assert session.closed.done()
        assert await a.dial(b) is not session


@virtually
async def test_closing_fails_what_waits_and_cancels_handlers():
    """close(): the caller's other calls end with SessionClosed at both ends; nothing is left running."""
    ended = []

    async def endless(_session, _incoming):
        try:
            await asyncio.sleep(10_000)
        finally:
            ended.append(1)

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=endless) as b:
        session = await a.dial(b)
        call = asyncio.ensure_future(session.request("m", b"", deadline_s=20))
        await settle()
        await session.close("enough")
        with pytest.raises(SessionClosed, match="enough"):
            await call
        with pytest.raises(SessionClosed):
            await session.request("m", b"", deadline_s=20)
        await settle()
        assert ended == [1]
        assert b.sessions[0].closed.done()


@attack("stream", tries="opens streams and says nothing on them", meets="5 s each, then the slot is free")
@virtually
async def test_a_silent_opener_of_streams_costs_5_s_a_stream():
    """A stream without its head is answered with an error after five seconds: slow-loris in the stream layer."""
    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        for _ in range(8):
            session.mux.open(b"\x00", finish=False)
        session.flush()
        await settle(1)
        assert b.sessions[0].mux.open_streams == 8
        await settle(6)
        assert b.sessions[0].mux.open_streams == 0


@attack("call", tries="a body without end", meets="its deadline, then an error")
@virtually
async def test_a_body_that_never_ends_costs_its_deadline():
    """A request that drips is cancelled with its deadline, at most 30 s."""
    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        stream = await session.open_stream("m", deadline_s=300)
        await stream.write(b"drip")
        await settle(31)
        assert b.sessions[0].mux.open_streams == 0
        with pytest.raises((PeerAnswered, DeadlinePassed)):
            await stream.read(10)


@virtually
async def test_answers_that_come_too_late_are_dropped_and_free_their_slots():
    """Calls given up lazily (beyond the polite rate of resets) end when their answers come; nothing is kept of them."""

    async def late(_session, _incoming):
        await asyncio.sleep(1)
        return bytes(10_000)

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=late) as b:
        session = await a.dial(b)
        calls = [asyncio.ensure_future(session.request("m", b"", deadline_s=5)) for _ in range(60)]
        await settle(0.5)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        abandoned = [stream for stream in session._streams.values() if stream.abandoned]
        assert len(abandoned) == 10
        await settle(0.7)
        assert session.mux.open_streams == len(session._streams) == 0
        assert all(not stream._chunks for stream in abandoned)


@virtually
async def test_nothing_arrives_before_its_time():
    """On a memory link a segment never overtakes: it comes after its delay, and after all that was sent before it."""
    weather = CalmWeather(delay_s=1.0)
    net = MemoryNetwork(weather)
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        session = await a.dial(b)
        await settle(3)
        first = asyncio.ensure_future(session.request("m", b"1", deadline_s=20))
        await settle(0.1)
        weather.latency_s = 0.1
        second = asyncio.ensure_future(session.request("m", b"2", deadline_s=20))
        await settle(0.5)
        assert not first.done()
        assert not second.done()
        assert (await first, await second) == (b"m:1", b"m:2")


@attack("call", tries="a body longer than the method's limit", meets="refused while it comes, at the limit")
@virtually
async def test_a_body_beyond_the_handlers_limit_is_refused_before_it_is_held():
    """body(100) of a long request: an error that says so, and the session lives on."""

    async def picky(_session, incoming):
        return await incoming.body(100)

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=picky) as b:
        session = await a.dial(b)
        assert await session.request("m", bytes(100), deadline_s=5) == bytes(100)
        with pytest.raises(PeerAnswered) as caught:
            await session.request("m", bytes(900_000), deadline_s=5)
        assert caught.value.fields["peer_code"] == AnswerTooLong.code
        assert await session.request("m", b"x", deadline_s=5) == b"x"


@virtually
async def test_a_session_that_the_node_cannot_take_in_is_closed():
    """An error in the overlay's on_session ends that connection only."""
    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
        b.transport._on_session = lambda _session: 1 / 0
        session = await a.dial(b)
        with pytest.raises(SessionClosed):
            await session.request("m", b"", deadline_s=5)
        assert not b.transport._all
        b.transport._on_session = b.sessions.append
        await settle(2)
        assert await (await a.dial(b)).request("m", b"", deadline_s=5) == b"m:"
