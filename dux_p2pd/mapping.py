"""A port of the gateway that leads here: asked for, renewed at half its life, given back at the end.

It is also renewed when the gateway has forgotten it. With IPv6 there is nothing to map: the gateway is asked to let
callers in at our own address.

What a gateway says is a claim: the endpoint is told as verified only when a peer has reached this node there.
Source: network.md §3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.randomness import Randomness
from dux_p2pd.endpoints import Endpoints
from dux_p2pd.rules import contact_at, endpoint_of

LEASE_S = 3600
RETRY_S = 600.0  # a home without such a gateway is asked six times an hour
GOODBYE_S = 2.0
SPREAD_S = 5.0  # RFC 6887 §14.1.3: a house's clients do not all ask at once when the router has restarted
FORGOTTEN_EVERY_S = 30.0  # at most so often does news of a gateway make us ask: the news is not authenticated


@dataclass(frozen=True, slots=True)
class Mapped:
    """An outside address that leads to our port, for so long."""

    host: str
    port: int
    life_s: int


class MappingFailed(Exception):
    """The gateway does not map our port, and why."""


class Mapper(Protocol):
    """One way of asking."""

    name: str

    async def map(self, port: int, lease_s: int) -> Mapped:
        """Ask, or ask again for longer. Raises MappingFailed."""
        ...

    async def unmap(self, port: int) -> None:
        """Give back. Raises MappingFailed."""
        ...


class PortMapping:
    """Keeps our port mapped by the first way that works."""

    def __init__(
        self,
        mappers: Callable[[], Sequence[Mapper]],
        endpoints: Endpoints,
        *,
        port: int,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
        of: str = "",
    ) -> None:
        """`mappers` looks anew each time: the machine may have moved to another LAN. `of`: one word for all of them."""
        self._mappers = mappers
        self._endpoints = endpoints
        self._port = port
        self._clock = clock
        self._log = log
        self._used: Mapper | None = None
        self._shown = ""
        self._until_s = 0.0
        self._random, self._of = random, of
        self._again = asyncio.Event()
        self._again_s = clock.monotonic() - FORGOTTEN_EVERY_S

    def show(self) -> str:
        """What maps our port, where, and for how long yet; empty: nothing."""
        left_s = int(self._until_s - self._clock.monotonic())
        return f"{self._shown}, {left_s} s left" if self._used is not None and left_s > 0 else ""

    async def run(self) -> None:
        """Keep it mapped, for ever."""
        while True:
            self._again.clear()
            mapped = await self.turn()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(1.0, mapped.life_s / 2) if mapped else RETRY_S):
                    await self._again.wait()
                await asyncio.sleep(self._random.uniform() * SPREAD_S)

    def forgotten(self) -> None:
        """The gateway seems to have lost what it knew: ask soon, not only at half the life."""
        now = self._clock.monotonic()
        if now - self._again_s >= FORGOTTEN_EVERY_S:
            self._again_s = now
            self._again.set()

    async def turn(self) -> Mapped | None:
        """Ask once: first the way that worked last."""
        ways = list(self._mappers())
        if self._used is not None:
            ways = [self._used, *(way for way in ways if way.name != self._used.name)]
        for way in ways:
            try:
                mapped = await way.map(self._port, LEASE_S)
            except MappingFailed as error:
                self._log.info("port not mapped", reason=str(error))
                continue
            text = endpoint_of((mapped.host, mapped.port))
            if contact_at(text) is None or mapped.life_s <= 0:
                continue
            self._used, self._shown = way, f"{way.name}: {text}"
            self._until_s = self._clock.monotonic() + mapped.life_s
            self._log.info("port mapped", by=way.name, endpoint=text, for_s=mapped.life_s)
            self._endpoints.mapped((text,), self._of)
            return mapped
        self._used = None
        self._endpoints.mapped((), self._of)
        return None

    async def close(self) -> None:
        """Give the port back; a gateway that does not answer now lets it lapse."""
        if self._used is None:
            return
        try:
            async with asyncio.timeout(GOODBYE_S + 4.0 * self._used.name.startswith("UPnP")):
                await self._used.unmap(self._port)
            self._log.info("port given back", to=self._used.name)
        except (MappingFailed, TimeoutError) as error:
            self._log.info("port not given back", reason=str(error))
