"""One decision: a fact goes to the table; the lot, what it ordered, what is told and a line of the log land together.

Promise: everything that happens to a lot goes through `learn`; what came before its phase waits and is tried again
after every step, so the order in which statements arrive does not matter. Nothing here waits or speaks to anybody.

Source: style.md 2.4, escrow_protocol.md §7, §8.
"""

from __future__ import annotations

from typing import cast

import msgspec

from common.codec import Wire
from common.contracts.escrow_base import Refused, WrongPhase
from common.errors import CorruptStore
from common.store import Store, Tx
from common.units import Did
from dux_escrowd.beside import ABOUT_ONE_COIN, addressed
from dux_escrowd.facts import AnyFact, Clock, Fact
from dux_escrowd.hearing import Ear, fact_of
from dux_escrowd.model import Coin, Lot, State
from dux_escrowd.news import Reporter
from dux_escrowd.observe import STRAYS_MAX
from dux_escrowd.orders import AnyOrder, OpenStray, Order, Say, ShowCase, Tell
from dux_escrowd.records import Records
from dux_escrowd.replay import FACT_LINE, LOT_LINE, LoggedFact, LoggedLot
from dux_escrowd.rules import decide
from dux_escrowd.statements import Heard
from dux_escrowd.store import Shelf


class Errand(msgspec.Struct, frozen=True):
    """An order on its way through the outbox: for which lot, and for whom where it goes to several."""

    contract_id: str
    number: int
    order: AnyOrder
    to: str = ""


class Book:
    """Takes facts and writes decisions."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shelf = Shelf(store)
        self.records = Records(self.shelf)
        self._reporter = Reporter(self.records)

    def begin(self, tx: Tx, lot: Lot) -> None:
        """A lot exists from now on."""
        self.shelf.begin(tx, lot)
        tx.audit(LOT_LINE, LoggedLot(lot))

    def learn(self, tx: Tx, contract_id: str, fact: Fact, number: int = 0) -> Lot:
        """The lot after the fact and after all that had waited for it.

        Raises:
            WrongPhase, Refused: the fact does not fit; nothing was written.
        """
        lot = self._take(tx, contract_id, number, fact)
        while number == 0 and self._take_waiting(tx, contract_id):
            pass
        return self.shelf.lot(contract_id, number) or lot

    def hear(self, tx: Tx, contract_id: str, name: str, fact: Fact) -> None:
        """A fact that may have come before its phase: taken now or when its phase comes."""
        try:
            self.learn(tx, contract_id, fact)
        except (WrongPhase, Refused):
            self.shelf.wait(tx, contract_id, name, fact)

    def listen(self, tx: Tx, contract_id: str) -> None:
        """Try what waits: new statements were added."""
        while self._take_waiting(tx, contract_id):
            pass

    def tell(self, tx: Tx, event: Wire) -> None:
        """Tell this node's readers."""
        tx.emit(type(event).__name__, event)

    def _take(self, tx: Tx, contract_id: str, number: int, fact: Fact) -> Lot:
        lot = self.shelf.lot(contract_id, number)
        if lot is None:
            raise WrongPhase(fact=fact.words or type(fact).__name__, state="without terms yet", contract_id=contract_id)
        after, orders = decide(lot, fact)
        if after == lot and not orders and isinstance(fact, Clock):
            return lot
        position = self.shelf.position(contract_id, number)
        self.shelf.advance(tx, after, fact, position)
        tx.audit(FACT_LINE, LoggedFact(contract_id, number, cast("AnyFact", fact), after.state))
        for index, order in enumerate(orders):
            self._order(tx, after, order, f"{contract_id}/{number}/{position}/{index}")
        return after

    def _take_waiting(self, tx: Tx, contract_id: str) -> bool:
        return self._take_statement(tx, contract_id) or self._take_fact(tx, contract_id)

    def _take_statement(self, tx: Tx, contract_id: str) -> bool:
        contract = self.records.contract(contract_id)
        lots = self.shelf.lots(contract_id)
        if contract is None or not lots:
            return False
        for heard, at in self.shelf.untaken(contract_id):
            about = heard.said.outpoint if isinstance(heard.said, ABOUT_ONE_COIN) else ""
            lot = addressed(lots, about)
            ear = Ear(contract, lot, at, self.records.bond(contract_id))
            if self._fits(tx, contract_id, fact_of(heard, ear), lot.number):
                self.shelf.take_statement(tx, contract_id, heard)
                return True
        return False

    def _take_fact(self, tx: Tx, contract_id: str) -> bool:
        for name, fact in self.shelf.waiting(contract_id).items():
            if self._fits(tx, contract_id, fact):
                self.shelf.done_waiting(tx, contract_id, name)
                return True
        return False

    def _fits(self, tx: Tx, contract_id: str, fact: Fact, number: int = 0) -> bool:
        try:
            self._take(tx, contract_id, number, fact)
        except (WrongPhase, Refused):
            return False
        return True

    def _order(self, tx: Tx, lot: Lot, order: Order, effect_id: str) -> None:
        if isinstance(order, Tell):
            self.report(tx, lot, order)
        elif isinstance(order, OpenStray):
            self._open_stray(tx, lot, order)
        elif isinstance(order, ShowCase):
            for arbiter in lot.panel:
                self._send(tx, lot, order, f"{effect_id}/{arbiter}", lane=lane_to(lot.contract_id, arbiter), to=arbiter)
        else:
            lane = f"{lot.contract_id}/say" if isinstance(order, Say) else ""
            self._send(tx, lot, order, effect_id, lane=lane)

    def _send(self, tx: Tx, lot: Lot, order: Order, effect_id: str, *, lane: str, to: str = "") -> None:
        errand = Errand(lot.contract_id, lot.number, cast("AnyOrder", order), to)
        tx.outbox(effect_id, type(order).__name__, errand, lane=lane)

    def report(self, tx: Tx, lot: Lot, order: Tell) -> None:
        """Tell this node's readers what a lot's news is now."""
        row = self.shelf.contract(lot.contract_id)
        event = self._reporter.event(order.news, row, lot) if row else None
        if event is not None:
            self.tell(tx, event)

    def tell_again(self, tx: Tx, lot: Lot, tip: int) -> None:
        """Tell the readers of a seller's work that came back from a copy."""
        row = self.shelf.contract(lot.contract_id)
        if row is not None:
            self.tell(tx, self._reporter.returned(row, lot, tip))

    def _open_stray(self, tx: Tx, lot: Lot, order: OpenStray) -> None:
        known = self.shelf.lots(lot.contract_id)
        is_full = len(known) > STRAYS_MAX and order.value_florins < lot.deal.lot_florins
        if is_full or any(other.outpoint == order.outpoint for other in known):
            return
        coin = Coin(order.outpoint, order.value_florins, order.height)
        stray = Lot(
            contract_id=lot.contract_id, number=max(other.number for other in known) + 1, me=lot.me, role=lot.role,
            deal=lot.deal, panel=lot.panel, state=State.FUNDED_SEEN, coin=coin,
        )  # fmt: skip
        self.begin(tx, stray)

    def bring_back(self, tx: Tx, births: tuple[Lot, ...], facts: tuple[LoggedFact, ...], lots: dict[int, Lot]) -> None:
        """Lots as a copy had them: births and facts again, and no order, because all of them were ordered before."""
        positions: dict[int, int] = {}
        for birth in births:
            self.begin(tx, birth)
        for line in facts:
            at = positions.get(line.number, 0)
            self.shelf.advance(tx, lots[line.number], line.fact, at, state=line.state)
            tx.audit(FACT_LINE, line)
            positions[line.number] = at + 1

    def add_statement(self, tx: Tx, contract_id: str, heard: Heard, *, height: int) -> None:
        """Another's statement, next in its chain: kept, and taken now or when its phase comes."""
        self.shelf.add_statement(tx, contract_id, heard, height=height, taken=False)
        self.listen(tx, contract_id)

    def check(self, path: str) -> None:
        """Every lot follows from its facts: what a restart rests on.

        Raises:
            CorruptStore: one does not.
        """
        for birth in self.shelf.births():
            lot = birth
            for fact, state, _at_ms in self.shelf.facts(birth.contract_id, birth.number):
                lot, _orders = decide(lot, fact)
                if lot.state is not state:
                    raise CorruptStore(path=path, detail=f"contract {birth.contract_id} does not follow from its facts")
            if lot != self.shelf.lot(birth.contract_id, birth.number):
                raise CorruptStore(path=path, detail=f"contract {birth.contract_id} is not what its facts give")


def lane_to(contract_id: str, peer: str) -> str:
    """What goes to one peer about one contract goes in order."""
    return f"{contract_id}/to/{peer}"


def named(lot: Lot) -> tuple[Did, ...]:
    """Everybody in the contract."""
    return tuple(Did(did) for did in (lot.deal.buyer, lot.deal.seller, *lot.panel))
