"""Bugs that are planted in p2pd are found by the overlay's histories: a law that cannot break would be no law."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dux_p2pd.gossip import GossipNet
from dux_p2pd.peers import PeerBook
from dux_p2pd.shelf import RecordShelf
from dux_p2pd.tasks import Tasks
from dux_sim.orders import Order, perform
from dux_sim.world.faults import FaultKind
from dux_sim.world.world import quiet_memory

pytestmark = pytest.mark.patient


def laws_broken(kinds: tuple[FaultKind, ...] = ()) -> str:
    """The names of the laws that a short history breaks."""
    with quiet_memory():
        told = perform(Order(kind="overlay", seed=3, faults=kinds, nodes=10, hours=0.05))
    return ", ".join(sorted({one["law"] for one in told.violations}))


def nothing(*_: Any) -> list[Any]:
    """Has nothing, whoever asks."""
    return []


async def stay_silent(*_: Any, **__: Any) -> tuple[bytes, int]:
    """Publishes nothing."""
    return b"", 0


async def unreachable(book: PeerBook, did: str, *_: Any) -> Any:
    """Knows only who is connected already, and waits for everybody else for ever."""
    session = book.session_with(did)  # type: ignore[arg-type]
    while session is None:
        await asyncio.sleep(1)
        session = book.session_with(did)  # type: ignore[arg-type]
    return session


def doubled(real: Callable[..., Any]) -> Callable[..., Any]:
    """Every piece of work leaves ten tasks that never end beside it."""

    def spawn(tasks: Tasks, work: Any, name: str) -> Any:
        if name != "left behind":
            for _ in range(10):
                real(tasks, asyncio.Event().wait(), "left behind")
        return real(tasks, work, name)

    return spawn


def test_nothing_is_broken_without_a_bug() -> None:
    """The same history as below."""
    assert laws_broken() == ""


def test_records_that_nobody_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by who looks them up."""
    monkeypatch.setattr(RecordShelf, "at", nothing)
    assert "1 answered: lookup" in laws_broken()


def test_gossip_that_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by who should have heard it."""
    monkeypatch.setattr(GossipNet, "publish", stay_silent)
    assert "2 heard" in laws_broken()


def test_tasks_that_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by counting."""
    monkeypatch.setattr(Tasks, "spawn", doubled(Tasks.spawn))
    assert "3 no dead task" in laws_broken()


def test_dead_peers_that_are_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup that waits for a node without power is not answered in time."""
    monkeypatch.setattr(PeerBook, "session_to", unreachable)
    assert "1 answered" in laws_broken(("churn",))
