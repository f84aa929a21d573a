"""Who plays in the world of the proof, what was agreed, and the windows in which it happens.

`PROOF` has the inequalities of every heights profile and windows of three blocks, so that a walk block by block
passes one below, at and one above the edge of each. `DEMO` is what the random histories of the tests use.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from common.chain.contract import Policy
from common.chain.fees import FEE_RATE_FLORINS_PER_KB
from common.chain.heights import DEMO, HeightProfile, plan
from common.units import FLOP
from dux_escrowd.model import Deal, Role

PRICE, PAY, START = 10 * FLOP, FLOP // 10, 100
PART = PRICE // 2  # of partial payouts
B, S = "buyer", "seller"
NAMES = ("anna", "bert", "carl", "dora", "emil", "fred", "gina")
ARBITERS = NAMES[:3]
K = 2
PROOF = HeightProfile(
    name="proof",
    depth_blocks=2,
    depth_large_blocks=2,
    large_florins=1000 * FLOP,
    fund_blocks=3,
    start_blocks=3,
    review_blocks=3,
    dispute_before_blocks=17,
    answer_before_blocks=14,
    commit_before_blocks=11,
    reveal_before_blocks=8,
    vote_before_blocks=5,
    rung_blocks=1,
    rebroadcast_blocks=3,
    standby_blocks=3,
    tip_age_max_s=None,
)
PROOF_DELIVER_BLOCKS = 3


class Funding(StrEnum):
    """When the buyer's payment is on the chain."""

    IN_TIME = "in time"
    SEEN = "seen in time, confirmed late"
    LATE = "late"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same through a history: the deal, the panel, who lies, who is silent from the beginning."""

    deal: Deal
    panel: tuple[str, ...] = ARBITERS
    worth_florins: int = PRICE  # what the seller's work is worth to whoever looks at it
    liars: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    parts: bool = False  # the owners may settle for a part
    funding: Funding = Funding.IN_TIME
    stray_florins: int = 0  # a second payment right after fund_by; 0: none
    delay_blocks: int = 2  # a message between nodes that live is late by at most this
    censored_blocks: int = 10  # a spend waits for at most this
    ladder: bool = False  # fees may rise, and spends climb
    fee_rate_florins_per_kb: int = FEE_RATE_FLORINS_PER_KB
    spike_until: int = 10**6  # fees are down again at this height
    steps_signed: int = 0  # a planted fault: co-signatures for so many steps whatever they cost; 0: none planted

    @property
    def good(self) -> bool:
        """The seller's work is what was agreed."""
        return self.worth_florins == PRICE


def deal_for(
    *,
    lock: bool = True,
    policy: Policy = Policy.STANDBY,
    profile: HeightProfile = DEMO,
    seats: int = 3,
    swap_limit: int = PRICE,
    deliver: int | None = None,
    ladder: bool = False,
) -> Deal:
    """A contract of 10 FLOP on a profile's heights."""
    deliver = deliver or (PROOF_DELIVER_BLOCKS if profile is PROOF else 12)
    return Deal(
        buyer=B, seller=S, price_florins=PRICE, lot_florins=PRICE + seats * PAY, arbiters_needed=(seats + 1) // 2,
        seats=seats, lock=lock, policy=policy, swap_limit_florins=swap_limit, depth_blocks=profile.depth_blocks,
        start_blocks=profile.start_blocks, standby_blocks=profile.standby_blocks,
        rebroadcast_blocks=profile.rebroadcast_blocks, heights=plan(profile, START, deliver, PRICE),
        rung_blocks=profile.rung_blocks if ladder else 0,
    )  # fmt: skip


def role_of(name: str) -> Role:
    """Whose eyes."""
    return {B: Role.BUYER, S: Role.SELLER}.get(name, Role.ARBITER)
