"""Runs a log of decisions again: from the lines alone come the same lots, or the first line that does not follow.

Pure; anybody who holds the log may run it. Source: money.md §1 law 6, escrow_protocol.md §8 (restart = replay).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, json

from common.errors import DuxError
from dux_escrowd.facts import AnyFact
from dux_escrowd.model import Lot, State
from dux_escrowd.rules import decide

LOT_LINE, FACT_LINE = "lot", "fact"


class LoggedLot(Struct, frozen=True):
    """A lot began."""

    lot: Lot


class LoggedFact(Struct, frozen=True):
    """A lot took a fact and stood then in this state."""

    contract_id: str
    number: int
    fact: AnyFact
    state: State


class Replayed(Struct, frozen=True):
    """Every lot at the end of the log, and the number of the first line that does not follow (None: all do)."""

    lots: dict[tuple[str, int], Lot]
    broken: int | None


def replay(lines: Iterable[tuple[int, str, bytes]]) -> Replayed:
    """The lots that follow from lines (number, kind, JSON body); lines of other kinds are passed over."""
    lots: dict[tuple[str, int], Lot] = {}
    for number, kind, body in lines:
        if kind == LOT_LINE:
            lot = json.decode(body, type=LoggedLot).lot
            lots[lot.contract_id, lot.number] = lot
        elif kind == FACT_LINE and not _follows(lots, json.decode(body, type=LoggedFact)):
            return Replayed(lots, number)
    return Replayed(lots, None)


def _follows(lots: dict[tuple[str, int], Lot], line: LoggedFact) -> bool:
    lot = lots.get((line.contract_id, line.number))
    if lot is None:
        return False
    try:
        after, _orders = decide(lot, line.fact)
    except DuxError:
        return False
    lots[line.contract_id, line.number] = after
    return after.state is line.state
