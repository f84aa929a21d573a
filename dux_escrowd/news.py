"""What this node's readers are told, put together from the shelf at the moment of the decision.

Promise: an event is complete (a reader needs no second call to act on it) and holds no secret but those that its
reader is meant to have: the content key for the buyer's and an arbiter's taskd.
"""

from __future__ import annotations

from collections.abc import Callable

from common.codec import Wire
from common.contracts import escrow_views as v
from common.errors import Internal
from common.units import Did, Florins
from dux_escrowd.agreement import Terms
from dux_escrowd.model import Lot, State
from dux_escrowd.orders import News
from dux_escrowd.records import Records
from dux_escrowd.store import Agreed
from dux_escrowd.voting import voters

NOTHING_DELIVERED = bytes(32)


class Reporter:
    """Makes events."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._makers: dict[News, Callable[[Agreed, Lot], Wire | None]] = {
            News.AGREED: self._agreed,
            News.FUNDED: self._funded,
            News.STARTED: lambda row, _lot: v.Started(contract_id=row.contract_id),
            News.PAUSED: lambda row, _lot: v.Paused(contract_id=row.contract_id),
            News.DELIVERED: self._delivered,
            News.KEY_REVEALED: self._key_revealed,
            News.CANCEL_ASKED: lambda row, _lot: v.CancelAsked(contract_id=row.contract_id),
            News.ARBITERS_SILENT: lambda row, _lot: v.ArbitersSilent(contract_id=row.contract_id),
            News.PART_OFFERED: lambda row, lot: v.PartOffered(
                contract_id=row.contract_id, gross_florins=Florins(lot.part_florins or 0)
            ),
            News.DISPUTED: self._disputed,
            News.CASE_OPENED: self._case,
            News.VOIDED: lambda row, _lot: v.Voided(contract_id=row.contract_id),
            News.SETTLED: self._settled,
            News.CLOSED: self._closed,
            News.REOPENED: lambda row, _lot: v.Reopened(contract_id=row.contract_id),
        }

    def event(self, news: News, row: Agreed, lot: Lot) -> Wire | None:
        """The event, or None where there is nothing to tell (a key that is not here, a bond)."""
        return None if lot.deal.bond else self._makers[news](row, lot)  # nobody works for a bond

    def returned(self, row: Agreed, lot: Lot, tip: int) -> Wire:
        """Seller: work that came back from a copy, for a taskd whose disk is gone, too."""
        terms, heights = self._terms(row), lot.deal.heights
        return v.JobReturned(
            contract_id=row.contract_id,
            buyer=row.buyer,
            service_id=terms.service_id,
            job=self._records.job(row.contract_id),
            job_hash=terms.job_hash,
            price_florins=terms.price_florins,
            deliver_blocks=heights.deliver_by - heights.fund_by,
            begun=lot.started and lot.coin is not None and lot.state is not State.FUNDED_SEEN,
            blocks_left=heights.deliver_by - tip,
        )

    def _agreed(self, row: Agreed, _lot: Lot) -> Wire:
        return v.Agreed(contract_id=row.contract_id, cid=row.cid or "", address=row.address or "")

    def _funded(self, row: Agreed, lot: Lot) -> Wire:
        return v.Funded(
            contract_id=row.contract_id,
            cid=row.cid or "",
            buyer=row.buyer,
            service_id=self._service(row),
            job=self._records.job(row.contract_id),
            outpoint=lot.outpoint or "",
            deliver_by=lot.deal.heights.deliver_by,
        )

    def _delivered(self, row: Agreed, _lot: Lot) -> Wire | None:
        said = self._records.delivery(row.contract_id)
        if said is None:
            return None
        return v.Delivered(
            contract_id=row.contract_id,
            ciphertext_blob=said.ciphertext_blob,
            output_commitment=said.output_commitment,
            work_receipt=said.work_receipt,
            holders=said.holders,
        )

    def _key_revealed(self, row: Agreed, _lot: Lot) -> Wire | None:
        key = self._records.content_key(row)
        return v.KeyRevealed(contract_id=row.contract_id, content_key=key) if key else None

    def _disputed(self, row: Agreed, lot: Lot) -> Wire:
        too_late = lot.delivered_at is None and (lot.disputed_at or 0) > lot.deal.heights.deliver_by
        by = Did(lot.disputed_by or "")
        return v.Disputed(contract_id=row.contract_id, by=by, reason=row.reason, too_late=too_late)

    def _case(self, row: Agreed, lot: Lot) -> Wire:
        cases = self._records.cases(row.contract_id)
        said = self._records.delivery(row.contract_id)
        return v.CaseOpened(
            contract_id=row.contract_id,
            buyer=row.buyer,
            seller=row.seller,
            service_id=self._service(row),
            job=self._records.job(row.contract_id),
            price_florins=self._terms(row).price_florins,
            reason=row.reason,
            ciphertext_blob=said.ciphertext_blob if said else None,
            output_commitment=said.output_commitment if said else NOTHING_DELIVERED,
            content_key=self._records.content_key(row),
            work_receipt=said.work_receipt if said else b"",
            holders=said.holders if said else (),
            evidence=tuple(item for case in cases.values() for item in case.evidence),
            vote_before_height=lot.deal.heights.commit_by,
            receipts=said.receipts if said else (),
            keep_until=lot.deal.heights.timeout,
            arbiters=tuple(map(Did, lot.panel)),
        )

    def _settled(self, row: Agreed, lot: Lot) -> Wire | None:
        settlement = self._records.settlement(lot)
        return v.Settled(contract_id=row.contract_id, settlement=settlement) if settlement else None

    def _closed(self, row: Agreed, lot: Lot) -> Wire | None:
        settlement = self._records.settlement(lot)
        said = self._records.delivery(row.contract_id)
        if settlement is None:
            return None
        return v.Closed(
            contract_id=row.contract_id,
            cid=row.cid or "",
            role=row.role.value,
            buyer=row.buyer,
            seller=row.seller,
            service_id=self._service(row),
            price_florins=self._terms(row).price_florins,
            settlement=settlement,
            output_commitment=said.output_commitment if said else NOTHING_DELIVERED,
            voted=tuple(map(Did, voters(lot))),
        )

    def _terms(self, row: Agreed) -> Terms:
        terms = self._records.terms(row.contract_id)
        if terms is None:
            raise Internal(call_id=row.contract_id)
        return terms

    def _service(self, row: Agreed) -> str:
        return self._terms(row).service_id
