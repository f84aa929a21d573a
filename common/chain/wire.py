"""Transactions, headers, AuxPoW and blocks as bytes, exactly as Flopcoin puts them on the wire.

Promises: `decode(encode(x)) == x`, every count checked before it is believed, no trailing bytes, no witness form.
Knows no rule of validity. Hashes are kept in wire order; `shown` turns them into the order people and RPC use.
"""

from __future__ import annotations

import hashlib
import struct
from functools import cached_property

import msgspec

HEADER_BYTES = 80
AUXPOW_VERSION_BIT = 0x100
BLOCK_BYTES_READ_MAX = 1_100_000  # a block of 1 MB plus the largest AuxPoW anyone sends
BRANCH_HASHES_MAX = 64
MIN_INPUT_BYTES = 41
MIN_OUTPUT_BYTES = 9
NULL_HASH = bytes(32)
NULL_INDEX = 0xFFFFFFFF
NUMBERS = {form: struct.Struct("<" + form) for form in "BHIQiq"}
HEADER = struct.Struct("<i32s32sIII")


class DecodeError(ValueError):
    """The bytes are no transaction, header or block of this chain."""


def sha256d(data: bytes) -> bytes:
    """SHA-256 twice."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def shown(hash32: bytes) -> str:
    """A hash as people and RPC write it: hex, last byte first."""
    return hash32[::-1].hex()


def unshown(text: str) -> bytes:
    """The wire order of a hash as people write it.

    Raises:
        DecodeError: not 64 hexadecimal digits.
    """
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise DecodeError(f"{text[:80]!r} is not hexadecimal") from error
    if len(data) != len(NULL_HASH):
        raise DecodeError(f"a hash has 64 hexadecimal digits, not {len(text)}")
    return data[::-1]


class Reader:
    """Reads fields off the front of bytes and never past their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at, self._end = 0, len(data)

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return self._end - self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            DecodeError: there are fewer.
        """
        start, end = self._at, self._at + count
        if end > self._end:
            raise DecodeError(f"{count} bytes wanted at offset {start}, {self.left} left")
        self._at = end
        return self._data[start:end]

    def number(self, form: str) -> int:
        """The next little-endian number of this struct format character."""
        kind = NUMBERS[form]
        value: int = kind.unpack(self.take(kind.size))[0]
        return value

    def compact(self) -> int:
        """The next compact size; a longer form than needed is refused.

        Raises:
            DecodeError: not in its shortest form.
        """
        first = self.number("B")
        if first < 0xFD:  # noqa: PLR2004 - the format's own constants
            return first
        value = self.number({0xFD: "H", 0xFE: "I", 0xFF: "Q"}[first])
        if value < {0xFD: 0xFD, 0xFE: 0x10000, 0xFF: 0x100000000}[first]:
            raise DecodeError(f"non-canonical compact size {value}")
        return value

    def count(self, bytes_each: int) -> int:
        """The next compact size as a count of things that take `bytes_each` bytes at least.

        Raises:
            DecodeError: more than what is left can hold.
        """
        value = self.compact()
        if value * bytes_each > self.left:
            raise DecodeError(f"{value} items announced, {self.left} bytes left")
        return value

    def finish(self) -> None:
        """Nothing may follow.

        Raises:
            DecodeError: something does.
        """
        if self.left:
            raise DecodeError(f"{self.left} bytes after the end")


def compact(value: int) -> bytes:
    """A compact size in its shortest form."""
    if value < 0xFD:  # noqa: PLR2004
        return bytes([value])
    if value <= 0xFFFF:  # noqa: PLR2004
        return b"\xfd" + struct.pack("<H", value)
    if value <= 0xFFFFFFFF:  # noqa: PLR2004
        return b"\xfe" + struct.pack("<I", value)
    return b"\xff" + struct.pack("<Q", value)


class OutPoint(msgspec.Struct, frozen=True):
    """One output of one transaction."""

    txid: bytes
    vout: int


class TxIn(msgspec.Struct, frozen=True):
    """One spend."""

    prevout: OutPoint
    script_sig: bytes
    sequence: int


class TxOut(msgspec.Struct, frozen=True):
    """One payment; the value is signed on the wire, so a negative one can be written and is refused by rule."""

    value_florins: int
    script: bytes


class Tx(msgspec.Struct, frozen=True, dict=True):
    """One transaction in the only form this chain has."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    lock_time: int

    @cached_property
    def raw(self) -> bytes:
        """The wire bytes."""
        return encode_tx(self)

    @cached_property
    def txid(self) -> bytes:
        """Double hash of the wire bytes."""
        return sha256d(self.raw)

    @property
    def is_coinbase(self) -> bool:
        """Whether it spends the null outpoint, and nothing else."""
        return len(self.inputs) == 1 and is_null(self.inputs[0].prevout)


class Header(msgspec.Struct, frozen=True, dict=True):
    """The 80 bytes that are hashed."""

    version: int
    prev: bytes
    merkle_root: bytes
    time_s: int
    bits: int
    nonce: int

    @cached_property
    def raw(self) -> bytes:
        """The 80 wire bytes."""
        return HEADER.pack(self.version, self.prev, self.merkle_root, self.time_s, self.bits, self.nonce)

    @cached_property
    def hash(self) -> bytes:
        """The block's name: double hash of the 80 bytes (the work is another hash, see `difficulty`)."""
        return sha256d(self.raw)

    @property
    def has_auxpow(self) -> bool:
        """Whether the version says that an AuxPoW follows."""
        return bool(self.version & AUXPOW_VERSION_BIT)

    @property
    def chain_id(self) -> int:
        """The chain that the version claims."""
        return self.version >> 16

    @property
    def base_version(self) -> int:
        """The version without chain id and flag."""
        return self.version % 256


class AuxPow(msgspec.Struct, frozen=True):
    """The proof that a block of a parent chain was mined for this one too."""

    coinbase: Tx
    parent_hash: bytes
    branch: tuple[bytes, ...]
    index: int
    chain_branch: tuple[bytes, ...]
    chain_index: int
    parent: Header


class Block(msgspec.Struct, frozen=True, dict=True):
    """A header, its AuxPoW if it has one, and the transactions."""

    header: Header
    auxpow: AuxPow | None
    txs: tuple[Tx, ...]

    @property
    def hash(self) -> bytes:
        """The block's name."""
        return self.header.hash

    @cached_property
    def raw(self) -> bytes:
        """The wire bytes, AuxPoW included."""
        return encode_header(self.header, self.auxpow) + compact(len(self.txs)) + b"".join(tx.raw for tx in self.txs)


def is_null(outpoint: OutPoint) -> bool:
    """Whether it is the outpoint that only a coinbase spends."""
    return outpoint.vout == NULL_INDEX and outpoint.txid == NULL_HASH


def encode_tx(tx: Tx) -> bytes:
    """The wire bytes of a transaction."""
    parts = [struct.pack("<i", tx.version), compact(len(tx.inputs))]
    for txin in tx.inputs:
        parts += [txin.prevout.txid, struct.pack("<I", txin.prevout.vout), compact(len(txin.script_sig))]
        parts += [txin.script_sig, struct.pack("<I", txin.sequence)]
    parts.append(compact(len(tx.outputs)))
    for out in tx.outputs:
        parts += [struct.pack("<q", out.value_florins), compact(len(out.script)), out.script]
    parts.append(struct.pack("<I", tx.lock_time))
    return b"".join(parts)


def encode_header(header: Header, auxpow: AuxPow | None) -> bytes:
    """A header as `headers` and `block` carry it: 80 bytes, then the AuxPoW if there is one."""
    if auxpow is None:
        return header.raw
    return b"".join(
        [
            header.raw,
            auxpow.coinbase.raw,
            auxpow.parent_hash,
            compact(len(auxpow.branch)),
            *auxpow.branch,
            struct.pack("<i", auxpow.index),
            compact(len(auxpow.chain_branch)),
            *auxpow.chain_branch,
            struct.pack("<i", auxpow.chain_index),
            auxpow.parent.raw,
        ]
    )


def read_tx(reader: Reader) -> Tx:
    """The next transaction.

    Raises:
        DecodeError: cut short, or in the witness form, which this chain does not have.
    """
    version = reader.number("i")
    inputs = tuple(_read_input(reader) for _ in range(reader.count(MIN_INPUT_BYTES)))
    if not inputs and reader.left > 1:
        raise DecodeError("no-witness-yet: this chain has no SegWit, build the transaction without witnesses")
    outputs = tuple(_read_output(reader) for _ in range(reader.count(MIN_OUTPUT_BYTES)))
    return Tx(version, inputs, outputs, reader.number("I"))


def _read_input(reader: Reader) -> TxIn:
    prevout = OutPoint(reader.take(32), reader.number("I"))
    return TxIn(prevout, reader.take(reader.compact()), reader.number("I"))


def _read_output(reader: Reader) -> TxOut:
    return TxOut(reader.number("q"), reader.take(reader.compact()))


def read_header(reader: Reader) -> Header:
    """The next 80 bytes as a header."""
    return Header(*HEADER.unpack(reader.take(HEADER_BYTES)))


def read_auxpow(reader: Reader) -> AuxPow:
    """The AuxPoW that follows a header whose version says so."""
    return AuxPow(
        coinbase=read_tx(reader),
        parent_hash=reader.take(32),
        branch=_read_branch(reader),
        index=reader.number("i"),
        chain_branch=_read_branch(reader),
        chain_index=reader.number("i"),
        parent=read_header(reader),
    )


def _read_branch(reader: Reader) -> tuple[bytes, ...]:
    count = reader.count(32)
    if count > BRANCH_HASHES_MAX:
        raise DecodeError(f"a merkle branch of {count} hashes")
    return tuple(reader.take(32) for _ in range(count))


def decode_tx(data: bytes) -> Tx:
    """The transaction in these bytes, all of them.

    Raises:
        DecodeError: the bytes are no transaction of this chain.
    """
    reader = Reader(data)
    tx = read_tx(reader)
    reader.finish()
    return tx


def decode_block(data: bytes) -> Block:
    """The block in these bytes, all of them.

    Raises:
        DecodeError: the bytes are no block of this chain.
    """
    if len(data) > BLOCK_BYTES_READ_MAX:
        raise DecodeError(f"a block of {len(data)} bytes; {BLOCK_BYTES_READ_MAX} are read at most")
    reader = Reader(data)
    header = read_header(reader)
    auxpow = read_auxpow(reader) if header.has_auxpow else None
    txs = tuple(read_tx(reader) for _ in range(reader.count(10)))
    reader.finish()
    return Block(header, auxpow, txs)
