"""Whom of several nodes to turn to first, on virtual time: the dead cost a moment each, and everything ends in time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from common.contracts.p2p_errors import PeerUnreachable
from common.contracts.p2p_reach import P2P_REACH, Reach
from common.identity.did import did_of
from common.units import Did
from dux_p2pd.reaching import AT_ONCE, STAGGER_S, reach
from dux_sim.world.loop import VirtualLoop
from tests.p2pd.overlay_kit import network

T = TypeVar("T")
NEVER_S = 1e6
ANSWER_S = 0.1


def did(number: int) -> Did:
    """A name that parses."""
    return did_of(number.to_bytes(32, "big"))


class Book:
    """Peers that answer after so long; below zero: they cannot be reached, which shows after that long."""

    def __init__(self, after_s: dict[Did, float], *, connected: tuple[Did, ...] = (), silent: tuple[Did, ...] = ()):
        self.after_s, self.connected = after_s, connected
        self.patience = SimpleNamespace(is_silent=lambda one: one in silent)
        self.asked: list[Did] = []
        self.under_way = self.most = 0

    def is_resting(self, _did: Did) -> bool:
        """None rests."""
        return False

    def is_connected(self, one: Did) -> bool:
        """As the test says."""
        return one in self.connected

    async def call(self, one: Did, *_: Any) -> None:
        """Its answer."""
        self.asked.append(one)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(abs(self.after_s[one]))
        finally:
            self.under_way -= 1
        if self.after_s[one] < 0:
            raise PeerUnreachable(address=one, detail="away")


def played(work: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """What comes out, and how many virtual seconds it took."""
    loop = VirtualLoop()  # type: ignore[abstract]  # what it lacks is refused by the base class
    task = loop.create_task(work)
    loop.run_until(task.done)
    return task.result(), loop.time()


def run(book: Book, dids: list[Did], *, wanted: int = 1, limit_s: float = 5.0) -> tuple[list[Did], float]:
    """`reach` over these peers; nothing of it is left under way."""
    found = played(reach(book, dids, wanted=wanted, limit_s=limit_s))  # type: ignore[arg-type]
    assert book.under_way == 0
    return found


DIDS = [did(number) for number in range(1, 21)]


def test_each_dead_node_costs_a_stagger_and_not_its_whole_time() -> None:
    """Three of them stand before the one that is there."""
    book = Book(dict.fromkeys(DIDS[:3], NEVER_S) | {DIDS[3]: ANSWER_S})
    found, taken_s = run(book, DIDS[:4])
    assert found == [DIDS[3]]
    assert taken_s == pytest.approx(3 * STAGGER_S + ANSWER_S)


def test_a_refusal_lets_the_next_one_be_asked_at_once() -> None:
    """No stagger is waited for where the answer is there."""
    found, taken_s = run(Book({DIDS[0]: -0.01, DIDS[1]: ANSWER_S}), DIDS[:2])
    assert found == [DIDS[1]]
    assert taken_s == pytest.approx(0.01 + ANSWER_S)


def test_the_connected_come_first_and_the_silent_last() -> None:
    """Whatever the order in which they were named; and twice named is asked once."""
    book = Book(dict.fromkeys(DIDS[:3], NEVER_S), connected=(DIDS[2],), silent=(DIDS[0],))
    run(book, [*DIDS[:3], DIDS[1]])
    assert book.asked == [DIDS[2], DIDS[1], DIDS[0]]


def test_no_more_are_asked_once_enough_have_answered() -> None:
    """In the order of their answers."""
    book = Book({DIDS[0]: 0.4, DIDS[1]: ANSWER_S} | dict.fromkeys(DIDS[2:], ANSWER_S))
    found, _ = run(book, DIDS, wanted=2)
    assert found == [DIDS[1], DIDS[0]]
    assert len(book.asked) <= 3


def test_all_ends_in_time_and_few_are_asked_at_once() -> None:
    """A hundred that never answer."""
    many = [did(number) for number in range(1, 101)]
    book = Book(dict.fromkeys(many, NEVER_S))
    found, taken_s = run(book, many, limit_s=30.0)
    assert found == []
    assert taken_s == pytest.approx(30.0)
    assert book.most == AT_ONCE


def test_a_crowd_that_is_gone_does_not_keep_the_others_from_being_asked() -> None:
    """Behind a cut most are: the one that is there stands after nineteen of them.

    Planted bug noticed: where eight that do not answer fill all places, nobody else is asked in time.
    """
    book = Book(dict.fromkeys(DIDS[:19], NEVER_S) | {DIDS[19]: ANSWER_S})
    found, taken_s = run(book, DIDS)
    assert found == [DIDS[19]]
    assert taken_s == pytest.approx(19 * STAGGER_S + ANSWER_S)


def test_nobody_to_ask_is_no_wait() -> None:
    """And all that answer are found when there are fewer than wanted."""
    assert run(Book({}), []) == ([], 0.0)
    found, taken_s = run(Book({DIDS[0]: ANSWER_S, DIDS[1]: -ANSWER_S}), DIDS[:2], wanted=5)
    assert found == [DIDS[0]]
    assert taken_s < 1


async def test_real_nodes_are_reached_and_this_one_is_always_there() -> None:
    """Over the contract: itself, the other, and one that nobody knows."""
    async with network(2) as (one, two):
        wish = Reach(dids=[DIDS[0], two.did, one.did], wanted=3, limit_ms=10_000)
        assert (await one.as_caller("taskd").call(P2P_REACH, wish)).dids == [one.did, two.did]
        assert (await one.as_caller("taskd").call(P2P_REACH, Reach(dids=[one.did]))).dids == [one.did]
