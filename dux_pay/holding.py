"""Tells the node which calls this program is at work at, for as long as there are any.

Promise: while a call's handler runs and this program's loop turns, escrowd hears of it every `SAY_EVERY_S`; the teller
ends with the last call. Source: channel_protocol.md §5.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

import structlog
from structlog.typing import FilteringBoundLogger

from common.calls_at_work import say_at_work
from common.contracts.channel import SAY_EVERY_S, CallRef
from common.rpc.client import Client
from dux_pay.streams import Parts


class Holding:
    """The calls at work: each is held as long as its handler holds what it delivers into."""

    def __init__(self, escrowd: Client) -> None:
        self._escrowd = escrowd
        self._parts: WeakValueDictionary[CallRef, Parts] = WeakValueDictionary()
        self._telling: asyncio.Task[None] | None = None
        self._log: FilteringBoundLogger = structlog.get_logger("seller")

    def begins(self, call: CallRef, parts: Parts) -> None:
        """A handler is run for this call."""
        self._parts[call] = parts
        if self._telling is None or self._telling.done():
            self._telling = asyncio.ensure_future(self._tell())

    def of(self, call: CallRef) -> Parts | None:
        """What may be read of a call at work here."""
        return self._parts.get(call)

    async def _tell(self) -> None:
        while self._parts:
            await asyncio.sleep(SAY_EVERY_S)
            await say_at_work(self._escrowd, list(self._parts), self._log)
