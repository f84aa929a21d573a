"""What a relay carries for whom, and how its bytes are framed: pure, fed with the time.

A circuit is two streams spliced by a relay. Towards the ends each piece carries its length, so that a relay can also
say why it ends a circuit; what is inside is end-to-end TLS, of which the relay knows nothing.

Source: network.md §2 and §3.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv6Address

import msgspec

from common.units import Did
from dux_p2pd.meters import TokenBucket
from dux_p2pd.papers import Address
from dux_p2pd.wire_limits import KIB, MIB

PIECE_BYTES = 16 * KIB
REASON_BYTES = 200
_LENGTH_BYTES = 2
HOUR_S = 3600.0


class RelayLimits(msgspec.Struct, frozen=True):
    """What one relay gives."""

    reservations: int = 128
    reservations_per_net: int = 16  # of one /24 or /48
    reservation_s: float = HOUR_S
    circuits: int = 64  # at once
    circuits_per_did: int = 8  # at once, of a caller; four times that of a node that is reached through us
    circuit_s: float = 290.0  # a stream lives 300 s
    did_bytes_per_hour: int = 64 * MIB  # by caller, and by node that is reached
    bytes_per_hour: int = 2048 * MIB  # in all


class Duty(msgspec.Struct):
    """What this relay has carried since it started."""

    circuits: int = 0
    bytes: int = 0
    seconds: float = 0.0
    refused: int = 0


DIDS_MAX = 1024  # whose bytes are counted; a full bucket is forgotten without effect, then the oldest
TARGET_FACTOR = 4


class RelayLedger:
    """Reservations, circuits and bytes of one relay."""

    def __init__(self, limits: RelayLimits) -> None:
        self.limits = limits
        self.duty = Duty()
        self._reserved: dict[Did, tuple[str, float]] = {}  # net and end
        self._open: dict[Did, int] = {}
        self._circuits = 0
        self._buckets: dict[Did, TokenBucket] = {}
        self._all: TokenBucket | None = None

    def reserve(self, did: Did, net: str, now: float) -> str | None:
        """None: reserved for `reservation_s`; otherwise why not."""
        self._reserved = {one: held for one, held in self._reserved.items() if held[1] > now}
        others = [held for one, held in self._reserved.items() if one != did]
        if len(others) >= self.limits.reservations:
            return f"it has {self.limits.reservations} reservations already"
        if sum(held[0] == net for held in others) >= self.limits.reservations_per_net:
            return f"it has {self.limits.reservations_per_net} reservations of this network already"
        self._reserved[did] = net, now + self.limits.reservation_s
        return None

    def is_reserved(self, did: Did, now: float) -> bool:
        """Whether this node is reached through us now."""
        held = self._reserved.get(did)
        return held is not None and held[1] > now

    def reservations(self, now: float) -> int:
        """How many hold."""
        return sum(end > now for _, end in self._reserved.values())

    def open(self, caller: Did, target: Did, now: float) -> str | None:
        """None: a circuit is counted, and `close` must be called once; otherwise why not."""
        fault = self._open_fault(caller, target, now)
        if fault is not None:
            self.duty.refused += 1
            return fault
        self._circuits += 1
        self.duty.circuits += 1
        for did in (caller, target):
            self._open[did] = self._open.get(did, 0) + 1
        return None

    def _open_fault(self, caller: Did, target: Did, now: float) -> str | None:
        limits = self.limits
        if not self.is_reserved(target, now):
            return "that node has no reservation here"
        if self._circuits >= limits.circuits:
            return f"{limits.circuits} circuits are open"
        if self._open.get(caller, 0) >= limits.circuits_per_did:
            return f"{limits.circuits_per_did} circuits of this caller are open"
        if self._open.get(target, 0) >= limits.circuits_per_did * TARGET_FACTOR:
            return f"{limits.circuits_per_did * TARGET_FACTOR} circuits to that node are open"
        return None

    def close(self, caller: Did, target: Did, seconds: float) -> None:
        """A circuit has ended."""
        self._circuits -= 1
        self.duty.seconds += seconds
        for did in (caller, target):
            self._open[did] -= 1
            if not self._open[did]:
                del self._open[did]

    def carry(self, caller: Did, target: Did, count: int, now: float) -> str | None:
        """None: so many bytes may pass; otherwise whose quota is used up."""
        limits = self.limits
        for did in (caller, target):
            if not self._bucket(did, now).take(count, now):
                return f"the quota of {did} at this relay is used up ({limits.did_bytes_per_hour // KIB} KiB an hour)"
        if self._all is None:
            self._all = TokenBucket(limits.bytes_per_hour, limits.bytes_per_hour / HOUR_S, now)
        if not self._all.take(count, now):
            return f"this relay's quota is used up ({limits.bytes_per_hour // KIB} KiB an hour)"
        self.duty.bytes += count
        return None

    def _bucket(self, did: Did, now: float) -> TokenBucket:
        found = self._buckets.get(did)
        if found is None:
            if len(self._buckets) >= DIDS_MAX:
                self._buckets = {one: bucket for one, bucket in self._buckets.items() if not bucket.is_full(now)}
            if len(self._buckets) >= DIDS_MAX:
                del self._buckets[next(iter(self._buckets))]
            limit = self.limits.did_bytes_per_hour
            found = self._buckets[did] = TokenBucket(limit, limit / HOUR_S, now)
        return found


def piece(data: bytes) -> bytes:
    """Bytes of a circuit, as the relay hands them to an end. At most PIECE_BYTES, at least one."""
    return len(data).to_bytes(_LENGTH_BYTES) + data


def last_piece(reason: str) -> bytes:
    """The relay ends the circuit, and why."""
    return bytes(_LENGTH_BYTES) + reason.encode()[:REASON_BYTES]


class Pieces:
    """Takes the relay's framing apart; holds at most one piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.ended = False

    def take(self, data: bytes) -> bytes:
        """What the other end has sent.

        Raises:
            ValueError: no relay frames like this.
        """
        self._buffer += data
        whole = bytearray()
        while not self.ended and len(self._buffer) >= _LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:_LENGTH_BYTES])
            if length > PIECE_BYTES:
                raise ValueError(f"a piece of {length} bytes")
            if not length:
                self.ended = True
            elif len(self._buffer) < _LENGTH_BYTES + length:
                break
            else:
                whole += self._buffer[_LENGTH_BYTES : _LENGTH_BYTES + length]
            del self._buffer[: _LENGTH_BYTES + length]
        del self._buffer[PIECE_BYTES + REASON_BYTES :]
        return bytes(whole)

    def reason(self) -> str:
        """What the relay said at the end; its word, nobody else's."""
        return self._buffer[:REASON_BYTES].decode(errors="replace") if self.ended else ""


def relay_address(relay: Did) -> Address:
    """An address for whoever comes through a relay: one /48 per relay that no packet ever has, port 0.

    So every limit and ban per network meets what comes through this relay, and nobody else.
    """
    digest = hashlib.sha256(b"duxnet relay " + relay.encode()).digest()
    return str(IPv6Address(b"\xfd" + digest[:5] + bytes(9) + b"\x01")), 0


def is_relayed(address: Address) -> bool:
    """Whether a session came about through a relay: no TCP socket has port 0, nobody can dial such an address."""
    return address[1] == 0


def is_relay_address(host: str) -> bool:
    """Whether this host stands for a relay, and not for a machine reached on a direct path."""
    return host.startswith("fd") and host.endswith("::1")
