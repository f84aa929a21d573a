"""Heights and limits of channels as profiles, and what forbids entering one. Pure.

Source: channel_protocol.md §3 (`main`); settled.md 15 (`demo`: the same, in blocks that a test network mines by timer).
"""

from __future__ import annotations

import msgspec

from common.chain.address import is_p2pkh
from common.chain.channel import CAP_MIN_FLORINS, CHANNEL_VERSION, ChannelTerms, state_fee
from common.chain.heights import UnknownHeights
from common.chain.verify import is_pubkey
from common.units import BPS, FLOP

WINDOW_MAX = 32
ROYALTY_MAX_BPS = 5_000


class Cap(msgspec.Struct, frozen=True):
    """From this depth of the coin on, so much may be owed for calls."""

    depth: int
    florins: int


class ChannelProfile(msgspec.Struct, frozen=True, kw_only=True):
    """How many blocks each step has, and how much is trusted to how deep a coin."""

    name: str
    fund_blocks: int  # an offer that nobody funds is forgotten after so many
    exp_min_blocks: int
    exp_default_blocks: int
    exp_max_blocks: int
    zone_blocks: int  # Z: the payee has so many blocks to bring its close into the chain
    margin_blocks: int  # the payer stops calling a little earlier
    watch_blocks: int  # a watcher publishes so many blocks before EXP
    idle_blocks: int
    caps: tuple[Cap, ...]
    depth_blocks: int  # d: a spend so deep is final
    step_blocks: int  # an unconfirmed close gets more fee
    rebroadcast_blocks: int
    renew_blocks: int  # a watcher's copy is renewed after so many
    tip_age_max_s: int | None


MAIN = ChannelProfile(
    name="main",
    fund_blocks=144,
    exp_min_blocks=1_440,
    exp_default_blocks=10_080,
    exp_max_blocks=43_200,
    zone_blocks=288,
    margin_blocks=300,
    watch_blocks=216,
    idle_blocks=1_440,
    caps=(Cap(1, FLOP), Cap(6, 1_000 * FLOP), Cap(60, 10_000 * FLOP)),
    depth_blocks=6,
    step_blocks=12,
    rebroadcast_blocks=60,
    renew_blocks=60,
    tip_age_max_s=1_200,
)
DEMO = ChannelProfile(
    name="demo",
    fund_blocks=40,
    exp_min_blocks=60,
    exp_default_blocks=1_000,
    exp_max_blocks=4_000,
    zone_blocks=24,
    margin_blocks=26,
    watch_blocks=18,
    idle_blocks=600,
    caps=(Cap(1, FLOP), Cap(2, 1_000 * FLOP), Cap(6, 10_000 * FLOP)),
    depth_blocks=2,
    step_blocks=2,
    rebroadcast_blocks=10,
    renew_blocks=10,
    tip_age_max_s=None,
)
PROFILES = {profile.name: profile for profile in (MAIN, DEMO)}


def channel_profile(name: str) -> ChannelProfile:
    """The profile of this name.

    Raises:
        UnknownHeights: there is none.
    """
    if name not in PROFILES:
        raise UnknownHeights(name=name, known=", ".join(PROFILES))
    return PROFILES[name]


def profile_problems(profile: ChannelProfile) -> list[str]:
    """Which inequalities the profile breaks; empty for a sound one."""
    depths = [cap.depth for cap in profile.caps]
    laws = {
        "the payer stops before the payee closes": profile.margin_blocks > profile.zone_blocks,
        "a watcher publishes inside the closing zone": 0 < profile.watch_blocks < profile.zone_blocks,
        "the zone holds three steps of the fee and the depth": (
            profile.zone_blocks >= 3 * profile.step_blocks + profile.depth_blocks
        ),
        "the shortest channel outlives its closing zone": profile.exp_min_blocks > profile.margin_blocks,
        "the default lies between": profile.exp_min_blocks <= profile.exp_default_blocks <= profile.exp_max_blocks,
        "caps rise with depth": depths == sorted(set(depths)) and depths[0] >= 1,
    }
    return [law for law, holds in laws.items() if not holds]


def terms_problems(terms: ChannelTerms, tip: int) -> list[str]:
    """Every law that the terms break at this tip; empty when both sides may enter."""
    profile = channel_profile(terms.profile)
    laws = {
        "the version is known": terms.version == CHANNEL_VERSION,
        "the parties are two": terms.payer != terms.payee,
        "both keys are keys": is_pubkey(terms.payer_key) and is_pubkey(terms.payee_key),
        "the keys are two": terms.payer_key != terms.payee_key,
        "the payer's rest and the payee's pay go to key hashes": is_p2pkh(terms.change_script)
        and is_p2pkh(terms.payout_script),
        "the cap is 1 FLOP and the fee of its end at least, and at most what the profile allows": CAP_MIN_FLORINS
        + int(state_fee(terms))
        <= int(terms.cap_florins)
        <= profile.caps[-1].florins,
        "EXP leaves time": profile.exp_min_blocks <= terms.exp - tip <= profile.exp_max_blocks,
        "the window is 1 to 32 calls": 1 <= terms.window <= WINDOW_MAX,
        "the royalty is none, or a share of at most one half to a key hash": (
            is_p2pkh(terms.developer_script) and 0 < terms.royalty_bps <= ROYALTY_MAX_BPS
            if terms.developer_script
            else terms.royalty_bps == 0
        ),
        "the tax is a share": 0 < terms.tax_bps < BPS,
        "copies are made at some step": int(terms.mirror_florins) > 0 and int(terms.limit_florins) > 0,
    }
    return [law for law, holds in laws.items() if not holds]
