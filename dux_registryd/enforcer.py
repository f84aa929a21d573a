"""Makes sanctions felt: tells p2pd whom to refuse, and readers of events who was sanctioned and who is free again.

p2pd keeps no list of its own: it is told the whole one at the start, when it changes, and again with every look, so
that a restart of either loses nothing.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.errors import DuxError
from common.units import Did
from dux_registryd.effects import Outside
from dux_registryd.model import Sanction, State
from dux_registryd.sanction_rules import in_force, worst
from dux_registryd.scores import Scores
from dux_registryd.store import Book

LOOK_S = 60.0  # between looks at sanctions that end by themselves


class Enforcer:
    """The hand of the sanctions."""

    def __init__(self, book: Book, outside: Outside, scores: Scores, clock: Clock, log: FilteringBoundLogger) -> None:
        self._book = book
        self._outside = outside
        self._scores = scores
        self._clock = clock
        self._log = log
        self._soon = asyncio.Event()

    def look_soon(self) -> None:
        """Something has changed."""
        self._soon.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._soon.clear()
            try:
                await self.once()
            except DuxError as error:
                self._log.info("sanctions not told", reason=error.message)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._soon.wait()
            except TimeoutError:
                continue

    def all_sanctions(self) -> list[Sanction]:
        """Every sanction in force here, of registered nodes and of others that the operator or faults name."""
        rated = {one.node.info.did: one.sanctions for one in self._scores.rate_all(self._book.nodes())}
        named = {*self._book.sanctions(), *self._book.fault_times()} - set(rated)
        rated |= {did: self._scores.sanctions(did) for did in sorted(named)}
        return [sanction for did in sorted(rated) for sanction in rated[did]]

    async def once(self) -> None:
        """Tell what changed, then whom to refuse."""
        found = self.all_sanctions()
        self._tell(found)
        refused = {
            one.did: one.until_ms or 0 for one in in_force(found, self._clock.unix_ms()) if one.state is State.BANNED
        }
        await self._outside.refuse(refused)

    def _tell(self, found: list[Sanction]) -> None:
        by_did: dict[Did, list[Sanction]] = {}
        for one in found:
            by_did.setdefault(one.did, []).append(one)
        before = self._book.restricted()
        now = {did: state.value for did, ones in by_did.items() if (state := worst(ones)) is not None}
        if now == before:
            return
        with self._book.store.transaction() as tx:
            for did in sorted(set(now) | set(before)):
                word = now.get(did, "")
                if word == before.get(did, ""):
                    continue
                self._book.set_restricted(tx, did, word)
                if not word:
                    tx.emit("NodeFreed", {"node_id": did})
                    continue
                one = next(one for one in by_did[did] if one.state.value == word)
                body = {"node_id": did, "state": word, "reason": one.reason, "set_by": one.set_by}
                tx.emit("NodeSanctioned", body)
