"""`duxnet prove`: the protocols of money, walked through every state that liars, accidents and silence can make."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dux_cli.command import EXIT_FAILED, DuxCommand, DuxGroup, Session, pass_session

if TYPE_CHECKING:
    from dux_sim.proof.summary import Summary

SHOWN_MAX = 10  # violations in full; all of them are in the JSON


@click.group(cls=DuxGroup)
def prove() -> None:
    """Walk a protocol of money through every state, judge each, and plant faults that must be found."""


@prove.command(cls=DuxCommand)
@click.option("--quick", is_flag=True, help="The short form: a minute, for every change.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Processes.")
@pass_session
def escrow(session: Session, *, quick: bool, jobs: int) -> None:
    """The escrow's own table among the honest, the lying, the silent and the bought, with all accidents.

    Three parts: every case is walked to its end and judged by the laws of money; faults are planted into the table, and
    each must be found; histories out of the walk are played on real chains, which must take and refuse what the walk
    says. Exit code 1: one of them failed. docs/protocol/escrow-proof.md says what this proves and what it assumes.

    \b
    duxnet prove escrow --quick
    duxnet prove escrow --json
    """
    from dux_sim.proof.report import prove as prove_escrow

    proof = prove_escrow(quick=quick, jobs=jobs, progress=session.out.step)
    _answer(session, proof, [("latest coins", f"free {proof.latest_free_blocks_after_T} blocks after T")])


@prove.command(cls=DuxCommand)
@click.option("--quick", is_flag=True, help="The short form: less than a minute, for every change.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Processes.")
@pass_session
def channel(session: Session, *, quick: bool, jobs: int) -> None:
    """The channel's two tables among lost, late and repeated messages, crashes, old copies, reorganisations, liars.

    The same three parts as of the escrow: every case is walked to its end and judged, faults are planted and must be
    found, histories are played on real chains. Exit code 1: one of them failed. docs/protocol/channel-proof.md says
    what this proves and what it assumes.

    \b
    duxnet prove channel --quick
    duxnet prove channel --json
    """
    from dux_sim.proof.channel.report import prove as prove_channel

    _answer(session, prove_channel(quick=quick, jobs=jobs, progress=session.out.step), [])


def _answer(session: Session, proof: Summary, more: list[tuple[str, str]]) -> None:
    import msgspec

    answer = msgspec.to_builtins(proof) | {"holds": proof.holds}
    lines = [*_lines(proof), *more, ("seconds", str(proof.seconds)), ("verdict", proof.verdict)]
    session.out.record(answer, lines, name=proof.verdict)
    if not proof.holds:
        sys.exit(EXIT_FAILED)


def _lines(proof: Summary) -> list[tuple[str, str]]:
    lines = [(case.name, f"{case.states} states, {case.transitions} transitions") for case in proof.variants]
    lines += [
        ("cases", str(proof.cases)),
        ("states", f"{proof.states}, {proof.transitions} transitions, {proof.ends} ends"),
        ("cut off", "; ".join(proof.cut_off) or "nothing"),
        ("exits", ", ".join(f"{name} {number}" for name, number in proof.exits.items())),
        ("faults", f"{proof.mutations_found} of {proof.mutations_planted} found"),
    ]
    for one in proof.mutations:
        lines.append((f"  {one.fault}", f"{one.law}\n    {_way(one.trace)}" if one.found else "NOT FOUND"))
    for chain in proof.chains:
        told = f"{chain.histories} histories, {chain.taken} transactions taken, {sum(chain.refused.values())} refused"
        lines.append((chain.chain, f"left out: {chain.skipped}" if chain.skipped else told))
        lines += [("  difference", line) for line in chain.differences[:SHOWN_MAX]]
    lines += [("audited", f"{proof.histories_audited} logs")]
    lines += [("  difference", line) for line in proof.differences[:SHOWN_MAX]]
    lines += [("violations", str(len(proof.violations)))]
    for bad in proof.violations[:SHOWN_MAX]:
        lines.append((bad["law"], f"{bad['case']}\n    {_way(bad['trace'])}"))
    return lines


def _way(trace: list[str]) -> str:
    return " -> ".join(trace)
