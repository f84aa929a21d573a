"""Fees and dust: what a transaction has to pay to be relayed and mined, and which outputs are never made.

Sizes count every signature at 73 bytes, so that the fee never lands just under the miners' floor (facts, trap 7).

Source: money.md §2, facts §2.
"""

from __future__ import annotations

from common.units import FLOP, Florins

FEE_RATE_FLORINS_PER_KB = 1_200_000  # 0.012 FLOP: a fifth above the miners' floor of 0.01 per kB
FEE_FLOOR_FLORINS = FLOP // 100
FEE_MAX_FLORINS = 100 * FLOP  # a node refuses to broadcast more
DUST_FLORINS = FLOP // 100  # an output below costs 0.01 more to relay, so it is left out
GROSS_MIN_FLORINS = FLOP // 5  # 0.2 FLOP: the fund's five per cent is then no dust
SIGNATURE_BYTES_MAX = 73  # DER with the hash type byte
TX_BYTES_MAX = 99_999  # below 100,000 bytes: larger ones are not relayed
FEE_LADDER = (1, 4, 16)  # multiples of the fee for which co-signatures are given
LADDER_SHARE = 20  # the highest rung costs at most gross / 20
KB = 1000


def fee_for(size_bytes: int, rate_florins_per_kb: int = FEE_RATE_FLORINS_PER_KB) -> Florins:
    """The fee of a transaction of at most this size: rounded up, never under the floor."""
    return Florins(max(FEE_FLOOR_FLORINS, -(-size_bytes * rate_florins_per_kb // KB)))


def is_dust(florins: int) -> bool:
    """Whether an output of this value is never made."""
    return florins < DUST_FLORINS


def rungs_for(base_fee_florins: int, gross_florins: int) -> int:
    """How many fee rungs a co-signature is worth: the highest costs at most 5 % of the gross; one there always is."""
    fitting = [step for step in FEE_LADDER if base_fee_florins * step * LADDER_SHARE <= gross_florins]
    return max(1, len(fitting))
