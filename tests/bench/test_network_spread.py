"""Gossip at its goal's size, simulated: in small it is measured whole, and the rows say what is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.measure import Run
from bench.network_spread import NODES, PER_S, SECONDS, duplicity_findings, measure_spread, spread_findings
from dux_p2pd.directory import Known
from dux_p2pd.renewal import Renewal
from dux_sim.overlay import duplicity
from dux_sim.overlay.duplicity import Refused
from dux_sim.overlay.links import CITIES_S
from dux_sim.overlay.spread import ONE_MACHINE_S, Spread, Wanted


async def test_all_is_heard_over_short_links_and_over_long_ones(tmp_path: Path) -> None:
    """Everything arrives; over links of 10 to 90 ms later than on one machine, and no sooner than the shortest link."""
    found = await measure_spread(Run(tmp_path, quick=True, tell=lambda _text: None))
    rows = [one.row() for one in found]
    near_share, near_ms, far_share, far_ms = (row.value or 0.0 for row in rows[:4])
    assert (near_share, far_share) == (100, 100)
    assert 0 < near_ms < far_ms
    assert far_ms > 1000 * CITIES_S[0]
    assert [row.goal for row in rows] == ["value >= 100", None] * 2 + [None, "value >= 100"] * 2
    held_ms, held_share, faulty_ms, faulty_share = (row.value or 0.0 for row in rows[4:])
    assert (held_share, faulty_share) == (100, 100)
    assert min(held_ms, faulty_ms) > 1000 * CITIES_S[0]
    assert max(held_ms, faulty_ms) < 1000
    assert "0 ask" in found[5].note
    assert "1 ask" in found[7].note  # the one of twenty that was away


def test_who_was_told_nothing_and_finds_nothing_is_seen() -> None:
    """A node that is told no proof and, asking, finds the name sound or unsure does not hold it."""
    told = Refused(
        honest=10, knew=9, told=8, p50_s=0.1, p95_s=0.2, last_s=0.3, were_there=9, were_there_told=8, asked=2,
        asked_refuse=1, asked_unsure=1,
    )  # fmt: skip
    late, held = (one.row() for one in duplicity_findings(told, duplicity.Wanted(11, faults=True), "faults"))
    assert (late.value, late.met) == (200, None)
    assert (held.value, held.met) == (90, False)


def test_news_that_nobody_passes_on_reaches_only_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: who holds a proof tells nobody. The figure shows it, and that asking finds the proof."""
    tell_change = Renewal._tell_change

    def silent(self: Renewal, known: Known, held: Known | None) -> None:
        if known.log.sound:
            tell_change(self, known, held)

    monkeypatch.setattr(Renewal, "_tell_change", silent)
    told = duplicity.duplicity(duplicity.Wanted(20, faults=False))
    assert (told.told, told.asked) == (1, told.honest - 1)
    assert told.asked_refuse > 0


def test_the_goal_is_about_three_hundred_nodes_on_one_machine() -> None:
    """250 ms are enough there, 251 are not; what one node missed is seen; links between cities have no goal."""
    whole = Wanted(NODES, PER_S, SECONDS, ONE_MACHINE_S)
    told = Spread(said=1, delivered=1.0, p50_s=0.1, p95_s=0.25, last_p50_s=0.2)
    assert [one.row().met for one in spread_findings(told, whole, "near")] == [True, True]
    late = Spread(said=1, delivered=0.999, p50_s=0.1, p95_s=0.251, last_p50_s=0.2)
    assert [one.row().met for one in spread_findings(late, whole, "near")] == [False, False]
    assert spread_findings(late, Wanted(NODES, PER_S, SECONDS), "far")[1].row().met is None
