"""Whether the other end still lives: ask after 5 silent seconds, give up after 15. Pure.

Source: transport_identity.md §1.5.
"""

from __future__ import annotations

from enum import Enum

from dux_p2pd.wire_limits import DEAD_AFTER_S, PING_AFTER_S, SUSPECT_AFTER_S


class Pulse(Enum):
    """What to do now."""

    FINE = "fine"
    ASK = "ask"
    DEAD = "dead"


class Liveness:
    """Remembers when the peer was last heard and last asked."""

    def __init__(self, now: float) -> None:
        self._heard = self._asked = now

    def heard(self, now: float) -> None:
        """Any byte came."""
        self._heard = now

    def check(self, now: float) -> Pulse:
        """Dead after 15 s without any byte; a ping after 5 s, repeated every 5 s."""
        if now - self._heard >= DEAD_AFTER_S:
            return Pulse.DEAD
        if now - max(self._heard, self._asked) >= PING_AFTER_S:
            self._asked = now
            return Pulse.ASK
        return Pulse.FINE

    def next_check_s(self, now: float) -> float:
        """Seconds until `check` can say anything but FINE."""
        due = min(self._heard + DEAD_AFTER_S, max(self._heard, self._asked) + PING_AFTER_S)
        return max(0.0, due - now)

    def is_suspect(self, now: float) -> bool:
        """Whether it was asked at least once and has not answered."""
        return now - self._heard >= SUSPECT_AFTER_S
