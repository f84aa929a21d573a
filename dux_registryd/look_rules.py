"""Who may look at whom in a slot, when everybody draws for itself with a key of its own and shows it afterwards.

A witness is one whose ticket, made of what its look key draws from beacon, slot, node and its own name, arrives by a
bound: so the node that is looked at cannot know beforehand who will come. The bound is such that witnesses from as many
neighbourhoods are to be expected as a draw would have seats; where there are no more neighbourhoods than seats there
is none, and all may look. As in a draw (draw_rules.py) a neighbourhood has one seat however many of it come, the node's
own has none, weight counts linearly, and whoever was not known long before takes only seats that the others leave free.

Views of the network differ, so a ticket of another is taken up to a tenth beyond the bound: a node that is known to one
of two registries alone moves it by a fraction of that. Bounds are floating point for the same reason. More would give
liars as many more seats.

Source: mechanisms.md §2.4.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from common.nets import UNSEEN
from common.race import LOG_BITS, TICKET_BITS, arrival
from common.units import Did
from dux_registryd.draw_rules import BASE_WEIGHT_FLORINS, Candidate

EVERYBODY, NOBODY = float("inf"), -1.0  # bounds
SLACK = 1.1  # of the bound, for tickets of others
# Above, the node's own seat is left in: one in a hundred moves the bound by a hundredth, one with a tenth of all weight
# by less than the slack; and a bound sought for every node anew would hold up all else.
EXACT_SEATS = 100
SEAT_SIGHTINGS = 4  # of one neighbourhood that are of use in a slot: one counts, three for views that differ
HALVINGS = 60  # of the interval in which the bound is sought
NO_CHANGE = (0, 0, 0)
_UNIT = 1 << (LOG_BITS + TICKET_BITS)  # of arrivals, for one halving of the chance per florin


@dataclass(frozen=True, slots=True)
class Odds:
    """What holds for one node in one slot: the bounds, and how many seats there are in all and for late comers."""

    early_bound: float
    late_bound: float
    seats: int
    late_seats: int


def ticket_of(drawn: bytes) -> bytes:
    """The ticket of what a look key drew (64 bytes)."""
    return hashlib.sha256(drawn).digest()


def bound_of(weights: Mapping[int, int], wanted: int) -> float:
    """The arrival by which as many neighbourhoods are expected as wanted; `weights`: how many there are of each."""
    if sum(weights.values()) <= wanted:
        return EVERYBODY
    if wanted < 1:
        return NOBODY
    low, high = 0.0, 1.0
    while _expected(weights, high) < wanted:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _expected(weights, middle) < wanted else (low, middle)
    return high * _UNIT / BASE_WEIGHT_FLORINS


def _expected(weights: Mapping[int, int], halvings: float) -> float:
    """How many come when one of the base weight is there with a chance of 1 - 2^-halvings."""
    return sum(count * chance(weight, halvings) for weight, count in weights.items())


def chance(weight: int, halvings: float) -> float:
    """Of one of this weight to be there by then."""
    return 1 - float(2 ** (-halvings * weight / BASE_WEIGHT_FLORINS))


class Round:
    """The candidates of one slot, and what each of them may do."""

    def __init__(self, candidates: Iterable[Candidate], *, wanted: int, apart: bool, fixed_at: int) -> None:
        """`wanted`: seats; `apart`: one of a neighbourhood; `fixed_at`: the height at which one must be known."""
        self._wanted = wanted
        self._weights: dict[Did, int] = {}
        self._seats: dict[Did, str] = {}
        self._late: set[Did] = set()
        sums: tuple[Counter[str], Counter[str]] = Counter(), Counter()  # weight of each seat: early, late
        for one in candidates:
            seat, is_late = one.net if apart else one.did, one.since > fixed_at
            self._weights[one.did], self._seats[one.did] = one.weight + BASE_WEIGHT_FLORINS, seat
            if is_late:
                self._late.add(one.did)
            sums[is_late][seat] += one.weight + BASE_WEIGHT_FLORINS
        self._early, self._after = sums
        for seat in self._early:
            self._after.pop(seat, None)  # who came late to a seat that is taken may not sit there
        self._counts = Counter(self._early.values()), Counter(self._after.values())
        self._odds: dict[tuple[int, int, int], Odds] = {}

    def odds(self, target: Did, own_net: str = UNSEEN) -> Odds:
        """For one node; its own neighbourhood has no seat, nor has the node itself."""
        key = self._change(target, own_net)
        if key not in self._odds:
            early, late = (_changed(self._counts[at], key) if at == key[0] else self._counts[at] for at in (0, 1))
            early_seats, late_seats = sum(early.values()), sum(late.values())
            free = max(0, self._wanted - early_seats)
            self._odds[key] = Odds(
                bound_of(early, self._wanted),
                bound_of(late, free),
                min(self._wanted, early_seats + late_seats),
                min(free, late_seats),
            )
        return self._odds[key]

    def _change(self, target: Did, own_net: str) -> tuple[int, int, int]:
        """Which seat is another for this node: among the early (0) or the late ones, what it weighs, and then."""
        seat = self._seats.get(target, own_net)
        at = int(seat in self._after)
        before = (self._early, self._after)[at][seat]
        if len(self._early) > EXACT_SEATS or not before:
            return NO_CHANGE
        if seat == own_net != UNSEEN:
            return at, before, 0
        is_in_it = target in self._weights and (target in self._late) == bool(at)
        return at, before, before - (self._weights[target] if is_in_it else 0)

    def may_look(self, witness: Did, target: Did, ticket: bytes, own_net: str = UNSEEN, slack: float = 1.0) -> bool:
        """Whether a ticket arrives in time; never for who is no candidate, or sits beside the node."""
        if witness not in self._weights or witness == target or self._seats[witness] == (own_net or None):
            return False
        bound = self._bound(witness, self.odds(target, own_net))
        return arrival(ticket, self._weights[witness])[0] <= bound * slack

    def _bound(self, witness: Did, odds: Odds) -> float:
        if witness not in self._late:
            return odds.early_bound
        return odds.late_bound if self._seats[witness] in self._after else NOBODY

    def seated(self, witnesses: Iterable[Did], target: Did, own_net: str = UNSEEN) -> int:
        """How many seats these have: one of a neighbourhood, and late ones no more than are free for them."""
        odds = self.odds(target, own_net)
        early, late = self._sitting(witnesses, own_net)
        return min(odds.seats, len(early) + min(len(late), odds.late_seats))

    def seats_first(self, witnesses: Iterable[Did], own_net: str = UNSEEN) -> list[Did]:
        """The same witnesses: one of each seat, those known early before late ones, then all others."""
        came = list(witnesses)
        early, late = self._sitting(came, own_net)
        return list(dict.fromkeys([*early.values(), *late.values(), *came]))

    def _sitting(self, witnesses: Iterable[Did], own_net: str) -> tuple[dict[str, Did], dict[str, Did]]:
        """The first to come to each seat: of those known early, and of late ones to seats that are left to them."""
        early: dict[str, Did] = {}
        late: dict[str, Did] = {}
        for did in witnesses:
            seat = self._seats.get(did)
            if seat is None or seat == (own_net or None):
                continue
            if did not in self._late:
                early.setdefault(seat, did)
            elif seat in self._after:
                late.setdefault(seat, did)
        return early, late

    def beside(self, witness: Did, others: Iterable[Did]) -> int:
        """How many of the others have the witness's seat."""
        return sum(self._seats.get(did, did) == self._seats.get(witness, witness) for did in others)

    def owed(self, up: Collection[Did]) -> dict[Did, float]:
        """How many of these nodes, who were up, each candidate can be expected to have looked at with its word kept."""
        there, plain = Counter(self._seats.get(did, UNSEEN) for did in up), self.odds(Did(""))
        chances: dict[Did, float] = {}
        crowds: dict[str, float] = {}  # how many of each seat are expected
        for did, seat in self._seats.items():
            halvings = self._bound(did, plain) * BASE_WEIGHT_FLORINS / _UNIT
            chances[did] = chance(self._weights[did], halvings)
            crowds[seat] = crowds.get(seat, 0.0) + chances[did]
        owed = {}
        for did, seat in self._seats.items():
            others = len(up) - (int(did in up) if seat == UNSEEN else there[seat])
            owed[did] = others * chances[did] * SEAT_SIGHTINGS / max(SEAT_SIGHTINGS, crowds[seat])
        return owed


def _changed(counts: Counter[int], key: tuple[int, int, int]) -> Counter[int]:
    """Seats by weight, when one weighs something else, or nothing."""
    _, before, after = key
    found = Counter(counts)
    found[before] -= 1
    found[after] += 1
    del found[0]
    return +found
