"""The loop of whoever follows the chain: a look at all that stands, then one after every change.

Promise: events only wake it, what a look finds is the truth; so nothing is lost when some are missed, and a start
catches up with one look. A wallet that cannot be asked is asked again soon, and then less and less often.
"""

from __future__ import annotations

import asyncio

from common.contracts import wallet_chain as chain
from common.contracts.base import EventsSince
from common.errors import NotNow, Unavailable
from dux_escrowd.desk import Desk

EVENTS_WAIT_S = 20.0
EVENTS_AT_ONCE = 500
PAUSE_LEAST_S, PAUSE_S = 0.05, 1.0  # after the wallet could not be asked, twice as long each time


class ChainLoop:
    """Its followers say what a look is (`_look`), and what is due when nothing has happened for a while (`_idle`)."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._cursor = 0
        self._looking = asyncio.Lock()

    @property
    def looking(self) -> asyncio.Lock:
        """Held by whoever wants no look: what the wallet says of coins is not to be believed meanwhile."""
        return self._looking

    async def run(self) -> None:
        """Look now and after every change, until cancelled."""
        pause_s = PAUSE_LEAST_S
        while True:
            try:
                while await self._read(0.0):
                    pass  # old events say nothing that a look does not
                await self.look()
                pause_s = PAUSE_LEAST_S
                while not await self._read(EVENTS_WAIT_S):
                    await self._idle()
            except (NotNow, Unavailable) as error:
                self._desk.log.info("chain cannot be followed now", reason=error.message)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_S)

    async def _read(self, wait_s: float) -> bool:
        since = EventsSince(cursor=self._cursor, wait_s=wait_s, limit=EVENTS_AT_ONCE)
        page = await self._desk.flopd.call(chain.CHAIN_EVENTS, since, deadline_s=wait_s + 10)
        self._cursor = page.cursor
        return bool(page.events)

    async def look_now(self) -> None:
        """What was taken back from copies: the wallet may have told of its coins before it stood in the book."""
        try:
            await self.look()
        except (NotNow, Unavailable) as error:  # then the loop's own look comes as soon as the wallet answers
            self._desk.log.info("chain cannot be looked at now", reason=error.message)

    async def look(self) -> None:
        """All that is followed, once; one look at a time, so that none takes an older view than the last.

        Raises:
            NotSynced: of some the wallet has not read all; the others were looked at.
        """
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        raise NotImplementedError

    async def _idle(self) -> None:
        """Nothing, unless a follower has something."""
