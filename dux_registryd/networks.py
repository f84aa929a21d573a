"""Which network each node is in, as others saw it, for draws that take one of a neighbourhood. Never a node's own word.

Two sources, in this order: what drawn challengers signed about it in the slots of the last two hours whose sightings
have had time to arrive (everybody has nearly the same of them); else what this node's own connection to it shows, now
or lately (so that a young network has challengers at all). Of whom neither tells, nobody knows: see draw_rules.

Limit: until a node's first slot is two slots old, views of it differ between those who are connected to it and others.
"""

from __future__ import annotations

from common.errors import Unavailable
from common.nets import UNSEEN, net_of
from common.units import Did
from dux_registryd.draw_rules import commonest, neighbourhoods
from dux_registryd.effects import Outside
from dux_registryd.presence_rules import GRACE_SLOTS
from dux_registryd.store import Book
from dux_registryd.store_presence import OTHERS_SLOTS

KEPT = 20_000  # networks seen by this node itself, as many as nodes are kept


class Networks:
    """The networks of this node's view."""

    def __init__(self, book: Book, outside: Outside) -> None:
        self._book = book
        self._outside = outside
        self._here: dict[Did, str] = {}
        self._told: tuple[int, dict[Did, str]] = (-1, {})  # the newest slot asked about, and what others said by then
        self.news = 0  # nodes first seen here of whom others had said nothing: lists made before are made anew

    async def look_round(self) -> None:
        """See who is at the other end of this node's connections; of itself it knows where it is told to be.

        While p2pd is away nothing new is seen.
        """
        try:
            ends, own = await self._outside.ends(), await self._outside.own_did()
            ends[own] = (await self._outside.endpoint())[0]
        except Unavailable:
            return
        for did, address in ends.items():
            self._saw(did, net_of(address))

    def _saw(self, did: Did, net: str) -> None:
        if net == UNSEEN:
            return  # a relay between now does not unsay what was seen
        if did not in self._here:
            self.news += did not in self._told[1]
            if len(self._here) >= KEPT:
                self._here.clear()
        self._here[did] = net

    def seen_here(self, did: Did) -> str:
        """Where this node itself has seen another; empty: nowhere."""
        return self._here.get(did, UNSEEN)

    def at(self, slot: int) -> dict[Did, str]:
        """The neighbourhood of every node of which one is known, as draws of a slot take it."""
        last = slot - GRACE_SLOTS
        seen = self._book.nets_seen(last - OTHERS_SLOTS, last)
        told = {did: commonest(nets) for did, nets in seen.items()}
        if slot >= self._told[0]:
            self._told = slot, told
        return neighbourhoods(self._here | told)
