"""The entry of our scheme in a 402: what never changes from call to call, and what an offer adds. Pure."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from common.contracts.channel import ChannelRules
from dux_pay.headers import (
    ASSET,
    IDENTIFIER,
    OID_CHARS_MAX,
    OID_CHARS_MIN,
    RECEIPTS,
    SCHEME,
    X402_VERSION,
    Accepts,
    DepthCap,
    Extra,
    PaymentRequired,
    Resource,
    network_name,
)
from dux_pay.price import Price, says

TIMEOUT_S = 60
IDENTIFIER_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "required": {"type": "boolean"},
        "id": {"type": "string", "minLength": OID_CHARS_MIN, "maxLength": OID_CHARS_MAX, "pattern": "^[a-zA-Z0-9_-]+$"},
    },
    "required": ["required"],
}
RECEIPTS_SCHEMA: dict[str, Any] = {"type": "object", "properties": {"offers": {"type": "array"}}}


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """What of an entry is the same for everything that a node sells."""

    rules: ChannelRules
    coin_key: bytes
    body_bytes_max: int


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A signed offer in both its forms."""

    envelope: bytes
    valid_to: int
    jws: str


def accepts_of(scheme: Scheme, price: Price, offered: Offered, messages_at: str = "") -> Accepts:
    """The entry. `messages_at`: path of this server that takes channel messages; else the two nodes speak alone."""
    rules = scheme.rules
    where = f"dux:{rules.did}"  # the nodes find each other by DID
    extra = Extra(
        payment_flow="authorization",
        pricing=price.pricing,
        open_url=messages_at or f"{where}/channel.open",
        hello_url=messages_at or f"{where}/channel.hello",
        fund_script=rules.fund_script.hex(),
        tax_bps=rules.tax_bps,
        fee_rate=str(rules.fee_rate_florins_per_kb),
        first_min=str(int(rules.first_min_florins)),
        window=rules.window,
        closing_zone=rules.closing_zone,
        exp_min=rules.exp_min,
        exp_max=rules.exp_max,
        depth_caps=tuple(DepthCap(depth=depth, florins=str(int(cap))) for depth, cap in rules.depth_caps),
        on_crash=rules.on_crash,
        body_bytes_max=scheme.body_bytes_max,
        offer=base64.b64encode(offered.envelope).decode(),
        offer_valid_to=offered.valid_to,
    )
    return Accepts(
        scheme=SCHEME,
        network=network_name(scheme.rules.network),
        amount=str(int(price.florins)),
        asset=ASSET,
        pay_to=scheme.coin_key.hex(),
        max_timeout_seconds=TIMEOUT_S,
        extra=extra,
    )


def required_of(
    scheme: Scheme, price: Price, offered: Offered, url: str, error: str, messages_at: str = ""
) -> PaymentRequired:
    """The whole header of a 402."""
    return PaymentRequired(
        x402_version=X402_VERSION,
        error=error,
        resource=Resource(url=url, description=says(price)),
        accepts=(accepts_of(scheme, price, offered, messages_at),),
        extensions={
            IDENTIFIER: {"info": {"required": True}, "schema": IDENTIFIER_SCHEMA},
            RECEIPTS: {
                "info": {"offers": [{"format": "jws", "acceptIndex": 0, "signature": offered.jws}]},
                "schema": RECEIPTS_SCHEMA,
            },
        },
    )
