"""A node that nobody can dial is called through a relay; what a relay may carry, see and break."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common.contracts.p2p_errors import PeerUnknown, PeerUnreachable
from common.contracts.peer_p2p import DID_LOG, AskLog
from common.errors import DuxError
from common.network import Bootstrap
from common.units import Did
from dux_p2pd.circuits import (
    PIECE_BYTES,
    Pieces,
    RelayLedger,
    RelayLimits,
    is_relayed,
    last_piece,
    piece,
    relay_address,
)
from dux_p2pd.relay_server import RelayServer
from dux_p2pd.session import Session
from tests.attacks.registry import attack
from tests.p2pd.overlay_kit import Node, profile, wait_until

pytestmark = pytest.mark.patient

NOWHERE = "127.9.9.9:9"  # what the hidden node tells of itself: nobody listens there
A, B, C = Did("did:dux:a"), Did("did:dux:b"), Did("did:dux:c")


@asynccontextmanager
async def hidden_network(**settings: Any) -> AsyncIterator[tuple[Node, Node, Node]]:
    """A relay, a caller, and a node that others cannot dial; the last two know the relay only."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="duxtest-")))
        relay = Node(1, folder / "1", profile(), peers_target=0, **settings)
        others = profile((Bootstrap(address=relay.address, did=relay.did),))
        caller = Node(2, folder / "2", others, peers_target=1)
        hidden = Node(3, folder / "3", others, peers_target=1)
        for node in (relay, caller, hidden):
            await node.start()
            stack.push_async_callback(node.stop)
            if node is not relay:
                hide(node)
        await wait_until(lambda: hidden.daemon.surroundings.relays.relays, "a reservation")
        await wait_until(lambda: caller.daemon.net.peers.is_connected(relay.did), "the caller connected")
        await wait_until(lambda: resolves(caller, hidden), "the record that names the relay")
        yield relay, caller, hidden


def hide(node: Node) -> None:
    """Behind a NAT: it dials out, nobody dials in, and dial-back has found that."""
    node.daemon.net.transport._servers[0].close()  # type: ignore[attr-defined]
    endpoints, text = node.daemon.endpoints, node.address
    endpoints.judged(text, A, "10.0.0.1", node.daemon.clock.monotonic(), reached=False)
    node.daemon.surroundings.relays.look()


async def session_of(caller: Node, hidden: Node) -> Session:
    return await caller.daemon.net.peers.session_to(hidden.did)


async def test_a_hidden_node_is_called_through_its_relay_and_knows_its_caller() -> None:
    """The caller finds the record, dials through the relay, and both ends have proved their DIDs to each other."""
    async with hidden_network() as (relay, caller, hidden):
        assert hidden.daemon.net.keeper.endpoints == ()
        session = await session_of(caller, hidden)
        assert is_relayed(session.peer.address)
        answer = await caller.daemon.net.peers.call(hidden.did, DID_LOG, AskLog(did=hidden.did))
        assert answer.log
        back = hidden.daemon.net.peers.session_with(caller.did)
        assert back is not None
        assert back.peer.did == caller.did
        assert session.peer.transport_key == hidden.daemon.net.keeper.transport.public
        duty = relay.daemon.surroundings.relay.ledger.duty
        assert duty.circuits == 1
        assert duty.bytes > len(answer.log)
        assert (await caller.info()).contacts == 1  # the relay: nobody keeps a place in the table for a circuit


async def test_a_big_message_passes_with_flow_control() -> None:
    """A megabyte there and back in pieces of 16 KiB, none lost, none of it kept by the relay."""
    async with hidden_network() as (_, caller, hidden):
        session = await session_of(caller, hidden)
        body = bytes(1_000_000)
        with pytest.raises(DuxError, match="no-peer-method"):
            await session.request("x.echo", body, deadline_s=20)

        async def echo(_session: Session, incoming: Any) -> None:
            data = await incoming.body()
            await incoming.stream.write(data)

        hidden.daemon.net.router.answer_stream("x.echo", echo)
        assert await session.request("x.echo", body, deadline_s=20) == body


@pytest.mark.parametrize("closes", ["caller", "hidden"])
async def test_what_an_end_says_last_reaches_the_other_one(closes: str) -> None:
    """An end that says much and closes at once: all of it arrives, and the circuit ends in order, not by a reset.

    Planted bug noticed: the stream reset when the last byte was handed over takes along what the relay still holds.
    """
    async with hidden_network() as (relay, caller, hidden):
        sessions = await session_of(caller, hidden), hidden.daemon.net.peers.session_with(caller.did)
        near, far = sessions if closes == "caller" else sessions[::-1]
        assert near is not None
        assert far is not None
        heard, resets = bytearray(), counted_resets(relay, caller, hidden)
        far.feed = heard.extend  # type: ignore[attr-defined]
        said = b"\xaa" * 16_000  # the session may say something of its own in between
        for _ in range(20):
            near._line.send(said)  # type: ignore[attr-defined]
        near._line.close()  # type: ignore[attr-defined]
        await wait_until(far.closed.done, "the circuit ended")
        assert heard.count(said) == 20
        await wait_until(lambda: not relay.daemon.surroundings.relay.ledger._circuits, "the relay let it go")
        assert resets == []


def counted_resets(*nodes: Node) -> list[str]:
    """Filled with what makes one of these nodes reset a circuit's stream from now on; other calls may be given up."""
    found: list[str] = []

    def watch(session: Any, of: str) -> None:
        drop = session.mux._drop

        def dropped(stream: int, *rest: Any) -> None:
            method = session._streams[stream].method if stream in session._streams else ""
            if method.startswith("relay."):
                found.append(f"{of}: {method}")
            drop(stream, *rest)

        session.mux._drop = dropped

    for node in nodes:
        for session in node.daemon.net.peers.sessions():
            watch(session, f"node {node.index}")
    return found


@attack(
    "relay",
    tries="a relay flips, drops, repeats or swaps pieces of what it carries",
    meets="the session ends; no changed byte reaches a handler",
)
@pytest.mark.parametrize("damage", ["flip", "drop", "repeat", "splice"])
async def test_a_relay_that_meddles_is_noticed(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it does to a piece after the handshake, the session ends; no changed byte reaches a handler."""
    async with hidden_network() as (_, caller, hidden):
        session = await session_of(caller, hidden)
        seen: list[bytes] = []

        async def note(_session: Session, incoming: Any) -> None:
            seen.append(await incoming.body())
            await incoming.stream.write(b"ok")

        hidden.daemon.net.router.answer_stream("x.note", note)
        assert await session.request("x.note", b"honest", deadline_s=5) == b"ok"
        monkeypatch.setattr("dux_p2pd.relay_server.piece", meddler(damage))
        with pytest.raises(DuxError):
            await session.request("x.note", b"m" * 3000, deadline_s=3)
        assert seen == [b"honest"]
        await wait_until(session.closed.done, "the session ended")


def meddler(damage: str) -> Callable[[bytes], bytes]:
    before: list[bytes] = []

    def meddle(data: bytes) -> bytes:
        before.append(data)
        if damage == "flip":
            return piece(data[:-1] + bytes([data[-1] ^ 1]))
        if damage == "drop":
            return piece(data[1:] or b"\0")
        if damage == "repeat":
            return piece(data) + piece(data)
        return piece(before[0][::-1])

    return meddle


@attack(
    "relay",
    tries="a relay connects the caller to itself or to somebody else, or says that nobody is there",
    meets="refused by the key, and told as such",
)
async def test_a_relay_that_leads_elsewhere_gets_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It connects the caller to itself, to another node, or says that the node is not there: refused, and said so."""
    async with hidden_network() as (relay, caller, hidden):
        lying = relay.daemon.surroundings.relay

        async def to_itself(_server: RelayServer, _session: Session, incoming: Any) -> None:
            line_of = relay.daemon.surroundings.relays
            line_of._until[caller.did] = 1e9
            await line_of.serve_incoming(relay.daemon.net.peers.session_with(caller.did), incoming)  # type: ignore[arg-type]

        relay.daemon.net.router._streams["relay.circuit"] = lambda s, i: to_itself(lying, s, i)
        with pytest.raises(DuxError, match=r"certificate|TLS|relay|reached"):
            await session_of(caller, hidden)
        assert not caller.daemon.net.peers.is_connected(hidden.did)
        del monkeypatch


async def test_a_quota_ends_the_circuit_and_says_so() -> None:
    """The relay's reason is what the caller's call fails with."""
    async with hidden_network(relay_did_bytes_per_hour=40_000) as (relay, caller, hidden):
        session = await session_of(caller, hidden)

        async def take(_session: Session, incoming: Any) -> None:
            await incoming.stream.write(await incoming.body())

        hidden.daemon.net.router.answer_stream("x.take", take)
        with pytest.raises(DuxError, match="the relay ended the circuit: the quota of did:dux:"):
            await session.request("x.take", bytes(200_000), deadline_s=10)
        assert "quota" in session.closed.result()
        assert relay.daemon.surroundings.relay.ledger.duty.bytes <= 40_000


@attack("relay", tries="opens a circuit to a node that has no reservation with it", meets="refused")
async def test_a_circuit_from_somebody_who_is_no_relay_of_ours_is_refused() -> None:
    """A peer cannot make a node take connections that it has not asked for."""
    async with hidden_network() as (relay, _, hidden):
        relays = hidden.daemon.surroundings.relays
        relays._is_wanted = lambda: False
        relays.look()
        await wait_until(lambda: not relays.relays, "no reservation")
        session = relay.daemon.net.peers.session_with(hidden.did)
        assert session is not None
        stream = await session.open_stream("relay.incoming", deadline_s=5)
        await stream.close()
        with pytest.raises(DuxError, match="no reservation with you"):
            await stream.read_all()


async def test_without_a_reservation_or_a_relay_the_reason_is_told() -> None:
    """The relay forgot it; the node went; the relay is off duty."""
    async with hidden_network() as (relay, caller, hidden):
        relay.daemon.surroundings.relay.ledger._reserved.clear()
        with pytest.raises(PeerUnreachable, match="no reservation"):
            await session_of(caller, hidden)


async def resolves(caller: Node, hidden: Node) -> bool:
    try:
        known = await caller.daemon.net.peers.locate(hidden.did)  # type: ignore[misc]
    except PeerUnknown:
        return False
    return known.record is not None and bool(known.record.relays)


# what is carried for whom


@attack(
    "relay",
    tries="reservations without end, from one network and from many",
    meets="bounded per network and in all, gone after the hour",
)
def test_reservations_are_bounded_per_network_and_expire() -> None:
    """In all, per net, until the hour is over; a renewal is no second one."""
    ledger = RelayLedger(RelayLimits(reservations=3, reservations_per_net=2))
    assert ledger.reserve(A, "n1", 0.0) is None
    assert ledger.reserve(A, "n1", 1.0) is None
    assert ledger.reserve(B, "n1", 1.0) is None
    assert "of this network" in str(ledger.reserve(C, "n1", 1.0))
    assert ledger.reserve(C, "n2", 1.0) is None
    assert "3 reservations" in str(ledger.reserve(Did("d"), "n3", 1.0))
    assert ledger.is_reserved(A, 3600.0)
    assert not ledger.is_reserved(A, 3601.5)
    assert ledger.reserve(Did("d"), "n3", 3601.5) is None


@attack(
    "relay",
    tries="circuits and bytes without end through one relay",
    meets="bounded per caller, per node reached and in all; refusals are counted",
)
def test_circuits_and_bytes_are_bounded_and_counted() -> None:
    """Per caller, per node reached, in all; quota comes back with time; what was refused is counted."""
    ledger = RelayLedger(RelayLimits(circuits=3, circuits_per_did=2, did_bytes_per_hour=3600, bytes_per_hour=9000))
    assert "no reservation" in str(ledger.open(A, B, 0.0))
    ledger.reserve(B, "n1", 0.0)
    assert ledger.open(A, B, 0.0) is None
    assert ledger.open(A, B, 0.0) is None
    assert "of this caller" in str(ledger.open(A, B, 0.0))
    assert ledger.open(C, B, 0.0) is None
    assert "3 circuits" in str(ledger.open(Did("d"), B, 0.0))
    ledger.close(A, B, 5.0)
    assert ledger.open(Did("d"), B, 0.0) is None
    assert ledger.carry(A, B, 3600, 0.0) is None
    assert f"quota of {A}" in str(ledger.carry(A, B, 1, 0.0))
    assert ledger.carry(A, B, 10, 10.0) is None
    assert ledger.carry(C, Did("e"), 3600, 20.0) is None
    assert "this relay's quota" in str(ledger.carry(Did("f"), Did("g"), 3000, 20.0))
    assert (ledger.duty.circuits, ledger.duty.bytes, ledger.duty.seconds, ledger.duty.refused) == (4, 7210, 5.0, 3)


@attack(
    "relay",
    tries="framing cut anywhere, and lengths that no relay sends",
    meets="any cut gives the same; nonsense ends the circuit",
)
def test_the_relays_framing_survives_any_cut_and_refuses_nonsense() -> None:
    """Fed byte by byte; an end with a reason; a length that no relay sends."""
    parts, out = Pieces(), b""
    for byte in piece(b"abc") + piece(bytes(PIECE_BYTES)) + last_piece("why"):
        out += parts.take(bytes([byte]))
    assert out == b"abc" + bytes(PIECE_BYTES)
    assert parts.reason() == "why"
    parts.take(b"x" * 100_000)
    assert len(parts._buffer) <= PIECE_BYTES + 200
    with pytest.raises(ValueError, match="piece of"):
        Pieces().take(b"\xff\xff")


@attack(
    "relay",
    tries="many names through one relay, to look like many networks",
    meets="all of them are one /48, that of the relay",
)
def test_whoever_comes_through_a_relay_counts_for_that_relay_alone() -> None:
    """One /48 per relay, never a real one; no socket is mistaken for it."""
    one, other = relay_address(A), relay_address(B)
    assert one[0].startswith("fd")
    assert one[0].split(":")[:3] != other[0].split(":")[:3]
    assert is_relayed(one)
    assert not is_relayed(("fd00::1", 7))
