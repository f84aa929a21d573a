"""`duxnet test` on a suite of one test: its exit code, its last line, its JSON, and what a skip means."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from coverage import CoverageData

from dux_cli import testing

pytestmark = pytest.mark.patient

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


PROJECT = """
[tool.coverage.run]
source = ["market"]
[[tool.importlinter.contracts]]
id = "pure-rules"
source_modules = ["market.rules", "market.guards", "market.unknown"]
"""


PLACES = (
    ("histories", "tests/rules", "histories"),
    ("machines", "tests/containers", "containers"),
    ("machines", "tests/systemd", "nspawn"),
    ("rest", "tests/sim", ""),
)


def small_project(folder: Path, bodies: dict[str, str]) -> None:
    """A project of four tests in three groups, each group's with such a body."""
    marks = "".join(f"  {mark}: long\n" for mark in ("histories", "containers", "nspawn"))
    (folder / "pytest.ini").write_text(f"[pytest]\nmarkers =\n{marks}")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "market").mkdir()
    for name in ("rules", "guards", "unknown", "daemon"):
        (folder / "market" / f"{name}.py").write_text("print()\n")
    for name, place, mark in PLACES:
        (folder / place).mkdir(parents=True, exist_ok=True)
        marked = f"@pytest.mark.{mark}\n" if mark else ""
        source = f"import pathlib\n\nimport pytest\n\n\n{marked}def test_it():\n    {bodies[name]}\n"
        (folder / place / f"test_{mark or 'rest'}.py").write_text(source)


@pytest.mark.parametrize("broken", ["", "histories", "machines", "rest"])
def test_what_runs_beside_the_rest_counts(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each test runs once, in one of three processes; any one's failure is the suite's; the rest has the last word."""
    small_project(tmp_path, {name: f"assert {name != broken}" for name, _, _ in PLACES})
    monkeypatch.setattr(testing, "CHECKOUT", tmp_path)
    once = {name: value for name, value in os.environ.items() if name != testing.ALL_VARIABLE}  # no second try
    code, summary = testing.run_whole_suite(once, fast=False, aside=False)
    assert (code == 0) is (not broken)
    assert summary.startswith("1 failed, 3 deselected" if broken == "rest" else "1 passed, 3 deselected")
    words = capfd.readouterr().out.partition("histories, beside the rest:")[2]
    histories, _, machines = words.partition("machines, beside the rest:")
    assert ("1 failed, 1 deselected" if broken == "histories" else "1 passed, 1 deselected") in histories
    assert ("2 failed in" if broken == "machines" else "2 passed in") in machines


def test_rules_modules_alone_are_measured_also_those_that_no_test_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the rest and beside it; what nobody imported has no line that ran, so a report that asks for all fails."""
    bodies = {"histories": "pass", "machines": "import market.guards", "rest": "import market.rules, market.daemon"}
    small_project(tmp_path, bodies)
    monkeypatch.setattr(testing, "CHECKOUT", tmp_path)
    code, _ = testing.run_whole_suite(dict(os.environ), fast=False, aside=False)
    assert code == 0
    data = CoverageData(str(tmp_path / ".coverage"))
    data.read()
    arcs = {Path(name).name: data.arcs(name) for name in data.measured_files()}
    assert set(arcs) == {"rules.py", "guards.py", "unknown.py"}
    assert arcs["rules.py"]
    assert arcs["guards.py"]
    assert not arcs["unknown.py"]


def test_second_tries_of_all_processes_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Few enough in each, too many in all: that is a fault."""
    once = "tried = pathlib.Path(__file__ + '.tried'); there = tried.exists(); tried.touch(); assert there"
    small_project(tmp_path, dict.fromkeys(("histories", "machines", "rest"), once))
    monkeypatch.setattr(testing, "CHECKOUT", tmp_path)
    code, summary = testing.run_whole_suite(os.environ | {testing.ALL_VARIABLE: "1"}, fast=False, aside=False)
    assert summary.startswith("1 passed, 3 deselected, 1 rerun")
    assert code == 1
    assert "4 tests needed a second try, more than 3" in capfd.readouterr().out


def test_no_process_looks_past_a_test_that_is_left_to_it() -> None:
    """The rest leaves out what carries the mark, wherever it is: it must lie where the other process looks."""
    for one in testing.ASIDES:
        marked = [
            path
            for path in (ROOT / "tests").rglob("test_*.py")
            if any(f"mark.{mark}" in path.read_text() for mark in one.marks.split(" or "))
        ]
        places = {path.relative_to(ROOT).parent.as_posix() for path in marked}
        assert places == set(one.folders)


def test_a_real_skip_passes_and_says_why(tmp_path: Path) -> None:
    """What this machine cannot run is skipped with its reason in pytest's words."""
    suite = tmp_path / "test_it.py"
    suite.write_text("import pytest\n\n\ndef test_it():\n    pytest.skip('no such program')\n")
    told = run(suite, "-rs")
    assert told.returncode == 0
    assert "no such program" in told.stdout
