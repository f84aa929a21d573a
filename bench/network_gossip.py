"""Gossip at a steady rate among real nodes: how much arrives, how late, and what a message costs each node.

CPU is that of all hosting processes over the time of the messages and their arrival, less what the same nodes use when
nothing is said, divided by messages and nodes.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

from bench.measure import Run
from bench.rows import Finding, Goal, one
from bench.swarm import Swarm
from common.codec import canonical
from common.contracts.peer_store import TOPIC_SERVICE
from common.receipts import Attested
from common.units import Did

SIZES, SIZES_QUICK = (25, 25), (4, 4)
RATE = 100.0
SECONDS, SECONDS_QUICK = 15.0, 2.0
RATES_TRIED = (100.0, 50.0, 25.0, 10.0)
ARRIVE_WITHIN_S = 20.0
NOBODY = Did("did:dux:" + "a" * 52)
ALL, CARRIED = 100.0, 0.9  # percent; part of the rate that was wanted
SETTLE_S, IDLE_S = 15.0, 5.0


async def measure_gossip(run: Run) -> list[Finding]:
    """At 100 messages a second, or at the highest rate that these nodes carry here."""
    sizes = SIZES_QUICK if run.quick else SIZES
    async with Swarm(run.folder / "gossip", sizes) as swarm:
        await swarm.start()
        await swarm.until(lambda node: node.sessions >= min(8, sum(sizes) - 1), 120)
        await asyncio.sleep(2 if run.quick else SETTLE_S)
        for rate in RATES_TRIED:
            run.tell(f"gossip: {rate:g} messages a second among {sum(sizes)} nodes")
            told = await _said(swarm, rate, SECONDS_QUICK if run.quick else SECONDS)
            if told.delivered >= ALL and told.rate >= CARRIED * rate:
                break
    goal_rate = Goal("value", ">=", RATE)
    return [
        Finding(
            name=f"gossip rate, {sum(sizes)} nodes", unit="messages/s", ours=one(rate), goal=goal_rate,
            note=f"wanted; {told.rate:.1f} were said and answered for",
        ),
        Finding(name="gossip delivered", unit="%", ours=one(told.delivered), goal=Goal("value", ">=", 100)),
        Finding(
            name="gossip CPU per message and node", unit="ms", ours=one(told.cpu_ms), goal=Goal("value", "<=", 0.4),
            note=f"to the last node p50 {told.last_ms:.0f} ms",
        ),
    ]  # fmt: skip


class Told:
    """What came of one rate."""

    def __init__(self, *, rate: float, delivered: float, cpu_ms: float, last_ms: float) -> None:
        self.rate, self.delivered, self.cpu_ms, self.last_ms = rate, delivered, cpu_ms, last_ms


async def _said(swarm: Swarm, rate: float, seconds: float) -> Told:
    numbers, count = swarm.numbers(), int(rate * seconds)
    idle_per_s = await _idle(swarm)
    await swarm.heard()
    before, began = await _cpu_s(swarm), time.perf_counter()
    said: dict[bytes, tuple[float, int]] = {}
    saying: set[asyncio.Future[None]] = set()

    async def say(at: int) -> None:
        node, payload = numbers[at * 31 % len(numbers)], _payload(at)
        answer = await swarm.publish(node, TOPIC_SERVICE.name, payload, caller="stored")
        said[payload] = float(answer[0]), node

    for at in range(count):
        await asyncio.sleep(max(0.0, began + at / rate - time.perf_counter()))
        task = asyncio.ensure_future(say(at))
        saying.add(task)
        task.add_done_callback(saying.discard)
    await asyncio.gather(*saying)
    took_s = time.perf_counter() - began
    heard = await _arrivals(swarm, count * (len(numbers) - 1))
    cpu_s = await _cpu_s(swarm) - before - idle_per_s * (time.perf_counter() - began)
    delivered = {(node, payload) for node, payload, _ in heard if payload in said and said[payload][1] != node}
    last: dict[bytes, float] = {}
    for _, payload, at_s in heard:
        if payload in said:
            last[payload] = max(last.get(payload, 0.0), (at_s - said[payload][0]) * 1000)
    return Told(
        rate=count / took_s,
        delivered=100 * len(delivered) / (count * (len(numbers) - 1)),
        cpu_ms=max(0.0, cpu_s) * 1000 / count / len(numbers),
        last_ms=median(last.values()) if last else 0.0,
    )


def _payload(at: int) -> bytes:
    return canonical(Attested(body=at.to_bytes(300), key_seq=0, signature=bytes(64), did=NOBODY))


async def _arrivals(swarm: Swarm, wanted: int) -> list[tuple[int, bytes, float]]:
    found: list[tuple[int, bytes, float]] = []
    until_s = time.perf_counter() + ARRIVE_WITHIN_S
    while time.perf_counter() < until_s:
        more = await swarm.heard()
        found += more
        if len(found) >= wanted and not more:
            break
        await asyncio.sleep(0.5)
    return found


async def _cpu_s(swarm: Swarm) -> float:
    return sum(cpu_s for cpu_s, _ in await swarm.usage())


async def _idle(swarm: Swarm) -> float:
    before = await _cpu_s(swarm)
    await asyncio.sleep(IDLE_S)
    return (await _cpu_s(swarm) - before) / IDLE_S
