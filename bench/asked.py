"""The asking end of a comparison, as a process of its own: takes what is wanted a line at a time, prints one figure.

`p50 COUNT` microseconds, `flood AT_ONCE SECONDS` calls per second, `bulk BYTES` megabytes per second. Whoever is asked,
the same few lines time it, on the same loop: what differs is the call. `in-task` before it means the other call of an
asker that has two.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TextIO

from bench.measure import Call, p50_us, per_second
from dux_p2pd.event_loop import new_event_loop

Bulk = Callable[[int], Awaitable[None]]


async def serve_figures(out: TextIO, call: Call, bulk: Bulk, in_task: Call | None = None) -> None:
    """Say that all is ready, then answer until standard input ends."""
    out.write("ready\n")
    out.flush()
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        asked = call
        if words[0] == "in-task" and in_task is not None:
            asked, words = in_task, words[1:]
        out.write(f"{await _figure(words, asked, bulk)}\n")
        out.flush()


async def _figure(words: list[str], call: Call, bulk: Bulk) -> float:
    match words:
        case ["p50", count]:
            return await p50_us(call, int(count))
        case ["flood", at_once, seconds]:
            return await per_second(call, at_once=int(at_once), seconds=float(seconds))
        case ["bulk", size]:
            began = time.perf_counter()
            await bulk(int(size))
            return int(size) / (time.perf_counter() - began) / 1e6
    raise ValueError(f"no figure: {words}")


def answers_only() -> TextIO:
    """Standard output for figures alone: what else is printed goes to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return out


def run(work: Coroutine[Any, Any, None]) -> None:
    """The process, on the loop that p2pd has."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work)
