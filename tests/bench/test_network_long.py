"""The long rows of the network: skipped aloud in a plain run, judged in full alone, read from the commands' words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bench import network
from bench.areas import chosen
from bench.measure import Run
from bench.network_long import SIM, SIM_SHORT, SOAK, SOAK_SHORT, measure_sim, measure_soak, sim_findings, soak_findings
from bench.rows import Finding
from bench.soak import Rest, Soaked

pytestmark = pytest.mark.patient

REST = Rest(nodes=20, sessions=200, tasks=1200, sockets=230, handles=300, rss_mib=400.0)
TOLD: dict[str, Any] = {
    "seconds": 600.0, "cpu_seconds": 590.0, "repeat": "./duxnet sim …", "history_hash": "ab", "violations": [],
    "exits": {
        "lookup answered": 9_999, "lookup failed": 1, "peer call answered": 998, "peer call failed": 2,
        "job offer answered": 0, "job offer failed": 0,
    },
}  # fmt: skip


def run(folder: Path, *only: str) -> Run:
    return Run(folder, quick=True, tell=lambda _text: None, only=only)


async def test_a_plain_run_says_what_it_left_out_and_by_what_command_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for other parts by name is not told of these."""
    monkeypatch.setattr(network, "PARTS", {})
    rows = [found.row() for found in await network.measure(run(tmp_path))]
    assert [(row.value, row.met) for row in rows] == [(None, None)] * 3
    assert all("(skipped)" in row.name for row in rows)
    parts = zip(rows, ("spread", "sim", "soak"), strict=True)
    assert all(f"--only {part}" in str(row.peer) for row, part in parts)
    assert await network.measure(run(tmp_path, "calls")) == []


def test_a_part_names_its_area() -> None:
    """`duxnet bench --only soak` measures the network and nothing else."""
    assert chosen((), quick=False, only=("soak",)) == ["network"]
    assert chosen(("rpc", "network"), quick=False, only=("soak",)) == ["rpc", "network"]


def met(found: list[Finding]) -> dict[str, bool | None]:
    return {one.name.partition(" (")[0]: one.row().met for one in found}


def test_the_whole_simulation_is_judged_and_a_short_one_is_not() -> None:
    """99.99 % is enough, 99.8 % is not, nothing asked is no figure; broken laws are judged always."""
    assert met(sim_findings(TOLD, SIM)) == {
        "simulated network": True, "lookups answered": True, "peer calls answered": False, "job offers answered": None,
        "laws broken in it": True,
    }  # fmt: skip
    slow = TOLD | {"seconds": 901.0, "violations": [{"law": "1 answered"}]}
    assert met(sim_findings(slow, SIM))["simulated network"] is False
    assert met(sim_findings(slow, SIM))["laws broken in it"] is False
    short = sim_findings(TOLD, SIM_SHORT)
    assert all("short" in one.name for one in short)
    assert set(met(short).values()) == {None, True}


async def test_the_simulation_is_measured_in_small(tmp_path: Path) -> None:
    """The command itself, twice: figures come out of it, and one seed is one history."""
    rows = {one.name: one.row() for one in await measure_sim(run(tmp_path, "sim"))}
    assert len(rows) == 6
    assert all(row.value is not None and row.value >= 0 for row in rows.values())
    (twins,) = [row for name, row in rows.items() if name.startswith("histories of one seed")]
    assert (twins.value, twins.met) == (1, True)


def soaked(**changes: Any) -> Soaked:
    told = {"nodes": 20, "minutes": 30.0, "warm": REST, "end": REST, "growth": 0.01, "rss_mib": [400.0],
            "done": {"put": 9}, "failed": {}, "broken": []}  # fmt: skip
    return Soaked(**(told | changes))


def test_growth_and_leaks_are_rows_of_their_own() -> None:
    """Memory beyond a twentieth, and each other kind that leaked."""
    assert list(met(soak_findings(soaked(), SOAK)).values()) == [True, True]
    grown = soaked(growth=0.06, broken=["memory grew from …"])
    assert list(met(soak_findings(grown, SOAK)).values()) == [False, True]
    assert list(met(soak_findings(soaked(broken=["99 tasks, where …"]), SOAK)).values()) == [True, False]
    assert list(met(soak_findings(grown, SOAK_SHORT)).values()) == [None, True]


async def test_the_soak_is_run_in_its_size(tmp_path: Path) -> None:
    """With the nodes and minutes that its rows name; that it sees leaks is shown in test_soak.py."""
    asked: list[tuple[int, float]] = []

    class Quick:
        def __init__(self, _folder: Path, *, nodes: int, minutes: float, tell: object) -> None:
            assert callable(tell)
            asked.append((nodes, minutes))

        async def run(self) -> Soaked:
            await asyncio.sleep(0)
            return soaked()

    found = await measure_soak(run(tmp_path, "soak"), Quick)  # type: ignore[arg-type]
    assert asked == [(SOAK_SHORT.nodes, SOAK_SHORT.minutes)]
    assert f"({SOAK_SHORT})" in found[0].name
