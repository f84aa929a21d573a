"""All cases and all faults of the escrow, a process per core, and what came of them."""

from __future__ import annotations

from functools import partial

from common.units import FLOP
from dux_sim.proof.cases import Case, full_cases, quick_cases
from dux_sim.proof.cast import deal_for
from dux_sim.proof.histories import sample, sampled_cases
from dux_sim.proof.mutations import MUTATIONS, Mutation, hunt
from dux_sim.proof.played import Lot
from dux_sim.proof.series import (
    SERIES_CASES,
    SERIES_LONG,
    SERIES_MUTATIONS,
    Series,
    SeriesMutation,
    SeriesWalk,
    hunt_series,
)
from dux_sim.proof.spread import Hunted, Progress, hunted
from dux_sim.proof.summary import Parts, Sampled, Summary
from dux_sim.proof.summary import prove as prove_parts
from dux_sim.proof.walk import Walk, WalkedEscrow

COIN_FLORINS = int(deal_for().lot_florins) + FLOP  # what the purse holds for each history
EACH_QUICK, EACH_FULL = 2, 6  # histories of each exit of each case that go to a chain

FAULTS: tuple[Mutation | SeriesMutation, ...] = (*MUTATIONS, *SERIES_MUTATIONS)


class Proof(Summary, kw_only=True):
    """What `duxnet prove escrow` answers."""

    latest_free_blocks_after_T: int | None = None  # noqa: N815 - the name of the report


def walk_case(case: Case | Series) -> WalkedEscrow:
    """One case: of a single lot, or of several at once."""
    if isinstance(case, Series):
        return SeriesWalk(case).run(case.states_max)
    return Walk(case.name, case.setting, case.left, eager=case.eager).run(case.states_max)


def hunt_fault(number: int) -> Hunted:
    """One planted fault, by its place in the list."""
    mutation = FAULTS[number]
    found = hunt_series(mutation) if isinstance(mutation, SeriesMutation) else hunt(mutation)
    return hunted(mutation.name, found)


def sample_case(number: int, each: int) -> Sampled:
    """Histories of one case, by its place in the list."""
    return sample(sampled_cases()[number], each)


def prove(*, quick: bool, jobs: int, progress: Progress) -> Proof:
    """Walk, hunt, replay."""
    parts = Parts(
        cases=[*SERIES_CASES, *quick_cases()] if quick else [*SERIES_LONG, *SERIES_CASES, *full_cases()],
        walk=walk_case, faults=len(FAULTS), hunt=hunt_fault,
        samples=len(sampled_cases()), sample=partial(sample_case, each=EACH_QUICK if quick else EACH_FULL), make=Lot,
        coin_florins=COIN_FLORINS,
    )  # fmt: skip
    proof = prove_parts(Proof, parts, quick=quick, jobs=jobs, progress=progress)
    free = (one.latest_free_blocks_after_T for one in proof.variants if one.latest_free_blocks_after_T is not None)
    proof.latest_free_blocks_after_T = max(free, default=None)
    return proof
