"""Calls that need no waiting are answered in the turn in which they come, by the rules of all others."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from common.codec import canonical
from common.contracts.peer import peer_methods
from common.contracts.peer_p2p import DHT_FIND, Contacts, FindNode
from common.errors import BadParams, Internal, TooLarge
from dux_p2pd.calls import AnswerHead, head_in, request_head
from dux_p2pd.frames import ACK, FIN, RST, SYN, FrameReader, Kind, encode
from dux_p2pd.gate import CallBudget
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork
from dux_p2pd.router import Router
from dux_p2pd.wire_errors import PeerAnswered, PeerBusy, SessionClosed, StreamBroken
from dux_p2pd.wire_limits import KNOWN, WINDOW_BYTES
from tests.p2pd.wire_kit import memory_node, virtually

A, B = "127.0.1.1", "127.0.2.1"


def refuse(_session: Any, _data: bytes) -> bytes:
    raise BadParams(detail="not so")


def break_down(_session: Any, _data: bytes) -> bytes:
    raise ZeroDivisionError


def prompt_of(**answers: Any) -> Any:
    return answers.get


@virtually
async def test_a_whole_call_is_answered_without_a_task_and_a_longer_one_with_one() -> None:
    """Answers of any length come whole; nothing stays taken."""
    tasks: list[Any] = []

    def now(_session: Any, data: bytes) -> bytes:
        tasks.append(asyncio.current_task())
        return b"now:" + data * 100

    net, long = MemoryNetwork(CalmWeather(delay_s=0.02)), bytes(3 * WINDOW_BYTES)
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, prompt=prompt_of(now=now)) as b:
        session = await a.dial(b)
        assert await session.request("now", b"x", deadline_s=5) == b"now:" + b"x" * 100
        assert await session.request("now", b"y" * 999, deadline_s=5) == b"now:" + b"y" * 99_900
        assert tasks == [None, None]
        assert await session.request("now", long, deadline_s=5) == b"now:" + long  # the handler's words
        assert await session.request("later", b"x", deadline_s=5) == b"later:x"
        calls = [session.request("now", b"", deadline_s=5) for _ in range(300)]
        assert set(await asyncio.gather(*calls)) == {b"now:"}
        await asyncio.sleep(1)
        serving = b.sessions[0]._serving  # type: ignore[attr-defined]
        assert (serving.executing, serving._tasks, serving._fresh) == (0, {}, {})
        assert session.mux.open_streams == b.sessions[0].mux.open_streams == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(("method", "code"), [("refuse", BadParams.code), ("break_down", Internal.code)])
def test_its_error_is_the_answer(method: str, code: int) -> None:
    """Of our own bug the peer learns nothing more than that, and the session goes on."""

    @virtually
    async def run() -> None:
        net, prompt = MemoryNetwork(), prompt_of(refuse=refuse, break_down=break_down)
        async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, prompt=prompt) as b:
            session = await a.dial(b)
            with pytest.raises(PeerAnswered) as caught:
                await session.request(method, b"", deadline_s=5)
            assert caught.value.fields["peer_code"] == code
            assert await session.request("m", b"x", deadline_s=5) == b"m:x"

    run()


@virtually
async def test_who_has_spent_its_budget_waits_here_too() -> None:
    """The handler does not run."""
    ran: list[bytes] = []

    def now(_session: Any, data: bytes) -> bytes:
        ran.append(data)
        return b""

    prompt = prompt_of(now=now)
    net, budget = MemoryNetwork(), CallBudget(burst_units=3, units_per_s=0.001)
    async with (
        memory_node(net, "a", host=A) as a,
        memory_node(net, "b", host=B, prompt=prompt, budget=budget) as b,
    ):
        session = await a.dial(b)
        calls = [session.request("now", b"", deadline_s=5) for _ in range(8)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert (len(ran), sum(isinstance(one, PeerBusy) for one in answers)) == (3, 5)


@virtually
async def test_a_handler_may_end_the_session_that_asks() -> None:
    """Whoever offers a forgery is banned while its call is being answered.

    Planted bug noticed: the answer to a session that is over waits for credit, for ever.
    """
    net, banning = MemoryNetwork(), SimpleNamespace(transport=None)

    def ban(session: Any, _data: bytes) -> bytes:
        banning.transport.ban(session.peer.did, 600)
        return bytes(2 * WINDOW_BYTES)  # too late, and more than could leave at once

    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, prompt=prompt_of(ban=ban)) as b:
        banning.transport = b.transport
        session = await a.dial(b)
        calls = [session.request("ban", b"", deadline_s=5) for _ in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(one, SessionClosed | StreamBroken) for one in answers)
        await asyncio.sleep(1)
        assert (a.transport.session_with(b.did), b.transport.session_with(a.did)) == (None, None)
        assert not b.sessions[0]._serving._tasks  # type: ignore[attr-defined]


def small_call(stream: int, method: str = "now") -> bytes:
    head = request_head(method, 9.0, ())
    return encode(Kind.DATA, SYN | FIN, stream, len(head), head)


@virtually
async def test_calls_that_come_in_one_piece_keep_to_the_limit_of_open_streams() -> None:
    """A hundred in one piece: so many as may be open are answered, in one piece; the others are told: not executed.

    Planted bug noticed: answered one by one as they are read, so that none of them counts as open.
    """
    ran: list[bytes] = []
    sent: list[bytes] = []

    def now(_session: Any, data: bytes) -> bytes:
        ran.append(data)
        return b"yes"

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, prompt=prompt_of(now=now)) as b:
        await a.dial(b)
        there: Any = b.sessions[0]
        there._line.send = sent.append
        there.feed(b"".join(small_call(1 + 2 * i) for i in range(100)))
        assert (len(ran), len(sent)) == (KNOWN.streams, 1)
        frames = list(FrameReader().feed(sent[0]))
        assert [frame.flags for frame in frames].count(ACK | FIN) == KNOWN.streams
        assert [frame.flags for frame in frames].count(RST) == 100 - KNOWN.streams
        assert (there._serving.executing, there.mux.open_streams) == (0, 0)


@virtually
async def test_long_answers_to_many_calls_in_one_piece_leave_as_they_come() -> None:
    """What waits to be sent does not grow with what is asked: from 64 KiB on it goes, and a full line makes calls wait.

    Planted bug noticed: all of it is kept until the last call of the piece is answered.
    """
    sent: list[bytes] = []

    def now(_session: Any, _data: bytes) -> bytes:
        return bytes(16_000)

    def send(data: bytes) -> None:
        sent.append(data)
        there.set_room(has_room=len(sent) != 3)

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, prompt=prompt_of(now=now)) as b:
        await a.dial(b)
        there: Any = b.sessions[0]
        there._line.send = send
        there.feed(b"".join(small_call(1 + 2 * i) for i in range(20)))
        assert [65_536 <= len(data) < 90_000 for data in sent] == [True] * 3
        assert len(there._serving._tasks) == there._serving.executing == 20 - 15
        there.set_room(has_room=True)
        await asyncio.sleep(0.1)
        assert sum(map(len, sent)) > 20 * 16_000
        assert there._serving.executing == 0


@virtually
async def test_a_call_that_is_dropped_in_the_same_breath_is_not_answered() -> None:
    """Nobody works for nobody, and its slot is free."""
    ran: list[bytes] = []

    def now(_session: Any, data: bytes) -> bytes:
        ran.append(data)
        return b""

    net = MemoryNetwork()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, prompt=prompt_of(now=now)) as b:
        await a.dial(b)
        there: Any = b.sessions[0]
        there.feed(small_call(1) + encode(Kind.CREDIT, RST, 1, 0))
        assert (ran, there._serving.executing, there.mux.open_streams) == ([], 0, 0)
        assert not there.closed.done()


@pytest.mark.parametrize("message", [b"\x00\x05\x93", b"\x00\x01\xc0", b"\xff\xff"], ids=["cut", "none", "long"])
def test_a_small_call_without_a_whole_head_is_refused_as_ever(message: bytes) -> None:
    """A head that is cut off by the end is answered with an error; one that cannot be meant ends the session."""

    @virtually
    async def run() -> None:
        net = MemoryNetwork()
        async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
            await a.dial(b)
            there: Any = b.sessions[0]
            sent: list[bytes] = []
            there._line.send = sent.append
            there.feed(encode(Kind.DATA, SYN | FIN, 1, len(message), message))
            await asyncio.sleep(0.1)
            if message == b"\x00\x05\x93":
                found = head_in(next(FrameReader().feed(b"".join(sent))).payload, AnswerHead)
                assert found is not None
                assert found[0].code == StreamBroken.code
                assert (there._serving.executing, there.mux.open_streams) == (0, 0)
            else:
                assert "head" in there.closed.result()

    run()


def test_the_method_s_limit_and_who_may_call_hold() -> None:
    """As for every other method."""
    router = Router(peer_methods(), {}, lambda _name: None, SimpleNamespace(is_known=lambda _did: True))  # type: ignore[arg-type, return-value]
    router.answer_at_once(DHT_FIND, lambda _params, _peer: Contacts(contacts=()))
    answer, session = router.at_once(DHT_FIND.name), SimpleNamespace(peer=SimpleNamespace(did="did:x"))
    assert answer is not None
    assert answer(session, canonical(FindNode(key=bytes(32)))) == canonical(Contacts(contacts=()))
    with pytest.raises(TooLarge):
        answer(session, bytes(DHT_FIND.params_bytes_max + 1))
