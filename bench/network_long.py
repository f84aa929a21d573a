"""The network's rows that take from ten minutes to an hour: a thousand simulated nodes, and the soak.

They are measured when they are asked for by name (`--only sim`, `--only soak`); a plain run says that it left them out
and by what command they are measured. With `--quick` they run in small, say so in their names, and are not judged: the
goals are about the whole thing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.measure import Run
from bench.rows import Finding, Goal, Samples, one
from bench.soak import GROWTH_MAX, Soak, Soaked

SEED, FAULTS = 3, "churn,partition,liars"
WISHES = {"lookup": "lookups", "peer call": "peer calls", "job offer": "job offers"}  # the simulator's word -> ours
ANSWERED_GOAL = Goal("value", ">=", 99.9)


@dataclass(frozen=True)
class Size:
    """How large a run is. `whole`: the one that the goals are about."""

    nodes: int
    minutes: float
    whole: bool = False

    def goal(self, goal: Goal) -> Goal | None:
        """The goal of a whole run; a small one has none."""
        return goal if self.whole else None

    def __str__(self) -> str:
        return f"{self.nodes} nodes x {self.minutes:g} min" + ("" if self.whole else ", short")


SIM, SIM_SHORT, SIM_TWIN = Size(1_000, 60.0, whole=True), Size(12, 3.0), Size(20, 5.0)
SOAK, SOAK_SHORT = Size(20, 30.0, whole=True), Size(6, 0.35)
ABOUT = {"spread": "8 min", "sim": "15 min", "soak": "31 min"}
ROWS = {
    "spread": "gossip and a proof of fault among 300 simulated nodes",
    "sim": "1,000 simulated nodes for an hour",
    "soak": "20 real nodes for half an hour",
}


def left_out(part: str) -> Finding:
    """The row of a part that a plain run leaves out, with the command that measures it."""
    command = f"duxnet bench network --only {part}"
    return Finding(
        name=f"{ROWS[part]} (skipped)", unit="", ours=None, peer=f"takes {ABOUT[part]}: {command}",
        note=f"not measured in a plain run: `{command}`; in small, without a verdict: `{command} --quick`",
    )  # fmt: skip


# the simulator


async def measure_sim(run: Run) -> list[Finding]:
    """What `duxnet sim` tells of the overlay under churn, partitions and liars; and of one small history twice."""
    size = SIM_SHORT if run.quick else SIM
    run.tell(f"{size}, simulated")
    told = await _sim(size)
    twin = size if run.quick else SIM_TWIN
    run.tell(f"{twin}: the same history a second time")
    twins = [told if run.quick else await _sim(twin), await _sim(twin)]
    return [*sim_findings(told, size), _same(twins, twin)]


async def _sim(size: Size) -> dict[str, Any]:
    words = ("--story", "overlay", "--nodes", str(size.nodes), "--hours", f"{size.minutes / 60:g}", "--seed", str(SEED))
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dux_cli", "sim", *words, "--faults", FAULTS, "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        said, complained = await program.communicate()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    try:
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        found["exits"]
    except (IndexError, ValueError, KeyError) as error:
        raise RuntimeError(f"duxnet sim told nothing: {(complained or said).decode()[-300:]}") from error
    return found


def sim_findings(told: dict[str, Any], size: Size) -> list[Finding]:
    """How long it took, what was answered, which laws broke."""
    exits, note = told["exits"], f"seed {SEED}, {told['repeat']}"
    found = [
        Finding(
            name=f"simulated network ({size})", unit="min", ours=one(told["seconds"] / 60),
            goal=size.goal(Goal("value", "<=", 15)), note=f"{told['cpu_seconds'] / 60:.1f} min of CPU; {note}",
        )
    ]  # fmt: skip
    for kind, name in WISHES.items():
        answered, failed = exits.get(f"{kind} answered", 0), exits.get(f"{kind} failed", 0)
        asked = answered + failed
        found.append(
            Finding(
                name=f"{name} answered ({size})", unit="%", ours=one(100 * answered / asked) if asked else None,
                goal=size.goal(ANSWERED_GOAL), note=f"{answered} of {asked}, between honest nodes that were there",
            )
        )  # fmt: skip
    broken = "; ".join(one["law"] for one in told["violations"]) or "none"
    laws = one(float(len(told["violations"])))
    return [*found, Finding(name=f"laws broken in it ({size})", unit="", ours=laws, goal=NOTHING, note=broken)]


NOTHING = Goal("value", "<=", 0)


def _same(twins: list[dict[str, Any]], size: Size) -> Finding:
    """Whether one seed was one history; judged whatever its size."""
    histories = {one["history_hash"] for one in twins}
    return Finding(
        name=f"histories of one seed, run twice ({size.nodes} nodes x {size.minutes:g} min)", unit="",
        ours=Samples((float(len(histories)),)), goal=Goal("value", "<=", 1), note=min(histories),
    )  # fmt: skip


# the soak


async def measure_soak(run: Run, soak: Callable[..., Soak] = Soak) -> list[Finding]:
    """What `duxnet soak` tells."""
    size = SOAK_SHORT if run.quick else SOAK
    run.tell(f"{size}, on real sockets")
    told = await soak(run.folder / "soak", nodes=size.nodes, minutes=size.minutes, tell=run.tell).run()
    return soak_findings(told, size)


def soak_findings(told: Soaked, size: Size) -> list[Finding]:
    """Growth of memory, and what else leaked."""
    warm, end = told.warm, told.end
    leaks = [law for law in told.broken if not law.startswith("memory")]
    return [
        Finding(
            name=f"memory grown after warm-up ({size})", unit="%", ours=one(100 * told.growth),
            goal=size.goal(Goal("value", "<=", 100 * GROWTH_MAX)),
            note=f"{warm.rss_mib:.1f} to {end.rss_mib:.1f} MiB in all; did {told.done}, failed {told.failed or 'none'}",
        ),
        Finding(
            name=f"kinds of leaks ({size})", unit="", ours=one(float(len(leaks))), goal=NOTHING,
            note="; ".join(leaks) or f"tasks {warm.tasks} to {end.tasks}, sockets {warm.sockets} to {end.sockets}",
        ),
    ]  # fmt: skip
