"""The walk through a channel's world: what the search sees of it, and the judgement of every moment.

Every moment leads on with "a block", in which the honest go on and everybody else is silent, so the end of that way is
judged for every moment: no dead state. Where both are honest and there is time, every moment is healed besides: all
that waits arrives, and then no call may be left waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from functools import partial

from dux_escrowd.channel import facts as f
from dux_escrowd.channel import payee, payer
from dux_escrowd.channel.model import Payee, Payer
from dux_escrowd.channel.table import Index
from dux_sim.proof.channel import laws
from dux_sim.proof.channel.cast import EDGES, NETWORK, OPEN_EDGE, PAYEE, PAYER, Left, Setting, signable
from dux_sim.proof.channel.chain import Chain
from dux_sim.proof.channel.heal import Healer
from dux_sim.proof.channel.moment import Ghost, Moment
from dux_sim.proof.channel.moves import FREE, Act, moves
from dux_sim.proof.channel.nodes import SOUND, Node, Nodes
from dux_sim.proof.channel.sight import Sight
from dux_sim.proof.channel.world import World
from dux_sim.proof.search import Search, Walked, Way

TABLES = (payer.TABLE, payee.TABLE)


class Walk:
    """One case."""

    def __init__(
        self, name: str, setting: Setting, left: Left, *, tables: tuple[Index, Index] = TABLES, sight: Sight = SOUND
    ) -> None:
        self.setting = setting
        self.known = Nodes(tables, sight)
        self.told = Walked(name)
        self._left = left
        self._healer = Healer(setting, self.known)
        self._exits: Counter[str] = Counter()
        self.samples: dict[str, list[int]] = {}
        self._search: Search[Moment] = Search(self)

    def run(self, states_max: int, *, first_only: bool = False) -> Walked:
        """Walk until the end of the case, or until so many moments were seen."""
        self._search.run(self.start(), "agreed", states_max, first_only=first_only)
        self._search.tell(self.told, self._exits)
        return self.told

    def start(self) -> Moment:
        """Agreed and funded; and, but for the cases of the opening, open on a deep coin."""
        return start(self.setting, self.known, self._left)

    def moves(self, number: int) -> list[str]:
        """The moves that led to this moment."""
        return self._search.trail.moves(number)

    def layer_of(self, moment: Moment) -> int:
        """Its place in time."""
        return moment.edge

    def key_of(self, moment: Moment) -> Hashable:
        """All of it."""
        return moment

    def ways(self, moment: Moment) -> Iterator[Way[Moment]]:
        """Every move that the allowance still pays."""
        if moment.edge == len(EDGES) - 1:
            return
        for name, cost, act in moves(World(self.setting, self.known, moment), moment):
            yield name, partial(self._after, moment, cost, act)
        yield "everything arrives", partial(self._healed, moment)

    def _after(self, moment: Moment, cost: int, act: Act) -> Moment:
        world = World(self.setting, self.known, moment)
        if cost != FREE:
            world.left = paid(world.left, cost)
        act(world)
        return world.freeze()

    def _healed(self, moment: Moment) -> Moment:
        self._healer.judge(moment)
        return moment

    def judge(self, number: int, moment: Moment) -> None:
        """How it ended; then the laws of the end."""
        world = World(self.setting, self.known, moment)
        exit_ = exit_of(world)
        self._exits[exit_] += 1
        self.samples.setdefault(exit_ + (", moved" if world.ghost.moved else ""), []).append(number)
        laws.at_the_end(world)


def start(setting: Setting, known: Nodes, left: Left) -> Moment:
    """The first moment of a case."""
    rules = setting.rules
    nodes = (
        known.node(Node(Payer(chid="c" * 64, rules=rules))),
        known.node(Node(Payee(chid="c" * 64, rules=rules))),
    )
    count = max(setting.calls, 2 * len(setting.liars))  # who lies may ask for one more
    ghost = Ghost(
        asked=(False,) * count, runs=(0,) * count, earned=(-1,) * count, paid=(-1,) * count,
        signed=signable(setting),
    )  # fmt: skip
    world = World(setting, known, Moment(0, nodes, (-1, -1), Chain(), 0, (), ghost, left))
    world.learn(PAYEE, f.OpenAsked(at=0, problem=""))
    world.learn(PAYER, f.OpenOk(at=0, same=True))
    world.chain = world.chain.fund()
    world.sent = 0
    if not setting.opening:
        while world.edge < OPEN_EDGE:
            world.next_edge()
        if world.honest(PAYER):
            world.hello()
            _first_hello(world)
    return world.freeze()


def _first_hello(world: World) -> None:
    """The first session, by the book."""
    for number in list(world.numbers_sent()):
        if isinstance(world.known.facts[number], f.HelloCame):
            world.hear_hello(number)
    for number in list(world.numbers_sent()):
        if world.known.sides[number] == PAYER:
            world.learn_number(PAYER, number)
    again = NETWORK in world.setting.accidents  # what was heard may be heard again
    hellos = [at for at in world.numbers_sent() if again and isinstance(world.known.facts[at], f.HelloCame)]
    world.sent = sum(1 << number for number in hellos)


def exit_of(world: World) -> str:
    """How the coin went."""
    spend = world.chain.spend
    if spend is not None:
        return f"{spend.kind} {spend.paid_florins // world.setting.price}"
    return "unspent" if world.chain.coin_height is not None else "no coin"


def paid(left: Left, cost: int) -> Left:
    """The allowance after a move."""
    return tuple(one - (at == cost) for at, one in enumerate(left))  # type: ignore[return-value]
