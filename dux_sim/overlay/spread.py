"""How fast words reach everybody: messages at a steady rate among p2pds that stay, in the simulator's own time.

The nodes are the product's, with their meshes, limits and pauses between frames; what a message costs a processor takes
no time here, so what is told is the protocol's own delay. Source: network.md §5.
"""

from __future__ import annotations

import asyncio
from statistics import median

import msgspec

from common.contracts.p2p import GOSSIP_PUBLISH, Publish
from common.contracts.peer_registry import TOPIC_NODE
from dux_sim.overlay.links import CITIES_S
from dux_sim.overlay.world import OverlayWorld
from dux_sim.world.coin import cheap_work
from dux_sim.world.signatures import judged_once
from dux_sim.world.world import quiet_memory

ONE_MACHINE_S = 0.0002, 0.0002  # what two processes of one machine take to hear of each other
JOIN_EVERY_S, SETTLE_S, ARRIVE_S = 0.1, 90.0, 20.0
PAYLOAD_BYTES = 400  # as a node's signed description
STRIDE = 31  # who speaks next, so that neighbours in the list are not neighbours in time


class Wanted(msgspec.Struct, frozen=True):
    """What is said: by how many nodes, how many messages a second by all together, for how long, over which links."""

    nodes: int
    per_s: float
    seconds: float
    delays_s: tuple[float, float] = CITIES_S
    seed: int = 1


class Spread(msgspec.Struct, frozen=True):
    """What came of it: messages said, the share of (message, other node) that was heard, and how late it was."""

    said: int
    delivered: float  # 0 to 1
    p50_s: float
    p95_s: float
    last_p50_s: float  # to the last node that heard it


def spread(wanted: Wanted) -> Spread:
    """Play it to its end; for a process that does nothing else.

    Raises:
        DuxError: a node would not say its word.
    """
    with quiet_memory(), cheap_work(), judged_once():
        world = OverlayWorld(wanted.seed, delays_s=wanted.delays_s)
        for _ in range(wanted.nodes):
            world.add_member(lies=False)
        try:
            said = world.run(_say(world, wanted))
            return _heard(world, said)
        finally:
            world.close()


async def _say(world: OverlayWorld, wanted: Wanted) -> dict[bytes, tuple[int, float]]:
    """Every word said, by whom (place in the list) and when."""
    for member in world.members:
        world.start(member)
        await asyncio.sleep(JOIN_EVERY_S)
    await asyncio.sleep(SETTLE_S)
    said: dict[bytes, tuple[int, float]] = {}
    for number in range(int(wanted.per_s * wanted.seconds)):
        at, word = number * STRIDE % wanted.nodes, number.to_bytes(PAYLOAD_BYTES)
        said[word] = at, world.loop.time()
        publish = Publish(topic=TOPIC_NODE.name, payload=word)
        await world.members[at].node.door("registryd", "p2pd").call(GOSSIP_PUBLISH, publish)
        await asyncio.sleep(1 / wanted.per_s)
    await asyncio.sleep(ARRIVE_S)
    return said


def _heard(world: OverlayWorld, said: dict[bytes, tuple[int, float]]) -> Spread:
    late_s: list[float] = []
    last_s: dict[bytes, float] = {}
    for at, member in enumerate(world.members):
        for word, heard_s in member.house.heard.items():
            by, said_s = said.get(word, (at, 0.0))
            if by != at:
                late_s.append(heard_s - said_s)
                last_s[word] = max(last_s.get(word, 0.0), heard_s - said_s)
    late_s.sort()
    return Spread(
        said=len(said),
        delivered=len(late_s) / (len(said) * (len(world.members) - 1)),
        p50_s=median(late_s),
        p95_s=late_s[len(late_s) * 95 // 100],
        last_p50_s=median(last_s.values()),
    )
