"""A node with more neighbours than it has room for: who is let go lives on, and nobody fights for the place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from common.randomness import SeededRandomness
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork
from dux_p2pd.peers import PeerBook
from dux_p2pd.rules import INBOUND_NET_MIN, inbound_of_net_max
from tests.attacks.registry import attack
from tests.p2pd.dht_kit import DhtNode, dht_net
from tests.p2pd.virtual_net import LoopClock, until
from tests.p2pd.wire_kit import virtually

pytestmark = pytest.mark.patient


@virtually
async def test_who_has_few_neighbours_goes_on_asking_who_else_is_there() -> None:
    """Every ten seconds, where a node with enough of them leaves it at once in a minute, later in five.

    Planted bug noticed: with pauses that double up to a minute, a node that a lost packet hid is met a minute later.
    """
    asked = dict.fromkeys((3, 7), 0)
    for size in asked:
        async with dht_net(size) as (nodes, _):
            await asyncio.sleep(200)
            dht = nodes[0].overlay.dht
            look = dht.look_around

            async def count(size: int = size, look: Callable[[], Awaitable[None]] = look) -> None:
                asked[size] += 1
                await look()

            dht.look_around = count  # type: ignore[method-assign]
            await asyncio.sleep(60)
    assert 4 <= asked[3] <= 7
    assert asked[7] <= 2


@virtually
async def test_who_was_let_go_for_want_of_room_stays_known_and_does_not_dial_again() -> None:
    """Eighteen nodes with room for twelve connections come to rest: hardly one is made in two minutes.

    Planted bug noticed: where the end of a connection for want of room counts as a loss, each is dialled again and
    pushes out another, without end: 600 per node in two minutes.
    """
    async with dht_net(18, peers_max=12) as (nodes, _):
        await asyncio.sleep(300)  # every log has been put
        made = [node.overlay.transport.count.sessions_made for node in nodes]
        known = [len(node.overlay.dht.table.contacts()) for node in nodes]
        await asyncio.sleep(120)
        more = [node.overlay.transport.count.sessions_made for node in nodes]
        assert sum(more) - sum(made) <= 10 * len(nodes)
        assert all(len(node.overlay.peers.sessions()) <= 12 for node in nodes)
        assert [len(node.overlay.dht.table.contacts()) for node in nodes] >= known
        assert min(known) > 12  # more are known than there is room for


def dialled_us(node: DhtNode, net: str) -> int:
    """Sessions that nodes of this net have dialled."""
    found = [session.peer for session in node.overlay.peers.sessions()]
    return sum(not peer.dialled and peer.address[0].startswith(net) for peer in found)


@attack(
    "reachability",
    tries="fourteen nodes of one /24 take a small node's places",
    meets="an eighth of the room; the neighbours it had are not touched",
)
@virtually
async def test_one_network_that_dials_us_gets_an_eighth_of_the_room_and_pushes_out_only_its_own() -> None:
    """Fourteen nodes of one /24 come to a node that knows three others: eight stay, and the three are not touched.

    Planted bugs noticed: without the limit all fourteen stay; where the limit takes from everybody, an honest one goes.
    """
    net = MemoryNetwork(CalmWeather(delay_s=0.01))
    async with AsyncExitStack() as stack:

        async def born(number: int, host: str, *boot: DhtNode) -> DhtNode:
            node = DhtNode(net, number, host, peers_max=24)
            node.bootstrap = tuple(one.address for one in boot)
            await node.wake()
            stack.push_async_callback(node.sleep)
            return node

        we = await born(1, "127.1.1.1")
        honest = [await born(number, f"127.1.{number}.1", we) for number in (2, 3, 4)]
        await until(lambda: dialled_us(we, "127.1.") == len(honest))
        ended = [session.closed for session in we.overlay.peers.sessions()]
        most = 0
        for number in range(14):
            await born(20 + number, f"127.77.0.{1 + number}", we)
            await asyncio.sleep(1)
            most = max(most, dialled_us(we, "127.77.0."))
        assert most == INBOUND_NET_MIN == dialled_us(we, "127.77.0.")
        assert not any(one.done() for one in ended)


def test_of_many_sessions_one_network_may_dial_an_eighth() -> None:
    """256: 32, which is what one relay may carry to a node; a small node: eight."""
    assert inbound_of_net_max(256) == 32
    assert inbound_of_net_max(16) == 8


class SlowToLeave:
    """A session that has been told to end and drains for a while; the transport that keeps it."""

    def __init__(self, did: str, kept: dict[str, SlowToLeave]) -> None:
        loop = asyncio.get_running_loop()
        self.peer: Any = SimpleNamespace(did=did, address=(f"127.{did[4:]}.0.1", 1), dialled=False)
        self.closed: asyncio.Future[str] = loop.create_future()
        self.leaving: asyncio.Future[None] = loop.create_future()
        self.had_no_room, self._kept = True, kept
        kept[did] = self

    def retire(self, _reason: str, *, no_room: bool) -> None:
        """It takes nothing new from now on."""
        assert no_room
        self.leaving.set_result(None)
        del self._kept[self.peer.did]


@virtually
async def test_each_newcomer_pushes_out_one_however_many_are_on_their_way_out() -> None:
    """Planted bug noticed: where those that end anyway count as taking room, half of the others go, too."""
    kept: dict[str, SlowToLeave] = {}
    transport: Any = SimpleNamespace(session_with=kept.get)
    directory: Any = SimpleNamespace(on_change=[], is_known=lambda _did: False)
    shared: Any = {"clock": LoopClock(), "random": SeededRandomness(1), "log": structlog.get_logger()}
    book = PeerBook(transport, directory, cast("Any", None), cast("Any", None), sessions_max=10, **shared)
    for number in range(40):
        session = SlowToLeave(f"did:{number}", kept)
        book.on_session(cast("Any", session))
        if number % 2:
            await asyncio.sleep(0)  # every other one comes before the last one's leaving was told
        assert len(book.sessions()) == min(number + 1, 10)
        assert book.is_connected(session.peer.did)
    await asyncio.sleep(0)
    assert book.count() == 40  # none of them has gone yet


@virtually
async def test_strangers_that_dialled_us_go_first_until_they_are_known() -> None:
    """However lately they were used; of known ones the least lately used goes.

    Planted bug noticed: nobody is a stranger.
    """
    kept: dict[str, SlowToLeave] = {}
    known = {f"did:{number}" for number in range(20)} - {"did:4", "did:6"}
    transport: Any = SimpleNamespace(session_with=kept.get)
    directory: Any = SimpleNamespace(on_change=[], is_known=known.__contains__)
    shared: Any = {"clock": LoopClock(), "random": SeededRandomness(1), "log": structlog.get_logger()}
    book = PeerBook(transport, directory, cast("Any", None), cast("Any", None), sessions_max=8, **shared)
    for number in range(8):
        book.on_session(cast("Any", SlowToLeave(f"did:{number}", kept)))
    gone = []
    for number in range(8, 11):
        before = set(kept)
        book.on_session(cast("Any", SlowToLeave(f"did:{number}", kept)))
        gone += sorted(before - set(kept))
        known.add("did:6")  # by now it is no stranger
    assert gone == ["did:4", "did:0", "did:1"]
