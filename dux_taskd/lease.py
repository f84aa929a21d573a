"""The watchdog of leases: meters work that runs by time, and ends it when nobody pays on.

Promise: the work is cancelled at the latest `grace_s` after a period that is not covered began; what was covered is
what the last answer charges. It runs beside the work, asks escrowd once per period, and says on a gauge when the work
runs on credit, so that whoever waits for the result can pay on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from common.clock import Clock
from common.contracts import channel as c
from common.errors import NotNow
from common.rpc.client import Client
from common.units import Florins
from dux_taskd.lease_rules import Lease, Rate, next_look_s, owed_at, standing

T = TypeVar("T")
WAIT_MAX_S = 20.0


class LeaseOver(NotNow):
    """The lease of call {j} is overdrawn: {covered_florins} were covered; pay on sooner next time."""

    code = 7011
    key = "lease-over"


class Gauge:
    """Whether a work that is metered runs on credit now."""

    def __init__(self) -> None:
        self.short, self.fed = asyncio.Event(), asyncio.Event()
        self.fed.set()

    def starve(self) -> None:
        """A period has begun that nobody has paid for."""
        self.short.set()
        self.fed.clear()

    def feed(self) -> None:
        """It is paid for."""
        self.fed.set()
        self.short.clear()


class Watchdog:
    """Meters one call at a time."""

    def __init__(self, escrowd: Client, clock: Clock) -> None:
        self._escrowd, self._clock = escrowd, clock

    async def run(
        self, call: c.CallRef, rate: Rate, work: Callable[[], Awaitable[T]], gauge: Gauge
    ) -> tuple[T, Florins]:
        """The work's result and what its time costs.

        Raises:
            LeaseOver: it was not paid on; the work was ended.
        """
        began, covered = self._clock.monotonic(), Florins(0)
        running: asyncio.Future[T] | None = None
        try:
            while True:
                covered = await self._cover(call, rate, began, covered, gauge)
                running = running or asyncio.ensure_future(work())
                pause_s = next_look_s(rate, self._clock.monotonic() - began)
                done, _ = await asyncio.wait((running,), timeout=pause_s)
                if done:
                    return running.result(), covered
        finally:
            if running is not None and not running.done():
                running.cancel()
                await asyncio.wait((running,))

    async def _cover(self, call: c.CallRef, rate: Rate, began: float, covered: Florins, gauge: Gauge) -> Florins:
        """Have the period that has begun covered; wait for fuel within the grace."""
        owed, asked_at = owed_at(rate, self._clock.monotonic() - began), self._clock.monotonic()
        if (await self._escrowd.call(c.CHUNK, c.Chunk(call=call, price_florins=owed))).go:
            return owed
        gauge.starve()
        while True:
            left_s = min(WAIT_MAX_S, max(0.0, rate.grace_s - (self._clock.monotonic() - asked_at)))
            verdict = await self._escrowd.call(
                c.CHUNK, c.Chunk(call=call, price_florins=owed, wait_s=left_s), deadline_s=WAIT_MAX_S + 5
            )
            if verdict.go:
                gauge.feed()
                return owed
            if standing(rate, self._clock.monotonic() - asked_at) is Lease.OVER:
                raise LeaseOver(j=call.j, covered_florins=int(covered))
