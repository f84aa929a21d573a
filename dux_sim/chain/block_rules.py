"""Which blocks consensus allows, apart from the coins they move.

Pure: ancestors and the time of day are handed in. Words of refusal are Core's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.chain import auxpow, difficulty, header_rules, merkle
from common.chain.invalid import Invalid
from common.chain.wire import HEADER_BYTES, Block, Header, compact
from dux_sim.chain import consensus, scripts, tx_rules


def next_bits(parent: Header, grandparent: Header | None) -> int:
    """The bits that the block after `parent` must carry."""
    height = 1 if grandparent is None else 2  # beyond these this chain's rule is the same at every height
    known = {height - 1: parent} | ({0: grandparent} if grandparent is not None else {})
    return difficulty.next_bits(consensus.NETWORK, height, parent.time_s, _ancestor(known))


def _ancestor(known: Mapping[int, Header]) -> difficulty.TimeAndBits:
    return lambda height: (known[height].time_s, known[height].bits)


def median_time(headers: Sequence[Header]) -> int:
    """The median of the last eleven block times, in seconds."""
    return header_rules.median_time([header.time_s for header in headers])


def check_header(header: Header, height: int, ancestors: Sequence[Header], now_s: int) -> None:
    """A header fits behind its ancestors (oldest first, the parent last; two of them suffice for the target).

    Raises:
        Invalid: wrong difficulty, time or version.
    """
    known = {height - 1 - back: ancestor for back, ancestor in enumerate(reversed(ancestors))}
    header_rules.check_place(
        consensus.NETWORK,
        height,
        header,
        times_s=[ancestor.time_s for ancestor in ancestors],
        ancestor=_ancestor(known),
        now_s=now_s,
    )


def check_block(block: Block) -> None:
    """What can be said about a block without its ancestors.

    Raises:
        Invalid: no work, a wrong or mutated merkle root, too large, a misplaced coinbase, an impossible transaction.
    """
    auxpow.check_work(consensus.NETWORK, 1, block.header, block.auxpow)  # merged mining counts from the start
    root, mutated = merkle.root_of([tx.txid for tx in block.txs])
    if root != block.header.merkle_root:
        raise Invalid("bad-txnmrklroot")
    if mutated:
        raise Invalid("bad-txns-duplicate")
    if not block.txs or block_bytes(block) > consensus.BLOCK_BYTES_MAX:
        raise Invalid("bad-blk-length")
    if not block.txs[0].is_coinbase:
        raise Invalid("bad-cb-missing")
    if any(tx.is_coinbase for tx in block.txs[1:]):
        raise Invalid("bad-cb-multiple")
    for tx in block.txs:
        tx_rules.check_tx(tx)
    if sum(scripts.legacy_sigops(tx) for tx in block.txs) > consensus.BLOCK_SIGOPS_MAX:
        raise Invalid("bad-blk-sigops")


def check_in_place(block: Block, height: int) -> None:
    """The block says its height (BIP34) and every transaction is final in it.

    Raises:
        Invalid: it does not.
    """
    if not all(tx_rules.is_final(tx, height, block.header.time_s) for tx in block.txs):
        raise Invalid("bad-txns-nonfinal")
    expected = scripts.push_number(height)
    if block.txs[0].inputs[0].script_sig[: len(expected)] != expected:
        raise Invalid("bad-cb-height")


def block_bytes(block: Block) -> int:
    """The size that the 1 MB limit counts: without the AuxPoW."""
    return HEADER_BYTES + len(compact(len(block.txs))) + sum(len(tx.raw) for tx in block.txs)
