"""What gossip remembers: ids that were seen, messages for who asks, ids that are waited for. All bounded.

Source: transport_identity.md §3.3.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from common.units import Did
from dux_p2pd.gossip_limits import (
    KEPT_BYTES_MAX,
    KEPT_S,
    LAZY_BEATS,
    OFFERERS_MAX,
    SEEN_MAX,
    SEEN_S,
    WANT_S,
    WANTED_MAX,
)


class Seen:
    """Ids of messages whose signature has verified: no second copy is looked at."""

    def __init__(self) -> None:
        self._at: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._at

    def __len__(self) -> int:
        return len(self._at)

    def mark(self, identity: bytes, now: float) -> None:
        """It was seen now; the oldest are forgotten by time and by count."""
        self._at[identity] = now
        while len(self._at) > SEEN_MAX or next(iter(self._at.values())) < now - SEEN_S:
            self._at.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """A message that may be asked for."""

    topic: str
    envelope: bytes
    at_s: float


class Keepsakes:
    """Messages that their owners accepted, for two minutes and 16 MiB; and which of them are new to the lazy ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._bytes = 0
        self._beats: list[dict[str, list[bytes]]] = [{}]

    def put(self, identity: bytes, topic: str, envelope: bytes, now: float) -> None:
        """Keep one."""
        self._kept[identity] = Kept(topic, envelope, now)
        self._bytes += len(envelope)
        self._beats[0].setdefault(topic, []).append(identity)
        while self._kept and (self._bytes > KEPT_BYTES_MAX or next(iter(self._kept.values())).at_s < now - KEPT_S):
            _, old = self._kept.popitem(last=False)
            self._bytes -= len(old.envelope)

    def find(self, identity: bytes) -> Kept | None:
        """The message, where it is still kept."""
        return self._kept.get(identity)

    def turn(self) -> dict[str, list[bytes]]:
        """A heartbeat: the ids of this one and the one before by topic, newest last; is empty when all is quiet."""
        told: dict[str, list[bytes]] = {}
        for beat in reversed(self._beats):
            for topic, ids in beat.items():
                told.setdefault(topic, []).extend(ids)
        self._beats = [{}, *self._beats][:LAZY_BEATS]
        return told

    def all_since(self, since_s: float) -> dict[str, list[bytes]]:
        """Every id kept since then, by topic: what a newcomer is offered."""
        told: dict[str, list[bytes]] = {}
        for identity, kept in self._kept.items():
            if kept.at_s >= since_s:
                told.setdefault(kept.topic, []).append(identity)
        return told


@dataclass(slots=True)
class _Want:
    whom: Did
    at_s: float
    others: list[Did] = field(default_factory=list)


class Wants:
    """Messages that somebody offered and that were asked for."""

    def __init__(self) -> None:
        self._wants: OrderedDict[bytes, _Want] = OrderedDict()

    def __len__(self) -> int:
        return len(self._wants)

    def offered(self, identity: bytes, by: Did, now: float) -> bool:
        """Whether to ask this one now; else it is remembered for the case that who was asked does not give it."""
        want = self._wants.get(identity)
        if want is not None:
            if len(want.others) < OFFERERS_MAX and by != want.whom and by not in want.others:
                want.others.append(by)
            return False
        if len(self._wants) >= WANTED_MAX:
            return False
        self._wants[identity] = _Want(by, now)
        return True

    def came(self, identity: bytes) -> None:
        """It is here."""
        self._wants.pop(identity, None)

    def late(self, now: float) -> list[tuple[bytes, Did, Did | None]]:
        """What did not come in time: the id, who did not give it, and who is to be asked now, if there is anybody."""
        found: list[tuple[bytes, Did, Did | None]] = []
        while self._wants:
            identity, want = next(iter(self._wants.items()))
            if want.at_s > now - WANT_S:
                break
            del self._wants[identity]
            other = want.others.pop(0) if want.others else None
            found.append((identity, want.whom, other))
            if other is not None:
                self._wants[identity] = _Want(other, now, want.others)
        return found
