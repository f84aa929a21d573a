"""What a benchmark finds, and the row that everybody reads.

Promises: a row has the same eight fields for every benchmark; a goal says which figure it is about and in which
direction; a figure that could not be taken is null, and then so is the verdict. Does not know how anything is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

import msgspec

DIGITS = 4  # significant ones in a row: more would be noise


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure beside its goal and its peer."""

    name: str
    value: float | None
    unit: str
    goal: str | None
    met: bool | None
    peer: str | None
    peer_value: float | None
    ratio: float | None  # value / peer_value


@dataclass(frozen=True)
class Samples:
    """The same thing measured several times."""

    each: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure that counts."""
        return median(self.each)

    def spread(self) -> str:
        """The lowest and the highest, for people; empty for a single sample."""
        return f"{short(min(self.each)):g} .. {short(max(self.each)):g}" if len(self.each) > 1 else ""


@dataclass(frozen=True)
class Goal:
    """What was promised: a bound on the value itself, or on the ratio to the peer."""

    of: Literal["value", "ratio"]
    direction: Literal["<=", ">="]
    bound: float

    def __str__(self) -> str:
        return f"{self.of} {self.direction} {self.bound:g}"

    def met(self, value: float | None, ratio: float | None) -> bool | None:
        """The verdict; None while the figure it is about is missing."""
        figure = value if self.of == "value" else ratio
        if figure is None:
            return None
        return figure <= self.bound if self.direction == "<=" else figure >= self.bound


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row in the making. `peer` names what stands beside it, or says aloud why nothing does."""

    name: str
    unit: str
    ours: Samples | None
    goal: Goal | None = None
    peer: str | None = None
    theirs: Samples | None = None
    note: str = ""  # for people: what a reader must know of this figure

    def row(self) -> Row:
        """The row; the verdict is about the figures before they are rounded."""
        value = self.ours.median if self.ours else None
        peer_value = self.theirs.median if self.theirs else None
        ratio = value / peer_value if value is not None and peer_value else None
        return Row(
            name=self.name,
            value=None if value is None else short(value),
            unit=self.unit,
            goal=str(self.goal) if self.goal else None,
            met=self.goal.met(value, ratio) if self.goal else None,
            peer=self.peer,
            peer_value=None if peer_value is None else short(peer_value),
            ratio=None if ratio is None else short(ratio),
        )


NO_VERDICT = "short: the goal is about the full run, so there is no verdict"


def in_small(finding: Finding) -> Finding:
    """The row of a run smaller than the one that its goal is about: the figure without goal and verdict, and why."""
    note = "; ".join(filter(None, (finding.note, NO_VERDICT)))
    return replace(finding, name=f"{finding.name} (short)", goal=None, note=note)


def one(value: float) -> Samples:
    """A figure that was taken once."""
    return Samples((value,))


def short(figure: float) -> float:
    """The figure with so many significant digits as it deserves."""
    return float(f"{figure:.{DIGITS}g}")
