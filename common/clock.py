"""The one place that reads the machine's clock.

Everything else is handed a `Clock`. Waiting is done through the event loop (`asyncio.sleep`, `asyncio.timeout`),
which the simulator replaces by one with virtual time; so a `Clock` only tells the time.
"""

from __future__ import annotations

import time
from typing import Protocol

from common.units import UnixMs


class Clock(Protocol):
    """Tells the time of day and a time that never goes back."""

    def unix_ms(self) -> UnixMs:
        """Milliseconds since 1970, UTC; may jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds from some start; never goes back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def unix_ms(self) -> UnixMs:
        """Milliseconds since 1970, UTC."""
        return UnixMs(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        """Seconds from some start; never goes back."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved: for tests."""

    def __init__(self, unix_ms: int = 1_790_000_000_000) -> None:
        self._unix_ms = unix_ms
        self._monotonic = 0.0

    def unix_ms(self) -> UnixMs:
        """Milliseconds since 1970 as last set."""
        return UnixMs(self._unix_ms)

    def monotonic(self) -> float:
        """Seconds moved so far."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both times forward."""
        self._unix_ms += int(seconds * 1000)
        self._monotonic += seconds
