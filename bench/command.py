"""`duxnet bench`: measures, prints goal and figure side by side, and never judges: it ends with 0 whatever is met."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

import click

from bench.areas import AREAS, PARTS, chosen
from bench.measure import Run, machine
from bench.rows import Finding, Row
from common.errors import DuxError
from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session
from dux_cli.output import Output, note


@click.command(cls=DuxCommand)
@click.argument("areas", nargs=-1, type=click.Choice(list(AREAS)))
@click.option("--quick", is_flag=True, help="Fewer rounds; without AREAS, only what takes seconds.")
@click.option("--peers", is_flag=True, help="Fetch peers from PyPI into the cache, and measure beside them (network).")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(PARTS),
    help="These parts of an area; spread, sim and soak only so, with --quick the proof too.",
)
@pass_session
def bench(session: Session, *, areas: tuple[str, ...], quick: bool, peers: bool, only: tuple[str, ...]) -> None:
    """Measure DuxNet beside others, each figure next to its goal.

    \b
    duxnet bench                 everything (several minutes)
    duxnet bench rpc peer        these areas
    duxnet bench --quick --json  a smoke run; the last line is a list of rows
    duxnet bench network --peers --json
    duxnet bench network --peers --only calls
    duxnet bench --only sim      1,000 simulated nodes: a quarter of an hour; --only soak: half an hour

    Both sides of a comparison run in turns, so that a noisy machine hits both: trust ratios more than figures. The
    exit code says that everything could be measured, not that a goal is met. docs/bench.md tells what each row means.
    """
    names = chosen(areas, quick=quick, only=only)
    note(f"{machine()}; measuring {', '.join(names)}")
    findings, broken = asyncio.run(measure_all(names, quick=quick, peers=peers, only=only))
    note(machine())
    show(findings, session.out)
    if broken:
        raise SystemExit(EXIT_FAILED)


async def measure_all(
    names: list[str], *, quick: bool, peers: bool = False, only: tuple[str, ...] = ()
) -> tuple[list[Finding], list[str]]:
    """The findings of every area, and the areas that could not be measured: one that breaks stops no other."""
    findings: list[Finding] = []
    broken: list[str] = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix=f"duxnet-bench-{name}-") as folder:
            tell = partial(_tell, name)
            run = Run(Path(folder), quick, tell, peers, only)
            try:
                findings += await AREAS[name].load()(run)
            except Exception as error:  # noqa: BLE001 - the other areas are still worth their figures
                reason = error.message if isinstance(error, DuxError) else f"{type(error).__name__}: {error}"
                run.tell(f"could not be measured: {reason}")
                broken.append(name)
                findings.append(Finding(name=f"{name} (not measured)", unit="", ours=None, peer=reason))
    return findings, broken


def _tell(name: str, text: str) -> None:
    note(f"{name}: {text}")


def show(findings: list[Finding], out: Output) -> None:
    """A table for people, with spreads and notes; one JSON list of rows for programs."""
    rows = [finding.row() for finding in findings]
    out.table(
        rows,
        ("name", "value", "unit", "spread", "goal", "met", "peer", "peer's value", "ratio"),
        [cells(finding, row) for finding, row in zip(findings, rows, strict=True)],
    )
    for finding in findings:
        if finding.note:
            note(f"{finding.name}: {finding.note}")


def cells(finding: Finding, row: Row) -> list[str]:
    """One line of the table."""
    verdict = {True: "yes", False: "NO", None: "-"}[row.met]
    spread = finding.ours.spread() if finding.ours else ""
    theirs = finding.theirs.spread() if finding.theirs else ""
    return [
        row.name, _figure(row.value), row.unit, spread, row.goal or "-", verdict, row.peer or "-",
        _figure(row.peer_value) + (f" ({theirs})" if theirs else ""),
        _figure(row.ratio),
    ]  # fmt: skip


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
