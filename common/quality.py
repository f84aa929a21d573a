"""The arithmetic of a seller's quality Q, for all who have to find the same figure: registry and airdrop.

Integers only, decay by a table per day, age by block height, so that every machine agrees to the last digit. What
counts as good or bad is said by who calls. Source: mechanisms.md §1.1.
"""

from __future__ import annotations

from common.units import Florins, tax_of

PPM = 1_000_000
DAY_BLOCKS = 1_440  # one block a minute
HALF_LIFE_DAYS = 60
DECAY_BITS = 40
PRIOR_GOOD_FLORINS = 5_000_000  # 0.05 FLOP: what a stranger is credited with
PRIOR_ALL_FLORINS = 10_000_000
BAD_FACTOR = 4  # how much heavier a bad florin weighs than a good one
BAD_SHARE = 4  # a job given back counts a quarter of the tax it would have paid


def _root(value: int, degree: int) -> int:
    """The largest integer whose power of `degree` is at most `value`."""
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle)
    return low


DECAY = tuple(_root(1 << (DECAY_BITS * HALF_LIFE_DAYS - day), HALF_LIFE_DAYS) for day in range(HALF_LIFE_DAYS))
"""2^(-day/60) for each day of the first half-life, in units of 2^-40, rounded down."""


def decayed(florins: int, age_days: int) -> Florins:
    """What an amount still weighs after so many days; halves every 60, never grows."""
    halvings, day = divmod(max(age_days, 0), HALF_LIFE_DAYS)
    return Florins(int(florins) * DECAY[day] >> (DECAY_BITS + halvings))


def age_days(height: int, tip: int) -> int:
    """Whole days of blocks between a settlement and the tip; 0 when the tip is behind."""
    return max(0, tip - height) // DAY_BLOCKS


def missed_tax_florins(price_florins: int, gross_florins: int, tax_bps: int) -> Florins:
    """What a job that was given back weighs against its seller: a quarter of the tax that was not paid."""
    return Florins(int(tax_of(int(price_florins) - int(gross_florins), tax_bps)) // BAD_SHARE)


def quality_ppm(good: int, bad: int) -> int:
    """Q in millionths: 500,000 of nothing known; grows with good, falls with bad."""
    return (int(good) + PRIOR_GOOD_FLORINS) * PPM // (int(good) + BAD_FACTOR * int(bad) + PRIOR_ALL_FLORINS)
