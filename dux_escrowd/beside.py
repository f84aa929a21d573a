"""Strays beside a lot: which coin a word is about, whose record it is for, what a stray is told of the lot beside it.

Pure, and decides nothing: whether a stray may go back before T say the guards `key_is_free` and `counts_never`, of the
standing that is told here. Source: escrow_protocol.md §6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dux_escrowd.facts import Fact, StrayAsked
from dux_escrowd.model import Coin, Lot, Role, Standing, State
from dux_escrowd.words import SaidAward, SaidCancel, SaidCancelAsk

ABOUT_ONE_COIN = (SaidCancelAsk, SaidCancel, SaidAward)  # LATE_OK and RELEASE name a coin, too, but are for the lot


def outpoint_of(fact: Any) -> str:
    """The coin that a fact carries or names."""
    coin: Coin | None = getattr(fact, "coin", None)
    return coin.outpoint if coin is not None else str(fact.outpoint)


def addressed(lots: Sequence[Lot], outpoint: str) -> Lot:
    """The record that a word about this coin is for: the stray that rests on it, else the lot."""
    return next((lot for lot in lots[1:] if outpoint and lot.outpoint == outpoint), lots[0])


def strays_asked(lots: Sequence[Lot], tip: int) -> Iterator[tuple[int, Fact]]:
    """Strays that the buyer has asked for, as the seller and the arbiters see them beside the lot."""
    for lot in lots[1:]:
        if lot.state is State.STRAY and lot.asked_back and lot.role is not Role.BUYER:
            yield lot.number, StrayAsked(at=tip, beside=standing_of(lots[0]))


def standing_of(lot: Lot) -> Standing:
    """What matters of the lot for the strays beside it."""
    return Standing(
        state=lot.state,
        funded=lot.funded_at is not None,
        adopted=bool(lot.late_agreed),
        delivered=lot.delivered_at is not None,
        paid=bool(lot.spend and lot.spend.gross_florins),
    )
