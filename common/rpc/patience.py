"""Asking a daemon of this node that may be away for a moment, because it starts anew or starts later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from common.errors import Unavailable

T = TypeVar("T")


async def patiently(ask: Callable[[], Awaitable[T]], *, tries: int, pause_s: float) -> T:
    """The first answer of `tries` and one last one, `pause_s` seconds apart; other errors are not waited out.

    Raises:
        Unavailable: the last time, too.
    """
    for _ in range(tries):
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(pause_s)
    return await ask()
