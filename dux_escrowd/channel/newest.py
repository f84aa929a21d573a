"""After every start a payee asks those who keep copies of its channels for newer books than its own disk has.

Promise: until every watcher that is set up has answered, or a minute has passed, nothing is decided in a channel of
which this node is the payee: no hello, no call, no close. A copy that was made after all that stands here takes its
place; each copy's version stands in the books before the copy leaves, so that a later one tells an old disk. What a
lying payer can still win by an old disk is what was worked since the last copy: less than the step x, and what was at
work at that moment. Without watchers the copy's other keepers are asked once, and nothing is promised.

It does not know why the disk is old. Source: channel_protocol.md §1 (old backup, payer lies), §8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from common.contracts.escrow_base import WrongPhase
from common.errors import DuxError
from common.store import Tx
from common.units import Did
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.copies import ChannelCopy, channel_tag, payee_again
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.model import Payee, PayeeState
from dux_escrowd.channel.restoring import AT_ONCE, Restoring, bodies_back
from dux_escrowd.channel.safekeeping import Safekeeping
from dux_escrowd.channel.shelf import Book

PAUSES_S = (0.0, 0.5, 1.5, 5.0, 10.0, 15.0, 28.0)  # before each round of questions
DOUBTED = (PayeeState.OFFERED, PayeeState.OPEN_SEEN, PayeeState.OPEN, PayeeState.SUSPENDED)
CHANNELS_MAX = 10_000


class Newest:
    """Newer books than one's own."""

    def __init__(self, counter: Counter, safe: Safekeeping, restoring: Restoring) -> None:
        self._counter = counter
        self._ledger = counter.ledger
        self._desk = counter.desk
        self._safe = safe
        self._restoring = restoring

    def doubt(self) -> None:
        """From now on nothing is decided in the channels that a newer copy may know better."""
        if not self._desk.settings.copies:
            return
        names = self._ledger.shelf.listed("payee", open_only=True, limit=CHANNELS_MAX)
        self._ledger.unsure.update(name for name in names if self._ledger.state(name).state in DOUBTED)

    async def settle(self, names: Sequence[str]) -> None:
        """Ask, take what is newer, and let these channels go on."""
        try:
            newer = await self._asked(names)
            for name in sorted(newer):
                await self._take(name, newer[name])
        finally:
            self._ledger.unsure.difference_update(names)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _asked(self, names: Sequence[str]) -> dict[str, ChannelCopy]:
        """The newest copy of each channel that is newer than the books here."""
        silent = {did for did in self._desk.settings.channel_watchers if did != self._desk.me}
        newer: dict[str, ChannelCopy] = {}
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                silent -= await self._round(names, newer)
            except DuxError as error:  # the wallet is locked, or away: without its key no copy opens
                self._desk.log.info("newer books cannot be asked for yet", reason=error.message)
                continue
            if not silent:
                return newer
        self._desk.log.warning("watchers do not answer; this disk's own books count", watchers=sorted(silent))
        return newer

    async def _round(self, names: Sequence[str], newer: dict[str, ChannelCopy]) -> set[Did]:
        """One question to every keeper for each so many channels; who answered all that they were asked."""
        key = await self._safe.key()
        answered, missed = set[Did](), set[Did]()
        for start in range(0, len(names), AT_ONCE):
            books = {
                channel_tag(key, book.key_index): book
                for book in map(self._ledger.book, names[start : start + AT_ONCE])
            }
            asked = {did: None for tag, book in books.items() for did in await self._safe.keepers(book, tag)}
            answers = await asyncio.gather(*(self._restoring.ask(did, tuple(books), key) for did in asked))
            for did, answer in zip(asked, answers, strict=True):
                (missed if answer is None else answered).add(did)
                for tag, copy in answer or ():
                    self._weigh(copy, books[tag], newer)
        return answered - missed

    @staticmethod
    def _weigh(copy: ChannelCopy, book: Book, newer: dict[str, ChannelCopy]) -> None:
        if copy.payee is None or copy.payee.chid != book.chid:
            return
        known = newer[book.chid].version if book.chid in newer else book.copied
        if copy.version > known:
            newer[book.chid] = copy

    # --- taking -------------------------------------------------------------------------------------------------------

    async def _take(self, name: str, copy: ChannelCopy) -> None:
        if copy.payee is None:
            raise TypeError("a payer's copy was weighed as a payee's")
        book, rerun = self._ledger.book(name), self._desk.settings.channel_on_crash == "rerun"
        fact = f.CopyCame(at=await self._counter.height(), copy=payee_again(copy.payee, book.terms, rerun=rerun))
        self._safe.newer_than(copy.version)

        def write(tx: Tx, _before: Payee, after: Payee) -> None:
            self._ledger.note(tx, name, copied=copy.version)
            bodies_back(self._ledger.shelf, tx, after, copy)

        try:
            await self._counter.watch(book)  # the old disk may not have known that it was opened
            await self._ledger.take(name, fact, write)
        except (DuxError, WrongPhase) as error:
            self._desk.log.warning("newer books were not taken", chid=name, reason=error.message)
            return
        self._desk.log.warning("this disk was an old one: newer books were taken from a copy", chid=name)
