"""Whether what a peer sent about a block is true: proofs of single transactions, and whole blocks.

Pure. A filtered block can leave transactions out and cannot invent any; a whole one can do neither, for the header's
root binds all of its transactions. The header itself was judged when its chain was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.chain import auxpow, merkle, partial_merkle
from common.chain.coin_network import CoinNetwork
from common.chain.invalid import Invalid
from common.chain.messages import has_proof, proof_bytes
from common.chain.partial_merkle import NODE_BYTES
from common.chain.tx import BadTransaction, parse, txid
from common.chain.wire import HEADER_BYTES, DecodeError, Reader, read_auxpow, read_header, sha256d, shown, unshown
from dux_flopd.blocks import BadBlock, Block, BlockTx, parse_block
from dux_flopd.spv_pool import is_coinbase


class Unprovable(Exception):
    """The proof could be read in two ways, or a transaction came without its bytes: ask for the whole block."""


def header_bytes(payload: bytes) -> int:
    """How many bytes of a block's message are its header with its merged-mining proof."""
    if len(payload) < HEADER_BYTES or not has_proof(payload[:HEADER_BYTES]):
        return HEADER_BYTES
    return HEADER_BYTES + proof_bytes(payload, HEADER_BYTES)


def block_named(payload: bytes) -> str:
    """Which block a message is about: the hash of its first 80 bytes."""
    return shown(sha256d(payload[:HEADER_BYTES]))


def proven(payload: bytes, raws: Mapping[str, bytes]) -> Block:
    """The transactions that a filtered block proves, from their bytes by id.

    Raises:
        Invalid: the proof is wrong. Unprovable: it proves too little.
    """
    try:
        part = partial_merkle.decode_merkle_block(payload, header_bytes(payload))
    except DecodeError as error:
        raise Invalid("bad-proof", detail=str(error)) from error
    found = partial_merkle.check_proof(part)
    txs = [_proven_tx(shown(name), position, raws) for name, position in found.items()]
    return _block(part.header, sorted(txs, key=lambda item: item.position))


def _proven_tx(name: str, position: int, raws: Mapping[str, bytes]) -> BlockTx:
    raw = raws.get(name)
    if raw is None or len(raw) == NODE_BYTES:
        raise Unprovable
    return BlockTx(txid=name, tx=parse(raw), raw=raw, position=position)


def by_txid(payloads: Iterable[bytes]) -> dict[str, bytes]:
    """Transactions by their id; those with bytes of a witness form are cut to what the id covers.

    Raises:
        Invalid: bytes that are no transaction.
    """
    found = {}
    for payload in payloads:
        try:
            name = txid(parse(payload))
        except BadTransaction as error:
            raise Invalid("bad-tx", detail=error.message) from error
        found[name] = payload
    return found


def whole(payload: bytes) -> Block:
    """A block whose every transaction is there and in its place.

    Raises:
        Invalid: it is not the block that its header names.
    """
    try:
        block = parse_block(payload)
    except BadBlock as error:
        raise Invalid("bad-block", detail=error.message) from error
    root, mutated = merkle.root_of([unshown(item.txid) for item in block.txs])
    if root != payload[36:68]:
        raise Invalid("bad-txnmrklroot")
    if mutated:
        raise Invalid("bad-txns-duplicate")
    if not block.txs or not is_coinbase(block.txs[0].tx):
        raise Invalid("bad-cb-missing", detail="pairs of hashes in the place of transactions")
    return block


def check_whole_work(network: CoinNetwork, height: int, payload: bytes) -> None:
    """The merged-mining proof that comes with a whole block is one: its work is read for public draws.

    Raises:
        Invalid: it is not.
    """
    reader = Reader(payload)
    try:
        header = read_header(reader)
        proof = read_auxpow(reader) if has_proof(payload[:HEADER_BYTES]) else None
    except DecodeError as error:
        raise Invalid("bad-block", detail=str(error)) from error
    auxpow.check_work(network, height, header, proof)


def _block(header: bytes, txs: list[BlockTx]) -> Block:
    previous, time_s = shown(header[4:36]), int.from_bytes(header[68:72], "little")
    return Block(hash=shown(sha256d(header)), previous=previous, time_s=time_s, txs=tuple(txs))
