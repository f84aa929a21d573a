"""`duxnet sim`: a whole network on virtual time in one process, under faults, judged by the laws of money."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session

if TYPE_CHECKING:
    from dux_sim.orders import Order, Told

NODES_MIN, NODES_WHOLE_MAX, NODES_MAX = 5, 64, 2000
HOURS_MAX = 24.0 * 365
HISTORIES_MAX = 1_000_000


@click.command(cls=DuxCommand)
@click.option("--nodes", type=click.IntRange(NODES_MIN, NODES_MAX), default=6, show_default=True, help="Nodes.")
@click.option("--hours", type=click.FloatRange(0.05, HOURS_MAX), default=24.0, show_default=True, help="Virtual hours.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="One seed is one history.")
@click.option("--faults", default="all", show_default=True, help="all, none, or names with commas between them.")
@click.option("--money", type=click.IntRange(1, HISTORIES_MAX), help="Instead: so many histories of escrow.")
@click.option("--fund", type=click.IntRange(1, HISTORIES_MAX), help="Instead: so many histories of the fund.")
@click.option(
    "--story",
    type=click.Choice(["auto", "whole", "overlay", "sybil"]),
    default="auto",
    show_default=True,
    help="Whole nodes, p2pds only, or fakes of the fund. auto: overlay for churn, liars, above 64 nodes.",
)
@click.option("--jobs", type=click.IntRange(0), default=0, help="Processes for many histories; 0: one per core.")
@click.option(
    "--processes", type=click.IntRange(0, 2), default=0, help="Processes for one overlay; 0: one per core, at most two."
)
@click.option("--shrink", "shrinks", is_flag=True, help="Make the schedule of faults of a failure as short as it gets.")
@click.option("--trace", is_flag=True, help="Print the history line by line.")
@click.option("--until", default="", metavar="N|LAW", help="Stop in front of event N, or of a law's breaking.")
@pass_session
def sim(
    session: Session, *, nodes: int, hours: float, seed: int, faults: str, money: int | None, fund: int | None,
    story: str, jobs: int, processes: int, shrinks: bool, trace: bool, until: str,
) -> None:  # fmt: skip
    """Whole nodes in one process, hours in minutes, every fault; then the world heals and all laws are judged.

    A seed gives the same history on every machine; `history_hash` tells. Exit code 1 means that a law was broken, and
    the output holds the command that repeats it. docs/simulator.md says what is real in it.

    \b
    duxnet sim --nodes 6 --seed 1 --hours 24 --faults all --json
    duxnet sim --nodes 1000 --seed 3 --hours 1 --faults churn,partition,liars --json
    duxnet sim --story sybil
    duxnet sim --money 2000 --faults crash,reorg,liar
    duxnet sim --money 1 --seed 4711 --shrink
    duxnet sim --money 1 --seed 4711 --until "a payment happens once"
    """
    if story == "sybil":
        from dux_cli.sybil import run_sybil

        sys.exit(0 if run_sybil(session, seed) else EXIT_FAILED)
    from dux_sim.orders import Order, alone
    from dux_sim.suite import run_many
    from dux_sim.world.faults import KINDS, OVERLAY_KINDS, parse_faults

    overlay = not (money or fund) and is_overlay(story, faults, nodes)
    kinds = parse_faults(faults, OVERLAY_KINDS if overlay else KINDS)
    kind: Any = "money" if money else "fund" if fund else "overlay" if overlay else "network"
    processes = processes or min(2, len(os.sched_getaffinity(0)))
    first = Order(kind=kind, seed=seed, faults=kinds, nodes=nodes, hours=hours, processes=processes)
    count = money or fund or 1
    if trace or until:
        _read(session, first, until)
        return
    if count > 1:
        import msgspec

        told = run_many([msgspec.structs.replace(first, seed=seed + at) for at in range(count)], jobs=jobs)
    else:
        told = alone(first)
    answer = _answer(told, first)
    if told.violations and shrinks:
        failing = msgspec_replace(first, told.violations[0]["seed"])
        answer |= _shrunk(session, failing, {violation["law"] for violation in told.violations})
    _tell(session, told, answer)
    if told.violations:
        sys.exit(EXIT_FAILED)


def is_overlay(story: str, faults: str, nodes: int) -> bool:
    """Which of the two stories of a network is meant.

    Raises:
        click.BadParameter: so many whole nodes are too many.
    """
    from dux_sim.world.faults import is_of_overlay

    if story == "whole" and nodes > NODES_WHOLE_MAX:
        raise click.BadParameter(f"at most {NODES_WHOLE_MAX} whole nodes", param_hint="--nodes")
    return story == "overlay" or (story == "auto" and (nodes > NODES_WHOLE_MAX or is_of_overlay(faults)))


def msgspec_replace(order: Order, seed: int) -> Order:
    """The same order with another seed."""
    import msgspec

    return msgspec.structs.replace(order, seed=seed)


def _answer(told: Told, order: Order) -> dict[str, Any]:
    import msgspec

    answer: dict[str, Any] = msgspec.to_builtins(told)
    return answer | {"kind": order.kind, "seed": order.seed, "nodes": order.nodes, "repeat": order.command()}


def _read(session: Session, order: Order, until: str) -> None:
    from dux_sim.orders import read

    lines = read(order, until)
    if session.out.as_json:
        session.out.json({"lines": lines})
    else:
        session.out.text("\n".join(lines))


def _shrunk(session: Session, order: Order, laws: set[str]) -> dict[str, Any]:
    import msgspec

    from dux_sim.orders import alone, faults_of
    from dux_sim.shrink import shrink

    def fails(schedule: tuple[Any, ...]) -> bool:
        session.out.step(f"trying {len(schedule)} faults …")
        told = alone(msgspec.structs.replace(order, schedule=schedule))
        return bool(laws & {violation["law"] for violation in told.violations})

    schedule = shrink(faults_of(order), fails)
    return {"shrunk": msgspec.to_builtins(schedule), "shrunk_seed": order.seed}


def _tell(session: Session, told: Told, answer: dict[str, Any]) -> None:
    def counts(found: dict[str, int]) -> str:
        return ", ".join(f"{name} {number}" for name, number in found.items()) or "none"

    lines = [
        ("history", told.history_hash),
        ("histories", str(told.histories)),
        ("exits", counts(told.exits)),
        ("faults", counts(told.faults)),
        ("messages", str(told.messages)),
        ("commits", str(told.commits)),
        ("blocks", str(told.blocks)),
        ("seconds", f"{told.seconds:.1f} ({told.cpu_seconds:.1f} of CPU)"),
        ("violations", str(len(told.violations))),
    ]
    lines += [(one["law"], f"{one['detail']}\n    repeat: {one['repeat']}") for one in told.violations[:20]]
    lines += [("shrunk to", str(answer["shrunk"]))] if "shrunk" in answer else []
    session.out.record(answer, lines, name=told.history_hash)
