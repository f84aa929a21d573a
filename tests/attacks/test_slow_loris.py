"""Slow-loris on every layer: each wait that a peer can cause has an end, and nobody else waits with it."""

import asyncio
from contextlib import suppress

from dux_p2pd import doorway as doorway_module
from dux_p2pd import serving as serving_module
from dux_p2pd import tls_transport as transport_module
from dux_p2pd.calls import request_head
from dux_p2pd.frames import FIN, SYN, Kind, encode
from dux_p2pd.wire_limits import ALL_HALF_OPEN, NET_HALF_OPEN
from tests.attacks.kit import Attacker, honest_beside, inside
from tests.attacks.registry import attack, met
from tests.p2pd.wire_kit import tls_node, until

B = "127.0.2.1"
SHORT_S = 0.4  # stands for the 5 s of the handshake, the introduction and a stream's head


async def cut_after_s(reader) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with suppress(ConnectionError):
        async with asyncio.timeout(10):
            while await reader.read(65536):
                pass
    return loop.time() - began


@attack(
    "TCP",
    tries="90 connections from 10 networks that say nothing",
    meets="8 per network and 64 in all are let in and cut by one timer; the rest is aborted before any TLS exists",
)
async def test_silent_connections(monkeypatch):
    """Half-open connections are bounded per network and in all; sessions that are up do not count."""
    monkeypatch.setattr(transport_module, "HANDSHAKE_S", SHORT_S)
    async with tls_node("b", host=B) as b, honest_beside(b):
        gate = b.transport.gate
        opened = []
        for i in range(90):
            address = (f"127.5.{i // 9}.1", 0)
            opened.append(await asyncio.open_connection(*b.address, local_addr=address))
        await until(lambda: b.transport.count.accepted + b.transport.count.gate_refused >= 91)
        most = max(gate._half_open.values(), default=0)
        assert most <= NET_HALF_OPEN
        assert sum(gate._half_open.values()) <= ALL_HALF_OPEN
        assert b.transport.count.gate_refused >= 90 - ALL_HALF_OPEN
        await until(lambda: not gate._half_open)
        for _, writer in opened:
            writer.close()
    met(f"{b.transport.count.gate_refused} of 90 refused before TLS, the others cut by the timer")


@attack("TLS", tries="drips its ClientHello a byte at a time", meets="cut 5 s after accept, however busily it drips")
async def test_dripping_client_hello(monkeypatch):
    """The timer runs from accept, not from the last byte."""
    monkeypatch.setattr(transport_module, "HANDSHAKE_S", SHORT_S)
    async with tls_node("b", host=B) as b, honest_beside(b):
        eve = Attacker()
        first = eve.engine.start().to_send
        reader, writer = await asyncio.open_connection(*b.address, local_addr=("127.0.66.1", 0))

        async def drip() -> None:
            for byte in first[:-1]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.005)

        dripping = asyncio.ensure_future(drip())
        took = await cut_after_s(reader)
        dripping.cancel()
        writer.close()
        assert SHORT_S - 0.1 <= took < SHORT_S + 1
    met(f"cut after {took:.1f} s of a {SHORT_S} s timer")


@attack("introduction", tries="drips its HELLO a byte at a time", meets="cut 5 s after TLS; nothing of it is verified")
async def test_dripping_introduction(monkeypatch):
    """The second timer, likewise from its own start."""
    monkeypatch.setattr(doorway_module, "HELLO_S", SHORT_S)
    async with tls_node("b", host=B) as b, honest_beside(b):
        eve = Attacker()
        await eve.connect(b)

        async def drip() -> None:
            for byte in b"\x00\x00\x08\x00" + bytes(2000):
                eve.say(bytes([byte]))
                await asyncio.sleep(0.005)

        dripping = asyncio.ensure_future(drip())
        took = await cut_after_s(eve.reader)
        dripping.cancel()
        eve.close()
        assert SHORT_S - 0.1 <= took < SHORT_S + 1
        assert eve.papers.did not in b.papers.judged
        await until(lambda: not b.transport.gate._half_open)
    met(f"cut after {took:.1f} s of a {SHORT_S} s timer")


@attack(
    "stream",
    tries="opens every stream and drips the head of each a byte at a time",
    meets="each stream is answered with an error 5 s after it was opened; its slot is free",
)
async def test_dripping_stream_heads(monkeypatch):
    """A head has its own time, long before any deadline of a method."""
    monkeypatch.setattr(serving_module, "HEAD_S", SHORT_S)
    async with tls_node("b", host=B) as b, honest_beside(b), inside(b) as eve:
        head = request_head("m", 30.0, ())
        session = next(one for one in b.sessions if one.did == eve.papers.did)
        for i in range(64):
            eve.say(encode(Kind.DATA, SYN, 1 + 2 * i, 1, head[:1]))
        await until(lambda: session._serving.executing == 64)
        for byte in head[1:4]:
            for i in range(64):
                eve.say(encode(Kind.DATA, 0, 1 + 2 * i, 1, bytes([byte])))
            await asyncio.sleep(SHORT_S / 4)
        await until(lambda: session._serving.executing == 0, within_s=5)
        assert not session.closed.done()
    met("64 slots free again, the session itself unharmed")


@attack(
    "call",
    tries="64 requests whose bodies drip a byte at a time and never end",
    meets="each costs its method's deadline and no longer; then the slot is free",
)
async def test_dripping_bodies():
    """The deadline is ours, whatever the caller wishes."""
    async with tls_node("b", host=B, method_s_max={"slow": 0.5}) as b, honest_beside(b), inside(b) as eve:
        session = next(one for one in b.sessions if one.did == eve.papers.did)
        for i in range(64):
            eve.ask(1 + 2 * i, "slow", flags=SYN)
        await until(lambda: session._serving.executing == 64)
        for _ in range(4):
            for i in range(64):
                eve.say(encode(Kind.DATA, 0, 1 + 2 * i, 1, b"x"))
            await asyncio.sleep(0.1)
        await until(lambda: session._serving.executing == 0, within_s=5)
        eve.ask(129, "m", b"?", flags=SYN | FIN)
        await until(lambda: session.mux.open_streams == 0, within_s=5)
        assert not session.closed.done()
    met("64 slots free again after the method's 0.5 s")


@attack(
    "call",
    tries="sends as many calls as it can, for as long as it can",
    meets="its own budget is spent (a stranger has a tenth), the others' is not",
)
async def test_a_flood_of_calls_spends_the_floods_own_budget():
    """Units are per DID and per network."""
    async with tls_node("b", host=B) as b, honest_beside(b), inside(b) as eve:
        session, sent = next(one for one in b.sessions if one.did == eve.papers.did), 0

        async def read_on() -> None:
            while await eve.hear():
                pass

        reading = asyncio.ensure_future(read_on())
        while b.transport.count.calls_refused == 0 and sent < 12_000:
            for _ in range(32):
                eve.ask(1 + 2 * sent, "m")
                sent += 1
            await asyncio.sleep(0.002)
            assert not session.closed.done(), session.closed.result()
        refused = b.transport.count.calls_refused
        reading.cancel()
        assert refused > 0
    met(f"refused from call {sent} on")
