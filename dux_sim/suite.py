"""Many histories, a process per core, and their sum.

Promises that the sum does not depend on how the histories were spread over the processes.
"""

from __future__ import annotations

import gc
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import get_context

from dux_sim.orders import Order, Told, perform
from dux_sim.world.history import added
from dux_sim.world.world import quiet_memory

AT_ONCE = 8  # histories per errand of a process
COLLECT_EVERY = 8  # histories between two runs of the cycle collector


def run_many(orders: Sequence[Order], *, jobs: int = 0) -> Told:
    """All of them, on `jobs` processes (0: one per core)."""
    started = time.perf_counter()
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(orders))
    found = _here(orders) if jobs == 1 else _spread(orders, jobs)
    total = summed(found)
    total.seconds = round(time.perf_counter() - started, 3)
    return total


def _spread(orders: Sequence[Order], jobs: int) -> list[Told]:
    each = max(1, min(AT_ONCE, len(orders) // jobs))
    chunks = [orders[at : at + each] for at in range(0, len(orders), each)]
    with get_context("spawn").Pool(jobs) as pool:
        return [one for done in pool.imap(run_chunk, chunks) for one in done]


def run_chunk(orders: Sequence[Order]) -> list[Told]:
    """What one process does at a time."""
    return _here(orders)


def _here(orders: Iterable[Order]) -> list[Told]:
    with quiet_memory():
        return list(_one_by_one(orders))


def _one_by_one(orders: Iterable[Order]) -> Iterator[Told]:
    for number, order in enumerate(orders, start=1):
        yield perform(order)
        if number % COLLECT_EVERY == 0:
            gc.collect()


def summed(found: Sequence[Told]) -> Told:
    """The sum of reports; its hash is that of all hashes in order."""
    if len(found) == 1:
        return found[0]
    digest = hashlib.sha256("".join(one.history_hash for one in found).encode())
    return Told(
        history_hash=digest.hexdigest(),
        violations=[violation for one in found for violation in one.violations],
        exits=added(one.exits for one in found),
        faults=added(one.faults for one in found),
        messages=sum(one.messages for one in found),
        commits=sum(one.commits for one in found),
        blocks=sum(one.blocks for one in found),
        events=sum(one.events for one in found),
        histories=sum(one.histories for one in found),
        seconds=round(sum(one.seconds for one in found), 3),
        cpu_seconds=round(sum(one.cpu_seconds for one in found), 3),
    )
