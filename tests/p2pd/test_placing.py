"""Putting a record: who is offered it, in what order, and when the caller may go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from common.clock import SystemClock
from common.identity.did import did_of, node_id_of
from common.randomness import SeededRandomness
from dux_p2pd.lookup import Found, Manners
from dux_p2pd.placing import ENOUGH, Placing
from dux_p2pd.routing import DuxNode, K, Place
from tests.attacks.registry import attack

KEY = SeededRandomness(3).bytes(32)
PLAIN = Manners(soft_s=lambda _node: 1.0, is_last=lambda _node: False, clock=SystemClock())


def made(number: int) -> DuxNode:
    """Node `number`, in a /24 of its own."""
    return DuxNode(did_of(SeededRandomness(number).bytes(32)), f"10.{number >> 8}.{number & 255}.1", 1000)


class Crowd:
    """Nodes that each know all; every second one, by distance, is at hand, the others answer once `far` is open."""

    def __init__(self, count: int) -> None:
        self.nodes = sorted(map(made, range(count)), key=Place(KEY).distance_to)
        self.at_hand = {one.id for one in self.nodes[::2]}
        self.far = asyncio.Event()
        self.named: tuple[DuxNode, ...] = tuple(self.nodes[:K])
        self.asked: list[bytes] = []
        self.holders: set[bytes] = set()

    async def find(self, node: DuxNode, _key: bytes) -> Found | None:
        self.asked.append(node.id)
        if node not in self.nodes:
            return None
        if node.id not in self.at_hand:
            await self.far.wait()
        return Found(nodes=self.named)

    async def give(self, node: DuxNode) -> bool:
        await asyncio.sleep(0)  # several are under way at once
        self.holders.add(node.id)
        return True

    def placing(self, start: int = K) -> Placing:
        manners = replace(PLAIN, is_at_hand=lambda did: node_id_of(did) in self.at_hand)
        return Placing(KEY, self.nodes[:start], self.find, self.give, manners)

    def nearest(self) -> set[bytes]:
        return {one.id for one in self.nodes[:K]}


async def test_a_put_is_over_when_half_of_the_nearest_keep_it_and_goes_on_to_all_of_them() -> None:
    """Those at hand are asked and offered first; nobody who must be connected to first is waited for.

    Planted bugs noticed: `enough` only when all keep it; those at hand not before the others; keepers counted before
    they have answered (two that answer in one turn count once).
    """
    crowd = Crowd(120)
    placing = crowd.placing()
    task = asyncio.ensure_future(placing.run())
    async with asyncio.timeout(10):
        await placing.enough.wait()
        assert not task.done()
        assert set(crowd.asked[:6]) <= crowd.at_hand
        assert ENOUGH <= placing.kept == len(crowd.holders) < K
        crowd.far.set()
        assert await task == len(crowd.holders)
    assert crowd.nearest() <= crowd.holders


@attack(
    "DHT",
    tries="everybody names twenty nodes that do not exist around a put",
    meets="the nearest that answer hold the record",
)
async def test_made_up_neighbours_keep_no_record_from_those_who_are_there() -> None:
    """Everybody names twenty nodes that do not exist, nearer than any: the nearest that answer have it all the same."""
    crowd = Crowd(90)
    crowd.far.set()
    fakes = sorted((made(n) for n in range(5000, 9000)), key=Place(KEY).distance_to)[: K // 2]
    crowd.named = (*fakes, *crowd.nodes[: K // 2])
    await crowd.placing().run()
    assert crowd.nearest() <= crowd.holders


async def test_where_fewer_are_than_would_be_enough_all_of_them_are_waited_for() -> None:
    """Six nodes: the put ends with six keepers; nobody there: with none."""
    crowd = Crowd(6)
    crowd.far.set()
    placing = crowd.placing()
    assert await placing.run() == 6
    assert not placing.enough.is_set()
    assert await Placing(KEY, [], crowd.find, crowd.give, PLAIN).run() == 0
