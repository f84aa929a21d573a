"""Asks connected nodes for what gossip did not bring here, page by page, and remembers where it stands with each.

What is asked for and how it is taken in is the caller's; a node that lies can only waste its own answer, because
everything taken in is signed by whom it is about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from common.errors import BadParams, DuxError
from common.randomness import Randomness
from common.units import Did

PAGES_MAX = 20  # of one node's answer in one pass: 4,000 things
START_PAUSE_S = 2.0  # between tries while nobody is connected

Page = tuple[Sequence[bytes], int]


class Places(Protocol):
    """Where the reader remembers how far it has read."""

    def place(self, name: str) -> int:
        """How far it has read something; 0 at first."""
        ...

    def keep_place(self, name: str, value: int) -> None:
        """Remember it."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """One kind of thing to ask for: `ask(peer, after)` gives a page, `take` says whether an item was new here."""

    name: str
    ask: Callable[[Did, int], Awaitable[Page]]
    take: Callable[[bytes], Awaitable[bool]]


class CatchUp:
    """One connected node at a time, drawn at random, so that none is asked more than others."""

    def __init__(
        self,
        places: Places,
        connected: Callable[[], Awaitable[list[Did]]],
        subjects: Sequence[Subject],
        *,
        random: Randomness,
        log: FilteringBoundLogger,
        pause_s: float,
    ) -> None:
        self._places = places
        self._connected = connected
        self._subjects = subjects
        self._random = random
        self._log = log
        self._pause_s = pause_s

    async def run(self) -> None:
        """Ask for ever; at the start often, until somebody has answered."""
        while True:
            asked = await self._try()
            await asyncio.sleep(self._pause_s if asked else min(START_PAUSE_S, self._pause_s))

    async def _try(self) -> bool:
        try:
            peers = self._random.sample(sorted(await self._connected()), 1)
            for peer in peers:
                await self.once(peer)
        except DuxError as error:
            self._log.info("nothing caught up", reason=error.message)
            return False
        return bool(peers)

    async def once(self, peer: Did) -> int:
        """Ask one node for all that is new there since it was last asked; how many things were new here."""
        return sum([await self._follow(peer, subject) for subject in self._subjects])

    async def _follow(self, peer: Did, subject: Subject) -> int:
        new, name = 0, f"{subject.name}/{peer}"
        for _ in range(PAGES_MAX):
            after = self._places.place(name)
            items, next_after = await subject.ask(peer, after)
            new += sum([await _taken(item, subject) for item in items])
            if next_after <= after:
                break
            self._places.keep_place(name, next_after)
        return new


async def _taken(item: bytes, subject: Subject) -> bool:
    try:
        return await subject.take(item)
    except BadParams:
        return False  # not even the right form: the next item may be
