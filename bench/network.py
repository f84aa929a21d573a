"""The network beside others: small calls, many at once and bulk, memory, the DHT, gossip, the way back; at length."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from bench.measure import Run
from bench.network_calls import measure_calls
from bench.network_dht import measure_dht
from bench.network_gossip import measure_gossip
from bench.network_long import left_out, measure_sim, measure_soak
from bench.network_memory import measure_memory
from bench.network_return import measure_return
from bench.network_spread import measure_spread
from bench.rows import Finding, in_small

PARTS: Mapping[str, Callable[[Run], Awaitable[list[Finding]]]] = {
    "calls": measure_calls,
    "memory": measure_memory,
    "dht": measure_dht,
    "gossip": measure_gossip,
    "return": measure_return,
}
LONG: Mapping[str, Callable[[Run], Awaitable[list[Finding]]]] = {
    "spread": measure_spread,
    "sim": measure_sim,
    "soak": measure_soak,
}

BY_SIZE = ("memory", "dht", "gossip")  # their goals are about as many nodes as a full run has


async def measure(run: Run) -> list[Finding]:
    """Every row of the network's table, or those of the parts that were asked for; long ones only when they were."""
    found: list[Finding] = []
    for name, part in PARTS.items():
        if run.wants(name):
            told = await part(run)
            found += map(in_small, told) if run.quick and name in BY_SIZE else told
    for name, part in LONG.items():
        if name in run.only:
            found += await part(run)
        elif not run.only:
            found.append(left_out(name))
    return found
