"""Which address is dialled next, and who is remembered for how long."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import ManualClock
from common.randomness import SeededRandomness
from common.store import Store
from common.units import Did, UnixMs
from dux_p2pd import remembered
from dux_p2pd.overlay import read_bootstrap
from dux_p2pd.remembered import FORGET_MS, HALF_LIFE_MS, PER_NET_MAX, PLACES_MAX, TRIED_MAX, Remembered, worth
from dux_p2pd.settings import listen_hosts
from dux_p2pd.sources import BOOTSTRAP, HINTS_MAX, HINTS_PER_NET_MAX, REMEMBERED, Sources
from dux_p2pd.store import MIGRATIONS
from dux_p2pd.store_places import Place, PlaceTable
from tests.attacks.registry import attack

ME = Did("did:dux:me")


def did(number: int) -> Did:
    return Did(f"did:dux:{number}")


def chosen(sources: Sources, count: int) -> list[str]:
    due = [source for source in sources if source.is_due(0.0, alone=True)]
    return [source.address[0] for source in sources.choose(due, count, SeededRandomness(1))]


@attack(
    "reachability",
    tries="a swarm of hints to nowhere, to keep a node out of the network",
    meets="of each kind one in turn: the honest are reached",
)
def test_neither_a_dead_list_nor_a_swarm_of_hints_keeps_a_node_out() -> None:
    """Of each kind one in turn, the best remembered first."""
    sources = Sources("", ME)
    for number in range(30):
        sources.add(f"boot{number}:1", None, kind=BOOTSTRAP)
        sources.add(f"10.1.{number}.1:1", did(number), kind=REMEMBERED, rank=float(number))
        sources.hint(f"10.2.{number}.1:1", did(100 + number))
    first = chosen(sources, 6)
    assert [name[:4] for name in first] == ["boot", "10.1", "10.2", "boot", "10.1", "10.2"]
    assert first[1] == "10.1.29.1"
    assert first[4] == "10.1.28.1"


def test_the_own_region_is_asked_first_and_the_others_once_it_fails() -> None:
    """Regions with fail-over: a dead own region costs one round."""
    sources = Sources("eu", ME)
    for name, region in (("eu1", "eu"), ("us1", "us"), ("eu2", "eu"), ("any", "")):
        sources.add(f"{name}:1", None, kind=BOOTSTRAP, region=region)
    assert set(chosen(sources, 2)) == {"eu1", "eu2"}
    assert len(chosen(sources, 9)) == 4  # with room left the others are asked in the same round
    sources.failed(next(iter(sources)))
    found = {name for seed in range(20) for name in first_two(sources, seed)}
    assert found == {"eu1", "eu2", "us1", "any"}


def first_two(sources: Sources, seed: int) -> list[str]:
    return [source.address[0] for source in sources.choose(list(sources), 2, SeededRandomness(seed))]


@attack(
    "reachability",
    tries="hints without end, names, many of one network",
    meets="bounded per network and in all, dropped when they lead nowhere",
)
def test_hints_are_bounded_and_dropped_when_they_lead_nowhere() -> None:
    """Per net, in all, no names, nobody twice; the list and the remembered stay whatever is hinted."""
    sources = Sources("", ME)
    sources.add("boot:1", None, kind=BOOTSTRAP)
    assert [sources.hint(f"10.9.9.{n}:1", did(n)) for n in range(1, 7)] == [True] * HINTS_PER_NET_MAX + [False] * 2
    assert not sources.hint("name.example:1", did(50))
    assert not sources.hint("10.8.0.1:1", ME)
    assert not sources.hint("10.8.0.1:1", did(1))
    for number in range(200):
        sources.hint(f"10.7.{number}.1:1", did(1000 + number))
    assert sum(source.kind == "hint" for source in sources) == HINTS_MAX
    assert next(iter(sources)).address == ("boot", 1)
    last = list(sources)[-1]
    sources.failed(last)
    assert last in list(sources)
    sources.failed(last)
    assert last not in list(sources)


@pytest.mark.parametrize("better", [{"met": 9}, {"met_ms": UnixMs(2 * HALF_LIFE_MS)}, {"failed": 0}])
def test_often_lately_and_without_failures_is_better(better: dict[str, Any]) -> None:
    """Each counts."""
    plain = {"did": did(1), "address": "10.0.0.1:1", "met": 2, "failed": 1, "first_ms": 0, "met_ms": HALF_LIFE_MS}
    assert worth(Place(**(plain | better)), 3 * HALF_LIFE_MS) > worth(Place(**plain), 3 * HALF_LIFE_MS)  # type: ignore[arg-type]


def session(number: int, *, dialled: bool, host: str) -> Any:
    return SimpleNamespace(peer=SimpleNamespace(did=did(number), address=(host, 99), dialled=dialled))


def memory(clock: ManualClock, told: str = "") -> Remembered:
    store = Store.open(None, MIGRATIONS, clock)
    known = SimpleNamespace(record=SimpleNamespace(endpoints=(told,)))
    directory: Any = SimpleNamespace(get=lambda _did: known if told else None)
    return Remembered(PlaceTable(store), directory, clock=clock)


def test_what_is_kept_is_bounded_aged_and_not_of_one_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk holds at most PLACES_MAX; a start tries a few of each net; after a month without a meeting: nobody."""
    monkeypatch.setattr(remembered, "PLACES_MAX", 60)
    monkeypatch.setattr(remembered, "PLACES_LEFT", 50)
    clock = ManualClock()
    met = memory(clock)
    for number in range(100):
        met.came(session(number, dialled=True, host=f"10.0.{number // 20}.{number % 20 + 1}"))
        assert len(met._table.all()) <= 60
        clock.advance(1)
    assert len(met._table.all()) >= 50
    best = met.best()
    assert len(best) == 3 * PER_NET_MAX <= TRIED_MAX
    assert best[0][1] == did(99)  # the newest first, when nothing else differs
    met.failed(did(99))
    assert met.best()[0][1] == did(98)
    clock.advance(FORGET_MS / 1000 + 1)
    assert met.best() == []
    met.came(session(1000, dialled=True, host="10.5.5.5"))
    assert [place.did for place in met._table.all()] == [did(1000)]
    assert PLACES_MAX == 256


@attack(
    "reachability",
    tries="dials in, and a record that names another host, to be remembered there",
    meets="no memory",
)
def test_who_dialled_us_is_noted_only_where_its_own_record_says() -> None:
    """At the address it came from; a record that names another host is not a memory."""
    clock = ManualClock()
    met = memory(clock, told="[fd00::7]:9")
    met.came(session(1, dialled=False, host="10.0.0.1"))
    assert met.best() == []
    met.came(session(2, dialled=False, host="fd00::7"))
    assert [(address, name) for address, name, _ in met.best()] == [("[fd00::7]:9", did(2))]


def test_memory_survives_a_restart(tmp_path: Path) -> None:
    """It is on disk."""
    clock = ManualClock()
    store = Store.open(tmp_path / "x.sqlite", MIGRATIONS, clock)
    PlaceTable(store).met(did(1), "10.0.0.1:1", 5)
    store.close()
    assert [p.address for p in PlaceTable(Store.open(tmp_path / "x.sqlite", MIGRATIONS, clock)).all()] == ["10.0.0.1:1"]


def test_the_settings_words() -> None:
    """Bootstrap lines with a DID, a region, both or none; every address means both families."""
    assert read_bootstrap("a:1 did:dux:x eu").region == "eu"
    assert read_bootstrap("a:1 eu").did is None
    assert read_bootstrap("a:1 did:dux:x").did == "did:dux:x"
    assert read_bootstrap("[fd00::1]:1").address == "[fd00::1]:1"
    assert listen_hosts("0.0.0.0") == ["0.0.0.0", "::"]  # noqa: S104
    assert listen_hosts("127.0.0.1, ::1") == ["127.0.0.1", "::1"]
