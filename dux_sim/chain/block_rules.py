"""Which blocks consensus allows, apart from the coins they move.

Pure: ancestors and the time of day are handed in. Words of refusal are Core's.
"""

from __future__ import annotations

from collections.abc import Sequence

from dux_sim.chain import auxpow, consensus, difficulty, merkle, scripts, tx_rules
from dux_sim.chain.errors import REJECT_OBSOLETE, Invalid
from dux_sim.chain.wire import HEADER_BYTES, Block, Header, compact


def median_time(headers: Sequence[Header]) -> int:
    """The median of the last eleven block times, in seconds; of fewer at the start of the chain.

    An even number of them, which only the first ten blocks see, takes the upper middle one, as Core does.
    """
    times = sorted(header.time_s for header in headers[-consensus.MEDIAN_TIME_BLOCKS :])
    return times[len(times) // 2]


def check_header(header: Header, ancestors: Sequence[Header], now_s: int) -> None:
    """A header fits behind its ancestors (oldest first, the parent last; two of them suffice for the target).

    Raises:
        Invalid: wrong difficulty, time or version.
    """
    grandparent = ancestors[-2] if len(ancestors) > 1 else None
    if header.bits != difficulty.next_bits(ancestors[-1], grandparent):
        raise Invalid("bad-diffbits")
    if header.time_s <= median_time(ancestors):
        raise Invalid("time-too-old")
    if header.time_s > now_s + consensus.FUTURE_TIME_MAX_S:
        raise Invalid("time-too-new")
    if header.base_version < consensus.BLOCK_VERSION_BASE:
        raise Invalid(f"bad-version(0x{header.version:08x})", REJECT_OBSOLETE)


def check_block(block: Block) -> None:
    """What can be said about a block without its ancestors.

    Raises:
        Invalid: no work, a wrong or mutated merkle root, too large, a misplaced coinbase, an impossible transaction.
    """
    auxpow.check_work(block.header, block.auxpow)
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
