"""The walk: the escrow's world as the search sees it, layer by layer of height.

A moment's ways on are all moves that its allowance still pays. Every moment leads on with "mail arrives" and "a block",
in which the honest go on and everybody else is silent, so the end of that way is judged for every moment: no dead
state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from functools import partial

from dux_escrowd.rules import TABLE
from dux_escrowd.table import Index
from dux_sim.proof import laws
from dux_sim.proof.cast import B, Setting
from dux_sim.proof.kinds import ACCIDENT, FREE, LIE, WHIM, Move
from dux_sim.proof.minds import Minds
from dux_sim.proof.moves import all_moves
from dux_sim.proof.search import Search, Walked, Way
from dux_sim.proof.states import Allowance, Moment, Reducer, freeze, key_of, thaw
from dux_sim.proof.world import World

STEPS_MAX = 400_000  # remembered from case to case, some hundred megabytes
SLACK_BLOCKS = 4  # after T + 1 + d: a reorganisation and a censored block at the very end; as many to climb a ladder


class WalkedEscrow(Walked):
    """What one case of the escrow came to."""

    latest_free_blocks_after_T: int | None = None  # noqa: N815 - the name of the report


class Walk:
    """One case."""

    def __init__(
        self, name: str, setting: Setting, left: Allowance, *, table: Index = TABLE, eager: bool = False
    ) -> None:
        self.setting = setting
        self.minds = minds_for(table)
        self.told = WalkedEscrow(name)
        self._left = left
        self._eager = eager
        self._reduce = Reducer(setting, self.minds)
        self._exits: Counter[str] = Counter()
        self.samples: dict[str, list[int]] = {}  # exit -> moments at the end
        self._search: Search[Moment] = Search(self)
        slack = SLACK_BLOCKS * 2 if setting.ladder else SLACK_BLOCKS
        self.end = setting.deal.heights.timeout + 1 + setting.deal.depth_blocks + slack

    def run(
        self, states_max: int, *, first_only: bool = False, story: Callable[[World], None] | None = None
    ) -> WalkedEscrow:
        """Walk until the end of the case, or until so many moments were seen; `story`: what happens before."""
        self._search.run(self.start(story), "agreed and funded", states_max, first_only=first_only)
        self._search.tell(self.told, self._exits)
        return self.told

    def start(self, story: Callable[[World], None] | None = None) -> Moment:
        """The moment that the walk begins with."""
        world = World.agreed(self.setting, self.minds)
        world.judged = True
        if story is not None:
            story(world)
        self._reduce.forget(world)
        return freeze(world, frozenset(), self._left)

    def moves(self, number: int) -> list[str]:
        """The moves that led to this moment."""
        return self._search.trail.moves(number)

    def layer_of(self, moment: Moment) -> int:
        """Its height, which never falls."""
        return moment.height

    def key_of(self, moment: Moment) -> Hashable:
        """What moments are compared by."""
        return key_of(moment)

    def ways(self, moment: Moment) -> Iterator[Way[Moment]]:
        """Every move that the allowance still pays."""
        if moment.height >= self.end:
            return
        twins = self._reduce.twins(moment) if moment.left[ACCIDENT] else frozenset()
        seen = thaw(moment, self.setting, self.minds)
        *others, last = (
            move
            for move in all_moves(seen, moment.left, eager=self._eager)
            if move.whom not in twins and not (move.once and move.name in moment.told)
        )
        for move in others:
            yield move.name, partial(self._after, moment, move, thaw(moment, self.setting, self.minds))
        yield last.name, partial(self._after, moment, last, seen)  # most moments have one way: the world is at hand

    def _after(self, moment: Moment, move: Move, world: World) -> Moment:
        move.act(world)
        self._reduce.forget(world, moment)
        told = moment.told | {move.name} if move.once else moment.told
        return freeze(world, told, paid_from(moment.left, move))

    def judge(self, number: int, moment: Moment) -> None:
        """How it ended, and by when; then the laws of the end."""
        world = thaw(moment, self.setting, self.minds)
        spend = world.spend
        exit_ = spend.txid if spend else "no coin" if world.coin is None else "unspent"
        self._exits[exit_] += 1
        if world.coin is not None:
            self.samples.setdefault(exit_ + ("" if world.coins_made == 1 else ", moved"), []).append(number)
        concerns_honest = not world.wallet_missed and (world.honest(B) or (spend is not None and spend.gross_florins))
        if spend is not None and spend.height is not None and concerns_honest:
            free = spend.height + self.setting.deal.depth_blocks - 1 - self.setting.deal.heights.timeout
            self.told.latest_free_blocks_after_T = max(free, self.told.latest_free_blocks_after_T or -(10**6))
        laws.at_the_end(world)


_REMEMBERED: list[Minds] = []


def minds_for(table: Index) -> Minds:
    """What the walks before this one have worked out with the same table, while it is not too much.

    A step depends on the node and the fact alone, and a node holds its deal: cases differ in who stands beside whom.
    """
    if table is not TABLE:
        return Minds(table)
    if not _REMEMBERED or _REMEMBERED[0].steps > STEPS_MAX:
        _REMEMBERED[:] = [Minds(table)]
    return _REMEMBERED[0]


def paid_from(left: Allowance, move: Move) -> Allowance:
    """The allowance after the move: of its kind, and of all kinds together (`left[3]`)."""
    if move.cost == FREE:
        return left
    taken = (left[0] - (move.cost == ACCIDENT), left[1] - (move.cost == LIE), left[2] - (move.cost == WHIM))
    together = left[3] - 1
    return (min(taken[0], together), min(taken[1], together), min(taken[2], together), together)
