"""What payer and payee of a channel sign for each other: vouchers, answers, hellos, offers, the last agreed state.

All are envelopes [body, sigs] with canonical bodies; they are signed with the channel's own coin keys over the tagged
bytes, so that a voucher proves itself to anybody who holds the channel's terms. A voucher carries two signatures: its
coin part, which the chain takes, inside the body, and the payer's over the whole. Pure: no key is held here.

`Ack.paid_florins` is not in the document's list: without it a payee restored from an old copy could not know how much
the calls that it has lost have cost (docs/protocol/channel.md). Source: channel_protocol.md §4; settled.md 8.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, TypeVar

from msgspec import Meta

from common.chain.channel import is_state_signature, point_of
from common.chain.tx import Outpoint
from common.codec import Canon, canonical, from_canonical
from common.errors import CallerMistake
from common.identity.purposes import Purpose
from common.identity.signed import Signed, decode_signed
from common.identity.tagged import tagged, tagged_hash
from common.units import Florins

T = TypeVar("T")

VOUCHER_BYTES_MAX = 1_024
ANSWER_BYTES_MAX = 1_024
HELLO_BYTES_MAX = 2_048
FINAL_BYTES_MAX = 512
OFFER_BYTES_MAX = 512
ACK_FLAGS = 32
CALLS_SHOWN_MAX = 300  # with their limits below 700 kB, a peer message
HELLO_BACK_BYTES_MAX = 800_000
NO_ROOT = bytes(32)

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Oid = Annotated[str, Meta(min_length=16, max_length=128)]
Number = Annotated[int, Meta(ge=1, le=1 << 53)]
Sig = Annotated[bytes, Meta(min_length=8, max_length=73)]


class BadVoucher(CallerMistake):
    """This {what} does not hold: {reason}."""

    code = 2041
    key = "bad-channel-message"


class Outcome(StrEnum):
    """How a call ended."""

    OK = "ok"
    FAILED = "failed"
    REFUSED = "refused"


class Ack(Canon, frozen=True):
    """The payer's receipt: calls below `low` were answered, `root` chains their answers, `bits` flags later ones."""

    low: Number
    root: Bytes32
    bits: Annotated[int, Meta(ge=0, lt=1 << ACK_FLAGS)]
    paid_florins: Florins  # what the answered calls below `low` were charged together


class Voucher(Canon, frozen=True):
    """So much has been paid in this channel so far, and this call is what it is raised for."""

    v: Annotated[int, Meta(ge=1, le=1)]
    network: str
    chid: Bytes32
    outpoint: Outpoint
    session: Bytes32
    j: Number
    oid: Oid
    cum_florins: Florins
    price_max_florins: Florins
    offer: Bytes32
    req: Bytes32
    ack: Ack
    coin_sig: Sig


class Answer(Canon, frozen=True):
    """The payee's word on one call, under its key: the receipt."""

    v: Annotated[int, Meta(ge=1, le=1)]
    chid: Bytes32
    session: Bytes32
    j: Number
    oid: Oid
    req: Bytes32
    resp: Bytes32
    outcome: Outcome
    charged_florins: Florins
    held_florins: Florins  # W
    owed_florins: Florins  # S
    height: int


class Hello(Canon, frozen=True):
    """The payer asks for a new session and shows its best voucher (`head`; empty: it has paid nothing)."""

    v: Annotated[int, Meta(ge=1, le=1)]
    chid: Bytes32
    nonce: Bytes32
    head: Annotated[bytes, Meta(max_length=VOUCHER_BYTES_MAX)]
    ack: Ack


class ShownCall(Canon, frozen=True):
    """One call as the payee knows it: the voucher that asked for it, and its answer (empty: not answered yet)."""

    voucher: Annotated[bytes, Meta(max_length=VOUCHER_BYTES_MAX)]
    answer: Annotated[bytes, Meta(max_length=ANSWER_BYTES_MAX)]


class HelloBack(Canon, frozen=True):
    """The payee begins a session and shows what it holds, calls from the payer's `ack.low` on; `more`: say it again."""

    v: Annotated[int, Meta(ge=1, le=1)]
    chid: Bytes32
    nonce: Bytes32  # the payer's own, so that an old answer is told from this one
    session: Bytes32
    head: Annotated[bytes, Meta(max_length=VOUCHER_BYTES_MAX)]
    calls: Annotated[tuple[ShownCall, ...], Meta(max_length=CALLS_SHOWN_MAX)]
    more: bool


class Final(Canon, frozen=True):
    """The payer's signature of the last state: what is owed and no more; the rest may open the next channel."""

    v: Annotated[int, Meta(ge=1, le=1)]
    chid: Bytes32
    outpoint: Outpoint
    cum_florins: Florins
    next_script: Annotated[bytes, Meta(max_length=25)]
    coin_sig: Sig


class Pricing(StrEnum):
    """How a call's price comes about."""

    FIXED = "fixed"
    UPTO = "upto"
    METERED = "metered"


class Offer(Canon, frozen=True):
    """What a call of something costs, until a height; signed by the payee's node, its hash stands in the voucher."""

    v: Annotated[int, Meta(ge=1, le=1)]
    network: str
    payee: str
    what: Annotated[str, Meta(min_length=1, max_length=256)]
    price_florins: Florins
    pricing: Pricing
    valid_to: int


class AckStep(Canon, frozen=True):
    """One link of the chain of answers."""

    root: Bytes32
    j: Number
    req: Bytes32
    resp: Bytes32
    outcome: Outcome


class RequestHead(Canon, frozen=True):
    """What a request's hash is of."""

    method: str
    path: str
    query: str
    body_hash: Bytes32
    oid: Oid


class ResponseHead(Canon, frozen=True):
    """What a response's hash is of."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body_hash: Bytes32


def request_hash(*, method: str, path: str, query: str = "", body_hash: bytes, oid: str) -> bytes:
    """The hash of a request, salted by its oid; `body_hash`: SHA-256, for bodies stream."""
    head = RequestHead(method=method, path=path, query=query, body_hash=body_hash, oid=oid)
    return bytes(tagged_hash(Purpose.CHANNEL_REQUEST, canonical(head)))


def response_hash(*, status: int, headers: tuple[tuple[str, str], ...] = (), body_hash: bytes) -> bytes:
    """The hash of a response with the headers that are kept."""
    head = ResponseHead(status=status, headers=headers, body_hash=body_hash)
    return bytes(tagged_hash(Purpose.CHANNEL_RESPONSE, canonical(head)))


def offer_hash(offer: Offer) -> bytes:
    """An offer's name."""
    return bytes(tagged_hash(Purpose.CHANNEL_OFFER, canonical(offer)))


def session_of(payer_nonce: bytes, payee_nonce: bytes) -> bytes:
    """The session that two nonces make."""
    return bytes(tagged_hash(Purpose.CHANNEL_SESSION, payer_nonce + payee_nonce))


def next_root(root: bytes, j: int, req: bytes, resp: bytes, outcome: Outcome) -> bytes:
    """The chain of answers with one more."""
    step = AckStep(root=root, j=j, req=req, resp=resp, outcome=outcome)
    return bytes(tagged_hash(Purpose.CHANNEL_ACK, canonical(step)))


def signed_digest(purpose: Purpose, body: bytes) -> bytes:
    """What a channel's key signs of a message (32 bytes): never a transaction's digest, for those are hashed twice."""
    return hashlib.sha256(tagged(purpose, body)).digest()


def open_message(data: bytes, kind: type[T], *, pubkey: bytes, purpose: Purpose, max_bytes: int) -> tuple[T, Signed]:
    """The body under the key's only signature.

    Raises:
        BadParams: not canonical or too long. BadVoucher: not signed by this key.
    """
    signed = decode_signed(data, max_bytes=max_bytes)
    if len(signed.sigs) != 1 or not is_channel_signature(pubkey, purpose, signed.body, signed.sigs[0]):
        raise BadVoucher(what=kind.__name__, reason="the signature is not that of the channel's key")
    return from_canonical(signed.body, kind, max_bytes=max_bytes), signed


def is_channel_signature(pubkey: bytes, purpose: Purpose, body: bytes, signature: bytes) -> bool:
    """Whether this is the channel key's signature of a message."""
    try:
        return point_of(pubkey).verify(signature, signed_digest(purpose, body), hasher=None)
    except ValueError:
        return False


def open_voucher(data: bytes, payer_key: bytes) -> Voucher:
    """A voucher whose own signature holds; its coin part is checked against the coin by `has_coin_part`.

    Raises:
        BadParams, BadVoucher: it is none, or not this payer's.
    """
    purpose = Purpose.CHANNEL_VOUCHER
    return open_message(data, Voucher, pubkey=payer_key, purpose=purpose, max_bytes=VOUCHER_BYTES_MAX)[0]


def has_coin_part(voucher: Voucher | Final, payer_key: bytes, digest: bytes) -> bool:
    """Whether the coin part is the payer's signature of that state."""
    return is_state_signature(payer_key, digest, voucher.coin_sig)
