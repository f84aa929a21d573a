"""From what stands on the chain to facts: compares a contract's lots with every output on its script.

Pure. Promise: asked again after each fact was taken, it comes to an end, and then the lots say about the chain exactly
what the chain shows. A spend goes before its coin goes; a coin is deep before it is spent.

Source: escrow_protocol.md §6, §8.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from msgspec import Struct

from common.chain.spends import SpendKind
from common.units import Florins
from dux_escrowd.beside import strays_asked
from dux_escrowd.facts import CoinDeep, Fact, LateCoin, OutputGone, OutputSeen, SpendDeep, SpendGone, SpendSeen
from dux_escrowd.guards import first_enough
from dux_escrowd.model import SEEN, Coin, Exit, Lot, Role, Spend, State

STRAYS_MAX = 16  # outputs of less than A + a beside the lot that are followed
STRAYS_AT_TIMEOUT_MAX = 256  # by the buyer from T on, the most valuable first: nothing is asked of others then


def exit_of(kind: SpendKind, gross_florins: Florins) -> Exit:
    """The way out, also for a spend that both parties signed in a shape of their own: named by whom it paid."""
    if kind is SpendKind.UNKNOWN:
        return Exit.RELEASE if gross_florins > 0 else Exit.CANCEL
    return Exit(kind.value)


class OnChain(Struct, frozen=True):
    """One output on the script, with its spend as the table names it."""

    coin: Coin
    spend: Spend | None


def next_fact(
    lots: Sequence[Lot], outputs: Sequence[OnChain], tip: int, passed: Container[tuple[int, Fact]] = ()
) -> tuple[int, Fact] | None:
    """The next fact, and the number of the lot that it is for; None when the lots are up to date.

    `lots`: the lot (number 0) and its strays; `outputs`: in the chain's order; `passed`: facts that were tried before.
    """
    return next((found for found in _facts(lots, outputs, tip) if found not in passed), None)


def _facts(lots: Sequence[Lot], outputs: Sequence[OnChain], tip: int) -> Iterator[tuple[int, Fact]]:
    if not lots:
        return
    by_outpoint = {output.coin.outpoint: output for output in outputs}
    for lot in lots:
        if lot.number and lot.coin is not None and lot.outpoint == lots[0].outpoint:
            yield lot.number, OutputGone(at=tip, outpoint=lot.outpoint or "")  # the lot itself rests on it now
        elif lot.coin is not None:
            yield from ((lot.number, fact) for fact in _of_lot(lot, by_outpoint.get(lot.coin.outpoint), tip))
    yield from ((0, OutputSeen(at=tip, coin=coin)) for coin in _funding_among_strays(lots, outputs, tip))
    yield from ((0, fact) for fact in _late_funding(lots, outputs, tip))
    yield from strays_asked(lots, tip)
    held = {lot.coin.outpoint for lot in lots if lot.coin is not None}
    for output in _worth_following([item for item in outputs if item.coin.outpoint not in held], lots, tip):
        yield 0, OutputSeen(at=tip, coin=output.coin)


def _funding_among_strays(lots: Sequence[Lot], outputs: Sequence[OnChain], tip: int) -> Iterator[Coin]:
    """A reorganisation took the lot's coin, and the same payment stands there under another id, seen as a stray before.

    It is the first output that is enough, so it is the lot's again, and not lost to whoever waits for the refund.
    """
    if lots[0].state is not State.AGREED:
        return
    beside = {lot.outpoint for lot in lots[1:] if lot.state in (State.FUNDED_SEEN, State.STRAY)}
    for output in outputs:
        unspent = output.spend is None and output.coin.outpoint in beside
        if unspent and first_enough(lots[0], OutputSeen(at=tip, coin=output.coin)):
            yield output.coin


def _late_funding(lots: Sequence[Lot], outputs: Sequence[OnChain], tip: int) -> Iterator[Fact]:
    """A late coin that the buyer has asked for (LATE_OK): the seller may answer; with both it is the lot's."""
    lot = lots[0]
    if lot.state not in (State.STRAY, State.VOID):
        return
    beside = {other.outpoint for other in lots if other.state in (State.FUNDED_SEEN, State.STRAY)}
    for output in outputs:
        coin = output.coin
        is_asked = coin.outpoint in lot.late_asked and coin.outpoint in beside and output.spend is None
        if not is_asked or not _is_deep(coin.height, tip, lot):
            continue
        if coin.outpoint == lot.late_agreed:
            yield OutputSeen(at=tip, coin=coin) if lot.state is State.VOID else CoinDeep(at=tip, coin=coin)
        elif lot.role is Role.SELLER:
            yield LateCoin(at=tip, coin=coin)


def _worth_following(others: list[OnChain], lots: Sequence[Lot], tip: int) -> list[OnChain]:
    """Outputs of A + a first, however many; smaller ones while there is room: dust must never hide the funding."""
    enough = max((lot.deal.lot_florins for lot in lots), default=0)
    large = [output for output in others if output.coin.value_florins >= enough]
    small = [output for output in others if output.coin.value_florins < enough]
    room = STRAYS_MAX
    if lots[0].role is Role.BUYER and tip >= lots[0].deal.heights.timeout:  # each goes back to it by itself
        room = STRAYS_AT_TIMEOUT_MAX
        small = sorted((output for output in small if output.spend is None), key=lambda one: -one.coin.value_florins)
    return large + (small if len(lots) <= room else [])


def _of_lot(lot: Lot, output: OnChain | None, tip: int) -> Iterator[Fact]:
    spend = output.spend if output else None
    if lot.spend is not None and spend is None:
        yield SpendGone(at=tip, txid=lot.spend.txid)
    if output is None:
        yield OutputGone(at=tip, outpoint=lot.outpoint or "")
        return
    if output.coin != lot.coin:
        yield OutputSeen(at=tip, coin=output.coin)
    if lot.state is State.FUNDED_SEEN and _is_deep(output.coin.height, tip, lot):
        yield CoinDeep(at=tip, coin=output.coin)
    if spend is not None and spend != lot.spend:
        yield SpendSeen(at=tip, spend=spend)
    if spend is not None and lot.state in SEEN and _is_deep(spend.height, tip, lot):
        yield SpendDeep(at=tip, spend=spend)


def _is_deep(height: int | None, tip: int, lot: Lot) -> bool:
    return height is not None and tip - height + 1 >= lot.deal.depth_blocks
