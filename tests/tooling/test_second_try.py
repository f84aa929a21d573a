"""What a whole run does with a test that fails once: it is told, and few may."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dux_cli.testing import CHECKOUT, SECOND_TRY
from tests.conftest import SECOND_TRIES_MAX

pytestmark = pytest.mark.patient

ONCE = """
import pathlib
import pytest

@pytest.mark.parametrize("number", range({unlucky}))
def test_luck(number):
    tried = pathlib.Path(__file__).with_name(f"tried-{{number}}")
    if not tried.exists():
        tried.touch()
        raise AssertionError("the first try met bad luck")
"""
ALWAYS = "def test_fault():\n    raise AssertionError('a fault')\n"


def run(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Pytest over one file, with the hooks of this suite and its way of a second try."""
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", *SECOND_TRY]
    # no coverage of this process tree: the outer run measures itself
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_"))}
    words = [*command, str(folder / "test_it.py")]
    return subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("unlucky", "code"), [(1, 0), (SECOND_TRIES_MAX, 0), (SECOND_TRIES_MAX + 1, 1)])
def test_a_first_failure_is_told_and_few_are_forgiven(tmp_path: Path, unlucky: int, code: int) -> None:
    """The words of each first failure are shown and counted; one more than a few is a failure of the run."""
    done = run(tmp_path, ONCE.format(unlucky=unlucky))
    assert done.returncode == code, done.stdout
    assert done.stdout.count("E           AssertionError: the first try met bad luck") == unlucky
    assert f"{unlucky} passed, {unlucky} rerun" in done.stdout


def test_a_fault_fails_both_times(tmp_path: Path) -> None:
    """What is wrong stays wrong."""
    done = run(tmp_path, ALWAYS)
    assert done.returncode == 1
    assert "1 failed, 1 rerun" in done.stdout
