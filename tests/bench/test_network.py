"""The network's benchmark: its own rows without peers, and the control protocol spoken to hivemind's daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench import network
from bench.areas import AREAS
from bench.measure import Run
from bench.network import BY_SIZE, LONG, PARTS, measure
from bench.network_calls import measure_calls
from bench.network_dht import Gets
from bench.network_memory import measure_memory
from bench.peers.go_p2pd import Calls, field, framed, parsed, read_message, request, varint
from bench.rows import NO_VERDICT, Finding, Goal, one


@pytest.mark.parametrize(("number", "encoded"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")])
def test_numbers_are_as_protobuf_writes_them(number: int, encoded: bytes) -> None:
    assert varint(number) == encoded


async def test_a_message_comes_back_from_its_bytes() -> None:
    """Behind its length, fields by number, repeated ones in order."""
    inner = field(1, b"peer") + field(2, b"a") + field(2, b"b" * 200)
    reader = asyncio.StreamReader()
    reader.feed_data(request(1, field(2, inner)) + framed(field(1, b"next")))
    first, second = parsed(await read_message(reader)), parsed(await read_message(reader))
    assert first[1] == [b"\x01"]
    assert parsed(first[2][0]) == {1: [b"peer"], 2: [b"a", b"b" * 200]}
    assert second == {1: [b"next"]}


def test_the_parts_of_the_network_can_be_asked_for_by_name() -> None:
    """What the command line offers is what there is; naming none measures all."""
    assert [*PARTS, *LONG] == list(AREAS["network"].parts)
    assert [name for name in PARTS if Run(Path(), quick=True, tell=print, only=("dht",)).wants(name)] == ["dht"]
    assert all(Run(Path(), quick=True, tell=print).wants(name) for name in PARTS)


async def test_calls_are_cut_from_any_pieces_of_the_control_socket() -> None:
    """A byte at a time, or two at once: the first says that the connection is up, the others go to their calls."""
    calls = Calls()
    told = framed(field(1, 0)) + framed(field(1, b"c" * 200) + field(2, b"x"))
    calls._waiting[b"c" * 200] = asyncio.get_running_loop().create_future()
    for byte in told:
        calls.data_received(bytes([byte]))
    assert calls.up.result() == {1: [b"\0"]}
    calls._waiting[b"d"] = first = asyncio.get_running_loop().create_future()
    calls._waiting[b"e"] = second = asyncio.get_running_loop().create_future()
    calls.data_received(framed(field(1, b"d")) + framed(field(1, b"e")))
    assert (first.result(), second.result()) == ({1: [b"d"]}, {1: [b"e"]})


@pytest.mark.parametrize("quick", [True, False])
async def test_a_short_run_is_not_judged_by_the_goals_of_the_full_one(
    monkeypatch: pytest.MonkeyPatch, *, quick: bool
) -> None:
    """A dozen nodes at 86 KiB a side say nothing of a goal about 120; a full run at 86 KiB has missed it."""

    async def part(_run: Run) -> list[Finding]:
        return [Finding(name="a figure", unit="KiB", ours=one(86), goal=Goal("value", "<=", 60), note="of some")]

    monkeypatch.setattr(network, "PARTS", dict.fromkeys(PARTS, part))
    found = await measure(Run(Path(), quick=quick, tell=print, only=("calls", *BY_SIZE)))
    rows = [finding.row() for finding in found]
    assert (rows[0].name, rows[0].met) == ("a figure", False)  # two nodes are two nodes in either
    if quick:
        assert [(row.name, row.value, row.goal, row.met) for row in rows[1:]] == [
            ("a figure (short)", 86, None, None)
        ] * 3
        assert {finding.note for finding in found[1:]} == {f"of some; {NO_VERDICT}"}
    else:
        assert [row.met for row in rows] == [False] * 4


def test_a_lookup_that_finds_nothing_counts_in_both_figures() -> None:
    """A hundred lookups, one lost and slow."""
    found = Gets()
    found.tries, found.hits, found.taken_ms = 100, 99, [1.0] * 99 + [4000.0]
    assert found.found == 99
    assert found.p99 == 4000.0


@pytest.mark.constellation
@pytest.mark.timeout(120)
async def test_calls_and_memory_are_measured_and_peers_that_were_not_asked_for_are_named(tmp_path: Path) -> None:
    """Quickly: no figure is judged."""
    run = Run(tmp_path, quick=True, tell=lambda _text: None)
    rows = [finding.row() for finding in [*await measure_calls(run), *await measure_memory(run)]]
    assert all(row.value and row.value > 0 for row in rows)
    assert {row.goal for row in rows} >= {"ratio <= 0.25", "ratio >= 4", "ratio >= 1", "value <= 60", "value <= 3"}
    assert [row.met for row in rows if row.goal and row.goal.startswith("ratio")] == [None] * 5
    assert all("--peers" in row.peer for row in rows if row.name.startswith("network") and row.peer)
