"""Rate by time: whole periods, the first one in advance; an overdrawn lease ends after its grace, and not before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common.clock import SystemClock
from common.contracts import channel as c
from common.units import Florins
from dux_taskd.lease import Gauge, LeaseOver, Watchdog
from dux_taskd.lease_rules import Lease, Rate, next_look_s, owed_at, standing

RATE = Rate(florins_per_period=Florins(100), period_s=10.0, grace_s=3.0)
QUICK = Rate(florins_per_period=Florins(100), period_s=0.05, grace_s=0.05)
CALL = c.CallRef(chid="c4" * 32, j=1)


@pytest.mark.parametrize(
    ("elapsed", "owed", "pause"), [(0.0, 100, 10.0), (9.9, 100, 0.1), (10.0, 200, 10.0), (-1, 100, 10)]
)
def test_periods_are_paid_as_they_begin(elapsed: float, owed: int, pause: float) -> None:
    """Every period that has begun counts whole."""
    assert owed_at(RATE, elapsed) == owed
    assert next_look_s(RATE, elapsed) == pytest.approx(pause)


def test_when_a_lease_ends() -> None:
    """Covered it runs, uncovered it has its grace."""
    assert [standing(RATE, at) for at in (None, 0.0, 2.9, 3.0)] == [
        Lease.RUNNING, Lease.OVERDRAWN, Lease.OVERDRAWN, Lease.OVER,
    ]  # fmt: skip


class Escrow:
    """Covers so much."""

    def __init__(self, cap: int) -> None:
        self.cap, self.asked, self.slow_s = cap, list[int](), 0.0

    async def call(self, _method: Any, params: c.Chunk, **_: Any) -> c.ChunkVerdict:
        self.asked.append(int(params.price_florins))
        go = params.price_florins <= self.cap
        await asyncio.sleep(0 if go else self.slow_s or params.wait_s)
        return c.ChunkVerdict(go=go, missing_florins=Florins(0))


async def test_work_is_metered_and_an_overdrawn_lease_is_ended() -> None:
    """Work within its fuel ends with what its time cost; work beyond it is cancelled after the grace."""
    escrow, ended = Escrow(10_000), list[str]()

    async def work() -> str:
        try:
            await asyncio.sleep(0.12)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "done"

    result, charged = await Watchdog(escrow, SystemClock()).run(CALL, QUICK, work, Gauge())
    assert result == "done"
    assert charged == escrow.asked[-1] >= 200
    with pytest.raises(LeaseOver) as over:
        await Watchdog(Escrow(100), SystemClock()).run(CALL, QUICK, work, Gauge())
    assert (over.value.fields["covered_florins"], ended) == (100, ["cancelled"])
    with pytest.raises(LeaseOver):
        await Watchdog(Escrow(0), SystemClock()).run(CALL, QUICK, work, Gauge())
    assert ended == ["cancelled"], "nothing runs before its first period is covered"


async def test_work_on_credit_is_told_of_until_it_is_paid_for() -> None:
    """The gauge shows a period that nobody has paid for as soon as it begins, and goes back when fuel comes."""
    gauge, done = Gauge(), asyncio.Event()
    escrow = Escrow(100)
    patient = Rate(florins_per_period=Florins(100), period_s=0.05, grace_s=60.0)
    escrow.slow_s = 0.01
    running = asyncio.ensure_future(Watchdog(escrow, SystemClock()).run(CALL, patient, done.wait, gauge))
    await gauge.short.wait()
    assert not gauge.fed.is_set()
    escrow.cap = 1 << 40
    await gauge.fed.wait()
    assert not gauge.short.is_set()
    done.set()
    assert (await running)[1] >= 200
