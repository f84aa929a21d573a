"""The nodes this one has met, kept across restarts: so that it is back with every bootstrap node dead.

Promise: at most 256 are kept, those longest useful; after 30 days without meeting one it is forgotten; at the start
those come first that were reached often, lately and without failures since. Nothing is believed from here: the dial
proves who is there.

Source: network.md §3.
"""

from __future__ import annotations

import math

from common.clock import Clock
from common.nets import net_of
from common.units import Did
from dux_p2pd.circuits import is_relayed
from dux_p2pd.directory import Directory
from dux_p2pd.rules import contact_at, endpoint_of
from dux_p2pd.session import Session
from dux_p2pd.store_places import Place, PlaceTable

PLACES_MAX = 256
PLACES_LEFT = 224  # of these, once there are too many: all are weighed then, which is not to be at every meeting
TRIED_MAX = 48  # at a start; two rounds of dials within ten seconds
PER_NET_MAX = 8  # of those tried, of one /24 or /48: one flood of neighbours is not all that is remembered
FORGET_MS = 30 * 86_400_000
HALF_LIFE_MS = 7 * 86_400_000
MET_COUNTED_MAX = 16
LOOK_THROUGH_MS = 3_600_000  # who was not met for long is looked for this often


def worth(place: Place, now_ms: int) -> float:
    """How promising it is: meetings (16 count), halved every week and by every failure since the last one."""
    age_ms = max(0, now_ms - place.met_ms)
    met = min(place.met, MET_COUNTED_MAX) + 0.5
    return met * math.pow(0.5, age_ms / HALF_LIFE_MS + min(place.failed, MET_COUNTED_MAX))


class Remembered:
    """Who was met where."""

    def __init__(self, table: PlaceTable, directory: Directory, *, clock: Clock) -> None:
        self._table = table
        self._directory = directory
        self._clock = clock
        self._made_room_ms = 0

    def came(self, session: Session) -> None:
        """A session is up: dialled ones prove an address; who dialled us is noted where its record says it listens."""
        if is_relayed(session.peer.address):
            return
        now_ms, did = self._clock.unix_ms(), session.peer.did
        if session.peer.dialled:
            self._table.met(did, endpoint_of(session.peer.address), now_ms)
        else:
            known, host = self._directory.get(did), session.peer.address[0]
            told = known.record.endpoints if known and known.record else ()
            at_home = [text for text in told if (address := contact_at(text)) is not None and address[0] == host]
            if at_home:
                self._table.seen(did, at_home[0], now_ms)
        self._make_room(now_ms)

    def failed(self, did: Did | None) -> None:
        """It was not there."""
        if did is not None:
            self._table.failed(did)

    def _make_room(self, now_ms: int) -> None:
        """Once an hour, or when there are too many: every session that comes up passes here."""
        held = self._table.count()
        if held <= PLACES_MAX and 0 <= now_ms - self._made_room_ms < LOOK_THROUGH_MS:
            return
        self._made_room_ms, kept = now_ms, PLACES_LEFT if held > PLACES_MAX else PLACES_MAX
        places = sorted(self._table.all(), key=lambda place: -worth(place, now_ms))
        gone = [p.did for p in places[:kept] if now_ms - p.met_ms > FORGET_MS]
        gone += [place.did for place in places[kept:]]
        if gone:
            self._table.drop(gone)

    def best(self) -> list[tuple[str, Did, float]]:
        """Address, DID and worth of those to try at a start, best first."""
        now_ms, of_net = self._clock.unix_ms(), dict[str, int]()
        chosen = []
        for place in sorted(self._table.all(), key=lambda place: -worth(place, now_ms)):
            address = contact_at(place.address)
            net = net_of(address[0]) if address else place.address
            if now_ms - place.met_ms <= FORGET_MS and of_net.get(net, 0) < PER_NET_MAX:
                of_net[net] = of_net.get(net, 0) + 1
                chosen.append((place.address, place.did, worth(place, now_ms)))
        return chosen[:TRIED_MAX]
