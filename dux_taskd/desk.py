"""Where decisions are written: (row, fact) -> rules -> row, orders, lines and events, in one transaction.

Promise: everything that a fact leads to lands together. Doing the same fact twice changes nothing the second time.
It knows no neighbour; orders go to the outbox.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from common.contracts.escrow_views import Settlement
from common.contracts.task import TaskMoved, TaskState
from common.store import Tx
from common.units import format_flop
from dux_taskd import rules_buyer, rules_seller, words
from dux_taskd.model import (
    Assignment,
    CancelLeg,
    Case,
    CaseState,
    CastVote,
    Consider,
    Fact,
    GiveBack,
    GiveQuote,
    HandOver,
    JobState,
    JudgeLeg,
    OpenResult,
    Order,
    Propose,
    RunAgain,
    SignReceipt,
    Task,
)
from dux_taskd.rules_arbiter import Verdict
from dux_taskd.stage_rules import BeginStage
from dux_taskd.store import TaskStore, case_ref, job_ref

SELLER_STATE: dict[JobState, TaskState] = {
    JobState.OFFERED: TaskState.WAITING,
    JobState.QUOTED: TaskState.AGREED,
    JobState.REFUSED: TaskState.REFUSED,
    JobState.WORKING: TaskState.RUNNING,
    JobState.PAUSED: TaskState.AGREED,
    JobState.SEALED: TaskState.DELIVERED,
    JobState.GIVEN_BACK: TaskState.JUDGED,
    JobState.CLOSED: TaskState.PAID,
}


JOB_WORDS: dict[JobState, str] = {
    JobState.OFFERED: "the offer is looked at",
    JobState.QUOTED: "this node takes the offer",
    JobState.REFUSED: "this node refuses the offer",
    JobState.WORKING: "the contract is funded: the job runs",
    JobState.PAUSED: "the funding has left the chain: the job waits",
    JobState.SEALED: "the result is encrypted and handed over",
    JobState.GIVEN_BACK: "this node gives the contract back",
    JobState.CLOSED: "the contract is over",
}


def seller_state(a: Assignment) -> TaskState:
    """The one word that callers see of an assignment."""
    if a.state is not JobState.CLOSED:
        return SELLER_STATE[a.state]
    if a.settlement is None:
        return TaskState.CANCELLED
    return TaskState.PAID if a.settlement.gross_florins > 0 else TaskState.REFUNDED


def case_state(case: Case) -> TaskState:
    """The one word that callers see of a case."""
    return TaskState.RUNNING if case.state is CaseState.OPEN else TaskState.VOTED


class Desk:
    """Takes facts and writes what follows."""

    def __init__(self, store: TaskStore, *, on_work: Callable[[], None], on_stop: Callable[[str], None]) -> None:
        """`on_work` is called when something is to be run, `on_stop` when a run is no longer wanted."""
        self._store, self._on_work, self._on_stop = store, on_work, on_stop
        self.on_moved: Callable[[Tx, Task], None] = lambda _tx, _task: None  # set at assembly: stages listen

    # Buyer.

    def begin(self, tx: Tx, task: Task) -> None:
        """Write a new task and propose its first contract."""
        self._store.say(tx, task.task_id, words.ordered(task))
        self._write_task(tx, None, rules_buyer.begin(task))

    def take(self, tx: Tx, task_id: str, fact: Fact) -> None:
        """Take a fact of a buyer's task."""
        task = self._store.task(task_id)
        if task is None:
            return
        turn = rules_buyer.decide(task, fact)
        if turn.task != task:
            self._store.say(tx, task_id, words.sentence(task, fact))
        self._write_task(tx, task, turn)

    def _write_task(self, tx: Tx, before: Task | None, turn: rules_buyer.Turn) -> None:
        task = turn.task
        if task == before and not turn.orders:
            return
        self._store.put_task(tx, task)
        for order in turn.orders:
            self._order(tx, order)
            if isinstance(order, JudgeLeg):
                self._store.say(tx, task.task_id, words.judged(task, order))
        for leg in task.legs:
            if leg.state in rules_buyer.OVER:
                tx.cancel_effects(ask_lane(task.task_id, leg.number))
        state = rules_buyer.state_of(task)
        if before is None or rules_buyer.state_of(before) is not state:
            tx.emit("TaskMoved", TaskMoved(task_id=task.task_id, role="buyer", state=state, reason=task.reason))
            self.on_moved(tx, task)

    # Seller.

    def offer(self, tx: Tx, offer: Assignment) -> None:
        """A new offer, once."""
        if self._store.assignment(offer.contract_id) is None:
            self._store.say(
                tx,
                job_ref(offer.contract_id),
                f"a buyer offers {format_flop(offer.price_florins)} FLOP ({offer.buyer})",
            )
            self._write_assignment(tx, None, rules_seller.on_offer(offer))

    def returned(self, tx: Tx, work: Assignment, *, begun: bool, blocks_left: int) -> None:
        """Work of a contract that came back from its copies, where this node does not know it."""
        if self._store.assignment(work.contract_id) is None:
            self._store.say(tx, job_ref(work.contract_id), f"taken up again after a restore ({work.buyer})")
            self._write_assignment(tx, None, rules_seller.on_returned(work, begun=begun, blocks_left=blocks_left))

    def seller(self, tx: Tx, contract_id: str, rule: Callable[[Assignment], rules_seller.Turn]) -> None:
        """Apply a rule to an assignment of this node, if there is one."""
        before = self._store.assignment(contract_id)
        if before is not None:
            self._write_assignment(tx, before, rule(before))

    def _write_assignment(self, tx: Tx, before: Assignment | None, turn: rules_seller.Turn) -> None:
        after = turn.assignment
        if after == before and not turn.orders:
            return
        self._store.put_assignment(tx, after)
        for order in turn.orders:
            self._order(tx, order)
        if before is None or before.state is not after.state:
            self._moved(
                tx, job_ref(after.contract_id), "seller", seller_state(after), JOB_WORDS[after.state], after.reason
            )
        if after.state is JobState.WORKING:
            self._on_work()
        elif before is not None and before.state is JobState.WORKING:
            self._on_stop(after.contract_id)
        if after.state is JobState.CLOSED:
            tx.cancel_effects(after.contract_id)

    # Arbiter.

    def open_case(self, tx: Tx, case: Case) -> None:
        """A new case, once; news of a known one (the key was shown later) replaces what it rests on."""
        known = self._store.case(case.contract_id)
        if known is not None and (known.state is not CaseState.OPEN or known.content_key):
            return
        self._store.put_case(tx, case)
        self._moved(
            tx, case_ref(case.contract_id), "arbiter", TaskState.RUNNING, "this node is asked to decide", case.reason
        )
        self._on_work()

    def decide_case(self, tx: Tx, contract_id: str, verdict: Verdict | None, reason: str) -> None:
        """Vote, or give up without a vote."""
        case = self._store.case(contract_id)
        if case is None or case.state is not CaseState.OPEN:
            return
        if verdict is None:
            self._close_case(
                tx, replace(case, state=CaseState.CLOSED, reason=reason), f"this node does not vote: {reason}"
            )
            return
        voted = replace(case, state=CaseState.VOTED, gross_florins=verdict.gross_florins, reason=verdict.reason)
        self._close_case(
            tx, voted, f"this node votes {format_flop(verdict.gross_florins)} FLOP for the seller: {verdict.reason}"
        )
        vote = CastVote(contract_id=contract_id, gross_florins=verdict.gross_florins, reason=verdict.reason)
        self._order(tx, vote)

    def settle_case(self, tx: Tx, contract_id: str, settlement: Settlement | None) -> None:
        """How the contract of a case ended; an undecided case needs no vote any more."""
        case = self._store.case(contract_id)
        if case is None:
            return
        state = CaseState.CLOSED if settlement is not None and case.state is CaseState.OPEN else case.state
        self._store.put_case(tx, replace(case, settlement=settlement, state=state))
        if settlement is not None:
            tx.cancel_effects(contract_id)

    def retry_case(self, tx: Tx, contract_id: str) -> None:
        """One more attempt was made."""
        case = self._store.case(contract_id)
        if case is not None:
            self._store.put_case(tx, replace(case, attempts=case.attempts + 1))

    def _close_case(self, tx: Tx, case: Case, text: str) -> None:
        self._store.put_case(tx, case)
        self._moved(tx, case_ref(case.contract_id), "arbiter", TaskState.VOTED, text, case.reason)

    # All.

    def _moved(self, tx: Tx, ref: str, role: str, state: TaskState, text: str, reason: str) -> None:
        self._store.say(tx, ref, f"{text}{f' ({reason})' if reason and reason not in text else ''}")
        tx.emit("TaskMoved", TaskMoved(task_id=ref, role=role, state=state, reason=reason))

    def order(self, tx: Tx, order: Order) -> None:
        """Want something done that no rule of a single row decides (receipts)."""
        self._order(tx, order)

    def begin_stage(self, tx: Tx, order: BeginStage) -> None:
        """Want a later stage begun; stages of one purchase in their order."""
        name = f"{order.stages_id}/{order.number}/BeginStage"
        tx.outbox(name, "BeginStage", order, lane=order.stages_id)

    def _order(self, tx: Tx, order: Order) -> None:
        tx.outbox(effect_id(order), type(order).__name__, order, lane=lane_of(order))


def ask_lane(task_id: str, leg: int) -> str:
    """The lane of what is asked of escrowd for one contract of a task; struck out when the contract is over."""
    return f"{task_id}/{leg}"


def lane_of(order: Order) -> str:
    """Proposing, judging and cancelling of one contract go in order; so does everything said for one assignment."""
    if isinstance(order, Propose | JudgeLeg | CancelLeg):
        return ask_lane(order.task_id, order.leg)
    if isinstance(order, Consider | GiveQuote | HandOver | GiveBack | CastVote):
        return order.contract_id
    return effect_id(order)


def effect_id(order: Order) -> str:
    """Each order is wanted once: its name says for what."""
    kind = type(order).__name__
    if isinstance(order, Propose | OpenResult | JudgeLeg | CancelLeg):
        return f"{order.task_id}/{order.leg}/{kind}"
    if isinstance(order, RunAgain):
        return f"{order.task_id}/{kind}"
    if isinstance(order, SignReceipt):
        paid = order.settlement  # a fork may bring it back in another block: then another receipt is true
        return f"{order.contract_id}/{kind}/{paid.txid[:24]}/{paid.height}"  # a request_id has at most 128 characters
    return f"{order.contract_id}/{kind}"
