"""Several lots at once: stages of work that begin when the one before is paid, and the seller's bond beside them.

Each lot is a world of the escrow's walk; all stand at the same height, and the only couplings are the product's own
(`dux_escrowd.series_rules`): whose turn it is, what goes back unbegun, which bond stands. An award against the seller
takes the bond's coin in the same transaction. In the world of the bond the roles are swapped. Time and mail go in step;
choices, lies and whims are those of each lot of work; accidents are walked in the single lot's proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from common.chain.contract import Policy
from common.chain.heights import plan
from dux_escrowd import facts as f
from dux_escrowd import guards as g
from dux_escrowd.model import Deal, Exit, Lot, Role, State
from dux_escrowd.rules import ROWS, TABLE
from dux_escrowd.series_rules import bond_fact, bond_over, turn_of
from dux_escrowd.table import Index, indexed
from dux_sim.proof import laws
from dux_sim.proof.cast import PRICE, PROOF, PROOF_DELIVER_BLOCKS, START, B, S, Setting, deal_for
from dux_sim.proof.kinds import LIE, WHIM, Move
from dux_sim.proof.lies import lies, takes
from dux_sim.proof.minds import Minds
from dux_sim.proof.moves import choices, deliver_round, has_mail, next_block
from dux_sim.proof.plant import Plant, forgets
from dux_sim.proof.search import Found, Search, Way, require
from dux_sim.proof.states import Allowance, Moment, Reducer, freeze, key_of, thaw
from dux_sim.proof.walk import SLACK_BLOCKS, WalkedEscrow, paid_from
from dux_sim.proof.world import World

STAGE_BLOCKS = 6  # the next lot's work is due so much later, and so is its T
BOND_BLOCKS = 2 * STAGE_BLOCKS + 2 * PROOF.vote_before_blocks
SWAPPED = {B: S, S: B}
Moments = tuple[Moment, ...]
Worlds = list[World]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What is walked: so many lots of work, with a bond or without, and who lies or is silent."""

    name: str
    count: int = 2
    bonded: bool = False
    liars: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    worth_florins: int = PRICE
    left: Allowance = (0, 0, 0, 0)
    states_max: int = 400_000


def _staged(number: int) -> Deal:
    deliver = PROOF_DELIVER_BLOCKS + number * STAGE_BLOCKS
    heights = plan(PROOF, START, deliver, PRICE)
    begins = heights.fund_by + number * STAGE_BLOCKS if number else 0
    return replace(deal_for(policy=Policy.STANDBY, profile=PROOF), heights=heights, stage=number, begins=begins)


def _bond() -> Deal:
    heights = plan(PROOF, START, PROOF_DELIVER_BLOCKS + BOND_BLOCKS, PRICE)
    return replace(deal_for(lock=False, profile=PROOF), heights=heights, bond=True)


def settings_of(series: Series) -> tuple[Setting, ...]:
    """The world of each lot of work; the bond's last."""
    first = Setting(
        deal=_staged(0), liars=series.liars, silent=series.silent, worth_florins=series.worth_florins,
        delay_blocks=10**6,
    )  # fmt: skip
    works = [replace(first, deal=_staged(number)) for number in range(series.count)]
    if not series.bonded:
        return tuple(works)
    liars, silent = (frozenset(SWAPPED.get(who, who) for who in those) for those in (series.liars, series.silent))
    return (*works, Setting(deal=_bond(), liars=liars, silent=silent, delay_blocks=10**6))


class SeriesWalk:
    """One series."""

    def __init__(self, series: Series, couplings: Couplings | None = None, table: Index = TABLE) -> None:
        self.series = series
        self._couplings = couplings or Couplings()
        self.settings = settings_of(series)
        self._minds = [Minds(table) for _ in self.settings]
        self._reduce = [Reducer(*pair) for pair in zip(self.settings, self._minds, strict=True)]
        self.told = WalkedEscrow(series.name)
        self._exits: Counter[str] = Counter()
        self._search: Search[Moments] = Search(self)
        last = max(setting.deal.heights.timeout for setting in self.settings)
        self.end = last + 1 + PROOF.depth_blocks + SLACK_BLOCKS

    def run(self, states_max: int, *, first_only: bool = False) -> WalkedEscrow:
        """Walk to the end of the case, or until so many moments were seen."""
        worlds = [World.agreed(*pair) for pair in zip(self.settings, self._minds, strict=True)]
        for world in worlds:
            world.judged = True
        for reducer, world in zip(self._reduce, worlds, strict=True):
            reducer.forget(world)
        start = tuple(freeze(world, frozenset(), self.series.left) for world in worlds)
        self._search.run(start, "agreed and funded", states_max, first_only=first_only)
        self._search.tell(self.told, self._exits)
        return self.told

    def layer_of(self, moments: Moments) -> int:
        """The height."""
        return moments[0].height

    def key_of(self, moments: Moments) -> Hashable:
        """All lots'."""
        return tuple(key_of(moment) for moment in moments)

    def ways(self, moments: Moments) -> Iterator[Way[Moments]]:
        """Time and mail in step, and what may happen to each lot of work."""
        if moments[0].height >= self.end:
            return
        worlds = self._thawed(moments)
        if any(has_mail(world) for world in worlds):
            yield "mail arrives", partial(self._together, moments, _mail)
        else:
            yield "a block", partial(self._together, moments, _block)
            for number, world in enumerate(worlds[: self.series.count]):
                for at, rival in enumerate(world.rivals, start=1):
                    if world.spend is not None and world.spend.height is None:
                        name = f"a block with {rival.txid} of lot {number}"
                        yield name, partial(self._together, moments, partial(_block, number=number, take=at))
        for number in range(self.series.count):
            for move in self._of_lot(worlds, number, moments[number]):
                yield f"lot {number}: {move.name}", partial(self._one, moments, number, move)
        if self.series.bonded:
            for move in takes(worlds[-1], B) if B in self.settings[-1].liars else ():
                yield f"bond: {move.name}", partial(self._one, moments, len(worlds) - 1, move)

    def _of_lot(self, worlds: Worlds, number: int, moment: Moment) -> Iterator[Move]:
        world, left = worlds[number], moment.left
        quiet = not any(has_mail(one) for one in worlds)
        if quiet:
            yield from choices(world, whims=bool(left[WHIM]))
        for who in (B, S):
            if who in world.setting.liars:
                yield from takes(world, who)
        if quiet and left[LIE]:
            yield from (move for move in lies(world) if move.name not in moment.told)

    def _thawed(self, moments: Moments) -> Worlds:
        return [thaw(*three) for three in zip(moments, self.settings, self._minds, strict=True)]

    def _together(self, moments: Moments, act: Callable[[Worlds], None]) -> Moments:
        worlds = self._thawed(moments)
        act(worlds)
        return self._frozen(worlds, moments, [moment.told for moment in moments], moments[0].left)

    def _one(self, moments: Moments, number: int, move: Move) -> Moments:
        worlds = self._thawed(moments)
        move.act(worlds[number])
        told = [moment.told | {move.name} if at == number and move.once else moment.told
                for at, moment in enumerate(moments)]  # fmt: skip
        return self._frozen(worlds, moments, told, paid_from(moments[0].left, move))

    def _frozen(self, worlds: Worlds, moments: Moments, told: list[frozenset[str]], left: Allowance) -> Moments:
        self._couple(worlds)
        for reducer, world, moment in zip(self._reduce, worlds, moments, strict=True):
            reducer.forget(world, moment)
        return tuple(freeze(world, said, left) for world, said in zip(worlds, told, strict=True))

    # --- what the lots mean for each other ----------------------------------------------------------------------------

    def _couple(self, worlds: Worlds) -> None:
        works, bond = worlds[: self.series.count], worlds[-1] if self.series.bonded else None
        for number, world in enumerate(works):
            before = works[number - 1].nodes[S].lot if number else None
            _learn(world, S, self._couplings.turn(world.nodes[S].lot, before, world.height))
            if bond is not None:
                for name, node in world.nodes.items():
                    _learn(world, name, self._couplings.bond(node.lot, _in_bond(bond, name), world.height))
            self._exposure(works, number)
        if bond is not None:
            mine = [world.nodes[B].lot for world in works]
            _learn(bond, S, self._couplings.over(bond.nodes[S].lot, mine, len(works), bond.height))
            self._take_bond(works, bond)

    @staticmethod
    def _take_bond(works: Worlds, bond: World) -> None:
        """An award of both takes both coins at once, be it in the mempool or in a block."""
        for work in works:
            spend = work.spend
            if spend is not None and spend.txid.endswith("+bond") and bond.spend != spend:
                rival = bond.spend is not None and bond.spend.txid != spend.txid
                require(not rival or bond.spend.height is None, "an award of both takes a bond that is spent")  # type: ignore[union-attr]
                bond.spend = spend
                for name in bond.nodes:
                    bond.look(name)

    def _exposure(self, works: Worlds, number: int) -> None:
        """An honest seller has worked for at most one lot that is not paid."""
        begun = [world for world in works if world.nodes[S].lot.delivered_at is not None]
        unpaid = [world for world in begun if laws.paid(world) == 0 and world.spend is None]
        require(not works[number].honest(S) or len(unpaid) <= 1, "an honest seller works for two unpaid lots at once")

    # --- the end ------------------------------------------------------------------------------------------------------

    def judge(self, _number: int, moments: Moments) -> None:
        """How it ended; then the laws of each lot, and those of the bond."""
        worlds = self._thawed(moments)
        works = worlds[: self.series.count]
        self._exits[" / ".join(world.spend.txid if world.spend else "unspent" for world in worlds)] += 1
        for world in worlds:
            laws.at_the_end(world)
        if self.series.bonded:
            _bond_bound(works, worlds[-1])


def _in_bond(bond: World, name: str) -> Lot:
    return bond.nodes[SWAPPED.get(name, name)].lot


def _learn(world: World, name: str, fact: f.Fact | None) -> None:
    if fact is not None:
        world.learn(name, fact)


def _mail(worlds: Worlds) -> None:
    for world in worlds:
        if has_mail(world):
            deliver_round(world)


def _block(worlds: Worlds, *, number: int = -1, take: int = 0) -> None:
    for at, world in enumerate(worlds):
        next_block(world, spend=take if at == number else 0)


def _bond_bound(works: Worlds, bond: World) -> None:
    """The loser pays: a lost dispute takes the bond, once; the bond of a seller that delivered comes back."""
    lost = [work for work in works if work.spend is not None and work.spend.exit is Exit.AWARD and not laws.paid(work)]
    both = [work for work in lost if work.spend is not None and work.spend.txid.endswith("+bond")]
    taken = bond.spend is not None and bond.spend.exit is Exit.AWARD
    require(bool(both) == taken, "half of an award of both")
    require(len(both) <= 1, "one bond pays twice")
    if works[0].has_quorum() and not works[0].is_bought():
        require(both or not lost, "the loser does not pay: the bond is left out of the award")
        delivered = [work for work in both if work.honest(S) and work.nodes[S].lot.delivered_at is not None]
        require(not delivered or works[0].setting.worth_florins < PRICE, "a seller that delivered loses its bond")


class Couplings(msgspec.Struct, frozen=True):
    """What the lots of a series mean for each other: the product's functions, or a fault in the place of one."""

    turn: Callable[[Lot, Lot | None, int], f.Fact | None] = turn_of
    bond: Callable[[Lot, Lot | None, int], f.Fact | None] = bond_fact
    over: Callable[[Lot, Sequence[Lot | None], int, int], f.Fact | None] = bond_over


class SeriesMutation(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, and where it is looked for."""

    name: str
    couplings: Couplings = Couplings()
    plant: Plant | None = None  # or a fault in the table of each lot
    case: Series


def hunt_series(mutation: SeriesMutation) -> Found | None:
    """The first law that the fault breaks, and how; None: it was not found."""
    table = TABLE if mutation.plant is None else indexed(mutation.plant(ROWS))
    told = SeriesWalk(mutation.case, mutation.couplings, table).run(mutation.case.states_max, first_only=True)
    return told.violations[0] if told.violations else None


def _at_once(lot: Lot, _before: Lot | None, at: int) -> f.Fact | None:
    waits = lot.role is Role.SELLER and lot.state is State.FUNDED and lot.deal.stage > 0 and not lot.started
    return f.StageOpened(at=at) if waits else None


def _never(_lot: Lot, _other: Lot | None, _at: int) -> None:
    return None


def _back_at_once(bond: Lot, _works: Sequence[Lot | None], _count: int, at: int) -> f.Fact | None:
    return bond_over(bond, (), 0, at)


SILENT_SELLER = Series(name="2 lots and a bond; seller silent", bonded=True, silent=frozenset({S}))
SERIES_CASES = (
    Series(name="2 lots; both honest"),
    Series(name="2 lots and a bond; both honest", bonded=True),
    Series(name="2 lots; buyer silent", silent=frozenset({B})),
    SILENT_SELLER,
)
ONE_LIE = (0, 1, 0, 1)
SERIES_LONG = (
    Series(name="3 lots; both honest", count=3),
    Series(name="2 lots; buyer lies once", liars=frozenset({B}), left=ONE_LIE),
    Series(name="2 lots and a bond; buyer lies once", bonded=True, liars=frozenset({B}), left=ONE_LIE),
    Series(name="2 lots; seller lies once, bad work", liars=frozenset({S}), worth_florins=0, left=ONE_LIE),
    Series(name="2 lots and a bond; seller lies once, bad work", bonded=True, liars=frozenset({S}), worth_florins=0,
           left=ONE_LIE),
    Series(name="2 lots and a bond; both honest, half the work", bonded=True, worth_florins=PRICE // 2),
)  # fmt: skip
SERIES_MUTATIONS = (
    SeriesMutation(name="a later stage begins whatever became of the one before", couplings=Couplings(turn=_at_once),
                   case=SERIES_CASES[2]),
    SeriesMutation(name="nobody notices that a bond stands", couplings=Couplings(bond=_never), case=SILENT_SELLER),
    SeriesMutation(name="the bond goes back before the work is over", couplings=Couplings(over=_back_at_once),
                   case=SERIES_CASES[1]),
    SeriesMutation(name="a seller delivers a later stage whose turn has not come", case=SERIES_CASES[2],
                   plant=forgets(f.DeliveryMade, g.has_begun)),
)  # fmt: skip
