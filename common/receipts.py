"""What nodes sign about work, money, health and offers: the nouns of the market.

Every struct here is canonical: it is signed as it stands, under a purpose of its own (SETTLED_RECEIPT, RATING,
HEARTBEAT, REGISTRATION, SERVICE), and travels inside an `Attested` envelope that names the signer's key. This module
knows the shapes and the laws that a struct can be checked for alone; whether a signature is right, a payment is on the
chain or a node is alive, it does not know.

Source: settled.md 10, 36; mechanisms.md §1.1, §2.2; transport_identity.md §2.1; the specification's node and service
schemas (dux_os_architecture.md).
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

from msgspec import Meta

from common.codec import Canon, canonical, from_canonical
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import BPS, BlockHeight, Did, Florins, Hash32, UnixMs, tax_of
from common.work import Limits

RECEIPT_BYTES_MAX = 1_024  # body; fits a gossip message together with the contract it settles
RATING_BYTES_MAX = 2_048  # a review of 500 characters, each up to four bytes
HEARTBEAT_BYTES_MAX = 512
NODE_BYTES_MAX = 2_048
SERVICE_BYTES_MAX = 2_560  # with its envelope below the DHT's 3 KiB per record
ATTESTED_BYTES_MAX = 3_072

REVIEW_CHARS_MAX = 500
STARS_MIN, STARS_MAX = 1, 5

Hex64 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
DidText = Annotated[Did, Meta(pattern="^did:dux:[a-z2-7]{52}$")]
Short = Annotated[str, Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
Key33 = Annotated[bytes, Meta(min_length=33, max_length=33)]
CoinSignature = Annotated[bytes, Meta(max_length=73)]  # DER with the hash type behind it
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
OptionalBytes32 = Annotated[bytes, Meta(max_length=32)]  # 32 bytes, or none for «there is none»

C = TypeVar("C", bound=Canon)


class Attested(Canon, frozen=True):
    """A signed body as it travels: the exact bytes, whose key, and the signature over the tagged bytes."""

    body: bytes
    did: DidText
    key_seq: Count
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


def attested(data: bytes) -> Attested:
    """The envelope in bytes; nothing in it is checked yet.

    Raises:
        BadParams: too long, or not in its one byte form.
    """
    return from_canonical(data, Attested, max_bytes=ATTESTED_BYTES_MAX)


def body_of(envelope: Attested, kind: type[C], max_bytes: int) -> C:
    """The struct in an envelope; the signature is *not* checked here.

    Raises:
        BadParams: too long, another type, or not in its one byte form.
    """
    return from_canonical(envelope.body, kind, max_bytes=max_bytes)


def opened(data: bytes, kind: type[C], *, body_bytes_max: int) -> tuple[Attested, C]:
    """The envelope in bytes and the struct inside it; the signature is *not* checked here.

    Raises:
        BadParams: as `attested` and `body_of`.
    """
    envelope = attested(data)
    return envelope, body_of(envelope, kind, body_bytes_max)


def form_fault(value: Canon, max_bytes: int) -> str | None:
    """Why others would refuse a struct that was made here: a field out of its bounds, or too long altogether."""
    try:
        from_canonical(canonical(value), type(value), max_bytes=max_bytes)
    except BadParams as error:
        return error.message
    return None


class Outcome(StrEnum):
    """How a contract ended on the chain."""

    RELEASED = "released"  # buyer and seller agreed on the payment
    AWARDED = "awarded"  # arbiters decided; the gross may be anything from 0 to the price
    REFUNDED = "refunded"  # the buyer took all back after the contract's height T
    CANCELLED = "cancelled"  # both agreed that nothing is paid


class SettledReceipt(Canon, frozen=True):
    """A party's or an arbiter's signed statement that a contract ended on the chain, and how."""

    network: Hex64
    cid: Bytes32
    buyer: DidText
    seller: DidText
    service_id: Short
    price_florins: Florins
    gross_florins: Florins
    tax_florins: Florins
    txid: Hex64
    height: Annotated[BlockHeight, Meta(ge=0, lt=2**31)]
    outcome: Outcome
    output_hash: OptionalBytes32
    signer: DidText
    at_ms: UnixMs


class LotKeys(Canon, frozen=True):
    """The coin keys of a contract's two parties, as they stand in the script of its lot."""

    buyer: Key33
    seller: Key33


class KeyedReceipt(SettledReceipt, frozen=True):
    """Version 2: a party's receipt that its coin key of the contract has signed, too (`common.receipt_keys`)."""

    lot: LotKeys
    lot_signature: CoinSignature  # by the signer's key of the two, over a `LotWord`


def receipt_in(envelope: Attested) -> SettledReceipt:
    """The receipt in an envelope, of either version; no signature is checked here.

    Raises:
        BadParams: it is neither.
    """
    try:
        return body_of(envelope, KeyedReceipt, RECEIPT_BYTES_MAX)
    except BadParams:
        return body_of(envelope, SettledReceipt, RECEIPT_BYTES_MAX)


def opened_receipt(data: bytes) -> tuple[Attested, SettledReceipt]:
    """The envelope in bytes and the receipt inside it, of either version; no signature is checked here.

    Raises:
        BadParams: as `attested` and `receipt_in`.
    """
    envelope = attested(data)
    return envelope, receipt_in(envelope)


def without_key(receipt: SettledReceipt) -> SettledReceipt:
    """The same receipt as version 1 says it: for a key of which the chain has shown nothing yet."""
    return SettledReceipt(**{name: getattr(receipt, name) for name in SettledReceipt.__struct_fields__})


def receipt_fault(
    receipt: SettledReceipt, network: str, taxes_bps: Collection[int], arbiters: Collection[Did] = ()
) -> str | None:
    """Why this receipt cannot be true whatever the chain says, or None.

    `taxes_bps`: the rates of all parameter sets so far; `arbiters`: those the network lists.
    """
    if receipt.network != network:
        return "it belongs to another network"
    if receipt.buyer == receipt.seller:
        return "buyer and seller are one"
    if receipt.signer not in (receipt.buyer, receipt.seller, *arbiters):
        return "its signer is neither buyer nor seller nor one of the network's arbiters"
    if not 0 <= receipt.gross_florins <= receipt.price_florins:
        return "the gross is not between 0 and the price"
    if receipt.tax_florins not in {tax_of(receipt.gross_florins, rate) for rate in taxes_bps}:
        return "the tax is not the network's part of the gross"
    return _outcome_fault(receipt)


def _outcome_fault(receipt: SettledReceipt) -> str | None:
    """A release pays something, a refund and a cancel pay nothing, an award may do either."""
    pays = receipt.gross_florins > 0
    if receipt.outcome is Outcome.RELEASED and not pays:
        return "a release pays something"
    if receipt.outcome in (Outcome.REFUNDED, Outcome.CANCELLED) and pays:
        return "a refund pays nothing"
    return None


class ReceiptFacts(Canon, frozen=True):
    """What all receipts of one contract's end must agree on: all but who signed, when, and the output's hash.

    The output's hash is left out, because a buyer that never got the result cannot know it.
    """

    cid: bytes
    buyer: Did
    seller: Did
    service_id: str
    price_florins: Florins
    gross_florins: Florins
    tax_florins: Florins
    txid: str
    height: BlockHeight
    outcome: Outcome


def facts_id(receipt: SettledReceipt) -> Hash32:
    """The name of a receipt's facts: equal for all who tell the same."""
    fields = {name: getattr(receipt, name) for name in ReceiptFacts.__struct_fields__}
    return tagged_hash(Purpose.RECEIPT_FACTS, canonical(ReceiptFacts(**fields)))


class Rating(Canon, frozen=True):
    """A buyer's stars and words about a service, citing the contract that it paid for."""

    network: Hex64
    service_id: Short
    cid: Bytes32
    rater: DidText
    stars: Annotated[int, Meta(ge=STARS_MIN, le=STARS_MAX)]
    review: Annotated[str, Meta(max_length=REVIEW_CHARS_MAX)]
    at_ms: UnixMs


class RatingNotice(Canon, frozen=True):
    """What a rating travels as: itself, and the rater's own receipt that it cites (both `Attested` bytes)."""

    rating: bytes
    receipt: bytes


class Heartbeat(Canon, frozen=True):
    """A node's signed «I am here», tied to a block that it has seen, with its load."""

    network: Hex64
    did: DidText
    at_ms: UnixMs
    height: Annotated[BlockHeight, Meta(ge=0, lt=2**31)]
    block_hash: Hex64
    uptime_s: Count
    load_milli: tuple[Count, Count, Count]  # load average over 1, 5 and 15 minutes, thousandths
    memory_used_bps: Annotated[int, Meta(ge=0, le=BPS)]
    disk_used_bps: Annotated[int, Meta(ge=0, le=BPS)]
    memory_available_mb: Count
    cpu_available: Count


class NodeInfo(Canon, frozen=True):
    """Version 1 of what a node says about itself: the specification's schema and the flags of its command line."""

    network: Hex64
    did: DidText
    at_ms: UnixMs
    withdrawn: bool  # a deregistered node leaves this behind, so that an older record does not come back
    wallet_address: Annotated[str, Meta(max_length=64)]
    ip_address: Annotated[str, Meta(max_length=45)]
    port: Annotated[int, Meta(ge=0, lt=65_536)]
    hostname: Annotated[str, Meta(max_length=253)]
    os_version: Short
    duxos_version: Short
    cpu_cores: Annotated[int, Meta(ge=0, le=65_536)]
    memory_mb: Count
    storage_gb: Count
    gpu_model: Annotated[str, Meta(max_length=128)]  # empty: no GPU is offered
    region: Annotated[str, Meta(max_length=32)]
    capabilities: Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=32)]


class Hardware(Canon, frozen=True):
    """What a node says about its machine beyond version 1 of the node schema; empty and 0: not told."""

    cpu_model: Annotated[str, Meta(max_length=96)]
    cpu_arch: Annotated[str, Meta(max_length=16)]
    cpu_mhz: Count
    kernel: Short
    gpu_memory_mb: Count
    tpm: Annotated[str, Meta(max_length=8)]  # `2.0`, `1.2`; empty: none


class NodeInfo2(Canon, frozen=True):
    """Version 2 of a node's description: what version 1 says, and its machine closer. All are read for ever."""

    version: Literal[2]
    info: NodeInfo
    hardware: Hardware


class NodeInfo3(Canon, frozen=True):
    """Version 3: also the key that its looks at others are proved with; empty: it looks at nobody."""

    version: Literal[3]
    info: NodeInfo
    hardware: Hardware
    look_key: OptionalBytes32


NO_HARDWARE = Hardware(cpu_model="", cpu_arch="", cpu_mhz=0, kernel="", gpu_memory_mb=0, tpm="")


def described(envelope: Attested) -> NodeInfo3:
    """A node's description of any version, as version 3; the signature is *not* checked here.

    Raises:
        BadParams: it is none.
    """
    try:
        return body_of(envelope, NodeInfo3, NODE_BYTES_MAX)
    except BadParams as error:
        return _described_earlier(envelope, error)


def _described_earlier(envelope: Attested, error: BadParams) -> NodeInfo3:
    try:
        second = body_of(envelope, NodeInfo2, NODE_BYTES_MAX)
        return NodeInfo3(version=3, info=second.info, hardware=second.hardware, look_key=b"")
    except BadParams:
        try:
            info = body_of(envelope, NodeInfo, NODE_BYTES_MAX)
        except BadParams:
            raise error from None
    return NodeInfo3(version=3, info=info, hardware=NO_HARDWARE, look_key=b"")


def opened_node(data: bytes) -> tuple[Attested, NodeInfo]:
    """The envelope in bytes and the description inside it, of any version; the signature is *not* checked here.

    Raises:
        BadParams: as `attested` and `described`.
    """
    envelope = attested(data)
    return envelope, described(envelope).info


def wallet_fault(address: str) -> str | None:
    """Why this cannot be a wallet address whatever the network, saying what to write instead; or None."""
    if address.lower().startswith("0x"):
        return (
            f"{address[:12]}… is an Ethereum-style address; Dux OS pays in Flopcoin. Write a Flopcoin address "
            "instead: `duxnet wallet address` makes one"
        )
    if not address:
        return "it has no wallet address: `duxnet wallet address` makes one"
    return None


class ServiceRecord(Canon, frozen=True):
    """A provider's signed offer.

    `reputation` and `total_calls` of the specification's schema are not claimed here: every node counts them itself,
    from ratings and receipts.
    """

    network: Hex64
    service_id: Short
    slug: Annotated[str, Meta(max_length=48)]
    provider: DidText
    name: Annotated[str, Meta(max_length=96)]
    description: Annotated[str, Meta(max_length=1_000)]
    version: Annotated[str, Meta(max_length=32)]
    price_florins: Florins
    tags: Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=12)]
    endpoint: Annotated[str, Meta(max_length=128)]
    rate_limit: Annotated[int, Meta(ge=0, le=1_000_000)]  # calls per buyer per minute; 0: no limit
    kind: Annotated[str, Meta(max_length=16)]
    package: OptionalBytes32  # blob id; empty: the provider runs something of its own
    entry: Annotated[str, Meta(max_length=128)]
    limits: Limits  # what one call may use; the price includes it
    min_buyer_reputation_bps: Annotated[int, Meta(ge=0, le=BPS)]
    developer: Annotated[str, Meta(max_length=60)]  # a DID, or empty: the provider wrote it itself
    royalty_bps: Annotated[int, Meta(ge=0, le=BPS)]
    result_lock: bool  # contracts sell the result's key; False: the buyer reads the result before it pays
    created_ms: UnixMs
    updated_ms: UnixMs
    withdrawn: bool


class ServiceName(Canon, frozen=True):
    """What a service's id is made of."""

    provider: DidText
    slug: str


def service_id_of(provider: Did, slug: str) -> str:
    """A service's id: 32 letters and digits that only this provider's slug gives, and that updates keep."""
    digest = tagged_hash(Purpose.SERVICE_ID, canonical(ServiceName(provider=provider, slug=slug)))
    return base64.b32encode(digest[:20]).decode("ascii").lower()
