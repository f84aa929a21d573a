"""What a 402 says: the node's offer in both its signed forms, kept for a while so that asking costs the node little."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from common.clock import Clock
from common.contracts.channel import MAKE_OFFER, RULES, MakeOffer
from common.contracts.wallet_jws import WALLET_SIGN_OFFER, OfferToSign
from common.rpc.client import Client
from common.rpc.method import Empty
from dux_pay.headers import ASSET, SCHEME, PaymentRequired, network_name
from dux_pay.price import Price
from dux_pay.terms import Offered, Scheme, required_of

OFFERS_KEPT = 256
OFFER_KEPT_S = 30.0
OFFER_CLOCK_S = 3_600  # what x402's `validUntil` says; the height in the signed offer is what counts


class Wish(NamedTuple):
    """What a 402 is for: the resource, what its offer is of, its price, and where channel messages go."""

    url: str
    what: str
    price: Price
    messages_at: str


class Offering:
    """Offers of one node."""

    def __init__(self, escrowd: Client, flopd: Client, clock: Clock, body_bytes_max: int) -> None:
        self._escrowd = escrowd
        self._flopd = flopd
        self._clock = clock
        self._body_bytes_max = body_bytes_max
        self._offers: OrderedDict[Wish, tuple[float, PaymentRequired]] = OrderedDict()

    async def required(self, wish: Wish) -> PaymentRequired:
        """What a 402 says; kept for a while, so that asking costs the node little."""
        now = self._clock.monotonic()
        kept = self._offers.get(wish)
        if kept is not None and now - kept[0] < OFFER_KEPT_S:
            return kept[1]
        wanted = await self._offer(wish)
        self._offers[wish] = (now, wanted)
        self._offers.move_to_end(wish)
        while len(self._offers) > OFFERS_KEPT:
            self._offers.popitem(last=False)
        return wanted

    def forget(self, wish: Wish) -> None:
        """The node takes this offer no more: the next 402 brings a new one."""
        self._offers.pop(wish, None)

    async def _offer(self, wish: Wish) -> PaymentRequired:
        price = wish.price
        asked = MakeOffer(what=wish.what, price_florins=price.florins, pricing=price.pricing)
        made, rules = await self._escrowd.call(MAKE_OFFER, asked), await self._escrowd.call(RULES, Empty())
        claims = OfferToSign(
            resource_url=wish.url,
            scheme=SCHEME,
            network=network_name(rules.network),
            asset=ASSET,
            amount_florins=price.florins,
            valid_until_s=self._clock.unix_ms() // 1_000 + OFFER_CLOCK_S,
            valid_to=made.valid_to,
        )
        signed = await self._flopd.call(WALLET_SIGN_OFFER, claims)
        scheme = Scheme(rules=rules, coin_key=signed.coin_key, body_bytes_max=self._body_bytes_max)
        offered = Offered(envelope=made.offer, valid_to=made.valid_to, jws=signed.jws)
        return required_of(scheme, price, offered, wish.url, "", wish.messages_at)
