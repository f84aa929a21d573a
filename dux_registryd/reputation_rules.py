"""Reputation from receipts: the same receipts give the same score on every machine, to the last digit.

Integer arithmetic only, decay by a table per day, age by block height. What counts:

- Good (E): the tax that a seller's settled contracts paid into the community fund. A score is therefore never cheaper
  than what was burnt for it.
- Bad (N): a quarter of the tax that was *not* paid because arbiters or the timeout gave the price back to the buyer.
  A contract that both sides cancelled, or a release of less than the price, says nothing bad: both agreed to it.
- Q = (E + 0.05 FLOP) / (E + 4·N + 0.1 FLOP): 0.5 for a stranger, towards 1 by paid work, towards 0 by lost disputes.
- s = Q · log2(1 + E / 0.05 FLOP): shown, and used for tiers, never for draws (they would reward splitting oneself).
- ω = Q · E: linear, what draws use.

Proven faults (`fault_rules.py`) take tiers and half of what was earned before them. Bonds open the tiers that ask for
one (`bonds.py`); as the V of the full formula they add nothing to a score, nor do airdrops received.

Source: mechanisms.md §1.1; settled.md 31.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

from common.network import TIERS, TierRule
from common.quality import (
    PPM,
    PRIOR_GOOD_FLORINS,
    age_days,
    decayed,
    missed_tax_florins,
    quality_ppm,
)
from common.receipts import Outcome
from common.units import BPS, Did, Florins
from dux_registryd.audit_rules import NO_AUDITS, AuditWeight
from dux_registryd.fault_rules import NO_PENALTY, Penalty, halvings
from dux_registryd.model import Presence, Score, Settlement, Weight

LOG_BITS = 16
RATIO_BITS = 64

PROBING = "probe"  # the duty of every node that is not suspended
PRESENCE_WINDOW_DAYS = 60
SUSPENDED_BELOW_MILLI = 1_000  # with anything bad on the books


def good_florins(settlement: Settlement) -> Florins:
    """The tax paid; all of it is the seller's merit."""
    return settlement.tax_florins


def bad_florins(settlement: Settlement, tax_bps: int) -> Florins:
    """A quarter of the tax not paid, where the chain or arbiters gave the price back; 0 where both agreed."""
    if settlement.outcome in (Outcome.RELEASED, Outcome.CANCELLED):
        return Florins(0)
    return missed_tax_florins(settlement.price_florins, settlement.gross_florins, tax_bps)


def weigh(settlement: Settlement, tip: int, tax_bps: int) -> Weight:
    """What a settlement adds to its seller at this tip."""
    age = age_days(settlement.height, tip)
    return Weight(
        settlement=settlement,
        age_days=age,
        good_florins=decayed(good_florins(settlement), age),
        bad_florins=decayed(bad_florins(settlement, tax_bps), age),
    )


def log2_milli(top: int, bottom: int) -> int:
    """log2(top / bottom) in thousandths, rounded down; for top ≥ bottom > 0.

    Sixteen binary places by repeated squaring: integers only, so that every machine finds the same.
    """
    ratio = (top << RATIO_BITS) // bottom
    whole = ratio.bit_length() - RATIO_BITS - 1
    mantissa, places = ratio >> whole, whole
    for _ in range(LOG_BITS):
        mantissa = mantissa * mantissa >> RATIO_BITS
        carry = mantissa >> (RATIO_BITS + 1)
        mantissa, places = mantissa >> carry, places << 1 | carry
    return places * 1_000 >> LOG_BITS


def standing_milli(good: int, quality: int) -> int:
    """The standing s, in thousandths."""
    return quality * log2_milli(int(good) + PRIOR_GOOD_FLORINS, PRIOR_GOOD_FLORINS) // PPM


def trade_tier(standing: int, bad: int, presence: Presence, tiers: Sequence[TierRule] = TIERS, bonded: int = 0) -> int:
    """0: suspended (little standing and something bad); 1: Initiate; above: standing, age and bond as is asked."""
    if bad > 0 and standing < SUSPENDED_BELOW_MILLI:
        return 0
    return 1 + _reached(
        standing >= rule.standing_milli and presence.days_known >= rule.days_known and bonded >= rule.bond_florins
        for rule in tiers
    )


def duty_tier(presence: Presence, tiers: Sequence[TierRule] = TIERS) -> int:
    """0: never witnessed; 1: witnessed; above: good days as drawn challengers saw them, and looking itself."""
    if presence.days_witnessed == 0:
        return 0
    looks = BPS if presence.probing_bps is None else presence.probing_bps
    done = dict(presence.services)
    return 1 + _reached(
        presence.days_good >= rule.good_days
        and looks >= rule.probing_bps
        and all(done.get(name, 0) >= least for name, least in rule.services.items())
        for rule in tiers
    )


def _reached(met: Iterable[bool]) -> int:
    """How many rules are met before the first that is not."""
    return sum(1 for _ in takewhile(bool, met))


def duties_of(tier: int, tiers: Sequence[TierRule] = TIERS) -> tuple[str, ...]:
    """What a node of a tier is asked to do, sorted; nothing of a suspended one."""
    if tier < 1:
        return ()
    return tuple(sorted({PROBING, *(duty for rule in tiers[: tier - 1] for duty in rule.duties)}))


def score_of(
    weights: Sequence[Weight],
    presence: Presence,
    tiers: Sequence[TierRule] = TIERS,
    penalty: Penalty = NO_PENALTY,
    audits: AuditWeight = NO_AUDITS,
    bonded: int = 0,
) -> Score:
    """A seller's standing from what its settlements weigh, its faults cost and audits found; their order is no matter.

    A passed audit moves Q alone: neither standing nor draws can be had without tax.
    """
    good = sum(int(weight.good_florins) >> halvings(weight.age_days, penalty) for weight in weights)
    bad = sum(int(weight.bad_florins) for weight in weights) + int(audits.bad)
    quality = quality_ppm(good + int(audits.good), bad)
    standing = standing_milli(good, quality)
    return Score(
        good_florins=Florins(good),
        bad_florins=Florins(bad),
        score_ppm=quality,
        standing_milli=standing,
        weight_florins=Florins(quality * good // PPM),
        trade_tier=_lowered(trade_tier(standing, bad, presence, tiers, bonded), penalty),
        duty_tier=duty_tier(presence, tiers),
    )


def _lowered(tier: int, penalty: Penalty) -> int:
    """A fault takes tiers, but only a ban the last one."""
    return 0 if penalty.banned else min(tier, max(1, tier - penalty.tiers_down))


def activity_florins(did: Did, settlements: Iterable[Settlement]) -> Florins:
    """Half the tax of every contract that a node was a party of: what counts as taking part."""
    own = (item for item in settlements if did in (item.buyer, item.seller))
    return Florins(sum(int(item.tax_florins) // 2 for item in own))


def jobs(weights: Iterable[Weight]) -> tuple[int, int]:
    """How many contracts paid the seller something, and how many were taken back from it."""
    done = failed = 0
    for weight in weights:
        if weight.settlement.gross_florins > 0:
            done += 1
        elif weight.settlement.outcome is not Outcome.CANCELLED:
            failed += 1
    return done, failed


def presence_of(days: Iterable[int], today: int) -> Presence:
    """Presence from the day numbers (height // DAY_BLOCKS) on which heartbeats were witnessed."""
    seen = sorted(set(days))
    recent = [day for day in seen if 0 <= today - day < PRESENCE_WINDOW_DAYS]
    return Presence(days_known=max(0, today - seen[0]) if seen else 0, days_witnessed=len(recent))
