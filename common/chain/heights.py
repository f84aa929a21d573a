"""Heights as profiles: the tables that say how many blocks each step of a contract has.

Everything is counted in blocks, never by a clock. A profile is data; its inequalities stand beside it, and a contract
whose heights break them is refused by both sides.

Source: escrow_protocol.md §4 (`main`), settled.md 15 (`demo`).
"""

from __future__ import annotations

import msgspec

from common.codec import Canon
from common.errors import CallerMistake
from common.units import FLOP

LOCKTIME_HEIGHT_MAX = 500_000_000  # from here on a lock time is a clock time
DELIVER_BLOCKS_MAX = 100_000  # of one job: whoever locks coins for it has them back some time after that
RUNGS = 3  # steps of the fee ladder the last margin has to hold


class UnknownHeights(CallerMistake):
    """There is no heights profile {name!r}; those known are {known}."""

    code = 2012
    key = "unknown-heights"


class HeightProfile(msgspec.Struct, frozen=True, kw_only=True):
    """How many blocks each step has; `…_before_blocks` counts back from T."""

    name: str
    depth_blocks: int  # d: confirmations on which a step rests
    depth_large_blocks: int  # d above `large_florins`
    large_florins: int
    fund_blocks: int  # t0 to fund_by, without d
    start_blocks: int  # FUNDED to START
    review_blocks: int
    dispute_before_blocks: int
    answer_before_blocks: int
    commit_before_blocks: int
    reveal_before_blocks: int
    vote_before_blocks: int  # M: between the last step that moves a coin or shows K, and T
    rung_blocks: int  # unconfirmed for so long: climb the fee ladder
    rebroadcast_blocks: int
    standby_blocks: int  # how old an arbiter's ping may be
    tip_age_max_s: int | None  # no key and no refund is decided on an older tip; None: no limit
    bond_step_blocks: int = 1440  # fidelity bonds end at multiples of this: on main a day


MAIN = HeightProfile(
    name="main",
    depth_blocks=6,
    depth_large_blocks=60,
    large_florins=1000 * FLOP,
    fund_blocks=30,
    start_blocks=60,
    review_blocks=120,
    dispute_before_blocks=1440,
    answer_before_blocks=1080,
    commit_before_blocks=720,
    reveal_before_blocks=360,
    vote_before_blocks=144,
    rung_blocks=12,
    rebroadcast_blocks=60,
    standby_blocks=60,
    tip_age_max_s=1200,
)
DEMO = HeightProfile(
    name="demo",
    depth_blocks=2,
    depth_large_blocks=2,
    large_florins=1000 * FLOP,
    fund_blocks=10,
    start_blocks=6,
    review_blocks=6,
    dispute_before_blocks=60,
    answer_before_blocks=48,
    commit_before_blocks=40,
    reveal_before_blocks=28,
    vote_before_blocks=16,
    rung_blocks=2,
    rebroadcast_blocks=10,
    standby_blocks=60,
    tip_age_max_s=None,
    bond_step_blocks=10,
)
PROFILES = {profile.name: profile for profile in (MAIN, DEMO)}


class Heights(Canon, frozen=True):
    """The heights of one contract, all absolute. `timeout` is T."""

    start: int  # t0: the tip when both signed
    fund_by: int
    deliver_by: int
    dispute_by: int
    answer_by: int
    commit_by: int
    reveal_by: int
    vote_by: int
    timeout: int


def heights_profile(name: str) -> HeightProfile:
    """The profile of this name.

    Raises:
        UnknownHeights: there is none.
    """
    if name not in PROFILES:
        raise UnknownHeights(name=name, known=", ".join(PROFILES))
    return PROFILES[name]


def depth_for(profile: HeightProfile, price_florins: int) -> int:
    """d: how deep the funding must lie for a lot of this price, in blocks."""
    return profile.depth_large_blocks if price_florins > profile.large_florins else profile.depth_blocks


def plan(profile: HeightProfile, start: int, deliver_blocks: int, price_florins: int) -> Heights:
    """The earliest heights that leave every step its blocks, for a job of `deliver_blocks` agreed at tip `start`."""
    fund_by = start + profile.fund_blocks + depth_for(profile, price_florins)
    deliver_by = fund_by + deliver_blocks
    timeout = deliver_by + profile.review_blocks + profile.dispute_before_blocks
    return Heights(
        start=start,
        fund_by=fund_by,
        deliver_by=deliver_by,
        dispute_by=timeout - profile.dispute_before_blocks,
        answer_by=timeout - profile.answer_before_blocks,
        commit_by=timeout - profile.commit_before_blocks,
        reveal_by=timeout - profile.reveal_before_blocks,
        vote_by=timeout - profile.vote_before_blocks,
        timeout=timeout,
    )


def profile_problems(profile: HeightProfile) -> list[str]:
    """Which inequalities the profile breaks; empty for a sound one."""
    laws = {
        "the last margin holds three rungs and the depth": (
            profile.vote_before_blocks >= RUNGS * profile.rung_blocks + profile.depth_large_blocks
        ),
        "votes are revealed before the last margin": profile.reveal_before_blocks > profile.vote_before_blocks,
        "votes are committed before they are revealed": profile.commit_before_blocks > profile.reveal_before_blocks,
        "an answer comes before the votes": profile.answer_before_blocks > profile.commit_before_blocks,
        "a dispute leaves time to answer": profile.dispute_before_blocks > profile.answer_before_blocks,
        "a funding can confirm in its window": profile.fund_blocks > profile.depth_blocks,
        "a larger lot rests no less deep": profile.depth_large_blocks >= profile.depth_blocks >= 1,
        "start and review have blocks": min(profile.start_blocks, profile.review_blocks, profile.rung_blocks) >= 1,
        "bonds end at whole steps": profile.bond_step_blocks >= 1,
    }
    return [law for law, holds in laws.items() if not holds]


def heights_problems(profile: HeightProfile, heights: Heights, price_florins: int) -> list[str]:
    """Which inequalities these heights break under the profile; empty when both sides may sign them."""
    timeout = heights.timeout
    laws = {
        "fund_by leaves the funding its window and depth": (
            heights.fund_by >= heights.start + profile.fund_blocks + depth_for(profile, price_florins)
        ),
        "delivery comes after funding": heights.deliver_by > heights.fund_by,
        "review fits before dispute_by": heights.dispute_by >= heights.deliver_by + profile.review_blocks,
        "dispute_by stands at its distance from T": heights.dispute_by == timeout - profile.dispute_before_blocks,
        "answer_by stands at its distance from T": heights.answer_by == timeout - profile.answer_before_blocks,
        "commit_by stands at its distance from T": heights.commit_by == timeout - profile.commit_before_blocks,
        "reveal_by stands at its distance from T": heights.reveal_by == timeout - profile.reveal_before_blocks,
        "vote_by stands at its distance from T": heights.vote_by == timeout - profile.vote_before_blocks,
        "T is a height, not a time": 0 < timeout < LOCKTIME_HEIGHT_MAX,
        "the start is a height": heights.start >= 0,
    }
    return [law for law, holds in laws.items() if not holds]
