"""An append-only file of what came in, so that a stopped chain goes on where it was.

Promises: after a crash the file holds everything that was acknowledged; a torn last record is cut off; a file of
another chain, or one that another process holds, is refused. Replaying goes through all rules again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from common.chain.invalid import Invalid
from common.chain.wire import Block, Tx, decode_block, decode_tx
from dux_sim.chain.node import Node

MAGIC = b"DuxNet chain 1\n"
FRAME = struct.Struct("<cII")  # kind, length, check sum
JOURNAL_BYTES_MAX = 4 * 2**30  # then the chain stops and says so
BLOCK, TX, EXCLUDED, RECONSIDERED = b"B", b"T", b"X", b"R"


class JournalRefused(Exception):
    """The block file cannot be used; the message says why and what to do."""


class FileJournal:
    """Appends records, each on the disk before the call returns."""

    def __init__(self, path: Path, genesis_hash: bytes) -> None:
        """Open or create the file of the chain with this genesis block, and hold it.

        Raises:
            JournalRefused: it belongs to another chain or process.
        """
        self._path = path
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalRefused(f"{path} is held by another process: stop it, or take another --data") from error
        self._head = MAGIC + genesis_hash
        self._file.seek(0)
        head = self._file.read(len(self._head))
        if not head:
            self._write(self._head)
        elif head != self._head:
            raise JournalRefused(f"{path} belongs to another chain profile: take another --data, or remove the file")

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """All whole records, oldest first; what follows the last whole one is cut off."""
        self._file.seek(len(self._head))
        whole_up_to = self._file.tell()
        while (record := self._read_record()) is not None:
            whole_up_to = self._file.tell()
            yield record
        self._file.truncate(whole_up_to)
        self._file.seek(0, os.SEEK_END)

    def _read_record(self) -> tuple[bytes, bytes] | None:
        frame = self._file.read(FRAME.size)
        if len(frame) < FRAME.size:
            return None
        kind, length, check = FRAME.unpack(frame)
        body = self._file.read(length) if length <= JOURNAL_BYTES_MAX else b""
        return (kind, body) if len(body) == length and zlib.crc32(kind + body) == check else None

    def block(self, block: Block, now_s: int) -> None:
        """A block was taken in."""
        self._append(BLOCK, struct.pack("<I", now_s) + block.raw)

    def tx(self, tx: Tx, now_s: int) -> None:
        """A transaction was taken in."""
        self._append(TX, struct.pack("<I", now_s) + tx.raw)

    def excluded(self, block_hash: bytes) -> None:
        """A block was excluded by hand."""
        self._append(EXCLUDED, block_hash)

    def reconsidered(self, block_hash: bytes) -> None:
        """A block is considered again."""
        self._append(RECONSIDERED, block_hash)

    def _append(self, kind: bytes, body: bytes) -> None:
        if self._file.tell() + len(body) > JOURNAL_BYTES_MAX:
            raise JournalRefused(f"{self._path} is full: start a new chain with another --data")
        self._write(FRAME.pack(kind, len(body), zlib.crc32(kind + body)) + body)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def replay(journal: FileJournal, node: Node) -> None:
    """Bring a new node to where the journal's was; the node writes no journal meanwhile."""
    for kind, body in journal.records():
        with contextlib.suppress(Invalid):  # a transaction that a replacement or a block had pushed out in between
            _replay_one(node, kind, body)


def _replay_one(node: Node, kind: bytes, body: bytes) -> None:
    if kind == BLOCK:
        node.submit_block(decode_block(body[4:]), struct.unpack_from("<I", body)[0])
    elif kind == TX:
        node.submit_tx(decode_tx(body[4:]), struct.unpack_from("<I", body)[0], any_fee=True)
    elif kind == EXCLUDED:
        node.exclude(node.chain.entries[body])
    elif kind == RECONSIDERED:
        node.reconsider(node.chain.entries[body])
