"""Whether another node's score follows from the evidence that it showed, and what may be why when it does not. Pure."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE_PPM = 2_000  # a day's decay between two nodes' tips
TIP_APART_BLOCKS = 60


@dataclass(frozen=True, slots=True)
class Told:
    """A score as another node tells it."""

    score_ppm: int
    settled: int
    shown: int
    at_height: int


def difference(told: Told, own_ppm: int, *, own_height: int) -> str:
    """Empty: this node, with the evidence in its books, comes to the same score."""
    if abs(told.score_ppm - own_ppm) <= TOLERANCE_PPM:
        return ""
    if abs(told.at_height - own_height) > TIP_APART_BLOCKS:
        return f"it stands at block {told.at_height}, this node at {own_height}"
    if told.settled > told.shown:
        return f"it counts {told.settled} contracts and showed {told.shown}"
    return "its score does not follow from what it showed"
