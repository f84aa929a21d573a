"""`duxnet sim`: one seed is one history wherever it runs, and a failure can be looked into."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.patient, pytest.mark.histories, pytest.mark.timeout(2400)]

ROOT = Path(__file__).resolve().parents[2]
NETWORK = ("--nodes", "5", "--hours", "0.4", "--faults", "all")


def sim(*words: str, hash_seed: str = "0", code: int = 0) -> Any:
    """The command's answer."""
    done = subprocess.run(
        [sys.executable, "-m", "dux_cli", "sim", *words],
        env=os.environ | {"PYTHONHASHSEED": hash_seed}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


@pytest.mark.parametrize("what", [NETWORK, ("--money", "3"), ("--fund", "1")], ids=["network", "money", "fund"])
def test_a_seed_is_one_history_under_every_hash_seed(what: tuple[str, ...]) -> None:
    first, again = (sim(*what, "--seed", "5", "--json", hash_seed=one) for one in ("1", "2"))
    other = sim(*what, "--seed", "6", "--json", hash_seed="1")
    assert first["history_hash"] == again["history_hash"] != other["history_hash"]
    told = [{k: v for k, v in one.items() if "seconds" not in k} for one in (first, again)]
    assert told[0] == told[1]
    assert first["violations"] == []
    assert min(first[name] for name in ("messages", "commits", "blocks", "histories")) >= 1


def test_many_histories_give_the_same_sum_on_one_process_and_on_two() -> None:
    one, two = (sim("--money", "6", "--jobs", jobs, "--json") for jobs in ("1", "2"))
    assert one["history_hash"] == two["history_hash"]
    assert one["exits"] == two["exits"]


def test_an_unknown_fault_names_the_known_ones() -> None:
    error = sim("--faults", "rain", "--json", code=3)["error"]
    assert error["key"] == "unknown-fault"
    assert "partition" in error["message"]


def test_a_trace_is_the_same_history_and_until_stops_in_front_of_an_event() -> None:
    whole = sim("--money", "1", "--seed", "3", "--trace").splitlines()
    assert any(" block " in line for line in whole)
    stopped = sim("--money", "1", "--seed", "3", "--until", "200").splitlines()
    assert int(stopped[-1].split()[0]) <= 200
    assert stopped[-1] in whole
