"""Signed offers and receipts as JWS, x402's own form: ES256K, compact, by the coin key that a DID's node record names.

The one signature beside our envelopes (settled.md 8), so that a client which knows nothing of DuxNet can check an offer
or a receipt. `signing_input` is what the holder of the key signs; `sealed` puts the parts together; `opened` gives the
claims back only under the right key. Pure: no key is held here.
Source: channel_protocol.md §7; RFC 7515, RFC 8812.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, TypeVar

import coincurve
import msgspec
from coincurve.ecdsa import cdata_to_der, der_to_cdata, deserialize_compact, serialize_compact
from msgspec import Meta

from common.errors import CallerMistake

T = TypeVar("T")

ALGORITHM = "ES256K"
KEY_FRAGMENT = "#coin"
JWS_CHARS_MAX = 3_600
SIGNATURE_BYTES = 64
PARTS = 3
PAYLOAD_VERSION = 1


class BadJws(CallerMistake):
    """This signed offer or receipt does not hold: {reason}."""

    code = 3151
    key = "bad-jws"


class JwsHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which algorithm, and whose key: nothing else may stand here, so nothing else can be misread."""

    alg: str
    kid: Annotated[str, Meta(max_length=128)]


class Claims(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what is signed."""

    version: int = PAYLOAD_VERSION


class OfferClaims(Claims, frozen=True, kw_only=True):
    """What a call of a resource costs; `valid_until`: seconds of the clock, for others; `valid_to`: the height."""

    resource_url: str
    scheme: str
    network: str
    asset: str
    pay_to: str
    amount: str
    valid_until: int
    valid_to: int


class ReceiptClaims(Claims, frozen=True, kw_only=True):
    """What was paid for a call: x402's fields, and which call of which channel."""

    network: str
    resource_url: str
    payer: str
    issued_at: int
    transaction: str
    amount: str
    outcome: str
    call: int
    answer: str  # hash of the signed answer's body, hex


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadJws(reason="a part is not base64url") from error
    if _b64(data) != text:
        raise BadJws(reason="a part is not in its one form")
    return data


def signing_input(kid: str, claims: Claims) -> str:
    """The text whose SHA-256 the key signs."""
    head = msgspec.json.encode(JwsHead(alg=ALGORITHM, kid=kid))
    return f"{_b64(head)}.{_b64(msgspec.json.encode(claims))}"


def digest_of(signing: str) -> bytes:
    """The 32 bytes that are signed."""
    return hashlib.sha256(signing.encode()).digest()


def sealed(signing: str, der_signature: bytes) -> str:
    """The JWS, from the key's signature in DER."""
    return f"{signing}.{_b64(serialize_compact(der_to_cdata(der_signature)))}"


def signer_of(text: str) -> str:
    """Whose key is said to have signed (a DID), before anything is verified.

    Raises:
        BadJws: it has another form, or another algorithm.
    """
    head = _parts(text)[0]
    if not head.kid.endswith(KEY_FRAGMENT):
        raise BadJws(reason=f"the key's name does not end with {KEY_FRAGMENT}")
    return head.kid.removesuffix(KEY_FRAGMENT)


def _parts(text: str) -> tuple[JwsHead, bytes, bytes]:
    parts = text.split(".") if len(text) <= JWS_CHARS_MAX else []
    if len(parts) != PARTS:
        raise BadJws(reason=f"three parts, together at most {JWS_CHARS_MAX} characters")
    head, claims, signature = (_unb64(part) for part in parts)
    try:
        said = msgspec.json.decode(head, type=JwsHead)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadJws(reason="its head has another form") from error
    if said.alg != ALGORITHM or len(signature) != SIGNATURE_BYTES:
        raise BadJws(reason=f"only {ALGORITHM} is taken")
    return said, claims, signature


def opened(text: str, kind: type[T], *, coin_key: bytes) -> T:
    """The claims, signed by this key.

    Raises:
        BadJws: another form, algorithm or key, or other claims.
    """
    _, claims, signature = _parts(text)
    if not _is_signed(text.rpartition(".")[0], signature, coin_key):
        raise BadJws(reason="the signature is of another key")
    try:
        return msgspec.json.decode(claims, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadJws(reason=f"its claims have another form: {error}"[:200]) from error


def _is_signed(signing: str, signature: bytes, coin_key: bytes) -> bool:
    try:
        der = cdata_to_der(deserialize_compact(signature))
        return coincurve.PublicKey(coin_key).verify(der, digest_of(signing), hasher=None)
    except ValueError:
        return False
