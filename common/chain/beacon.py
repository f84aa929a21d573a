"""The public draw of a height: random numbers that nobody chose, from the work of the last blocks.

A block's own hash is no random source on a merge-mined coin, because its miner may change it for free; the hash that
met the target is: another one costs another solved block. `work_hash` is that of the header that carries the work, the
block's own or its parent chain's. What anybody may draw with a beacon, and for how much, is said where it is used.

Source: mechanisms.md §2.4; settled.md 8 (the bytes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from common.codec import Canon, canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import Hash32

WORKS = 6  # blocks whose work goes into one beacon: H-5 to H
HEADER_BYTES = 80


class BeaconBody(Canon, frozen=True):
    """What a beacon is the hash of: its height and the works up to it, the oldest first."""

    height: Annotated[int, Meta(ge=0, lt=2**31)]
    works: tuple[Annotated[bytes, Meta(min_length=32, max_length=32)], ...]


def work_hash(header: bytes) -> Hash32:
    """The hash that a header's work is judged by: scrypt with the 80 bytes as their own salt (N = 1024, r = p = 1)."""
    return Hash32(hashlib.scrypt(header, salt=header, n=1024, r=1, p=1, dklen=32))


def beacon_heights(height: int) -> range:
    """The heights whose work makes the beacon of a height; fewer at the start of a chain."""
    return range(max(0, height - WORKS + 1), height + 1)


def beacon_of(height: int, works: Sequence[bytes]) -> Hash32:
    """The beacon of a height, from the work hashes of `beacon_heights(height)` in that order."""
    return tagged_hash(Purpose.BEACON, canonical(BeaconBody(height=height, works=tuple(works))))
