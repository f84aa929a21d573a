"""Gossip at the rate and among the nodes of its goal, simulated: 300 p2pds, 100 messages a second, all of them real.

Two cores cannot carry what three hundred nodes do with a hundred messages (7 s of processor for each second), so time
is the simulator's: what is measured is the protocol, its hops and its pauses between frames, not the machine. Once with
the links of one machine, which the goal is about, and once with those between cities.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bench.measure import Run
from bench.rows import Finding, Goal, one
from dux_sim.overlay.links import CITIES_S
from dux_sim.overlay.spread import ONE_MACHINE_S, Spread, Wanted, spread

NODES, PER_S, SECONDS = 300, 100.0, 10.0
NODES_QUICK, PER_S_QUICK, SECONDS_QUICK = 20, 20.0, 2.0
LINKS = {"one machine": ONE_MACHINE_S, "between cities": CITIES_S}
LATE_GOAL, ALL_GOAL = Goal("value", "<=", 250), Goal("value", ">=", 100)


async def measure_spread(run: Run) -> list[Finding]:
    """How much was heard, and how late, over each kind of link."""
    found = []
    for links, delays_s in LINKS.items():
        if run.quick:
            wanted = Wanted(NODES_QUICK, PER_S_QUICK, SECONDS_QUICK, delays_s)
        else:
            wanted = Wanted(NODES, PER_S, SECONDS, delays_s)
        run.tell(f"gossip: {wanted.per_s:g} messages a second among {wanted.nodes} simulated nodes, links {links}")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            told = await asyncio.get_running_loop().run_in_executor(alone, spread, wanted)
        found += spread_findings(told, wanted, links)
    return found


def spread_findings(told: Spread, wanted: Wanted, links: str) -> list[Finding]:
    """The rows of one kind of link; the goal on time is about one machine, and about the whole size."""
    size = f"{wanted.nodes} simulated nodes, {wanted.per_s:g} messages/s, {links}"
    is_judged = wanted.nodes == NODES and wanted.delays_s == ONE_MACHINE_S
    return [
        Finding(name=f"gossip delivered ({size})", unit="%", ours=one(100 * told.delivered), goal=ALL_GOAL),
        Finding(
            name=f"gossip p95 ({size})", unit="ms", ours=one(1000 * told.p95_s), goal=LATE_GOAL if is_judged else None,
            note=f"p50 {1000 * told.p50_s:.0f} ms, to the last node {1000 * told.last_p50_s:.0f} ms; simulated time",
        ),
    ]  # fmt: skip
