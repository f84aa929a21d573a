"""A moment of the world as a value: frozen, reduced to what can still matter, and thawed again.

Reductions, each of which maps a moment to one from which exactly the same can follow:

- equal nodes, messages and statements are one object (`Minds.node`), and a state is compared by these objects;
- heights that no guard can read any more are forgotten (`forgotten`): when the coin became deep once START was said,
  when a dispute was heard once the fast award is out of question, when a delivery was made, when the arbiters were
  asked once nobody asks again, and when a spend was handed over once it is due to be handed over again;
- honest arbiters are interchangeable, because no rule reads more of a name than whether two are equal: where a moment
  is the same with two names exchanged, accidents befall the first of the two only (`Reducer.twins`);
- what the dead and the bought remember is nobody's: only whether a dead seller had delivered is kept.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import msgspec
from msgspec.structs import replace

from dux_escrowd.facts import (
    AwardSaid,
    CancelSaid,
    Fact,
    KeyShown,
    ReleaseSaid,
    StartSaid,
    VoteCommitted,
    VoteRevealed,
)
from dux_escrowd.model import Ballot, Deal, Lot, Role, State
from dux_sim.proof.cast import START, B, S, Setting
from dux_sim.proof.minds import Minds, Node
from dux_sim.proof.world import Message, World

LOTLESS = (State.AGREED, State.FUNDED_SEEN, State.STRAY, State.VOID)  # where LATE_OK may still ask who was READY
Allowance = tuple[int, int, int, int]  # accidents, lies, whims that are left, and how many of them all together


class Moment(msgspec.Struct, frozen=True):
    """The world at one moment, and what of the history's allowance is left."""

    height: int
    nodes: tuple[Node, ...]
    mail: tuple[Message, ...]
    chain: tuple[Any, ...]
    keys: tuple[Any, ...]
    people: tuple[Any, ...]
    delayed: tuple[Any, ...]
    told: frozenset[str]
    left: Allowance


def freeze(world: World, told: frozenset[str], left: Allowance) -> Moment:
    """The world as it stands."""
    mail = sorted(world.mail, key=lambda message: (message.lane, message.to))
    voted = _voted(world) if world.heard_answer or world.heard_disputes else set()
    return Moment(
        height=world.height,
        nodes=tuple(world.nodes.values()),
        mail=tuple(mail),
        chain=(
            world.coin, world.spend, world.beside, tuple(sorted(world.rivals, key=_txid)), world.coins_made,
            world.reorged, _fees(world),
        ),
        keys=(world.keys_shown, world.shared_key_by_standby, world.releases, world.cancels, _sorted(world.awards)),
        people=(
            world.gone, world.forked, world.asleep, world.verdict_given, world.liars_stand_by, world.wallet_missed,
            world.part_taken, world.heard_answer & set(world.setting.panel) - voted,
            frozenset(world.wallet_down),
            frozenset(pair for pair in world.heard_disputes if pair[0] in world.setting.panel and pair[0] not in voted),
        ),
        delayed=tuple(world.delayed),
        told=told,
        left=left,
    )  # fmt: skip


def _voted(world: World) -> set[str]:
    """Arbiters that have voted, and have nothing left to do: what they had heard no law asks for again."""
    busy = {name for name, _order in world.delayed}
    return {name for name in world.setting.panel if world.nodes[name].lot.vote_florins is not None} - busy


def _fees(world: World) -> tuple[Any, ...]:
    """What miners take, and who stands where on the ladder; since when a spend waits matters to the law alone."""
    if not world.setting.ladder:
        return ()
    waits = world.spend is not None and world.spend.height is None and world.fees
    since = world.spend_since if waits else world.height
    return world.fees, world.child, world.overrun, tuple(sorted(world.climbed.items())), since


def _txid(spend: Any) -> str:
    return str(spend.txid)


def _sorted(awards: dict[Any, frozenset[str]]) -> tuple[Any, ...]:
    return tuple(sorted(awards.items(), key=lambda item: (item[0].gross_florins, item[0].revealed, item[0].outpoint)))


def thaw(moment: Moment, setting: Setting, minds: Minds) -> World:
    """A world that stands at this moment."""
    world = World(setting=setting, minds=minds, height=moment.height, judged=True)
    world.nodes = dict(zip((B, S, *setting.panel), moment.nodes, strict=True))
    world.mail = list(moment.mail)
    world.coin, world.spend, world.beside, rivals, world.coins_made, world.reorged, fees = moment.chain
    world.rivals = list(rivals)
    if fees:
        world.fees, world.child, world.overrun, climbed, world.spend_since = fees
        world.climbed = dict(climbed)
    world.keys_shown, world.shared_key_by_standby, world.releases, world.cancels, awards = moment.keys
    world.awards = dict(awards)
    (
        world.gone, world.forked, world.asleep, world.verdict_given, world.liars_stand_by, world.wallet_missed,
        world.part_taken, world.heard_answer, down, world.heard_disputes,
    ) = moment.people  # fmt: skip
    world.delayed, world.wallet_down = list(moment.delayed), set(down)
    return world


def forgotten(lot: Lot, height: int) -> Lot:
    """The lot without the heights that nothing can ask for after this one."""
    deal = lot.deal
    settled = lot.started or lot.delivered_at is not None
    pinged = lot.pinged_at
    if pinged is not None:
        pinged = START if height >= deal.heights.dispute_by else max(pinged, height + 1 - deal.start_blocks)
    due = lot.ordered_at is not None and height + 1 - lot.ordered_at >= deal.rebroadcast_blocks
    overdue = height + 1 - deal.rebroadcast_blocks if deal.rung_blocks else None  # who may climb must have ordered
    return replace(
        lot,
        ready=lot.ready if lot.state in LOTLESS else (),
        ballots=_by_name(lot),
        funded_at=START if settled and lot.funded_at is not None else lot.funded_at,
        disputed_at=START if settled and lot.disputed_at is not None else lot.disputed_at,
        delivered_at=deal.heights.deliver_by if lot.delivered_at is not None else None,
        pinged_at=pinged,
        ordered_at=overdue if due else lot.ordered_at,
    )


def _by_name(lot: Lot) -> tuple[Ballot, ...]:
    """Votes are counted, and at most one gross can have k of 2k - 1: their order says nothing."""
    return tuple(sorted(lot.ballots, key=lambda ballot: ballot.arbiter))


def waiting_of(node: Node) -> tuple[Fact, ...]:
    """What waits for its phase: only whether it came in time is remembered, and what came too late never fits."""
    heights = node.lot.deal.heights
    until = {
        VoteCommitted: heights.commit_by, VoteRevealed: heights.reveal_by, AwardSaid: heights.vote_by,
        CancelSaid: heights.timeout, KeyShown: heights.timeout, StartSaid: heights.timeout,
    }  # fmt: skip
    if node.lot.role is not Role.ARBITER:
        until[ReleaseSaid] = heights.vote_by
    kept = (
        fact if type(fact) not in until else replace(fact, at=START)
        for fact in node.waiting
        if fact.at <= until.get(type(fact), fact.at)
    )  # fmt: skip
    return tuple(dict.fromkeys(kept))


class Reducer:
    """Maps moments to those that stand for them."""

    def __init__(self, setting: Setting, minds: Minds) -> None:
        self._minds = minds
        self._setting = setting
        self._forgotten: dict[tuple[int, int], Node] = {}
        self._renamed: dict[tuple[Any, ...], Node] = {}
        self._blank = {
            name: minds.node(Node(Lot(contract_id="c" * 64, me=name, role=Role.ARBITER, deal=setting.deal)))
            for name in setting.panel
        }

    def forget(self, world: World, before: Moment | None = None) -> None:
        """Nodes without what cannot matter after this block; the dead and the bought with nothing.

        What a node had forgotten already (`before`, at this height) is not worked out again.
        """
        done = before.nodes if before is not None and before.height == world.height else ()
        for at, (name, node) in enumerate(world.nodes.items()):
            if world.honest(name):
                if not done or done[at] is not node:
                    world.nodes[name] = self._without(node, world.height)
            elif name in self._blank:
                world.nodes[name] = self._blank[name]
            else:
                world.nodes[name] = self._dead(node)
        world.mail = [message for message in world.mail if world.honest(message.to)]

    def twins(self, moment: Moment) -> frozenset[str]:
        """Arbiters in whose place another stands, because the moment is the same with their names exchanged."""
        panel = [name for name in self._setting.panel if name not in self._setting.liars | self._setting.silent]
        found: set[str] = set()
        for at, name in enumerate(panel):
            found |= {other for other in panel[at + 1 :] if other not in found and self._same(moment, name, other)}
        return frozenset(found)

    def _same(self, moment: Moment, one: str, two: str) -> bool:
        names = {one: two, two: one}
        at = dict(zip((B, S, *self._setting.panel), moment.nodes, strict=True))
        if any(self._node(node, names) is not at[names.get(name, name)] for name, node in at.items()):
            return False
        mail = set(moment.mail)
        if {exchanged(message, names) for message in mail} != mail:
            return False
        rest = (moment.keys[4], moment.people, moment.delayed)
        return bool(exchanged(rest, names) == rest)

    def _node(self, node: Node, names: dict[str, str]) -> Node:
        key = (id(node), *names)
        if key not in self._renamed:
            lot = replace(exchanged(node.lot, names), panel=node.lot.panel)
            lot = replace(lot, ballots=_by_name(lot), ready=tuple(sorted(lot.ready)))
            self._renamed[key] = self._minds.node(
                Node(lot, exchanged(node.waiting, names), exchanged(node.strays, names))
            )
        return self._renamed[key]

    def _without(self, node: Node, height: int) -> Node:
        key = (id(node), height)
        if key not in self._forgotten:
            self._forgotten[key] = self._minds.node(
                Node(
                    forgotten(node.lot, height), waiting_of(node), tuple(forgotten(one, height) for one in node.strays)
                )
            )
        return self._forgotten[key]

    def _dead(self, node: Node) -> Node:
        lot = node.lot
        if lot.me == B:
            kept = Lot(contract_id=lot.contract_id, me=lot.me, role=lot.role, deal=lot.deal)
        else:
            at = lot.deal.heights.deliver_by if lot.delivered_at is not None else None
            kept = Lot(contract_id=lot.contract_id, me=lot.me, role=lot.role, deal=lot.deal, delivered_at=at)
        return self._minds.node(Node(kept))


def exchanged(value: Any, names: dict[str, str]) -> Any:
    """The value with names exchanged wherever they stand; sets of names stay sorted, other tuples keep their order."""
    if type(value) is str:  # not a StrEnum
        who, slash, rest = value.partition("/")
        return names.get(who, who) + slash + rest
    if isinstance(value, frozenset):
        return frozenset(exchanged(item, names) for item in value)
    if isinstance(value, tuple):
        changed = tuple(exchanged(item, names) for item in value)
        return (
            tuple(sorted(changed))
            if value and all(type(item) is str and item in names for item in changed)
            else changed
        )
    if isinstance(value, msgspec.Struct) and not isinstance(value, Deal):
        fields = {name: exchanged(getattr(value, name), names) for name in value.__struct_fields__}
        return type(value)(**fields)
    return value


def key_of(moment: Moment) -> Hashable:
    """What two moments are compared by."""
    nodes = tuple(id(node) for node in moment.nodes)
    return (
        moment.height,
        nodes,
        moment.mail,
        moment.chain,
        moment.keys,
        moment.people,
        moment.delayed,
        moment.told,
        moment.left,
    )
