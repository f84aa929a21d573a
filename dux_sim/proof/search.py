"""The search of every proof: breadth first through the moments of a case, layer by layer, the shortest way kept.

A layer is what never falls in a history (here the height of the chain), so only two layers are held at a time; of the
layers before only the way remains, three numbers a moment. Knows nothing of any protocol.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import msgspec

M = TypeVar("M")
Way = tuple[str, Callable[[], M]]  # the name of a move, and the moment after it; raises LawBroken
VIOLATIONS_MAX = 5  # per case: enough to see what is wrong


class LawBroken(AssertionError):
    """A law that had to hold does not."""


def require(holds: object, text: str) -> None:
    """Nothing happens where the law holds.

    Raises:
        LawBroken: with the law's words.
    """
    if not holds:
        raise LawBroken(text)


class Found(msgspec.Struct):
    """A law that was broken, and the shortest way there."""

    law: str
    trace: list[str]


class Walked(msgspec.Struct):
    """What one case came to."""

    name: str
    states: int = 0
    transitions: int = 0
    ends: int = 0
    exits: dict[str, int] = msgspec.field(default_factory=dict)
    violations: list[Found] = msgspec.field(default_factory=list)
    complete: bool = True  # every moment within the allowance was seen


class Trail:
    """How each moment was reached first: its parent, the move's name, the layer."""

    def __init__(self) -> None:
        self._parents = array("q")
        self._how = array("i")
        self._at = array("i")
        self._names: dict[str, int] = {}
        self._labels: list[str] = []

    def __len__(self) -> int:
        return len(self._parents)

    def add(self, parent: int, how: str, at: int) -> int:
        """A moment's number."""
        if how not in self._names:
            self._names[how] = len(self._labels)
            self._labels.append(how)
        self._parents.append(parent)
        self._how.append(self._names[how])
        self._at.append(at)
        return len(self._parents) - 1

    def moves(self, number: int) -> list[str]:
        """The moves that led to this moment."""
        names: list[str] = []
        while self._parents[number] >= 0:
            names.append(self._labels[self._how[number]])
            number = self._parents[number]
        return names[::-1]

    def trace(self, number: int, last: str = "") -> list[str]:
        """How this moment came about, with the layer of each move."""
        lines = [last] if last else []
        while number >= 0:
            lines.append(f"{self._at[number]}: {self._labels[self._how[number]]}")
            number = self._parents[number]
        return lines[::-1]


class Searched(Protocol[M]):
    """What a search needs to know of a protocol's world."""

    def layer_of(self, moment: M) -> int:
        """The layer; a move leads to the same layer or to a higher one."""
        ...

    def key_of(self, moment: M) -> Hashable:
        """What two moments are compared by."""
        ...

    def ways(self, moment: M) -> Iterator[Way[M]]:
        """Everything that may happen next; nothing at an end."""
        ...

    def judge(self, number: int, moment: M) -> None:
        """What must hold at an end.

        Raises:
            LawBroken: it does not.
        """
        ...


@contextmanager
def no_garbage_hunt() -> Iterator[None]:
    """Moments hold no cycles: to look for some among millions of them again and again takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Search(Generic[M]):
    """One case."""

    def __init__(self, world: Searched[M]) -> None:
        self._world = world
        self.trail = Trail()
        self.violations: list[Found] = []
        self.transitions = 0
        self.ends = 0
        self.complete = True  # every moment was seen

    def run(self, start: M, told: str, states_max: int, *, first_only: bool = False) -> None:
        """Until nothing is left, so many moments were seen, or (`first_only`) a law is broken."""
        with no_garbage_hunt():
            self._run(start, told, states_max, first_only=first_only)

    def _run(self, start: M, told: str, states_max: int, *, first_only: bool) -> None:
        layers: dict[int, dict[Hashable, tuple[int, M]]] = {}
        self._add(layers, start, -1, told)
        while layers:
            at = min(layers)
            queue = list(layers[at].values())
            for number, moment in queue:  # grows while it is walked
                if len(self.trail) > states_max or (first_only and self.violations):
                    self.complete = False
                    return
                self._walk(number, moment, at, layers, queue)
            del layers[at]

    def tell(self, told: Walked, exits: dict[str, int]) -> None:
        """What was seen, into the report of the case."""
        told.states, told.transitions, told.ends = len(self.trail), self.transitions, self.ends
        told.violations, told.complete = self.violations, self.complete
        told.exits = dict(sorted(exits.items()))

    def _walk(
        self, number: int, moment: M, at: int, layers: dict[int, dict[Hashable, tuple[int, M]]],
        queue: list[tuple[int, M]],
    ) -> None:  # fmt: skip
        is_end = True
        for name, act in self._world.ways(moment):
            is_end = False
            self.transitions += 1
            try:
                after = act()
            except LawBroken as broken:
                self._broken(str(broken), number, name)
                continue
            added = self._add(layers, after, number, name)
            if added is not None and self._world.layer_of(after) == at:
                queue.append(added)
        if is_end:
            self.ends += 1
            try:
                self._world.judge(number, moment)
            except LawBroken as broken:
                self._broken(str(broken), number, "")

    def _add(
        self, layers: dict[int, dict[Hashable, tuple[int, M]]], moment: M, parent: int, how: str
    ) -> tuple[int, M] | None:
        at, key = self._world.layer_of(moment), self._world.key_of(moment)
        layer = layers.setdefault(at, {})
        if key in layer:
            return None
        layer[key] = (self.trail.add(parent, how, at), moment)
        return layer[key]

    def _broken(self, law: str, number: int, last: str) -> None:
        if all(found.law != law for found in self.violations) and len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Found(law, self.trail.trace(number, last)))
