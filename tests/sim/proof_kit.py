"""`duxnet prove PROTOCOL --quick --json` as a person runs it, and what both proofs must say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def told_by_short_form(protocol: str) -> dict[str, Any]:
    """Its answer: no law is broken, nothing is cut off, every planted fault is found."""
    done = subprocess.run(
        [sys.executable, "-m", "dux_cli", "prove", protocol, "--quick", "--json"],
        env=os.environ, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["violations"], told["differences"], told["cut_off"]) == ([], [], [])
    assert told["mutations_found"] == told["mutations_planted"] >= 30
    return told
