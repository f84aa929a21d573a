"""What both sides make of the outputs on their script: the product's own two functions, and faults in their place.

Source: channel_protocol.md §6; `dux_escrowd/channel/follower.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec

from common.chain.channel import ChannelTerms
from common.chain.tx import Outpoint
from common.contracts.wallet_chain import CoinView
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.follower import Read, further_due, next_fact
from dux_escrowd.channel.model import Channel, Coin
from dux_sim.proof.channel.cast import EXP
from dux_sim.proof.channel.played import terms_for
from dux_sim.proof.player import History

Next = Callable[[Channel, ChannelTerms, Sequence[CoinView], int, Read], f.Fact | None]
Due = Callable[[Channel, ChannelTerms, Sequence[CoinView], int], list[tuple[Outpoint, int]]]


class Sight(msgspec.Struct, frozen=True):
    """The next fact that the chain shows, and the outputs beside the coin that their payer takes back now."""

    next_fact: Next = next_fact
    further_due: Due = further_due


@lru_cache(maxsize=1)
def terms() -> ChannelTerms:
    """Terms with the world's EXP and real keys: for the fee of a refund."""
    return terms_for(History(name="fees", setting=None, events=(), timeout=EXP, end=0), 0)


def coin_alone(state: Channel, agreed: ChannelTerms, coins: Sequence[CoinView], tip: int, read: Read) -> f.Fact | None:
    """As it was: where a reorganisation takes spend and coin, only the coin is missed."""
    if state.coin is not None and all(str(one.outpoint) != state.coin.outpoint for one in coins):
        return f.CoinGone(at=tip, outpoint=state.coin.outpoint)
    return next_fact(state, agreed, coins, tip, read)


def first_alone(state: Channel, agreed: ChannelTerms, coins: Sequence[CoinView], tip: int, read: Read) -> f.Fact | None:
    """As it was: the first output in a block is the only one that is looked at."""
    first = next((one for one in coins if one.height is not None), None)
    if state.coin is None and first is not None and first.height is not None:
        coin = Coin(str(first.outpoint), int(first.value_florins), int(first.height))
        return f.CoinSeen(at=tip, coin=coin)
    return next_fact(state, agreed, coins, tip, read)


def none_due(
    _state: Channel, _agreed: ChannelTerms, _coins: Sequence[CoinView], _tip: int
) -> list[tuple[Outpoint, int]]:
    """As it was: nobody takes back what lies beside the coin."""
    return []
