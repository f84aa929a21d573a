"""Guards and changes about coin and spend that both tables share. Pure. Source: channel_protocol.md §2, §3, §6."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec.structs import replace

from common.channel_messages import NO_ROOT, Outcome, next_root
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.model import OUTCOME_OF, Call, CallState, Payee, Payer, Receipt

N = TypeVar("N", Payer, Payee)


def this_coin(channel: Payer | Payee, fact: f.CoinSeen) -> bool:
    """The output is the one that the channel rests on."""
    return channel.coin is not None and fact.coin.outpoint == channel.coin.outpoint


def no_coin(channel: Payer | Payee, _fact: f.Fact) -> bool:
    """The channel rests on nothing now."""
    return channel.coin is None


def confirmed(_channel: Payer | Payee, fact: f.CoinSeen) -> bool:
    """The output is in a block."""
    return fact.coin.height is not None


def enough(channel: Payer | Payee, fact: f.CoinSeen) -> bool:
    """The output holds what a channel has to hold."""
    return fact.coin.value_florins >= channel.rules.coin_min_florins


def that_outpoint(channel: Payer | Payee, fact: f.CoinGone) -> bool:
    """It is the channel's own coin that is gone."""
    return channel.coin is not None and fact.outpoint == channel.coin.outpoint


def same_spend(channel: Payer | Payee, fact: Any) -> bool:
    """The spend is the one that was seen."""
    return channel.spend is not None and fact.spend.txid == channel.spend.txid


def that_spend(channel: Payer | Payee, fact: f.SpendGone) -> bool:
    """The spend that is gone is the one that was seen."""
    return channel.spend is not None and fact.txid == channel.spend.txid


def rebroadcast_due(channel: Payer | Payee, fact: f.Clock) -> bool:
    """Nothing was handed to the chain for a while."""
    return channel.acted_at is None or fact.at - channel.acted_at >= channel.rules.rebroadcast


def take_coin(channel: N, fact: f.CoinSeen) -> N:
    """The channel rests on this output."""
    return replace(channel, coin=fact.coin)


def lose_coin(channel: N, _fact: f.CoinGone) -> N:
    """The channel rests on nothing; what was signed for the coin is kept, in case the same one comes back."""
    return replace(channel, coin=None)


def see_spend(channel: N, fact: Any) -> N:
    """A spend was seen, or seen in another place."""
    before = channel.state if channel.spend is None else channel.before
    return replace(channel, spend=fact.spend, before=before)


def lose_spend(channel: N, _fact: f.SpendGone) -> N:
    """The spend is gone: what this side hands to the chain is due at once."""
    return replace(channel, spend=None, before=None, acted_at=None)


def state_before(before: Payer | Payee, _after: Payer | Payee, _fact: f.Fact) -> Any:
    """Where the channel stood before the spend was seen."""
    return before.before


def advanced(receipt: Receipt, calls: tuple[Call, ...], upto: int) -> Receipt:
    """The receipt with every ended call below `upto` in it; one that the payee never knew counts as refused."""
    low, root, paid = receipt.low, receipt.root, receipt.paid_florins
    known = {call.j: call for call in calls}
    while low < upto:
        call = known.get(low)
        outcome = OUTCOME_OF.get(call.state) if call is not None else Outcome.REFUSED
        if outcome is None:
            break
        if call is None or outcome is Outcome.REFUSED:
            root = next_root(root, low, NO_ROOT, NO_ROOT, Outcome.REFUSED)
        else:
            root = next_root(root, low, call.req, call.resp, outcome)
            paid += call.price_florins if call.state is CallState.OK else 0
        low += 1
    return Receipt(low=low, root=root, bits=0, paid_florins=paid)
