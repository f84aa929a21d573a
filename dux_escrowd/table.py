"""The form of the table: what a row says, and how a lot and a fact find theirs. The rows themselves stand in `rules`.

Pure. A pair that no row names raises WrongPhase; a pair whose rows' guards all fail raises Refused; both change
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from common.contracts.escrow_base import Refused, WrongPhase
from dux_escrowd.facts import Fact
from dux_escrowd.model import Lot, Role, State
from dux_escrowd.orders import Order, Tell

Guard = Callable[[Lot, Any], bool]
Change = Callable[[Lot, Any], Lot]
Reply = Callable[[Lot, Lot, Any], tuple[Order, ...]]


@dataclass(frozen=True)
class Goal:
    """A next state that depends on what is remembered: the states it may be, and which."""

    name: str
    options: tuple[State, ...]
    choose: Callable[[Lot, Lot, Any], State]  # before, after the change, fact


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. `to` None: the state stays. `who` None: whoever's eyes."""

    frm: tuple[State, ...]
    fact: type[Fact]
    to: State | Goal | None
    who: tuple[Role, ...] | None
    guards: tuple[Guard, ...]
    change: Change | None
    orders: Reply | None
    source: str

    def holds(self, lot: Lot, fact: Fact) -> bool:
        """This row is about these eyes and all its guards are true."""
        return (self.who is None or lot.role in self.who) and all(guard(lot, fact) for guard in self.guards)

    def take(self, lot: Lot, fact: Fact) -> tuple[Lot, tuple[Order, ...]]:
        """The lot afterwards, and what is ordered. Strays have no readers."""
        after = self.change(lot, fact) if self.change else lot
        after = replace(after, state=self._next(lot, after, fact))
        orders = self.orders(lot, after, fact) if self.orders else ()
        return after, tuple(order for order in orders if lot.number == 0 or not isinstance(order, Tell))

    def _next(self, before: Lot, after: Lot, fact: Fact) -> State:
        if isinstance(self.to, Goal):
            return self.to.choose(before, after, fact)
        return self.to or before.state


Index = dict[tuple[State, type[Fact]], tuple[Row, ...]]


def row(
    frm: State | Iterable[State],
    fact: type[Fact],
    *guards: Guard,
    to: State | Goal | None = None,
    who: Role | tuple[Role, ...] | None = None,
    change: Change | None = None,
    orders: Reply | None = None,
    source: str,
) -> Row:
    """A row, written shortly."""
    states = (frm,) if isinstance(frm, State) else tuple(frm)
    eyes = (who,) if isinstance(who, Role) else who
    return Row(frm=states, fact=fact, to=to, who=eyes, guards=guards, change=change, orders=orders, source=source)


def indexed(rows: Iterable[Row]) -> Index:
    """The rows by state and kind of fact, in their order: the first that holds is taken."""
    index: dict[tuple[State, type[Fact]], list[Row]] = {}
    for line in rows:
        for state in line.frm:
            index.setdefault((state, line.fact), []).append(line)
    return {pair: tuple(lines) for pair, lines in index.items()}


def step(index: Index, lot: Lot, fact: Fact) -> tuple[Lot, tuple[Order, ...]]:
    """The lot after the fact, and what is ordered.

    Raises:
        WrongPhase: no row names this pair for these eyes. Refused: no row's guards hold.
    """
    found = fitting(index, lot, fact)
    if found is not None:
        return found.take(lot, fact)
    rows = [line for line in index.get((lot.state, type(fact)), ()) if line.who is None or lot.role in line.who]
    name = fact.words or type(fact).__name__
    if not rows:
        raise WrongPhase(fact=name, state=lot.state.value, contract_id=lot.contract_id)
    failed = [" and ".join(guard.__name__ for guard in line.guards if not guard(lot, fact)) for line in rows]
    raise Refused(fact=name, state=lot.state.value, guards="; or ".join(failed))


def fitting(index: Index, lot: Lot, fact: Fact) -> Row | None:
    """The row that is taken: the first that holds."""
    return next((line for line in index.get((lot.state, type(fact)), ()) if line.holds(lot, fact)), None)
