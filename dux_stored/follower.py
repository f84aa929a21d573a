"""Follows the registry's receipts: a settled one counts a call and its rating, one unsettled again does not."""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.codec import from_canonical
from common.contracts.registry import BadReceipt, ReceiptState, ReceiptView
from common.errors import DuxError, NotNow, Unavailable
from common.receipts import RatingNotice
from dux_stored.effects import NOTICE_BYTES_MAX, Outside
from dux_stored.store import HeldRating, Shelf

PLACE = "receipts"
PAGES_MAX = 20  # in one pass: 10,000 receipts
PENDING_AT_ONCE = 50  # ratings without a known receipt looked at in one pass


class Follower:
    """Keeps calls and ratings in step with the chain, as the registry reads it."""

    def __init__(self, shelf: Shelf, outside: Outside, log: FilteringBoundLogger, pause_s: float) -> None:
        self._shelf = shelf
        self._outside = outside
        self._log = log
        self._pause_s = pause_s

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            try:
                await self.once()
                await self.ask_for_pending()
            except DuxError as error:
                self._log.info("receipts not followed", reason=error.message)
            await asyncio.sleep(self._pause_s)

    async def once(self) -> int:
        """Read on from where we stood; how many receipts had changed."""
        changed = 0
        for _ in range(PAGES_MAX):
            page = await self._outside.receipts_since(self._shelf.place(PLACE))
            for view in page.receipts:
                self._apply(await self._counting(view))
            self._shelf.keep_place(PLACE, page.next_cursor)
            changed += len(page.receipts)
            if not page.receipts:
                break
        return changed

    async def _counting(self, view: ReceiptView) -> ReceiptView:
        """What counts of a contract: that one claim of it was refused says nothing of the one that is settled."""
        return view if view.state is ReceiptState.SETTLED else await self._outside.receipt(view.cid) or view

    def _apply(self, view: ReceiptView) -> None:
        paid = view.state is ReceiptState.SETTLED and view.gross_florins > 0
        rating = self._shelf.rating(view.cid)
        right = rating is not None and (rating.service_id, rating.rater) == (view.service_id, view.buyer)
        with self._shelf.store.transaction() as tx:
            if paid:
                self._shelf.put_call(tx, view.cid, view.service_id)
            else:
                self._shelf.drop_call(tx, view.cid)
            self._shelf.count_rating(tx, view.cid, counted=paid and right)

    async def ask_for_pending(self) -> int:
        """Ratings whose receipt the registry does not have yet are handed in with it; how many were looked at."""
        pending = self._shelf.pending_ratings(PENDING_AT_ONCE)
        for rating in pending:
            view = await self._outside.receipt(rating.cid)
            if view is None:
                await self._hand_in(rating)
            elif view.state is ReceiptState.REFUSED:
                self._drop(rating)
            else:
                self._apply(view)
        return len(pending)

    async def _hand_in(self, rating: HeldRating) -> None:
        receipt = from_canonical(rating.notice, RatingNotice, max_bytes=NOTICE_BYTES_MAX).receipt
        try:
            await self._outside.hand_in(receipt)
        except BadReceipt:
            self._drop(rating)
        except (NotNow, Unavailable) as error:
            self._log.info("rating waits", cid=rating.cid.hex(), reason=error.message)

    def _drop(self, rating: HeldRating) -> None:
        with self._shelf.store.transaction() as tx:
            self._shelf.drop_rating(tx, rating.cid)
