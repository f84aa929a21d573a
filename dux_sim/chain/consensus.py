"""The constants of Flopcoin's consensus that the embedded chain takes over, and the few it sets for itself.

Mainnet's present rules hold from block 0 (mainnet is at height ~985,000 by now: AuxPoW from 110,000, CLTV from
111,000, the dev fee over since 600,000). Own: the genesis block, regtest's address prefixes, and the easiest target, so
that a block costs two scrypt hashes on average.

Source: facts §1; settled.md 19.
"""

from __future__ import annotations

from common.chain import difficulty
from common.chain.coin_network import coin_network

NETWORK = coin_network("embedded")  # the rules of headers and merged mining, shared with every light wallet
FLOP = 100_000_000
MONEY_MAX_FLORINS = 10_000_000_000 * FLOP
SUBSIDY_FLORINS = 10_000 * FLOP  # from height 600,000 for ever
COINBASE_MATURITY_BLOCKS = 240
SPACING_S = NETWORK.spacing_s
CHAIN_ID = NETWORK.auxpow.chain_id if NETWORK.auxpow else 0
BLOCK_VERSION_BASE = NETWORK.base_version_min  # BIP34, 66 and 65 are active: an older version is refused
POW_LIMIT_BITS = NETWORK.pow_limit_bits
POW_LIMIT = difficulty.target_of(POW_LIMIT_BITS)

BLOCK_BYTES_MAX = 1_000_000
BLOCK_SIGOPS_MAX = 20_000  # 80,000 of cost, four each
COINBASE_SCRIPT_BYTES_MIN = 2
COINBASE_SCRIPT_BYTES_MAX = 100
LOCKTIME_THRESHOLD = 500_000_000
SEQUENCE_FINAL = 0xFFFFFFFF


def subsidy_at(height: int) -> int:
    """New florins that the block at this height may create; the genesis block creates only its premine."""
    return SUBSIDY_FLORINS if height > 0 else 0
