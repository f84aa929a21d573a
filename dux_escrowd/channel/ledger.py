"""Where channels' decisions are made and written: fact, table, state, rows, one fsync, and only then the orders.

Promise: an order is handed out after what it rests on is on disk. Decisions that come in together share one
transaction (settled.md 28); each is decided on what the one before it left, and one that is refused changes nothing.
What stands in memory is what stands on disk: a write that fails takes it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from common.contracts.channel_errors import ChannelBusy
from common.errors import NotFound
from common.store import Store, Tx
from dux_escrowd.channel import payee, payer
from dux_escrowd.channel.facts import CopyCame, Fact
from dux_escrowd.channel.model import Channel, Payee, Payer
from dux_escrowd.channel.orders import Order, Tell
from dux_escrowd.channel.shelf import Book, ChannelShelf
from dux_escrowd.channel.table import Decision

Write = Callable[[Tx, Any, Any], None]  # what else the decision writes: transaction, channel before, channel after
Then = Callable[[Any, tuple[Order, ...]], Fact | None]


class Taken(msgspec.Struct, frozen=True):
    """What a fact led to; `effects` of its follower are behind its own."""

    before: Channel
    next: Channel
    effects: tuple[Order, ...]


class _Asked:
    """A fact that waits for its decision."""

    __slots__ = ("chid", "fact", "then", "waiter", "write")

    def __init__(
        self, chid: str, fact: Fact, write: Write | None, then: Then | None, waiter: asyncio.Future[Taken]
    ) -> None:
        self.chid, self.fact, self.write, self.then, self.waiter = chid, fact, write, then, waiter


class Ledger:
    """All channels of this node."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shelf = ChannelShelf(store)
        self._states: dict[str, Channel] = {}
        self._books: dict[str, Book] = {}
        self._asked: list[_Asked] = []
        self.unsure: set[str] = set()  # channels of which others may keep newer books than this disk
        self.decisions = self.commits = 0

    # --- reading ------------------------------------------------------------------------------------------------------

    def book(self, chid: str) -> Book:
        """A channel's row.

        Raises:
            NotFound: this node has no such channel.
        """
        found = self._books.get(chid) or self.shelf.book(chid)
        if found is None:
            raise NotFound(what="channel", name=chid)
        self._books[chid] = found
        return found

    def state(self, chid: str) -> Channel:
        """A channel as it stands (as `book`)."""
        found = self._states.get(chid) or self.shelf.state(chid)
        if found is None:
            raise NotFound(what="channel", name=chid)
        self._states[chid] = found
        return found

    def payer(self, chid: str) -> Payer:
        """A channel of which this node is the payer (as `book`)."""
        found = self.state(chid)
        if not isinstance(found, Payer):
            raise NotFound(what="channel of this node as payer", name=chid)
        return found

    def payee(self, chid: str) -> Payee:
        """A channel of which this node is the payee (as `book`)."""
        found = self.state(chid)
        if not isinstance(found, Payee):
            raise NotFound(what="channel of this node as payee", name=chid)
        return found

    # --- deciding -----------------------------------------------------------------------------------------------------

    def open(self, tx: Tx, book: Book, state: Channel) -> None:
        """A new channel, in the caller's decision."""
        self.shelf.open(tx, book, state)

    def note(self, tx: Tx, chid: str, **values: str | float | bytes | None) -> None:
        """Set columns of a channel."""
        self.shelf.note(tx, chid, **values)
        self._books.pop(chid, None)

    async def take(self, chid: str, fact: Fact, write: Write | None = None, then: Then | None = None) -> Taken:
        """What the fact leads to, once that is on disk. `then`: a fact that follows at once, in the same write.

        Raises:
            WrongPhase, Refused: it does not fit; nothing changed. NotFound: no such channel.
            ChannelBusy: nothing is decided on books of which newer ones may lie elsewhere.
        """
        if chid in self.unsure and not isinstance(fact, CopyCame):
            reason = "this node has started and asks its watchers for newer books"
            raise ChannelBusy(chid=chid, state=self.state(chid).state.value, reason=reason)
        waiter: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._flush)
        self._asked.append(_Asked(chid, fact, write, then, waiter))
        return await waiter

    def _flush(self) -> None:
        asked, self._asked = self._asked, []
        results: list[tuple[asyncio.Future[Taken], Taken | Exception]] = []
        touched: dict[str, Channel] = {}
        try:
            with self.store.transaction() as tx:
                results = [(item.waiter, self._one(tx, item, touched)) for item in asked]
                for state in touched.values():
                    self.shelf.put(tx, state)
        except Exception as error:  # noqa: BLE001 - the disk said no: everybody who waits is told, memory forgets
            results = [(item.waiter, error) for item in asked]
        else:
            self._states.update(touched)
            self.decisions, self.commits = self.decisions + len(asked), self.commits + 1
        for waiter, result in results:
            _settle(waiter, result)

    def _one(self, tx: Tx, item: _Asked, touched: dict[str, Channel]) -> Taken | Exception:
        """One decision in the transaction; what it raises is its own affair, unless it had begun to write."""
        try:
            before = touched.get(item.chid) or self.state(item.chid)
            first = decide(before, item.fact)
            following = item.then(first.next, first.effects) if item.then else None
            second = decide(first.next, following) if following is not None else None
        except Exception as error:  # noqa: BLE001 - handed to who asked
            return error
        after = second.next if second else first.next
        effects = (*first.effects, *second.effects) if second else first.effects
        if item.write is not None:
            item.write(tx, before, after)
        if after is not before:
            touched[item.chid] = after
        self._tell(tx, after, effects)
        return Taken(before, after, effects)

    @staticmethod
    def _tell(tx: Tx, after: Channel, effects: tuple[Order, ...]) -> None:
        for order in effects:
            if isinstance(order, Tell):
                side = "payer" if isinstance(after, Payer) else "payee"
                tx.audit(order.news.value, {"chid": after.chid, "side": side, "state": after.state.value})


def _settle(waiter: asyncio.Future[Taken], result: Taken | Exception) -> None:
    if waiter.done():  # who asked has gone
        return
    if isinstance(result, Exception):
        waiter.set_exception(result)
    else:
        waiter.set_result(result)


def decide(channel: Channel, fact: Fact) -> Decision[Payer] | Decision[Payee]:
    """By the side's own table."""
    return payer.decide(channel, fact) if isinstance(channel, Payer) else payee.decide(channel, fact)
