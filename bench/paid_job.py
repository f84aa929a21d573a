"""The whole paid job: the demo's, between six nodes, from the order to the last confirmation, and where its time goes.

The chain finds a block every half second, so that the waiting for blocks can be seen beside the work; on main a block
takes a minute and the waiting is nearly all. Phases follow each other; the parts below them (SQLite, sandbox, calls
between nodes, calls between daemons) are seconds added up over the fourteen daemons of buyer and seller, as they count
them themselves in /metrics: what happens side by side counts twice.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.measure import Run
from bench.rows import Finding, Samples
from common.contracts.task import TaskState, TaskView
from common.errors import Unavailable
from common.rpc.method import DAEMONS
from dux_cli.demo import airdrop, job
from dux_cli.demo.stage import Stage, staged
from dux_cli.demo.teller import Teller
from dux_cli.supervisor import Node

ROUNDS = 3
PARTIES = ("buyer", "seller")
MARKS = {  # the end of each phase, as the task's own lines tell it
    "agreement": "is signed by all",
    "waiting for the deposit's block": "is funded",
    "work and delivery": "opens as committed",
}
LAST_PHASE = "waiting for the payment's blocks"
LONG_POLLS = (".events", ".since")  # their seconds are nobody's work
LINE = re.compile(r'dux_[a-z0-9]+?_(\w+?)(?:\{method="([^"]+)"\})? ([0-9.e+-]+)')


class NotPaid(Unavailable):
    """The paid job of the benchmark ended as {state}: {reason}."""

    code = 1343
    key = "not-paid"


@dataclass
class Taken:
    """Percent of the wall time by part, one figure per job."""

    wall_s: list[float] = field(default_factory=list)
    phases: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    parts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    calls: list[float] = field(default_factory=list)


async def measure_paid(run: Run) -> list[Finding]:
    """The job a few times over."""
    run.tell("six nodes and the whole paid job")
    folder = run.folder / "paid"
    folder.mkdir()
    taken = Taken()
    async with staged(folder, "embedded", run.tell) as stage:
        await airdrop.register_all(stage)
        offers = await job.publish(stage, Teller())
        for number in range(run.rounds(ROUNDS)):
            await _one(stage, offers, f"bench-{number}", taken)
            run.tell(f"paid after {taken.wall_s[-1]:.1f} s")
    return _findings(taken)


async def _one(stage: Stage, offers: job.Offers, request_id: str, taken: Taken) -> None:
    picture = job.input_picture(stage, None, fast=True)
    before = await _counted(stage)
    began = time.perf_counter()
    view = await job.follow(stage, await job.submit(stage, offers, picture, request_id=request_id), None)
    wall_s = time.perf_counter() - began
    if view.state is not TaskState.PAID:
        raise NotPaid(state=view.state.value, reason=view.reason)
    after = await _counted(stage)
    taken.wall_s.append(wall_s)
    for phase, seconds in phases(view).items():
        taken.phases[phase].append(seconds / wall_s * 100)
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    for part, seconds in parts(spent).items():
        taken.parts[part].append(seconds / wall_s * 100)
    answered = {method: count for (what, method), count in spent.items() if what == "calls_total"}
    taken.calls.append(sum(count for method, count in answered.items() if _works(method)))


def phases(view: TaskView) -> dict[str, float]:
    """Seconds from mark to mark of the task's lines, the first from its creation; a missing mark is left out."""
    found, since = {}, int(view.created_ms)
    for phase, mark in MARKS.items():
        line = next((line for line in view.lines if mark in line.text), None)
        if line is not None:
            found[phase], since = (int(line.at_ms) - since) / 1000, int(line.at_ms)
    found[LAST_PHASE] = (int(view.lines[-1].at_ms) - since) / 1000
    return found


def parts(spent: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Seconds by what the time was for, of all daemons together."""
    calls = {method: seconds for (what, method), seconds in spent.items() if what == "calls_seconds_total"}
    between_nodes = calls.get("p2p.peer_call", 0.0)
    answering = calls.get("peer.handle", 0.0)
    return {
        "sqlite": spent.get(("decisions_seconds_total", ""), 0.0),
        "sandbox": spent.get(("sandbox_seconds_total", ""), 0.0),
        "calls between nodes": max(0.0, between_nodes - answering),
        "calls between daemons": sum(s for m, s in calls.items() if _works(m)) - between_nodes - answering,
    }


def _works(method: str) -> bool:
    return not method.endswith(LONG_POLLS)


async def _counted(stage: Stage) -> dict[tuple[str, str], float]:
    """(figure, method) -> sum over the daemons of both parties."""
    total: defaultdict[tuple[str, str], float] = defaultdict(float)
    for node in (stage.node(name) for name in PARTIES):
        for daemon in DAEMONS:
            for what, method, value in LINE.findall(await _metrics(node, daemon)):
                total[what, method] += float(value)
    return total


async def _metrics(node: Node, daemon: str) -> str:
    return (await node.client(daemon).transfer("GET", "/metrics", None)).decode()


def _findings(taken: Taken) -> list[Finding]:
    unit = "% of its time"
    calls = f"{sum(taken.calls) / len(taken.calls):.0f} calls between the daemons of buyer and seller"
    return [
        Finding(name="paid job", unit="s", ours=Samples(tuple(taken.wall_s)), note=f"a block every 0.5 s; {calls}"),
        *(
            Finding(name=f"paid job: {what}", unit=unit, ours=Samples(tuple(each)))
            for what, each in taken.phases.items()
        ),
        *(
            Finding(name=f"paid job: {what}", unit=unit, ours=Samples(tuple(each)))
            for what, each in taken.parts.items()
        ),
    ]
