"""The node record: where a node is reached, with which transport keys, signed by its current key for at most 48 hours.

And the coin link: the proof that one hand holds a DID's key and a coin key.

Source: transport_identity.md §2.4 (end), §1.4.
"""

from __future__ import annotations

from typing import Literal

import coincurve

from common.codec import Canon, canonical, from_canonical
from common.identity.errors import BadRecord, BadSignature
from common.identity.keys import Signer, check_key, verify
from common.identity.log import Log
from common.identity.purposes import Purpose
from common.identity.signed import Signed, open_signed
from common.identity.tagged import tagged_hash
from common.units import Did, UnixMs

RECORD_BYTES_MAX = 1024
RECORD_LIFE_MS_MAX = 48 * 3_600_000
REISSUE_MS = 12 * 3_600_000  # a record is made anew this often
FUTURE_MS = 600_000
TRANSPORT_KEYS_MAX = 2
ENDPOINTS_MAX = 8
ENDPOINT_CHARS_MAX = 64
RELAYS_MAX = 3
MAILBOX_KEYS_MAX = 2
COIN_LINK_BYTES_MAX = 160


class CoinLink(Canon, frozen=True):
    """[did, coin_pubkey, at]: signed by the DID's key and, over the same tagged hash, by the coin key (DER, low S)."""

    did: Did
    coin_pubkey: bytes
    at_ms: UnixMs


class NodeRecord(Canon, frozen=True):
    """[v, did, key_seq, seq_ms, issued, expires, transport_keys, endpoints, relays, mailbox_keys, coin_link]."""

    v: Literal[1]
    did: Did
    key_seq: int
    seq_ms: UnixMs
    issued_ms: UnixMs
    expires_ms: UnixMs
    transport_keys: tuple[bytes, ...]
    endpoints: tuple[str, ...]
    relays: tuple[Did, ...]
    mailbox_keys: tuple[bytes, ...]
    coin_link: Signed | None


def open_record(signed: Signed, log: Log, *, now_ms: int) -> NodeRecord:
    """The record in an envelope, checked against its owner's log: signed by the current key, unexpired, within limits.

    Raises:
        BadSignature, BadParams, BadKey, BadRecord: what is wrong with it.
    """
    record = open_signed(signed, NodeRecord, key=log.tip.key, purpose=Purpose.NODE_RECORD, max_bytes=RECORD_BYTES_MAX)
    fault = _fault(record, log, now_ms)
    if fault:
        raise BadRecord(did=log.did, detail=fault)
    for key in record.transport_keys:
        check_key(key)
    return record


def _fault(record: NodeRecord, log: Log, now_ms: int) -> str | None:
    if record.did != log.did or record.key_seq != log.tip.seq:
        return "it names another DID or another key"
    if log.ended:
        return "its owner has closed this name"
    if record.issued_ms > now_ms + FUTURE_MS or record.seq_ms > now_ms + FUTURE_MS:
        return "it is dated in the future"
    if record.expires_ms <= now_ms:
        return "it has expired"
    if not record.issued_ms < record.expires_ms <= record.issued_ms + RECORD_LIFE_MS_MAX:
        return "it lives longer than 48 hours"
    return _list_fault(record)


def _list_fault(record: NodeRecord) -> str | None:
    if not 1 <= len(record.transport_keys) <= TRANSPORT_KEYS_MAX:
        return f"it has {len(record.transport_keys)} transport keys, 1 to {TRANSPORT_KEYS_MAX} are allowed"
    if len(record.endpoints) > ENDPOINTS_MAX or any(len(text) > ENDPOINT_CHARS_MAX for text in record.endpoints):
        return "too many or too long endpoints"
    if len(record.relays) > RELAYS_MAX or len(record.mailbox_keys) > MAILBOX_KEYS_MAX:
        return "too many relays or mailbox keys"
    return None


def link_coin(key: Signer, coin_signature: bytes, link: CoinLink) -> Signed:
    """The envelope of a coin link; the coin key's owner (flopd) has made its signature over `coin_link_hash`."""
    body = canonical(link)
    return Signed(body=body, sigs=(key.sign(Purpose.COIN_LINK, body), coin_signature))


def coin_link_hash(link: CoinLink) -> bytes:
    """The 32 bytes that the coin key signs."""
    return tagged_hash(Purpose.COIN_LINK, canonical(link))


def open_coin_link(signed: Signed, log: Log, key_seq: int) -> CoinLink:
    """The link, both signatures verified: control of a coin key, never authority over the DID.

    Raises:
        BadSignature, BadParams: what is wrong with it.
    """
    link = from_canonical(signed.body, CoinLink, max_bytes=COIN_LINK_BYTES_MAX)
    key = log.key_of(key_seq)
    if len(signed.sigs) != 2 or key is None or link.did != log.did:  # noqa: PLR2004 - DID key and coin key
        raise BadSignature(purpose=Purpose.COIN_LINK.value)
    verify(key, Purpose.COIN_LINK, signed.body, signed.sigs[0])
    if not _coin_signed(link, signed.sigs[1]):
        raise BadSignature(purpose=Purpose.COIN_LINK.value)
    return link


def _coin_signed(link: CoinLink, signature: bytes) -> bool:
    try:
        return coincurve.PublicKey(link.coin_pubkey).verify(signature, coin_link_hash(link), hasher=None)
    except ValueError:
        return False
