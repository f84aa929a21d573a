"""Who gives way in a full room of things kept for others, and that nobody is shut out of it for little."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.contracts.peer_copies import CopiesAsked, KeepCopy
from common.room_rules import who_gives_way
from common.store import Store
from common.units import Did
from dux_escrowd.channel import safekeeping
from dux_escrowd.channel.safekeeping import PER_OWNER_MAX, Safekeeping
from dux_escrowd.schema import MIGRATIONS
from tests.attacks.registry import attack

ANNA, BERT = Did("did:dux:a"), Did("did:dux:b")
NAMES = st.sampled_from(["a", "b", "c", "d", "e"])


@pytest.mark.parametrize(
    ("held", "sender", "more", "known", "giver"),
    [
        ({}, "a", 1, (), None),
        ({"a": 9}, "a", 1, (), None),  # nobody but the sender
        ({"a": 9, "b": 3}, "c", 1, (), "a"),
        ({"c": 5, "b": 5}, "a", 1, (), "b"),
        ({"b": 2, "a": 1}, "a", 1, (), None),  # both would hold as much: no pushing in turns
        ({"b": 3, "a": 1}, "a", 1, (), "b"),
        ({"b": 100, "a": 50}, "a", 50, (), None),
        ({"b": 9}, "a", 1, ("b",), None),  # a node that lives never gives way to a stranger
        ({"b": 9, "c": 2}, "a", 1, ("b",), "c"),
        ({"b": 1, "a": 9}, "a", 1, ("a",), "b"),  # strangers go before it whatever they hold
        ({"b": 9, "c": 1}, "a", 1, ("a", "b"), "c"),
        ({"b": 9, "c": 1}, "a", 1, ("a", "b", "c"), "b"),
        ({"b": 2, "a": 1}, "a", 1, ("a", "b"), None),
    ],
)
def test_who_gives_way(held: dict[str, int], sender: str, more: int, known: tuple[str, ...], giver: str | None) -> None:
    """Most before less, strangers before nodes that live, nobody to somebody who would hold as much."""
    assert who_gives_way(held, sender, more, known) == giver


@given(st.dictionaries(NAMES, st.integers(1, 9)), st.lists(NAMES, max_size=60), st.sets(NAMES))
def test_a_room_comes_to_rest(held: dict[str, int], wishes: list[str], known: set[str]) -> None:
    """Whoever asks, in whatever order: moves among equals always even out, so they end."""
    moves = 0
    for sender in wishes * 5:
        giver = who_gives_way(held, sender, 1, known)
        if giver is not None:
            assert giver != sender
            assert not (giver in known and sender not in known)
            held[giver] -= 1
            held[sender] = held.get(sender, 0) + 1
            held = {name: size for name, size in held.items() if size}
            moves += 1
    assert moves <= 9 * 5 * 5


def keeper(room: int = 4_096, living: tuple[Did, ...] = ()) -> Safekeeping:
    async def active() -> list[Did]:
        return list(living)

    store = Store.open(None, MIGRATIONS, ManualClock())
    desk = SimpleNamespace(
        settings=SimpleNamespace(copies_for_others=room), profile=SimpleNamespace(heights="main"), active=active
    )
    counter: Any = SimpleNamespace(
        ledger=SimpleNamespace(store=store, shelf=SimpleNamespace(followed=list)), desk=desk, tip=50
    )
    return Safekeeping(counter)


def put(number: int, sealed: bytes = b"x", version: int = 1) -> KeepCopy:
    return KeepCopy(tag=number.to_bytes(32, "big"), version=version, until=10**6, sealed=sealed)


async def kept(safe: Safekeeping, number: int, owner: Did, sealed: bytes = b"x") -> bool:
    return (await safe.keep(put(number, sealed), owner)).kept


async def is_held(safe: Safekeeping, number: int, asker: Did, sealed: bytes = b"x") -> bool:
    found = await safe.give(CopiesAsked(tags=(number.to_bytes(32, "big"),)), asker)
    return sealed in [one.sealed for one in found.copies]


@attack(
    "escrow",
    tries="fills a keeper's room for copies with one-byte copies of eight names",
    meets="whoever takes most gives way: the next owners have their places, and keep them",
)
async def test_eight_names_do_not_fill_a_room() -> None:
    """512 copies of each fill all 4,096 places; a ninth owner has its copies kept, and the eight get no place back."""
    safe = keeper()
    names = [Did(f"did:dux:s{n}") for n in range(8)]
    for n in range(8 * PER_OWNER_MAX):
        assert await kept(safe, n, names[n // PER_OWNER_MAX])
    for n in range(5_000, 5_020):
        assert await kept(safe, n, ANNA, b"real")
    for name in names:
        await kept(safe, 6_000, name)
    assert all([await is_held(safe, n, ANNA, b"real") for n in range(5_000, 5_020)])
    row = safe._ledger.store.row("SELECT count(*) AS n FROM kept_copies")
    assert row is not None
    assert row["n"] == 4_096


async def test_nodes_that_live_go_before_names_that_cost_nothing() -> None:
    """As many strangers as places, one copy each: a stranger more is refused, a node that lives has its place."""
    safe = keeper(room=20, living=(ANNA,))
    for n in range(20):
        assert await kept(safe, n, Did(f"did:dux:s{n}"))
    assert not await kept(safe, 100, BERT)
    assert not await kept(safe, 101, ANNA)  # before the first block nobody is known
    await safe.look(50)
    for n in range(101, 121):
        assert await kept(safe, n, ANNA)
    assert not await kept(safe, 130, BERT)
    assert await is_held(safe, 101, ANNA)


async def test_bytes_give_way_as_places_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest copies of who takes most go, none in vain; a larger copy needs its bytes."""
    monkeypatch.setattr(safekeeping, "SEALED_BYTES_MAX", 1_000)
    safe = keeper()
    for n in range(20):
        assert await kept(safe, n, BERT, bytes(50))
    assert await kept(safe, 100, ANNA, bytes(150))
    assert [await is_held(safe, n, BERT, bytes(50)) for n in range(5)] == [False, False, False, True, True]
    assert not await kept(safe, 101, ANNA, bytes(450))  # more than eight of them: nothing is dropped
    assert not await kept(safe, 101, ANNA, bytes(700))  # ANNA would take as much as BERT does
    assert await is_held(safe, 3, BERT, bytes(50))
    assert not (await safe.keep(put(100, bytes(900), version=2), ANNA)).kept
    assert await is_held(safe, 100, ANNA, bytes(150))


async def test_a_keeper_that_keeps_nothing_asks_no_registry() -> None:
    """Who lives is of no use to an empty room."""
    safe = keeper(living=(ANNA,))
    await safe.look(50)
    assert safe._room._known == frozenset()
