"""Gossip over the memory transport in virtual time: everybody hears everything, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from common.randomness import SeededRandomness
from dux_p2pd.gossip_flow import framed
from dux_p2pd.gossip_limits import MESH_HIGH, MESH_LOW
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork
from tests.p2pd.gossip_kit import TOPIC, GossipNode, all_heard, gossip_net, said
from tests.p2pd.virtual_net import until
from tests.p2pd.wire_kit import virtually

pytestmark = pytest.mark.patient


async def spread(nodes: list[GossipNode], messages: int, every_s: float) -> list[float]:
    """Publish at nodes by lot; the delays of all deliveries, none of which is missing or double."""
    random, sent = SeededRandomness(7), {}
    for number in range(messages):
        node, payload = nodes[random.below(len(nodes))], b"%d" % number
        sent[payload] = (node, asyncio.get_running_loop().time())
        await node.publish(payload)
        await asyncio.sleep(every_s)
    await asyncio.sleep(5)
    delays = []
    for node in nodes:
        heard = {message.payload: at_s for message, at_s in node.owner.heard}
        assert len(heard) == len(node.owner.heard), "delivered twice"
        assert set(heard) == {payload for payload, (by, _) in sent.items() if by is not node}
        delays += [at_s - sent[payload][1] for payload, at_s in heard.items()]
    return sorted(delays)


@virtually
async def test_fifty_nodes_hear_a_hundred_messages_a_second(tmp_path: Path) -> None:
    """All of them, once, 95 % within 250 ms at 10 ms from node to node; the meshes have their size."""
    async with gossip_net(tmp_path, 50) as nodes:
        delays = await spread(nodes, 100, 0.01)
        assert delays[len(delays) * 95 // 100] <= 0.25
        assert max(delays) <= 3.0
        await asyncio.sleep(80)  # who was refused by a full mesh is past its back-off
        assert all(MESH_LOW <= len(node.mesh()) <= MESH_HIGH for node in nodes)
        copies = sum(node.gossip.counted["seen"] for node in nodes) / (100 * 50)
        assert copies <= 6, f"{copies} useless copies of a message at each node"


@virtually
async def test_three_hundred_nodes_hear_all_of_it(tmp_path: Path) -> None:
    """100 % delivered, 95 % within 250 ms."""
    async with gossip_net(tmp_path, 300, dials=4) as nodes:
        delays = await spread(nodes, 10, 0.01)
        assert delays[len(delays) * 95 // 100] <= 0.25


@virtually
async def test_a_newcomer_is_offered_what_it_missed(tmp_path: Path) -> None:
    """Messages of the last two minutes reach who joins after them; older ones do not."""
    async with gossip_net(tmp_path, 8) as nodes:
        await nodes[0].publish(b"too old")
        await asyncio.sleep(121)
        for number in range(30):
            await nodes[number % 8].publish(b"%d" % number)
        await asyncio.sleep(30)
        late = GossipNode(nodes[0].net, 99, tmp_path)
        await late.start()
        try:
            await late.dial(nodes[3])
            await until(lambda: len(late.owner.heard) >= 30, 10)
            assert sorted(late.owner.payloads()) == sorted(b"%d" % number for number in range(30))
        finally:
            await late.stop()


@virtually
async def test_a_partition_heals_and_both_halves_hear_of_each_other(tmp_path: Path) -> None:
    """What was said on either side while the links were cut arrives on the other once they meet again."""
    async with gossip_net(tmp_path, 12, dials=11) as nodes:
        weather = nodes[0].net.weather
        assert isinstance(weather, CalmWeather)
        left, right = nodes[:6], nodes[6:]
        for one in left:
            for two in right:
                weather.cut(one.host, two.host)
                weather.cut(two.host, one.host)
        await asyncio.sleep(20)  # both sides give the sessions up
        await left[0].publish(b"left")
        await right[0].publish(b"right")
        await asyncio.sleep(20)
        assert all(b"left" not in node.owner.payloads() for node in right)
        for one in left:
            for two in right:
                weather.heal(one.host, two.host)
                weather.heal(two.host, one.host)
        nodes[0].net.resume()
        await left[3].dial(right[3])
        await all_heard(right, b"left")
        await all_heard(left, b"right")


@virtually
async def test_nodes_that_come_and_go_cost_the_others_nothing(tmp_path: Path) -> None:
    """A third stops without a word and starts again, one after another; those that stay hear every message."""
    async with gossip_net(tmp_path, 24) as nodes:
        staying, going = nodes[:16], nodes[16:]
        for number, node in enumerate(going):
            await node.stop()
            await staying[number].publish(b"gone %d" % number)
            await asyncio.sleep(0.5)
            await node.start()
            for other in staying[number : number + 4]:
                await node.dial(other)
            await staying[-1 - number].publish(b"back %d" % number)
            await asyncio.sleep(0.5)
        await asyncio.sleep(5)
        wanted = {b"gone %d" % n for n in range(8)} | {b"back %d" % n for n in range(8)}
        for node in staying:
            place = staying.index(node)
            own = {b"gone %d" % place, b"back %d" % (15 - place)}
            assert set(node.owner.payloads()) == wanted - own
        assert wanted <= set(going[0].owner.payloads()), "who came back is offered what it missed"


@virtually
async def test_while_the_owner_is_away_its_messages_wait_for_it(tmp_path: Path) -> None:
    """Nothing unjudged is passed on; when the owner is back it judges what waited, and the next node hears of it."""
    net = MemoryNetwork(CalmWeather(delay_s=0.01))
    one, two, three = nodes = [GossipNode(net, number, tmp_path) for number in (1, 2, 3)]
    for node in nodes:
        await node.start()
    try:
        await one.dial(two)
        await two.dial(three)
        await asyncio.sleep(2)
        two.owner.away = True
        await one.publish(b"news")
        await asyncio.sleep(20)
        assert three.owner.heard == []
        two.owner.away = False
        await all_heard([two, three], b"news", 5)
        two.owner.away = True
        await one.publish(b"never")
        await asyncio.sleep(125)
        two.owner.away = False
        await asyncio.sleep(5)
        assert b"never" not in two.owner.payloads(), "too old by now"
    finally:
        for node in nodes:
            await node.stop()


@virtually
async def test_a_slow_owner_holds_a_bounded_queue_and_nobody_else_up(tmp_path: Path) -> None:
    """Past 512 waiting messages the oldest are dropped here; the other nodes hear all of them."""
    async with gossip_net(tmp_path, 6, dials=5) as nodes:
        nodes[0].owner.slow_s = 60.0
        for number in range(700):
            await nodes[1 + number % 5].publish(b"%d" % number)
            await asyncio.sleep(0.01)
        await asyncio.sleep(5)
        assert nodes[0].gossip.gauges()["gossip_waiting"]() <= 512 + 8
        assert all(len(node.owner.heard) == 560 for node in nodes[1:])


@virtually
async def test_a_neighbour_that_reads_nothing_costs_a_bounded_queue(tmp_path: Path) -> None:
    """Large messages to a node whose link is stuck: the queue stays within its limit, and ids are owed."""
    async with gossip_net(tmp_path, 3, dials=2) as nodes:
        one, two, stuck = nodes
        weather = one.net.weather
        assert isinstance(weather, CalmWeather)
        weather.cut(one.host, stuck.host)
        for number in range(400):
            await one.publish(b"%d" % number + bytes(8000))
            await asyncio.sleep(0.02)
            flow = one.gossip._flows.get(stuck.did)
            assert flow is None or flow._bytes <= 2 << 20
        await asyncio.sleep(5)
        assert len(two.owner.heard) == 400


@virtually
async def test_an_idle_network_is_silent(tmp_path: Path) -> None:
    """Without messages no heartbeat runs and no gossip is sent, so an idle node costs nothing."""
    async with gossip_net(tmp_path, 10) as nodes:
        await asyncio.sleep(70)
        beats = []
        for node in nodes:
            plain = node.gossip._kept.turn
            node.gossip._kept.turn = lambda plain=plain: beats.append(1) or plain()  # type: ignore[method-assign]
        await asyncio.sleep(600)
        assert len(beats) <= len(nodes)


@virtually
async def test_a_node_that_does_not_carry_a_topic_is_left_alone(tmp_path: Path) -> None:
    """Its first frame names what it carries; it is in no mesh and gets no messages of other topics."""
    async with gossip_net(tmp_path, 3, dials=2) as nodes:
        one, two, other = nodes
        stream = await other.flow_to(one)
        await stream.write(framed(said(topics=("unknown",))))
        await asyncio.sleep(2)
        assert other.did not in one.mesh()
        assert two.did in one.mesh()
        assert TOPIC.name not in one.gossip.mesh._carried[other.did]
