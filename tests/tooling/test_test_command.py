"""`duxnet test` on a suite of one test: its exit code, its last line, its JSON, and what a skip means."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(suite: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dux_cli", "test", *options, "-p", "no:cacheprovider", "-q", str(suite)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("body", "code"), [("assert True", 0), ("assert False", 1)])
def test_the_runners_own_words_come_last(tmp_path: Path, body: str, code: int) -> None:
    """Without --json pytest's summary is the last line; with it one object, and the exit code says the same."""
    suite = tmp_path / "test_it.py"
    suite.write_text(f"def test_it():\n    {body}\n")
    told = run(suite)
    assert told.returncode == code
    assert told.stdout.strip().splitlines()[-1].startswith(f"1 {'failed' if code else 'passed'} in ")
    as_json = run(suite, "--json")
    assert as_json.returncode == code
    assert json.loads(as_json.stdout)["passed"] is (code == 0)


def test_a_real_skip_passes_and_says_why(tmp_path: Path) -> None:
    """What this machine cannot run is skipped with its reason in pytest's words."""
    suite = tmp_path / "test_it.py"
    suite.write_text("import pytest\n\n\ndef test_it():\n    pytest.skip('no such program')\n")
    told = run(suite, "-rs")
    assert told.returncode == 0
    assert "no such program" in told.stdout
