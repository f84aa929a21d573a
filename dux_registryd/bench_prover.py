"""Answers measurements: does the work that a drawn challenger asks for, within limits, never beside a paid job.

One measurement at a time; each challenger has one of each kind per period; what is held is let go after a minute. The
work runs in threads, so that the node goes on answering.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from common.clock import Clock
from common.contracts.peer_benchmark import (
    BUSY,
    LOADED,
    UNDER_WAY,
    FillAnswer,
    FillAsk,
    HashAnswer,
    HashAsk,
    PullAnswer,
    PullAsk,
    PushAnswer,
    PushAsk,
    WalkAnswer,
    WalkAsk,
)
from common.network import BenchmarkParameters
from common.receipts import NodeInfo
from common.units import Did
from dux_registryd.bench_work import MIB, chain, fill, stream, walk
from dux_registryd.benchmark_rules import sizes_of
from dux_registryd.machine import Machine

HELD_S = 60.0  # then what was filled is let go
GUEST_S = 40.0  # longest silence of a challenger within its measurement
TRIES_MAX = 3  # of each part, by one challenger in one period
TRANSFERS_MAX = 256  # chunks and pings of one challenger and period
FILE = "benchmark.fill"
NOT_DRAWN, AGAIN = "you were not drawn for it", "you have had yours"

IsDrawn = Callable[[int, Did], Awaitable[bool]]


class BenchProver:
    """The measured side."""

    def __init__(
        self,
        is_drawn: IsDrawn,
        own_info: Callable[[], Awaitable[NodeInfo | None]],
        *,
        rules: BenchmarkParameters,
        machine: Machine,
        clock: Clock,
        folder: Path | None,
    ) -> None:
        """`folder`: where disk is measured; None: it is not."""
        self._is_drawn = is_drawn
        self._own_info = own_info
        self._rules = rules
        self._machine = machine
        self._clock = clock
        self._folder = folder
        self._turn = asyncio.Lock()
        self._used: dict[tuple[int, Did, str], int] = {}
        self._held: tuple[int, Did, bytearray | mmap.mmap, float] | None = None
        self._busy_until_s = 0.0
        self._guest: Did | str = ""  # who measures now; another one waits until it has been silent for a while
        self._guest_until_s = 0.0

    def busy(self, for_s: float) -> None:
        """A paid job runs: nobody measures for so long."""
        self._busy_until_s = self._clock.monotonic() + for_s

    async def _refusal(self, period: int, sender: Did, part: str, at_most: int = TRIES_MAX) -> str:
        """Why not now, or nothing; what is allowed is counted."""
        if self._clock.monotonic() < self._busy_until_s:
            return BUSY
        if self._is_loaded():
            return LOADED
        key = (period, sender, part)
        if self._used.get(key, 0) >= at_most:
            return AGAIN
        if not await self._is_drawn(period, sender):
            return NOT_DRAWN
        if self._guest not in ("", sender) and self._clock.monotonic() < self._guest_until_s:
            return UNDER_WAY
        self._guest, self._guest_until_s = sender, self._clock.monotonic() + GUEST_S
        self._used = {known: count for known, count in self._used.items() if known[0] >= period - 1}
        self._used[key] = self._used.get(key, 0) + 1
        return ""

    def _is_loaded(self) -> bool:
        load = self._machine.load(0)
        cores = max(1, self._machine.hardware().cpu_cores)
        return load.load_milli[0] > cores * self._rules.load_max_milli

    async def hash(self, ask: HashAsk, sender: Did) -> HashAnswer:
        """Chains of hashes: one lane, or all cores at once."""
        info = await self._own_info()
        if (
            info is None
            or ask.lanes not in (1, sizes_of(info, self._rules).lanes)
            or ask.iterations > self._rules.iterations
        ):
            return HashAnswer(lanes=(), refused="it is more than the network lets you ask")
        refused = await self._refusal(ask.period, sender, f"hash{ask.lanes > 1}")
        if refused:
            return HashAnswer(lanes=(), refused=refused)
        async with self._turn:
            lanes = await asyncio.gather(
                *(asyncio.to_thread(chain, ask.seed, lane, ask.iterations, ask.marks) for lane in range(ask.lanes))
            )
        return HashAnswer(lanes=tuple(tuple(marks) for marks in lanes), refused="")

    async def fill(self, ask: FillAsk, sender: Did) -> FillAnswer:
        """Fill memory or a file, and hold it for the walk."""
        info = await self._own_info()
        sizes = sizes_of(info, self._rules) if info else None
        if sizes is None or ask.size_mb > (sizes.disk_mb if ask.on_disk else sizes.memory_mb):
            return FillAnswer(refused="it is more than the network lets you ask")
        refused = self._room_fault(ask) or await self._refusal(ask.period, sender, f"fill{ask.on_disk}")
        if refused:
            return FillAnswer(refused=refused)
        async with self._turn:
            self.let_go()
            held = self._made(ask)
            await asyncio.to_thread(fill, memoryview(held), ask.seed)
        self._held = (ask.period, sender, held, self._clock.monotonic() + HELD_S)
        mine = self._held
        asyncio.get_running_loop().call_later(HELD_S, lambda: self.let_go() if self._held is mine else None)
        return FillAnswer(refused="")

    def _room_fault(self, ask: FillAsk) -> str:
        if self._held is not None and self._clock.monotonic() < self._held[3]:
            return UNDER_WAY
        if ask.on_disk:
            if self._folder is None:
                return "this node has no disk"
            disk = os.statvfs(self._folder)
            return "" if disk.f_bavail * disk.f_frsize > 2 * ask.size_mb * MIB else "its disk is nearly full"
        free_mb = self._machine.load(0).memory_available_mb
        return "" if free_mb > 2 * ask.size_mb else "its memory is nearly full"

    def _made(self, ask: FillAsk) -> bytearray | mmap.mmap:
        if not ask.on_disk or self._folder is None:
            return bytearray(ask.size_mb * MIB)
        path = self._folder / FILE
        with path.open("w+b") as file:
            file.truncate(ask.size_mb * MIB)
            return mmap.mmap(file.fileno(), ask.size_mb * MIB)

    async def walk(self, ask: WalkAsk, sender: Did) -> WalkAnswer:
        """Walk through what is held for this challenger, and let go of it."""
        if self._held is None or self._held[:2] != (ask.period, sender):
            return WalkAnswer(marks=(), refused="nothing is held for you")
        if ask.steps > self._rules.steps:
            return WalkAnswer(marks=(), refused="it is more than the network lets you ask")
        async with self._turn:
            held = self._held[2]
            marks = await asyncio.to_thread(walk, memoryview(held), ask.nonce, ask.steps, ask.marks)
            self.let_go()
        if isinstance(held, mmap.mmap):  # the last part of a measurement
            self._guest = ""
        return WalkAnswer(marks=tuple(marks), refused="")

    def let_go(self) -> None:
        """Hold nothing any more."""
        self._held = None
        if self._folder is not None:
            (self._folder / FILE).unlink(missing_ok=True)

    async def pull(self, ask: PullAsk, sender: Did) -> PullAnswer:
        """Bytes that the seed gives."""
        refused = await self._refusal(ask.period, sender, "transfer", TRANSFERS_MAX)
        return PullAnswer(data=b"" if refused else stream(ask.seed, ask.size), refused=refused)

    async def push(self, ask: PushAsk, sender: Did) -> PushAnswer:
        """The hash of bytes."""
        refused = await self._refusal(ask.period, sender, "transfer", TRANSFERS_MAX)
        return PushAnswer(digest=b"" if refused else hashlib.sha256(ask.data).digest(), refused=refused)
