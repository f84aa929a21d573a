"""What misbehaviour costs: blame per DID grows with each fault, halves every ten minutes and ends in a ban.

How often a peer may call is the transport's business (`gate.CallBudget`); this is about calls that were wrong.
Source: network.md §8, transport_identity.md §3.3.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from common.clock import Clock
from dux_p2pd.meters import TokenBucket

SCORES_MAX = 8192  # remembered at once, the oldest go first
HALF_LIFE_S = 600.0
BAN_AT = 100.0
BAN_S = 1800.0
BLAME_INVALID_GOSSIP = 2.75  # 20 in a minute are the graylist (gossip_limits); 40, or going on there, a ban
BLAME_BAD_RECORD = 5.0
BLAME_BREACH = 40.0  # framing is never broken by accident either: the third time in ten minutes is a ban
BLAME_BAD_CHUNK = 50.0  # a chunk is never corrupt by accident: the channel is authenticated
VERIFICATIONS_PER_S = 200.0  # of gossip signatures, per peer: about 1 % of a core


class Scores:
    """Blame per DID; it fades by itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._scores: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._verifications: OrderedDict[str, TokenBucket] = OrderedDict()

    def of(self, did: str) -> float:
        """The blame now: 0 is a clean sheet."""
        points, at_s = self._scores.get(did, (0.0, 0.0))
        return points * math.pow(0.5, (self._clock.monotonic() - at_s) / HALF_LIFE_S)

    def blame(self, did: str, points: float) -> bool:
        """Add blame; True when the DID is to be banned now (its sheet is then clean for after the ban)."""
        total = self.of(did) + points
        self._scores.pop(did, None)
        if total >= BAN_AT:
            return True
        self._scores[did] = (total, self._clock.monotonic())
        if len(self._scores) > SCORES_MAX:
            self._scores.popitem(last=False)
        return False

    def may_verify(self, did: str) -> bool:
        """Whether one more signature of this peer's gossip may be checked now."""
        now_s = self._clock.monotonic()
        bucket = self._verifications.pop(did, None) or TokenBucket(VERIFICATIONS_PER_S, VERIFICATIONS_PER_S, now_s)
        self._verifications[did] = bucket
        if len(self._verifications) > SCORES_MAX:
            self._verifications.popitem(last=False)
        return bucket.take(1.0, now_s)
