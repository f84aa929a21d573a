"""Simulated histories per second: whole nodes, every fault, judged; and virtual hours of a network per minute.

Histories run in a process of their own each round, as the simulator's command starts them.
"""

from __future__ import annotations

import asyncio

from bench.measure import Run
from bench.rows import Finding, Goal, Samples
from dux_sim.orders import Order, Told
from dux_sim.suite import run_many
from dux_sim.world.faults import KINDS

HISTORIES, HISTORIES_QUICK = 64, 8  # per round
ROUNDS = 3
NETWORK_NODES, NETWORK_HOURS = 6, 1.0
CPU_GOAL_S = 0.36  # 2,000 histories in six minutes on two cores
NOBODY = "nothing that judges the same laws to stand beside"


async def measure(run: Run) -> list[Finding]:
    """Histories of escrow per second and their cost, and how a whole network fares."""
    count = HISTORIES_QUICK if run.quick else HISTORIES
    told = [await _histories(run, round_, count) for round_ in range(run.rounds(ROUNDS))]
    rate = Samples(tuple(one.histories / one.seconds for one in told))
    cost = Samples(tuple(one.cpu_seconds / one.histories for one in told))
    found = [
        Finding(name="simulated histories", unit="histories/s", ours=rate, peer=NOBODY, note="all cores"),
        Finding(
            name="CPU of a simulated history", unit="s", ours=cost, goal=Goal("value", "<=", CPU_GOAL_S), peer=NOBODY
        ),
    ]
    return found if run.quick else [*found, await _network(run)]


async def _histories(run: Run, round_: int, count: int) -> Told:
    run.tell(f"{count} histories of escrow, round {round_ + 1}")
    orders = [Order(kind="money", seed=round_ * count + at, faults=KINDS) for at in range(count)]
    return await asyncio.to_thread(run_many, orders)


async def _network(run: Run) -> Finding:
    run.tell(f"{NETWORK_NODES} whole nodes for a virtual hour")
    order = Order(kind="network", seed=1, faults=KINDS, nodes=NETWORK_NODES, hours=NETWORK_HOURS)
    told = await asyncio.to_thread(run_many, [order, order])  # two, so that both run in processes of their own
    hours_a_minute = 2 * NETWORK_HOURS * 60 / told.seconds
    return Finding(
        name="virtual hours of six whole nodes",
        unit="h/min",
        ours=Samples((hours_a_minute,)),
        peer=NOBODY,
        note="all cores",
    )
