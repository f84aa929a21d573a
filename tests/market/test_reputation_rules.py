"""Reputation: the same receipts give the same score everywhere, work raises it, lost disputes lower it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.network import TierRule, first_problem
from common.quality import DAY_BLOCKS, DECAY, DECAY_BITS, age_days, decayed, quality_ppm
from common.receipts import Outcome
from common.units import FLOP, BlockHeight, Florins
from dux_registryd.model import Presence, Settlement
from dux_registryd.reputation_rules import (
    activity_florins,
    bad_florins,
    duties_of,
    duty_tier,
    jobs,
    log2_milli,
    presence_of,
    score_of,
    standing_milli,
    trade_tier,
    weigh,
)
from tests.market.fakes import network
from tests.market.makers import BUYER, SELLER, STRANGER, TAX_BPS, changed

NEW = Presence(days_known=0, days_witnessed=1)
amounts = st.integers(0, 10**14)


def settled(
    gross: int = 10 * FLOP, *, price: int = 10 * FLOP, outcome: Outcome = Outcome.RELEASED, height: int = 0
) -> Settlement:
    """A settlement of the seller's with its tax."""
    return Settlement(
        cid=b"",
        buyer=BUYER,
        seller=SELLER,
        price_florins=Florins(price),
        gross_florins=Florins(gross),
        tax_florins=Florins(gross * TAX_BPS // 10_000),
        height=BlockHeight(height),
        outcome=outcome,
    )


@pytest.mark.parametrize("day", range(60))
def test_the_decay_table_is_the_exact_root(day: int) -> None:
    """Each entry is 2^(40 - day/60) rounded down: its 60th power is the last one not above 2^(2400 - day)."""
    assert DECAY[day] ** 60 <= 1 << (60 * DECAY_BITS - day) < (DECAY[day] + 1) ** 60


@given(amounts, st.integers(-5, 2_000), st.integers(0, 2_000))
def test_an_amount_halves_every_sixty_days_and_never_grows(florins: int, age: int, more: int) -> None:
    """Older never weighs more; sixty days older weighs half, rounded down; from the future nothing decays."""
    assert decayed(florins, age + more) <= decayed(florins, age) <= florins
    if age >= 0:
        assert decayed(florins, age + 60) == decayed(florins, age) // 2
    assert decayed(florins, min(age, 0)) == florins


@given(amounts, amounts, amounts)
def test_quality_lies_between_nought_and_one_and_moves_the_right_way(good: int, bad: int, more: int) -> None:
    """A stranger has 0.5; more tax paid never lowers Q, more taken back never raises it."""
    assert quality_ppm(0, 0) == 500_000
    assert 0 <= quality_ppm(good, bad) < 1_000_000
    assert quality_ppm(good, bad + more) <= quality_ppm(good, bad)
    if bad == 0:
        assert quality_ppm(good + more, bad) >= quality_ppm(good, bad)


@given(st.integers(1, 10**15), st.integers(0, 10**15))
def test_the_integer_logarithm_is_the_logarithm(bottom: int, extra: int) -> None:
    """Within a thousandth below the real one, never above."""
    real = 1000 * math.log2((bottom + extra) / bottom)
    assert real - 1.1 <= log2_milli(bottom + extra, bottom) <= real + 0.001


@pytest.mark.parametrize(("tax", "s"), [(0.05, 1), (0.15, 2), (0.75, 4), (3.15, 6), (12.75, 8), (25.55, 9)])
def test_the_published_price_of_a_score(tax: float, s: int) -> None:
    """At Q = 1 a score s costs 0.05·(2^s - 1) FLOP of tax, as published."""
    assert standing_milli(round(tax * FLOP), 1_000_000) in (s * 1_000, s * 1_000 - 1)


@pytest.mark.parametrize(
    ("settlement", "bad"),
    [
        (settled(), 0),
        (settled(5 * FLOP), 0),
        (settled(0, outcome=Outcome.CANCELLED), 0),
        (settled(outcome=Outcome.AWARDED), 0),
        (settled(0, outcome=Outcome.AWARDED), 12_500_000),
        (settled(0, outcome=Outcome.REFUNDED), 12_500_000),
        (settled(4 * FLOP, outcome=Outcome.AWARDED), 7_500_000),
    ],
)
def test_only_what_was_taken_back_counts_against_a_seller(settlement: Settlement, bad: int) -> None:
    """A quarter of the tax that an award or a refund left unpaid; agreement of both says nothing bad."""
    assert bad_florins(settlement, TAX_BPS) == bad


@given(st.lists(st.tuples(st.integers(0, 10), st.sampled_from(list(Outcome)), st.integers(0, 300_000)), max_size=8))
def test_a_score_depends_on_receipts_and_not_on_their_order(parts: list[tuple[int, Outcome, int]]) -> None:
    """Any order gives the same score; ω < E, because Q < 1; a paid contract more never lowers the standing."""
    weights = [weigh(settled(g * FLOP, outcome=o, height=h), 300_000, TAX_BPS) for g, o, h in parts]
    score = score_of(weights, NEW)
    assert score == score_of(weights[::-1], NEW)
    assert 0 <= score.weight_florins < max(1, score.good_florins)
    more = score_of([*weights, weigh(settled(), 300_000, TAX_BPS)], NEW)
    assert more.standing_milli >= score.standing_milli
    assert more.good_florins == score.good_florins + 50_000_000 * DECAY[300_000 // DAY_BLOCKS % 60] // (
        1 << (DECAY_BITS + 300_000 // DAY_BLOCKS // 60)
    )


def test_one_main_job_moves_a_reputation() -> None:
    """Ten FLOP paid lift Q from 0.5 to 0.9; one job taken back puts a stranger below it."""
    assert score_of([weigh(settled(), 0, TAX_BPS)], NEW).score_ppm == 916_666
    failed = score_of([weigh(settled(0, outcome=Outcome.AWARDED), 0, TAX_BPS)], NEW)
    assert failed.score_ppm == 83_333
    assert failed.trade_tier == 0


def test_ages_are_whole_days_of_blocks() -> None:
    """1,440 blocks are a day; a tip behind the settlement makes it new, not negative."""
    assert [age_days(100, tip) for tip in (0, 100, 1_539, 1_540)] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("standing", "bad", "known", "tier"),
    [(0, 0, 0, 1), (999, 1, 90, 0), (1_000, 1, 0, 1), (6_000, 0, 59, 1), (5_999, 0, 60, 1), (6_000, 0, 60, 2)],
)
def test_trade_tiers(standing: int, bad: int, known: int, tier: int) -> None:
    """Tier 2 wants 3.15 FLOP of tax and 60 days; little standing with something bad is suspended."""
    assert trade_tier(standing, bad, Presence(days_known=known, days_witnessed=known)) == tier


@pytest.mark.parametrize(
    ("witnessed", "good", "probing", "kept", "tier"),
    [
        (0, 0, None, 60, 0),
        (1, 0, None, 0, 1),
        (60, 47, 10_000, 60, 1),
        (60, 48, 5_000, 60, 2),
        (60, 48, 7_999, 60, 2),
        (60, 60, None, 60, 3),
        (60, 60, None, 59, 2),
        (60, 60, None, 30, 2),
        (60, 60, None, 29, 1),
        (60, 60, 4_999, 60, 1),
    ],
)
def test_duty_tiers_and_the_lower_of_both(
    *, witnessed: int, good: int, probing: int | None, kept: int, tier: int
) -> None:
    """Four good days of five, looking at others and keeping their records is tier 2 and 3; the lower of both counts.

    Days with a heartbeat alone, which a node tells of itself, are never enough for tier 2.
    """
    presence = Presence(
        days_known=200, days_witnessed=witnessed, days_good=good, probing_bps=probing, services=(("dht", kept),)
    )
    assert duty_tier(presence) == tier
    assert score_of([], presence).tier == min(tier, 1)
    assert score_of([], presence, LOOSE).duty_tier >= min(tier, 1)


LOOSE = (
    TierRule(standing_milli=10, days_known=1, good_days=1, probing_bps=0, duties=("relay",)),
    TierRule(standing_milli=20, days_known=2, good_days=2, probing_bps=9_000, duties=("council", "audit")),
)


@pytest.mark.parametrize(
    ("standing", "known", "good", "probing", "tiers"),
    [
        (20, 2, 2, 9_000, (3, 3)),
        (20, 2, 2, 8_999, (3, 2)),
        (19, 2, 1, None, (2, 2)),
        (20, 1, 0, None, (2, 1)),
        (9, 2, 2, None, (1, 3)),
    ],
)
def test_a_network_sets_its_own_thresholds(
    standing: int, known: int, good: int, probing: int | None, tiers: tuple[int, int]
) -> None:
    """Each figure alone holds a node back, in trade or in duty; no tier is reached over one that is not."""
    presence = Presence(days_known=known, days_witnessed=9, days_good=good, probing_bps=probing)
    assert (trade_tier(standing, 0, presence, LOOSE), duty_tier(presence, LOOSE)) == tiers


def test_duties_add_up_and_a_tier_with_a_bond_wants_it() -> None:
    """Each tier has its own duties and those below; a suspended node none. All but the bond is not enough."""
    assert [duties_of(tier, LOOSE) for tier in (0, 1, 2, 3)] == [
        (),
        ("probe",),
        ("probe", "relay"),
        ("audit", "council", "probe", "relay"),
    ]
    rich = Presence(days_known=1_000, days_witnessed=60, days_good=60, services=(("dht", 60),))
    assert (trade_tier(12_000, 0, rich), duty_tier(rich)) == (2, 3)
    assert [trade_tier(12_000, 0, rich, bonded=florins) for florins in (100 * FLOP - 1, 100 * FLOP)] == [2, 3]
    assert first_problem(network(tiers=LOOSE)) == ""
    assert "no less" in first_problem(network(tiers=tuple(reversed(LOOSE))))
    assert "at most" in first_problem(network(tiers=LOOSE[:1] * 9))
    asking = (changed(LOOSE[0], services={"relay": 2}), changed(LOOSE[1], services={"relay": 2, "dht": 1}))
    assert first_problem(network(tiers=asking)) == ""
    assert "no less" in first_problem(network(tiers=(asking[0], changed(LOOSE[1], services={"dht": 9}))))


def test_activity_is_half_the_tax_of_either_side() -> None:
    """Buyer and seller are credited half each; a stranger nothing."""
    found = [settled(), settled(2 * FLOP)]
    assert activity_florins(BUYER, found) == activity_florins(SELLER, found) == 30_000_000
    assert activity_florins(STRANGER, found) == 0


def test_jobs_done_and_failed() -> None:
    """Paid counts as done, taken back as failed, cancelled as neither."""
    kinds = [settled(), settled(0, outcome=Outcome.CANCELLED), settled(0, outcome=Outcome.REFUNDED)]
    assert jobs(weigh(kind, 0, TAX_BPS) for kind in kinds) == (1, 1)


@given(st.sets(st.integers(0, 200)), st.integers(0, 200))
def test_presence_counts_days_of_the_last_sixty(days: set[int], today: int) -> None:
    """Days witnessed are those of the window; known since the first, never negative."""
    presence = presence_of(days, today)
    assert presence.days_witnessed == len([day for day in days if today - 60 < day <= today])
    assert presence.days_known == (max(0, today - min(days)) if days else 0)
