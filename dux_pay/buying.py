"""What a buyer's program and its node's purse say to each other, what goes wrong, and when an offer is sound. Pure."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from common.channel_messages import OFFER_BYTES_MAX, Offer
from common.codec import Wire, from_canonical
from common.errors import DuxError, NotNow, PeerMisbehaved
from common.jws import OfferClaims, signer_of
from common.receipts import attested
from common.units import Did, Florins
from dux_pay.headers import RECEIPTS, Accepts, Oid, PaymentRequired, network_name

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Url = Annotated[str, Meta(min_length=1, max_length=2_048)]


class BadOffer(PeerMisbehaved):
    """What {url} wants cannot be paid: {reason}."""

    code = 3164
    key = "bad-http-offer"


class BadAnswer(PeerMisbehaved):
    """The answer of {url} does not belong to what was paid: {reason}; keep it, the signed answer is proof."""

    code = 3165
    key = "bad-http-answer"


class Wanted(Wire, frozen=True, kw_only=True):
    """A request that met 402: its line, the hash of its body, and the header that came. `oid` empty: a new call."""

    required: str
    method: Annotated[str, Meta(min_length=1, max_length=32)]
    url: Url
    body_sha256: Hash
    oid: Oid | None = None
    most_florins: Florins | None = None  # this call's own limit


class Header(Wire, frozen=True, kw_only=True):
    """The PAYMENT-SIGNATURE to send the request again with. `said`: what was done for it, for people."""

    header: str
    oid: str
    payload: dict[str, Any]
    extensions: dict[str, Any]
    most_florins: Florins
    said: tuple[str, ...] = ()


class Came(Wire, frozen=True, kw_only=True):
    """The answer of a paid request: status, headers as pairs, the hash of its body, PAYMENT-RESPONSE as it came."""

    oid: Oid
    response: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body_sha256: Hash


class Ended(Wire, frozen=True, kw_only=True):
    """What a call cost by the payee's own word; `receipt` is the JWS, when one came."""

    oid: str
    outcome: str
    charged_florins: Florins
    receipt: str
    said: tuple[str, ...] = ()


class CallOver(NotNow):
    """The call {oid} has ended as {state}; begin a new one under another id."""

    code = 3166
    key = "paid-call-over"


class OverOwnLimit(NotNow):
    """The call costs {price_florins}, at most {limit_florins} were allowed for it; nothing was promised."""

    code = 3167
    key = "over-own-limit"


def path_of(url: str) -> tuple[str, str]:
    """Path and query of a URL as they go over the wire."""
    rest = url.partition("://")[2].partition("#")[0]
    host, slash, tail = rest.partition("/")
    if not slash:
        return "/", host.partition("?")[2]
    path, _, query = f"/{tail}".partition("?")
    return path, query


def offered_in(required: PaymentRequired, entry: Accepts, url: str) -> tuple[Offer, bytes, str, Did]:
    """The offer with its envelope, and the JWS beside it with its signer: what they say, unverified.

    Raises:
        BadOffer: one of them is missing or is none.
    """
    try:
        envelope = base64.b64decode(entry.extra.offer, validate=True)
        offer = from_canonical(attested(envelope).body, Offer, max_bytes=OFFER_BYTES_MAX)
        jws = msgspec.convert(required.extensions[RECEIPTS]["info"]["offers"][0]["signature"], str)
        payee = Did(signer_of(jws))
    except (ValueError, KeyError, TypeError, IndexError, msgspec.MsgspecError, DuxError) as error:
        raise BadOffer(url=url, reason=f"no signed offer in it ({error})") from error
    return offer, envelope, jws, payee


def offer_problem(offer: Offer, entry: Accepts, claims: OfferClaims, payee: Did, url: str) -> str:
    """Where the three forms of an offer differ, or an empty string."""
    laws = {
        "the offer is of another node than its signature": offer.payee == payee,
        "the offer is for another network": network_name(offer.network) == entry.network == claims.network,
        "the prices differ": str(int(offer.price_florins)) == entry.amount == claims.amount,
        "the kinds of price differ": offer.pricing is entry.extra.pricing,
        "the heights differ": offer.valid_to == entry.extra.offer_valid_to == claims.valid_to,
        "it is paid to another key": claims.pay_to == entry.pay_to,
        "it was signed for another resource": path_of(claims.resource_url)[0] == path_of(url)[0],
    }
    return next((law for law, holds in laws.items() if not holds), "")
