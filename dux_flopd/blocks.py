"""Reads blocks: header, merged-mining proof where there is one, transactions. Pure: bytes in, structs out.

The node has judged the block already; this only finds its way through the bytes. Source: facts §1 (AuxPoW on the wire).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from bitcoin.core import CTransaction
from bitcoin.core.serialize import DeserializationExtraDataError, SerializationError, VarIntSerializer

from common.chain.address import sha256d
from common.chain.tx import Tx, from_library, serialize
from common.errors import DuxError

HEADER_BYTES = 80
HASH_BYTES = 32
INDEX_BYTES = 4
BRANCH_MAX = 64  # longer than any merkle branch can be
TXS_MAX = 20_000  # a 1 MB block holds fewer
AUXPOW_BIT = 0x100
VERSION_TOP_BITS = 0xE0000000  # BIP9 versions have no merged mining


class BadBlock(DuxError):
    """The coin node sent a block that cannot be read: {reason}."""

    code = 2114
    key = "bad-block"


@dataclass(frozen=True)
class BlockTx:
    """A transaction with its id and its place in the block."""

    txid: str
    tx: Tx
    raw: bytes
    position: int


@dataclass(frozen=True)
class Block:
    """What a chain view needs of a block."""

    hash: str
    previous: str
    time_s: int
    txs: tuple[BlockTx, ...]


def parse_block(raw: bytes) -> Block:
    """The block in these bytes.

    Raises:
        BadBlock: cut off, or not a block.
    """
    stream = io.BytesIO(raw)
    header = stream.read(HEADER_BYTES)
    if len(header) != HEADER_BYTES:
        raise BadBlock(reason="the header is cut off")
    try:
        if _has_auxpow(int.from_bytes(header[:4], "little")):
            _skip_auxpow(stream)
        count = _count(stream, TXS_MAX)
        txs = tuple(_read_tx(stream, position) for position in range(count))
    except (SerializationError, DeserializationExtraDataError, ValueError) as error:
        raise BadBlock(reason=str(error)) from error
    return Block(
        hash=sha256d(header)[::-1].hex(),
        previous=header[4:36][::-1].hex(),
        time_s=int.from_bytes(header[68:72], "little"),
        txs=txs,
    )


def work_header(raw: bytes) -> bytes:
    """The header that carries the block's work: its own, or its parent chain's where it is merge mined (80 bytes).

    Raises:
        BadBlock: cut off, or not a block.
    """
    stream = io.BytesIO(raw)
    header = stream.read(HEADER_BYTES)
    try:
        if len(header) == HEADER_BYTES and _has_auxpow(int.from_bytes(header[:4], "little")):
            _skip_auxpow(stream)
            stream.seek(-HEADER_BYTES, io.SEEK_CUR)
            header = stream.read(HEADER_BYTES)
    except (SerializationError, DeserializationExtraDataError, ValueError) as error:
        raise BadBlock(reason=str(error)) from error
    if len(header) != HEADER_BYTES:
        raise BadBlock(reason="the header is cut off")
    return header


def _has_auxpow(version: int) -> bool:
    return bool(version & AUXPOW_BIT) and (version & VERSION_TOP_BITS) == 0


def _skip_auxpow(stream: io.BytesIO) -> None:
    """Coinbase of the parent, its block's hash, two branches with their index, the parent's header."""
    CTransaction.stream_deserialize(stream)
    stream.seek(HASH_BYTES, io.SEEK_CUR)
    for _ in range(2):
        stream.seek(_count(stream, BRANCH_MAX) * HASH_BYTES + INDEX_BYTES, io.SEEK_CUR)
    stream.seek(HEADER_BYTES, io.SEEK_CUR)


def _count(stream: io.BytesIO, most: int) -> int:
    count = int(VarIntSerializer.stream_deserialize(stream))
    if count > most:
        raise ValueError(f"a list of {count}")
    return count


def _read_tx(stream: io.BytesIO, position: int) -> BlockTx:
    found = CTransaction.stream_deserialize(stream)
    tx = from_library(found)
    return BlockTx(txid=str(found.GetTxid()[::-1].hex()), tx=tx, raw=serialize(tx), position=position)


def skeleton(tx: Tx) -> bytes:
    """The transaction without its input scripts, hashed: equal for a payment and for what a stranger made of it."""
    return sha256d(serialize(tx.signed([b""] * len(tx.inputs))))
