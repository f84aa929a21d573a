"""Looks for services in the DHT: by the tags and words of a search, or by a service's id.

What is found goes through the intake like anything else. A search waits for the network a stated time and no longer;
what comes later is in the index for the next one.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.errors import DuxError
from dux_stored.effects import Outside
from dux_stored.intake import Intake
from dux_stored.model import Query
from dux_stored.query_rules import dht_lookups
from dux_stored.store import Shelf

AT_ONCE = 8  # look-ups in progress
IDS_MAX = 128  # unknown services fetched for one search
ASK_AGAIN_MS = 10_000  # the same name is not looked up more often
ASKED_KEPT = 1_000  # names remembered


class Finder:
    """The network's part of a search."""

    def __init__(
        self,
        shelf: Shelf,
        outside: Outside,
        intake: Intake,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        within_s: float,
    ) -> None:
        self._shelf = shelf
        self._outside = outside
        self._intake = intake
        self._clock = clock
        self._log = log
        self._within_s = within_s
        self._asked_ms: dict[str, int] = {}

    async def search(self, query: Query, tags: tuple[str, ...]) -> int:
        """Bring here what the DHT has under the query's tags and words; how many services were new."""
        names = [name for name in dht_lookups(query, tags) if self._is_due(name)]
        before = self._shelf.count_services()
        try:
            async with asyncio.timeout(self._within_s):
                found = await asyncio.gather(*(self._ids_under(name) for name in names))
                unknown = sorted({one for ids in found for one in ids if self._shelf.service(one) is None})
                room = asyncio.Semaphore(AT_ONCE)
                await asyncio.gather(*(self._fetch(one, room) for one in unknown[:IDS_MAX]))
        except TimeoutError:
            self._log.info("search did not wait for the network", within_s=self._within_s)
        return self._shelf.count_services() - before

    async def fetch(self, service_id: str) -> None:
        """Bring one service here, if the DHT has it.

        Raises:
            Unavailable: p2pd does not answer.
        """
        for envelope in await self._outside.looked_up(service_id):
            await self._intake.service(envelope)

    async def _ids_under(self, name: str) -> set[str]:
        try:
            return await self._outside.services_under(name)
        except DuxError as error:
            self._log.info("name not looked up", name=name, reason=error.message)
            return set()

    async def _fetch(self, service_id: str, room: asyncio.Semaphore) -> None:
        async with room:
            try:
                await self.fetch(service_id)
            except DuxError as error:
                self._log.info("service not fetched", service_id=service_id, reason=error.message)

    def _is_due(self, name: str) -> bool:
        now_ms = self._clock.unix_ms()
        if 0 <= now_ms - self._asked_ms.get(name, -ASK_AGAIN_MS) < ASK_AGAIN_MS:
            return False
        if len(self._asked_ms) >= ASKED_KEPT:
            self._asked_ms.clear()
        self._asked_ms[name] = now_ms
        return True
