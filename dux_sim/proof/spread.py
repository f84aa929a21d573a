"""Work over processes, and what every proof tells: faults that were hunted, traces without what time does by itself.

Promises that the figures do not depend on how the work was spread over the processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import get_context
from typing import Any, TypeVar

import msgspec

from dux_sim.proof.search import Found

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[str], None]
TASKS_PER_PROCESS = 8  # what a walk remembers goes with its process
ORDINARY = (": a block", ": mail arrives")


class Hunted(msgspec.Struct):
    """One planted fault."""

    fault: str
    found: bool
    law: str
    trace: list[str]


def hunted(fault: str, found: Found | None) -> Hunted:
    """What came of a hunt."""
    return Hunted(fault, found is not None, found.law if found else "", shortened(found.trace) if found else [])


def violation(case: str, found: Found) -> dict[str, Any]:
    """A broken law as the report has it."""
    return {"case": case, "law": found.law, "trace": shortened(found.trace)}


def shortened(trace: list[str]) -> list[str]:
    """What matters of a trace: everything but time and mail that take their course."""
    return [line for line in trace if not line.endswith(ORDINARY)]


def added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counters in one."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def spread(work: Callable[[T], R], items: Sequence[T], jobs: int, progress: Progress, what: str) -> list[R]:
    """The work on each item, in the order of the items."""
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
