"""A whole node as seven processes: its memory, what it does while nothing happens, and how long its start takes.

The node is connected to another one (which is not counted) and in step with a chain on which no block is found during
the measurement. Memory is PSS: what processes share is counted once. No other program is a peer here; the goals are
figures of their own.
"""

from __future__ import annotations

import asyncio
import time

from bench.measure import Run, cpu_s, family, pss_mib
from bench.rows import Finding, Goal, Samples, one
from bench.scene import READY_WITHIN_S, Scene, running, scene
from common.contracts.p2p import P2P_INFO
from common.contracts.wallet import CHAIN_TIP
from common.errors import DuxError
from common.rpc.method import DAEMONS, Empty
from dux_cli.supervisor import Node

STARTS = 3
SETTLE_S = 15.0  # what happens once after a start is not idleness
WATCH_S = 30.0
QUICK_S = 2.0
LOOK_EVERY_S = 0.1


async def measure(run: Run) -> list[Finding]:
    """Start to ready, then memory and idle CPU."""
    async with scene(run.folder) as stage, running(stage.nodes["arbiter-1"]):
        node = stage.nodes["buyer"]
        starts = [await _start(node, run) for _ in range(run.rounds(STARTS))]
        await _in_step(stage, node)
        settle_s, watch_s = (QUICK_S, QUICK_S) if run.quick else (SETTLE_S, WATCH_S)
        run.tell(f"idle for {settle_s:g} s, then watched for {watch_s:g} s")
        await asyncio.sleep(settle_s)
        return [_starts(starts), *await _watched(node, watch_s)]


async def _start(node: Node, run: Run) -> float:
    """Seconds from the first process to the last answer; the node was down before."""
    await node.close()
    began = time.perf_counter()
    await node.start()
    await node.wait_ready(deadline_s=READY_WITHIN_S)
    took = time.perf_counter() - began
    run.tell(f"ready after {took:.1f} s")
    return took


async def _in_step(stage: Scene, node: Node) -> None:
    async with asyncio.timeout(READY_WITHIN_S):
        while not await _is_in_step(stage, node):
            await asyncio.sleep(LOOK_EVERY_S)


async def _is_in_step(stage: Scene, node: Node) -> bool:
    try:
        info = await node.call(P2P_INFO, Empty())
        tip = await node.call(CHAIN_TIP, Empty())
    except DuxError:
        return False
    return info.sessions >= 1 and tip.synced and tip.height >= await stage.chain.height()


def _starts(seconds: list[float]) -> Finding:
    note = "all seven processes at once until each answers daemon.info"
    return Finding(
        name="node start to ready", unit="s", ours=Samples(tuple(seconds)), goal=Goal("value", "<=", 10), note=note
    )


async def _watched(node: Node, watch_s: float) -> list[Finding]:
    pids = {daemon: pid for daemon in DAEMONS if (pid := node.pid(daemon)) is not None}
    before = {daemon: cpu_s(pid) for daemon, pid in pids.items()}
    began = time.perf_counter()
    await asyncio.sleep(watch_s)
    watched_s = time.perf_counter() - began
    busy = {daemon: (cpu_s(pid) - before[daemon]) / watched_s * 100 for daemon, pid in pids.items()}
    memory = {daemon: pss_mib(family(pid)) for daemon, pid in pids.items()}
    return [
        Finding(
            name="node memory", unit="MiB (PSS)", ours=one(sum(memory.values())), goal=Goal("value", "<=", 300),
            note=", ".join(f"{daemon} {mib:.1f}" for daemon, mib in memory.items()) + "; with what they have started",
        ),
        Finding(
            name="node idle cpu", unit="% of a core", ours=one(sum(busy.values())), goal=Goal("value", "<=", 1),
            note=", ".join(f"{daemon} {share:.2f}" for daemon, share in busy.items()),
        ),
    ]  # fmt: skip
