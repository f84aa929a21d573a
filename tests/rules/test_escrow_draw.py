"""The draw of arbiters and the coupling of a series' lots: the same on every node, chosen by nobody."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import pytest
from msgspec.structs import replace

from common.units import FLOP, Did, Florins
from dux_escrowd import agreement as deal
from dux_escrowd import draw
from dux_escrowd import facts as f
from dux_escrowd import series_rules as series
from dux_escrowd.model import Coin, Exit, Role, Spend, State
from tests.rules.test_escrow_lots import STAGE
from tests.rules.test_escrow_statements import ALICE, BOB, BOND_STAGE, DIDS, LATER, PROFILE, offer, quote
from tests.rules.test_escrow_table import DEAL, OTHER, lot

MANY = tuple(Did("did:dux:" + letter * 52) for letter in "defghijklmnopqrs")
BEACON = b"\x0b" * 32


def terms_for(candidates: tuple[Did, ...] = MANY, weights: tuple[int, ...] = ()) -> deal.Terms:
    made = offer(arbiters=candidates, weights=weights or (0,) * len(candidates))
    return deal.terms_of(made, quote(), ALICE)


def test_the_order_follows_from_terms_and_beacon_alone() -> None:
    """Every node gets the same order; another beacon or other terms give another; everybody is in it once."""
    terms = terms_for()
    order = draw.ranking(terms, BEACON)
    assert order == draw.ranking(terms, BEACON)
    assert set(order) == set(MANY)
    assert draw.ranking(terms, b"\x0c" * 32) != order
    assert draw.ranking(replace(terms, service_id="other"), BEACON) != order
    assert terms.draw_height == terms.heights.start + deal.DRAW_AFTER_BLOCKS
    assert deal.terms_problem(terms, PROFILE, MANY[0], terms.heights.start) is None
    sooner = replace(terms, draw_height=terms.heights.start)
    assert "another height" in (deal.terms_problem(sooner, PROFILE, MANY[0], terms.heights.start) or "")


def test_as_many_candidates_as_seats_are_not_drawn() -> None:
    """Three for three: no beacon is waited for, the signed order stands."""
    terms = terms_for(DIDS[:3])
    assert terms.draw_height == 0
    assert not draw.is_drawn(terms)
    assert draw.ranking(terms, b"") == DIDS[:3]
    assert draw.panel_problem(terms, DIDS[:3][::-1], b"") is None


def test_a_panel_is_the_first_who_accept_with_three_passed_over_at_most() -> None:
    """The first three, or later ones after at most three silent names; a stranger or a fourth skip is refused."""
    terms = terms_for()
    order = draw.ranking(terms, BEACON)
    for panel in permutations(order[:3]):
        assert draw.panel_problem(terms, panel, BEACON) is None
    assert draw.panel_problem(terms, order[3:6], BEACON) is None
    assert "4 names were passed over" in (draw.panel_problem(terms, order[4:7], BEACON) or "")
    assert "4 names" in (draw.panel_problem(terms, (order[0], order[1], order[6]), BEACON) or "")
    for wrong in ((*order[:2], ALICE), order[:2], (order[0], order[0], order[1])):
        assert draw.panel_problem(terms, wrong, BEACON)
    other = draw.ranking(terms, b"\x0c" * 32)
    assert draw.panel_problem(terms, order[-3:], BEACON)
    assert other


def test_a_name_weighs_a_twentieth_at_most() -> None:
    """A giant among sixteen weighs as the cap says, and is drawn about as often as anybody."""
    weights = draw.capped((1_000 * FLOP, *(0,) * 15))
    assert weights[0] == sum((1_000 * FLOP + FLOP // 20, *(FLOP // 20,) * 15)) // 20
    assert weights[1] == FLOP // 20
    assert draw.capped((0,) * 30) == (FLOP // 20,) * 30
    first = Counter(draw.ranking(terms_for(), at.to_bytes(32))[0] for at in range(600))
    assert len(first) == len(MANY)
    assert max(first.values()) < 80, "about 600 / 16 each"


def test_each_party_may_strike_two_that_are_not_needed() -> None:
    """Two of the candidates, once each, and never so many that seats stay empty; who was struck is not drawn."""
    assert draw.strikes_problem((), MANY, 3) is None
    assert draw.strikes_problem(MANY[:2], MANY, 3) is None
    for wrong in (MANY[:3], (MANY[0], MANY[0]), (ALICE,)):
        assert "may strike" in (draw.strikes_problem(wrong, MANY, 3) or "")
    assert "too few" in (draw.strikes_problem(DIDS[:2], DIDS, 3) or "")
    struck = deal.terms_of(offer(arbiters=MANY), quote(strikes=MANY[:2]), ALICE)
    assert struck.candidates == MANY[2:]
    assert set(draw.ranking(struck, BEACON)) == set(MANY[2:])


# --- much at stake: each party's nonce --------------------------------------------------------------------------------

NONCES = (b"1" * 32, b"2" * 32)
SEVEN = {"arbiters": MANY, "weights": (0,) * len(MANY), "arbiters_needed": 4}


def committed_terms(**changes: Any) -> deal.Terms:
    """Terms of 5,001 FLOP with both parties' commitments."""
    made = offer(**SEVEN | {"price_florins": Florins(5_001 * FLOP)} | changes)
    mine, theirs = (
        draw.commitment_to(made.contract_id, did, nonce) for did, nonce in zip((ALICE, BOB), NONCES, strict=True)
    )
    made = replace(made, draw_commitment=mine if deal.is_committed(made) else b"")
    answer = quote(draw_commitment=theirs if made.draw_commitment else b"")
    assert deal.offer_problem(made, ALICE, BOB, PROFILE) is None
    assert deal.quote_problem(made, answer, answer.start) is None
    return deal.terms_of(made, answer, ALICE)


def test_above_the_limit_the_order_hangs_on_both_nonces() -> None:
    """Either nonce changes the order, so does the beacon; the panel is right with both only, in their places."""
    terms = committed_terms()
    order = draw.ranking(terms, BEACON, NONCES)
    for beacon, nonces in ((BEACON, (NONCES[0], b"x" * 32)), (BEACON, (b"x" * 32, NONCES[1])), (b"\x0c" * 32, NONCES)):
        assert draw.ranking(terms, beacon, nonces) != order
    assert draw.panel_problem(terms, order[:7], BEACON, NONCES) is None
    for nonces, words in (
        ((), "0 are shown"),
        (NONCES[:1], "1 are shown"),
        (NONCES[::-1], "another nonce"),
        ((NONCES[0], b"x" * 32), f"{BOB} had committed"),
    ):
        assert words in (draw.panel_problem(terms, order[:7], BEACON, nonces) or "")
    assert deal.terms_problem(terms, PROFILE, MANY[0], terms.heights.start) is None


def test_a_commitment_is_one_party_s_in_one_contract() -> None:
    """Repeated by the other, or in another contract, it opens to nothing."""
    name = committed_terms().contract_id
    mine = draw.commitment_to(name, ALICE, NONCES[0])
    assert mine not in (draw.commitment_to(name, BOB, NONCES[0]), draw.commitment_to(b"x" * 32, ALICE, NONCES[0]))


@pytest.mark.parametrize(
    ("changes", "commits"),
    [
        ({}, True),
        ({"price_florins": Florins(5_000 * FLOP)}, False),
        ({"price_florins": Florins(2_000 * FLOP), "stage": replace(LATER, number=0, begins_blocks=0, count=3)}, True),
        ({"price_florins": Florins(2_000 * FLOP), "stage": replace(LATER, number=0, begins_blocks=0, count=2)}, False),
        ({"arbiters": MANY[:7], "weights": (0,) * 7}, False),
    ],
)
def test_nonces_are_wanted_exactly_where_more_than_a_block_is_at_stake(
    changes: dict[str, Any], *, commits: bool
) -> None:
    """Above 5,000 FLOP, counting all lots of a series, and only where something is drawn; else they are refused."""
    terms = committed_terms(**changes)
    assert len(terms.draw_commitments) == (2 if commits else 0)
    assert deal.terms_problem(terms, PROFILE, MANY[0], terms.heights.start) is None
    other = replace(terms, draw_commitments=() if commits else (b"c" * 32,) * 2)
    assert "a nonce of each party" in (deal.terms_problem(other, PROFILE, MANY[0], terms.heights.start) or "")
    made = offer(**SEVEN | {"price_florins": Florins(5_001 * FLOP)} | changes)
    odd = replace(made, draw_commitment=b"" if commits else b"c" * 32)
    assert "a nonce of each party" in (deal.offer_problem(odd, ALICE, BOB, PROFILE) or "")
    assert "a nonce of the seller" in (
        deal.quote_problem(replace(made, draw_commitment=b"c" * 32), quote(), quote().start) or ""
    )


def test_strikes_that_leave_no_draw_leave_no_nonces() -> None:
    """Nine for seven, two struck: the signed order stands and nothing has to be shown."""
    made = offer(**SEVEN | {"price_florins": Florins(5_001 * FLOP), "arbiters": MANY[:9], "weights": (0,) * 9})
    made = replace(made, draw_commitment=b"c" * 32)
    terms = deal.terms_of(made, quote(strikes=MANY[:2], draw_commitment=b"d" * 32), ALICE)
    assert (terms.draw_height, terms.draw_commitments) == (0, ())
    assert draw.panel_problem(terms, MANY[2:9], b"") is None


def test_stages_and_bonds_of_an_offer_become_the_terms() -> None:
    """A later stage begins where the one before has to be delivered; a bond pays no arbiter by itself."""
    later = deal.terms_of(offer(stage=LATER), quote(), ALICE)
    assert (later.stage.begins, later.stage.number) == (later.heights.fund_by + 5, 1)
    made = deal.deal_of(later)
    assert (made.stage, made.begins, made.bond, made.rung_blocks) == (1, later.stage.begins, False, 2)
    bond = deal.terms_of(offer(stage=BOND_STAGE, result_lock=False), quote(result_hash=b""), ALICE)
    assert (int(bond.arbiter_pay_florins), deal.deal_of(bond).bond) == (0, True)
    assert deal.deal_of(bond).lot_florins == int(bond.price_florins)


# --- the lots of one series -------------------------------------------------------------------------------------------

WAITING = lot(State.FUNDED, Role.SELLER, deal=STAGE)
FIRST = lot(State.RELEASE_SEEN, Role.SELLER, spend=Spend(Exit.RELEASE, "t", 5, None))


@pytest.mark.parametrize(
    ("before", "fact"),
    [
        (FIRST, f.StageOpened),
        (replace(FIRST, state=State.CLOSED), f.StageOpened),
        (replace(FIRST, state=State.DELIVERED, spend=None), None),
        (replace(FIRST, state=State.RELEASE_SIGNED, spend=None), None),
        (replace(FIRST, state=State.DISPUTED, spend=None), f.Abandoned),
        (replace(FIRST, state=State.VOID, spend=None), f.Abandoned),
        (replace(FIRST, state=State.FUNDED, spend=None, abandoned=True), f.Abandoned),
        (replace(FIRST, spend=Spend(Exit.AWARD, "t", 0, None)), f.Abandoned),
        (None, None),
    ],
)
def test_a_stage_begins_or_goes_back_by_what_came_before(before: object, fact: type[f.Fact] | None) -> None:
    """Paid, whatever part: it begins. Ended without pay, or disputed: it goes back, once. Still open: it waits."""
    found = series.turn_of(WAITING, before, 130)  # type: ignore[arg-type]
    assert (type(found) if found else None) is fact
    for other in (
        replace(WAITING, started=True), replace(WAITING, role=Role.BUYER), replace(WAITING, deal=DEAL),
        replace(WAITING, state=State.AGREED),
    ):  # fmt: skip
        assert series.turn_of(other, before, 130) is None  # type: ignore[arg-type]
    if fact is f.Abandoned:
        assert series.turn_of(replace(WAITING, abandoned=True), before, 130) is None  # type: ignore[arg-type]


def test_a_bond_is_told_to_its_lots_when_it_stands_and_when_it_is_gone() -> None:
    """Only a bond that is funded and deep stands; each change is one fact; a spent lot hears of none."""
    work, bond = lot(State.FUNDED), lot(State.FUNDED, coin=Coin(OTHER, 1, 100))
    assert series.bond_fact(work, bond, 120) == f.BondStands(at=120, outpoint=OTHER)
    assert series.bond_fact(replace(work, bond=OTHER), bond, 120) is None
    assert series.bond_fact(replace(work, bond=OTHER), None, 120) == f.BondStands(at=120, outpoint="")
    assert series.bond_fact(work, replace(bond, state=State.FUNDED_SEEN), 120) is None
    assert series.bond_fact(replace(work, spend=Spend(Exit.RELEASE, "t", 1, None)), bond, 120) is None
    assert series.bond_fact(replace(work, coin=None), bond, 120) is None


def test_a_bond_goes_back_when_all_work_is_over() -> None:
    """Every lot closed or void, all of them known; not before, not twice, and only by the buyer of the work."""
    bond = lot(State.FUNDED, Role.SELLER)
    done = [lot(State.CLOSED), lot(State.VOID)]
    assert series.bond_over(bond, done, 2, 130) == f.Abandoned(at=130)
    for works, count in ((done, 3), ([done[0], lot(State.DISPUTED)], 2), ([done[0], None], 2)):
        assert series.bond_over(bond, works, count, 130) is None
    for other in (replace(bond, abandoned=True), replace(bond, role=Role.BUYER), replace(bond, state=State.CLOSED)):
        assert series.bond_over(other, done, 2, 130) is None


def test_a_series_is_funded_when_all_is_agreed_and_the_bond_lies_deep() -> None:
    """One lot missing, not agreed, or a bond that is not there: nothing is paid yet."""
    agreed, bond = lot(State.AGREED), lot(State.FUNDED)
    assert series.why_not_funded([agreed, agreed], 2, bonded=False, bond=None) == ""
    assert series.why_not_funded([agreed], 2, bonded=False, bond=None)
    assert series.why_not_funded([agreed, None], 2, bonded=False, bond=None)
    assert series.why_not_funded([agreed, lot(State.DRAWING)], 2, bonded=False, bond=None)
    assert series.why_not_funded([agreed], 1, bonded=True, bond=None)
    assert series.why_not_funded([agreed], 1, bonded=True, bond=lot(State.FUNDED_SEEN))
    assert series.why_not_funded([agreed], 1, bonded=True, bond=bond) == ""


KNOWN = tuple(number * FLOP for number in (40, 40, 20, 20, 10, 10, 5, 5, 1, 1))


@pytest.mark.parametrize(
    ("told", "fits"),
    [
        (KNOWN, True),
        (tuple(2 * weight for weight in KNOWN), True),  # only the parts matter
        ((45 * FLOP, *KNOWN[1:]), True),  # a trade that one registry has not heard of
        ((0,) * 10, False),  # everybody alike: the light ones gain
        ((*(0,) * 7, *(1_000 * FLOP,) * 3), False),  # three favourites
        ((0, *KNOWN[1:]), False),  # one is kept away
        ((*KNOWN[:9], 4 * FLOP), False),
    ],
)
def test_weights_that_the_buyer_tells_are_bound_by_those_that_others_know(told: tuple[int, ...], *, fits: bool) -> None:
    """A candidate's part in the draw is at most twice, and at least half, of what this node's registry gives it."""
    assert (draw.weights_problem(told, KNOWN) is None) is fits
    gains = [part * sum(draw.capped(KNOWN)) / (right * sum(draw.capped(told)))
             for part, right in zip(draw.capped(told), draw.capped(KNOWN), strict=True)]  # fmt: skip
    assert (min(gains) >= 0.5 and max(gains) <= 2) is fits


def test_who_knows_nothing_of_any_candidate_cannot_tell() -> None:
    assert draw.weights_problem((*(0,) * 9, FLOP), (0,) * 10) is None
