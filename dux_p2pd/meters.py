"""Two counters that say "too much": pure, fed with the time.

`TokenBucket` lets bursts through and a rate in the long run; `SpanMeter` counts within spans of equal length.
Times are seconds of any clock that never goes back.
"""

from __future__ import annotations


class TokenBucket:
    """Holds at most `burst` tokens and gains `per_s` of them each second; starts full."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst, self._per_s, self._tokens, self._at = burst, per_s, burst, now

    def take(self, cost: float, now: float) -> bool:
        """Whether the tokens were there; if not, none is taken."""
        if now > self._at:
            self._fill(now)
        if cost > self._tokens:
            return False
        self._tokens -= cost
        return True

    def is_full(self, now: float) -> bool:
        """Whether forgetting this bucket would change nothing."""
        if now > self._at:
            self._fill(now)
        return self._tokens >= self._burst

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now


class SpanMeter:
    """Counts up to `limit` within each span of `span_s` seconds."""

    __slots__ = ("_count", "_limit", "_span_s", "_start")

    def __init__(self, limit: int, span_s: float) -> None:
        self._limit, self._span_s, self._start, self._count = limit, span_s, 0.0, 0

    def over(self, amount: int, now: float) -> bool:
        """Whether counting this amount passes the limit."""
        if now - self._start >= self._span_s:
            self._start, self._count = now, 0
        self._count += amount
        return self._count > self._limit
