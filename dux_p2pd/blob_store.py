"""Blobs on this node's disk: files by the hash of their content, verified chunk by chunk as they come.

Promise: a chunk is written only after its hash has been checked, and read back only where its bit is set; a blob that
was promised to somebody is not thrown away before its time; the quota holds, the least recently used blobs make room.
It does not know where chunks come from.

Source: settled.md 11, network.md §6.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from common.blobs import (
    CHUNK_BYTES,
    BlobId,
    Manifest,
    check_blob_id,
    chunk_hash,
    chunk_size,
    id_of_manifest,
    open_manifest,
)
from common.clock import Clock
from common.codec import canonical
from common.contracts.p2p import BlobStat
from common.contracts.p2p_errors import BlobMissing, BlobsFull, BlobTooLarge
from common.units import UnixMs
from dux_p2pd.store import BlobRow, BlobTable

_UNFINISHED = "incoming"


class BlobStore:
    """Blobs under one directory."""

    def __init__(self, folder: Path, table: BlobTable, *, clock: Clock, quota_bytes: int, blob_bytes_max: int) -> None:
        self._folder = folder
        self._table = table
        self._clock = clock
        self._quota_bytes = quota_bytes
        self._blob_bytes_max = blob_bytes_max
        self._uploads = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.glob(f"{_UNFINISHED}-*"):
            left.unlink()

    def _path(self, blob: str) -> Path:
        return self._folder / blob[:2] / blob

    # what is here

    def stat(self, blob: str) -> BlobStat:
        """What is here of a blob.

        Raises:
            BadParams: not the form of an id.
        """
        row = self._table.get(check_blob_id(blob))
        if row is None:
            return BlobStat(id=blob, known=False, complete=False, size_bytes=0, chunks_here=0, keep_until_ms=None)
        here = sum(byte.bit_count() for byte in row.have)
        until = row.keep_until_ms if row.keep_until_ms > self._clock.unix_ms() else None
        return BlobStat(
            id=blob, known=True, complete=row.complete, size_bytes=row.size_bytes, chunks_here=here, keep_until_ms=until
        )

    def totals(self) -> tuple[int, int]:
        """Number of blobs and their bytes."""
        return self._table.totals()

    def kept(self, count: int) -> list[tuple[str, int]]:
        """Ids and sizes of whole blobs that were promised to somebody."""
        return self._table.kept(self._clock.unix_ms(), count)

    def manifest(self, blob: str) -> tuple[Manifest, bytes] | None:
        """The manifest, and one bit for each chunk that is here."""
        row = self._table.get(blob)
        return (open_manifest(row.manifest, blob), row.have) if row else None

    def missing(self, blob: str) -> list[int]:
        """The chunks of a begun blob that are not here."""
        found = self.manifest(blob)
        if found is None:
            return []
        manifest, have = found
        return [index for index in range(len(manifest.chunks)) if not has_chunk(have, index)]

    def read_chunk(self, blob: str, index: int) -> bytes | None:
        """One chunk's bytes, or None when it is not here."""
        found = self.manifest(blob)
        if found is None or not 0 <= index < len(found[0].chunks) or not has_chunk(found[1], index):
            return None
        with self._path(blob).open("rb") as file:
            file.seek(index * CHUNK_BYTES)
            return file.read(chunk_size(found[0], index))

    def read(self, blob: str) -> Iterator[bytes]:
        """All chunks of a complete blob, in order.

        Raises:
            BlobMissing: not all of it is here.
        """
        row = self._table.get(check_blob_id(blob))
        if row is None or not row.complete:
            raise BlobMissing(blob=blob, providers=0)
        self._table.used(blob, self._clock.unix_ms())
        return self._chunks(blob, row)

    def _chunks(self, blob: str, row: BlobRow) -> Iterator[bytes]:
        with self._path(blob).open("rb") as file:
            for _ in range(-(-row.size_bytes // CHUNK_BYTES)):
                yield file.read(CHUNK_BYTES)

    # what comes in

    async def put(self, source: AsyncIterator[bytes], keep_s: int) -> BlobId:
        """Keep bytes as they stream in, for at least `keep_s` seconds; the id of what came.

        Raises:
            BlobTooLarge, BlobsFull: nothing is kept.
        """
        self._uploads += 1
        part = self._folder / f"{_UNFINISHED}-{self._uploads}"
        try:
            manifest = await self._receive(source, part)
            blob = id_of_manifest(manifest)
            self._make_room(0 if self._table.get(blob) else manifest.size_bytes)
            path = self._path(blob)
            path.parent.mkdir(exist_ok=True)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        self._keep(blob, manifest, all_chunks(len(manifest.chunks)), self._clock.unix_ms() + keep_s * 1000)
        return blob

    async def _receive(self, source: AsyncIterator[bytes], part: Path) -> Manifest:
        hashes: list[bytes] = []
        size, rest = 0, bytearray()
        with part.open("wb") as file:
            async for data in source:
                rest += data
                size += len(data)
                if size > self._blob_bytes_max:
                    raise BlobTooLarge(size_bytes=size, limit_bytes=self._blob_bytes_max)
                while len(rest) >= CHUNK_BYTES:
                    hashes.append(_append(file, bytes(rest[:CHUNK_BYTES])))
                    del rest[:CHUNK_BYTES]
            if rest:
                hashes.append(_append(file, bytes(rest)))
        return Manifest(size_bytes=size, chunks=tuple(hashes))

    def begin(self, blob: str, manifest_bytes: bytes, max_bytes: int) -> Manifest:
        """Make room for a blob whose manifest has come.

        Raises:
            BadParams: the manifest is not this blob's. BlobTooLarge, BlobsFull.
        """
        manifest = open_manifest(manifest_bytes, blob)
        limit = min(max_bytes, self._blob_bytes_max)
        if manifest.size_bytes > limit:
            raise BlobTooLarge(size_bytes=manifest.size_bytes, limit_bytes=limit)
        if self._table.get(blob) is None:
            self._make_room(manifest.size_bytes)
            path = self._path(blob)
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.truncate(manifest.size_bytes)
            self._keep(blob, manifest, bytes(-(-len(manifest.chunks) // 8)), 0)
        return manifest

    def write_chunk(self, blob: str, index: int, data: bytes) -> bool:
        """Keep a chunk; False when it does not hash to its place, and then nothing was written."""
        found = self.manifest(blob)
        if found is None or not 0 <= index < len(found[0].chunks):
            return False
        manifest, have = found
        if len(data) != chunk_size(manifest, index) or chunk_hash(data) != manifest.chunks[index]:
            return False
        with self._path(blob).open("r+b") as file:
            file.seek(index * CHUNK_BYTES)
            file.write(data)
        self._keep(blob, manifest, with_chunk(have, index), 0)
        return True

    def keep(self, blob: str, keep_s: int) -> None:
        """Do not throw a blob away for so long."""
        row = self._table.get(blob)
        if row is not None:
            until = UnixMs(self._clock.unix_ms() + keep_s * 1000)
            self._table.put(
                BlobRow(row.id, row.manifest, row.size_bytes, row.have, row.complete, until), self._clock.unix_ms()
            )

    def _keep(self, blob: str, manifest: Manifest, have: bytes, until_ms: int) -> None:
        complete = have == all_chunks(len(manifest.chunks))
        row = BlobRow(blob, canonical(manifest), manifest.size_bytes, have, complete, UnixMs(until_ms))
        self._table.put(row, self._clock.unix_ms())

    def _make_room(self, size_bytes: int) -> None:
        """Throw away what is least recently used and promised to nobody, until there is room.

        Raises:
            BlobsFull: what must be kept leaves none.
        """
        _, used = self._table.totals()
        for row in self._table.idle(self._clock.unix_ms()):
            if used + size_bytes <= self._quota_bytes:
                return
            self._path(row.id).unlink(missing_ok=True)
            self._table.drop(row.id)
            used -= row.size_bytes
        if used + size_bytes > self._quota_bytes:
            raise BlobsFull(quota_bytes=self._quota_bytes)


def has_chunk(have: bytes, index: int) -> bool:
    """Whether the chunk's bit is set."""
    return index // 8 < len(have) and bool(have[index // 8] & (1 << index % 8))


def with_chunk(have: bytes, index: int) -> bytes:
    """The bits with one more set."""
    bits = bytearray(have)
    bits[index // 8] |= 1 << index % 8
    return bytes(bits)


def all_chunks(count: int) -> bytes:
    """Every bit set."""
    return ((1 << count) - 1).to_bytes(-(-count // 8), "little")


def _append(file: BinaryIO, chunk: bytes) -> bytes:
    file.write(chunk)
    return chunk_hash(chunk)
