"""`duxnet call --stages`: several calls in a row, results written as they come, an early end told with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from common.contracts import escrow, escrow_cases, task, task_stages
from common.contracts.task_stages import StagesState
from common.units import FLOP
from tests.cli.fake_node import FakeNode
from tests.cli.test_commands import fresh, node, run

__all__ = ["fresh", "node", "run"]  # fixtures

VIEW = task_stages.STAGES_SHOW.example[1]


def accepted(node: FakeNode) -> Any:
    """Both stages accepted, their results in the node."""
    one, two, _ = VIEW.stages
    node.blobs |= {"ab" * 32: b"first", "cd" * 32: b"second"}
    good = msgspec.structs.replace(two, state="paid", good=True, output_blob="cd" * 32, reason="")
    return msgspec.structs.replace(VIEW, state=StagesState.ACCEPTED, reason="", stages=(one, good))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.bin"
    path.write_bytes(b"duck")
    return path


def test_stages_are_bought_followed_and_each_result_is_written(run: Any, node: FakeNode, source: Path) -> None:
    """One input, two stages: the wish says so, two files are written, the record names both."""
    node.answers["task.stages"] = accepted(node)
    told = run("call", "svc", "--input", str(source), "--stages", "2", "--max-price", "10", "--json")
    assert told.code == 0, told.err
    asked = node.asked("task.submit_stages")
    assert (asked.count, len(asked.inputs), asked.together, asked.price_limit_florins) == (2, 1, False, 10 * FLOP)
    files = [source.with_name(f"in-result-{number}.bin") for number in (1, 2)]
    assert [path.read_bytes() for path in files] == [b"first", b"second"]
    assert told.json["written"] == [str(path) for path in files]


def test_several_inputs_are_a_stage_each_and_may_be_funded_together(run: Any, node: FakeNode, source: Path) -> None:
    """Two --input: two stages; --together and --no-wait are passed on, and the way to the results is told."""
    words = ["--input", str(source), "--input", str(source), "--together", "--check", "none", "--no-wait"]
    told = run("call", "svc", *words, "--max-price", "1")
    assert told.code == 0, told.err
    asked = node.asked("task.submit_stages")
    assert (asked.count, len(asked.inputs), asked.together, asked.check) == (2, 2, True, "none")
    assert "duxnet fetch stages-1" in told.out
    for wrong in ([*words[:4], "--stages", "3"], [*words[:2], "--together"], [*words[:4], "--pay", "channel"]):
        assert run("call", "svc", *wrong, "--max-price", "1").code == 3


def test_stages_that_stopped_end_with_not_now_and_keep_what_was_paid_for(
    run: Any, node: FakeNode, source: Path
) -> None:
    """The first result is written; the reason names the stage and the way to look."""
    node.blobs["ab" * 32] = b"first"
    output = source.with_name("out.bin")
    told = run("fetch", "stages-1", "--output", str(output))
    assert told.code == 4
    assert "stage 2 ended as refunded" in told.err
    assert "duxnet task show stages-1" in told.err
    assert output.with_name("out-1.bin").read_bytes() == b"first"
    assert not output.with_name("out-2.bin").exists()


def test_stages_are_shown_listed_and_ended(run: Any, node: FakeNode) -> None:
    """`task show` tells of each stage, `task list` which stage a task is, `task cancel` ends the rest."""
    told = run("task", "show", "stages-1")
    assert told.code == 0, told.err
    for words in ("stage 1", "paid, task task-1", "stage 2", "refunded, task task-2", "not-begun", "one by one"):
        assert words in told.out
    staged = msgspec.structs.replace(task.STATUS.example[1], stages_id="stages-1", stage=2)
    node.answers["task.list"] = task.TaskList(tasks=(staged,))
    assert "2 of stages-1" in run("task", "list").out
    node.answers["task.status"] = staged
    assert "2 of stages-1" in run("task", "show", "task-1").out
    assert run("task", "cancel", "stages-1").code == 0
    assert node.asked("task.cancel_stages").stages_id == "stages-1"


def test_a_lot_of_a_series_says_which_one_it_is(run: Any, node: FakeNode) -> None:
    """`cases` and `escrow show` name the stage; a lot alone and a bond say so, too."""
    found = escrow_cases.CASES.example[1]
    second = msgspec.structs.replace(found.cases[0], stage=2, stages=3)
    node.answers["escrow.cases"] = msgspec.structs.replace(found, cases=(second,))
    assert "stage 2 of 3: look at the evidence" in run("cases").out
    view = escrow.SHOW.example[1]
    for changes, words in (
        ({"series": "5e" * 32, "stage": 1, "stages": 3}, "2 of 3, series 5e5e5e5e5e5e5e5e"),
        ({"series": "5e" * 32, "bond": True}, "the seller's bond, series"),
    ):
        node.answers["escrow.show"] = msgspec.structs.replace(view, **changes)
        assert words in run("escrow", "show", "3f" * 32).out
    node.answers["escrow.show"] = view
    assert "series" not in run("escrow", "show", "3f" * 32).out
