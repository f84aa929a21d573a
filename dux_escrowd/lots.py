"""The lots of one series on this node's shelf: their panel, their common funding, and what they mean for each other.

Promise: a series is funded by one payment or not at all, and only when every lot of it is agreed and a bond that was
asked for stands; every lot has the same panel. Decides nothing: `series_rules` does.

Source: escrow_protocol.md §1, §3 (FUND), §5.
"""

from __future__ import annotations

from common.chain.bond_award import bond_problem
from common.contracts.escrow import PeerNotReady, Refused, TermsDiffer, WrongPhase
from common.contracts.peer_escrow import ROLE
from common.store import Tx
from common.units import Did
from dux_escrowd.book import Book
from dux_escrowd.facts import Fact
from dux_escrowd.model import Lot
from dux_escrowd.series_rules import bond_fact, bond_over, turn_of, why_not_funded
from dux_escrowd.store import Agreed


class Lots:
    """Reads the other lots of a contract's series."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._shelf = book.shelf

    def is_bonded(self, row: Agreed) -> bool:
        """The buyer has asked for the seller's bond."""
        wish, offer = self._book.records.wish(row.contract_id), self._book.records.offer(row.contract_id)
        stage = wish.stage if wish else offer.stage if offer else None
        return stage is not None and stage.bonded

    def panel(self, row: Agreed) -> tuple[Did, ...]:
        """The panel that this lot has to have; empty for the first lot, which is drawn.

        Raises:
            PeerNotReady: the first lot's panel is not seated yet.
        """
        works = self._shelf.series(row)
        if not row.series or (not row.bond and row.number == 0):
            return ()
        first = self._book.records.contract(works[0].contract_id) if works and works[0].number == 0 else None
        if first is None:
            raise PeerNotReady(did="arbiters", method=ROLE.name, detail="the first lot has no panel yet")
        return tuple(Did(arbiter.did) for arbiter in first.arbiters)

    def require_panel(self, row: Agreed, panel: tuple[str, ...]) -> None:
        """Nothing happens for the panel of the first lot, where that is known.

        Raises:
            TermsDiffer: another panel would decide about this lot. PeerNotReady: the first lot is not known yet.
        """
        wanted = self.panel(row)
        if wanted and set(wanted) != set(panel):
            raise TermsDiffer(contract_id=row.contract_id, reason="its panel is not that of the first lot")

    def to_fund(self, row: Agreed) -> list[Agreed]:
        """The lots that are paid together with this one, in order; itself alone without a series.

        Raises:
            PeerNotReady: not all is agreed yet; asked again until fund_by.
        """
        if not row.series or row.bond:
            return [row]
        works, bond = self._shelf.series(row), self._shelf.bond_of(row)
        count = self._count(row)
        bonded = any(self.is_bonded(one) for one in works)
        lots = [self._shelf.lot(one.contract_id) for one in works]
        bond_lot = self._shelf.lot(bond.contract_id) if bond else None
        why = why_not_funded(lots, count, bonded=bonded, bond=bond_lot) or self._bond_problem(
            works, bond, bonded=bonded
        )
        if why:
            raise PeerNotReady(did=row.seller, method="escrow.fund", detail=why)
        return works

    def _bond_problem(self, works: list[Agreed], bond: Agreed | None, *, bonded: bool) -> str:
        if not bonded or bond is None:
            return ""
        held = self._book.records.contract(bond.contract_id)
        for work in works:
            contract = self._book.records.contract(work.contract_id)
            problem = bond_problem(contract, held) if contract and held else "its contract is not here"
            if problem:
                return f"the bond does not fit: {problem}"
        return ""

    def _count(self, row: Agreed) -> int:
        terms = self._book.records.terms(row.contract_id)
        return terms.stage.count if terms else 1

    def learn(self, tx: Tx, row: Agreed, at: int) -> None:
        """What the other lots of the series mean for this one, as a fact."""
        lot = self._shelf.lot(row.contract_id) if row.series else None
        fact = self._fact(row, lot, at) if lot else None
        if fact is None:
            return
        try:
            self._book.learn(tx, row.contract_id, fact)
        except (WrongPhase, Refused):  # it has no place in this lot's phase, and is looked at again at the next block
            return

    def _fact(self, row: Agreed, lot: Lot, at: int) -> Fact | None:
        works = self._shelf.series(row)
        if row.bond:
            return bond_over(lot, [self._shelf.lot(one.contract_id) for one in works], self._count(row), at)
        before = next((one for one in works if one.number == row.number - 1), None)
        bond = self._shelf.bond_of(row)
        turn = turn_of(lot, self._shelf.lot(before.contract_id) if before else None, at)
        return turn or bond_fact(lot, self._shelf.lot(bond.contract_id) if bond else None, at)
