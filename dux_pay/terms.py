"""The entry of our scheme in a 402: what never changes from call to call, and what an offer adds. Pure."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from common.chain.channel import FIRST_MIN_FLORINS
from common.chain.channel_heights import WINDOW_MAX, channel_profile
from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from common.community_fund import fund_script_of
from common.network import NetworkProfile
from common.units import Did
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
ON_CRASH = "credit"
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

    network: NetworkProfile
    did: Did
    coin_key: bytes
    body_bytes_max: int


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A signed offer in both its forms."""

    envelope: bytes
    valid_to: int
    jws: str


def accepts_of(scheme: Scheme, price: Price, offered: Offered) -> Accepts:
    """The entry."""
    profile = channel_profile(scheme.network.heights)
    where = f"dux:{scheme.did}"  # opened and greeted between the two nodes, which find each other by DID
    extra = Extra(
        payment_flow="authorization",
        pricing=price.pricing,
        open_url=f"{where}/channel.open",
        hello_url=f"{where}/channel.hello",
        fund_script=fund_script_of(scheme.network.fund).hex(),
        tax_bps=scheme.network.tax_bps,
        fee_rate=str(FEE_RATE_FLORINS_PER_KB),
        first_min=str(int(FIRST_MIN_FLORINS)),
        window=WINDOW_MAX,
        closing_zone=profile.zone_blocks,
        exp_min=profile.exp_min_blocks,
        exp_max=profile.exp_max_blocks,
        depth_caps=tuple(DepthCap(depth=cap.depth, florins=str(cap.florins)) for cap in profile.caps),
        on_crash=ON_CRASH,
        body_bytes_max=scheme.body_bytes_max,
        offer=base64.b64encode(offered.envelope).decode(),
        offer_valid_to=offered.valid_to,
    )
    return Accepts(
        scheme=SCHEME,
        network=network_name(scheme.network.genesis),
        amount=str(int(price.florins)),
        asset=ASSET,
        pay_to=scheme.coin_key.hex(),
        max_timeout_seconds=TIMEOUT_S,
        extra=extra,
    )


def required_of(scheme: Scheme, price: Price, offered: Offered, url: str, error: str) -> PaymentRequired:
    """The whole header of a 402."""
    return PaymentRequired(
        x402_version=X402_VERSION,
        error=error,
        resource=Resource(url=url, description=says(price)),
        accepts=(accepts_of(scheme, price, offered),),
        extensions={
            IDENTIFIER: {"info": {"required": True}, "schema": IDENTIFIER_SCHEMA},
            RECEIPTS: {
                "info": {"offers": [{"format": "jws", "acceptIndex": 0, "signature": offered.jws}]},
                "schema": RECEIPTS_SCHEMA,
            },
        },
    )
