"""Key events: what happened to a node's signing keys, each signed by the keys that it concerns.

An inception names the first key and commits to the next one and to a recovery key by their hashes. A rotation reveals
the next key. A recovery reveals the recovery key and starts anew. An end closes the name for good. This file builds and
opens single events; whether a chain of them is valid is decided in `log.py`.

Source: transport_identity.md §2.2.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from common.codec import Canon, canonical, from_canonical
from common.identity.keys import KEY_BYTES, SIGNATURE_BYTES, Signer, check_key
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.identity.tagged import tagged_hash
from common.units import Hash32, UnixMs

Kind = Literal["icp", "rot", "rec", "end"]

EVENT_BYTES_MAX = 512  # the largest, a recovery, has about 330 with its envelope
SEQ_MAX = 255
AT_MS_MAX = 1 << 53
NONCE_MAX = 1 << 53


class Event(Canon, frozen=True):
    """[v, kind, seq, prev, key, next, recover, at, nonce, flags]; at in Unix ms."""

    v: Literal[1]
    kind: Kind
    seq: Annotated[int, Meta(ge=0, le=SEQ_MAX)]
    prev: bytes
    key: bytes
    next: bytes
    recover: bytes
    at_ms: Annotated[UnixMs, Meta(ge=0, le=AT_MS_MAX)]
    nonce: Annotated[int, Meta(ge=0, le=NONCE_MAX)]
    flags: int


def key_hash(key: bytes) -> Hash32:
    """The commitment to a key that is not shown yet."""
    return tagged_hash(Purpose.NEXT_KEY, key)


def event_id(signed: Signed) -> Hash32:
    """The id of an event: the hash of its body; signatures do not enter it."""
    return tagged_hash(Purpose.EVENT, signed.body)


def open_event(signed: Signed) -> Event:
    """The event in an envelope, its size and key checked, its signatures not yet.

    Raises:
        BadParams: too long or not canonical.
        BadKey: its key is no good point.
    """
    event = from_canonical(signed.body, Event, max_bytes=EVENT_BYTES_MAX)
    check_key(event.key)
    return event


def sign_event(event: Event, key: Signer, recovery: Signer | None = None) -> Signed:
    """The envelope: the key's signature, and for rec and end the recovery key with its signature."""
    body = canonical(event)
    sigs = [key.sign(Purpose.EVENT, body)]
    if recovery is not None:
        sigs.append(recovery.public + recovery.sign(Purpose.EVENT, body))
    return Signed(body=body, sigs=tuple(sigs))


def split_recovery(signature: bytes) -> tuple[bytes, bytes] | None:
    """The revealed recovery key and its signature, or None when the length is wrong."""
    if len(signature) != KEY_BYTES + SIGNATURE_BYTES:
        return None
    return signature[:KEY_BYTES], signature[KEY_BYTES:]


def inception(key: bytes, next_key: bytes, recovery_key: bytes, at_ms: int, nonce: int = 0) -> Event:
    """The event that starts a name; with another nonce it is another name."""
    return Event(
        v=1,
        kind="icp",
        seq=0,
        prev=b"",
        key=key,
        next=key_hash(next_key),
        recover=key_hash(recovery_key),
        at_ms=UnixMs(at_ms),
        nonce=nonce,
        flags=0,
    )


def rotation(envelope: Signed, before: Event, key: bytes, next_key: bytes, at_ms: int) -> Event:
    """The event after `before` (in its envelope) that brings the key committed to into use."""
    return _after(envelope, before, "rot", key, at_ms, next_hash=key_hash(next_key), recover=before.recover)


def recovery(envelope: Signed, before: Event, keys: tuple[bytes, bytes], recovery_key: bytes, at_ms: int) -> Event:
    """The event after `before` that starts anew with `keys`, the current and the next, and another recovery key."""
    key, next_key = keys
    recover = key_hash(recovery_key)
    return _after(envelope, before, "rec", key, at_ms, next_hash=key_hash(next_key), recover=recover)


def ending(envelope: Signed, before: Event, key: bytes, at_ms: int) -> Event:
    """The event after `before` that closes the name for good."""
    return _after(envelope, before, "end", key, at_ms, next_hash=b"", recover=b"")


def _after(
    envelope: Signed, before: Event, kind: Kind, key: bytes, at_ms: int, *, next_hash: bytes, recover: bytes
) -> Event:
    return Event(
        v=1,
        kind=kind,
        seq=before.seq + 1,
        prev=event_id(envelope),
        key=key,
        next=next_hash,
        recover=recover,
        at_ms=UnixMs(at_ms),
        nonce=0,
        flags=0,
    )
