"""Histories out of the walk, walked once more without any reduction, audited, and made ready for a real chain.

Promise: a history that does not come to the same end without the reductions, or whose logs a third party does not
replay to the same lots, is told as a difference.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import json

from dux_escrowd.facts import Fact
from dux_escrowd.model import Lot
from dux_escrowd.replay import FACT_LINE, LOT_LINE, LoggedFact, LoggedLot, replay
from dux_escrowd.rules import TABLE, decide
from dux_sim.proof.cases import SCRIPTS, Case, case_of, ladder_case
from dux_sim.proof.cast import NAMES, B
from dux_sim.proof.minds import Minds
from dux_sim.proof.moves import all_moves
from dux_sim.proof.player import Event, History
from dux_sim.proof.summary import Sampled, picked
from dux_sim.proof.walk import Walk
from dux_sim.proof.world import World

EVERYTHING = (99, 99, 99, 99)


def sampled_cases() -> list[Case]:
    """Cases whose histories take every way out, under every script."""
    wanted = (("both honest", 0, 0), ("buyer lies", 0, 0), ("seller lies, bad work", 1, 0), ("buyer silent", 0, 1))
    whole = [
        case_of(script, parties, bought=bought, silent=silent)
        for script in (SCRIPTS[0], SCRIPTS[1], SCRIPTS[3])
        for parties, bought, silent in wanted
    ]
    climbing = [
        ladder_case(script, who) for script in (SCRIPTS[0], SCRIPTS[3]) for who in ("both honest", "buyer silent")
    ]
    return [*whole, case_of(SCRIPTS[0], "buyer silent, half the work"), *climbing]


def sample(case: Case, each: int) -> Sampled:
    """Up to `each` histories of every exit of the case, spread over all that there are."""
    walk = Walk(case.name, case.setting, case.left)
    walk.run(case.states_max)
    found = Sampled()
    for name, number, exit_ in picked(case.name, walk.samples, each):
        _add(found, name, case, walk.moves(number), exit_)
    return found


def _add(found: Sampled, name: str, case: Case, moves: list[str], exit_: str) -> None:
    world = World.agreed(case.setting, Minds(TABLE))
    world.judged, world.log = True, []
    births = dict(world.lots)
    events = list(_again(world, moves, found, name))
    history = History(
        name=name, setting=case.setting, events=tuple(events),
        timeout=world.deal.heights.timeout, end=_end(world),
    )  # fmt: skip
    if history.exit != exit_:
        found.differences.append(f"{name}: without the reductions it ends by {history.exit}")
    _audit(found, name, births, world)
    found.histories.append(history)


def _again(world: World, moves: list[str], found: Sampled, name: str) -> Iterator[Event]:
    known: set[str] = set()
    for wanted in moves:
        move = next((one for one in all_moves(world, EVERYTHING, eager=True) if one.name == wanted), None)
        if move is None:
            found.differences.append(f"{name}: without the reductions there is no move: {wanted}")
            return
        move.act(world)
        coin = world.coin
        if coin is not None and coin.height is not None and coin.outpoint not in known:
            known.add(coin.outpoint)
            yield Event(coin.height, coin.outpoint, None)
    if world.coin is not None and world.spend is not None and world.spend.height is not None:
        yield Event(world.spend.height, world.coin.outpoint, world.spend, world.spend.txid)


def _end(world: World) -> int:
    spent = world.spend.height if world.spend is not None else None
    return (spent or world.deal.heights.timeout + 1) + 1


def _audit(found: Sampled, name: str, births: dict[str, Lot], world: World) -> None:
    """Every honest node's log, line by line in its stored form, gives the auditor the lot that the node has."""
    for who in (B, "seller", *NAMES):
        if who not in births or not world.honest(who):
            continue
        facts = [fact for by, number, fact in world.log or [] if by == who and number == 0]
        again = replay(_lines(births[who], facts))
        found.audited += 1
        lot = again.lots.get((births[who].contract_id, 0))
        if again.broken is not None or lot != world.nodes[who].lot:
            found.differences.append(f"{name}: an auditor finds another lot than {who}")


def _lines(birth: Lot, facts: list[Fact]) -> Iterator[tuple[int, str, bytes]]:
    yield 0, LOT_LINE, json.encode(LoggedLot(birth))
    lot = birth
    for number, fact in enumerate(facts, start=1):
        lot, _orders = decide(lot, fact)
        yield number, FACT_LINE, json.encode(LoggedFact(lot.contract_id, 0, fact, lot.state))  # type: ignore[arg-type]
