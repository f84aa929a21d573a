"""All cases and all faults of the channel, a process per core, and what came of them."""

from __future__ import annotations

from functools import partial

from dux_sim.proof.channel.cases import Case, full_cases, quick_cases
from dux_sim.proof.channel.histories import sample, sampled_cases
from dux_sim.proof.channel.mutations import MUTATIONS, hunt
from dux_sim.proof.channel.played import COIN_FLORINS, Paid
from dux_sim.proof.channel.walk import Walk
from dux_sim.proof.search import Walked
from dux_sim.proof.spread import Hunted, Progress, hunted
from dux_sim.proof.summary import Parts, Sampled, Summary
from dux_sim.proof.summary import prove as prove_parts

EACH_QUICK, EACH_FULL = 2, 8  # histories of each exit of each case that go to a chain


def walk_case(case: Case) -> Walked:
    """One case."""
    return Walk(case.name, case.setting, case.left).run(case.states_max)


def hunt_fault(number: int) -> Hunted:
    """One planted fault, by its place in the list."""
    return hunted(MUTATIONS[number].name, hunt(MUTATIONS[number]))


def sample_case(number: int, each: int) -> Sampled:
    """Histories of one case, by its place in the list."""
    return sample(sampled_cases()[number], each)


def prove(*, quick: bool, jobs: int, progress: Progress) -> Summary:
    """Walk, hunt, replay."""
    parts = Parts(
        cases=quick_cases() if quick else full_cases(), walk=walk_case, faults=len(MUTATIONS), hunt=hunt_fault,
        samples=len(sampled_cases()), sample=partial(sample_case, each=EACH_QUICK if quick else EACH_FULL), make=Paid,
        coin_florins=COIN_FLORINS,
    )  # fmt: skip
    return prove_parts(Summary, parts, quick=quick, jobs=jobs, progress=progress)
