"""Own offers: a price on something until a height, under this node's DID; its hash is what a voucher names."""

from __future__ import annotations

from common.channel_messages import Offer, offer_hash
from common.codec import canonical, from_canonical
from common.contracts import channel as c
from common.identity.purposes import Purpose
from common.receipts import attested
from dux_escrowd.channel.counter import Counter

OFFERS_KEPT = 1_024  # opened offers in memory


class Offers:
    """Makes offers and knows them again."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._ledger = counter.ledger
        self._offers: dict[bytes, Offer] = {}

    async def offer(self, params: c.MakeOffer) -> c.OfferMade:
        """An own offer that stands for at least half of what is wished, or a new one.

        One that an earlier key of this node has signed is made anew: after a recovery no buyer would believe it.
        """
        tip, key_seq = await self._counter.height(), await self._counter.key_seq()
        half = tip + params.valid_blocks // 2
        for kept in self._ledger.shelf.offers_of(params.what, half):
            offer, by_key = read_offer(kept), attested(kept).key_seq
            if (by_key, offer.price_florins, offer.pricing) == (key_seq, params.price_florins, params.pricing):
                return c.OfferMade(offer=kept, hash=offer_hash(offer), valid_to=offer.valid_to)
        offer = Offer(
            v=1,
            network=self._counter.genesis,
            payee=self._counter.me,
            what=params.what,
            price_florins=params.price_florins,
            pricing=params.pricing,
            valid_to=tip + params.valid_blocks,
        )
        signed, name = canonical(await self._counter.attest(Purpose.CHANNEL_OFFER, offer)), offer_hash(offer)
        with self._ledger.store.transaction() as tx:
            self._ledger.shelf.keep_offer(tx, name, signed, offer.what, offer.valid_to)
        return c.OfferMade(offer=signed, hash=name, valid_to=offer.valid_to)

    def named(self, name: bytes) -> Offer | None:
        """The offer with this hash, if this node made it."""
        found = self._offers.get(name)
        if found is None:
            kept = self._ledger.shelf.offer(name)
            if kept is None:
                return None
            if len(self._offers) >= OFFERS_KEPT:
                self._offers.clear()
            found = self._offers[name] = read_offer(kept)
        return found


def read_offer(data: bytes) -> Offer:
    """The offer in `Attested` bytes; its signature is not checked here."""
    return from_canonical(attested(data).body, Offer, max_bytes=len(data))
