"""How a neighbour does at gossip: a score from what it gave first, what was invalid and which rules it broke.

All three fade by themselves. Below zero a neighbour leaves the mesh, below GOSSIP_AT its offers are not heard, below
GRAYLIST_AT nothing of it is read; time alone brings it back. Pure, fed with the time.

Source: network.md §5 and §8, transport_identity.md §3.3.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from dux_p2pd.gossip_limits import (
    BREACH_HALF_S,
    BREACH_WEIGHT,
    BREACHES_FREE,
    FIRST_HALF_S,
    FIRST_MAX,
    FIRST_WEIGHT,
    INVALID_HALF_S,
    INVALID_WEIGHT,
    PEERS_REMEMBERED,
)


class Fading:
    """A number that halves every `half_s` seconds."""

    __slots__ = ("_at", "_half_s", "_value")

    def __init__(self, half_s: float, now: float) -> None:
        self._half_s, self._value, self._at = half_s, 0.0, now

    @property
    def ever(self) -> bool:
        """Whether anything was ever added."""
        return self._value != 0.0

    def now(self, now: float) -> float:
        """What is left of it."""
        if self._value == 0.0:
            return 0.0
        return self._value * math.pow(0.5, (now - self._at) / self._half_s)

    def add(self, amount: float, now: float, *, most: float = math.inf) -> None:
        """Add, up to `most`."""
        self._value, self._at = min(most, self.now(now) + amount), now


class Conduct:
    """One neighbour's record."""

    __slots__ = ("_breaches", "_first", "_invalid")

    def __init__(self, now: float) -> None:
        self._first: dict[str, Fading] = {}  # by topic, of which there are few
        self._invalid: dict[str, Fading] = {}
        self._breaches = Fading(BREACH_HALF_S, now)

    def gave_first(self, topic: str, now: float) -> None:
        """A message that its owner accepted came from it before anybody else."""
        self._first.setdefault(topic, Fading(FIRST_HALF_S, now)).add(1.0, now, most=FIRST_MAX)

    def gave_invalid(self, topic: str, now: float) -> None:
        """A message that does not hold, or that its owner rejected."""
        self._invalid.setdefault(topic, Fading(INVALID_HALF_S, now)).add(1.0, now)

    def broke_rule(self, now: float) -> None:
        """It grafted in its back-off, lied in an offer, asked for what was not offered, or told too much."""
        self._breaches.add(1.0, now)

    def invalid(self, now: float) -> float:
        """Invalid messages on all topics, as far as they still count."""
        return sum(one.now(now) for one in self._invalid.values()) if self._invalid else 0.0

    @property
    def is_blank(self) -> bool:
        """Whether nothing was ever noted: it scores zero everywhere, as most neighbours do on most topics."""
        return not (self._first or self._invalid or self._breaches.ever)

    def gave(self, topic: str) -> bool:
        """Whether it ever gave a message of this topic first: without that it scores no more than zero there."""
        return topic in self._first

    def score(self, now: float) -> float:
        """Above zero is good. Invalid messages count over all topics together: spreading them does not help."""
        gave = sum(one.now(now) for one in self._first.values()) * FIRST_WEIGHT if self._first else 0.0
        excess = max(0.0, self._breaches.now(now) - BREACHES_FREE)
        return gave + INVALID_WEIGHT * self.invalid(now) ** 2 + BREACH_WEIGHT * excess**2

    def score_on(self, topic: str, now: float) -> float:
        """The score that counts in one topic's mesh: what it gave on other topics does not help here."""
        if not self._first:
            return self.score(now)
        first = self._first.get(topic)
        elsewhere = sum(one.now(now) for name, one in self._first.items() if name != topic) * FIRST_WEIGHT
        return self.score(now) - elsewhere if first or elsewhere else self.score(now)


class Conducts:
    """The records of all neighbours, also of those that left: leaving wipes nothing out."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Conduct] = OrderedDict()

    def of(self, did: str, now: float) -> Conduct:
        """The neighbour's record."""
        found = self._of.get(did)
        if found is None:
            found = self._of[did] = Conduct(now)
            if len(self._of) > PEERS_REMEMBERED:
                self._of.popitem(last=False)
        return found

    def gave(self, did: str, topic: str) -> bool:
        """Whether the neighbour ever gave a message of this topic first."""
        found = self._of.get(did)
        return found is not None and found.gave(topic)
