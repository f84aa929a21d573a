"""The RPC handlers: contract in, book and records, contract out.

Promise: what a caller asked for is on disk together with the answer, under its request_id; who may do what follows from
the role this node has in the contract. Source: common/contracts/escrow.py.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from common.chain.contract import NO_ROYALTY, LotKind, Royalty
from common.contracts import escrow as c
from common.contracts import wallet_contract as wallet
from common.contracts.escrow_views import AuditLine, ContractView, HeightsView, status_of
from common.contracts.peer_escrow import ONE_LOT, Offer, OfferedStage
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.rpc.table import Ctx, MethodTable
from common.storage_receipts import KEY_AWAY, checked
from common.store import Tx
from common.units import Did, Florins
from dux_escrowd.agreement import Terms, contract_id_of, wish_problem
from dux_escrowd.audit import AuditHead
from dux_escrowd.counterpart import ASK_OFFER, ASK_QUOTE
from dux_escrowd.desk import Desk, receipts_wanted
from dux_escrowd.explain import explain
from dux_escrowd.facts import (
    CancelWanted,
    DeliveryMade,
    DisputeWanted,
    Fact,
    OutputConfirmed,
    PartTaken,
    PartWanted,
    ResultBad,
    ResultGood,
    VoteDecided,
)
from dux_escrowd.fund_books import fund_status
from dux_escrowd.model import Lot, Role
from dux_escrowd.parley import agree_lane
from dux_escrowd.pen import Pen, Step
from dux_escrowd.records import DELIVERY, OUTCOME_OF, VOTE, WISH, VoteNote, Wish
from dux_escrowd.replay import replay
from dux_escrowd.standing import faults_of, weights_of
from dux_escrowd.statements import fits_statement
from dux_escrowd.store import Agreed
from dux_escrowd.words import SaidDelivered

BUYER, SELLER, ARBITER = (Role.BUYER,), (Role.SELLER,), (Role.ARBITER,)
PARTIES = (Role.BUYER, Role.SELLER)


class Methods:
    """What escrowd answers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._book = desk.book
        self._shelf = desk.book.shelf

    def serve(self, table: MethodTable) -> None:
        """All of them."""
        table.serve(c.PROPOSE, self.propose)
        table.serve(c.QUOTE, self.quote)
        table.serve(c.RESULT_KEY, self.result_key)
        table.serve(c.DELIVER, self.deliver)
        table.serve(c.JUDGE, self.judge)
        table.serve(c.PAY_PART, self.pay_part)
        table.serve(c.TAKE_PART, self.take_part)
        table.serve(c.CONFIRM, self.confirm)
        table.serve(c.DISPUTE, self.dispute)
        table.serve(c.CANCEL, self.cancel)
        table.serve(c.VOTE, self.vote)
        table.serve(c.SHOW, self.show)
        table.serve(c.LIST, self.listed)
        table.serve(c.AUDIT, self.audit)
        table.serve(c.EXPLAIN, self.explain)
        table.serve(c.FUND_STATUS, self.fund)

    # --- agreement ----------------------------------------------------------------------------------------------------

    async def propose(self, params: c.Propose, ctx: Ctx) -> c.ContractRef:
        """A wish is written down; the offer follows."""
        parties = (self._desk.me, params.seller)
        problem = wish_problem(
            price_florins=params.price_florins, arbiters=params.arbiters, needed=params.arbiters_needed, parties=parties
        )
        if not problem and params.job_hash != bytes(tagged_hash(Purpose.JOB, params.job)):
            problem = "job_hash is not the hash of the job's canonical bytes"
        place = _place(params.lots)
        problem = problem or self._place_problem(params, place)
        if problem:
            raise c.BadTerms(reason=problem)
        await self._desk.require_sound(params.seller)
        params = await self._without_faulty(params)
        weights = await self._weights(params)
        nonce = self._desk.random.bytes(32)
        contract_id = contract_id_of(self._desk.profile.genesis, self._desk.me, nonce).hex()
        height, ref = await self._desk.height(), c.ContractRef(contract_id=contract_id)
        with self._book.store.transaction() as tx:
            pen = Pen(self._desk)
            me = self._desk.me
            pen.open(tx, contract_id, Role.BUYER, "wished", buyer=me, seller=params.seller, height=height, place=place)
            self._shelf.note(tx, contract_id, salt=self._desk.random.bytes(32))
            self._shelf.keep(tx, contract_id, WISH, _wish(params, nonce, place, weights))
            tx.outbox(f"{contract_id}/offer", ASK_OFFER, Step(contract_id), lane=agree_lane(contract_id))
            ctx.remember(tx, ref)
        return ref

    def _place_problem(self, params: c.Propose, place: OfferedStage) -> str | None:
        if params.lots is None:
            return None
        held = self._shelf.of_series(place.series.hex(), buyer=self._desk.me, seller=params.seller, bond=0)
        if place.number >= place.count or place.number in {row.number for row in held}:
            return f"lot {place.number} of the series was proposed before, or is none of its {place.count}"
        begins = 0 < place.begins_blocks < params.deliver_blocks if place.number else place.begins_blocks == 0
        return None if begins else "a later stage begins between funding and its delivery, the first at once"

    async def _without_faulty(self, params: c.Propose) -> c.Propose:
        """The wish without arbiters that something stands against.

        Raises:
            BadTerms: too few are left.
        """
        faulty = await faults_of(self._desk, params.arbiters)
        left = tuple(did for did in params.arbiters if did not in faulty)
        if len(left) < 2 * params.arbiters_needed - 1:
            raise c.BadTerms(reason="name other arbiters: " + "; ".join(faulty[did] for did in sorted(faulty)))
        return msgspec.structs.replace(params, arbiters=left)

    async def _weights(self, params: c.Propose) -> tuple[int, ...]:
        """What the candidates weigh, where there is something to draw."""
        if len(params.arbiters) == 2 * params.arbiters_needed - 1:
            return (0,) * len(params.arbiters)
        return await weights_of(self._desk, params.arbiters)

    async def quote(self, params: c.Quote, ctx: Ctx) -> c.ContractRef:
        """The seller takes or leaves an offer."""
        row = self._as(params.contract_id, SELLER)
        if row.stage not in ("offered", "agreeing"):
            raise c.OfferOver(state=row.stage, contract_id=row.contract_id)
        step = Step(row.contract_id, accept=params.accept, reason=params.reason)
        ref = c.ContractRef(contract_id=row.contract_id)
        with self._book.store.transaction() as tx:
            stage = "agreeing" if params.accept else "refused"
            self._shelf.note(tx, row.contract_id, stage=stage, reason=params.reason)
            tx.outbox(f"{row.contract_id}/quote", ASK_QUOTE, step, lane=agree_lane(row.contract_id))
            ctx.remember(tx, ref)
        return ref

    # --- work ---------------------------------------------------------------------------------------------------------

    async def result_key(self, params: c.ContractRef, _ctx: Ctx) -> c.ContentKey:
        """The content key, for those who may have it by now."""
        row = self._desk.row(params.contract_id)
        if row.role is Role.SELLER and row.preimage is None:
            row = await self._with_own_key(row)
        key = self._book.records.content_key(row)
        if key is None:
            raise c.NoKeyYet(contract_id=row.contract_id)
        return c.ContentKey(content_key=key)

    async def _with_own_key(self, row: Agreed) -> Agreed:
        contract = self._book.records.contract(row.contract_id)
        if contract is None or not contract.result_hash or row.cid is None:
            return row
        shown = await self._desk.flopd.call(wallet.CONTRACT_REVEAL, wallet.RevealKey(cid=row.cid))
        return msgspec.structs.replace(row, preimage=shown.preimage)

    async def deliver(self, params: c.Deliver, ctx: Ctx) -> c.ContractRef:
        """Where the result lies."""
        said = SaidDelivered(
            params.ciphertext_blob, params.output_commitment, params.receipts, params.holders, params.work_receipt
        )
        fits_statement(said)
        await self._require_receipts(params)

        def keep(tx: Tx) -> None:
            self._shelf.keep(tx, params.contract_id, DELIVERY, said)

        return await self._decide(params.contract_id, SELLER, lambda at: DeliveryMade(at=at), ctx, keep)

    async def _require_receipts(self, params: c.Deliver) -> None:
        """This node signs no statement with a storage receipt that others would find wrong.

        Raises:
            BadReceipt: naming the first one.
        """
        wanted = receipts_wanted(self._desk, params.contract_id, params.ciphertext_blob)
        for item in await checked(self._desk.peers, params.receipts, wanted):
            if item.fault not in ("", KEY_AWAY):
                raise c.BadReceipt(contract_id=params.contract_id, holder=item.holder, reason=item.fault)

    async def judge(self, params: c.Judge, ctx: Ctx) -> c.ContractRef:
        """Good pays, bad asks the arbiters."""

        def keep(tx: Tx) -> None:
            if not params.good:
                self._shelf.note(tx, params.contract_id, reason=params.reason, evidence=params.evidence)

        kind: type[Fact] = ResultGood if params.good else ResultBad
        return await self._decide(params.contract_id, BUYER, lambda at: kind(at=at), ctx, keep)

    async def pay_part(self, params: c.PayPart, ctx: Ctx) -> c.ContractRef:
        """A part, if the seller takes it."""
        gross = int(params.gross_florins)
        return await self._decide(params.contract_id, BUYER, lambda at: PartWanted(at=at, gross_florins=gross), ctx)

    async def take_part(self, params: c.TakePart, ctx: Ctx) -> c.ContractRef:
        """The part that was offered."""
        gross = int(params.gross_florins)
        return await self._decide(params.contract_id, SELLER, lambda at: PartTaken(at=at, gross_florins=gross), ctx)

    async def confirm(self, params: c.Confirm, ctx: Ctx) -> c.ContractRef:
        """Others found the same output hash."""
        return await self._decide(params.contract_id, BUYER, lambda at: OutputConfirmed(at=at), ctx)

    async def dispute(self, params: c.Dispute, ctx: Ctx) -> c.ContractRef:
        """Ask the arbiters now."""

        def keep(tx: Tx) -> None:
            self._shelf.note(tx, params.contract_id, reason=params.reason)

        return await self._decide(params.contract_id, PARTIES, lambda at: DisputeWanted(at=at), ctx, keep)

    async def cancel(self, params: c.Cancel, ctx: Ctx) -> c.ContractRef:
        """End with everything back."""
        return await self._decide(params.contract_id, PARTIES, lambda at: CancelWanted(at=at), ctx)

    async def vote(self, params: c.Vote, ctx: Ctx) -> c.ContractRef:
        """An arbiter's verdict."""
        note = VoteNote(self._desk.random.bytes(32), params.reason)

        def keep(tx: Tx) -> None:
            self._shelf.keep(tx, params.contract_id, VOTE, note)

        gross = int(params.gross_florins)
        return await self._decide(
            params.contract_id, ARBITER, lambda at: VoteDecided(at=at, gross_florins=gross), ctx, keep
        )

    async def _decide(
        self,
        contract_id: str,
        roles: tuple[Role, ...],
        fact: Callable[[int], Fact],
        ctx: Ctx,
        keep: Callable[[Tx], None] | None = None,
    ) -> c.ContractRef:
        """One decision of this node: notes first, then the fact, then the answer, all in one transaction."""
        self._as(contract_id, roles)
        height, ref = await self._desk.height(), c.ContractRef(contract_id=contract_id)
        with self._book.store.transaction() as tx:
            if keep is not None:
                keep(tx)
            self._book.learn(tx, contract_id, fact(height))
            ctx.remember(tx, ref)
        return ref

    def _as(self, contract_id: str, roles: tuple[Role, ...]) -> Agreed:
        row = self._desk.row(contract_id)
        if row.role not in roles:
            wanted = " or ".join(role.value for role in roles)
            raise c.NotYours(role=row.role.value, contract_id=contract_id, wanted=wanted)
        return row

    # --- reading ------------------------------------------------------------------------------------------------------

    async def show(self, params: c.ContractRef, _ctx: Ctx) -> ContractView:
        """One contract."""
        return self._view(self._desk.row(params.contract_id))

    async def listed(self, params: c.ListContracts, _ctx: Ctx) -> c.ContractList:
        """Newest first."""
        found: list[ContractView] = []
        before: str | None = params.before
        while len(found) < params.limit:
            rows = self._shelf.listed(before, params.limit, params.start)
            views = [self._view(row) for row in rows]
            found += [view for view in views if params.status is None or view.status == params.status]
            if len(rows) < params.limit:
                break
            before = rows[-1].contract_id
        return c.ContractList(contracts=tuple(found[: params.limit]))

    def _view(self, row: Agreed) -> ContractView:
        return contract_view(row, self._shelf.lot(row.contract_id), self._desk)

    async def explain(self, params: c.ContractRef, _ctx: Ctx) -> c.Explanation:
        """Why it stands where it stands."""
        row, lot = self._desk.row(params.contract_id), self._shelf.lot(params.contract_id)
        if lot is None:
            line = f"{row.stage}: there is no agreement" + (f" ({row.reason})." if row.reason else " yet.")
            return c.Explanation(contract_id=row.contract_id, lines=(line,))
        lines = explain(lot, self._shelf.facts(row.contract_id), row.reason)
        return c.Explanation(contract_id=row.contract_id, lines=lines)

    async def audit(self, params: c.AuditRead, _ctx: Ctx) -> c.AuditPage:
        """Lines of the log, after running all of it again."""
        rows = self._book.store.rows("SELECT * FROM audit ORDER BY number")
        again = replay((row["number"], row["kind"], row["body"]) for row in rows)
        stored = {key: self._shelf.lot(*key) for key in again.lots}
        last_number, last_hash = (rows[-1]["number"], bytes(rows[-1]["hash"])) if rows else (0, bytes(32))
        head = AuditHead(self._desk.me, last_number, last_hash)
        signed = await self._desk.attest(Purpose.ESCROW_AUDIT, head)
        shown = [row for row in rows if row["number"] > params.after][: params.limit]
        return c.AuditPage(
            lines=tuple(
                AuditLine(number=r["number"], at_ms=r["at_ms"], kind=r["kind"], body=r["body"], hash=r["hash"])
                for r in shown
            ),
            last_number=last_number,
            last_hash=last_hash,
            replayed=again.broken is None and again.lots == stored,
            did=Did(signed.did),
            key_seq=signed.key_seq,
            signature=signed.signature,
        )

    async def fund(self, params: c.FundStatusParams, _ctx: Ctx) -> c.FundStatus:
        """The community fund."""
        return await fund_status(self._desk, params)


def _place(lots: c.SeriesWish | None) -> OfferedStage:
    """The lot's place in its series; a lot alone has none."""
    if lots is None:
        return ONE_LOT
    return OfferedStage(
        series=lots.series, number=lots.number, count=lots.count, begins_blocks=lots.begins_blocks, kind=LotKind.WORK,
        bonded=lots.bonded,
    )  # fmt: skip


def _wish(params: c.Propose, nonce: bytes, place: OfferedStage, weights: tuple[int, ...]) -> Wish:
    return Wish(
        seller=params.seller,
        service_id=params.service_id,
        job=params.job,
        job_hash=params.job_hash,
        price_florins=params.price_florins,
        arbiters=params.arbiters,
        arbiters_needed=params.arbiters_needed,
        deliver_blocks=params.deliver_blocks,
        result_lock=params.result_lock,
        policy=params.policy,
        swap_limit_florins=params.swap_limit_florins,
        nonce=nonce,
        stage=place,
        royalty=_royalty(params.royalty),
        weights=weights,
    )


def _royalty(wish: c.RoyaltyWish | None) -> Royalty:
    return Royalty(wish.developer, wish.payout_script, wish.bps) if wish else NO_ROYALTY


def contract_view(row: Agreed, lot: Lot | None, desk: Desk) -> ContractView:
    """A contract as callers see it, also while there is only an offer."""
    records = desk.book.records
    terms, wish, offer = records.terms(row.contract_id), records.wish(row.contract_id), records.offer(row.contract_id)
    asked, quote = terms or offer or wish, records.quote(row.contract_id)
    settlement = records.settlement(lot) if lot else None
    state = lot.state.value if lot else ("VOID" if row.stage == "refused" else "DRAFT")
    gross = lot.spend.gross_florins if lot and lot.spend else 0
    outcome = OUTCOME_OF[lot.spend.exit] if lot and lot.spend else None
    status = status_of(state, started=lot.started if lot else False, outcome=outcome, gross_florins=gross)
    return ContractView(
        contract_id=row.contract_id,
        cid=row.cid,
        role=row.role.value,
        status=status,
        state=state,
        buyer=row.buyer,
        seller=row.seller,
        arbiters=_arbiters(lot, asked),
        arbiters_needed=asked.arbiters_needed if asked else 0,
        service_id=asked.service_id if asked else "",
        job_hash=asked.job_hash if asked else b"",
        price_florins=asked.price_florins if asked else Florins(0),
        locked_florins=Florins(lot.deal.lot_florins if lot and lot.coin and not lot.spend else 0),
        policy=str(asked.policy) if asked else "",
        heights=_heights(lot) if lot else None,
        address=row.address,
        outpoint=lot.outpoint if lot else None,
        settlement=settlement,
        disputed_by=Did(lot.disputed_by) if lot and lot.disputed_by else None,
        reason=row.reason,
        created_ms=row.created_ms,
        series=row.series,
        stage=row.number,
        stages=asked.stage.count if asked else 1,
        bond=bool(row.bond),
        developer=asked.royalty.did if asked else "",
        royalty_bps=asked.royalty.bps if asked else 0,
        part_florins=Florins(lot.part_florins) if lot and lot.part_florins is not None else None,
        result_lock=_is_locked(asked),
        swap_limit_florins=asked.swap_limit_florins if asked else Florins(0),
        struck=quote.strikes if quote else (),
        copies_kept=desk.placed.get(row.contract_id, (None, 0))[0],
        copies_wanted=desk.placed.get(row.contract_id, (None, 0))[1],
    )


def _is_locked(asked: Terms | Offer | Wish | None) -> bool:
    """Whether the result's key is bought: by the lock that stands in the terms, or by the wish for one."""
    return bool(asked.result_hash) if isinstance(asked, Terms) else asked is None or asked.result_lock


def _arbiters(lot: Lot | None, asked: object) -> tuple[Did, ...]:
    if lot is not None and lot.panel:
        return tuple(Did(did) for did in lot.panel)
    return tuple(getattr(asked, "arbiters", getattr(asked, "candidates", ())))


def _heights(lot: Lot) -> HeightsView:
    h = lot.deal.heights
    return HeightsView(
        start=h.start, fund_by=h.fund_by, deliver_by=h.deliver_by, dispute_by=h.dispute_by, answer_by=h.answer_by,
        commit_by=h.commit_by, reveal_by=h.reveal_by, vote_by=h.vote_by, timeout=h.timeout,
    )  # fmt: skip
