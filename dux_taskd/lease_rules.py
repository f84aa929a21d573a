"""Long work paid by time over a channel: what a moment of it has cost, and when an overdrawn lease ends. Pure.

The price of a lease is rate by time, counted in whole periods that begin: the first one is paid before the work starts.
A period that is not covered overdraws the lease; the work goes on for `grace_s` while fuel is awaited, and is then
ended: at most one period and the grace are given away. Source: channel_protocol.md §6 (metered).
"""

from __future__ import annotations

from enum import StrEnum

from common.codec import Wire
from common.units import Florins


class Rate(Wire, frozen=True, kw_only=True):
    """What a period of work costs, and how long it may run uncovered."""

    florins_per_period: Florins
    period_s: float
    grace_s: float


class Lease(StrEnum):
    """How a lease stands."""

    RUNNING = "running"
    OVERDRAWN = "overdrawn"
    OVER = "over"


def owed_at(rate: Rate, elapsed_s: float) -> Florins:
    """What the work has cost: every period that has begun, the first one from the start."""
    begun = int(max(0.0, elapsed_s) // rate.period_s) + 1
    return Florins(begun * int(rate.florins_per_period))


def next_look_s(rate: Rate, elapsed_s: float) -> float:
    """Seconds until the next period begins."""
    return rate.period_s - max(0.0, elapsed_s) % rate.period_s


def standing(rate: Rate, uncovered_s: float | None) -> Lease:
    """Covered, overdrawn since so many seconds, or to be ended."""
    if uncovered_s is None:
        return Lease.RUNNING
    return Lease.OVERDRAWN if uncovered_s < rate.grace_s else Lease.OVER
