"""What peers did that they may not, and what was refused to them, counted for /metrics: each number only grows.

Below sessions the wire counts for itself (`wire_counts`), relays and the egress do likewise; this is about calls,
records, letters, blobs and blame. Source: network.md §8 (metrics of all abuse).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial

from dux_p2pd.scores import BLAME_BAD_CHUNK, BLAME_BAD_RECORD, BLAME_BREACH, BLAME_INVALID_GOSSIP


class Abuse(StrEnum):
    """The kinds, as /metrics names them."""

    BLAMED_RECORD = "blamed_for_records"  # forged ones, offered or given
    BLAMED_GOSSIP = "blamed_for_gossip"
    BLAMED_BREACH = "blamed_for_breaches"  # of framing
    BLAMED_CHUNK = "blamed_for_chunks"
    BANNED = "banned"  # DIDs, each time
    RECORD_REFUSED = "records_refused"  # over a quota, without work, or none
    READ_REFUSED = "reads_refused"  # records drawn beyond what one asker may
    LETTER_REFUSED = "letters_refused"
    BLOB_REFUSED = "blobs_refused"  # that somebody wanted kept here


BLAMED: Mapping[float, Abuse] = {
    BLAME_BAD_RECORD: Abuse.BLAMED_RECORD,
    BLAME_INVALID_GOSSIP: Abuse.BLAMED_GOSSIP,
    BLAME_BREACH: Abuse.BLAMED_BREACH,
    BLAME_BAD_CHUNK: Abuse.BLAMED_CHUNK,
}


class AbuseCounts:
    """One node's counters."""

    def __init__(self) -> None:
        self._counts: Counter[Abuse] = Counter()

    def add(self, kind: Abuse) -> None:
        """One more."""
        self._counts[kind] += 1

    def blamed(self, points: float) -> None:
        """A peer was blamed: by the weight of its fault."""
        if points in BLAMED:
            self.add(BLAMED[points])

    def of(self, kind: Abuse) -> int:
        """How many so far."""
        return self._counts[kind]

    def gauges(self) -> Mapping[str, Callable[[], float]]:
        """Each kind under its name in /metrics."""
        return {f"abuse_{kind}": partial(self._value, kind) for kind in Abuse}

    def _value(self, kind: Abuse) -> float:
        return float(self._counts[kind])
