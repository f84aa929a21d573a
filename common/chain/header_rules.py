"""Which headers a coin network allows behind which others, apart from their work.

Pure: ancestors and the time of day are handed in. Words of refusal are Core's.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.chain import difficulty
from common.chain.coin_network import CoinNetwork
from common.chain.difficulty import TimeAndBits
from common.chain.invalid import REJECT_OBSOLETE, Invalid
from common.chain.wire import Header

MEDIAN_TIME_BLOCKS = 11
FUTURE_TIME_MAX_S = 7200


def median_time(times_s: Sequence[int]) -> int:
    """The median of the last eleven block times, in seconds; of fewer at the start of the chain.

    An even number of them, which only the first ten blocks see, takes the upper middle one, as Core does.
    """
    times = sorted(times_s[-MEDIAN_TIME_BLOCKS:])
    return times[len(times) // 2]


def check_place(
    network: CoinNetwork, height: int, header: Header, *, times_s: Sequence[int], ancestor: TimeAndBits, now_s: int
) -> None:
    """A header fits behind its ancestors. `times_s`: of the last eleven of them, the parent's last.

    Raises:
        Invalid: wrong difficulty, time or version. Only "time-too-new" may be right later.
    """
    if header.bits != difficulty.next_bits(network, height, header.time_s, ancestor):
        raise Invalid("bad-diffbits")
    if header.time_s <= median_time(times_s):
        raise Invalid("time-too-old")
    if header.time_s > now_s + FUTURE_TIME_MAX_S:
        raise Invalid("time-too-new")
    if header.base_version < network.base_version_min:
        raise Invalid(f"bad-version(0x{header.version:08x})", REJECT_OBSOLETE)
