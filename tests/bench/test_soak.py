"""The soak, short: real nodes leak nothing, and what leaks is seen. The laws are also asked one by one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.soak import Rest, Soak, broken_laws

REST = Rest(nodes=20, sessions=200, tasks=1200, sockets=230, handles=300, rss_mib=400.0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, ""),
        ({"rss_mib": 419.0}, ""),
        ({"rss_mib": 421.0}, "memory"),
        ({"tasks": 1350}, ""),
        ({"tasks": 1500}, "tasks"),
        ({"tasks": 1500, "sessions": 260, "sockets": 290, "handles": 360}, ""),
        ({"sockets": 250, "handles": 320}, "sockets"),
        ({"handles": 320}, "files"),
    ],
)
def test_what_grew_is_named_and_what_sessions_explain_is_not(changes: dict[str, float], word: str) -> None:
    """More sessions may have more tasks and sockets; nothing else may."""
    found = broken_laws(REST, msgspec.structs.replace(REST, **changes), 0.05)
    assert [word in one for one in found] == [True] * bool(word)


@pytest.mark.constellation
@pytest.mark.timeout(120)
async def test_real_nodes_under_churn_and_traffic_leak_nothing(tmp_path: Path) -> None:
    """In half a minute memory is still settling, so a quarter more is allowed; the long run allows a twentieth."""
    told = await Soak(tmp_path, nodes=6, minutes=0.35, growth_max=0.25).run()
    assert told.broken == []
    assert {kind: told.done.get(kind, 0) >= 5 for kind in ("put", "get", "call", "gossip")} == dict.fromkeys(
        ("put", "get", "call", "gossip"), True
    )
    assert told.done["restart"] >= 1


@pytest.mark.constellation
@pytest.mark.timeout(120)
async def test_a_leak_is_seen(tmp_path: Path) -> None:
    """Every lookup leaves a task and a socket behind."""
    told = await Soak(tmp_path, nodes=6, minutes=0.35, growth_max=0.25, program="tests.bench.leaky_host").run()
    assert any("tasks" in one for one in told.broken), told
    assert any("sockets" in one for one in told.broken), told
