"""Calls at work, who is at work at them, and when that was last heard of: what nobody holds any more has failed.

Promise: a call of which no program has said anything for `silent_s` ends as failed and costs nothing, so that the dead
keep no channel from closing; one that a program speaks of is never ended here. All of it is memory: a start of this
daemon hears everybody anew. Source: channel_protocol.md §5 (at most once).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from common.clock import Clock
from common.contracts.channel import CallRef
from common.errors import DuxError
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.model import AT_WORK

LOOK_EVERY_S = 10.0
CHANNELS_MAX = 10_000  # looked at in one round
ENDED_MAX = 256  # calls ended in one round; the next one goes on


@dataclass
class Held:
    """Who is at work at a call, and when that was last heard of, on the clock that never goes back."""

    worker: str
    heard_s: float


class Leftover:
    """`end` stores that a call has failed."""

    def __init__(
        self, counter: Counter, clock: Clock, silent_s: float, end: Callable[[CallRef], Awaitable[None]]
    ) -> None:
        self._counter, self._clock, self._silent_s, self._end = counter, clock, silent_s, end
        self._held: dict[CallRef, Held] = {}

    def begins(self, call: CallRef, worker: str) -> None:
        """A program has been given this call."""
        self._held[call] = Held(worker, self._clock.monotonic())

    def ends(self, call: CallRef) -> None:
        """It is over."""
        self._held.pop(call, None)

    def worker(self, call: CallRef) -> str:
        """Who was given it, as far as that is known."""
        held = self._held.get(call)
        return held.worker if held else ""

    def heard(self, calls: Iterable[CallRef]) -> None:
        """Somebody is at work at these; what is not at work here any more is passed over."""
        now = self._clock.monotonic()
        for call in calls:
            held = self._held.get(call)
            if held is not None:
                held.heard_s = now

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """End what nobody has spoken of for too long."""
        for call in self._silent()[:ENDED_MAX]:
            try:
                await self._end(call)
            except DuxError as error:  # the wallet is locked, the books are in doubt: at the next look
                self._counter.desk.log.info("a left call waits", chid=call.chid, j=call.j, reason=error.message)
            else:
                self._counter.desk.log.warning("a call was left running and has failed", chid=call.chid, j=call.j)

    def _silent(self) -> list[CallRef]:
        now, ledger, found = self._clock.monotonic(), self._counter.ledger, list[CallRef]()
        for chid in ledger.shelf.listed("payee", open_only=True, limit=CHANNELS_MAX):
            found.extend(CallRef(chid=chid, j=call.j) for call in ledger.payee(chid).calls if call.state in AT_WORK)
        self._held = {call: self._held.get(call) or Held("", now) for call in found}
        return [call for call, held in self._held.items() if now - held.heard_s >= self._silent_s]
