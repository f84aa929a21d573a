"""Content-addressed blobs: the name of bytes is the hash of a tree over their chunks.

A blob's manifest lists the hashes of its 256 KiB chunks; the blob's id is the manifest's hash. Whoever holds the id can
check the manifest, and whoever holds the manifest can check each chunk alone, whoever sent it. A storage receipt is a
signed promise to keep a blob until a height.

Source: settled.md 11, network.md §6.
"""

from __future__ import annotations

import re
from typing import Literal, NewType

from common.codec import Canon, canonical, from_canonical
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import BlockHeight, Did, Hash32, UnixMs

BlobId = NewType("BlobId", str)  # 64 hex digits

CHUNK_BYTES = 262_144
BLOB_BYTES_MAX = 1 << 30  # 4096 chunks, a manifest of 140 KB
MANIFEST_BYTES_MAX = 160_000
RECEIPT_BYTES_MAX = 512

_ID_FORM = re.compile(r"[0-9a-f]{64}")


class Manifest(Canon, frozen=True):
    """[size, chunk hashes]."""

    size_bytes: int
    chunks: tuple[bytes, ...]


class StorageReceipt(Canon, frozen=True):
    """[v, blob, holder, key_seq, until, at]: the holder promises to keep the blob until the height."""

    v: Literal[1]
    blob: bytes
    holder: Did
    key_seq: int
    until_height: BlockHeight
    at_ms: UnixMs


def chunk_hash(chunk: bytes) -> Hash32:
    """The hash of one chunk."""
    return tagged_hash(Purpose.BLOB_CHUNK, chunk)


def manifest_of(data: bytes) -> Manifest:
    """The manifest of bytes held in memory."""
    starts = range(0, len(data), CHUNK_BYTES)
    return Manifest(
        size_bytes=len(data), chunks=tuple(chunk_hash(data[start : start + CHUNK_BYTES]) for start in starts)
    )


def id_of_manifest(manifest: Manifest) -> BlobId:
    """The blob's name."""
    return BlobId(tagged_hash(Purpose.BLOB_NODE, canonical(manifest)).hex())


def blob_id(data: bytes) -> BlobId:
    """The name of bytes held in memory."""
    return id_of_manifest(manifest_of(data))


def chunk_size(manifest: Manifest, index: int) -> int:
    """Bytes in chunk `index`: all are full but the last."""
    return min(CHUNK_BYTES, manifest.size_bytes - index * CHUNK_BYTES)


def open_manifest(data: bytes, blob: str) -> Manifest:
    """The manifest in bytes, when it is this blob's.

    Raises:
        BadParams: not canonical, too large, of another blob, or its chunk count does not fit its size.
    """
    manifest = from_canonical(data, Manifest, max_bytes=MANIFEST_BYTES_MAX)
    if id_of_manifest(manifest) != blob:
        raise BadParams(detail="the manifest is another blob's")
    if not 0 <= manifest.size_bytes <= BLOB_BYTES_MAX or len(manifest.chunks) != -(-manifest.size_bytes // CHUNK_BYTES):
        raise BadParams(detail="the manifest's size and chunks do not fit")
    return manifest


def check_blob_id(text: str) -> BlobId:
    """The id, when it has the form of one.

    Raises:
        BadParams: not 64 lower-case hex digits.
    """
    if not _ID_FORM.fullmatch(text):
        raise BadParams(detail=f"a blob id has 64 hex digits, got {text[:80]!r}")
    return BlobId(text)
