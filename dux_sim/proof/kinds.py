"""What a move is, and what it costs of a history's allowance."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dux_sim.proof.world import World

FREE, ACCIDENT, LIE, WHIM = -1, 0, 1, 2


class Move(NamedTuple):
    """One thing that may happen: its name, what it costs, what it does; `once`: not twice in a history."""

    name: str
    cost: int
    act: Callable[[World], None]
    once: bool = False
    whom: str = ""  # an accident that befalls this node
