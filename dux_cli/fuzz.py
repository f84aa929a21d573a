"""`duxnet fuzz`: coverage-guided fuzzing (atheris) of every parser of outside bytes, from a kept corpus."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session

CHECKOUT = Path(__file__).resolve().parents[1]
FUZZ = CHECKOUT / "tests" / "fuzz"
INPUT_BYTES_MAX = 8192
KEPT_FILES_MAX = 24  # of one target
KEPT_BYTES_MAX = 1024  # of one file of the corpus: it is read by people and at every run of the tests


def target_names() -> list[str]:
    """The parsers, in the order in which the combined run numbers them."""
    return sorted(path.name for path in (FUZZ / "corpus").iterdir())


@click.command(cls=DuxCommand)
@click.argument("target", default="all")
@click.option("--seconds", default=30, show_default=True, help="How long to try.")
@click.option("--keep", is_flag=True, help="Take what reached new code into the corpus (a single target).")
@pass_session
def fuzz(session: Session, *, target: str, seconds: int, keep: bool) -> None:
    """Feed parsers of outside bytes with inputs that reach ever new code; exit code 1 when one is met wrongly.

    \b
    duxnet fuzz                        all parsers in one run of half a minute
    duxnet fuzz introduction --seconds 600
    duxnet fuzz mux --keep             and remember what reached new code

    A finding is written to tests/fuzz/findings/TARGET/, where it is a test from then on. See tests/fuzz/targets.py.
    """
    if find_spec("atheris") is None:
        raise click.ClickException("atheris is missing: start this by ./duxnet fuzz, or pip install -e '.[dev,fuzz]'")
    if target != "all" and target not in target_names():
        raise click.ClickException(f"no target {target!r}; there are all, {', '.join(target_names())}")
    with tempfile.TemporaryDirectory(prefix="duxnet-") as name:
        work = Path(name)
        for found in ("corpus", "artifacts"):
            (work / found).mkdir()
        code, said = _run(target, work, seconds)
        findings = _take_findings(target, work / "artifacts")
        kept = _keep(target, work / "corpus") if keep and target != "all" and not code else 0
    summary = next((line for line in reversed(said.splitlines()) if line.startswith("Done")), said[-2000:])
    facts = [("target", target), ("run", summary), ("findings", " ".join(findings)), ("kept", str(kept or ""))]
    session.out.record({"target": target, "run": summary, "findings": findings, "kept": kept}, facts)
    if code or findings:
        click.echo(said[-4000:], err=True)
        raise SystemExit(EXIT_FAILED)


def _run(target: str, work: Path, seconds: int) -> tuple[int, str]:
    """One libFuzzer run from a copy of the corpus."""
    names = target_names() if target == "all" else [target]
    for name in names:
        for file in (FUZZ / "corpus" / name).iterdir():
            head = bytes([target_names().index(name)]) if target == "all" else b""
            (work / "corpus" / f"{name}-{file.name}").write_bytes(head + file.read_bytes())
    command = [sys.executable, "-m", "tests.fuzz.run", target, str(work / "corpus"), f"-max_total_time={seconds}"]
    command += [f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={work / 'artifacts'}/", "-timeout=10", "-verbosity=1"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, errors="replace", check=False)
    return done.returncode, done.stdout + done.stderr


def _take_findings(target: str, artifacts: Path) -> list[str]:
    """Move findings to where the tests replay them."""
    found = []
    for file in sorted(artifacts.iterdir()):
        data, name = file.read_bytes(), target
        if target == "all":
            name, data = target_names()[data[0] % len(target_names())], data[1:]
        folder = FUZZ / "findings" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(data)
        found.append(str((folder / file.name).relative_to(CHECKOUT)))
    return found


def _keep(target: str, grown: Path) -> int:
    """Take the shortest of what reached new code into the kept corpus, up to its number."""
    folder = FUZZ / "corpus" / target
    known = {file.read_bytes() for file in folder.iterdir()}
    new = sorted({file.read_bytes() for file in grown.iterdir()} - known, key=lambda data: (len(data), data))
    chosen = [data for data in new if 0 < len(data) <= KEPT_BYTES_MAX][: max(0, KEPT_FILES_MAX - len(known))]
    for data in chosen:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return len(chosen)
