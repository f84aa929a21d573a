"""Exponential races: who of several is first, weighted, from one hash each. Integers only, so every machine runs alike.

A runner of twice the weight wins twice as often, and when one arrives does not depend on who else runs; so views that
differ in a few runners give nearly the same order. What the hash is made of is the caller's.

Source: mechanisms.md §2.4; escrow_protocol.md §5.3 (-ln(u)/w).
"""

from __future__ import annotations

LOG_BITS = 32  # binary places of a ticket's logarithm: tells 2^32 runners apart
TICKET_BITS = 64
_RATIO_BITS = 96
_SCALE_BITS = 64


def arrival(digest: bytes, weight: int) -> tuple[int, bytes]:
    """When a runner with this ticket and weight (> 0) arrives: -log2(ticket) over weight, and the ticket for ties."""
    drawn = int.from_bytes(digest[: TICKET_BITS // 8]) + 1
    return (_minus_log2(drawn) << _SCALE_BITS) // weight, digest


def _minus_log2(drawn: int) -> int:
    """-log2(drawn / 2^64) in units of 2^-32, for 0 < drawn ≤ 2^64."""
    ratio = (1 << (TICKET_BITS + _RATIO_BITS)) // drawn
    whole = ratio.bit_length() - _RATIO_BITS - 1
    mantissa, places = ratio >> whole, whole
    for _ in range(LOG_BITS):
        mantissa = mantissa * mantissa >> _RATIO_BITS
        carry = mantissa >> (_RATIO_BITS + 1)
        mantissa, places = mantissa >> carry, places << 1 | carry
    return places
