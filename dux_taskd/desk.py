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
from dux_taskd import rules_buyer, rules_seller
from dux_taskd.model import (
    Advanced,
    Assignment,
    CancelLeg,
    CancelWanted,
    Case,
    CaseState,
    CastVote,
    Consider,
    Delivered,
    DisputeSeen,
    Fact,
    FoundFaulty,
    GiveBack,
    GiveQuote,
    HandOver,
    JobState,
    JudgeLeg,
    KeyShown,
    LegState,
    Opened,
    OpenResult,
    Order,
    Propose,
    Proposed,
    RanAgain,
    Refused,
    RunAgain,
    SignReceipt,
    SpendSeen,
    Task,
)
from dux_taskd.rules_arbiter import Verdict
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

    # Buyer.

    def begin(self, tx: Tx, task: Task) -> None:
        """Write a new task and propose its first contract."""
        self._store.say(tx, task.task_id, "asked for")
        self._write_task(tx, None, rules_buyer.begin(task))

    def take(self, tx: Tx, task_id: str, fact: Fact) -> None:
        """Take a fact of a buyer's task."""
        task = self._store.task(task_id)
        if task is None:
            return
        turn = rules_buyer.decide(task, fact)
        if turn.task != task:
            self._store.say(tx, task_id, sentence(task, fact))
        self._write_task(tx, task, turn)

    def _write_task(self, tx: Tx, before: Task | None, turn: rules_buyer.Turn) -> None:
        task = turn.task
        if task == before and not turn.orders:
            return
        self._store.put_task(tx, task)
        for order in turn.orders:
            self._order(tx, order)
            if isinstance(order, JudgeLeg):
                word = "good" if order.good else "bad"
                self._store.say(tx, task.task_id, f"contract {order.leg} judged {word}: {order.reason}")
        for leg in task.legs:
            if leg.state in rules_buyer.OVER:
                tx.cancel_effects(ask_lane(task.task_id, leg.number))
        state = rules_buyer.state_of(task)
        if before is None or rules_buyer.state_of(before) is not state:
            tx.emit("TaskMoved", TaskMoved(task_id=task.task_id, role="buyer", state=state, reason=task.reason))

    # Seller.

    def offer(self, tx: Tx, offer: Assignment) -> None:
        """A new offer, once."""
        if self._store.assignment(offer.contract_id) is None:
            self._store.say(tx, job_ref(offer.contract_id), f"offered for {format_flop(offer.price_florins)} FLOP")
            self._write_assignment(tx, None, rules_seller.on_offer(offer))

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
            self._moved(tx, job_ref(after.contract_id), "seller", seller_state(after), after.state.value, after.reason)
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
        self._moved(tx, case_ref(case.contract_id), "arbiter", TaskState.RUNNING, "case opened", case.reason)
        self._on_work()

    def decide_case(self, tx: Tx, contract_id: str, verdict: Verdict | None, reason: str) -> None:
        """Vote, or give up without a vote."""
        case = self._store.case(contract_id)
        if case is None or case.state is not CaseState.OPEN:
            return
        if verdict is None:
            self._close_case(tx, replace(case, state=CaseState.CLOSED, reason=reason), f"no vote: {reason}")
            return
        voted = replace(case, state=CaseState.VOTED, gross_florins=verdict.gross_florins, reason=verdict.reason)
        self._close_case(tx, voted, f"voted {format_flop(verdict.gross_florins)} FLOP: {verdict.reason}")
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
        return f"{order.contract_id}/{kind}/{order.settlement.txid[:32]}"  # a request_id has at most 128 characters
    return f"{order.contract_id}/{kind}"


def sentence(task: Task, fact: Fact) -> str:
    """What happened, in words."""
    if isinstance(fact, CancelWanted):
        return "the owner asked for the end"
    if isinstance(fact, RanAgain):
        return f"ran the job here: {fact.rerun.reason or fact.rerun.output_hash.hex()[:16]}"
    plan = task.legs[fact.leg].plan
    if isinstance(fact, Proposed):
        return f"{plan.kind.value}: offered {format_flop(plan.price_florins)} FLOP to {plan.worker}"
    return f"{plan.kind.value}: {_leg_words(fact)}"


def _leg_words(fact: Fact) -> str:  # noqa: PLR0911 - one line for each fact reads as a table
    match fact:
        case Refused():
            return f"no contract ({fact.reason})"
        case Delivered():
            return "delivered, its hash is fixed by a commitment"
        case KeyShown():
            return "the key was shown"
        case Opened():
            return f"opened, output {fact.output_hash.hex()[:16]}…"
        case FoundFaulty():
            return f"not as promised ({fact.reason})"
        case DisputeSeen():
            return f"the arbiters are asked ({fact.reason})"
        case SpendSeen():
            return _spend_words(fact)
        case Advanced():
            return "funded, the worker works" if fact.state is LegState.RUNNING else "agreed by all"
    return type(fact).__name__


def _spend_words(fact: SpendSeen) -> str:
    if fact.settlement is None:
        return "its settlement left the chain"
    paid = format_flop(fact.settlement.gross_florins)
    return f"{fact.settlement.outcome.value}, {paid} FLOP, {'for good' if fact.closed else 'seen on the chain'}"
