"""Proofs that transactions are in a block: a header and the branch of its merkle tree that leads to them (BIP37).

Pure. Promises of `check_proof`: what it returns was in the block's tree as a leaf. Two known ways around that are shut:
two equal neighbours (CVE-2012-2459), and 64 bytes that are both a transaction and a pair of hashes, in either
direction (CVE-2017-12842): neither a matched transaction of 64 bytes nor an inner node that reads as one is believed.

A proof shows what is in the block; it can not show that nothing else is.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from common.chain.invalid import Invalid
from common.chain.wire import BLOCK_BYTES_READ_MAX, HEADER_BYTES, DecodeError, Reader, compact, decode_tx, sha256d

TX_BYTES_MIN = 60  # no transaction is shorter, so that a block's size bounds their number
TXS_MAX = BLOCK_BYTES_READ_MAX // TX_BYTES_MIN
NODE_BYTES = 64  # two hashes side by side
HASH_BYTES = 32


class MerkleBlock(msgspec.Struct, frozen=True):
    """A header with its proof bytes left out, and a part of its merkle tree."""

    header: bytes
    txs: int
    hashes: tuple[bytes, ...]
    flags: bytes


def encode_merkle_block(header_with_proof: bytes, block: MerkleBlock) -> bytes:
    """The payload of `merkleblock`."""
    hashes = compact(len(block.hashes)) + b"".join(block.hashes)
    return header_with_proof + struct.pack("<I", block.txs) + hashes + compact(len(block.flags)) + block.flags


def decode_merkle_block(payload: bytes, header_bytes: int) -> MerkleBlock:
    """The block in a payload whose header and merged-mining proof take `header_bytes`.

    Raises:
        DecodeError: cut short, or more than a block can have.
    """
    reader = Reader(payload)
    header = reader.take(header_bytes)[:HEADER_BYTES]
    txs = reader.number("I")
    if not 0 < txs <= TXS_MAX:
        raise DecodeError(f"a block of {txs} transactions")
    hashes = tuple(reader.take(HASH_BYTES) for _ in range(reader.count(HASH_BYTES)))
    flags = reader.take(reader.count(1))
    reader.finish()
    return MerkleBlock(header, txs, hashes, flags)


def _width(txs: int, level: int) -> int:
    return (txs + (1 << level) - 1) >> level


def _levels(txs: int) -> int:
    return (txs - 1).bit_length()


def prove(txids: Sequence[bytes], wanted: Sequence[bool], header: bytes) -> MerkleBlock:
    """The part of the tree of these transactions that leads to the wanted ones."""
    levels = [list(txids)]
    while len(levels[-1]) > 1:
        below = levels[-1] + levels[-1][-1:] * (len(levels[-1]) % 2)
        levels.append([sha256d(below[at] + below[at + 1]) for at in range(0, len(below), 2)])
    bits: list[bool] = []
    hashes: list[bytes] = []

    def walk(level: int, at: int) -> None:
        leads = any(wanted[at << level : (at + 1) << level])
        bits.append(leads)
        if level == 0 or not leads:
            hashes.append(levels[level][at])
            return
        walk(level - 1, 2 * at)
        if 2 * at + 1 < _width(len(txids), level - 1):
            walk(level - 1, 2 * at + 1)

    walk(len(levels) - 1, 0)
    packed = bytearray((len(bits) + 7) // 8)
    for at, bit in enumerate(bits):
        packed[at // 8] |= bit << at % 8
    return MerkleBlock(header, len(txids), tuple(hashes), bytes(packed))


def check_proof(block: MerkleBlock) -> dict[bytes, int]:
    """The proven transaction ids (in wire order), each with its position in the block.

    Raises:
        Invalid: the tree does not lead to the header's root, or could be read in two ways.
    """
    walk = _Walk(block)
    root = walk.node(_levels(block.txs), 0)
    if walk.bits_read != walk.bits_needed or walk.hashes_read != len(block.hashes):
        raise Invalid("bad-proof", detail="more or fewer parts than the tree has")
    if root != block.header[36:68]:
        raise Invalid("bad-proof", detail="it does not lead to the header's merkle root")
    return walk.found


@dataclass
class _Walk:
    """Reads the tree depth first, as it was written."""

    block: MerkleBlock
    bits_read: int = 0
    hashes_read: int = 0
    found: dict[bytes, int] = field(default_factory=dict)

    @property
    def bits_needed(self) -> int:
        """Bits that were read, if no whole byte of padding is left and the padding is nought."""
        total = len(self.block.flags) * 8
        padding = int.from_bytes(self.block.flags, "little") >> self.bits_read
        return self.bits_read if total - self.bits_read < 8 and padding == 0 else total + 1  # noqa: PLR2004 - a byte

    def _bit(self) -> bool:
        if self.bits_read >= len(self.block.flags) * 8:
            raise Invalid("bad-proof", detail="too few bits")
        byte = self.block.flags[self.bits_read // 8]
        self.bits_read += 1
        return bool(byte >> (self.bits_read - 1) % 8 & 1)

    def _hash(self) -> bytes:
        if self.hashes_read >= len(self.block.hashes):
            raise Invalid("bad-proof", detail="too few hashes")
        self.hashes_read += 1
        return self.block.hashes[self.hashes_read - 1]

    def node(self, level: int, at: int) -> bytes:
        """The hash of one node of the tree."""
        leads = self._bit()
        if level == 0 or not leads:
            found = self._hash()
            if leads:
                self.found[found] = at
            return found
        left = self.node(level - 1, 2 * at)
        if 2 * at + 1 >= _width(self.block.txs, level - 1):
            return sha256d(left + left)
        right = self.node(level - 1, 2 * at + 1)
        if left == right:
            raise Invalid("bad-proof", detail="two equal neighbours")
        if reads_as_tx(left + right):
            raise Invalid("bad-proof", detail="an inner node that is also a transaction")
        return sha256d(left + right)


def reads_as_tx(pair: bytes) -> bool:
    """Whether these 64 bytes are a whole transaction."""
    try:
        return bool(decode_tx(pair).inputs)
    except DecodeError:
        return False
