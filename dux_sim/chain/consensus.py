"""The constants of Flopcoin's consensus that the embedded chain takes over, and the few it sets for itself.

Mainnet's present rules hold from block 0 (mainnet is at height ~985,000 by now: AuxPoW from 110,000, CLTV from
111,000, the dev fee over since 600,000). Own: the genesis block, regtest's address prefixes, and the easiest target, so
that a block costs two scrypt hashes on average.

Source: facts §1; settled.md 19.
"""

from __future__ import annotations

FLOP = 100_000_000
MONEY_MAX_FLORINS = 10_000_000_000 * FLOP
SUBSIDY_FLORINS = 10_000 * FLOP  # from height 600,000 for ever
COINBASE_MATURITY_BLOCKS = 240
SPACING_S = 60
CHAIN_ID = 0xA3
BLOCK_VERSION_BASE = 4  # BIP34, 66 and 65 are active: an older version is refused
POW_LIMIT_BITS = 0x207FFFFF
DIGISHIELD_DAMPING = 8

BLOCK_BYTES_MAX = 1_000_000
BLOCK_SIGOPS_MAX = 20_000  # 80,000 of cost, four each
COINBASE_SCRIPT_BYTES_MIN = 2
COINBASE_SCRIPT_BYTES_MAX = 100
MEDIAN_TIME_BLOCKS = 11
FUTURE_TIME_MAX_S = 7200
LOCKTIME_THRESHOLD = 500_000_000
SEQUENCE_FINAL = 0xFFFFFFFF

AUXPOW_CHAIN_BRANCH_MAX = 30
AUXPOW_MAGIC = b"\xfa\xbemm"
AUXPOW_ROOT_OFFSET_MAX = 20  # without the magic, the root must start this early


def subsidy_at(height: int) -> int:
    """New florins that the block at this height may create; the genesis block creates only its premine."""
    return SUBSIDY_FLORINS if height > 0 else 0
