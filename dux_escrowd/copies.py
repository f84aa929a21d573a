"""Encrypted copies of this node's contracts, kept by those named in them, and what a restored node gets back from them.

Promise: whoever keeps a copy learns nothing from it but its size; it is found under a tag that only the owner's phrase
gives (one for each number of a contract key), and opened with a key that only the phrase gives. A copy holds all that
the contract needs: documents, statements, facts, r. K and coin keys are not in it: the wallet derives them again.

Pure but for the random nonce that is handed in. Source: escrow_protocol.md §10.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import MsgspecError, Struct, json

from common.contracts.peer_escrow import COPY_BYTES_MAX
from common.errors import BadParams
from dux_escrowd.model import Lot
from dux_escrowd.replay import LoggedFact
from dux_escrowd.store import Agreed

POINTER_AGAIN_MS = 43_200_000  # a quarter of what a pointer lives
GAP = 200  # numbers without a copy after which no more are looked for: offers and seats that came to nothing use some
NONCE_BYTES = 12
OPENED_BYTES_MAX = 1_048_576  # an honest copy has a few hundred kilobytes before it is packed
LARGE_KINDS = ("offer", "wish", "case")  # left out where a copy would be too large: the peers have them


class Document(Struct, frozen=True):
    """One document of a contract."""

    kind: str
    owner: str
    body: bytes


class Copy(Struct, frozen=True, kw_only=True):
    """All of one contract that a restored node needs; `nonce` is that of its key in the wallet."""

    row: Agreed
    nonce: bytes
    documents: tuple[Document, ...]
    statements: tuple[bytes, ...]
    births: tuple[Lot, ...]
    facts: tuple[LoggedFact, ...]
    highest: int = -1  # number of a contract's or channel's key in use when the copy was made


def tag_of(key: bytes, number: int, kind: bytes = b"tag") -> bytes:
    """Where the copy of the contract (or of what else the kind names) with this key number is found (32 bytes)."""
    return hmac.new(key, kind + number.to_bytes(4, "big"), hashlib.sha256).digest()


def locked(plain: bytes, key: bytes, tag: bytes, nonce: bytes) -> bytes:
    """The bytes, encrypted under their tag."""
    return nonce + _lock(key).encrypt(nonce, plain, tag)


def unlocked(body: bytes, key: bytes, tag: bytes) -> bytes:
    """What was encrypted under this tag.

    Raises:
        BadParams: it is not ours, or was changed.
    """
    try:
        return _lock(key).decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], tag)
    except (InvalidTag, ValueError) as error:
        raise BadParams(detail="no copy of this node: it does not open") from error


def _lock(key: bytes) -> AESGCM:
    return AESGCM(hmac.new(key, b"seal", hashlib.sha256).digest())


def sealed(copy: Copy, key: bytes, tag: bytes, nonce: bytes) -> bytes:
    """The copy, packed and encrypted under its tag; without its large documents where it would not fit a message.

    Raises:
        BadParams: it is too large all the same.
    """
    for left in (copy, _smaller(copy)):
        body = locked(zlib.compress(json.encode(left), 9), key, tag, nonce)
        if len(body) <= COPY_BYTES_MAX:
            return body
    raise BadParams(detail=f"the copy of contract {copy.row.contract_id} has {len(body)} bytes")


def _smaller(copy: Copy) -> Copy:
    kept = tuple(document for document in copy.documents if document.kind not in LARGE_KINDS)
    return Copy(
        row=copy.row, nonce=copy.nonce, documents=kept, statements=copy.statements, births=copy.births,
        facts=copy.facts, highest=copy.highest,
    )  # fmt: skip


def opened(body: bytes, key: bytes, tag: bytes) -> Copy:
    """What was sealed.

    Raises:
        BadParams: it is not ours, was changed, or is no copy.
    """
    packed = unlocked(body, key, tag)
    try:
        plain = zlib.decompressobj().decompress(packed, OPENED_BYTES_MAX)
        return json.decode(plain, type=Copy)
    except (zlib.error, MsgspecError) as error:
        raise BadParams(detail=f"no copy of this node: {error}") from error
