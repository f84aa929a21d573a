"""How long to wait for whom: what each peer's calls have taken lately, and who has fallen silent.

Promise: a peer that does not answer costs one short wait, and from then on nothing until it is worth another try; who
is merely slow is waited for as long as it usually takes. It knows times only; who is called is decided elsewhere.

Source: network.md §4 (short adaptive time-outs); the estimate is that of RFC 6298.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from common.clock import Clock
from common.units import Did

PEERS_MAX = 4096  # remembered, the least recently called go first
MEAN_WEIGHT, SPREAD_WEIGHT = 0.25, 0.25
SPREADS = 4.0
SOFT_MIN_S, SOFT_MAX_S = 0.1, 1.5  # after this a lookup goes on without waiting for the answer
FIRST_S = 0.2  # for a peer never called, before any was: connection, TLS and HELLO are in it
FIRST_SOFT_MIN_S, FIRST_SOFT_MAX_S = 0.3, 3.0
FIRST_HARD_MIN_S = 2.0  # a TLS handshake on a loaded machine fits
HARD_MIN_S, HARD_MAX_S = 0.4, 4.0
SILENCE_FIRST_S, SILENCE_MAX_S = 5.0, 60.0  # a silent peer is left alone for so long, doubling


@dataclass(slots=True)
class _Measured:
    mean_s: float | None = None
    spread_s: float = 0.0
    silences: int = 0

    def add(self, taken_s: float) -> None:
        """One more measurement."""
        if self.mean_s is None:
            self.mean_s, self.spread_s = taken_s, taken_s / 2
            return
        self.spread_s += SPREAD_WEIGHT * (abs(taken_s - self.mean_s) - self.spread_s)
        self.mean_s += MEAN_WEIGHT * (taken_s - self.mean_s)

    def usual_s(self) -> float:
        """What it takes at most, usually."""
        return (self.mean_s or 0.0) + SPREADS * self.spread_s


class Patience:
    """Measured times by DID."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._peers: OrderedDict[Did, _Measured] = OrderedDict()
        self._silent_until_s: dict[Did, float] = {}  # of those that did not answer last: few, and asked for often
        self._first = _Measured()  # first calls of all peers, connecting among it
        self._first.add(FIRST_S)

    def _of(self, did: Did) -> _Measured:
        found = self._peers.get(did)
        if found is None:
            found = self._peers[did] = _Measured()
            if len(self._peers) > PEERS_MAX:
                self._silent_until_s.pop(self._peers.popitem(last=False)[0], None)
        self._peers.move_to_end(did)
        return found

    def answered(self, did: Did, taken_s: float) -> None:
        """A call took so long."""
        one = self._of(did)
        one.silences = 0
        one.add(taken_s)
        self._silent_until_s.pop(did, None)

    def connected(self, taken_s: float) -> None:
        """A connection was made, and the first call over it answered, in so long."""
        self._first.add(taken_s)

    def fell_silent(self, did: Did) -> None:
        """A call had no answer in its time."""
        one = self._of(did)
        pause_s = min(SILENCE_MAX_S, SILENCE_FIRST_S * 2.0 ** min(one.silences, 8))
        one.silences += 1
        self._silent_until_s[did] = self._clock.monotonic() + pause_s

    def is_silent(self, did: Did) -> bool:
        """Whether its last call had no answer, a short while ago."""
        until_s = self._silent_until_s.get(did)
        return until_s is not None and until_s > self._clock.monotonic()

    def soft_s(self, did: Did) -> float:
        """How long its answer usually takes at most; a lookup goes on to others then."""
        one = self._peers.get(did)
        if one is None or one.mean_s is None:
            return min(FIRST_SOFT_MAX_S, max(FIRST_SOFT_MIN_S, self._first.usual_s()))
        return min(SOFT_MAX_S, max(SOFT_MIN_S, one.usual_s()))

    def hard_s(self, did: Did) -> float:
        """When its answer is given up."""
        one = self._peers.get(did)
        least_s = FIRST_HARD_MIN_S if one is None or one.mean_s is None else HARD_MIN_S
        return min(HARD_MAX_S, max(least_s, 4 * self.soft_s(did)))

    def forget(self, did: Did) -> None:
        """It is gone: should it come back, over another way perhaps, it is measured anew; its silence is remembered."""
        one = self._peers.get(did)
        if one is not None:
            one.mean_s, one.spread_s = None, 0.0
