"""Whether the other end still lives: ask after 5 silent seconds, give up after 15. Pure.

`Progress` is the other half: whether a peer that lives also takes what it has asked for.

Source: transport_identity.md §1.5.
"""

from __future__ import annotations

from enum import Enum

from dux_p2pd.wire_limits import ANSWER_S, DEAD_AFTER_S, PING_AFTER_S, PING_SECOND_S, STUCK_BYTES, STUCK_S


class Pulse(Enum):
    """What to do now."""

    FINE = "fine"
    ASK = "ask"
    DEAD = "dead"


class Liveness:
    """Remembers when the peer was last heard and last asked."""

    __slots__ = ("_ask_after_s", "_asked", "_heard", "_unanswered_since")

    def __init__(self, now: float, *, asks_first: bool = True) -> None:
        """One end asks first, and the other, which hears that, need not ask at all."""
        self._ask_after_s = PING_AFTER_S if asks_first else PING_SECOND_S
        self._heard = self._asked = now
        self._unanswered_since: float | None = None

    def heard(self, now: float) -> None:
        """Any byte came."""
        self._heard = now
        self._unanswered_since = None

    def asked(self, now: float) -> None:
        """A ping was sent."""
        self._asked = now
        if self._unanswered_since is None:
            self._unanswered_since = now

    def check(self, now: float) -> Pulse:
        """Dead after 15 s without any byte; a ping after 5 s (7 s), repeated as often."""
        if now - self._heard >= DEAD_AFTER_S:
            return Pulse.DEAD
        if now - max(self._heard, self._asked) >= self._ask_after_s:
            self.asked(now)
            return Pulse.ASK
        return Pulse.FINE

    def next_check_s(self, now: float) -> float:
        """Seconds until `check` can say anything but FINE."""
        due = min(self._heard + DEAD_AFTER_S, max(self._heard, self._asked) + self._ask_after_s)
        return max(0.0, due - now)

    def wants_probe(self) -> bool:
        """Whether no ping is under way."""
        return self._unanswered_since is None

    def is_suspect(self, now: float) -> bool:
        """Whether a ping has not been answered for some seconds."""
        return self._unanswered_since is not None and now - self._unanswered_since >= ANSWER_S


class Progress:
    """Watches a line whose buffer is full: a peer that takes almost nothing holds our memory for nothing."""

    __slots__ = ("_gone_bytes", "_since")

    def __init__(self) -> None:
        self._since: float | None = None
        self._gone_bytes = 0

    def is_stuck(self, now: float, gone_bytes: int, *, has_room: bool) -> bool:
        """Whether less than 16 KiB went in 15 s although more was waiting; `gone_bytes` is all that ever went."""
        if has_room:
            self._since = None
        elif self._since is None or gone_bytes - self._gone_bytes >= STUCK_BYTES:
            self._since, self._gone_bytes = now, gone_bytes
        return self._since is not None and now - self._since >= STUCK_S
