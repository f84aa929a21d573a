"""Who may come in and how often: pure tables, fed with the time.

`Gate` stands before any TLS object exists: a token bucket per /24 or /48, half-open handshakes per net and in all,
bans.
`CallBudget` stands before a handler runs: units by method cost per DID and per net; strangers get a tenth.
Both forget in bounded tables only what may be forgotten without effect, or the oldest when full.

Source: transport_identity.md §1.2 (1), §1.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from common.units import Did
from dux_p2pd.meters import TokenBucket
from dux_p2pd.wire_limits import (
    ALL_HALF_OPEN,
    BANS_REMEMBERED,
    CALL_BURST_UNITS,
    CALL_UNITS_PER_S,
    NET_BURST,
    NET_HALF_OPEN,
    NET_PER_S,
    NETS_REMEMBERED,
)

_STRANGER_PART = 0.1
_NET_FACTOR = 4  # one net may spend as much as four of its known DIDs


class _Buckets:
    """Token buckets by name, at most NETS_REMEMBERED of them; full ones are forgotten first, then the oldest."""

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, name: str, cost: float, now: float) -> bool:
        bucket = self._buckets.get(name)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[name] = TokenBucket(self._burst, self._per_s, now)
        return bucket.take(cost, now)

    def _make_room(self, now: float) -> None:
        if len(self._buckets) < NETS_REMEMBERED:
            return
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if not bucket.is_full(now)}
        excess = len(self._buckets) - NETS_REMEMBERED * 3 // 4
        for name in list(self._buckets)[: max(0, excess)]:
            del self._buckets[name]


class Bans:
    """Names refused until a time; when full, the one that ends soonest makes room."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, name: str, until: float) -> None:
        """Refuse the name until then; a longer ban stays."""
        if name not in self._until and len(self._until) >= BANS_REMEMBERED:
            del self._until[min(self._until, key=self._until.__getitem__)]
        self._until[name] = max(until, self._until.get(name, until))

    def has(self, name: str, now: float) -> bool:
        """Whether the name is refused now."""
        until = self._until.get(name)
        if until is not None and until <= now:
            del self._until[name]
            return False
        return until is not None


class Refusal(StrEnum):
    """Why a connection is not let in."""

    BANNED = "banned"
    HALF_OPEN = "too many handshakes"
    HALF_OPEN_NET = "too many handshakes of this net"
    NET_RATE = "too many connections of this net"


class Gate:
    """Judges each incoming connection by its address, before anything is spent on it."""

    def __init__(self) -> None:
        self.bans = Bans()
        self._buckets = _Buckets(NET_BURST, NET_PER_S)
        self._half_open: dict[str, int] = {}

    def admit(self, net: str, now: float) -> Refusal | None:
        """None lets it in, and then `leave` must be called once; otherwise the reason to refuse."""
        if self.bans.has(net, now):
            return Refusal.BANNED
        if sum(self._half_open.values()) >= ALL_HALF_OPEN:
            return Refusal.HALF_OPEN
        if self._half_open.get(net, 0) >= NET_HALF_OPEN:
            return Refusal.HALF_OPEN_NET
        if not self._buckets.take(net, 1, now):
            return Refusal.NET_RATE
        self._half_open[net] = self._half_open.get(net, 0) + 1
        return None

    def charge(self, net: str, cost: float, now: float) -> bool:
        """Whether the net can pay for work beyond a usual handshake."""
        return self._buckets.take(net, cost, now)

    def leave(self, net: str) -> None:
        """An admitted connection is no longer half open: it is up, or gone."""
        left = self._half_open[net] - 1
        if left:
            self._half_open[net] = left
        else:
            del self._half_open[net]


class CallBudget:
    """Units that peers may spend on our methods."""

    def __init__(
        self,
        costs: Mapping[str, float] | None = None,
        *,
        burst_units: float = CALL_BURST_UNITS,
        units_per_s: float = CALL_UNITS_PER_S,
    ) -> None:
        """`costs` in units by method; a method that is not named costs 1."""
        self._costs = dict(costs or {})
        tenth_burst, tenth_per_s = burst_units * _STRANGER_PART, units_per_s * _STRANGER_PART
        self._known = _Buckets(burst_units, units_per_s)
        self._strangers = _Buckets(tenth_burst, tenth_per_s)
        self._nets = _Buckets(burst_units * _NET_FACTOR, units_per_s * _NET_FACTOR)
        self._stranger_nets = _Buckets(tenth_burst * _NET_FACTOR, tenth_per_s * _NET_FACTOR)

    def admit(self, did: Did, net: str, method: str, now: float, *, known: bool) -> bool:
        """Whether the DID and its net have the units for one call of this method; takes them."""
        cost = self._costs.get(method, 1.0)
        by_did, by_net = (self._known, self._nets) if known else (self._strangers, self._stranger_nets)
        return by_did.take(did, cost, now) and by_net.take(net, cost, now)
