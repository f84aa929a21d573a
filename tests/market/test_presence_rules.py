"""Who looks at whom, and what follows from what they saw."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.chain.beacon import beacon_heights
from common.identity.ecvrf import PROOF_BYTES
from common.nets import net_of
from common.network import PresenceParameters, first_problem
from common.race import _minus_log2
from common.units import Did, UnixMs
from common.witness import Sighting
from dux_registryd.draw_rules import (
    BASE_WEIGHT_FLORINS,
    PRIVATE,
    Candidate,
    commonest,
    draw,
    known_net,
    neighbourhoods,
)
from dux_registryd.model import Link
from dux_registryd.presence_rules import (
    SlotView,
    beacon_height,
    day_of,
    fixed_at,
    is_good_day,
    judged,
    needed_of,
    sighting_fault,
    slot_of,
    slots_finished,
    slots_per_day,
    uptime_bps,
)
from dux_registryd.rules import WITNESS_BLOCKS
from dux_registryd.topology_rules import between, median, region_of
from tests.attacks.registry import attack
from tests.market.fakes import network
from tests.market.makers import BUYER, NETWORK, SELLER, STRANGER, changed

RULES = PresenceParameters()
BEACON = b"\x07" * 32


def crowd(count: int, weight: int = 0) -> list[Candidate]:
    return [Candidate(Did(f"did:dux:{number}"), weight, f"10.0.{number}.0/24") for number in range(count)]


def test_the_same_beacon_draws_the_same_names_in_any_order() -> None:
    """Nobody's say: seven of the crowd, each once, never the subject; another beacon, duty or subject, other names."""
    people = crowd(200)
    drawn = draw(BEACON, "probe", SELLER, people, 7, apart=True)
    assert drawn == draw(BEACON, "probe", SELLER, reversed(people), 7, apart=True)
    assert len(set(drawn)) == 7
    others = [
        draw(b"\x08" * 32, "probe", SELLER, people, 7, apart=True),
        draw(BEACON, "audit", SELLER, people, 7, apart=True),
        draw(BEACON, "probe", BUYER, people, 7, apart=True),
    ]
    assert all(set(other) != set(drawn) for other in others)
    about = people[0].did
    assert about not in draw(BEACON, "probe", about, people, 200, apart=True)
    assert draw(BEACON, "probe", SELLER, [], 7, apart=True) == ()


@given(st.sets(st.integers(0, 99), max_size=5))
def test_views_that_differ_a_little_draw_nearly_alike(missing: set[int]) -> None:
    """Whoever does not know some of the crowd draws all those of the others' seven whom it knows."""
    people = crowd(100)
    whole = draw(BEACON, "probe", SELLER, people, 7, apart=True)
    part = draw(BEACON, "probe", SELLER, [one for n, one in enumerate(people) if n not in missing], 7, apart=True)
    assert {did for did in whole if int(did.rpartition(":")[2]) not in missing} <= set(part)


def test_twice_the_weight_is_drawn_twice_as_often() -> None:
    """One that weighs as ten strangers is first as often as ten strangers together."""
    heavy = Candidate(Did("did:dux:heavy"), 9 * BASE_WEIGHT_FLORINS, "")
    wins = sum(
        draw(number.to_bytes(32), "probe", SELLER, [*crowd(10), heavy], 1, apart=True)[0] == heavy.did
        for number in range(2_000)
    )
    assert 900 < wins < 1_100


@attack(
    "presence",
    tries="many identities of one network vouch for each other",
    meets="one seat a /24 or /48, none of the subject's own",
)
def test_neighbours_do_not_vouch_together() -> None:
    """One of a /24 or /48, none of the subject's own; who is seen nowhere shares one seat with all of those."""
    same = [Candidate(Did(f"did:dux:{number}"), 0, "10.0.0.0/24") for number in range(5)]
    assert len(draw(BEACON, "probe", SELLER, same, 7, apart=True)) == 1
    assert draw(BEACON, "probe", SELLER, same, 7, apart=True, own_net="10.0.0.0/24") == ()
    assert len(draw(BEACON, "probe", SELLER, same, 7, apart=False, own_net="10.0.0.0/24")) == 5
    assert len(draw(BEACON, "probe", SELLER, [changed_net(one) for one in same], 7, apart=True)) == 1
    assert len(draw(BEACON, "probe", SELLER, [changed_net(one) for one in same], 7, apart=False)) == 5


def changed_net(one: Candidate) -> Candidate:
    return Candidate(one.did, one.weight, "")


@pytest.mark.parametrize(
    ("address", "net"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("::ffff:198.51.100.7", "198.51.100.0/24"),  # one inside IPv6 is no neighbourhood of its own
        ("::ffff:c633:6407", "198.51.100.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("0.0.0.0", ""),  # noqa: S104 - nobody listens here
        ("::", ""),
        ("224.0.0.1", ""),
        ("through did:dux:abc", ""),
        ("a name", ""),
        ("", ""),
    ],
)
def test_a_neighbourhood_is_a_24_or_a_48(address: str, net: str) -> None:
    """Whatever the address is written as; what is none has none; only ours are taken from another's word."""
    assert net_of(address) == net
    assert known_net(net) == net
    assert known_net(f"{address}/0") == ""


def test_most_words_decide_where_a_node_is() -> None:
    """Of equals the first in order, so that every machine says the same; who saw none says nothing."""
    assert commonest(["", "10.0.1.0/24", "10.0.2.0/24", "10.0.2.0/24", "", ""]) == "10.0.2.0/24"
    assert commonest(["10.0.2.0/24", "10.0.1.0/24"]) == "10.0.1.0/24"
    assert commonest(["", ""]) == commonest([]) == ""


@attack(
    "presence",
    tries="many identities in private networks, or with IPv4 written inside IPv6",
    meets="one seat where anybody is seen in a public network",
)
def test_private_networks_are_one_seat_where_anybody_is_public() -> None:
    """On the internet private addresses are anybody's choice; a network of one house has nothing else."""
    a, b, c, d, e = (Did(f"did:dux:{number}") for number in range(5))
    house = {a: "192.168.1.0/24", b: "10.0.0.0/24", c: "127.1.3.0/24", d: "fd00::/48", e: ""}
    assert neighbourhoods(house) == house
    mixed = house | {a: "8.8.8.0/24"}
    assert neighbourhoods(mixed) == {a: "8.8.8.0/24", b: PRIVATE, c: PRIVATE, d: PRIVATE, e: ""}
    public = {a: "8.8.8.0/24", b: "2a00:1450:1::/48"}
    assert neighbourhoods(public) == public
    assert neighbourhoods({}) == {}
    shared = mixed | {b: "100.64.1.0/24"}  # a carrier's
    assert neighbourhoods(shared)[b] == PRIVATE


@attack("presence", tries="hundreds of names made for a beacon", meets="they come after all that were known before")
@given(st.integers(0, 300), st.integers(1, 12))
def test_names_made_for_a_beacon_win_nothing(late: int, known: int) -> None:
    """However many come after the list was fixed, all of the draw's seats go to those before first, in their order."""
    people = crowd(known)
    new = [Candidate(Did(f"did:dux:new{n}"), 10**12, f"11.{n >> 8}.{n & 255}.0/24", since=101) for n in range(late)]
    drawn = draw(BEACON, "probe", SELLER, [*new, *people], 7, apart=True, fixed_at=100)
    assert drawn[: min(known, 7)] == draw(BEACON, "probe", SELLER, people, 7, apart=True, fixed_at=100)
    assert len(drawn) == min(7, known + late)


def test_a_list_is_fixed_before_anything_of_its_beacon_is_known() -> None:
    """Below the first of the beacon's works by as far as a heartbeat may point back."""
    assert beacon_heights(1_000)[0] - fixed_at(1_000) > WITNESS_BLOCKS
    since = [Candidate(Did(f"did:dux:{n}"), 0, f"10.0.{n}.0/24", since=n) for n in range(5)]
    assert set(draw(BEACON, "probe", SELLER, since, 3, apart=True, fixed_at=2)) == {one.did for one in since[:3]}


@given(st.integers(1, 2**64))
def test_the_logarithm_is_right(drawn: int) -> None:
    """Against floating point, to nine digits."""
    assert math.isclose(_minus_log2(drawn) / 2**32, 64 - math.log2(drawn), abs_tol=1e-8)


def test_slots_follow_the_chain() -> None:
    """Ten blocks a slot, 144 a day, drawn by a beacon two blocks below; at the chain's start by its first block."""
    assert [slot_of(height, RULES) for height in (0, 9, 10, 1_439)] == [0, 0, 1, 143]
    assert [beacon_height(slot, RULES) for slot in (0, 1, 2)] == [0, 8, 18]
    assert (slots_per_day(RULES), day_of(143, RULES), day_of(144, RULES)) == (144, 0, 1)


@pytest.mark.parametrize(("drawn", "needed"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (7, 4), (9, 5), (10, 4)])
def test_four_of_ten_or_half_of_fewer(drawn: int, needed: int) -> None:
    """A slot is up from exactly so many on; nobody to look is not up."""
    assert needed_of(drawn, RULES) == needed
    assert judged(1, drawn, needed, [], RULES).up is (drawn > 0)
    assert not judged(1, drawn, max(0, needed - 1), [], RULES).up


def test_a_network_that_asks_for_more_than_half_gets_it_of_fewer_as_well() -> None:
    """The same part, rounded up."""
    rules = PresenceParameters(challengers=4, needed=3)
    assert [needed_of(drawn, rules) for drawn in range(5)] == [0, 1, 2, 3, 3]


def test_a_slot_tells_where_its_witnesses_saw_the_node() -> None:
    """What most of them say; what is no neighbourhood does not count."""
    told = ["10.0.1.0/24", "10.0.2.0/24", "junk", "10.0.2.0/24"]
    assert judged(1, 4, 4, told, RULES) == SlotView(1, 4, 4, up=True, net="10.0.2.0/24")
    assert judged(1, 4, 4, told[2:3], RULES).net == ""


def test_a_day_is_good_from_four_slots_of_five() -> None:
    """116 of 144."""
    assert [is_good_day(up, RULES) for up in (115, 116, 144)] == [False, True, True]


@pytest.mark.parametrize(
    ("up", "first", "now", "share"),
    [(0, None, 50, None), (0, 50, 50, None), (10, 40, 50, 10_000), (5, 40, 50, 5_000), (504, 1, 5_000, 5_000)],
)
def test_uptime_is_a_part_of_the_finished_slots(up: int, first: int | None, now: int, share: int | None) -> None:
    """From the first slot known, at most seven days back; nothing before a slot is finished."""
    assert uptime_bps(up, first, now, RULES) == share


@pytest.mark.parametrize(("first", "now", "found"), [(None, 9, 0), (9, 9, 0), (9, 12, 3), (1, 5_000, 1_008)])
def test_how_much_of_the_window_was_judged(first: int | None, now: int, found: int) -> None:
    """From the first slot known, at most seven days of 144 slots."""
    assert slots_finished(first, now, RULES) == found


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"network": "00" * 32}, "another network"),
        ({"target": STRANGER}, "another node"),
        ({"slot": 4}, "another node or slot"),
        ({"beacon": b"\x09" * 32}, "another beacon"),
    ],
)
def test_a_sighting_counts_or_is_told_why_not(changes: dict[str, Any], word: str | None) -> None:
    """Each field that is not as drawn has its own words."""
    plain = Sighting(NETWORK, 3, BEACON, SELLER, BUYER, 20, UnixMs(1), "", bytes(PROOF_BYTES))
    sighting = changed(plain, **changes)
    fault = sighting_fault(sighting, network=NETWORK, target=SELLER, slot=3, beacon=BEACON)
    assert (fault is None) if word is None else (word in (fault or ""))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, ""),
        ({"slot_blocks": 0}, "slot_blocks"),
        ({"slot_blocks": 1_441}, "slot_blocks"),
        ({"needed": 11}, "needed <= challengers"),
        ({"needed": 0}, "needed"),
        ({"challengers": 13}, "challengers <= 12"),
        ({"good_day_bps": 10_001}, "good_day_bps"),
    ],
)
def test_a_profile_bounds_its_presence_rules(changes: dict[str, Any], word: str) -> None:
    """What nobody could be seen by, or would not fit a message, is refused when the profile is read."""
    problem = first_problem(network(presence=PresenceParameters(**changes)))
    assert (word in problem) if word else problem == ""


def test_regions_are_as_far_as_the_median_of_their_links() -> None:
    """Both directions count alike, a link to nowhere not at all."""
    regions = {BUYER: "eu", SELLER: "us", STRANGER: "eu"}
    links = [
        Link(BUYER, SELLER, 90, 80, 1, 1),
        Link(SELLER, STRANGER, 110, 80, 1, 1),
        Link(SELLER, BUYER, 500, 1, 1, 1),
    ]
    links += [Link(BUYER, STRANGER, 9, 9, 1, 1), Link(BUYER, Did("did:dux:gone"), 1, 1, 1, 1)]
    found = between(links, regions)
    assert [(one.one, one.other, one.rtt_ms, one.links) for one in found] == [("eu", "eu", 9, 1), ("eu", "us", 110, 3)]
    assert (median([4, 1, 3, 2]), region_of(" EU "), region_of("")) == (2, "eu", "unknown")
