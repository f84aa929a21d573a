"""Flow control under attack: a peer with a session that takes everything it can get, and an honest one beside it."""

import asyncio

import pytest

from dux_p2pd.calls import request_head
from dux_p2pd.frames import FIN, SYN, Kind, encode
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork
from dux_p2pd.wire_limits import (
    KNOWN,
    PETTY_FRAMES_PER_SPAN,
    STRANGER,
    STUCK_S,
    WINDOW_BYTES,
    WRITE_HIGH_BYTES,
)
from tests.attacks.kit import Attacker, honest_beside, inside
from tests.attacks.registry import attack, met
from tests.p2pd.wire_kit import TestPapers, memory_node, tls_node, unread_bytes, until, virtually

BIG = 1_000_000


async def mixed(_session, incoming):
    """`m` echoes, `big` answers with a megabyte, `hold` never reads its body, `slow` reads it a byte at a time."""
    method = incoming.method
    if method == "m":
        return b"m:" + await incoming.body()
    if method == "big":
        await incoming.body()
        return bytes(BIG)
    if method == "slow":
        while await incoming.stream.read(1):
            await asyncio.sleep(0)
        return b""
    await asyncio.sleep(30)
    return b""


def of_eve(node, eve):
    return next(session for session in node.sessions if session.did == eve.papers.did)


@pytest.mark.parametrize("known", [True, False], ids=["known", "stranger"])
@attack(
    "flow control",
    tries="opens every stream it may, asks a megabyte on each and reads none of it",
    meets="one window of each answer is sent (16 KiB x 64, a stranger 16 KiB x 8); further streams are refused",
)
async def test_all_streams_opened_and_none_read(known):
    """What an unread peer holds of ours is its streams times the initial window, whatever it asked for."""
    papers, limit = TestPapers("b", known=known), (KNOWN if known else STRANGER).streams
    async with tls_node("b", host="127.0.2.1", handler=mixed, papers=papers) as b, honest_beside(b), inside(b) as eve:
        for i in range(limit + 10):
            eve.ask(1 + 2 * i, "big")
        session = of_eve(b, eve)
        await until(lambda: session._serving.executing == limit)
        await asyncio.sleep(0.3)
        sent = session._sent_bytes
        assert session.mux.open_streams == limit
        assert sent <= limit * (WINDOW_BYTES + 64) + 4096
        assert not session.closed.done()
    met(f"{sent // 1024} KiB sent of {limit + 10} MB asked for")


@attack(
    "flow control",
    tries="one byte more than its credit, while the first window lies unread",
    meets="connection closed, 16 KiB held until then",
)
async def test_credit_overrun_by_one_byte():
    """The receiver counts, not the sender."""
    async with tls_node("b", host="127.0.2.1", handler=mixed) as b, honest_beside(b), inside(b) as eve:
        eve.ask(1, "hold", flags=SYN)
        session = of_eve(b, eve)
        await until(lambda: session._serving.executing == 1)
        await asyncio.sleep(0.05)
        credit = session.mux._flows[1].receive_window
        eve.say(encode(Kind.DATA, 0, 1, credit, bytes(credit)))
        await until(lambda: unread_bytes(session.mux) == credit)
        assert not session.closed.done()
        eve.say(encode(Kind.DATA, 0, 1, 1, b"x"))
        assert await eve.is_cut()
        assert "with a credit of 0" in session.closed.result()
    met(session.closed.result())


@attack(
    "flow control",
    tries="64 bodies that fill every window and go on as credit comes, with handlers that do not read",
    meets="at most 64 windows are held unread (a stranger's 8); nothing more is granted",
)
async def test_unread_bodies_are_bounded():
    """Beyond the initial windows only a stream that is read gets credit."""
    async with tls_node("b", host="127.0.2.1", handler=mixed) as b, honest_beside(b), inside(b) as eve:
        for i in range(64):
            eve.ask(1 + 2 * i, "hold", bytes(WINDOW_BYTES - 100), flags=SYN)
        session = of_eve(b, eve)
        await until(lambda: unread_bytes(session.mux) >= 64 * (WINDOW_BYTES - 200))
        held = unread_bytes(session.mux)
        assert held <= 64 * WINDOW_BYTES
        assert session.mux._purse.left == KNOWN.credit_bytes
        assert not session.closed.done()
    met(f"{held // 1024} KiB held for 64 bodies, nothing granted")


@attack(
    "flow control",
    tries="takes a megabyte through windows of one byte each",
    meets="told off as a flood of tiny frames after 10,000 in 10 s; the answer never makes our buffer grow",
)
async def test_one_byte_windows():
    """Silly windows cost the attacker as many frames as us, and are counted."""
    async with tls_node("b", host="127.0.2.1", handler=mixed) as b, honest_beside(b), inside(b) as eve:
        eve.ask(1, "big")
        session = of_eve(b, eve)
        while sum(frame.value for frame in await eve.hear() if frame.kind is Kind.DATA) == 0:
            pass
        granted = 0
        while not session.closed.done() and granted < 2 * PETTY_FRAMES_PER_SPAN:
            eve.say(encode(Kind.CREDIT, 0, 1, 1) * 500)
            granted += 500
            await asyncio.sleep(0.002)
        assert await eve.is_cut()
        assert "tiny frames" in session.closed.result()
        assert session._line.buffered_bytes() <= WRITE_HIGH_BYTES
    met(f"cut after {granted} windows of one byte")


@attack(
    "flow control",
    tries="sends a body as DATA frames of one byte",
    meets="told off as a flood of tiny frames after 10,000 in 10 s",
)
async def test_one_byte_frames():
    """Each costs as much as a full frame, so it is counted as one."""
    async with tls_node("b", host="127.0.2.1", handler=mixed) as b, honest_beside(b), inside(b) as eve:
        eve.ask(1, "slow", flags=SYN)
        session = of_eve(b, eve)
        sent = 0
        while not session.closed.done() and sent < 2 * PETTY_FRAMES_PER_SPAN:
            eve.say(encode(Kind.DATA, 0, 1, 1, b"x") * 250)
            sent += 250
            await asyncio.sleep(0.002)
        assert await eve.is_cut()
        assert "tiny frames" in session.closed.result()
    met(f"cut after {sent} frames of one byte")


@virtually
@attack(
    "flow control",
    tries="asks for megabytes, then takes nothing from the socket while it goes on sending signs of life",
    meets="given up 15 s after its buffer filled; what was held for it is free again",
)
async def test_a_reader_that_lives_and_does_not_read():
    """A peer that speaks is alive, but one that takes less than 16 KiB in 15 s holds our memory for nothing.

    Planted bug noticed: without `Progress` the session lives on for as long as the attacker pings.
    """
    weather, loop = CalmWeather(delay_s=0.01), asyncio.get_running_loop()
    net = MemoryNetwork(weather)
    async with (
        memory_node(net, "a", host="127.0.1.1") as a,
        memory_node(net, "b", host="127.0.2.1", handler=mixed) as b,
    ):
        eve = await a.dial(b)
        await asyncio.sleep(1)
        weather.cut("127.0.2.1", "127.0.1.1")
        for _ in range(64):
            eve.mux.open(request_head("big", 30.0, ()), finish=True)
        eve.flush()
        began = loop.time()
        session = b.sessions[0]
        while not session.closed.done() and loop.time() - began < 120:
            eve._liveness.heard(loop.time())
            eve.mux.ping(1)
            eve._line.send(eve.mux.take_output())
            await asyncio.sleep(1)
        took = loop.time() - began
        assert "does not read" in session.closed.result()
        assert STUCK_S <= took <= STUCK_S + 6
        assert b.transport.count.stuck_peers == 1
        await asyncio.sleep(1)
        assert not b.transport._all
    met(f"given up after {took:.0f} s")


@attack(
    "flow control",
    tries="grants 4 GiB of credit, again and again",
    meets="connection closed at 16 MiB: credit without bounds",
)
async def test_credit_without_bounds():
    """A number that no honest peer sends is not added up."""
    async with tls_node("b", host="127.0.2.1", handler=mixed) as b, honest_beside(b), inside(b) as eve:
        eve.ask(1, "hold", flags=SYN)
        eve.say(encode(Kind.CREDIT, 0, 1, 2**32 - 1))
        session = of_eve(b, eve)
        assert await eve.is_cut()
        assert "credit" in session.closed.result()
    met(session.closed.result())


@attack(
    "flow control",
    tries="one DID that dials again and again, leaving streams open on every connection",
    meets="never more than two connections of one DID: the newest, and one that may end what it does",
)
async def test_limits_do_not_multiply_by_dialling_again():
    """A replaced connection drains for 30 s at most, and only one of them does.

    Planted bug noticed: without the end of the older one, six sessions hold six times the limits.
    """
    async with tls_node("b", host="127.0.2.1", handler=mixed) as b, honest_beside(b):
        eves, most = [], 0
        for i in range(6):
            eve = Attacker("eve")
            await eve.connect(b, "127.0.66.1")
            await eve.introduce(b)
            eves.append(eve)
            for k in range(64):
                eve.ask(1 + 2 * k, "hold")
            await until(lambda count=i + 1: b.transport.count.sessions_made >= count + 1)
            await asyncio.sleep(0.05)
            mine = [one for one in b.transport._all if one.did == eve.papers.did]
            most = max(most, len(mine), sum(one._serving.executing for one in mine) // 64)
        assert most == 2
        for eve in eves:
            eve.close()
    met(f"{most} connections of 6 held")


@attack(
    "flow control",
    tries="goes on after GOAWAY: data on live streams, new streams, credit",
    meets="what was under way ends; new streams are refused; no state is left",
)
async def test_frames_after_go_away():
    """GOAWAY ends the opening of streams, not the counting."""
    async with tls_node("b", host="127.0.2.1", handler=mixed) as b, honest_beside(b), inside(b) as eve:
        eve.ask(1, "m", b"before", flags=SYN)
        session = of_eve(b, eve)
        await until(lambda: session._serving.executing == 1)
        eve.say(encode(Kind.GO_AWAY, 0, 0, 0))
        eve.ask(3, "m")
        eve.say(encode(Kind.DATA, FIN, 1, 5, b"after"))
        await until(lambda: session.mux.open_streams == 0)
        assert session._serving.executing == 0
