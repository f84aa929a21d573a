"""The life of a session from its good end to its bad ones: drained, moved, replaced, blamed, counted."""

import asyncio
from contextlib import suppress

import pytest

from common.contracts.peer_p2p import DID_LOG, AskLog, Contact
from common.errors import DuxError
from dux_p2pd.calls import request_head
from dux_p2pd.frames import FIN, SYN, Kind, encode
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork
from dux_p2pd.peers import HINTED_DIALS_MAX
from dux_p2pd.wire_errors import PeerUnreachable, SessionClosed
from dux_p2pd.wire_limits import ANSWER_S, DEAD_AFTER_S
from tests.attacks.registry import attack
from tests.p2pd.dht_kit import dht_net, did_number
from tests.p2pd.overlay_kit import network
from tests.p2pd.wire_kit import TestPapers, memory_node, tls_node, until, virtually

A, B, C = "127.0.1.1", "127.0.2.1", "127.0.3.1"


async def slow(_session, incoming):
    await incoming.body()
    await asyncio.sleep(1.0 if incoming.method == "slow" else 100.0)
    return b"done"


@virtually
async def test_a_node_that_stops_finishes_what_it_was_asked():
    """Draining: new calls and dials are refused at once, those under way end with their answers, then all is closed.

    Planted bug noticed: a stop that closes at once ends the first call with SessionClosed.
    """
    net, loop = MemoryNetwork(CalmWeather(delay_s=0.01)), asyncio.get_running_loop()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=slow) as b:
        session = await a.dial(b)
        under_way = asyncio.ensure_future(session.request("slow", b"", deadline_s=10))
        await asyncio.sleep(0.5)
        began = loop.time()
        draining = asyncio.ensure_future(b.transport.drain(3.0))
        await asyncio.sleep(0.1)
        with pytest.raises(SessionClosed):
            await session.request("slow", b"", deadline_s=5)
        with pytest.raises(PeerUnreachable, match="stopping"):
            await b.dial(a)
        with pytest.raises(PeerUnreachable):
            await a.transport._dial(b.address, b.did, b.keys)
        assert await under_way == b"done"
        await draining
        assert loop.time() - began < 1.0
        await asyncio.sleep(0.1)
        assert session.closed.done()


@virtually
async def test_a_stop_does_not_wait_for_ever():
    """A request that takes longer than the limit is given up, and its caller told."""
    net, loop = MemoryNetwork(CalmWeather(delay_s=0.01)), asyncio.get_running_loop()
    async with memory_node(net, "a", host=A) as a:
        async with memory_node(net, "b", host=B, handler=slow) as b:
            session = await a.dial(b)
            under_way = asyncio.ensure_future(session.request("long", b"", deadline_s=30))
            await asyncio.sleep(0.5)
            began = loop.time()
            await b.transport.drain(3.0)
            assert 2.9 < loop.time() - began < 3.2
        with pytest.raises(SessionClosed):
            await under_way


@virtually
async def test_a_call_that_crosses_the_goodbye_is_answered():
    """Let go while a call is on its way: it is served, then both ends close, as soon as they have said so.

    Planted bug noticed: an end that closes when it has no streams of its own loses the call.
    """
    net, loop = MemoryNetwork(CalmWeather(delay_s=0.05)), asyncio.get_running_loop()
    async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B, handler=slow) as b:
        session = await a.dial(b)
        await until(lambda: bool(b.sessions))
        began = loop.time()
        b.sessions[0].retire("planned")
        assert await session.request("slow", b"", deadline_s=5) == b"done"
        assert a.transport.session_with(b.did) is None
        await asyncio.sleep(0.2)
        assert session.closed.done()
        assert b.sessions[0].closed.done()
        assert loop.time() - began < 1.5


@virtually
async def test_a_call_that_had_not_begun_when_its_session_ended_is_made_on_another():
    """It waited for the line to have room: the peer has not seen it, so whoever called need not know.

    One that has begun is not repeated: nobody knows what it did.
    """
    async with dht_net(2) as (nodes, _):
        one, other = nodes
        peers = one.overlay.peers
        first = await peers.session_to(other.did)
        first.set_room(has_room=False)
        call = asyncio.ensure_future(peers.call(other.did, DID_LOG, AskLog(did=other.did), deadline_s=20))
        await asyncio.sleep(0.1)
        first.end("gone")
        assert (await call).log
        assert peers.session_with(other.did) is not first
        other.overlay.router.answer_stream("x.hang", slow)
        second = peers.session_with(other.did)
        asked = 0

        async def hang(session):
            nonlocal asked
            asked += 1
            return await session.request("x.hang", b"", deadline_s=20)

        begun = asyncio.ensure_future(peers.over_session(other.did, hang))
        await asyncio.sleep(0.1)
        second.end("gone")
        with pytest.raises(SessionClosed):
            await begun
        assert asked == 1


@virtually
async def test_a_node_named_by_an_address_without_a_way_is_reached_where_its_record_says():
    """Of a node of both families others tell one address; a home without IPv6 that is told the IPv6 one finds it.

    Planted bug noticed: dialled at what was told alone, it was never found (six hosts on CI took over a minute).
    """
    async with dht_net(4) as (nodes, _):
        one, other = nodes[0], nodes[3]
        peers, transport = one.overlay.peers, one.overlay.transport
        transport.has_way_to = lambda address: ":" not in address[0]
        session, dialled, dial = peers.session_with(other.did), [], transport._dial
        if session is not None:
            session.end("to be found anew")

        async def note(address, *more):
            dialled.append(address)
            return await dial(address, *more)

        transport._dial = note
        told = "fd00::9", 32570
        assert (await peers.session_to(other.did, (told,))).peer.did == other.did
        assert told not in dialled


@virtually
async def test_of_a_contact_with_several_addresses_those_of_ones_own_family_are_tried_in_turn():
    """A dead one first costs a dial and no more; of another family none is dialled; a liar's list sends nobody far.

    Planted bugs noticed: only the first is tried; the place of a node is that of an address nobody dials.
    """
    async with dht_net(4) as (nodes, _):
        one, other = nodes[0], nodes[3]
        peers, transport, calls = one.overlay.peers, one.overlay.transport, one.overlay.dht.calls
        looked = []
        transport.has_way_to = lambda address: looked.append(address) or ":" not in address[0]
        session, dialled, dial = peers.session_with(other.did), [], transport._dial
        if session is not None:
            session.end("to be found anew")

        async def note(address, *more):
            dialled.append(address)
            return await dial(address, *more)

        transport._dial = note
        dead, true = "127.250.0.1:9", f"{other.host}:32570"
        (node,) = calls._nodes((Contact(did=other.did, endpoints=("[fd00::9]:1", dead, true)),))
        assert (node.address, node.net) == (("127.250.0.1", 9), "127.250.0.0/24")
        assert calls._nodes((Contact(did=other.did, endpoints=("[fd00::9]:1", dead, true)),)) == (node,)
        assert len(looked) == 3, "the kernel is asked once for each address in a while"
        assert await calls.find(node, bytes(32)) is not None
        assert dialled == [("127.250.0.1", 9), (other.host, 32570)]
        dialled.clear()
        nobody, void = did_number(77), tuple(f"127.25{number}.0.1:9" for number in range(4))
        (node,) = calls._nodes((Contact(did=nobody, endpoints=void),))
        assert await calls.find(node, bytes(32)) is None
        assert len(dialled) == HINTED_DIALS_MAX
        assert peers.is_resting(nobody, node.addresses)
        assert not peers.is_resting(nobody)


@pytest.mark.parametrize("who_moves", ["lower", "higher"])
def test_a_peer_whose_address_has_changed_is_back_within_seconds(who_moves):
    """Its old connection, whoever dialled it, is asked for a sign of life; unanswered for 3 s it makes room.

    Planted bug noticed: without the question the higher DID is kept out for the 15 s until the old one is dead.
    """

    @virtually
    async def history():
        weather, loop = CalmWeather(delay_s=0.01), asyncio.get_running_loop()
        net = MemoryNetwork(weather)
        async with memory_node(net, "a", host=A) as a, memory_node(net, "b", host=B) as b:
            moves_up = (b.did > a.did) == (who_moves == "higher")
            await (a.dial(b) if moves_up else b.dial(a))
            await asyncio.sleep(1)
            for pair in ((A, B), (B, A)):
                weather.cut(*pair)
            papers = b.papers
            began = loop.time()
            async with memory_node(net, "b", host=C, papers=papers) as moved:
                while True:
                    try:
                        session = await moved.transport.connect(a.address, a.did, a.keys)
                        break
                    except Exception:  # noqa: BLE001 - surplus for now: try again, as upkeep does
                        await asyncio.sleep(0.5)
                took = loop.time() - began
                assert took <= ANSWER_S + 1.5 < DEAD_AFTER_S
                assert await session.request("m", b"here", deadline_s=5) == b"m:here"
                back = a.transport.session_with(b.did)
                assert back.peer.address[0] == C
                assert await back.request("m", b"there", deadline_s=5) == b"m:there"

    history()


async def test_the_version_and_features_that_both_speak_are_told():
    """Negotiated inside the channel: the highest common version, the common features."""
    async with (
        tls_node("a", host=A, features=("mbox-pq", "x")) as a,
        tls_node("b", host=B, features=("x", "y")) as b,
    ):
        session = await a.dial(b)
        assert (session.peer.version, session.peer.features) == (1, frozenset({"x"}))
        await until(lambda: bool(b.sessions))
        assert b.sessions[0].peer.features == frozenset({"x"})


@attack(
    "framing",
    tries="breaks the framing again and again, over new connections",
    meets="the third time in ten minutes its DID is banned",
)
async def test_framing_that_is_broken_three_times_is_a_ban():
    """What no honest program does is blamed, counted for /metrics, and shuts the DID out."""
    async with network(2) as (hostile, target):
        did = hostile.did
        for _ in range(3):
            session = await hostile.daemon.net.peers.session_to(target.did)
            session._line.send(encode(Kind.PING, 0, 7, 0))
            await asyncio.wait([session.closed], timeout=5)
            assert session.closed.done()
            await until(lambda: not hostile.daemon.net.peers.is_connected(target.did))
            hostile.daemon.net.peers._rest.clear()
        await until(lambda: target.daemon.net.transport.count.framing_broken >= 3)
        with suppress(DuxError):  # it may dial, or be dialled: its name is banned either way
            await hostile.daemon.net.peers.session_to(target.did)
        _, _, told = await target.daemon._metrics()
        assert target.daemon.net.transport._did_bans.has(did, target.daemon.net.transport.now())
        for line in ("wire_framing_broken 3", "abuse_blamed_for_breaches 3", "abuse_banned 1"):
            assert f"dux_p2pd_{line}\n" in told
        count = target.daemon.net.transport.count
        await until(lambda: count.gate_banned + count.introductions_banned >= 1)


@virtually
async def test_a_slot_is_free_in_the_step_that_answers():
    """Who has its answer may ask again at once, also when the new call comes before the loop's next turn.

    Planted bug noticed: a slot that is freed by the task's callback refuses the call (met with 64 at once over TCP).
    """
    net, gates = MemoryNetwork(), [asyncio.Event() for _ in range(9)]

    async def gated(_session, incoming):
        await gates[int(incoming.method)].wait()
        return b""

    papers = TestPapers("b", known=False)
    async with (
        memory_node(net, "a", host=A) as a,
        memory_node(net, "b", host=B, handler=gated, papers=papers) as b,
    ):
        session, loop = await a.dial(b), asyncio.get_running_loop()
        calls = [asyncio.ensure_future(session.request(str(i), b"", deadline_s=9)) for i in range(8)]
        await asyncio.sleep(1)
        there = b.sessions[0]
        assert there._serving.executing == 8
        head, plain = request_head("8", 9.0, ()), there._line.send

        def send(data: bytes) -> None:
            plain(data)
            there._line.send = plain
            loop.call_soon(there.feed, encode(Kind.DATA, SYN | FIN, 17, len(head), head))

        there._line.send = send
        gates[0].set()
        await asyncio.sleep(0)
        await calls[0]
        assert there.mux.has(17)
        assert there._serving.executing == 8
        for gate in gates:
            gate.set()
        await asyncio.gather(*calls)
