"""The work of a measurement: done by the measured node, checked by the measuring one in a small part of the time.

- Hashing: PBKDF2-HMAC-SHA-512 as an iterated chain with marks at even distances. Whoever checks does a few stretches
  between two marks again; a wrong mark among n is missed with probability (1 - 1/n)^samples. SHA-512, because hardly
  a processor has instructions for it: those for SHA-256 would make equal cores differ severalfold.
- Holding: blocks of 64 KiB, each the SHAKE-128 of seed and number. A walk reads 64 bytes at a place that the last step
  gives, so it cannot be prepared; who does not hold a block has to make it anew at every step, which takes a hundred
  times as long. Whoever checks walks a few stretches, making the blocks that they touch.

Knows neither clock nor network. Both loops release or share the interpreter, so they run beside the event loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

BLOCK_BYTES = 65_536
READ_BYTES = 64
MARK_BYTES = 32
MIB = 1 << 20


def chain(seed: bytes, lane: int, iterations: int, marks: int) -> list[bytes]:
    """The chain's values at `marks` even distances; one lane's work."""
    value, found = _start(seed, lane), []
    for number in range(marks):
        value = _stretch(value, seed, number, iterations // marks)
        found.append(value)
    return found


def chain_is_right(seed: bytes, lane: int, iterations: int, given: Sequence[bytes], looked_at: Sequence[int]) -> bool:
    """Whether the stretches that end at these marks are right."""
    marks = len(given)
    return all(
        _stretch(given[at - 1] if at else _start(seed, lane), seed, at, iterations // marks) == given[at]
        for at in looked_at
    )


def _start(seed: bytes, lane: int) -> bytes:
    return hashlib.sha256(b"lane" + seed + lane.to_bytes(4)).digest()


def _stretch(value: bytes, seed: bytes, number: int, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", value, seed + number.to_bytes(4), iterations, dklen=MARK_BYTES)


def block(seed: bytes, number: int) -> bytes:
    """One block of what is to be held."""
    return stream(seed + number.to_bytes(8), BLOCK_BYTES)


def stream(seed: bytes, size: int) -> bytes:
    """So many bytes that only the seed gives."""
    return hashlib.shake_128(seed).digest(size)


def blocks_of(size_mb: int) -> int:
    """How many blocks a size has."""
    return size_mb * MIB // BLOCK_BYTES


def fill(held: memoryview, seed: bytes) -> None:
    """Fill what is to be held."""
    for number in range(len(held) // BLOCK_BYTES):
        held[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES] = block(seed, number)


def walk(held: memoryview, nonce: bytes, steps: int, marks: int) -> list[bytes]:
    """Walk, and the values at `marks` even distances."""
    count, value, found = len(held) // BLOCK_BYTES, nonce, []
    sha256, apart = hashlib.sha256, steps // marks
    for _ in range(marks):
        for _ in range(apart):
            at = int.from_bytes(value[:4]) % count * BLOCK_BYTES + (value[4] << 8 | value[5]) % _PLACES
            value = sha256(value + held[at : at + READ_BYTES]).digest()
        found.append(value)
    return found


_PLACES = BLOCK_BYTES - READ_BYTES


def walk_is_right(
    seed: bytes, size_mb: int, nonce: bytes, steps: int, given: Sequence[bytes], looked_at: Sequence[int]
) -> bool:
    """Whether the stretches that end at these marks are right, with every block made anew."""
    count, apart = blocks_of(size_mb), steps // len(given)
    for mark in looked_at:
        value = given[mark - 1] if mark else nonce
        for _ in range(apart):
            at = (value[4] << 8 | value[5]) % _PLACES
            made = block(seed, int.from_bytes(value[:4]) % count)
            value = hashlib.sha256(value + made[at : at + READ_BYTES]).digest()
        if value != given[mark]:
            return False
    return True
