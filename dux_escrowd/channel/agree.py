"""From agreed terms to the numbers that guards read, and the check of what the other side made of a wish. Pure."""

from __future__ import annotations

from common.chain.channel import CAP_MIN_FLORINS, CHANNEL_VERSION, FIRST_MIN_FLORINS, ChannelTerms, state_fee
from common.chain.channel_heights import channel_profile, terms_problems
from common.contracts.peer_channel import OpenReq
from common.units import Florins
from dux_escrowd.channel.model import Rules


def rules_of(terms: ChannelTerms, *, rerun: bool = False) -> Rules:
    """The numbers of a channel."""
    profile, fee = channel_profile(terms.profile), int(state_fee(terms))
    return Rules(
        exp=terms.exp,
        zone=profile.zone_blocks,
        margin=profile.margin_blocks,
        window=terms.window,
        caps=profile.caps,
        fee_florins=fee,
        first_min_florins=FIRST_MIN_FLORINS,
        coin_min_florins=CAP_MIN_FLORINS + fee,
        depth=profile.depth_blocks,
        idle=profile.idle_blocks,
        fund=profile.fund_blocks,
        step=profile.step_blocks,
        rebroadcast=profile.rebroadcast_blocks,
        limit_florins=int(terms.limit_florins),
        mirror_florins=int(terms.mirror_florins),
        rerun=rerun,
    )


def terms_for(
    wish: OpenReq,
    *,
    payer: str,
    payee: str,
    payee_key: bytes,
    payout_script: bytes,
    window: int,
    mirror_florins: int,
    limit_florins: int,
) -> ChannelTerms:
    """What the payee offers to a wish."""
    return ChannelTerms(
        version=CHANNEL_VERSION,
        network=wish.network,
        payer=payer,
        payee=payee,
        payer_key=wish.payer_key,
        payee_key=payee_key,
        change_script=wish.change_script,
        payout_script=payout_script,
        fund_script=wish.fund_script,
        tax_bps=wish.tax_bps,
        developer_script=wish.developer_script,
        royalty_bps=wish.royalty_bps,
        fee_rate_florins_per_kb=wish.fee_rate_florins_per_kb,
        cap_florins=wish.cap_florins,
        exp=wish.exp,
        profile=wish.profile,
        window=window,
        mirror_florins=Florins(mirror_florins),
        limit_florins=Florins(limit_florins),
    )


def offered_problem(wish: OpenReq, terms: ChannelTerms, *, payer: str, payee: str, tip: int) -> str:
    """Why the payee's terms are not what was wished for, or an empty string."""
    asked = terms_for(
        wish,
        payer=payer,
        payee=payee,
        payee_key=terms.payee_key,
        payout_script=terms.payout_script,
        window=terms.window,
        mirror_florins=int(terms.mirror_florins),
        limit_florins=int(terms.limit_florins),
    )
    broken = terms_problems(terms, tip)
    if broken:
        return f"not so: {broken[0]}"
    return "" if asked == terms else "the payee changed what was asked for"
