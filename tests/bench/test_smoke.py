"""The cheap areas measured for real, once, quickly: everything starts, answers and ends. No figure is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.constellation
@pytest.mark.timeout(300)
def test_a_quick_run_measures_the_cheap_areas() -> None:
    """Every figure of our own is there but for what this machine cannot run, which is said."""
    command = [sys.executable, "-P", "-m", "dux_cli", "bench", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout.strip().splitlines()[-1])}
    measured = (
        "rpc round trip p50",
        "rpc throughput",
        "peer call p50",
        "peer calls",
        "peer bulk",
        "sandbox start wasm",
    )
    assert all(rows[name]["value"] > 0 for name in measured)
    assert all(rows[name]["peer_value"] > 0 for name in ("peer call p50", "peer calls", "peer bulk"))
    assert "load of the last" in done.stderr
