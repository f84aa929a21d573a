"""Builds blocks: what goes in, and the hashing, plain or merged.

Promises: a block from here is valid on its parent; transactions below the miners' floor stay out unless a child pays
for them (a package is ranked by what it pays per byte).
"""

from __future__ import annotations

import struct

import msgspec

from common.chain import auxpow, difficulty, merkle
from common.chain.wire import NULL_HASH, NULL_INDEX, AuxPow, Block, Header, OutPoint, Tx, TxIn, TxOut
from dux_sim.chain import block_rules, consensus, policy, scripts, tx_rules
from dux_sim.chain.errors import MiningGaveUp
from dux_sim.chain.mempool import Mempool, Waiting
from dux_sim.chain.state import Entry

COINBASE_ROOM_BYTES = 1_000
TRIES_MAX = 200_000  # about a minute; the easiest target takes two
PARENT_VERSION = 4  # a chain id of 0 is not ours
TAG = b"/DuxNet/"


def choose(pool: Mempool, height: int, time_s: int) -> tuple[list[Waiting], int]:
    """Transactions for a block, parents first, and their fees in florins."""
    chosen: dict[bytes, Waiting] = {}
    room_bytes = consensus.BLOCK_BYTES_MAX - COINBASE_ROOM_BYTES
    while (package := _best_package(pool, chosen, room_bytes)) is not None:
        room_bytes -= sum(len(entry.tx.raw) for entry in package)
        chosen |= {entry.tx.txid: entry for entry in package}
    final = [entry for entry in chosen.values() if tx_rules.is_final(entry.tx, height, time_s)]
    return final, sum(entry.fee_florins for entry in final)


def _best_package(pool: Mempool, chosen: dict[bytes, Waiting], room_bytes: int) -> list[Waiting] | None:
    """The transaction with its missing ancestors that pays most per byte, at the floor at least, and fits."""
    best: tuple[float, list[Waiting]] | None = None
    for entry in pool.waiting.values():
        if entry.tx.txid in chosen:
            continue
        needed = (pool.ancestors(entry) | {entry.tx.txid}) - chosen.keys()
        package = [other for txid, other in pool.waiting.items() if txid in needed]
        size, fee = sum(other.size_bytes for other in package), sum(other.fee_florins for other in package)
        fits = sum(len(other.tx.raw) for other in package) <= room_bytes
        if (
            fits
            and fee >= policy.fee_at(policy.MINER_FEE_FLORINS_PER_KB, size)
            and (best is None or fee / size > best[0])
        ):
            best = (fee / size, package)
    return None if best is None else _parents_first(best[1])


def _parents_first(package: list[Waiting]) -> list[Waiting]:
    ordered: list[Waiting] = []
    placed: set[bytes] = set()
    names = {entry.tx.txid for entry in package}
    while len(ordered) < len(package):
        ready = [e for e in package if e.tx.txid not in placed and not (e.parents & names) - placed]
        ordered += ready
        placed |= {entry.tx.txid for entry in ready}
    return ordered


def coinbase_tx(height: int, reward_florins: int, script: bytes, extra: int = 0) -> Tx:
    """The transaction that makes new coins; its scriptSig starts with the height (BIP34)."""
    tag = TAG + struct.pack("<Q", extra)
    signature = scripts.push_number(height) + bytes([len(tag)]) + tag
    outputs = (TxOut(reward_florins, script),)
    return Tx(1, (TxIn(OutPoint(NULL_HASH, NULL_INDEX), signature, consensus.SEQUENCE_FINAL),), outputs, 0)


def assemble(tip: Entry, time_s: int, txs: tuple[Tx, ...], *, merged: bool) -> Block:
    """A block on `tip` that still lacks its work."""
    grandparent = tip.parent.block.header if tip.parent is not None else None
    header = Header(
        version=consensus.CHAIN_ID << 16 | consensus.BLOCK_VERSION_BASE | (0x100 if merged else 0),
        prev=tip.hash,
        merkle_root=merkle.root_of([tx.txid for tx in txs])[0],
        time_s=time_s,
        bits=block_rules.next_bits(tip.block.header, grandparent),
        nonce=0,
    )
    return Block(header, None, txs)


def work(block: Block, tries_max: int = TRIES_MAX) -> Block:
    """The same block with its work: in its own header, or in a parent's if its version says so.

    Raises:
        MiningGaveUp: the target is too hard for that many tries.
    """
    if not block.header.has_auxpow:
        return Block(_hashed(block.header, block.header.bits, tries_max), None, block.txs)
    return Block(block.header, merged_work(block.header, tries_max), block.txs)


def merged_work(header: Header, tries_max: int = TRIES_MAX) -> AuxPow:
    """The least proof by a parent chain: a block whose coinbase names this one and nothing else."""
    commitment = auxpow.MAGIC + header.hash[::-1] + struct.pack("<II", 1, 0)
    signature = bytes([len(commitment)]) + commitment
    origin = TxIn(OutPoint(NULL_HASH, NULL_INDEX), signature, consensus.SEQUENCE_FINAL)
    coinbase = Tx(1, (origin,), (TxOut(0, bytes([scripts.OP_RETURN])),), 0)
    parent = Header(PARENT_VERSION, NULL_HASH, coinbase.txid, header.time_s, header.bits, 0)
    slot = auxpow.slot_of(0, consensus.CHAIN_ID, 0)
    return AuxPow(coinbase, NULL_HASH, (), 0, (), slot, _hashed(parent, header.bits, tries_max))


def _hashed(header: Header, bits: int, tries_max: int) -> Header:
    for nonce in range(tries_max):
        candidate = msgspec.structs.replace(header, nonce=nonce)
        if difficulty.meets(candidate.raw, bits, consensus.POW_LIMIT):
            return candidate
    raise MiningGaveUp
