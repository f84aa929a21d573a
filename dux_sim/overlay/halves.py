"""One history of the overlay in two processes, one for each region: the same history, on two cores.

Promises the hash, the counts and the judgement of one process. Each process plays its region to the end and tells what
it found; here it is put together.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import msgspec

from dux_sim.overlay.laws import Findings, together
from dux_sim.overlay.post import REGIONS, Border
from dux_sim.overlay.story import OverlayStory
from dux_sim.world.coin import cheap_work
from dux_sim.world.faults import FaultKind
from dux_sim.world.loop import Stuck
from dux_sim.world.world import quiet_memory

# In large pages a thousand nodes take an eighth less of the processor; read by glibc when a process begins.
MEMORY = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Played(msgspec.Struct):
    """How one process ended: with findings, or why it could not go on."""

    found: Findings | None
    why: str
    cpu_seconds: float


def play_in_two(
    *, nodes: int, seed: int, hours: float, kinds: Sequence[FaultKind]
) -> tuple[Findings | None, str, float]:
    """The findings of both together, or why there are none; and the seconds of processor time that it took."""
    context = get_context("spawn")
    border = context.Pipe()
    results, workers = [], []
    with _environment(MEMORY):
        for region in range(REGIONS):
            here, there = context.Pipe(duplex=False)
            worker = context.Process(
                target=play_half, args=(there, border[region], region, nodes, seed, hours, tuple(kinds)), daemon=True
            )
            worker.start()
            there.close()
            border[region].close()
            results.append(here)
            workers.append(worker)
    played = [_result(one) for one in results]
    for worker in workers:
        worker.join()
    found = [one.found for one in played if one.found is not None]
    why = "; ".join(one.why for one in played if one.why)
    return None if why else together(found), why, sum(one.cpu_seconds for one in played)


def play_half(
    result: Connection, border: Connection, region: int, nodes: int, seed: int, hours: float,
    kinds: tuple[FaultKind, ...],
) -> None:  # fmt: skip
    """What one process does; it ends at once, without tidying its memory."""
    why, found = "", None
    with quiet_memory(), cheap_work():
        way = Border(border.fileno())
        story = OverlayStory(nodes=nodes, seed=seed, hours=hours, kinds=kinds, border=way, region=region)
        try:
            found = story.find()
            way.finish()
        except Stuck as stuck:
            why = str(stuck)
        except Exception:  # noqa: BLE001 - whatever it is, no half goes on; said once, not once for every coroutine
            traceback.print_exc()
            why = "a process of the history broke; what it wrote says why"
        finally:
            shutil.rmtree(story.world.folder, ignore_errors=True)
        result.send_bytes(msgspec.msgpack.encode(Played(found, why, time.process_time())))
        result.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _result(told: Connection) -> Played:
    try:
        return msgspec.msgpack.decode(told.recv_bytes(), type=Played)
    except EOFError:
        return Played(None, "a process of the history broke; what it wrote says why", 0.0)


@contextmanager
def _environment(added: dict[str, str]) -> Iterator[None]:
    """For the processes that are begun meanwhile."""
    before = {name: os.environ.get(name) for name in added}
    os.environ.update({name: value for name, value in added.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
