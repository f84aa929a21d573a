"""Proof of work and difficulty: scrypt, compact targets, Digishield.

Pure. Digishield looks at the last two blocks only, so that the target of a block depends on its parent and grandparent.

Source: facts §1 "Difficulty", reproduced there bit for bit on 351 headers.
"""

from __future__ import annotations

import hashlib

from dux_sim.chain import consensus
from dux_sim.chain.wire import Header

MANTISSA_BITS_MAX = 0x7FFFFF
SIGN_BIT = 0x800000
TARGET_BITS = 256


def work_hash(header_raw: bytes) -> bytes:
    """Hash the 80 bytes by scrypt, that is the 80 bytes with themselves as salt (N = 1024, r = p = 1)."""
    return hashlib.scrypt(header_raw, salt=header_raw, n=1024, r=1, p=1, dklen=32)


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


POW_LIMIT = target_of(consensus.POW_LIMIT_BITS)


def meets(header_raw: bytes, bits: int) -> bool:
    """Whether these 80 bytes carry the work that `bits` ask for, which may not ask for less than the limit."""
    target: int = target_of(bits)
    return 0 < target <= POW_LIMIT and int.from_bytes(work_hash(header_raw), "little") <= target


def work_of(bits: int) -> int:
    """Expected hashes for one block at these bits: what "most work" adds up."""
    return (1 << TARGET_BITS) // (target_of(bits) + 1)


def next_bits(parent: Header, grandparent: Header | None, spacing_s: int = consensus.SPACING_S) -> int:
    """The bits that the block after `parent` must carry.

    An eighth of the deviation is corrected, within -25 % and +50 %, and never beyond the easiest target. The block
    after the genesis has no interval to look at and keeps the genesis' bits.
    """
    if grandparent is None:
        return parent.bits
    deviation_s = parent.time_s - grandparent.time_s - spacing_s
    corrected_s = spacing_s + _truncated(deviation_s, consensus.DIGISHIELD_DAMPING)
    corrected_s = min(max(corrected_s, spacing_s - spacing_s // 4), spacing_s + spacing_s // 2)
    return bits_of(min(target_of(parent.bits) * corrected_s // spacing_s, POW_LIMIT))


def _truncated(value: int, divisor: int) -> int:
    """Division rounded toward zero, as C++ does."""
    return value // divisor if value >= 0 else -(-value // divisor)
