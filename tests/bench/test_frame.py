"""The frame of the benchmarks: rows, goals, areas, the command's answers. No figure is judged, and none is timed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from bench import areas, command, money
from bench.areas import AREAS, Area
from bench.measure import Run, in_turns, per_second
from bench.paid_job import LAST_PHASE, LINE, parts, phases
from bench.rows import Finding, Goal, Row, Samples, one
from common.contracts.task import TaskLine, TaskView
from common.units import UnixMs
from dux_cli.command import EXIT_FAILED, EXIT_USAGE, run_main
from dux_cli.main import duxnet

FIELDS = ("name", "value", "unit", "goal", "met", "peer", "peer_value", "ratio")
FINDING = Finding(
    name="thing", unit="us", ours=Samples((3.0, 1.0, 2.0)), goal=Goal("ratio", "<=", 1.5), peer="other", theirs=one(2.0)
)


def test_a_row_has_the_eight_fields_that_every_benchmark_speaks() -> None:
    """Medians, their ratio, the goal as text, the verdict."""
    row = FINDING.row()
    assert row == Row(
        name="thing", value=2.0, unit="us", goal="ratio <= 1.5", met=True, peer="other", peer_value=2.0, ratio=1.0
    )
    assert tuple(msgspec.to_builtins(row)) == FIELDS


@pytest.mark.parametrize(
    ("goal", "value", "ratio", "met"),
    [
        (Goal("ratio", "<=", 1.5), 9.0, 1.5, True),
        (Goal("ratio", "<=", 1.5), 0.1, 1.51, False),
        (Goal("ratio", ">=", 0.5), 9.0, 0.5, True),
        (Goal("ratio", ">=", 0.5), 9.0, 0.49, False),
        (Goal("value", "<=", 300), 300.0, None, True),
        (Goal("value", "<=", 300), 301.0, 0.1, False),
        (Goal("ratio", "<=", 1.5), 9.0, None, None),
        (Goal("value", "<=", 300), None, None, None),
    ],
)
def test_a_goal_knows_its_figure_and_its_direction(
    goal: Goal, value: float | None, ratio: float | None, *, met: bool | None
) -> None:
    """At its bound it is met; without its figure there is no verdict."""
    assert goal.met(value, ratio) is met


def test_the_verdict_is_about_the_figure_before_it_is_rounded() -> None:
    """300.04 MiB shows as 300, and still misses 300."""
    row = Finding(name="m", unit="MiB", ours=one(300.04), goal=Goal("value", "<=", 300)).row()
    assert (row.value, row.met) == (300.0, False)


def test_what_could_not_be_measured_is_null() -> None:
    """No figure, no ratio, no verdict; the peer's field says why."""
    row = Finding(name="x", unit="ms", ours=None, goal=Goal("ratio", "<=", 1), peer="docker run: no engine").row()
    assert (row.value, row.met, row.peer_value, row.ratio) == (None, None, None, None)
    assert row.peer == "docker run: no engine"


async def test_contenders_take_turns_and_none_is_always_first() -> None:
    """Noise hits both sides: each once per round, the order turning."""
    seen: list[str] = []

    def contender(name: str) -> Callable[[], Awaitable[float]]:
        async def take() -> float:
            seen.append(name)
            return float(len(seen))

        return take

    ours, nobody, theirs = await in_turns(4, contender("a"), None, contender("b"))
    assert seen == ["a", "b", "b", "a", "b", "a", "a", "b"]
    assert nobody is None
    assert ours is not None
    assert theirs is not None
    assert (len(ours.each), len(theirs.each)) == (4, 4)


async def test_the_rate_counts_every_call_of_every_worker() -> None:
    """With no time to work in, nothing is counted."""

    async def call() -> None:
        raise AssertionError("called")

    assert await per_second(call, at_once=3, seconds=0.0) == 0.0


async def nothing(_run: Run) -> list[Finding]:
    return [FINDING]


async def failing(_run: Run) -> list[Finding]:
    raise ValueError("no such thing")


@pytest.fixture
def two_areas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two areas that measure nothing real: one always misses its goal, one breaks."""
    monkeypatch.setattr(Area, "load", lambda area: {"good": nothing, "bad": failing}.get(area.module, nothing))
    monkeypatch.setitem(AREAS, "rpc", Area("good", "", cheap=True))
    monkeypatch.setitem(AREAS, "node", Area("bad", ""))


def last_line(capsys: pytest.CaptureFixture[str]) -> object:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.mark.usefixtures("two_areas")
def test_the_last_line_of_json_is_a_list_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """One list, whatever is met, and the exit code 0."""
    assert run_main(duxnet, ["bench", "rpc", "peer", "--json"]) == 0
    rows = last_line(capsys)
    assert isinstance(rows, list)
    assert [tuple(row) for row in rows] == [FIELDS, FIELDS]


def test_a_missed_goal_ends_with_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark tells; it does not judge."""

    async def slow(_run: Run) -> list[Finding]:
        return [Finding(name="slow", unit="s", ours=one(99), goal=Goal("value", "<=", 1))]

    monkeypatch.setattr(Area, "load", lambda _: slow)
    assert run_main(duxnet, ["bench", "rpc", "--json"]) == 0
    assert last_line(capsys) == [
        {"name": "slow", "value": 99.0, "unit": "s", "goal": "value <= 1", "met": False, "peer": None,
         "peer_value": None, "ratio": None}
    ]  # fmt: skip


@pytest.mark.usefixtures("two_areas")
def test_an_area_that_breaks_stops_no_other_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Its row is empty and says why; only then the exit code is not 0."""
    with pytest.raises(SystemExit) as ended:
        run_main(duxnet, ["bench", "node", "rpc", "--json"])
    assert ended.value.code == EXIT_FAILED
    rows = last_line(capsys)
    assert isinstance(rows, list)
    assert [(row["name"], row["value"]) for row in rows] == [("thing", 2.0), ("node (not measured)", None)]
    assert "no such thing" in rows[1]["peer"]


def test_an_unknown_area_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in the command line, in the form that was asked for."""
    assert run_main(duxnet, ["bench", "speed", "--json"]) == EXIT_USAGE
    told = last_line(capsys)
    assert isinstance(told, dict)
    assert all(name in told["error"]["message"] for name in AREAS)


def test_quick_takes_the_cheap_areas_unless_some_are_named() -> None:
    """The order is the table's, whatever the order of the words."""
    assert areas.chosen((), quick=False) == list(AREAS)
    assert set(areas.chosen((), quick=True)) == {name for name, area in AREAS.items() if area.cheap}
    assert areas.chosen(("node", "rpc"), quick=True) == ["rpc", "node"]


@pytest.mark.parametrize(
    ("quick", "only", "measured"),
    [
        (False, (), {"headers", "channel", "proof"}),
        (True, (), {"headers", "channel"}),
        (True, ("proof",), {"proof"}),
        (False, ("headers",), {"headers"}),
    ],
)
async def test_a_quick_run_leaves_the_proof_out_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, quick: bool, only: tuple[str, ...], measured: set[str]
) -> None:
    """It takes over a minute on all cores, and the suite walks it elsewhere."""
    row = Finding(name="row", unit="s", ours=None, peer="nobody")

    async def channel(_run: Run) -> list[Finding]:
        return [replace(row, name="channel")]

    async def proof(_run: Run) -> Finding:
        return replace(row, name="proof")

    monkeypatch.setattr(money, "measure_channel", channel)
    monkeypatch.setattr(money, "_proof", proof)
    for name in ("_verified", "_linked", "_day"):
        monkeypatch.setattr(money, name, lambda *_args, **_more: replace(row, name="headers"))
    found = await money.measure(Run(tmp_path, quick, lambda _text: None, only=only))
    assert {one.name for one in found} == measured
    assert money.__name__ == AREAS["money"].module


@pytest.mark.parametrize("name", AREAS)
def test_every_area_can_be_loaded(name: str) -> None:
    """The table names functions that are there."""
    assert callable(AREAS[name].load())


def test_the_table_shows_goal_and_figure_side_by_side() -> None:
    """For people: the spread too, and a verdict that catches the eye."""
    cells = command.cells(FINDING, FINDING.row())
    assert cells == ["thing", "2", "us", "1 .. 3", "ratio <= 1.5", "yes", "other", "2", "1"]


def test_the_phases_of_a_paid_job_follow_each_other() -> None:
    """From mark to mark of the task's own lines; all phases together are the whole time."""
    texts = (
        "the buyer orders one call",
        "the seller's contract is signed by all",
        "the seller's contract is funded: work begins",
        "the result opens as committed, with output hash",
        "10 FLOP are paid for the result, for good",
    )
    lines = tuple(TaskLine(at_ms=UnixMs(1000 + 500 * number), text=text) for number, text in enumerate(texts))
    view = msgspec.structs.replace(_task(), created_ms=UnixMs(1000), lines=lines)
    found = phases(view)
    assert list(found.values()) == [0.5, 0.5, 0.5, 0.5]
    assert list(found)[-1] == LAST_PHASE


def _task() -> TaskView:
    from common.contracts.task import STATUS  # noqa: PLC0415 - its example is a whole view

    return STATUS.example[1]


def test_the_parts_of_a_paid_job_are_read_from_metrics() -> None:
    """Long polls are nobody's work; what answered a peer's call is not counted as the way there."""
    text = (
        'dux_p2pd_calls_seconds_total{method="p2p.peer_call"} 0.5\n'
        'dux_taskd_calls_seconds_total{method="peer.handle"} 0.2\n'
        'dux_flopd_calls_seconds_total{method="chain.events"} 25\n'
        'dux_flopd_calls_seconds_total{method="chain.tip"} 0.1\n'
        "dux_flopd_decisions_seconds_total 0.25\ndux_taskd_sandbox_seconds_total 1.5\ndux_flopd_height 7\n"
    )
    spent = {(what, method): float(value) for what, method, value in LINE.findall(text)}
    assert parts(spent) == pytest.approx(
        {"sqlite": 0.25, "sandbox": 1.5, "calls between nodes": 0.3, "calls between daemons": 0.1}
    )


def test_the_page_tells_every_area() -> None:
    """docs/bench.md has a part for each."""
    page = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
    assert all(f"## {name}" in page for name in AREAS)
