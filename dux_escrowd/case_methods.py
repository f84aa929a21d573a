"""What waits for a person, what an arbiter was shown, and a contract as a file; and reminders as heights come near.

Promise: reading changes nothing; a reminder is told once for each thing and height. Decides nothing: `docket` does.
"""

from __future__ import annotations

import contextlib

from common.chain.heights import heights_profile
from common.contracts.escrow import ContractRef, NotYours
from common.contracts.escrow_cases import (
    CASE_FILE,
    CASES,
    CASES_MAX,
    EVIDENCE,
    CaseFileBytes,
    CaseItem,
    Cases,
    CheckedReceipt,
    EvidenceView,
)
from common.contracts.escrow_views import CaseDue
from common.errors import NotFound, NotNow, Unavailable
from common.rpc.method import Empty
from common.rpc.table import Ctx, MethodTable
from common.storage_receipts import RECEIPTS_MIN, checked
from common.store import Tx
from common.units import Did, Florins
from dux_escrowd.case_file import CaseFile, case_bytes
from dux_escrowd.desk import Desk, receipts_wanted
from dux_escrowd.docket import Item, is_near, items
from dux_escrowd.model import Role
from dux_escrowd.records import ACCEPT, CONTRACT, TERMS
from dux_escrowd.replay import LoggedFact
from dux_escrowd.store import Agreed
from dux_escrowd.words import SaidDelivered

NOTHING = bytes(32)
LOG_AGE_MAX_S = 10 * 365 * 86_400  # what is held of a signer will do: a file is made without asking around


class CaseMethods:
    """Handlers of escrow.cases, escrow.evidence and escrow.case_file."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._book = desk.book
        self._shelf = desk.book.shelf

    def serve(self, table: MethodTable) -> None:
        """Answer them on this table."""
        table.serve(CASES, self.cases)
        table.serve(EVIDENCE, self.evidence)
        table.serve(CASE_FILE, self.case_file)

    async def cases(self, _params: Empty, _ctx: Ctx) -> Cases:
        """Everything that waits, of all contracts that are followed."""
        height = await self._desk.height()
        found = [self._item(row, item, height) for row in self._shelf.followed() for item in self._items(row)]
        found.sort(key=lambda item: (item.due, item.contract_id))
        return Cases(cases=tuple(found[:CASES_MAX]), height=height)

    def _items(self, row: Agreed) -> tuple[Item, ...]:
        lot = self._shelf.lot(row.contract_id)
        return items(lot) if lot else ()

    def _item(self, row: Agreed, item: Item, height: int) -> CaseItem:
        terms = self._book.records.terms(row.contract_id)
        return CaseItem(
            contract_id=row.contract_id,
            role=row.role.value,
            service_id=terms.service_id if terms else "",
            price_florins=terms.price_florins if terms else Florins(0),
            what=item.what,
            due=item.due,
            blocks_left=item.due - height,
            otherwise=item.otherwise,
            commands=item.commands,
            stage=row.number + 1 if row.series and not row.bond else 0,
            stages=terms.stage.count if terms else 1,
        )

    async def evidence(self, params: ContractRef, _ctx: Ctx) -> EvidenceView:
        """What was shown to this arbiter."""
        row, lot = self._desk.row(params.contract_id), self._shelf.lot(params.contract_id)
        if row.role is not Role.ARBITER:
            raise NotYours(role=row.role.value, contract_id=row.contract_id, wanted="arbiter")
        said = self._book.records.delivery(row.contract_id)
        cases = self._book.records.cases(row.contract_id)
        offered = lot.release_gross_florins or 0 if lot and lot.release_stands else 0
        return EvidenceView(
            contract_id=row.contract_id,
            reason=row.reason,
            disputed_by=Did(lot.disputed_by) if lot and lot.disputed_by else None,
            job=self._book.records.job(row.contract_id),
            ciphertext_blob=said.ciphertext_blob if said else None,
            output_commitment=said.output_commitment if said else NOTHING,
            holders=said.holders if said else (),
            storage_receipts=await self._receipts(params.contract_id, said),
            receipts_wanted=RECEIPTS_MIN,
            work_receipt=said.work_receipt if said else b"",
            content_key=self._book.records.content_key(row),
            shown={owner: case.evidence for owner, case in sorted(cases.items())},
            offered_florins=Florins(offered),
        )

    async def _receipts(self, contract_id: str, said: SaidDelivered | None) -> tuple[CheckedReceipt, ...]:
        if said is None:
            return ()
        wanted = receipts_wanted(self._desk, contract_id, said.ciphertext_blob)
        return await checked(self._desk.peers, said.receipts, wanted)

    async def case_file(self, params: ContractRef, _ctx: Ctx) -> CaseFileBytes:
        """The contract as a file.

        Raises:
            NotFound: there is no sealed contract of that name.
        """
        row, name = self._desk.row(params.contract_id), params.contract_id
        contract = self._shelf.raw(name, CONTRACT)
        if contract is None:
            raise NotFound(what="sealed contract", name=name)
        terms, accepts = self._shelf.owned(name, TERMS), self._shelf.owned(name, ACCEPT)
        chains = sorted(self._shelf.chains(name))
        lots = [lot for lot in self._shelf.births() if lot.contract_id == name]
        facts = [
            LoggedFact(name, lot.number, fact, state)  # type: ignore[arg-type]
            for lot in lots
            for fact, state, _at_ms in self._shelf.facts(name, lot.number)
        ]
        case = CaseFile(
            network=self._desk.profile.genesis,
            me=self._desk.me,
            contract=contract,
            by_buyer=terms.get(row.buyer, b""),
            by_seller=terms.get(row.seller, b""),
            accepts=tuple(accepts.values()),
            statements=tuple(body for signer in chains for body in self._shelf.said(name, signer)),
            births=tuple(lots),
            facts=tuple(facts),
            logs=await self._logs({row.buyer, row.seller, *accepts, *chains}),
        )
        return CaseFileBytes(file=case_bytes(case))

    async def _logs(self, signers: set[str]) -> dict[str, bytes]:
        """The event logs of those whose log is to be had: who recovers later still has signed what it signed."""
        logs: dict[str, bytes] = {}
        for did in sorted(signers):
            with contextlib.suppress(NotNow, Unavailable):
                logs[did] = (await self._desk.peers.resolve(Did(did), max_age_s=LOG_AGE_MAX_S)).log
        return logs


class Reminders:
    """Tells once, as an event and in the journal, that something that waits for a person is nearly due."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told: set[tuple[str, str, int]] = set()  # a restart may say it again: better twice than never
        self._start_blocks = heights_profile(desk.profile.heights).start_blocks

    def look(self, tx: Tx, row: Agreed, height: int) -> None:
        """Whatever of this contract is near."""
        lot = self._desk.book.shelf.lot(row.contract_id)
        for item in items(lot) if lot else ():
            key = (row.contract_id, item.what, item.due)
            if not is_near(item, height, self._start_blocks) or height > item.due or key in self._told:
                continue
            self._told.add(key)
            due = CaseDue(
                contract_id=row.contract_id, what=item.what, due=item.due, otherwise=item.otherwise,
                commands=item.commands,
            )  # fmt: skip
            self._desk.book.tell(tx, due)
            self._desk.log.warning(
                "a contract waits for you", contract_id=row.contract_id, what=item.what, until_block=item.due,
                otherwise=item.otherwise, look="duxnet cases",
            )  # fmt: skip
