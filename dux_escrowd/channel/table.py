"""The form of a channel's two tables: what a row says, and how a channel and a fact find theirs.

Pure. A pair that no row names raises WrongPhase; a pair whose rows' guards all fail raises Refused; both change
nothing. The form is that of `dux_escrowd.table`, for a noun of another type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec.structs import replace

from common.contracts.escrow_base import Refused, WrongChannelPhase
from dux_escrowd.channel.facts import Fact
from dux_escrowd.channel.model import Payee, Payer
from dux_escrowd.channel.orders import Order

N = TypeVar("N", Payer, Payee)

Guard = Callable[[Any, Any], bool]
Change = Callable[[Any, Any], Any]
Reply = Callable[[Any, Any, Any], tuple[Order, ...]]  # before, after, fact
Goal = Callable[[Any, Any, Any], StrEnum]  # before, after the change, fact


class Decision(NamedTuple, Generic[N]):
    """The channel after a fact, and what is ordered."""

    next: N
    effects: tuple[Order, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table. `to` None: the state stays; a function chooses among `options`."""

    frm: tuple[StrEnum, ...]
    fact: type[Fact]
    guards: tuple[Guard, ...]
    to: StrEnum | Goal | None
    options: tuple[StrEnum, ...]
    change: Change | None
    orders: Reply | None
    source: str

    def take(self, channel: N, fact: Fact) -> Decision[N]:
        """What follows."""
        after = self.change(channel, fact) if self.change else channel
        state = self.to(channel, after, fact) if callable(self.to) else self.to
        if state is not None and state is not after.state:
            after = replace(after, state=state)
        return Decision(after, self.orders(channel, after, fact) if self.orders else ())


Index = dict[tuple[StrEnum, type[Fact]], tuple[Row, ...]]


def row(
    frm: StrEnum | Iterable[StrEnum],
    fact: type[Fact],
    *guards: Guard,
    to: StrEnum | Goal | None = None,
    options: tuple[StrEnum, ...] = (),
    change: Change | None = None,
    orders: Reply | None = None,
    source: str,
) -> Row:
    """A row, written shortly."""
    states = (frm,) if isinstance(frm, StrEnum) else tuple(frm)
    return Row(
        frm=states, fact=fact, guards=guards, to=to, options=options, change=change, orders=orders, source=source
    )


def indexed(rows: Iterable[Row]) -> Index:
    """The rows by state and kind of fact, in their order: the first whose guards hold is taken."""
    index: dict[tuple[StrEnum, type[Fact]], list[Row]] = {}
    for line in rows:
        for state in line.frm:
            index.setdefault((state, line.fact), []).append(line)
    return {pair: tuple(lines) for pair, lines in index.items()}


def step(index: Index, channel: N, fact: Fact) -> Decision[N]:
    """The channel after the fact, and what is ordered.

    Raises:
        WrongChannelPhase: no row names this pair. Refused: no row's guards hold.
    """
    rows = index.get((channel.state, type(fact)), ())
    name = fact.words or type(fact).__name__
    if not rows:
        raise WrongChannelPhase(fact=name, state=channel.state.value, chid=channel.chid)
    for line in rows:
        if all(guard(channel, fact) for guard in line.guards):
            return line.take(channel, fact)
    failed = [" and ".join(guard.__name__ for guard in line.guards if not guard(channel, fact)) for line in rows]
    raise Refused(fact=name, state=channel.state.value, guards="; or ".join(failed))
