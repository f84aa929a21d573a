"""Takes in offers and ratings that are signed elsewhere, from gossip, peers, the DHT or callers.

One door for all: form, rules, signature, and for a rating its payment, in that order. The answer is a gossip verdict
with its reason: `accept` what is new and right, `ignore` what is old or cannot be judged now, `reject` what is wrong
whoever looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.clock import Clock
from common.contracts.registry import BadReceipt, ReceiptState
from common.errors import BadParams, NotNow, Unavailable
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.receipts import (
    RATING_BYTES_MAX,
    SERVICE_BYTES_MAX,
    Attested,
    Rating,
    RatingNotice,
    ServiceRecord,
    attested,
    body_of,
    receipt_in,
)
from common.units import UnixMs
from dux_stored.effects import Outside
from dux_stored.rules import rating_fault, replaces, service_fault
from dux_stored.settings import StoredSettings
from dux_stored.store import Shelf

Word = Literal["accept", "ignore", "reject"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of something that came in."""

    word: Word
    reason: str = ""


class Intake:
    """The one door of the store."""

    def __init__(
        self, shelf: Shelf, outside: Outside, network: NetworkProfile, clock: Clock, settings: StoredSettings
    ) -> None:
        self._shelf = shelf
        self._outside = outside
        self._network = network
        self._clock = clock
        self._settings = settings

    async def service(self, envelope: Attested) -> Taken:
        """A provider's offer."""
        try:
            record = body_of(envelope, ServiceRecord, SERVICE_BYTES_MAX)
        except BadParams as error:
            return Taken("reject", error.message)
        fault = service_fault(record, self._network.genesis, self._clock.unix_ms())
        if fault or record.provider != envelope.did:
            return Taken("reject", fault or "it is signed by another node")
        held = self._shelf.service(record.service_id)
        if not replaces(held, record):
            return Taken("ignore", "a newer record is held")
        if held is None and self._full(record):
            return Taken("ignore", "the store is full, or this provider's part of it")
        taken = await self._signed(Purpose.SERVICE, envelope, record.updated_ms)
        if taken.word == "accept":
            with self._shelf.store.transaction() as tx:
                self._shelf.put_service(tx, record, envelope)
        return taken

    def _full(self, record: ServiceRecord) -> bool:
        of_provider = self._shelf.count_services(record.provider)
        return (
            of_provider >= self._settings.services_per_provider_max
            or self._shelf.count_services() >= self._settings.services_max
        )

    async def rating(self, notice: RatingNotice) -> Taken:
        """A buyer's rating with the receipt it cites: counted when its payment is settled, kept waiting before."""
        try:
            given, paid = attested(notice.rating), attested(notice.receipt)
            rating = body_of(given, Rating, RATING_BYTES_MAX)
            receipt = receipt_in(paid)
        except BadParams as error:
            return Taken("reject", error.message)
        fault = rating_fault(rating, receipt, self._network.genesis)
        if fault or not rating.rater == given.did == paid.did:
            return Taken("reject", fault or "it is signed by another node")
        if self._shelf.rating(rating.cid) is not None:
            return Taken("ignore", "this contract was rated already")
        if self._shelf.count_pending() >= self._settings.ratings_pending_max:
            return Taken("ignore", "too many ratings wait for their payment")
        taken = await self._signed(Purpose.RATING, given, rating.at_ms)
        return taken if taken.word != "accept" else await self._with_payment(rating, notice)

    async def _with_payment(self, rating: Rating, notice: RatingNotice) -> Taken:
        try:
            state = (await self._outside.hand_in(notice.receipt)).state
        except BadReceipt as error:
            return Taken("reject", error.message)
        except (NotNow, Unavailable):
            state = ReceiptState.PENDING
        if state is ReceiptState.REFUSED:
            return Taken("ignore", "its payment was refused")
        with self._shelf.store.transaction() as tx:
            self._shelf.put_rating(tx, rating, notice, counted=state is ReceiptState.SETTLED)
        return Taken("accept")

    async def _signed(self, purpose: Purpose, envelope: Attested, at_ms: UnixMs) -> Taken:
        try:
            if await self._outside.is_signed(purpose, envelope, at_ms):
                return Taken("accept")
        except Unavailable as error:
            return Taken("ignore", error.message)
        return Taken("reject", "its signature does not verify")
