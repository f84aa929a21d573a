"""What a contract that came back from a copy had missed: others' words since then, evidence, and a seller's work.

Promise: whoever spoke or showed evidence to the disk that is gone has it acknowledged and will not say it again: it is
asked for, from the speaker first; an arbiter's case that was open and a seller's work that is not delivered are told to
its taskd once more, which is new as well.
Asking again changes nothing. Source: escrow_protocol.md §7, §10.
"""

from __future__ import annotations

from common.chain.contract import Contract
from common.contracts.peer_escrow import CASE_GET, STATEMENTS_GET, AskStatements, CaseGet
from common.errors import DuxError
from common.units import Did
from dux_escrowd.desk import Desk
from dux_escrowd.hearing import named_in
from dux_escrowd.inbox import Inbox
from dux_escrowd.keeping import SPEAKS, silent
from dux_escrowd.model import Lot, Role, State
from dux_escrowd.orders import News, Tell
from dux_escrowd.store import Agreed

ARGUED = (State.DISPUTED, State.ANSWERED)


class CatchingUp:
    """Asks, after a restore and at every later look."""

    def __init__(self, desk: Desk, inbox: Inbox) -> None:
        self._desk = desk
        self._shelf = desk.book.shelf
        self._inbox = inbox

    async def look(self) -> None:
        """Every contract that came back and is still followed."""
        for row in self._shelf.followed():
            contract = self._desk.book.records.contract(row.contract_id)
            if contract is None or self._shelf.setting(silent(row.contract_id)) is None:
                continue
            for signer in (Did(did) for did in named_in(contract) if did != self._desk.me):
                await self._hear(row, contract, signer)
            if row.role is Role.ARBITER:
                await self._case(row, contract)
            elif row.role is Role.SELLER:
                await self._work(row)

    async def _hear(self, row: Agreed, contract: Contract, signer: Did) -> None:
        """One signer's chain from where it is held, from itself or else from whoever has more of it."""
        others = [Did(did) for did in named_in(contract) if did not in (self._desk.me, signer)]
        for holder in (signer, *others):
            held = len(self._shelf.chain(row.contract_id, signer))
            ask = AskStatements(bytes.fromhex(row.contract_id), signer, held)
            try:
                answer = await self._desk.call(holder, STATEMENTS_GET, ask)
                await self._inbox.take(row.contract_id, answer.statements)
            except DuxError as error:
                self._unanswered(row, holder, error)
                continue
            if holder == signer or answer.statements:
                return

    async def _case(self, row: Agreed, contract: Contract) -> None:
        """Evidence that either party would show again, as long as this arbiter may still vote."""
        lot = self._shelf.lot(row.contract_id)
        if not _is_waited_for(lot):
            return
        shown = self._desk.book.records.cases(row.contract_id)
        for party in (contract.buyer.did, contract.seller.did):
            if party not in shown:
                await self._evidence(row, Did(party))
        with self._desk.book.store.transaction() as tx:
            lot = self._shelf.lot(row.contract_id)
            told = f"case told again/{row.contract_id}"
            if lot is None or not (_is_waited_for(lot) and lot.case_open) or self._shelf.setting(told) is not None:
                return
            self._desk.book.report(tx, lot, Tell(news=News.CASE_OPENED))
            self._shelf.set(tx, told, b"1")

    async def _work(self, row: Agreed) -> None:
        """Work that is not delivered, once it is known what this node itself had said."""
        if self._shelf.setting(silent(row.contract_id)) != SPEAKS:
            return
        tip = await self._desk.height()
        with self._desk.book.store.transaction() as tx:
            lot = self._shelf.lot(row.contract_id)
            told = f"work told again/{row.contract_id}"
            if lot is None or not _is_to_be_done(lot) or self._shelf.setting(told) is not None:
                return
            self._desk.book.tell_again(tx, lot, tip)
            self._shelf.set(tx, told, b"1")

    async def _evidence(self, row: Agreed, party: Did) -> None:
        try:
            call = await self._desk.call(party, CASE_GET, CaseGet(bytes.fromhex(row.contract_id)))
            await self._inbox.case(call, party)
        except DuxError as error:
            self._unanswered(row, party, error)

    def _unanswered(self, row: Agreed, peer: Did, error: DuxError) -> None:
        self._desk.log.info("not told what was missed", contract_id=row.contract_id, peer=peer, reason=error.message)


def _is_to_be_done(lot: Lot) -> bool:
    """The seller owes a delivery, or the end of what it cannot deliver."""
    open_yet = lot.state in (State.AGREED, State.FUNDED_SEEN, State.FUNDED, *ARGUED)
    return open_yet and not lot.deal.bond and lot.delivered_at is None and not lot.cancelled


def _is_waited_for(lot: Lot | None) -> bool:
    """This arbiter has a dispute before it and has not voted."""
    return lot is not None and lot.state in ARGUED and lot.vote_florins is None
