"""Where nodes are: what drawn challengers signed goes before what this node saw, and both before anybody's own word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import ManualClock
from common.errors import NeighbourDown
from common.identity.purposes import Purpose
from common.store import Store
from common.units import Did, UnixMs
from dux_registryd import networks
from dux_registryd.draw_rules import PRIVATE
from dux_registryd.networks import Networks
from dux_registryd.presence_rules import SlotView
from dux_registryd.store import MIGRATIONS, Book
from tests.market.fakes import attest, did_number
from tests.market.makers import node

A, B, C, OWN = (did_number(number) for number in (1, 2, 3, 4))


class Ends:
    """p2pd's connections, as the test sets them."""

    def __init__(self) -> None:
        self.sessions: dict[Did, str] = {}
        self.up = True

    async def ends(self) -> dict[Did, str]:
        """Who is at the other end."""
        if not self.up:
            raise NeighbourDown(daemon="p2pd", address="here", detail="it restarts")
        return dict(self.sessions)

    async def own_did(self) -> Did:
        """This node."""
        return OWN

    async def endpoint(self) -> tuple[str, int]:
        """Where it is told to be."""
        return "9.9.9.9", 1


def made() -> tuple[Networks, Ends, Book]:
    outside: Any = Ends()
    book = Book(Store.open(None, MIGRATIONS, ManualClock()))
    return Networks(book, outside), outside, book


def seen(book: Book, did: Did, slot: int, net: str, *, up: bool = True) -> None:
    with book.store.transaction() as tx:
        book.put_slot(tx, did, SlotView(slot, 7, 4, up, net), 0)


async def test_signed_words_of_the_last_two_hours_go_before_what_this_node_sees() -> None:
    """Of slots that were up and had time to spread, what most say; else the own connection, now or lately."""
    where, outside, book = made()
    outside.sessions = {A: "8.8.4.4", B: "::ffff:1.1.1.1", C: "through did"}
    await where.look_round()
    assert where.at(20) == {A: "8.8.4.0/24", B: "1.1.1.0/24", OWN: "9.9.9.0/24"}
    assert (where.seen_here(A), where.seen_here(C), where.news) == ("8.8.4.0/24", "", 3)
    outside.sessions = {}
    await where.look_round()
    assert A in where.at(20)  # it is remembered
    for slot in (15, 16, 17):
        seen(book, A, slot, "8.8.8.0/24" if slot > 15 else "8.8.9.0/24")
    seen(book, C, 18, "5.5.5.0/24", up=False)  # too few saw it to say where
    seen(book, C, 19, "5.5.5.0/24")  # too new: not everybody has these sightings
    seen(book, B, 5, "5.5.5.0/24")  # too old
    assert where.at(20) == {A: "8.8.8.0/24", B: "1.1.1.0/24", OWN: "9.9.9.0/24"}
    assert where.at(21)[C] == "5.5.5.0/24"
    seen(book, B, 18, "10.0.0.0/24")
    assert where.at(20)[B] == PRIVATE


async def test_nothing_new_is_seen_while_p2pd_is_away_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen stays; more than is kept makes room at once."""
    where, outside, _ = made()
    outside.sessions = {A: "8.8.4.4"}
    await where.look_round()
    outside.up = False
    await where.look_round()
    assert where.seen_here(A) == "8.8.4.0/24"
    outside.up = True
    monkeypatch.setattr(networks, "KEPT", 2)
    outside.sessions = {B: "1.1.1.1"}
    await where.look_round()
    assert where.seen_here(A) == ""
    assert where.seen_here(B) == "1.1.1.0/24"


async def test_only_what_others_have_not_said_is_news() -> None:
    """Lists are made anew for a node that was in no network before, not for each new connection."""
    where, outside, book = made()
    seen(book, A, 17, "8.8.8.0/24")
    where.at(20)
    where.at(3)  # a custodian asks about an older slot: what is known now stays known
    outside.sessions = {A: "8.8.8.8"}
    await where.look_round()
    assert where.news == 1  # this node itself
    outside.sessions = {A: "8.8.8.8", B: "1.1.1.1"}
    for _ in range(3):
        await where.look_round()
    assert where.news == 2


def test_the_first_height_of_a_node_is_that_of_its_lowest_heartbeat_kept() -> None:
    """Who was never witnessed has none."""
    _, _, book = made()
    for number, heights in ((1, (70, 50, 60)), (2, (90,)), (3, ())):
        info = node(did=did_number(number))
        with book.store.transaction() as tx:
            book.put_node(tx, info, attest(number, Purpose.REGISTRATION, info))
            for height in heights:
                beat: Any = SimpleNamespace(did=info.did, height=height)
                book.put_heartbeat(
                    tx, beat, attest(number, Purpose.HEARTBEAT, info), heard_ms=UnixMs(1), witnessed=True
                )
    assert book.first_heights() == {A: 50, B: 90}
