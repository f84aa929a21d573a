"""The channel under attack: replay, changed bytes, foreign versions, stolen keys, floods of handshakes, bombs."""

import asyncio
import tracemalloc
from contextlib import suppress
from typing import Self

import pytest

from common.clock import ManualClock
from common.codec import canonical, from_canonical
from common.contracts.peer import peer_methods
from common.errors import BadParams, DuxError
from dux_p2pd import tls_transport as transport_module
from dux_p2pd.calls import RequestHead
from dux_p2pd.certs import key_of_leaf, leaf_certificate, public_key
from dux_p2pd.engine import Phase, TlsEngine
from dux_p2pd.hello import Hello, HelloExchange
from dux_p2pd.tls_keys import contexts_of_seed
from dux_p2pd.wire_errors import PeerUnreachable
from dux_p2pd.wire_limits import HELLO_BYTES, NET_BURST, NET_PER_S, STARVED_BYTES
from tests.attacks.kit import Attacker, honest_beside
from tests.attacks.registry import attack, met
from tests.p2pd.lying_client import APPLICATION, LyingClient, leaf_of, sign
from tests.p2pd.tls_kit import node_contexts
from tests.p2pd.wire_kit import ALPN, DAY_MS, MADE_MS, TestPapers, myself, tls_node, until

A, B, C = "127.0.1.1", "127.0.2.1", "127.0.66.1"
FLOOD_MAX = 200  # handshakes, when none of them is refused


class Between:
    """A relay that notes what the client says and may change one byte of it."""

    def __init__(self, target: tuple[str, int], flip_at: int | None = None) -> None:
        self.target, self.flip_at, self.said = target, flip_at, bytearray()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._splice, C, 0)
        self.address = self.server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _splice(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self.target, local_addr=(C, 0))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass(reader, back, note=True))
            group.create_task(self._pass(there, writer, note=False))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, note: bool) -> None:
        with suppress(ConnectionError):
            while part := bytearray(await reader.read(65536)):
                if note:
                    at = (self.flip_at if self.flip_at is not None else -1) - len(self.said)
                    if 0 <= at < len(part):
                        part[at] ^= 0x20
                    self.said += part
                writer.write(part)
        writer.close()


@attack(
    "TLS",
    tries="records a whole honest connection and plays the client's bytes to the server again",
    meets="refused inside TLS: the server's share is new each time; no introduction begins",
)
async def test_replay_of_a_whole_connection():
    """Nothing that was ever sent is of use again."""
    async with tls_node("a", host=A) as a, tls_node("b", host=B) as b, Between(b.address) as between:
        session = await a.transport.connect(between.address, b.did, b.keys)
        assert await session.request("m", b"pay 5", deadline_s=5) == b"m:pay 5"
        before = b.transport.count.handshakes_failed
        reader, writer = await asyncio.open_connection(*b.address, local_addr=("127.0.99.1", 0))
        writer.write(bytes(between.said))
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()
        await until(lambda: b.transport.count.handshakes_failed == before + 1)
        assert len(b.sessions) == 1
    met(f"{len(between.said)} bytes replayed, no session")


@attack(
    "introduction",
    tries="a relay changes one byte of what the client says: in ClientHello, certificate, HELLO (versions, features)",
    meets="no session in any case: nothing can be negotiated down unseen",
)
async def test_one_changed_byte_anywhere_and_no_downgrade():
    """Every 97th byte from the first one on, until the session would be up."""
    more = {"features": ("x", "y")}
    async with tls_node("a", host=A, **more) as a, tls_node("b", host=B, **more) as b, Between(b.address) as plain:
        session = await a.transport.connect(plain.address, b.did, b.keys)
        assert (session.peer.version, session.peer.features) == (1, frozenset(("x", "y")))
        await session.close("for the test")
        whole, tried = len(plain.said) - 60, 0
        await until(lambda: a.transport.session_with(b.did) is None)
        b.transport.gate._buckets._buckets.clear()
        for at in range(5, whole, 97):
            async with Between(b.address, flip_at=at) as between:
                with pytest.raises(DuxError):
                    async with asyncio.timeout(4):
                        await a.transport.connect(between.address, b.did, b.keys)
            tried += 1
            b.transport.gate._buckets._buckets.clear()
        assert len([one for one in b.sessions if not one.closed.done()]) == 0
    met(f"{tried} places changed, 0 sessions")


@pytest.mark.parametrize("case", ["versions of the future", "format of the future", "ALPN dux/2", "mux version 1"])
@attack(
    "introduction",
    tries="speaks a version that does not exist yet: in ALPN, HELLO's format, its versions, a frame",
    meets="refused by name, the connection closed; a common version beside an unknown one is taken",
)
async def test_unknown_versions(case, monkeypatch):
    """What is unknown is refused, what is known beside it is used."""
    monkeypatch.setattr(transport_module, "HANDSHAKE_S", 0.5)
    async with tls_node("b", host=B) as b, honest_beside(b):
        eve = Attacker()
        if case == "ALPN dux/2":
            eve.engine = TlsEngine(contexts_of_seed(eve.papers.seed, "dux/2"), server_side=False)
            with suppress(ConnectionError):
                await eve.connect(b, C)
        elif case == "mux version 1":
            await eve.connect(b, C)
            await eve.introduce(b)
            eve.say(b"\x01" + bytes(11))
        else:
            what = "WIRE_VERSIONS" if case.startswith("versions") else "HELLO_FORMAT"
            await eve.connect(b, C)
            eve.say(changed_hello(eve, b, what))
        assert await eve.is_cut()
        eve.close()
        assert all(one.closed.done() for one in b.sessions if one.did == eve.papers.did)
    met(f"{case}: refused")


def changed_hello(eve, node, what: str) -> bytes:
    """An honest HELLO but for one field."""
    exchange = HelloExchange(
        myself(eve.papers), dialler=True, peer_key=eve.engine.peer_key, expected_did=node.did, record_known=True
    )
    plain = exchange.start()[4:]
    hello = from_canonical(plain, Hello, max_bytes=HELLO_BYTES)
    fields = {name: getattr(hello, name) for name in Hello.__struct_fields__}
    fields["versions" if what == "WIRE_VERSIONS" else "format"] = (2, 3) if what == "WIRE_VERSIONS" else 2
    data = canonical(Hello(**fields))
    return len(data).to_bytes(4) + data


@attack(
    "introduction",
    tries="breaks off at every length of its HELLO, with and without closing",
    meets="no session, no line, no half-open slot is left behind",
)
async def test_truncated_introductions():
    """Whatever was begun is forgotten."""
    async with tls_node("b", host=B) as b, honest_beside(b):
        for share in (0.0, 0.01, 0.3, 0.6, 0.99):
            eve = Attacker()
            await eve.connect(b, C)
            hello = changed_hello(eve, b, "WIRE_VERSIONS")
            eve.say(hello[: int(len(hello) * share)])
            await asyncio.sleep(0.01)
            eve.close()
        await until(lambda: not b.transport.gate._half_open)
        await until(lambda: len(b.transport.lines) == 1)
        assert len(b.sessions) == 1


@pytest.mark.parametrize("case", ["old key, new record", "old key, old record that was replaced"])
@attack(
    "identity",
    tries="a stolen transport key that its owner has replaced, with the owner's papers of today or of yesterday",
    meets="refused: the newest record that is held does not name this connection's key",
)
async def test_a_stolen_transport_key_after_its_replacement(case):
    """The record binds the key; a key that left the record is nobody's.

    Planted bug noticed: papers that vouch for the offered record instead of the newest one let the second case in.
    """
    victim, newest = TestPapers("victim"), TestPapers("victim")
    stolen = victim.seed
    newest.claimed_keys = (public_key(bytes(32)),)

    class Remembering(TestPapers):
        """Holds the victim's newest record, as the directory does."""

        def judge(self, did, log_tail, node_record):
            newer = newest.record() if did == victim.did else node_record
            return super().judge(did, log_tail, newer)

    papers = Remembering("b")
    async with tls_node("b", host=B, papers=papers) as b, honest_beside(b):
        thief = Attacker(seed=stolen, papers=newest if case.endswith("new record") else victim)
        await thief.connect(b, C)
        with pytest.raises((DuxError, ConnectionError, TimeoutError)):
            async with asyncio.timeout(3):
                await thief.introduce(b)
        thief.close()
        assert all(one.did != victim.did for one in b.sessions)
    met(f"{case}: no session as the victim")


@attack(
    "TCP",
    tries="full handshakes from one network, as fast as it can",
    meets="20 at once and 5 a second are let in; the rest costs an accept and an abort",
)
async def test_a_flood_of_handshakes():
    """The gate's bucket is per network: the honest peer's is another."""
    async with tls_node("b", host=B) as b, honest_beside(b):
        loop, began, tried, done = asyncio.get_running_loop(), asyncio.get_running_loop().time(), 0, 0
        while loop.time() - began < 1.0 or (tried == done and tried < FLOOD_MAX):  # a busy machine floods slowly
            eve = Attacker(f"eve {tried % 4}")
            tried += 1
            try:
                await eve.connect(b, C)
                done += 1
            except (ConnectionError, PeerUnreachable, OSError):
                pass
            eve.close()
        took = loop.time() - began
        assert done <= NET_BURST + NET_PER_S * took + 1
        assert tried > done
    met(f"{done} of {tried} handshakes in {took:.1f} s completed")


BOMBS = {
    "nested arrays": b"\x91" * 16_000,
    "nested maps": b"\x81\xa0" * 8_000,
    "an array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "bytes of 4 GB": b"\xc6\xff\xff\xff\xff",
    "text of 4 GB": b"\xdb\xff\xff\xff\xff",
    "ten fields, the fifth of 4 GB": b"\x9a\x01\xa0\xa0\xc0\xc6\xff\xff\xff\xff",
    "an extension of 4 GB": b"\xc9\xff\xff\xff\xff\x01",
}


@pytest.mark.parametrize("bomb", BOMBS)
@attack(
    "decoding",
    tries="MessagePack that promises much or nests deep, as HELLO, as a stream's head, as every peer method's body",
    meets="refused at once; no memory is taken for what was only promised",
)
async def test_decode_bombs(bomb):
    """The limit is looked at before the decoder, and the decoder gives no room before it has read."""
    kinds = [Hello, RequestHead, *(method.params for method in peer_methods().values())]
    tracemalloc.start()
    try:
        for kind in kinds:
            with pytest.raises(BadParams):
                from_canonical(BOMBS[bomb], kind, max_bytes=65_536)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    met(f"{len(kinds)} types, at most {peak // 1024} KiB taken")


def opened() -> tuple[TlsEngine, LyingClient]:
    contexts, _ = node_contexts("server")
    engine, client = TlsEngine(contexts, server_side=True), LyingClient(ALPN)
    client.read_server(engine.receive(client.hello()).to_send)
    seed = bytes(32)
    engine.receive(client.certificate(leaf_of(seed)) + client.verify(sign(seed, client.to_sign())) + client.finished())
    assert engine.phase is Phase.OPEN
    assert engine.peer_key == public_key(seed)
    return engine, client


@pytest.mark.parametrize("case", ["padding", "empty records", "alerts"])
@attack(
    "TLS",
    tries="records of padding only, empty records, warning alerts: bytes that decrypt to nothing",
    meets="closed by the starvation meter after 32 KiB, or earlier inside TLS",
)
def test_records_that_hold_nothing(case):
    """TLS compresses nothing, so nothing can swell; the reverse, much that yields nothing, is metered."""
    engine, client = opened()
    assert engine._tls.compression() is None
    taken = 0
    while engine.phase is Phase.OPEN and taken < 10 * STARVED_BYTES:
        if case == "padding":
            record = client.sealer.seal(0, b"\x17" + bytes(2000))
        else:
            record = client.sealer.seal(
                APPLICATION if case == "empty records" else 21, b"" if case[0] == "e" else b"\x01\x5a"
            )
        engine.receive(record)
        taken += len(record)
    assert engine.phase is not Phase.OPEN
    assert taken <= STARVED_BYTES + 4096
    met(f"{case}: closed after {taken} bytes")


@attack(
    "certificate",
    tries="one bit of an honest leaf changed, each of the 2,568 in turn",
    meets="refused, or it is the leaf of another key that the handshake must then prove",
)
def test_every_bit_of_a_leaf():
    """A leaf is its template: no X.509 reading can differ between two readers."""
    leaf, key, others, refused = leaf_certificate(public_key(bytes(32))), public_key(bytes(32)), 0, 0
    for bit in range(len(leaf) * 8):
        changed = bytearray(leaf)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            others += key_of_leaf(bytes(changed)) != key
        except DuxError:
            refused += 1
    assert refused + others >= len(leaf) * 8 - 64 * 8  # a changed CA signature is TLS's business: anybody can make one
    assert others <= 32 * 8
    met(f"{refused} refused, {others} are leaves of other keys, the rest is the signature that TLS checks")


@attack(
    "introduction",
    tries="a clock years ahead or behind, with papers that are valid or expired by it",
    meets="10 minutes apart: served; beyond that told in the log, and a record of the future or expired is refused",
)
async def test_clock_skew():
    """Deadlines are relative and sessions use the monotonic clock: only papers know a date."""
    for days, gets_in in ((0.0, True), (0.006, True), (0.02, False), (3.0, False)):
        clock = ManualClock(int(MADE_MS + 1000 + days * DAY_MS))
        papers = TestPapers("b", clock=clock)
        async with tls_node("b", host=B, papers=papers) as b, tls_node("a", host=A) as a:
            if gets_in:
                session = await a.dial(b)
                assert await session.request("m", b"", deadline_s=5) == b"m:"
                assert session.peer.clock_skew_ms == pytest.approx(days * DAY_MS, abs=1000)
            else:
                with pytest.raises(DuxError):
                    await a.dial(b)
                await until(lambda node=b: all(one.closed.done() for one in node.sessions))
    met("9 minutes apart: served; half an hour or three days: refused by the record's dates")
