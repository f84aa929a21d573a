"""When the streams of a session are overdue: one timer for all of them.

Promise: a stream that is still there at its time is told of, once; one that ends before has cost no timer, and none is
left behind that would hold it. It knows no clock but the loop's, and not what happens to a stream that is overdue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from math import inf

from dux_p2pd.stream import WireStream

TICK_S = 0.001  # a loop's timer may fire so much early


class Deadlines:
    """Those of one session."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        streams: Mapping[int, WireStream],
        overdue: Callable[[WireStream], None],
    ) -> None:
        """`streams` are those that are there, kept by their owner; `overdue` is told of each whose time is up."""
        self._loop, self._streams, self._overdue = loop, streams, overdue
        self._rings_at = inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, stream: WireStream, ends: float) -> None:
        """The stream has until then, by the loop's clock."""
        stream.ends = ends
        if ends < self._rings_at:
            self._arm(ends)

    def cancel(self) -> None:
        """The session is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, at: float) -> None:
        self.cancel()
        self._rings_at, self._timer = at, self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        """It may ring for a stream that has ended since: then only for the next one is it set again."""
        self._rings_at, self._timer = inf, None
        now = self._loop.time() + TICK_S
        for stream in [stream for stream in self._streams.values() if stream.ends <= now]:
            stream.ends = inf
            self._overdue(stream)
        least = min((stream.ends for stream in self._streams.values()), default=inf)
        if least < self._rings_at:
            self._arm(least)
