"""All cases and all faults, a process per core, and what came of them."""

from __future__ import annotations

import time
from functools import partial

import msgspec

from common.units import FLOP
from dux_sim.proof.cases import Case, full_cases, quick_cases
from dux_sim.proof.cast import deal_for
from dux_sim.proof.histories import Sampled, sample, sampled_cases
from dux_sim.proof.mutations import MUTATIONS, hunt
from dux_sim.proof.played import Lot
from dux_sim.proof.player import Played, played_on_chains
from dux_sim.proof.spread import Hunted, Progress, added, hunted, spread, violation
from dux_sim.proof.walk import Walk, Walked

COIN_FLORINS = int(deal_for().lot_florins) + FLOP  # what the purse holds for each history
EACH_QUICK, EACH_FULL = 2, 6  # histories of each exit of each case that go to a chain


class Proof(msgspec.Struct, kw_only=True):
    """What `duxnet prove escrow` answers; the names of the first six fields are promised to programs."""

    cases: int
    violations: list[dict[str, object]]
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
    return hunted(MUTATIONS[number].name, hunt(MUTATIONS[number]))


def sample_case(number: int, each: int) -> Sampled:
    """Histories of one case, by its place in the list."""
    return sample(sampled_cases()[number], each)


def prove(*, quick: bool, jobs: int, progress: Progress) -> Proof:
    """Walk, hunt, replay."""
    started = time.perf_counter()
    walked = spread(walk_case, quick_cases() if quick else full_cases(), jobs, progress, "cases walked")
    faults = spread(hunt_fault, range(len(MUTATIONS)), jobs, progress, "faults planted")
    each = EACH_QUICK if quick else EACH_FULL
    sampled = spread(partial(sample_case, each=each), range(len(sampled_cases())), jobs, progress, "cases sampled")
    histories = [history for one in sampled for history in one.histories]
    progress(f"{len(histories)} histories on chains")
    proof = Proof(
        cases=len(walked),
        violations=[violation(one.name, found) for one in walked for found in one.violations],
        exits=added(one.exits for one in walked),
        latest_free_blocks_after_T=max(
            (one.latest_free_blocks_after_T for one in walked if one.latest_free_blocks_after_T is not None),
            default=None,
        ),
        mutations_planted=len(faults),
        mutations_found=sum(one.found for one in faults),
        quick=quick,
        states=sum(one.states for one in walked),
        transitions=sum(one.transitions for one in walked),
        ends=sum(one.ends for one in walked),
        cut_off=[one.name for one in walked if not one.complete],
        seconds=0.0,
        variants=walked,
        mutations=faults,
        chains=played_on_chains(histories, Lot, COIN_FLORINS, quick=quick),
        histories_audited=sum(one.audited for one in sampled),
        differences=[line for one in sampled for line in one.differences],
    )
    proof.seconds = round(time.perf_counter() - started, 1)
    return proof
