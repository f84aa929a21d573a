"""What this node's tier asks of it, and its own word for those who served it.

p2pd is told which duties it has whenever the tier changes (it keeps them, so a restart of either loses nothing). Once
per look, the relays that carried this node's bytes and the nodes that kept its records since the last look get a
signed word, the busiest first and few a day: what their tiers are counted by. Votes are told of by taskd, which sees
how a contract ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from structlog.typing import FilteringBoundLogger

from common.contracts.registry_service import ServedName, ServiceNotTaken
from common.errors import DuxError
from common.units import Did
from dux_registryd.effects import Outside
from dux_registryd.scores import Scores
from dux_registryd.services import ServiceBook

LOOK_S = 600.0
TOLD_A_DAY_MAX = 4  # nodes per service: a word travels to every node
START_PAUSE_S = 5.0  # while p2pd or flopd is starting


class Duty:
    """Tells p2pd its duties, and others of those who did theirs."""

    def __init__(self, outside: Outside, scores: Scores, services: ServiceBook, log: FilteringBoundLogger) -> None:
        self._outside, self._scores, self._services, self._log = outside, scores, services, log
        self._told: tuple[str, ...] | None = None
        self._before: dict[ServedName, dict[Did, int]] = {}  # the amounts that were told of

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.once()
            except DuxError as error:
                self._log.debug("duties not told", reason=error.message)
                await asyncio.sleep(START_PAUSE_S)
            else:
                await asyncio.sleep(LOOK_S)

    async def once(self) -> None:
        """One look."""
        own = await self._outside.own_did()
        duties = self._scores.duties(own)
        if duties != self._told:
            await self._outside.take_duties(duties)
            self._told = duties
        served = await self._outside.served()
        for service, amounts in sorted(served.items()):
            before = self._before.get(service, {})
            room = TOLD_A_DAY_MAX - self._services.told_of(own, service)
            told: dict[Did, int] = {}
            for server in served_since(amounts, before):
                if len(told) < room and await self._thank(service, server, amounts[server]):
                    told[server] = amounts[server]
            self._before[service] = {did: count for did, count in before.items() if did in amounts} | told

    async def _thank(self, service: ServedName, server: Did, amount: int) -> bool:
        try:
            await self._services.say(service, server, amount)
        except ServiceNotTaken as refused:  # said again at the next look
            self._log.debug("a service is not told of", server=server, reason=refused.message)
            return False
        return True


def served_since(amounts: Mapping[Did, int], before: Mapping[Did, int]) -> list[Did]:
    """Who has served since told of last, the busiest first; a count below the last one began anew."""
    fresh = {did: count - (was if (was := before.get(did, 0)) <= count else 0) for did, count in amounts.items()}
    return sorted((did for did, count in fresh.items() if count > 0), key=lambda did: (-fresh[did], did))
