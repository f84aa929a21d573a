"""Histories out of the walk, lived once more with every step worked out anew, audited, and made ready for a real chain.

Promise: a history that does not come to the same end the second time, or whose logs, in their stored form, do not give
the product's `decide` the same channel, is told as a difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import or_

import msgspec

from dux_escrowd.channel import facts as f
from dux_escrowd.channel import payee, payer
from dux_escrowd.channel.model import Payee, Payer
from dux_sim.proof.channel.cases import LYING_PAYEE, LYING_PAYER, MOVED, ONE, Case, case_of
from dux_sim.proof.channel.cast import EDGES, EXP, NAMES, PAYEE, PAYER
from dux_sim.proof.channel.moves import FREE, moves
from dux_sim.proof.channel.nodes import Nodes
from dux_sim.proof.channel.walk import TABLES, Walk, exit_of, paid, start
from dux_sim.proof.channel.world import World
from dux_sim.proof.player import Event, History
from dux_sim.proof.summary import Sampled, picked

FACTS = tuple(
    one for one in vars(f).values() if isinstance(one, type) and issubclass(one, f.Fact) and one is not f.Fact
)
STORED: msgspec.json.Decoder[f.Fact] = msgspec.json.Decoder(reduce(or_, FACTS))


def sampled_cases() -> list[Case]:
    """Cases whose histories take every way out: closes of every amount, last states, refunds, moved coins."""
    return [
        case_of("both honest, 3 calls", calls=3),
        case_of("both honest, 1 call", ONE, calls=1, failing=True),
        case_of("from the funding on, 1 call, of the chain", ONE, **MOVED),
        case_of("payee lies, 2 calls", calls=2, **LYING_PAYEE),
        case_of("payer lies, 1 call", calls=1, **LYING_PAYER),
    ]


def sample(case: Case, each: int) -> Sampled:
    """Up to `each` histories of every exit of the case, spread over all that there are."""
    walk = Walk(case.name, case.setting, case.left)
    walk.run(case.states_max)
    found = Sampled()
    for name, number, exit_ in picked(case.name, walk.samples, each):
        _add(found, name, case, walk.moves(number), exit_)
    return found


def _add(found: Sampled, name: str, case: Case, names: list[str], exit_: str) -> None:
    known = Nodes(TABLES)
    known.log = []
    world = World(case.setting, known, start(case.setting, known, case.left))
    events = list(_again(world, names, found, name))
    history = History(name=name, setting=None, events=tuple(events), timeout=EXP, end=EDGES[-1] + 1)
    if exit_of(world) != exit_:
        found.differences.append(f"{name}: the second time it ends by {exit_of(world)}")
    if events:
        found.histories.append(history)
    if not any(world.ghost.restored):
        _audit(found, name, world)


def _again(world: World, names: list[str], found: Sampled, name: str) -> Iterator[Event]:
    coins: set[str] = set()
    yield from _new_coin(world, coins)
    for wanted in names:
        move = next((one for one in moves(world, world.freeze()) if one[0] == wanted), None)
        if move is None:
            found.differences.append(f"{name}: the second time there is no move: {wanted}")
            return
        if move[1] != FREE:
            world.left = paid(world.left, move[1])
        move[2](world)
        yield from _new_coin(world, coins)
    spend, height = world.chain.spend, world.chain.spend_height
    if spend is not None and height is not None:
        yield Event(height, world.chain.outpoint, spend, exit_of(world))


def _new_coin(world: World, coins: set[str]) -> Iterator[Event]:
    chain = world.chain
    if chain.coin_height is not None and chain.outpoint not in coins:
        coins.add(chain.outpoint)
        yield Event(chain.coin_height, chain.outpoint, None)


def _audit(found: Sampled, name: str, world: World) -> None:
    """Each honest side's facts, as they are stored, give the product's own `decide` the channel that the side has."""
    for side in (PAYER, PAYEE):
        if not world.honest(side):
            continue
        channel: Payer | Payee = (Payer, Payee)[side](chid="c" * 64, rules=world.setting.rules)
        for by, fact in world.known.log or []:
            if by == side:
                channel = _decided(channel, STORED.decode(msgspec.json.encode(fact)))
        found.audited += 1
        if channel != world.node(side).channel:
            found.differences.append(f"{name}: an auditor finds another channel than the {NAMES[side]}")


def _decided(channel: Payer | Payee, fact: f.Fact) -> Payer | Payee:
    return payer.decide(channel, fact).next if isinstance(channel, Payer) else payee.decide(channel, fact).next
