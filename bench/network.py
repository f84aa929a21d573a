"""The network beside others: small calls, many at once and bulk, memory, the DHT, gossip, and the way back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from bench.measure import Run
from bench.network_calls import measure_calls
from bench.network_dht import measure_dht
from bench.network_gossip import measure_gossip
from bench.network_memory import measure_memory
from bench.network_return import measure_return
from bench.rows import Finding

PARTS: Mapping[str, Callable[[Run], Awaitable[list[Finding]]]] = {
    "calls": measure_calls,
    "memory": measure_memory,
    "dht": measure_dht,
    "gossip": measure_gossip,
    "return": measure_return,
}


async def measure(run: Run) -> list[Finding]:
    """Every row of the network's table, or those of the parts that were asked for."""
    return [finding for name, part in PARTS.items() if run.wants(name) for finding in await part(run)]
