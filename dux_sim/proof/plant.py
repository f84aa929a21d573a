"""How faults are planted into a table of rows, whichever protocol it is of: a guard, a row or an order goes missing.

A row is a frozen dataclass with `frm`, `fact`, `guards`, `to`, `change` and `orders`, as `dux_escrowd.table` and
`dux_escrowd.channel.table` have it. Rows are changed in a copy; a fault that finds no row to change says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as changed
from typing import Any

Rows = tuple[Any, ...]
Plant = Callable[[Rows], Rows]
Guard = Callable[[Any, Any], bool]


class NotPlanted(AssertionError):
    """The row that a fault would change is not in the table: bring the fault up to date."""


def altered(rows: Rows, which: Callable[[Any], bool], how: Callable[[Any], Any | None]) -> Rows:
    """The table with some rows changed, or left out where `how` gives None.

    Raises:
        NotPlanted: there is no such row.
    """
    if not any(which(row) for row in rows):
        raise NotPlanted
    new = [how(row) if which(row) else row for row in rows]
    return tuple(row for row in new if row is not None)


def without(rows: Rows, fact: type, guard: Guard) -> Rows:
    """The table with one guard forgotten in the rows of a fact."""

    def less(row: Any) -> Any:
        return changed(row, guards=tuple(item for item in row.guards if item is not guard))

    return altered(rows, lambda row: row.fact is fact and guard in row.guards, less)


def dropped(fact: type, *guards: Guard, to: Any = None) -> Plant:
    """Rows of a fact with these guards left out."""

    def plant(rows: Rows) -> Rows:
        def is_it(row: Any) -> bool:
            return row.fact is fact and set(guards) <= set(row.guards) and (to is None or row.to is to)

        return altered(rows, is_it, lambda _row: None)

    return plant


def forgets(fact: type, guard: Guard) -> Plant:
    """Rows of a fact that forget a guard."""
    return lambda rows: without(rows, fact, guard)


def instead(fact: type, guard: Guard, other: Guard) -> Plant:
    """Rows of a fact with another guard in the place of one."""

    def plant(rows: Rows) -> Rows:
        def swap(row: Any) -> Any:
            return changed(row, guards=tuple(other if item is guard else item for item in row.guards))

        return altered(rows, lambda row: row.fact is fact and guard in row.guards, swap)

    return plant


def orders_less(fact: type, kind: type) -> Plant:
    """Rows of a fact that never order this kind of thing."""

    def plant(rows: Rows) -> Rows:
        return altered(rows, lambda row: row.fact is fact and row.orders is not None, lambda row: _quieter(row, kind))

    return plant


def _quieter(row: Any, kind: type) -> Any:
    plain = row.orders

    def orders(before: Any, after: Any, fact: Any) -> tuple[Any, ...]:
        return tuple(order for order in plain(before, after, fact) if not isinstance(order, kind))

    return changed(row, orders=orders)


def changes(fact: type, change: Callable[[Any, Any], Any], wrap: Callable[[Any, Any, Any], Any]) -> Plant:
    """Rows of a fact whose change is followed by another: `wrap(before, after, fact)`."""

    def plant(rows: Rows) -> Rows:
        def how(row: Any) -> Any:
            return changed(row, change=lambda before, said: wrap(before, row.change(before, said), said))

        return altered(rows, lambda row: row.fact is fact and row.change is change, how)

    return plant
