"""What a proof comes to, whichever protocol it is of, and the order in which it is made: walk, hunt, play on chains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from dux_sim.proof.player import History, Maker, Played, played_on_chains
from dux_sim.proof.search import Walked
from dux_sim.proof.spread import Hunted, Progress, added, spread, violation

C = TypeVar("C")
S = TypeVar("S", bound="Summary")


class Sampled(msgspec.Struct):
    """Histories, and what was wrong with any."""

    histories: list[History] = msgspec.field(default_factory=list)
    audited: int = 0  # logs of nodes that were replayed
    differences: list[str] = msgspec.field(default_factory=list)


def picked(case: str, samples: Mapping[str, Sequence[int]], each: int) -> Iterator[tuple[str, int, str]]:
    """Up to `each` histories of every exit, spread over all that there are: a name, the number, the exit."""
    for exit_, numbers in sorted(samples.items()):
        step = max(1, len(numbers) // each)
        for number in numbers[::step][:each]:
            yield f"{case}; {exit_}; {number}", number, exit_.removesuffix(", moved")


class Summary(msgspec.Struct, kw_only=True):
    """What `duxnet prove` answers; the names of the first five fields are promised to programs."""

    cases: int
    violations: list[dict[str, Any]]
    exits: dict[str, int]
    mutations_planted: int
    mutations_found: int
    quick: bool
    states: int
    transitions: int
    ends: int
    cut_off: list[str]  # cases whose moments were not all seen
    seconds: float = 0.0
    variants: list[Any]
    mutations: list[Hunted]
    chains: list[Played]
    histories_audited: int
    differences: list[str]  # between the walk, its histories without reductions, and the auditor

    @property
    def holds(self) -> bool:
        """No law is broken, every fault is found, and the chains took and refused what the model says."""
        refuted = [one for chain in self.chains for one in chain.differences] + self.differences
        return not self.violations and self.mutations_found == self.mutations_planted and not refuted

    @property
    def verdict(self) -> str:
        """`holds` for people, who are to see how much of it was not walked to its end."""
        cut = len(self.cut_off)
        unseen = f", {cut} case{'s' * (cut > 1)} cut off" if cut else ""
        return ("holds" if self.holds else "does not hold") + unseen


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a proof is made of; the functions are named ones, for they are handed to processes."""

    cases: Sequence[Any]
    walk: Callable[[Any], Any]
    faults: int
    hunt: Callable[[int], Hunted]
    samples: int
    sample: Callable[[int], Sampled]
    make: Maker
    coin_florins: int  # what the purse holds for each history


def prove(kind: type[S], parts: Parts, *, quick: bool, jobs: int, progress: Progress) -> S:
    """Walk, hunt, play."""
    started = time.perf_counter()
    walked: list[Walked] = spread(parts.walk, parts.cases, jobs, progress, "cases walked")
    hunted = spread(parts.hunt, range(parts.faults), jobs, progress, "faults planted")
    sampled = spread(parts.sample, range(parts.samples), jobs, progress, "cases sampled")
    histories = [history for one in sampled for history in one.histories]
    progress(f"{len(histories)} histories on chains")
    proof = kind(
        cases=len(walked),
        violations=[violation(one.name, found) for one in walked for found in one.violations],
        exits=added(one.exits for one in walked),
        mutations_planted=len(hunted),
        mutations_found=sum(one.found for one in hunted),
        quick=quick,
        states=sum(one.states for one in walked),
        transitions=sum(one.transitions for one in walked),
        ends=sum(one.ends for one in walked),
        cut_off=[one.name for one in walked if not one.complete],
        variants=walked,
        mutations=hunted,
        chains=played_on_chains(histories, parts.make, parts.coin_florins, quick=quick),
        histories_audited=sum(one.audited for one in sampled),
        differences=[line for one in sampled for line in one.differences],
    )
    proof.seconds = round(time.perf_counter() - started, 1)
    return proof
