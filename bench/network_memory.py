"""What a connection and an idle node cost in memory: PSS of processes that host many, before and after.

A connection's side is what a node grows by for each of its peers, with what it keeps of them (event log, node record,
place in the table). An idle node is one of many in a process, connected to a few, less the bare process.
"""

from __future__ import annotations

import asyncio

from bench.measure import Run
from bench.rows import Finding, Goal, one
from bench.swarm import Swarm

PEERS, PEERS_QUICK = 120, 12
IDLE, IDLE_QUICK = 60, 8
SETTLE_S = 3.0
FEW = {"peers_target": 4}
GOAL_SIDE, GOAL_NODE = Goal("value", "<=", 60), Goal("value", "<=", 3)


async def measure_memory(run: Run) -> list[Finding]:
    """Both figures."""
    run.tell("memory of connections and of idle nodes")
    peers, idle = (PEERS_QUICK, IDLE_QUICK) if run.quick else (PEERS, IDLE)
    return [
        Finding(
            name="memory per connection side", unit="KiB", ours=one(await _side_kib(run, peers)), goal=GOAL_SIDE,
            note=f"a node's growth over {peers} peers, with what it keeps of each",
        ),
        Finding(
            name="memory per idle node", unit="MB", ours=one(await _node_mb(run, idle)), goal=GOAL_NODE,
            note=f"{idle} in one process, each connected",
        ),
    ]  # fmt: skip


async def _side_kib(run: Run, count: int) -> float:
    """One node in a process of its own, and many that begin from it."""
    async with Swarm(run.folder / "side", [1, count], settings=FEW) as swarm:
        hub, others = swarm.hosts
        await swarm.start_host(hub)
        await asyncio.sleep(SETTLE_S)
        before = swarm.memory_mib()[0]
        await swarm.start_nodes(others.numbers)
        await swarm.until(lambda node: node.sessions >= 1)
        await asyncio.sleep(SETTLE_S)
        sessions = next(node.sessions for node in await swarm.states() if node.number == hub.numbers[0])
        return (swarm.memory_mib()[0] - before) * 1024 / max(1, sessions)


async def _node_mb(run: Run, count: int) -> float:
    async with Swarm(run.folder / "idle", [count], settings=FEW) as swarm:
        await swarm.hosts[0].ask("usage")  # it has started, and imported everything
        bare = swarm.memory_mib()[0]
        await swarm.start()
        await swarm.until(lambda node: node.sessions >= 1)
        await asyncio.sleep(SETTLE_S)
        return (swarm.memory_mib()[0] - bare) * 1.048576 / count
