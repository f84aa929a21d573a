"""`duxnet sim` of the overlay: one seed is one history, every kind of fault occurs, and what is wanted is answered."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.patient, pytest.mark.histories, pytest.mark.timeout(2400)]

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--story", "overlay", "--nodes", "20", "--hours", "0.08", "--faults", "churn,partition,liars", "--json")
LEAST = {
    "partition": 1, "crash": 1, "power lost": 1, "joined": 1, "came back": 1, "liar": 1, "wrong contacts": 5,
    "stale record": 5, "forged record": 5, "record withheld": 5, "store forgotten": 5, "false capability": 5,
    "gossip swallowed": 2,
}  # fmt: skip


def sim(*words: str, hash_seed: str = "0", code: int = 0) -> Any:
    """The command's answer."""
    done = subprocess.run(
        [sys.executable, "-m", "dux_cli", "sim", *words],
        env=os.environ | {"PYTHONHASHSEED": hash_seed}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_seed_is_one_history_of_the_overlay_and_everything_that_is_wanted_is_answered() -> None:
    """Under two hash seeds, in one process and in two; the weather, the liars and the churn have all been at work."""
    first = sim(*SHORT, "--seed", "3", "--processes", "1", hash_seed="1")
    again = sim(*SHORT, "--seed", "3", "--processes", "2", hash_seed="2")
    told = [{k: v for k, v in one.items() if "seconds" not in k} for one in (first, again)]
    assert told[0] == told[1]
    assert first["violations"] == []
    assert {kind: first["faults"].get(kind, 0) >= least for kind, least in LEAST.items()} == dict.fromkeys(LEAST, True)
    for kind in ("put", "lookup", "peer call", "job offer"):
        assert first["exits"][f"{kind} answered"] >= 10
        assert first["exits"][f"{kind} failed"] == 0
    assert first["exits"]["heard"] >= 20
    other = sim("--story", "overlay", "--nodes", "8", "--hours", "0.05", "--faults", "none", "--json", "--seed", "4")
    same = sim("--story", "overlay", "--nodes", "8", "--hours", "0.05", "--faults", "none", "--json", "--seed", "5")
    assert other["violations"] == same["violations"] == []
    assert other["history_hash"] != same["history_hash"]


def test_the_story_is_chosen_by_faults_and_by_size() -> None:
    """Liars and churn are the overlay's; whole nodes are few."""
    error = sim("--story", "whole", "--nodes", "100", "--json", code=2)["error"]
    assert "at most 64 whole nodes" in error["message"]
    error = sim("--faults", "liars,reorg", "--json", code=3)["error"]
    assert "churn, partition, liars" in error["message"]
