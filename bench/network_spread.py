"""How words spread, simulated: gossip at its goal's rate among its goal's 300 p2pds, and a proof of fault.

Two cores cannot carry what three hundred nodes do with a hundred messages (7 s of processor for each second), so time
is the simulator's: what is measured is the protocol, its hops and its pauses between frames, not the machine. Once with
the links of one machine, which the goal is about, and once with those between cities. The proof of fault goes over
those between cities; once among honest nodes, and once where a tenth lie and a tenth of the others are away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from bench.measure import Run
from bench.rows import Finding, Goal, one
from dux_sim.overlay import duplicity
from dux_sim.overlay.links import CITIES_S
from dux_sim.overlay.spread import ONE_MACHINE_S, Spread, Wanted, spread

NODES, PER_S, SECONDS = 300, 100.0, 10.0
NODES_QUICK, PER_S_QUICK, SECONDS_QUICK = 20, 20.0, 2.0
LINKS = {"one machine": ONE_MACHINE_S, "between cities": CITIES_S}
FAULTY = {"all honest and there": False, "a tenth lie, a tenth of the others away": True}
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
        found += spread_findings(await _alone(spread, wanted), wanted, links)
    for who, faults in FAULTY.items():
        shown = duplicity.Wanted(NODES_QUICK if run.quick else NODES, faults)
        run.tell(f"a proof of fault among {shown.nodes} simulated nodes, {who}")
        found += duplicity_findings(await _alone(duplicity.duplicity, shown), shown, who)
    return found


_Asked = TypeVar("_Asked")
_Told = TypeVar("_Told")


async def _alone(play: Callable[[_Asked], _Told], wanted: _Asked) -> _Told:
    """In a process of its own, for the world's time is the process's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return await asyncio.get_running_loop().run_in_executor(alone, play, wanted)


def duplicity_findings(told: duplicity.Refused, wanted: duplicity.Wanted, who: str) -> list[Finding]:
    """When those that were there hold the proof, and how many were told it or find it when they ask."""
    size = f"{wanted.nodes} simulated nodes, {who}"
    holding = told.told + told.asked_refuse
    return [
        Finding(
            name=f"proof of fault held, p95 ({size})", unit="ms", ours=one(1000 * told.p95_s),
            note=f"p50 {1000 * told.p50_s:.0f} ms, the last {1000 * told.last_s:.0f} ms; {told.were_there_told} of "
            f"{told.were_there} that were there are told; simulated time",
        ),
        Finding(
            name=f"proof of fault held by who is told or asks ({size})", unit="%",
            ours=one(100 * holding / told.honest), goal=ALL_GOAL,
            note=f"{told.told} of {told.honest} honest nodes told within a minute; {told.asked} ask before money: "
            f"{told.asked_refuse} find it, {told.asked_unsure} find too few who confirm the name",
        ),
    ]  # fmt: skip


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
