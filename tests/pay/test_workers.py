"""Selling programs and their locks: who lives is never taken for dead, who was killed is seen at once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from common.randomness import SeededRandomness
from dux_pay.workers import FILES_MAX, Worker

LIVES = """
import sys
from pathlib import Path
from common.randomness import SystemRandomness
from dux_pay.workers import Worker
worker = Worker(Path(sys.argv[1]), SystemRandomness())
print(worker.name, flush=True)
sys.stdin.read()
"""


def test_a_killed_program_is_dead_and_a_living_one_is_not(tmp_path: Path) -> None:
    """Names without a file here, or that are none, say nothing."""
    own = Worker(tmp_path, SeededRandomness(1))
    with subprocess.Popen(
        [sys.executable, "-c", LIVES, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        name = (program.stdout.readline() if program.stdout else "").strip()
        assert not own.is_dead(name)
        assert not own.is_dead(own.name)
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
        assert own.is_dead(name)
    assert not any(own.is_dead(said) for said in ("", "taskd", "00" * 16, f"../{name}", f"{name}\n"))
    own.close()


def test_files_of_the_dead_are_few(tmp_path: Path) -> None:
    """The oldest dead make room; the living stay."""
    lives = Worker(tmp_path, SeededRandomness(1))
    for number in range(2, FILES_MAX + 20):
        Worker(tmp_path, SeededRandomness(number)).close()
    assert len(list(tmp_path.iterdir())) <= FILES_MAX + 1  # the oldest one lives
    assert (tmp_path / lives.name).exists()
    lives.close()
