"""Real nodes on loopback sockets: honest use, and attackers with sockets of their own."""

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager, suppress

import pytest

from dux_p2pd import doorway as doorway_module
from dux_p2pd import tls_transport as transport_module
from dux_p2pd.engine import Phase, TlsEngine
from dux_p2pd.frames import RST, SYN, Kind, encode
from dux_p2pd.hello import HelloExchange
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.wire_errors import (
    CertificateRefused,
    HandshakeFailed,
    HelloRefused,
    PeerUnreachable,
    SessionClosed,
)
from tests.attacks.registry import attack
from tests.p2pd.tls_kit import HOSTILE_LEAVES, RawEnd, honest_pem, hostile_context
from tests.p2pd.wire_kit import ALPN, TestPapers, myself, tls_node, until

pytestmark = pytest.mark.patient

A, B, C = "127.0.1.1", "127.0.2.1", "127.0.3.1"


def has_names():
    """Whether this machine knows the one name that all machines should: a bare root has no file of hosts."""
    try:
        return bool(socket.getaddrinfo("localhost", 80))
    except OSError:
        return False


@pytest.mark.skipif(not has_names(), reason="this machine does not know the name localhost")
async def test_a_name_is_dialled_at_whichever_of_its_addresses_answers():
    """A name may have addresses of both families: those race, and the loop of p2pd's process has no race of its own."""
    async with tls_node("a", host="127.0.0.1") as a, tls_node("b", host="127.0.0.1") as b:
        session = await a.transport.connect(("localhost", b.address[1]), b.did, b.keys)
        assert await session.request("echo", b"hello", deadline_s=10) == b"echo:hello"
        with pytest.raises(PeerUnreachable):
            await a.transport.connect(("no-such-name.invalid", b.address[1]), TestPapers("c").did)


async def test_two_nodes_talk_both_ways():
    """One connection carries calls of both ends, small and of a megabyte; a second dial finds it again."""
    async with tls_node("a", host=A) as a, tls_node("b", host=B) as b:
        session = await a.dial(b)
        assert await session.request("echo", b"hello", deadline_s=10) == b"echo:hello"
        assert await session.request("echo", bytes(1_000_000), deadline_s=10) == b"echo:" + bytes(1_000_000)
        await until(lambda: len(b.sessions) == 1)
        assert await b.sessions[0].request("echo", b"back", deadline_s=10) == b"echo:back"
        assert b.sessions[0].peer.address[0] == A
        assert await a.dial(b) is session


async def test_two_that_dial_each_other_while_they_talk_lose_no_call():
    """The connection dialled by the lower DID takes over; what was under way on the other one is answered there.

    Planted bug noticed: the other one is closed without waiting for the peer's goodbye.
    """
    async with tls_node("a", host="127.0.1.1") as a, tls_node("b", host="127.0.2.1") as b:
        low, high = (a, b) if a.did < b.did else (b, a)
        for _ in range(8):
            first = await high.dial(low)
            ends = asyncio.get_running_loop().time() + 0.06
            talks = [asyncio.ensure_future(talk(x, y, ends)) for x, y in ((a, b), (b, a))]
            await asyncio.sleep(0.02)
            second = await low.transport._dial(high.address, high.did, high.keys)
            assert min(await asyncio.gather(*talks)) > 0
            await until(first.closed.done)
            assert low.transport.session_with(high.did) is second
            second.end("next")
            await until(lambda: not a.transport._all and not b.transport._all)


async def test_last_words_are_heard_by_a_peer_that_goes_on_speaking():
    """An answer and the end of the connection behind it, while the peer writes and has not read yet.

    Planted bug noticed: a socket that is closed at once answers the peer's bytes with a reset, and the answer is lost.
    """
    gate = asyncio.Event()

    async def gated(_session, incoming):
        body = await incoming.body()
        await gate.wait()
        return body

    async with tls_node("a", host="127.0.1.1") as a, tls_node("b", host="127.0.2.1", handler=gated) as b:
        session = await a.dial(b)
        call = asyncio.ensure_future(session.request("m", b"last words", deadline_s=5))
        await until(lambda: bool(b.sessions) and b.sessions[0]._serving.executing == 1)
        line = session._line
        line._tcp.pause_reading()
        gate.set()
        await until(lambda: b.sessions[0]._serving.executing == 0)
        b.sessions[0].end("bye")
        for _ in range(3):
            await asyncio.sleep(0.02)
            session._ping()
            session.flush()
        line._tcp.resume_reading()
        assert await call == b"last words"
        await until(lambda: not a.transport.lines and not b.transport.lines)


async def talk(caller, callee, ends: float) -> int:
    """Call on and on; how many calls were answered."""
    answered = 0
    while asyncio.get_running_loop().time() < ends:
        session = caller.transport.session_with(callee.did)
        if session is None:  # just now the other one is on its way
            await asyncio.sleep(0)
            continue
        assert await session.request("m", b"x" * 1000, deadline_s=5) == b"m:" + b"x" * 1000
        answered += 1
    return answered


async def test_the_three_ways_of_dialling():
    """With the record's keys, with the DID alone, and with nothing but an address."""
    async with tls_node("b", host=B) as b:
        for name, did, keys in (("x", b.did, b.keys), ("y", b.did, None), ("z", None, None)):
            async with tls_node(name, host=A) as a:
                session = await a.transport.connect(b.address, did, keys)
                assert session.peer.did == b.did
                assert await session.request("m", b"", deadline_s=10) == b"m:"


async def test_many_calls_at_once():
    """Five hundred calls in each direction over one connection, each with its own answer."""
    async with tls_node("a", host=A) as a, tls_node("b", host=B) as b:
        there = await a.dial(b)
        await until(lambda: bool(b.sessions))
        back = b.sessions[0]

        async def ask(session, start):
            for i in range(start, start + 50):
                assert await session.request("m", b"%d" % i, deadline_s=20) == b"m:%d" % i

        async with asyncio.TaskGroup() as group:
            for k in range(10):
                group.create_task(ask(there, k * 50))
                group.create_task(ask(back, k * 50))


@attack(
    "introduction",
    tries="a node of another transport key, another DID, another network than was dialled",
    meets="refused by name at the dialler; the other end has no session",
)
async def test_a_node_of_another_key_name_or_network_is_not_accepted():
    """Wrong transport key, wrong DID, another network: each refused by name, and the other end has no session."""
    async with tls_node("a", host=A) as a, tls_node("b", host=B) as b, tls_node("c", host=C, network="11" * 32) as c:
        with pytest.raises(CertificateRefused, match="another key"):
            await a.transport.connect(b.address, b.did, (bytes(32),))
        with pytest.raises(HelloRefused, match="was dialled"):
            await a.transport.connect(b.address, TestPapers("x").did)
        with pytest.raises(HelloRefused):
            await a.dial(c)
        assert not b.sessions
        assert not c.sessions


async def test_nobody_there():
    """A closed port is an error that can be repeated later."""
    async with tls_node("a", host=A) as a:
        with pytest.raises(PeerUnreachable):
            await a.transport.connect((B, 1), None, None)


async def test_a_node_that_stops_ends_its_sessions():
    """Leaving the transport says goodbye: the peer knows at once, without a time-out."""
    async with tls_node("a", host=A) as a:
        async with tls_node("b", host=B) as b:
            session = await a.dial(b)
        await until(session.closed.done)
        assert a.transport.session_with(b.did) is None
        with pytest.raises(SessionClosed):
            await session.request("m", b"", deadline_s=5)


async def test_another_transport_key_can_be_put_in_use():
    """New connections show the new key; those that are open live on."""
    papers = TestPapers("b")
    async with tls_node("a", host=A) as a, tls_node("b", host=B, papers=papers) as b:
        old = await a.dial(b)
        new_seed = bytes(32)
        contexts = contexts_of_seed(new_seed, ALPN)
        papers.claimed_keys = (papers.transport_key, contexts.key)
        b.transport.use_contexts(contexts)
        assert await old.request("m", b"", deadline_s=5) == b"m:"
        async with tls_node("c", host=C) as c:
            session = await c.transport.connect(b.address, b.did, (contexts.key,))
            assert session.peer.transport_key == contexts.key


# -- attackers


async def read_end(reader) -> bytes:
    """Everything up to the end, whichever way the other side ends it."""
    got = b""
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(20):
            while part := await reader.read(65536):
                got += part
    return got


@asynccontextmanager
async def raw_socket(node, host=C):
    reader, writer = await asyncio.open_connection(*node.address, local_addr=(host, 0))
    try:
        yield reader, writer
    finally:
        writer.close()


@attack(
    "certificate",
    tries="leaves that the CA would sign for anybody: RSA, P-256, Ed448, CA:TRUE, SAN, EKU, padding, dates, none",
    meets="no session, nothing handed to the application; the next honest peer is served",
)
@pytest.mark.parametrize("leaf", [*HOSTILE_LEAVES, "none"])
async def test_hostile_certificates_over_sockets(tmp_path, leaf):
    """Each hostile leaf, on the wire: no session, and the node still serves the next honest peer."""
    pem = None if leaf == "none" else HOSTILE_LEAVES[leaf]()
    context = hostile_context(tmp_path, server=False, pem=pem)
    async with tls_node("a", host=A) as a, tls_node("b", host=B) as b:
        async with raw_socket(b) as (reader, writer):
            raw = RawEnd(context, server=False)
            writer.write(raw.step(b""))
            with suppress(ConnectionError):
                writer.write(raw.step(await reader.read(65536)))
                await writer.drain()
            await read_end(reader)
        assert not b.sessions
        assert await (await a.dial(b)).request("m", b"", deadline_s=10) == b"m:"


@attack("TLS", tries="HTTP, zeros, a record that promises 16 KiB", meets="closed, less than 100 bytes of answer")
@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(6000), b"\x16\x03\x01\x40\x00" + bytes(5000)]
)
async def test_what_is_not_tls_is_dropped(noise):
    """HTTP, zeros, a record that promises much: closed, without an answer worth having."""
    async with tls_node("b", host=B) as b, raw_socket(b) as (reader, writer):
        writer.write(noise)
        assert len(await read_end(reader)) < 100
        assert not b.sessions


@attack(
    "TLS",
    tries="says nothing, or a byte now and then",
    meets="closed by one timer from accept; its half-open slot is free",
)
async def test_a_silent_client_is_cut_by_the_handshake_timer(monkeypatch):
    """Slow-loris in TLS: a socket that says nothing, or a byte now and then, is closed by one timer from the start."""
    monkeypatch.setattr(transport_module, "HANDSHAKE_S", 0.3)
    async with tls_node("b", host=B) as b, raw_socket(b) as (reader, writer):
        dripping = asyncio.ensure_future(drip(writer))
        assert await read_end(reader) == b""
        dripping.cancel()
        await until(lambda: not b.transport.lines)
        assert not b.transport.gate._half_open


async def drip(writer):
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(100):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


class Attacker:
    """An authenticated TLS client of our own that says what it likes inside."""

    def __init__(self, name="eve"):
        self.papers = TestPapers(name)
        self.engine = TlsEngine(contexts_of_seed(self.papers.seed, ALPN), server_side=False)
        self.plain = bytearray()

    async def shake(self, reader, writer):
        self.reader, self.writer = reader, writer
        writer.write(self.engine.start().to_send)
        while self.engine.phase is Phase.HANDSHAKE:
            writer.write(self.engine.receive(await reader.read(65536)).to_send)

    async def introduce(self, to):
        """An honest HELLO; returns when the acceptor's has come."""
        exchange = HelloExchange(
            myself(self.papers),
            dialler=True,
            peer_key=self.engine.peer_key,
            expected_did=to.did,
            record_known=True,
        )
        self.say(exchange.start())
        step = exchange.receive(b"")
        while step.introduced is None:
            step = exchange.receive(self.engine.receive(await self.reader.read(65536)).plaintext)

    def say(self, plaintext):
        self.writer.write(self.engine.send(plaintext))

    async def until_closed(self):
        await read_end(self.reader)


@attack("introduction", tries="TLS complete, then silence", meets="closed by the second timer")
async def test_a_client_that_never_introduces_itself_is_cut(monkeypatch):
    """Slow-loris in HELLO: TLS complete, then silence or a drip; the second timer ends it."""
    monkeypatch.setattr(doorway_module, "HELLO_S", 0.3)
    async with tls_node("b", host=B) as b, raw_socket(b) as (reader, writer):
        eve = Attacker()
        await eve.shake(reader, writer)
        eve.say(b"\x00\x00\x10")
        await eve.until_closed()
        assert not b.sessions
        await until(lambda: not b.transport.gate._half_open)


@attack(
    "introduction",
    tries="HELLO oversized, empty, undecodable, repeated, endless",
    meets="closed before any signature is looked at",
)
@pytest.mark.parametrize(
    "words",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x40\x01",
        b"\x00\x00\x00\x01\x90",
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        bytes(70_000),
    ],
)
async def test_a_hello_that_cannot_be_meant_is_dropped(words):
    """Oversized, empty, undecodable, repeated wishes: closed before anything is verified."""
    async with tls_node("b", host=B) as b, raw_socket(b) as (reader, writer):
        eve = Attacker()
        await eve.shake(reader, writer)
        eve.say(words)
        await eve.until_closed()
        assert not b.sessions
        assert b.papers.judged == []


def floods():
    opened = b"".join(encode(Kind.DATA, SYN, 1 + 2 * i, 3, b"\x00\x10a") for i in range(64))
    resets = b"".join(
        encode(Kind.DATA, SYN, 1 + 2 * i, 1, b"x") + encode(Kind.CREDIT, RST, 1 + 2 * i, 0) for i in range(101)
    )
    return {
        "unknown frame": b"\x00\x09" + bytes(10),
        "oversized frame": b"\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff",
        "beyond the credit": encode(Kind.DATA, SYN, 1, 16384, b"\x03\xff" + bytes(16382)) * 1
        + encode(Kind.DATA, 0, 1, 16384, bytes(16384)),
        "rapid reset": resets,
        "ping flood": encode(Kind.PING, SYN, 0, 1) * 101,
        "streams without end": opened + b"".join(encode(Kind.DATA, SYN, 129 + 2 * i, 1, b"x") for i in range(200)),
        "a head that is too long": encode(Kind.DATA, SYN, 1, 2, b"\x04\x01"),
        "a head that does not decode": encode(Kind.DATA, SYN, 1, 3, b"\x00\x01\xc0"),
    }


@attack(
    "framing",
    tries="unknown and oversized frames, rapid reset, ping flood, streams without end, heads that cannot be meant",
    meets="that session is closed; an honest one beside it notices nothing",
)
@pytest.mark.parametrize("flood", floods())
async def test_floods_inside_a_session_end_it_and_nothing_else(flood):
    """An authenticated peer that breaks the framing loses its session; an honest one beside it notices nothing."""
    async with tls_node("a", host=A) as a, tls_node("b", host=B) as b:
        honest = await a.dial(b)
        async with raw_socket(b) as (reader, writer):
            eve = Attacker()
            await eve.shake(reader, writer)
            await eve.introduce(b)
            await until(lambda: len(b.sessions) == 2)
            eve.say(floods()[flood])
            await eve.until_closed()
            await until(b.sessions[1].closed.done)
        assert await honest.request("m", b"", deadline_s=10) == b"m:"


@attack(
    "flow control",
    tries="64 answers of a megabyte asked for and not read",
    meets="one window of each is sent; the process does not grow",
)
async def test_a_peer_that_asks_and_does_not_read_gets_a_window_of_each_answer():
    """Requests whose answers nobody takes: writers stop at the credit, and the process does not grow."""
    answers = []

    async def big(_session, incoming):
        await incoming.body()
        answers.append(1)
        return bytes(1_000_000)

    async with tls_node("b", host=B, handler=big) as b, raw_socket(b) as (reader, writer):
        eve = Attacker()
        await eve.shake(reader, writer)
        await eve.introduce(b)
        head = b"\x00\x06\x93\xa1m\xcd\x4e\x20\x90"
        head = len(head[2:]).to_bytes(2) + head[2:]
        for i in range(64):
            eve.say(encode(Kind.DATA, SYN | 4, 1 + 2 * i, len(head), head))
        await until(lambda: len(answers) == 64)
        assert b.sessions[0].mux.open_streams == 64
        assert b.sessions[0]._line.buffered_bytes() <= 64 * 16_384 + 70_000


@attack(
    "TCP",
    tries="9 half-open connections of one network",
    meets="the 9th is aborted before TLS; another network gets in",
)
async def test_the_gate_stands_before_tls():
    """The 9th half-open connection of one net is aborted at once; another net gets in."""
    async with tls_node("a", host=A) as a, tls_node("b", host=B) as b:
        connections = [await asyncio.open_connection(*b.address, local_addr=(C, 0)) for _ in range(9)]
        await until(lambda: len(b.transport.lines) == 8)
        assert sum(b.transport.gate._half_open.values()) == 8
        assert (b.transport.count.gate_half_open_net, b.transport.count.gate_refused) == (1, 1)
        assert (await a.dial(b)).peer.did == b.did
        for _, writer in connections:
            writer.close()
        await until(lambda: not b.transport.gate._half_open)


@attack(
    "identity",
    tries="misbinding: a node whose record names the victim's key relays to the victim",
    meets="refused: both DIDs are named inside the channel; an honest relay sees ciphertext only",
)
async def test_misbinding_over_sockets():
    """Eve's record names Bob's key and she splices the bytes: Alice's call to Eve never becomes a session with Bob."""
    eve = TestPapers("eve")
    async with tls_node("alice", host=A) as alice, tls_node("bob", host=B) as bob:

        async def splice(reader, writer):
            there, back = await asyncio.open_connection(*bob.address, local_addr=(C, 0))
            async with asyncio.TaskGroup() as group:
                group.create_task(pipe(reader, back))
                group.create_task(pipe(there, writer))

        server = await asyncio.start_server(splice, C, 0)
        address = server.sockets[0].getsockname()[:2]
        with pytest.raises(HelloRefused):
            await alice.transport.connect(address, eve.did, (bob.papers.transport_key,))
        with pytest.raises(HelloRefused):
            await alice.transport.connect(address, eve.did)
        assert not bob.sessions
        assert not alice.sessions
        relayed = await alice.transport.connect(address, bob.did, bob.keys)
        assert await relayed.request("m", b"", deadline_s=10) == b"m:"
        server.close()


async def pipe(reader, writer):
    with suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
    writer.close()


@attack(
    "TLS",
    tries="a server in between that ends TLS itself",
    meets="the dialler hangs up with nothing sent but its ClientHello",
)
async def test_a_man_in_the_middle_never_sees_the_clients_key():
    """A TLS-terminating server between: the dialler hangs up with nothing sent but its ClientHello."""
    seen = bytearray()
    mallory = contexts_of_seed(bytes(32), ALPN)

    async def terminate(reader, writer):
        engine = TlsEngine(mallory, server_side=True)
        with suppress(ConnectionError):
            while part := await reader.read(65536):
                seen.extend(part)
                writer.write(engine.receive(part).to_send)
        writer.close()

    async with tls_node("a", host=A) as a, tls_node("b", host=B) as b:
        server = await asyncio.start_server(terminate, C, 0)
        address = server.sockets[0].getsockname()[:2]
        with pytest.raises(CertificateRefused):
            await a.transport.connect(address, b.did, b.keys)
        server.close()
        assert 0 < len(seen) < 400
        assert seen[5] == 1
        assert not a.sessions


@attack(
    "TLS",
    tries="a server that does not ask for the client's certificate",
    meets="no session: the client is up only after the server's HELLO",
)
async def test_a_server_that_asks_for_no_certificate_gets_no_session(tmp_path):
    """The client believes TLS is complete, and still waits for a HELLO that it can judge."""
    raw = RawEnd(hostile_context(tmp_path, server=True, pem=honest_pem("x"), ask=False), server=True)

    async def serve(reader, writer):
        while part := await reader.read(65536):
            writer.write(raw.step(part))
            if raw.done:
                writer.close()
                return

    async with tls_node("a", host=A) as a:
        server = await asyncio.start_server(serve, C, 0)
        with pytest.raises((HelloRefused, HandshakeFailed)):
            await a.transport.connect(server.sockets[0].getsockname()[:2], None, None)
        assert not a.sessions
        server.close()


def test_the_hostile_kit_is_honest_about_its_control(tmp_path):
    """With the template leaf the same raw client is accepted: so the refusals above are due to the leaves."""
    context = hostile_context(tmp_path, server=False, pem=honest_pem("client"))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    engine = TlsEngine(contexts_of_seed(bytes(32), ALPN), server_side=True)
    raw = RawEnd(context, server=False)
    assert engine.receive(raw.step(engine.receive(raw.step(b"")).to_send)).phase is Phase.OPEN


async def test_many_writers_to_a_slow_reader_keep_the_buffer_small():
    """64 streams with a megabyte each to a peer that grants much credit and reads nothing: the buffer has a limit.

    Planted bug noticed: writers that do not look at the buffer again after waking end the session.
    """

    async def big(_session, incoming):
        for _ in range(16):
            await incoming.stream.write(bytes(1_000_000))

    async with tls_node("b", host=B, handler=big) as b, raw_socket(b) as (reader, writer):
        eve = Attacker()
        await eve.shake(reader, writer)
        await eve.introduce(b)
        head = b"\x93\xa1m\xcd\x4e\x20\x90"
        for i in range(64):
            eve.say(encode(Kind.DATA, SYN | 4, 1 + 2 * i, len(head) + 2, len(head).to_bytes(2) + head))
            eve.say(encode(Kind.CREDIT, 0, 1 + 2 * i, 8_000_000))
        await until(lambda: b.sessions[0]._line.buffered_bytes() > 256 * 1024)
        most = 0
        for _ in range(200):
            eve.engine.receive(await reader.read(65_536))
            await asyncio.sleep(0)
            most = max(most, b.sessions[0]._line.buffered_bytes())
        assert not b.sessions[0].closed.done()
        assert most < 600_000
