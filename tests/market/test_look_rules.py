"""Who may look at whom by its own secret lot: how many come, whose seat is whose, and how far views may differ."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.network import PresenceParameters
from common.units import BPS, Did
from dux_registryd.draw_rules import BASE_WEIGHT_FLORINS, Candidate
from dux_registryd.look_rules import (
    EVERYBODY,
    EXACT_SEATS,
    NOBODY,
    SEAT_SIGHTINGS,
    SLACK,
    Round,
    bound_of,
    chance,
    ticket_of,
)
from dux_registryd.presence_rules import needed_of
from tests.attacks.registry import attack

ABOUT = Did("did:dux:about")
WANTED = 7
BASE = BASE_WEIGHT_FLORINS


def crowd(count: int, *, since: int = 0, first: int = 0, weight: int = 0) -> list[Candidate]:
    """`count` nodes, each in a neighbourhood of its own."""
    return [
        Candidate(Did(f"did:dux:{n}"), weight, f"10.{n >> 8}.{n & 255}.0/24", since)
        for n in range(first, first + count)
    ]


def round_of(people: list[Candidate], *, apart: bool = True, wanted: int = WANTED) -> Round:
    return Round(people, wanted=wanted, apart=apart, fixed_at=100)


def ticket(slot: int, did: Did) -> bytes:
    """A lot as any key might draw it."""
    return ticket_of(hashlib.sha512(f"{slot}/{did}".encode()).digest())


def came(found: Round, people: list[Candidate], slot: int, *, own_net: str = "", slack: float = 1.0) -> set[Did]:
    return {one.did for one in people if found.may_look(one.did, ABOUT, ticket(slot, one.did), own_net, slack)}


@pytest.mark.parametrize("size", [8, 20, 300])
def test_as_many_come_as_are_wanted(size: int) -> None:
    """On average, whatever the size; and three of them nearly always."""
    people = crowd(size)
    found = round_of(people)
    counts = [len(came(found, people, slot)) for slot in range(300)]
    assert abs(sum(counts) / len(counts) - WANTED) < 5 * math.sqrt(WANTED / len(counts))
    assert sum(count >= 3 for count in counts) / len(counts) > 0.94
    assert found.odds(ABOUT).seats == WANTED


def test_where_there_are_no_more_than_are_wanted_all_come() -> None:
    """Seven, or two; the node itself and its neighbours do not count among them."""
    for people in (crowd(7), crowd(2)):
        found = round_of(people)
        assert found.odds(ABOUT).early_bound == EVERYBODY
        assert came(found, people, 1) == {one.did for one in people}
        assert found.odds(ABOUT).seats == len(people)
    people = crowd(8)
    found, itself = round_of(people), people[0]
    assert found.odds(itself.did, itself.net).early_bound == EVERYBODY
    assert not found.may_look(itself.did, itself.did, ticket(1, itself.did), itself.net)
    assert found.odds(Did("did:dux:a guest"), people[3].net).early_bound == EVERYBODY
    assert found.odds(ABOUT).early_bound < EVERYBODY


@attack(
    "presence",
    tries="a node answers only those who will look at it, known to it from the public draw",
    meets="who looks has drawn itself by a secret key, and shows it afterwards",
)
def test_without_the_key_nobody_knows_who_will_look() -> None:
    """A key's lots for one slot and node tell nothing of the next; every candidate comes now and then."""
    people = crowd(30)
    found = round_of(people)
    slots = [came(found, people, slot) for slot in range(200)]
    assert Counter(did for slot in slots for did in slot).keys() == {one.did for one in people}
    twice = sum(len(one & other) for one, other in pairwise(slots)) / (len(slots) - 1)
    assert twice < WANTED * WANTED / 30 * 1.5  # as many as chance has it


def test_twice_the_weight_comes_twice_as_often() -> None:
    """While it is rare; nobody comes more than always."""
    people = [*crowd(400), Candidate(Did("did:dux:heavy"), 9 * BASE, "11.0.0.0/24")]
    found = round_of(people)
    heavy = sum(found.may_look(people[-1].did, ABOUT, ticket(slot, people[-1].did)) for slot in range(2_000))
    light = sum(found.may_look(one.did, ABOUT, ticket(slot, one.did)) for one in people[:10] for slot in range(2_000))
    assert 0.8 < heavy / light < 1.2
    assert chance(BASE, 0.5) == pytest.approx(1 - 2**-0.5)


@attack(
    "presence",
    tries="a hand with two fifths of all weight vouches for a node that is off, or keeps silent about one that is up",
    meets="it has two slots of three by itself, and the others see five of six: four of five make a day",
)
def test_two_fifths_of_all_weight_neither_pass_a_node_that_is_off_nor_starve_one_that_is_up() -> None:
    """By the rules as shipped, liars a tenth beyond the bound; with three of seven the honest one falls short."""
    rules, people, slots = PresenceParameters(), crowd(200), range(600)
    liars = {one.did for one in people[:80]}
    found = round_of(people, wanted=rules.challengers)
    needed = needed_of(found.odds(ABOUT).seats, rules)
    off = sum(len(came(found, people, slot, slack=SLACK) & liars) >= needed for slot in slots) / len(slots)
    up = sum(len(came(found, people, slot) - liars) >= needed for slot in slots) / len(slots)
    good = rules.good_day_bps / BPS
    assert off < good - 0.1
    assert up > good + 0.02
    always = sum(len(came(found, people, slot)) >= needed for slot in slots) / len(slots)
    assert always > 0.98
    before = round_of(people, wanted=7)
    assert sum(len(came(before, people, slot) - liars) >= 3 for slot in slots) / len(slots) < good


@attack(
    "presence",
    tries="many identities of one network draw themselves and vouch together",
    meets="one seat a /24 or /48, none of the subject's own; the bound counts networks, not names",
)
def test_a_neighbourhood_has_one_seat() -> None:
    """However many of it come; unseen ones share one; where networks are not kept apart each counts."""
    same = [Candidate(Did(f"did:dux:s{n}"), 0, "12.0.0.0/24") for n in range(50)]
    people = [*crowd(3), *same]
    found = round_of(people)
    everybody = [one.did for one in people]
    assert found.odds(ABOUT).seats == found.seated(everybody, ABOUT) == 4
    assert found.seated(everybody, ABOUT, "12.0.0.0/24") == 3
    assert not came(found, same, 1, own_net="12.0.0.0/24")
    unseen = [Candidate(one.did, 0, "") for one in same]
    assert round_of([*crowd(3), *unseen]).seated(everybody, ABOUT) == 4
    within = round_of(people, apart=False)
    assert within.odds(ABOUT).seats == WANTED
    assert within.seated(everybody[:5], ABOUT, "12.0.0.0/24") == 5
    assert within.seated(everybody, ABOUT) == WANTED


@attack(
    "presence",
    tries="look keys made until their lots fit a known beacon",
    meets="a key counts 66 blocks after it was told; before, only for seats that stay free",
)
@given(st.integers(0, 60), st.integers(0, 12))
def test_keys_made_for_a_beacon_take_only_free_seats(late: int, known: int) -> None:
    """Best of all lots or not: with seven known ones none of them may look, with fewer so many as are missing count."""
    people = crowd(known)
    new = [Candidate(one.did, 10**12, one.net, 101) for one in crowd(late, first=1_000)]
    found = round_of([*people, *new])
    free = max(0, WANTED - known)
    best = b"\xff" * 32
    looked = [one.did for one in new if found.may_look(one.did, ABOUT, best)]
    assert bool(looked) == (late > 0 and free > 0)
    assert found.seated([*(one.did for one in people), *looked], ABOUT) == min(WANTED, known + min(late, free))
    assert found.odds(ABOUT).late_seats == min(late, free)


def test_who_came_late_to_a_taken_seat_may_not_sit_there() -> None:
    """Not even while seats are free."""
    people = [*crowd(2), Candidate(Did("did:dux:late"), 0, "10.0.0.0/24", 101)]
    found = round_of(people)
    assert not found.may_look(Did("did:dux:late"), ABOUT, b"\xff" * 32)
    assert found.seated([Did("did:dux:late")], ABOUT) == 0
    assert not found.may_look(Did("did:dux:nobody"), ABOUT, b"\xff" * 32)
    assert found.owed([people[0].did])[Did("did:dux:late")] == 0


@given(st.sets(st.integers(0, 99), max_size=8))
def test_who_may_look_by_its_own_view_is_taken_in_one_that_knows_a_little_less_or_more(missing: set[int]) -> None:
    """A twelfth of the network may be unknown to either."""
    people = crowd(100)
    whole, part = round_of(people), round_of([one for n, one in enumerate(people) if n not in missing])
    both = [one for n, one in enumerate(people) if n not in missing]
    for mine, yours in ((whole, part), (part, whole)):
        for slot in range(5):
            assert came(mine, both, slot) <= came(yours, both, slot, slack=SLACK)


def test_far_beyond_the_bound_no_view_takes_a_lot() -> None:
    """The slack brings at most a tenth more than are wanted."""
    people = crowd(300)
    found = round_of(people)
    counts = [len(came(found, people, slot, slack=SLACK)) for slot in range(300)]
    assert WANTED < sum(counts) / len(counts) < WANTED * SLACK * 1.05


def test_of_a_list_of_witnesses_one_of_each_seat_comes_first() -> None:
    """Those known early before late ones; then seconds, whoever may not sit, and who is unknown, in the order given."""
    people = crowd(2)
    second = Candidate(Did("did:dux:second"), 0, people[0].net)
    late = Candidate(Did("did:dux:late"), 0, "12.0.0.0/24", 101)
    late_beside = Candidate(Did("did:dux:late beside"), 0, people[1].net, 101)
    nobody = Did("did:dux:nobody")
    found = round_of([*people, second, late, late_beside])
    came = [nobody, late_beside.did, late.did, second.did, people[0].did, people[1].did]
    first = [second.did, people[1].did, late.did]
    assert found.seats_first(came) == [*first, nobody, late_beside.did, people[0].did]
    assert found.seats_first(came, people[1].net)[:2] == [second.did, late.did]
    assert found.seats_first([]) == []
    assert found.beside(second.did, came) == 2
    assert found.beside(nobody, came[1:]) == 0


def test_more_of_a_seat_than_are_kept_owe_no_more() -> None:
    """Of ten beside each other four words are kept, so each owes two looks of five; three owe whole ones."""
    crowded = [Candidate(Did(f"did:dux:c{n}"), 0, "12.0.0.0/24") for n in range(10)]
    up = crowd(1)[0].did
    owed = round_of([*crowd(1), *crowded]).owed([up])
    assert [owed[one.did] for one in crowded] == pytest.approx([SEAT_SIGHTINGS / 10] * 10)
    owed = round_of([*crowd(1), *crowded[:3]]).owed([up])
    assert {owed[one.did] for one in crowded[:3]} == {1.0}


def test_what_is_owed_is_what_chance_has() -> None:
    """In sum seven looks a node, none at one's own neighbours; where all look, each owes one for every other node."""
    people = crowd(40)
    owed = round_of(people).owed([one.did for one in people])
    assert sum(owed.values()) == pytest.approx(WANTED * 39, rel=0.01)
    few = crowd(3)
    assert set(round_of(few).owed([one.did for one in few]).values()) == {2.0}
    unseen = [Candidate(one.did, 0, "") for one in few]
    assert set(round_of(unseen).owed([one.did for one in few[:2]]).values()) == {1.0, 2.0}


def test_a_large_network_is_not_reckoned_anew_for_every_node() -> None:
    """Above so many seats a node's own moves the bound by less than the slack, and is left in."""
    people = crowd(EXACT_SEATS + 1)
    found = round_of(people)
    assert found.odds(people[0].did, people[0].net) is found.odds(ABOUT)
    small = round_of(people[:100])
    assert small.odds(people[0].did, people[0].net) is small.odds(people[1].did, people[1].net)
    assert small.odds(people[0].did, people[0].net).early_bound > small.odds(ABOUT).early_bound


def test_who_leaves_a_nodes_own_seat_in_is_taken_by_who_does_not() -> None:
    """One registry knows a hundred seats and one a hundred and one: the slack covers it up to a tenth of all weight."""
    assert EXACT_SEATS == 100
    for share in (1 / EXACT_SEATS, 0.1):
        heavy = Candidate(Did("did:dux:heavy"), round(share / (1 - share) * EXACT_SEATS * BASE) - BASE, "12.0.0.0/24")
        more = round_of([*crowd(EXACT_SEATS), heavy]).odds(heavy.did, heavy.net)
        fewer = round_of([*crowd(EXACT_SEATS - 1), heavy]).odds(heavy.did, heavy.net)
        assert max(fewer.early_bound / more.early_bound, more.early_bound / fewer.early_bound) < SLACK


def test_bounds_at_their_ends() -> None:
    """Nobody where none is wanted; everybody where there are not more; the node's own weight leaves a shared seat."""
    assert bound_of({BASE: 3}, 0) == NOBODY
    assert bound_of({BASE: 3}, 3) == bound_of({}, 0) == EVERYBODY
    shared = [Candidate(Did(f"did:dux:u{n}"), 0, "") for n in range(2)]
    found = round_of([*crowd(7), *shared])
    assert found.odds(shared[0].did).early_bound > found.odds(ABOUT).early_bound
    late = [Candidate(Did(f"did:dux:l{n}"), 0, f"13.0.{n}.0/24", 101) for n in range(9)]
    mixed = round_of([*crowd(2), *late])
    assert mixed.odds(late[0].did, late[0].net).late_bound > mixed.odds(ABOUT).late_bound
    assert mixed.odds(late[0].did).late_bound == mixed.odds(late[0].did, late[0].net).late_bound
    beside = round_of([*crowd(8), Candidate(Did("did:dux:beside"), 0, "10.0.0.0/24", 101)])
    assert beside.odds(Did("did:dux:beside")).early_bound == beside.odds(ABOUT).early_bound
