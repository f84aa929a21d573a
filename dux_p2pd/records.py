"""DHT records and gossip messages as bytes: what is signed, and how it is opened.

Source: transport_identity.md §3.2 and §3.3.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from common.codec import Canon, canonical, from_canonical
from common.identity.keys import Signer
from common.identity.purposes import Purpose
from common.identity.signed import Signed, decode_signed, sign
from common.identity.stamp import stamped_part
from common.identity.tagged import tagged_hash
from common.rpc.method import RECORD_NAME_CHARS_MAX, RECORD_PAYLOAD_BYTES_MAX
from common.units import Did, Hash32, UnixMs

RECORD_BYTES_MAX = 3500
GOSSIP_PAYLOAD_BYTES_MAX = 8192
GOSSIP_BYTES_MAX = 8600
KEYS_KEPT, SPLIT_KEPT = 4096, 1024  # places and read records in memory: several nodes offer the same one
TTL_S_MAX = 604_800  # of any record; each namespace has a bound of its own

_Name = Annotated[str, Meta(min_length=1, max_length=RECORD_NAME_CHARS_MAX)]
_Short = Annotated[str, Meta(min_length=1, max_length=32)]
_Whole = Annotated[int, Meta(ge=0, le=1 << 53)]


class RecordBody(Canon, frozen=True):
    """[v, ns, name, did, key_seq, seq_ms, ttl_s, payload]; an empty payload withdraws the name."""

    v: Literal[1]
    ns: _Short
    name: _Name
    did: Did
    key_seq: _Whole
    seq_ms: _Whole
    ttl_s: Annotated[int, Meta(ge=1, le=TTL_S_MAX)]
    payload: Annotated[bytes, Meta(max_length=RECORD_PAYLOAD_BYTES_MAX)]

    @property
    def expires_ms(self) -> UnixMs:
        """When it stops to count."""
        return UnixMs(self.seq_ms + self.ttl_s * 1000)


class GossipBody(Canon, frozen=True):
    """[v, topic, did, key_seq, seq_ms, ttl_s, payload, stamp]; the stamp is a nonce, 0 when none was made."""

    v: Literal[1]
    topic: _Short
    did: Did
    key_seq: _Whole
    seq_ms: _Whole
    ttl_s: Annotated[int, Meta(ge=1, le=120)]
    payload: Annotated[bytes, Meta(max_length=GOSSIP_PAYLOAD_BYTES_MAX)]
    stamp: _Whole


@lru_cache(KEYS_KEPT)
def record_key(ns: str, name: str, salt: int = 0) -> Hash32:
    """The place of a name in the DHT; with a salt, the place of a copy that no neighbour of the first one holds."""
    after = b"\x00" + bytes([salt]) if salt else b""
    return tagged_hash(Purpose.RECORD_KEY, ns.encode() + b"\x00" + name.encode() + after)


def stamped_record(body: RecordBody) -> bytes:
    """What a stranger's work for a record is done over: the signer and the whole body."""
    return stamped_part(body.did, Purpose.RECORD, canonical(body))


def sign_record(body: RecordBody, key: Signer) -> bytes:
    """The record as it is stored."""
    return canonical(sign(key, Purpose.RECORD, body))


@lru_cache(SPLIT_KEPT)
def split_record(data: bytes) -> tuple[Signed, RecordBody]:
    """Envelope and body, the signature not yet verified.

    Raises:
        BadParams: too long or not canonical.
    """
    signed = decode_signed(data, max_bytes=RECORD_BYTES_MAX)
    return signed, from_canonical(signed.body, RecordBody, max_bytes=RECORD_BYTES_MAX)


class Offered(msgspec.Struct, frozen=True):
    """A record as it is offered: its bytes, what they decode to, and where it is to stand."""

    data: bytes
    signed: Signed
    body: RecordBody
    salt: int
    stamp: int
    key: Hash32

    @classmethod
    def of(cls, data: bytes, salt: int, stamp: int, body: RecordBody | None = None) -> Offered:
        """Decoded, nothing verified yet.

        Raises:
            BadParams: too long or not canonical.
        """
        signed, found = split_record(data)
        found = body or found
        return cls(data, signed, found, salt, stamp, record_key(found.ns, found.name, salt))


def sign_gossip(body: GossipBody, key: Signer) -> bytes:
    """The message as it travels."""
    return canonical(sign(key, Purpose.GOSSIP, body))


def split_gossip(data: bytes) -> tuple[Signed, GossipBody]:
    """Envelope and body, the signature not yet verified.

    Raises:
        BadParams: too long or not canonical.
    """
    signed = decode_signed(data, max_bytes=GOSSIP_BYTES_MAX)
    return signed, from_canonical(signed.body, GossipBody, max_bytes=GOSSIP_BYTES_MAX)


def message_id(envelope: bytes) -> Hash32:
    """The id of a message: over the whole envelope, so that a copy with another signature has another id."""
    return tagged_hash(Purpose.GOSSIP_ID, envelope)
