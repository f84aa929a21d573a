"""`duxnet attacks`: run the attack suite and print what each attack tried and met."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session
from dux_cli.docs.attacks import Attack, attacks_in, layers_in
from dux_cli.output import counted

CHECKOUT = Path(__file__).resolve().parents[1]
REPORT = "DUX_ATTACKS_REPORT"  # read by tests/attacks/report.py
WIDTH_MAX = 110  # columns: longer lines are not read
MET_SHOWN = 4  # different outcomes of one attack's cases, for a person; --json has all of them

Row = dict[str, Any]


@click.command(cls=DuxCommand)
@click.option("--layer", help="Only the attacks on one layer, such as TLS or 'flow control'.")
@pass_session
def attacks(session: Session, *, layer: str | None) -> None:
    """Attack nodes on this machine in every way the tests know, and print what each attack met.

    \b
    duxnet attacks                 three minutes; exit code 1 when one got through
    duxnet attacks --layer gossip  a part of them

    What is tried and why stands in docs/attacks.md and docs/threat-model.md.
    """
    tests, layers = CHECKOUT / "tests", layers_in(CHECKOUT / "tests")
    if layer is not None and layer not in layers:
        raise click.ClickException(f"no layer {layer!r}; there are {', '.join(layers)}")
    wanted = [one for one in attacks_in(tests, CHECKOUT) if layer in (None, one.layer)]
    session.out.step(f"running {counted(len(wanted), 'attack')}")
    code, rows, said = run_attacks(wanted)
    if not rows:
        raise click.ClickException(f"no attack ran\n{said}")
    if session.out.for_person:
        session.out.text("\n".join(told(rows, layers, min(shutil.get_terminal_size().columns, WIDTH_MAX))))
    else:
        shown = [(row["layer"], _name(row), row["tries"], row["met"] or row["meets"], row["outcome"]) for row in rows]
        session.out.table({"attacks": rows}, ("layer", "attack", "tried", "met", ""), shown)
    if code:
        click.echo(said, err=True)
        raise SystemExit(EXIT_FAILED)


def run_attacks(wanted: list[Attack]) -> tuple[int, list[Row], str]:
    """Pytest's exit code, a row per case of an attack, and its last words."""
    with tempfile.TemporaryDirectory(prefix="duxnet-") as folder:
        report = Path(folder) / "attacks.json"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "attack", "-p", "tests.attacks.report"]
        command += sorted(one.test for one in wanted)
        done = subprocess.run(
            command, cwd=CHECKOUT, env=os.environ | {REPORT: str(report)}, capture_output=True, text=True, check=False
        )
        rows = json.loads(report.read_text()) if report.exists() else []
    return done.returncode, rows, (done.stdout + done.stderr)[-4000:]


def told(rows: list[Row], layers: list[str], width: int) -> Iterator[str]:
    """For a person: layer by layer, each attack once with all its cases, what got through by the name of its test."""
    for layer in layers:
        here = [row for row in rows if row["layer"] == layer]
        if here:
            yield f"{layer}: {_summary(here)}"
            for test in dict.fromkeys(_test(row) for row in here):
                yield from _attack([row for row in here if _test(row) == test], width)
            yield ""
    yield f"{_summary(rows)} on {counted(len({row['layer'] for row in rows}), 'layer')}"


def _attack(cases: list[Row], width: int) -> Iterator[str]:
    outcomes = {str(case["outcome"]) for case in cases}
    sign = "✗" if "failed" in outcomes else "✓" if "passed" in outcomes else "-"
    times = f" ({len(cases)} cases)" if len(cases) > 1 else ""
    yield from textwrap.wrap(f"{sign} {cases[0]['tries']}{times}", width, initial_indent="  ", subsequent_indent="    ")
    for outcome in _met(cases):
        yield from textwrap.wrap(outcome, width, initial_indent="      ", subsequent_indent="      ")


def _met(cases: list[Row]) -> list[str]:
    """What was measured, else what was to be met; of what did not hold, which test says so."""
    failed = [f"GOT THROUGH: {case['test']}" for case in cases if case["outcome"] == "failed"]
    if all(case["outcome"] == "skipped" for case in cases):
        return ["skipped: this machine lacks what it needs (`duxnet test` says what)"]
    measured = list(dict.fromkeys(str(case["met"]) for case in cases if case["met"]))
    if len(measured) > MET_SHOWN:
        measured = [*measured[:MET_SHOWN], f"… and {len(measured) - MET_SHOWN} more outcomes"]
    return failed or measured or [str(cases[0]["meets"])]


def _summary(rows: Iterable[Row]) -> str:
    """`15 attacks, all held`, in cases; what was skipped and what got through is counted aloud."""
    outcomes = [str(row["outcome"]) for row in rows]
    parts = [f"{outcomes.count(outcome)} {word}" for outcome, word in WORDS.items() if outcome in outcomes]
    return f"{counted(len(outcomes), 'attack')}, {'all held' if set(outcomes) == {'passed'} else ', '.join(parts)}"


WORDS = {"passed": "held", "skipped": "skipped", "failed": "GOT THROUGH"}


def _test(row: Row) -> str:
    return str(row["test"]).partition("[")[0]


def _name(row: Row) -> str:
    return str(row["test"]).rpartition("::")[2].removeprefix("test_")
