"""How figures are taken: in turns, so that a noisy moment hits both sides, and with the machine's load beside them."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.rows import Samples
from common.randomness import SystemRandomness

Call = Callable[[], Awaitable[object]]
Contender = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Run:
    """One run of the benchmarks: where files go, how thorough to be, how to say what is going on."""

    folder: Path
    quick: bool
    tell: Callable[[str], None]
    peers: bool = False  # also those that have to be fetched first
    only: tuple[str, ...] = ()  # parts of an area; all, when none is named

    def wants(self, part: str) -> bool:
        """Whether this part of an area is to be measured."""
        return not self.only or part in self.only

    def rounds(self, usual: int) -> int:
        """How many rounds to play."""
        return 2 if self.quick else usual


async def in_turns(rounds: int, *contenders: Contender | None) -> list[Samples | None]:
    """Each contender once per round, in a new order each time; None stays None (that peer is not here)."""
    taken: list[list[float]] = [[] for _ in contenders]
    order = list(range(len(contenders)))
    for number in range(rounds):
        for index in order[number % len(order) :] + order[: number % len(order)]:
            contender = contenders[index]
            if contender is not None:
                taken[index].append(await contender())
    return [Samples(tuple(samples)) if samples else None for samples in taken]


async def p50_us(call: Call, count: int) -> float:
    """Median time of one call after another, microseconds."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return median(taken) * 1e6


async def per_second(call: Call, *, at_once: int, seconds: float) -> float:
    """Calls answered per second with so many under way at any moment."""
    done = 0
    began = time.perf_counter()

    async def work() -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            await call()
            done += 1

    await asyncio.gather(*(work() for _ in range(at_once)))
    return done / (time.perf_counter() - began)


def machine() -> str:
    """What the figures were taken on, and how busy it was."""
    loads = ", ".join(f"{load:.2f}" for load in os.getloadavg())
    return f"{os.cpu_count()} cores, load of the last 1, 5, 15 minutes: {loads}"


# processes, as /proc tells of them


def pss_mib(pids: Sequence[int]) -> float:
    """Memory of the processes in MiB, what they share counted once between them (PSS). Source: proc(5)."""
    return sum(_rollup_kib(pid, "Pss:") for pid in pids) / 1024


def _rollup_kib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def family(pid: int) -> list[int]:
    """A process and all that came from it and lives. Source: proc(5)."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return []  # it has ended meanwhile
    return [pid, *(one for child in listed for one in family(int(child)))]


def cpu_s(pid: int) -> float:
    """Seconds of processor time of the process's living threads. Source: Documentation/scheduler/sched-stats."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text(encoding="ascii").split()[0]) for file in tasks) / 1e9


def free_port() -> int:
    """A port on loopback that nobody listens on now, below those that the kernel gives to outgoing connections."""
    while True:
        port = 12_000 + SystemRandomness().below(18_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
