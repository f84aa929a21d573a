"""Honest nodes as the product's table moves them: a lot, what waits for its phase, and every step remembered.

Pure. A node and what happened to it give the same node and orders each time, so each is worked out once: that is what
makes millions of states affordable. Equal nodes are one object.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from dux_escrowd.beside import addressed
from dux_escrowd.facts import AwardSaid, CancelAsked, CancelSaid, Clock, Fact
from dux_escrowd.model import Coin, Lot, State
from dux_escrowd.observe import OnChain, next_fact
from dux_escrowd.orders import OpenStray, Order
from dux_escrowd.table import Index, fitting


class Node(msgspec.Struct, frozen=True):
    """One honest node's memory of the contract."""

    lot: Lot
    waiting: tuple[Fact, ...] = ()
    strays: tuple[Lot, ...] = ()

    def lot_of(self, order: Order) -> Lot:
        """The lot that an order is for: the stray it names, or the lot itself."""
        return addressed([self.lot, *self.strays], _outpoint_of(order))


def _outpoint_of(said: Any) -> str:
    """The coin that an order or a fact names; "" for none."""
    return str(getattr(getattr(said, "key", said), "outpoint", ""))


Taken = tuple[int, Fact]  # the number of the lot, and what it took
Outcome = tuple[Node, tuple[Order, ...], tuple[Taken, ...]]


class Minds:
    """The table, with every step remembered: of a node, wherever and among whomever it stands."""

    def __init__(self, table: Index) -> None:
        self.table = table
        self._nodes: dict[Node, Node] = {}
        self._learnt: dict[tuple[int, Fact], Outcome | None] = {}
        self._heard: dict[tuple[int, Fact], Outcome] = {}
        self._looked: dict[tuple[int, tuple[OnChain, ...], int], Outcome] = {}

    @property
    def steps(self) -> int:
        """How many are remembered."""
        return len(self._learnt) + len(self._heard) + len(self._looked)

    def node(self, node: Node) -> Node:
        """The one object that stands for all equal nodes."""
        return self._nodes.setdefault(node, node)

    def learn(self, node: Node, fact: Fact) -> Outcome | None:
        """The node takes the fact, and what had waited; None if it does not fit."""
        key = (id(node), fact)
        if key not in self._learnt:
            self._learnt[key] = self._learn(node, fact)
        return self._learnt[key]

    def _learn(self, node: Node, fact: Fact) -> Outcome | None:
        taken = self._take(node.lot, fact)
        if taken is None:
            return None
        lot, orders = taken
        waiting, facts = list(node.waiting), [fact]
        while (found := next((one for one in waiting if self._take(lot, one) is not None), None)) is not None:
            lot, more = self._take(lot, found) or (lot, ())
            orders += more
            waiting.remove(found)
            facts.append(found)
        return self.node(Node(lot, tuple(waiting), node.strays)), orders, tuple((0, one) for one in facts)

    def learn_stray(self, node: Node, number: int, fact: Fact) -> Outcome | None:
        """A stray takes the fact; None if it does not fit."""
        stray = next((one for one in node.strays if one.number == number), None)
        taken = self._take(stray, fact) if stray is not None else None
        if taken is None:
            return None
        strays = tuple(taken[0] if one.number == number else one for one in node.strays)
        return self.node(replace(node, strays=strays)), taken[1], ((number, fact),)

    def open_stray(self, node: Node, order: OpenStray) -> Node:
        """Another output on the script gets a record of its own, as the book gives it."""
        if order.outpoint in (node.lot.outpoint, *(stray.outpoint for stray in node.strays)):
            return node
        lot, coin = node.lot, Coin(order.outpoint, order.value_florins, order.height)
        stray = Lot(
            contract_id=lot.contract_id, number=len(node.strays) + 1, me=lot.me, role=lot.role, deal=lot.deal,
            panel=lot.panel, state=State.FUNDED_SEEN, coin=coin,
        )  # fmt: skip
        return self.node(replace(node, strays=(*node.strays, stray)))

    def _take(self, lot: Lot, fact: Fact) -> tuple[Lot, tuple[Order, ...]] | None:
        row = fitting(self.table, lot, fact)
        return row.take(lot, fact) if row is not None else None

    def hear(self, node: Node, fact: Fact) -> Outcome:
        """A statement arrives: taken now or when its phase comes."""
        key = (id(node), fact)
        if key not in self._heard:
            number = self._number_of(node, fact)
            taken = self.learn_stray(node, number, fact) if number else self.learn(node, fact)
            waits = (*node.waiting, fact) if fact not in node.waiting else node.waiting
            self._heard[key] = taken or (self.node(replace(node, waiting=waits)), (), ())
        return self._heard[key]

    @staticmethod
    def _number_of(node: Node, fact: Fact) -> int:
        words = isinstance(fact, CancelAsked | CancelSaid | AwardSaid)
        return addressed([node.lot, *node.strays], _outpoint_of(fact)).number if words else 0

    def look(self, node: Node, outputs: tuple[OnChain, ...], height: int) -> Outcome:
        """What is on the chain becomes facts, then the clock; orders are done after all of them, as by the outbox."""
        key = (id(node), outputs, height)
        if key not in self._looked:
            self._looked[key] = self._look(node, outputs, height)
        return self._looked[key]

    def _look(self, node: Node, outputs: tuple[OnChain, ...], height: int) -> Outcome:
        passed: set[tuple[int, Fact]] = set()
        so_far: Outcome = (node, (), ())
        while (found := next_fact([so_far[0].lot, *so_far[0].strays], outputs, height, passed)) is not None:
            passed.add(found)
            so_far = self._then(so_far, *found)
        for number in range(len(so_far[0].strays) + 1):
            so_far = self._then(so_far, number, Clock(at=height))
        return self._of_strays(so_far)

    def _of_strays(self, so_far: Outcome) -> Outcome:
        """Words about strays that had waited until their coin was there, and deep."""
        for fact in so_far[0].waiting:
            node, number = so_far[0], self._number_of(so_far[0], fact)
            taken = self.learn_stray(node, number, fact) if number else None
            if taken is not None:
                rest = tuple(one for one in taken[0].waiting if one != fact)
                so_far = self.node(replace(taken[0], waiting=rest)), so_far[1] + taken[1], so_far[2] + taken[2]
        return so_far

    def _then(self, so_far: Outcome, number: int, fact: Fact) -> Outcome:
        node, orders, facts = so_far
        outcome = self.learn(node, fact) if number == 0 else self.learn_stray(node, number, fact)
        if outcome is None:
            return so_far
        after = outcome[0]
        for order in outcome[1]:
            after = self.open_stray(after, order) if isinstance(order, OpenStray) else after
        return after, orders + outcome[1], facts + outcome[2]
