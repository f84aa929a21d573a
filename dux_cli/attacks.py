"""`duxnet attacks`: run the attack suite and print what each attack tried and met."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session
from dux_cli.docs.attacks import attacks_in

CHECKOUT = Path(__file__).resolve().parents[1]
REPORT = "DUX_ATTACKS_REPORT"  # read by tests/attacks/report.py


@click.command(cls=DuxCommand)
@click.option("--layer", help="Only the attacks on one layer, such as TLS or 'flow control'.")
@pass_session
def attacks(session: Session, *, layer: str | None) -> None:
    """Attack nodes on this machine in every way the tests know, and print what each attack met.

    \b
    duxnet attacks                 a minute and a half; exit code 1 when one got through
    duxnet attacks --layer TLS     a part of them

    What is tried and why stands in docs/attacks.md and docs/threat-model.md.
    """
    code, rows, said = run_attacks()
    wanted = [row for row in rows if layer is None or row["layer"] == layer]
    if not wanted:
        raise click.ClickException(f"no attack on {layer!r} ran\n{said}")
    shown = [(row["layer"], _name(row), row["tries"], row["met"] or row["meets"], row["outcome"]) for row in wanted]
    session.out.table({"attacks": wanted}, ("layer", "attack", "tried", "met", ""), shown, empty="none")
    if code:
        click.echo(said, err=True)
        raise SystemExit(EXIT_FAILED)


def run_attacks() -> tuple[int, list[dict[str, Any]], str]:
    """Pytest's exit code, a row per attack, and its last words."""
    with tempfile.TemporaryDirectory(prefix="duxnet-") as folder:
        report = Path(folder) / "attacks.json"
        files = sorted({one.test.partition("::")[0] for one in attacks_in(CHECKOUT / "tests", CHECKOUT)})
        command = [sys.executable, "-m", "pytest", "-q", "-m", "attack", "-p", "tests.attacks.report", *files]
        done = subprocess.run(
            command, cwd=CHECKOUT, env=os.environ | {REPORT: str(report)}, capture_output=True, text=True, check=False
        )
        rows = json.loads(report.read_text()) if report.exists() else []
    return done.returncode, rows, (done.stdout + done.stderr)[-4000:]


def _name(row: dict[str, Any]) -> str:
    return str(row["test"]).rpartition("::")[2].removeprefix("test_")
