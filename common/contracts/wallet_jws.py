"""What flopd signs for x402's form of offers and receipts: claims as fields, never bytes of somebody else's choice.

flopd writes the head and the key's name itself and puts the claims into their one form, so this key's signature of
anything else cannot be had here. Source: channel_protocol.md §7, settled.md 6 and 8.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.channel_messages import Outcome
from common.codec import Wire
from common.contracts.wallet_errors import WalletLocked
from common.rpc.method import PEOPLE, Method
from common.units import Did, Florins

SELLERS = ("escrowd", *PEOPLE)
Url = Annotated[str, Meta(min_length=1, max_length=1_024)]
Word = Annotated[str, Meta(max_length=80)]
Seconds = Annotated[int, Meta(ge=0, le=1 << 40)]


class OfferToSign(Wire, frozen=True, kw_only=True):
    """What a call of a resource costs until a height; `valid_until_s` tells others the same by the clock."""

    resource_url: Url
    scheme: Word
    network: Word
    asset: Word
    amount_florins: Florins
    valid_until_s: Seconds
    valid_to: int


class ReceiptToSign(Wire, frozen=True, kw_only=True):
    """What was paid for a call."""

    resource_url: Url
    network: Word
    payer: Word
    issued_at_s: Seconds
    amount_florins: Florins
    outcome: Outcome
    call: int
    answer: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class JwsSigned(Wire, frozen=True, kw_only=True):
    """The JWS, and the key (33 bytes) that this node's record names for its DID."""

    jws: str
    did: Did
    coin_key: bytes


_DID, _KEY = Did("did:dux:" + "a" * 52), b"\x02" + b"k" * 32
_SIGNED = JwsSigned(jws="eyJhbGciOiJFUzI1NksifQ.e30.c2ln", did=_DID, coin_key=_KEY)
_NET = "bip122:1f1037762db00882d3353b8d9dcfd52f"

WALLET_SIGN_OFFER: Method[OfferToSign, JwsSigned] = Method(
    name="wallet.sign_offer",
    params=OfferToSign,
    result=JwsSigned,
    summary="An offer of a paid resource as JWS (ES256K), under the coin key that this node's record names.",
    callers=SELLERS,
    raises=(WalletLocked,),
    example=(
        OfferToSign(
            resource_url="https://api.example/upscale",
            scheme="flopcoin-channel",
            network=_NET,
            asset="FLOP",
            amount_florins=Florins(500_000),
            valid_until_s=1_800_000_000,
            valid_to=1_580,
        ),
        _SIGNED,
    ),
)
WALLET_SIGN_RECEIPT: Method[ReceiptToSign, JwsSigned] = Method(
    name="wallet.sign_receipt",
    params=ReceiptToSign,
    result=JwsSigned,
    summary="A receipt of a paid call as JWS (ES256K), under the coin key that this node's record names.",
    callers=SELLERS,
    raises=(WalletLocked,),
    example=(
        ReceiptToSign(
            resource_url="https://api.example/upscale",
            network=_NET,
            payer="c4" * 32,
            issued_at_s=1_800_000_000,
            amount_florins=Florins(500_000),
            outcome=Outcome.OK,
            call=7,
            answer="ab" * 32,
        ),
        _SIGNED,
    ),
)
