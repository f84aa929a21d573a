"""Whose turn it is to open a stream: callers beyond the peer's limit wait in order, and the queue has an end.

Promise: slots given and not yet used never exceed those that are free; a caller that gives up loses nobody a slot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from dux_p2pd.wire_limits import OPEN_WAITERS


class Slots:
    """The peer's stream slots, as far as we may use them."""

    def __init__(self, *, in_use: Callable[[], int], limit: int, is_over: Callable[[], bool]) -> None:
        """`in_use` counts our open streams; `is_over` says that no stream can be opened any more."""
        self._in_use, self._limit, self._is_over = in_use, limit, is_over
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._promised = 0

    def is_free(self) -> bool:
        """Whether whoever comes now need not wait."""
        return not self._waiting and self._in_use() + self._promised < self._limit

    async def take(self) -> bool:
        """Wait for a slot; it is ours until `used`. False when the queue is full."""
        if self.is_free():
            self._promised += 1
            return True
        if len(self._waiting) >= OPEN_WAITERS:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._give_up(turn)
            raise
        return True

    def used(self) -> None:
        """The slot that was waited for has become a stream, or was not wanted."""
        self._promised -= 1

    def wake(self) -> None:
        """Streams may have ended: let waiting callers on, as many as there is room for; all when it is over."""
        while self._waiting and (self._has_one() or self._is_over()):
            turn = self._waiting.popleft()
            if not turn.done():
                self._promised += 1
                turn.set_result(None)

    def _has_one(self) -> bool:
        return self._in_use() + self._promised < self._limit

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn.done() and not turn.cancelled():
            self.used()
            self.wake()
