"""Signs that a light wallet is being kept from the truth, from what it can see itself. Pure.

A wallet whose every peer belongs to one hand sees a true chain, but perhaps not the one with most work, and perhaps not
its own payments. No sign here proves that; each is one that an honest network shows seldom. The wallet goes on: what it
shows the owner is how much to wait before believing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from common.chain.difficulty import target_of

BEHIND_BLOCKS = 3  # a peer may be this far ahead while its headers are on their way
DEEP_FORK_BLOCKS = 6
FELL_FACTOR = 8  # the target a day ago against now: honest miners do not leave so fast
STALE_SPACINGS = 60  # e^-60: an honest network is never silent for so long


class Signal(StrEnum):
    """What looks wrong."""

    FEW_PEERS = "few-peers"
    ONE_NET = "one-net"
    STALE_TIP = "stale-tip"
    BEHIND_PEERS = "behind-peers"
    TIPS_DISAGREE = "tips-disagree"
    DIFFICULTY_FELL = "difficulty-fell"
    DEEP_FORK = "deep-fork"
    WITHHELD = "withheld-transactions"
    UNHEARD = "own-transactions-unheard"
    UNCHECKED = "not-cross-checked"


class PeerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What one connected peer says of the chain."""

    net: str
    height: int  # the most it claimed or showed
    tip_shown: bytes  # hash of the best block it showed; empty while it showed none


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that the signals are drawn from."""

    peers: Sequence[PeerSeen]
    wanted: int
    apart: bool
    height: int
    tip_age_s: float
    spacing_s: int
    is_real_time: bool  # a test chain's clock is its miner's
    bits_now: int
    bits_day_ago: int
    deepest_fork: int
    withheld: int  # transactions that some peer left out, in the last day
    unheard: int  # own transactions that no peer announced back
    checked_blocks: int
    unchecked_blocks: int


def signals_of(seen: Seen) -> list[Signal]:
    """What looks wrong, in the order of the list above."""
    tips = {peer.tip_shown for peer in seen.peers if peer.tip_shown}
    checks = {
        Signal.FEW_PEERS: len(seen.peers) < seen.wanted,
        Signal.ONE_NET: seen.apart and len(seen.peers) > 1 and len({peer.net for peer in seen.peers}) == 1,
        Signal.STALE_TIP: seen.is_real_time and seen.tip_age_s > STALE_SPACINGS * seen.spacing_s,
        Signal.BEHIND_PEERS: any(peer.height > seen.height + BEHIND_BLOCKS for peer in seen.peers),
        Signal.TIPS_DISAGREE: len(tips) > 1,
        Signal.DIFFICULTY_FELL: seen.is_real_time
        and target_of(seen.bits_now) > FELL_FACTOR * max(1, target_of(seen.bits_day_ago)),
        Signal.DEEP_FORK: seen.deepest_fork >= DEEP_FORK_BLOCKS,
        Signal.WITHHELD: seen.withheld > 0,
        Signal.UNHEARD: seen.unheard > 0,
        Signal.UNCHECKED: seen.wanted > 1 and seen.unchecked_blocks > seen.checked_blocks,
    }
    return [signal for signal, holds in checks.items() if holds]
