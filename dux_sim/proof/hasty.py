"""Faults of arbiters in a hurry: other ends of the time in which nothing heard is nothing said.

Two places of the table keep that time, so each fault is planted into both: when a dispute counts as answered, and when
a vote may rest on a statement that did not come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as changed

from dux_escrowd import changes
from dux_escrowd import facts as f
from dux_escrowd import guards as g
from dux_escrowd.model import Lot, Role
from dux_escrowd.table import Row
from dux_escrowd.voting import answer_window_over
from dux_sim.proof.plant import Plant, Rows, altered

Over = Callable[[Lot, f.Fact], bool]


def from_hearing(lot: Lot, fact: f.Fact) -> bool:
    """The fast award as it was: counted from when the dispute was heard, be it before the funding."""
    heights = lot.deal.heights
    if not lot.started and lot.delivered_at is None and lot.disputed_at is not None:
        return fact.at > min(heights.answer_by, lot.disputed_at + lot.deal.start_blocks)
    return fact.at > heights.answer_by


def for_a_fork(lot: Lot, fact: f.Fact) -> bool:
    """The fast award also for an opener that has told the panel one thing and the other party another."""
    if not lot.started and lot.delivered_at is None and lot.disputed_at is not None:
        since = max(lot.disputed_at, lot.funded_at or 0)
        return fact.at > min(lot.deal.heights.answer_by, since + lot.deal.start_blocks)
    return answer_window_over(lot, fact.at)


def soon_after_delivery(lot: Lot, fact: f.Fact) -> bool:
    """As it was: no DELIVERED is heard, and the time to deliver is over by some blocks."""
    return fact.at > lot.deal.heights.deliver_by + lot.deal.start_blocks


def silence_tells(over: Over) -> Plant:
    """Another end of the time in which nothing heard is nothing said: for the votes that rest on it."""

    def holds(lot: Lot, fact: f.Clock) -> bool:
        silent = g.vote_open(lot, fact) and lot.delivered_at is None
        return g.vote_is_plain(lot, fact) or (silent and over(lot, fact))

    def change(lot: Lot, fact: f.Clock) -> Lot:
        return _voted_on_silence(changes.consider(lot, fact), fact)

    def how(row: Row) -> Row:
        return changed(row, guards=(holds,), change=change)

    return lambda rows: altered(rows, lambda row: g.vote_is_plain in row.guards, how)


def _voted_on_silence(lot: Lot, fact: f.Fact) -> Lot:
    silent = lot.role is Role.ARBITER and lot.vote_florins is None and lot.delivered_at is None
    return changes.vote(lot, f.VoteDecided(at=fact.at, gross_florins=0)) if silent else lot


def window(over: Over) -> Plant:
    """The same for the time to answer, too."""

    def holds(lot: Lot, fact: f.Clock) -> bool:
        return lot.answered or over(lot, fact)

    def how(row: Row) -> Row:
        return changed(
            row, guards=(holds,), change=lambda lot, fact: _voted_on_silence(changes.answer(lot, fact), fact)
        )

    def plant(rows: Rows) -> Rows:
        return altered(silence_tells(over)(rows), lambda row: g.answer_over in row.guards, how)

    return plant
