"""The three headers of the 402 exchange as bytes and back: base64 of JSON, in the shape of x402 version 2.

Promises: what is taken has the right form, is no longer than its limit, and what it shows to people says the same as
the signed envelope beside it; every refusal is a `Malformed`. Verifies no signature: the payee's node does that.
Unknown fields of other implementations are passed over. Source: channel_protocol.md §7, money.md §5a, settled.md 10.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from common.channel_messages import ANSWER_BYTES_MAX, VOUCHER_BYTES_MAX, Answer, Pricing, Voucher
from common.codec import Canon, from_canonical
from common.errors import CallerMistake, DuxError
from common.identity.signed import decode_signed

T = TypeVar("T")
M = TypeVar("M", bound=Canon)

REQUIRED, SIGNATURE, RESPONSE = "PAYMENT-REQUIRED", "PAYMENT-SIGNATURE", "PAYMENT-RESPONSE"
X402_VERSION = 2
SCHEME, ASSET = "flopcoin-channel", "FLOP"
CHAIN_NAMESPACE, CHAIN_DIGITS = "bip122:", 32
HEADER_CHARS_MAX = 8_000  # servers allow 8,190 for a header line with its name
OID_CHARS_MIN, OID_CHARS_MAX = 16, 128
IDENTIFIER, RECEIPTS = "payment-identifier", "offer-receipt"

FlorinText = Annotated[str, Meta(pattern="^(0|[1-9][0-9]{0,18})$")]
Oid = Annotated[str, Meta(min_length=OID_CHARS_MIN, max_length=OID_CHARS_MAX, pattern="^[A-Za-z0-9_-]+$")]
Line = Annotated[str, Meta(max_length=2_048)]
Short = Annotated[str, Meta(max_length=256)]


class Malformed(CallerMistake):
    """The header {header} cannot be read: {reason}."""

    code = 3150
    key = "malformed-payment-header"


class Json(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of what stands in a header."""


class Resource(Json, frozen=True):
    """What is paid for."""

    url: Annotated[str, Meta(min_length=1, max_length=2_048)]
    description: Short = ""
    mime_type: Short = ""


class DepthCap(Json, frozen=True):
    """So much may be owed on a coin that lies so deep."""

    depth: int
    florins: FlorinText


class Extra(Json, frozen=True):
    """What the scheme adds to an entry: how to open a channel, its numbers, and the signed offer in base64."""

    payment_flow: Annotated[str, Meta(pattern="^authorization$")]
    pricing: Pricing
    open_url: Line
    hello_url: Line
    fund_script: Annotated[str, Meta(pattern="^([0-9a-f]{2}){0,64}$")]
    tax_bps: int
    fee_rate: FlorinText
    first_min: FlorinText
    window: int
    closing_zone: int
    exp_min: int
    exp_max: int
    depth_caps: Annotated[tuple[DepthCap, ...], Meta(max_length=8)]
    on_crash: Short
    body_bytes_max: int
    offer: Annotated[str, Meta(max_length=1_400)]
    offer_valid_to: int


class Accepts(Json, frozen=True):
    """One way to pay: x402's payment requirements."""

    scheme: Short
    network: Annotated[str, Meta(min_length=3, max_length=64)]
    amount: FlorinText
    asset: Short
    pay_to: Short
    max_timeout_seconds: Annotated[int, Meta(gt=0, le=3_600)]
    extra: Extra


class PaymentRequired(Json, frozen=True):
    """The header of a 402: what is wanted. `accepts` holds our own entry; those of other schemes are left out."""

    x402_version: Annotated[int, Meta(ge=X402_VERSION, le=X402_VERSION)] = msgspec.field(name="x402Version")
    resource: Resource
    accepts: Annotated[tuple[Accepts, ...], Meta(min_length=1, max_length=8)]
    error: Short = ""
    extensions: dict[str, Any] = msgspec.field(default_factory=dict)


class PaymentPayload(Json, frozen=True):
    """The header of a paid request. `payload`: the voucher for people to read, with its envelope."""

    x402_version: Annotated[int, Meta(ge=X402_VERSION, le=X402_VERSION)] = msgspec.field(name="x402Version")
    accepted: Accepts
    payload: dict[str, Any]
    extensions: dict[str, Any]
    resource: Resource | None = None


class Settlement(Json, frozen=True):
    """The header of an answer: what was charged, with the payee's signed answer."""

    success: bool
    transaction: Short
    network: Short
    payer: Short
    amount: FlorinText
    error_reason: Short = ""
    extensions: dict[str, Any] = msgspec.field(default_factory=dict)


def network_name(genesis: str) -> str:
    """The coin network as x402 names it (CAIP-2)."""
    return CHAIN_NAMESPACE + genesis[:CHAIN_DIGITS]


def encode(value: Json) -> str:
    """A header's text."""
    return base64.b64encode(msgspec.json.encode(value)).decode()


def _bytes_of(text: str, header: str) -> bytes:
    if len(text) > HEADER_CHARS_MAX:
        raise Malformed(header=header, reason=f"{len(text)} characters, {HEADER_CHARS_MAX} are allowed")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(header=header, reason="it is not base64") from error


def _decode(text: str, kind: type[T], header: str) -> T:
    data = _bytes_of(text, header)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Malformed(header=header, reason=str(error)[:200]) from error
    except RecursionError as error:
        raise Malformed(header=header, reason="nested too deeply") from error


def decode_required(text: str) -> PaymentRequired:
    """What a 402 wants; ways to pay that this scheme does not know are left out.

    Raises:
        Malformed: no such header, or no entry of our scheme in it.
    """
    whole = _decode(text, dict[str, Any], REQUIRED)
    entries = whole.get("accepts")
    if isinstance(entries, list):
        whole["accepts"] = [one for one in entries if isinstance(one, dict) and one.get("scheme") == SCHEME]
    try:
        return msgspec.convert(whole, PaymentRequired)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Malformed(header=REQUIRED, reason=f"no way to pay by {SCHEME}: {error}"[:300]) from error


def decode_payload(text: str) -> PaymentPayload:
    """What a paid request carries.

    Raises:
        Malformed: it has another form, or is too long.
    """
    return _decode(text, PaymentPayload, SIGNATURE)


def decode_settlement(text: str) -> Settlement:
    """What an answer says of its payment.

    Raises:
        Malformed: it has another form, or is too long.
    """
    return _decode(text, Settlement, RESPONSE)


def oid_of(payload: PaymentPayload) -> str:
    """The caller's own id of the call.

    Raises:
        Malformed: there is none, or it is none.
    """
    try:
        return msgspec.convert(payload.extensions[IDENTIFIER]["info"]["id"], Oid)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise Malformed(
            header=SIGNATURE, reason=f"{IDENTIFIER}: an id of 16 to 128 letters, digits, _ and -"
        ) from error


def view(envelope: bytes, kind: type[M], *, max_bytes: int) -> dict[str, Any]:
    """A signed message as people read it, with the envelope that counts.

    Raises:
        BadParams: it is no canonical envelope of that kind.
    """
    signed = decode_signed(envelope, max_bytes=max_bytes)
    body = from_canonical(signed.body, kind, max_bytes=max_bytes)
    shown = _plain(body)
    shown["envelope"] = base64.b64encode(envelope).decode()
    return shown


def _plain(value: Canon) -> dict[str, Any]:
    return {name: _one(name, getattr(value, name)) for name in value.__struct_fields__}


def _one(name: str, value: object) -> object:
    if isinstance(value, Canon):
        return _plain(value)
    if isinstance(value, bytes):
        return value.hex()
    if name.endswith("_florins"):
        return str(int(value))  # type: ignore[call-overload]
    return value


def _opened(shown: dict[str, Any], kind: type[M], header: str, max_bytes: int) -> tuple[bytes, M]:
    try:
        envelope = base64.b64decode(shown["envelope"], validate=True)
        again = view(envelope, kind, max_bytes=max_bytes)
        body = from_canonical(decode_signed(envelope, max_bytes=max_bytes).body, kind, max_bytes=max_bytes)
    except (KeyError, TypeError, ValueError, DuxError) as error:
        raise Malformed(header=header, reason=f"the envelope: {error}"[:200]) from error
    if msgspec.to_builtins(again) != shown:
        raise Malformed(header=header, reason="what it shows is not what its envelope says")
    return envelope, body


def show_voucher(envelope: bytes) -> dict[str, Any]:
    """A voucher for a header."""
    return view(envelope, Voucher, max_bytes=VOUCHER_BYTES_MAX)


def open_shown_voucher(payload: PaymentPayload) -> tuple[bytes, Voucher]:
    """The voucher's envelope, and what it says; no signature is verified here.

    Raises:
        Malformed: none, or its readable part differs, or it is for another call than the header says.
    """
    envelope, voucher = _opened(payload.payload, Voucher, SIGNATURE, VOUCHER_BYTES_MAX)
    if voucher.oid != oid_of(payload):
        raise Malformed(header=SIGNATURE, reason="the voucher is for another payment-identifier")
    if payload.accepted.scheme != SCHEME or payload.accepted.network != network_name(voucher.network):
        raise Malformed(header=SIGNATURE, reason="the voucher is of another scheme or network than `accepted`")
    return envelope, voucher


def show_answer(envelope: bytes) -> dict[str, Any]:
    """An answer for a header."""
    return view(envelope, Answer, max_bytes=ANSWER_BYTES_MAX)


def answer_in(envelope: bytes) -> Answer:
    """What an answer's envelope says.

    Raises:
        BadParams: it is none.
    """
    signed = decode_signed(envelope, max_bytes=ANSWER_BYTES_MAX)
    return from_canonical(signed.body, Answer, max_bytes=ANSWER_BYTES_MAX)


def open_shown_answer(settlement: Settlement) -> tuple[bytes, Answer]:
    """The answer's envelope, and what it says.

    Raises:
        Malformed: none, or its readable part differs.
    """
    try:
        shown = settlement.extensions[SCHEME]["info"]
    except (KeyError, TypeError) as error:
        raise Malformed(header=RESPONSE, reason="no signed answer in it") from error
    return _opened(shown, Answer, RESPONSE, ANSWER_BYTES_MAX)
