"""The walk: breadth first through every moment of a case, layer by layer of height, with the shortest way kept.

A moment's ways on are all moves that its allowance still pays. Every moment leads on with "mail arrives" and "a block",
in which the honest go on and everybody else is silent, so the end of that way is judged for every moment: no dead
state. Height never falls, so only one layer of moments is held at a time.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from dux_escrowd.rules import TABLE
from dux_escrowd.table import Index
from dux_sim.proof import laws
from dux_sim.proof.cast import B, Setting
from dux_sim.proof.kinds import ACCIDENT, FREE, LIE, WHIM, Move
from dux_sim.proof.minds import Minds
from dux_sim.proof.moves import all_moves
from dux_sim.proof.states import Allowance, Moment, Reducer, freeze, key_of, thaw
from dux_sim.proof.world import World

SLACK_BLOCKS = 4  # after T + 1 + d: a reorganisation and a censored block at the very end
VIOLATIONS_MAX = 5  # per case: enough to see what is wrong


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
    latest_free_blocks_after_T: int | None = None  # noqa: N815 - the name of the report
    violations: list[Found] = msgspec.field(default_factory=list)
    complete: bool = True  # every moment within the allowance was seen


class Walk:
    """One case."""

    def __init__(
        self, name: str, setting: Setting, left: Allowance, *, table: Index = TABLE, eager: bool = False
    ) -> None:
        self.setting = setting
        self.minds = Minds(table)
        self.told = Walked(name)
        self._left = left
        self._eager = eager
        self._reduce = Reducer(setting, self.minds)
        self._exits: Counter[str] = Counter()
        self.samples: dict[str, list[int]] = {}  # exit -> moments at the end
        self._parents = array("q")
        self._names: dict[str, int] = {}
        self._labels: list[str] = []
        self._how = array("i")
        self._at = array("i")
        self.end = setting.deal.heights.timeout + 1 + setting.deal.depth_blocks + SLACK_BLOCKS

    def run(self, states_max: int, *, first_only: bool = False, story: Callable[[World], None] | None = None) -> Walked:
        """Walk until the end of the case, or until so many moments were seen; `story`: what happens before."""
        world = World.agreed(self.setting, self.minds)
        world.judged = True
        if story is not None:
            story(world)
        self._reduce.forget(world)
        layer: dict[Any, tuple[int, Moment]] = {}
        self._add(layer, world, frozenset(), self._left, -1, "agreed and funded")
        while layer:
            layer = self._walk_layer(layer, states_max, first_only=first_only)
        self.told.states = len(self._parents)
        self.told.exits = dict(sorted(self._exits.items()))
        return self.told

    def _walk_layer(
        self, layer: dict[Any, tuple[int, Moment]], states_max: int, *, first_only: bool
    ) -> dict[Any, tuple[int, Moment]]:
        following: dict[Any, tuple[int, Moment]] = {}
        queue = list(layer.values())
        at = 0
        while at < len(queue):
            number, moment = queue[at]
            at += 1
            if len(self._parents) > states_max or (first_only and self.told.violations):
                self.told.complete = False
                return {}
            self._walk_moment(number, moment, layer, following, queue)
        return following

    def _walk_moment(self, number: int, moment: Moment, layer: Any, following: Any, queue: Any) -> None:
        if moment.height >= self.end:
            self._judge(number, moment)
            return
        twins = self._reduce.twins(moment) if moment.left[ACCIDENT] else frozenset()
        for move in all_moves(thaw(moment, self.setting, self.minds), moment.left, eager=self._eager):
            if move.whom in twins or (move.once and move.name in moment.told):
                continue
            left = _paid(moment.left, move)
            self.told.transitions += 1
            world = thaw(moment, self.setting, self.minds)
            try:
                move.act(world)
            except laws.LawBroken as broken:
                self._broken(str(broken), number, move.name)
                continue
            told = moment.told | {move.name} if move.once else moment.told
            self._reduce.forget(world)
            target = layer if world.height == moment.height else following
            added = self._add(target, world, told, left, number, move.name)
            if added is not None and target is layer:
                queue.append(added)

    def _add(
        self, layer: dict[Any, tuple[int, Moment]], world: World, told: frozenset[str], left: Allowance,
        parent: int, how: str,
    ) -> tuple[int, Moment] | None:  # fmt: skip
        moment = freeze(world, told, left)
        key = key_of(moment)
        if key in layer:
            return None
        number = len(self._parents)
        self._parents.append(parent)
        self._how.append(self._label(how))
        self._at.append(world.height)
        layer[key] = (number, moment)
        return number, moment

    def _label(self, how: str) -> int:
        if how not in self._names:
            self._names[how] = len(self._labels)
            self._labels.append(how)
        return self._names[how]

    def _judge(self, number: int, moment: Moment) -> None:
        world = thaw(moment, self.setting, self.minds)
        self.told.ends += 1
        spend = world.spend
        exit_ = spend.txid if spend else "no coin" if world.coin is None else "unspent"
        self._exits[exit_] += 1
        if world.coin is not None:
            self.samples.setdefault(exit_ + ("" if world.coins_made == 1 else ", moved"), []).append(number)
        concerns_honest = not world.wallet_missed and (world.honest(B) or (spend is not None and spend.gross_florins))
        if spend is not None and spend.height is not None and concerns_honest:
            free = spend.height + self.setting.deal.depth_blocks - 1 - self.setting.deal.heights.timeout
            self.told.latest_free_blocks_after_T = max(free, self.told.latest_free_blocks_after_T or -(10**6))
        try:
            laws.at_the_end(world)
        except laws.LawBroken as broken:
            self._broken(str(broken), number, "")

    def _broken(self, law: str, number: int, last: str) -> None:
        if all(found.law != law for found in self.told.violations) and len(self.told.violations) < VIOLATIONS_MAX:
            self.told.violations.append(Found(law, self.trace(number, last)))

    def moves(self, number: int) -> list[str]:
        """The moves that led to this moment."""
        names: list[str] = []
        while self._parents[number] >= 0:
            names.append(self._labels[self._how[number]])
            number = self._parents[number]
        return names[::-1]

    def trace(self, number: int, last: str = "") -> list[str]:
        """How this moment came about, with heights, without what time does by itself."""
        lines = [last] if last else []
        while number >= 0:
            lines.append(f"{self._at[number]}: {self._labels[self._how[number]]}")
            number = self._parents[number]
        return lines[::-1]


def _paid(left: Allowance, move: Move) -> Allowance:
    """The allowance after the move: of its kind, and of all kinds together (`left[3]`)."""
    if move.cost == FREE:
        return left
    taken = (left[0] - (move.cost == ACCIDENT), left[1] - (move.cost == LIE), left[2] - (move.cost == WHIM))
    together = left[3] - 1
    return (min(taken[0], together), min(taken[1], together), min(taken[2], together), together)
