"""Follows escrowd's events and turns each into a decision. Cursor and decision are written together.

Promise: every event is taken once, in order. An event of a contract whose name is not known here yet, while a proposal
of ours is on its way, waits until that proposal has been answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from structlog.typing import FilteringBoundLogger

from common.contracts import escrow
from common.contracts import escrow_views as views
from common.contracts.base import EventsSince, EventView
from common.errors import BadParams, DuxError, NotNow, Unavailable
from common.rpc.client import Client
from common.store import Tx
from common.units import Florins
from dux_taskd import model, rules_seller
from dux_taskd.desk import Desk
from dux_taskd.model import Advanced, Assignment, Case, DisputeSeen, KeyShown, LegState, Refused, SignReceipt, SpendSeen
from dux_taskd.store import TaskStore

CURSOR = "escrow"
WAIT_S = 20.0
PAGE = 50
PAUSE_S = 0.5  # while escrowd is away
UNNAMED_PAUSE_S = 0.1  # while a proposal is being answered


class Follower:
    """Reads escrow.events for ever."""

    def __init__(self, escrowd: Client, store: TaskStore, desk: Desk, log: FilteringBoundLogger) -> None:
        self._escrowd, self._store, self._desk, self._log = escrowd, store, desk, log

    async def run(self) -> None:
        """Until cancelled; escrowd may come and go."""
        while True:
            try:
                since = EventsSince(cursor=self._store.cursor(CURSOR), wait_s=WAIT_S, limit=PAGE)
                page = await self._escrowd.call(escrow.EVENTS, since, deadline_s=WAIT_S + 10)
            except (NotNow, Unavailable) as error:
                self._log.debug("escrow events not read", reason=error.message)
                await asyncio.sleep(PAUSE_S)
                continue
            for event in page.events:
                await self._take(event)

    async def _take(self, event: EventView) -> None:
        try:
            body = views.read_event(event)
        except BadParams as error:
            self._log.warning("escrow event skipped", reason=error.message)
            body = None
        if body is not None and not isinstance(body, views.OfferReceived | views.JobReturned | views.CaseOpened):
            await self._named(body.contract_id)
        with self._store.store.transaction() as tx:
            if body is not None:
                self.decide(tx, body)
            self._store.set_cursor(tx, CURSOR, event.cursor)

    async def _named(self, contract_id: str) -> None:
        """Wait while this may be the contract of a proposal of ours that has not been answered yet."""
        while not self._is_named(contract_id) and self._store.is_proposing():
            if not await self._is_bought(contract_id):
                return
            await asyncio.sleep(UNNAMED_PAUSE_S)

    async def _is_bought(self, contract_id: str) -> bool:
        """True when this node is the contract's buyer, or escrowd cannot say now."""
        try:
            view = await self._escrowd.call(escrow.SHOW, escrow.ContractRef(contract_id=contract_id))
        except (NotNow, Unavailable):
            return True
        except DuxError:
            return False
        return view.role == "buyer"

    def _is_named(self, contract_id: str) -> bool:
        held: tuple[Any, ...] = (
            self._store.leg_of(contract_id),
            self._store.assignment(contract_id),
            self._store.case(contract_id),
        )
        return any(one is not None for one in held)

    def decide(self, tx: Tx, event: views.EscrowEvent) -> None:
        """What follows from one event, for whichever part this node has in its contract."""
        match event:
            case views.OfferReceived():
                self._desk.offer(tx, _assignment(event, tx.now_ms()))
            case views.JobReturned():
                work = _assignment(event, tx.now_ms())
                self._desk.returned(tx, work, begun=event.begun, blocks_left=event.blocks_left)
            case views.CaseOpened():
                self._desk.open_case(tx, _case(event, tx.now_ms()))
            case views.Settled() | views.Closed() | views.Reopened():
                self._spend(tx, event)
            case _:
                self._to_buyer(tx, event)
                self._to_seller(tx, event)

    def _to_buyer(self, tx: Tx, event: views.EscrowEvent) -> None:
        found = self._store.leg_of(event.contract_id)
        if found is None:
            return
        task_id, leg = found
        task = self._store.task(task_id)
        bonded = task is not None and task.lots is not None and task.lots.bonded
        fact = _buyer_fact(leg, event, bonded=bonded)
        if fact is not None:
            self._desk.take(tx, task_id, fact)

    def _to_seller(self, tx: Tx, event: views.EscrowEvent) -> None:
        rule = _SELLER_RULES.get(type(event))
        if isinstance(event, views.Disputed):
            rule = partial(rules_seller.on_disputed, too_late=event.too_late)
        if rule is not None:
            self._desk.seller(tx, event.contract_id, rule)

    def _spend(self, tx: Tx, event: views.Settled | views.Closed | views.Reopened) -> None:
        settlement = None if isinstance(event, views.Reopened) else event.settlement
        closed = isinstance(event, views.Closed)
        found = self._store.leg_of(event.contract_id)
        if found is not None:
            self._desk.take(tx, found[0], SpendSeen(leg=found[1], settlement=settlement, closed=closed))
        self._desk.seller(tx, event.contract_id, lambda a: rules_seller.on_spend(a, settlement, closed=closed))
        self._desk.settle_case(tx, event.contract_id, settlement)
        if isinstance(event, views.Closed):
            self._desk.order(tx, self._receipt(event, tx.now_ms()))

    def _receipt(self, event: views.Closed, now_ms: int) -> SignReceipt:
        return SignReceipt(
            contract_id=event.contract_id,
            cid=event.cid,
            buyer=event.buyer,
            seller=event.seller,
            service_id=event.service_id,
            price_florins=event.price_florins,
            settlement=event.settlement,
            output_hash=self._output_hash(event.contract_id),
            at_ms=now_ms,
            role=event.role,
            voted=event.voted,
        )

    def _output_hash(self, contract_id: str) -> bytes:
        found, own = self._store.leg_of(contract_id), self._store.assignment(contract_id)
        if own is not None:
            return own.output_hash
        task = self._store.task(found[0]) if found else None
        return task.legs[found[1]].output_hash if task and found else b""


def _buyer_fact(leg: int, event: views.EscrowEvent, *, bonded: bool) -> model.Fact | None:  # noqa: PLR0911 - a table of events
    """What an event of a contract means for the task that bought by it."""
    match event:
        case views.QuoteRefused():
            return Refused(leg=leg, reason=event.reason or "the worker refused")
        case views.Voided():
            bond = ", which waits for the seller's bond" if bonded else ""
            return Refused(leg=leg, reason=f"not agreed or not funded in time{bond}; nothing is locked")
        case views.Agreed() | views.Paused():
            return Advanced(leg=leg, state=LegState.AGREED)
        case views.Funded() | views.Started():
            return Advanced(leg=leg, state=LegState.RUNNING)
        case views.Delivered():
            return model.Delivered(
                leg=leg,
                ciphertext_blob=event.ciphertext_blob,
                commitment=event.output_commitment,
                work_receipt=event.work_receipt,
                holders=event.holders,
            )
        case views.KeyRevealed():
            return KeyShown(leg=leg, content_key=event.content_key)
        case views.Disputed():
            return DisputeSeen(leg=leg, reason=event.reason)
    return None


_SELLER_RULES: dict[type, Callable[[Assignment], rules_seller.Turn]] = {
    views.Funded: rules_seller.on_funded,
    views.Paused: rules_seller.on_paused,
    views.CancelAsked: rules_seller.on_cancel_asked,
    views.Voided: rules_seller.on_voided,
}


def _assignment(event: views.OfferReceived | views.JobReturned, now_ms: int) -> Assignment:
    return Assignment(
        contract_id=event.contract_id,
        buyer=event.buyer,
        service_id=event.service_id,
        job=event.job,
        job_hash=event.job_hash,
        price_florins=event.price_florins,
        deliver_blocks=event.deliver_blocks,
        created_ms=now_ms,
    )


def _case(event: views.CaseOpened, now_ms: int) -> Case:
    return Case(
        contract_id=event.contract_id,
        buyer=event.buyer,
        seller=event.seller,
        service_id=event.service_id,
        job=event.job,
        price_florins=Florins(event.price_florins),
        ciphertext_blob=event.ciphertext_blob or "",
        commitment=event.output_commitment,
        content_key=event.content_key or b"",
        work_receipt=event.work_receipt,
        holders=event.holders,
        created_ms=now_ms,
        vote_before=event.vote_before_height,
        receipts=event.receipts,
        keep_until=event.keep_until,
        stores=(event.buyer, *event.arbiters),
        reason=event.reason,
    )
