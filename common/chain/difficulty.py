"""Proof of work and difficulty: scrypt, compact targets, work, and the target that a block must meet.

Pure. What came before is asked for by height, so that the caller decides where it keeps headers.

Source: facts §1 "Difficulty", reproduced there bit for bit on 351 headers.
"""

from __future__ import annotations

from collections.abc import Callable

from common.chain import beacon
from common.chain.coin_network import CoinNetwork, Retarget

MANTISSA_BITS_MAX = 0x7FFFFF
SIGN_BIT = 0x800000
TARGET_BITS = 256
NUMBERS = 1 << TARGET_BITS
DIGISHIELD_DAMPING = 8

work_hash: Callable[[bytes], bytes] = beacon.work_hash  # by this name a simulator puts a cheap one in its place

TimeAndBits = Callable[[int], tuple[int, int]]
"""The time in seconds and the bits of the ancestor at a height."""


def target_of(bits: int) -> int:
    """The target that compact bits stand for; 0 for negative, zero or overflowing ones, which nothing meets."""
    size, mantissa = bits >> 24, bits & MANTISSA_BITS_MAX
    if bits & SIGN_BIT:
        return 0
    target = mantissa >> 8 * (3 - size) if size <= 3 else mantissa << 8 * (size - 3)  # noqa: PLR2004
    return target if target.bit_length() <= TARGET_BITS else 0


def bits_of(target: int) -> int:
    """The compact form of a target; low bits are lost, never gained."""
    size = (target.bit_length() + 7) // 8
    mantissa = target << 8 * (3 - size) if size <= 3 else target >> 8 * (size - 3)  # noqa: PLR2004
    if mantissa & SIGN_BIT:
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def meets(header_raw: bytes, bits: int, limit: int) -> bool:
    """Whether these 80 bytes carry the work that `bits` ask for, which may not ask for less than the `limit`."""
    target = target_of(bits)
    return 0 < target <= limit and int.from_bytes(work_hash(header_raw), "little") <= target


def work_of(bits: int) -> int:
    """Expected hashes for one block at these bits: what "most work" adds up."""
    return NUMBERS // (target_of(bits) + 1)


def next_bits(network: CoinNetwork, height: int, time_s: int, ancestor: TimeAndBits) -> int:
    """The bits that the block at `height` with this time must carry; `ancestor` answers for all heights below."""
    before_s, bits = ancestor(height - 1)
    if network.easy_after_s and time_s > before_s + network.easy_after_s:
        return network.pow_limit_bits
    rule = network.retarget_at(height)
    if rule.kind == "same" or height % rule.every:
        return bits
    back = max(0, height - 1 - (rule.every if height > rule.every else rule.every - 1))
    counted_s = _counted(rule, before_s - ancestor(back)[0])
    product = target_of(bits) * counted_s
    product = product % NUMBERS if network.wraps else product
    return bits_of(min(product // rule.timespan_s, target_of(network.pow_limit_bits)))


def _counted(rule: Retarget, actual_s: int) -> int:
    """The interval's length as the rule counts it."""
    timespan_s = rule.timespan_s
    if rule.kind == "classic":
        return min(max(actual_s, timespan_s // rule.faster_max), timespan_s * rule.slower_max)
    damped_s = timespan_s + _truncated(actual_s - timespan_s, DIGISHIELD_DAMPING)
    return min(max(damped_s, timespan_s - timespan_s // 4), timespan_s + timespan_s // 2)


def _truncated(value: int, divisor: int) -> int:
    """Division rounded toward zero, as C++ does."""
    return value // divisor if value >= 0 else -(-value // divisor)
