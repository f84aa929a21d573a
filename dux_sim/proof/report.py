"""All cases and all faults, a process per core, and what came of them.

Promises that the figures do not depend on how the work was spread over the processes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import msgspec

from common.units import FLOP
from dux_sim.proof.cases import Case, full_cases, quick_cases
from dux_sim.proof.coins import Chain, EmbeddedChain, litecoind, litecoind_missing
from dux_sim.proof.histories import Sampled, sample, sampled_cases
from dux_sim.proof.mutations import MUTATIONS, hunt
from dux_sim.proof.played import History, Played, Player
from dux_sim.proof.walk import Found, Walk, Walked

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[str], None]
TASKS_PER_PROCESS = 8  # what a walk remembers goes with its process
EACH_QUICK, EACH_FULL = 2, 6  # histories of each exit of each case that go to a chain


class Hunted(msgspec.Struct):
    """One planted fault."""

    fault: str
    found: bool
    law: str
    trace: list[str]


class Proof(msgspec.Struct, kw_only=True):
    """What `duxnet prove escrow` answers; the names of the first six fields are promised to programs."""

    cases: int
    violations: list[dict[str, Any]]
    exits: dict[str, int]
    latest_free_blocks_after_T: int | None  # noqa: N815
    mutations_planted: int
    mutations_found: int
    quick: bool
    states: int
    transitions: int
    ends: int
    cut_off: list[str]  # cases whose moments were not all seen
    seconds: float
    variants: list[Walked]
    mutations: list[Hunted]
    chains: list[Played]
    histories_audited: int
    differences: list[str]  # between the walk, its histories without reductions, and the auditor

    @property
    def holds(self) -> bool:
        """No law is broken, every fault is found, and the chains took and refused what the model says."""
        refuted = [one for chain in self.chains for one in chain.differences] + self.differences
        return not self.violations and self.mutations_found == self.mutations_planted and not refuted


def walk_case(case: Case) -> Walked:
    """One case."""
    return Walk(case.name, case.setting, case.left, eager=case.eager).run(case.states_max)


def hunt_fault(number: int) -> Hunted:
    """One planted fault, by its place in the list."""
    found: Found | None = hunt(MUTATIONS[number])
    trace = shortened(found.trace) if found else []
    return Hunted(MUTATIONS[number].name, found is not None, found.law if found else "", trace)


def sample_case(number: int, each: int) -> Sampled:
    """Histories of one case, by its place in the list."""
    return sample(sampled_cases()[number], each)


def prove(*, quick: bool, jobs: int, progress: Progress) -> Proof:
    """Walk, hunt, replay."""
    started = time.perf_counter()
    walked = _spread(walk_case, quick_cases() if quick else full_cases(), jobs, progress, "cases walked")
    hunted = _spread(hunt_fault, range(len(MUTATIONS)), jobs, progress, "faults planted")
    each = EACH_QUICK if quick else EACH_FULL
    sampled = _spread(partial(sample_case, each=each), range(len(sampled_cases())), jobs, progress, "cases sampled")
    histories = [history for one in sampled for history in one.histories]
    progress(f"{len(histories)} histories on chains")
    proof = Proof(
        cases=len(walked),
        violations=[_violation(one, found) for one in walked for found in one.violations],
        exits=_added(one.exits for one in walked),
        latest_free_blocks_after_T=max(
            (one.latest_free_blocks_after_T for one in walked if one.latest_free_blocks_after_T is not None),
            default=None,
        ),
        mutations_planted=len(hunted),
        mutations_found=sum(one.found for one in hunted),
        quick=quick,
        states=sum(one.states for one in walked),
        transitions=sum(one.transitions for one in walked),
        ends=sum(one.ends for one in walked),
        cut_off=[one.name for one in walked if not one.complete],
        seconds=0.0,
        variants=walked,
        mutations=hunted,
        chains=played_on_chains(histories, quick=quick),
        histories_audited=sum(one.audited for one in sampled),
        differences=[line for one in sampled for line in one.differences],
    )
    proof.seconds = round(time.perf_counter() - started, 1)
    return proof


def played_on_chains(histories: list[History], *, quick: bool) -> list[Played]:
    """The histories on the embedded chain, and in the long form on litecoind, or why not."""
    value = int(histories[0].setting.deal.lot_florins) + FLOP if histories else FLOP
    told = [_played(EmbeddedChain(len(histories), value), histories)]
    missing = "the short form leaves it out" if quick else litecoind_missing()
    if missing:
        return [*told, Played("litecoind", skipped=missing)]
    with TemporaryDirectory() as folder, litecoind(Path(folder), len(histories), value) as chain:
        return [*told, _played(chain, histories)]


def _played(chain: Chain, histories: list[History]) -> Played:
    player = Player(chain)
    player.play(histories)
    return player.told


def _violation(walked: Walked, found: Found) -> dict[str, Any]:
    return {"case": walked.name, "law": found.law, "trace": shortened(found.trace)}


def shortened(trace: list[str]) -> list[str]:
    """What matters of a trace: everything but time and mail that take their course."""
    return [line for line in trace if not line.endswith((": a block", ": mail arrives"))]


def _added(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def _spread(work: Callable[[T], R], items: Sequence[T], jobs: int, progress: Progress, what: str) -> list[R]:
    done: list[R] = []
    if jobs == 1:
        for item in items:
            done.append(work(item))
            progress(f"{what}: {len(done)} of {len(items)}")
        return done
    with get_context("spawn").Pool(jobs, maxtasksperchild=TASKS_PER_PROCESS) as pool:
        for one in pool.imap(work, items):
            done.append(one)
            progress(f"{what}: {len(done)} of {len(items)}")
    return done
