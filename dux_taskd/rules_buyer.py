"""The buyer's decisions: (task, fact) -> (task, orders). Pure; everything else performs or stores.

Laws: every contract is judged at most once; good is said only of a result that was opened and that nobody's finding
contradicts; a worker's result is called bad only with evidence (it does not open, or this node's own run says
otherwise, or - where this node cannot run it - the second worker's hash differs). An unfit fact changes nothing.

Source: settled.md 20, mechanisms.md §4.1 and §4.3, escrow_protocol.md §8.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from common.contracts.task import TaskState
from common.receipts import Outcome
from dux_taskd.model import (
    Advanced,
    BuyerOrder,
    CancelLeg,
    CancelWanted,
    Delivered,
    DisputeSeen,
    Fact,
    FoundFaulty,
    JudgeLeg,
    KeyShown,
    Leg,
    LegKind,
    LegState,
    Opened,
    OpenResult,
    Propose,
    Proposed,
    RanAgain,
    Refused,
    RunAgain,
    SpendSeen,
    Task,
)

HAS_RESULT = frozenset((LegState.DELIVERED, LegState.CLOSED))
BEFORE_KEY = frozenset(
    (LegState.NEW, LegState.PROPOSED, LegState.AGREED, LegState.RUNNING, LegState.DELIVERED)
)  # nothing of the result can be read yet
OVER = frozenset((LegState.CLOSED, LegState.DEAD))


class Turn(NamedTuple):
    """What a decision leaves: the task as it is now, and what is to be done."""

    task: Task
    orders: tuple[BuyerOrder, ...]


def decide(task: Task, fact: Fact) -> Turn:
    """Take the fact, then go on as far as what is known allows."""
    return _go_on(_take(task, fact))


def begin(task: Task) -> Turn:
    """A new task proposes its first contract."""
    return _go_on(task)


# Taking facts ------------------------------------------------------------------------------------------------------


def _take(task: Task, fact: Fact) -> Task:
    if isinstance(fact, CancelWanted):
        return replace(task, cancelled=True, reason="the owner asked for the end")
    if isinstance(fact, RanAgain):  # the first counts: an order that a crash repeats may end otherwise
        return replace(task, rerun=task.rerun or fact.rerun)
    leg = task.legs[fact.leg]
    return _with_leg(task, _take_leg(leg, fact), reason=_told(fact) or task.reason)


def _take_leg(leg: Leg, fact: Fact) -> Leg:  # noqa: PLR0911 - one line for each fact reads as a table
    match fact:
        case Proposed() if leg.state is LegState.NEW:
            return replace(leg, state=LegState.PROPOSED, contract_id=fact.contract_id)
        case Refused() if leg.state in BEFORE_KEY:
            return replace(leg, state=LegState.DEAD, reason=fact.reason)
        case Advanced() if leg.state in BEFORE_KEY and not leg.commitment:  # what was delivered stays delivered
            return replace(leg, state=fact.state)
        case Delivered() if leg.state in BEFORE_KEY:
            return _delivered(leg, fact)
        case KeyShown() if leg.state in HAS_RESULT and not leg.content_key:
            return replace(leg, state=_unless_over(leg, LegState.REVEALED), content_key=fact.content_key)
        case Opened() if leg.content_key and not leg.output_hash and not leg.faulty:
            state = _unless_over(leg, LegState.OPENED)
            return replace(leg, state=state, output_hash=fact.output_hash, output_blob=fact.output_blob)
        case FoundFaulty() if leg.content_key and not leg.output_hash:
            return replace(leg, state=_unless_over(leg, LegState.FAULTY), faulty=True, reason=fact.reason)
        case DisputeSeen():
            return replace(leg, disputed=True, reason=fact.reason)
        case SpendSeen():
            return _spent(leg, fact)
    return leg


def _unless_over(leg: Leg, state: LegState) -> LegState:
    """An arbiter may show the key with its award, when the contract is over: the result is opened all the same."""
    return leg.state if leg.state in OVER else state


def _delivered(leg: Leg, fact: Delivered) -> Leg:
    return replace(
        leg,
        state=LegState.DELIVERED,
        ciphertext_blob=fact.ciphertext_blob,
        commitment=fact.commitment,
        work_receipt=fact.work_receipt,
        holders=fact.holders,
    )


def _spent(leg: Leg, fact: SpendSeen) -> Leg:
    """A spend in sight changes what is shown; only a closed one ends the leg, and a reorganisation opens it again."""
    if fact.closed:
        return replace(leg, state=LegState.CLOSED, settlement=fact.settlement)
    state = _state_before(leg) if leg.state is LegState.CLOSED else leg.state
    return replace(leg, state=state, settlement=fact.settlement)


def _state_before(leg: Leg) -> LegState:
    """Where a leg stood before it closed, read from what it holds."""
    if leg.output_hash:
        return LegState.OPENED
    if leg.content_key:
        return LegState.FAULTY if leg.faulty else LegState.REVEALED
    return LegState.DELIVERED if leg.commitment else LegState.RUNNING


def _told(fact: Fact) -> str:
    reason = getattr(fact, "reason", "")
    return reason if isinstance(reason, str) else ""


def _with_leg(task: Task, leg: Leg, *, reason: str = "") -> Task:
    legs = tuple(leg if one.number == leg.number else one for one in task.legs)
    return replace(task, legs=legs, reason=reason or task.reason)


# Going on ----------------------------------------------------------------------------------------------------------


def main_leg(task: Task) -> Leg | None:
    """The contract for the job itself that counts now: the last one."""
    return next((leg for leg in reversed(task.legs) if leg.plan.kind is LegKind.MAIN), None)


def check_leg(task: Task) -> Leg | None:
    """The second worker's contract that counts now: the last one."""
    return next((leg for leg in reversed(task.legs) if leg.plan.kind is LegKind.CHECK), None)


def _go_on(task: Task) -> Turn:
    """Repeat single steps until none is due. Each step uses something up, so this ends."""
    orders: tuple[BuyerOrder, ...] = ()
    while True:
        turn = _step(task)
        if turn is None:
            return Turn(task, orders)
        task, orders = turn.task, orders + turn.orders


def _step(task: Task) -> Turn | None:
    """The first step that is due."""
    for rule in (_cancel_legs, _open_results, _start_main, _start_check, _judge_faulty, _judge_opened, _run_again):
        turn = rule(task)
        if turn is not None:
            return turn
    return None


def _cancel_legs(task: Task) -> Turn | None:
    """The owner's wish goes to every contract that has not delivered; once each."""
    if not task.cancelled:
        return None
    for leg in task.legs:
        if leg.state in BEFORE_KEY and not leg.commitment and not leg.cancel_asked:
            order = CancelLeg(task_id=task.task_id, leg=leg.number)
            return Turn(_with_leg(task, replace(leg, cancel_asked=True)), (order,))
    return None


def _open_results(task: Task) -> Turn | None:
    """A shown key is used at once."""
    for leg in task.legs:
        if leg.content_key and not leg.open_asked:
            order = OpenResult(task_id=task.task_id, leg=leg.number)
            return Turn(_with_leg(task, replace(leg, open_asked=True)), (order,))
    return None


def _start_main(task: Task) -> Turn | None:
    """No contract for the job, or the last one gave nothing and cost nothing: the next service is asked."""
    leg = main_leg(task)
    if task.cancelled or (leg is not None and not gave_nothing(leg)):
        return None
    return _propose_next(task, LegKind.MAIN)


def gave_nothing(leg: Leg) -> bool:
    """True when a contract is over and nothing was paid: there was no result, or a bad one."""
    return leg.state in OVER and (leg.settlement is None or leg.settlement.gross_florins == 0)


def _start_check(task: Task) -> Turn | None:
    """The second worker is asked once the job is agreed; the next one when that one cannot answer any more."""
    main, check = main_leg(task), check_leg(task)
    if task.cancelled or main is None or main.good is not None or main.state in (LegState.NEW, LegState.PROPOSED):
        return None
    if main.state in OVER or main.state is LegState.FAULTY or (check is not None and not check_missing(check)):
        return None
    return None if check is not None and main.disputed else _propose_next(task, LegKind.CHECK)


def check_missing(check: Leg) -> bool:
    """True when no hash will come of this contract any more, or none in time."""
    if check.output_hash:
        return False
    return check.state in OVER or check.state is LegState.FAULTY or check.disputed


def _propose_next(task: Task, kind: LegKind) -> Turn | None:
    plan = next((plan for plan in task.spare if plan.kind is kind), None)
    if plan is None:
        return None
    spare = tuple(other for other in task.spare if other is not plan)
    leg = Leg(number=len(task.legs), plan=plan)
    order = Propose(task_id=task.task_id, leg=leg.number)
    return Turn(replace(task, legs=(*task.legs, leg), spare=spare), (order,))


def _judge_faulty(task: Task) -> Turn | None:
    """What does not open as promised is bad, whatever it was for."""
    for leg in task.legs:
        is_faulty = leg.state is LegState.FAULTY or (leg.faulty and paid_first(task, leg))
        if is_faulty and leg.good is None:
            return _judge(task, leg, good=False, reason=leg.reason)
    return None


def _judge_opened(task: Task) -> Turn | None:
    """Judge what was opened, as soon as enough is known: the job's result first, then the check."""
    main, check = main_leg(task), check_leg(task)
    if main is not None and _is_open(task, main) and main.good is None:
        verdict = _verdict_on_main(task, main, check)
        if verdict is not None:
            return _judge(task, main, good=verdict[0], reason=verdict[1])
    if check is not None and check.state is LegState.OPENED and check.good is None:
        verdict = _verdict_on_check(task, main, check)
        if verdict is not None:
            return _judge(task, check, good=verdict[0], reason=verdict[1])
    return None


def paid_first(task: Task, leg: Leg) -> bool:
    """Policy swap: the result's key comes with the payment, so that a judgement moves nothing any more.

    A disputed contract is judged all the same: the arbiters hear it.
    """
    return task.policy == "swap" and leg.plan.kind is LegKind.MAIN and not leg.disputed


def _is_open(task: Task, leg: Leg) -> bool:
    """Its result is here and may be judged; of one that was paid first, also when the contract is over by then."""
    return leg.state is LegState.OPENED or (bool(leg.output_hash) and paid_first(task, leg))


def _verdict_on_main(task: Task, main: Leg, check: Leg | None) -> tuple[bool, str] | None:
    """Good or bad with the reason, or None while something is still to come."""
    if task.rerun is not None and task.rerun.output_hash:
        same = task.rerun.output_hash == main.output_hash
        return same, "this node's own run gave the same" if same else "this node's own run gave something else"
    if check is not None and check.output_hash:
        if check.output_hash == main.output_hash:
            return True, "the second worker got the same"
        return (False, "the second worker got something else") if task.rerun is not None else None
    if check is None and (task.cancelled or not _check_wanted(task)):
        return True, "opened as committed; no check was asked for"
    if check is not None and check_missing(check) and task.rerun is not None:
        return True, "no second worker answered, and this node cannot run it: unchecked"
    return None


def _check_wanted(task: Task) -> bool:
    return any(plan.kind is LegKind.CHECK for plan in task.spare)


def _verdict_on_check(task: Task, main: Leg | None, check: Leg) -> tuple[bool, str] | None:
    if task.rerun is not None and task.rerun.output_hash:
        same = task.rerun.output_hash == check.output_hash
        return same, "this node's own run gave the same" if same else "this node's own run gave something else"
    if main is None or gave_nothing(main) or main.state is LegState.FAULTY:
        return True, "it answered; there is no result to compare it with"
    if main.output_hash == check.output_hash:
        return True, "it agrees with the result"
    return (True, "it was checked against nothing better") if main.good is False else None


def _judge(task: Task, leg: Leg, *, good: bool, reason: str) -> Turn:
    judged = _with_leg(task, replace(leg, good=good, reason=reason), reason=reason)
    if paid_first(task, leg):
        return Turn(judged, ())
    order = JudgeLeg(
        task_id=task.task_id, leg=leg.number, good=good, reason=reason, evidence=b"" if good else evidence(task, leg)
    )
    return Turn(judged, (order,))


def evidence(task: Task, leg: Leg) -> bytes:
    """What the arbiters are shown with a «bad»: the other worker's signed receipt, where there is one."""
    others = (other for other in task.legs if other.number != leg.number and other.output_hash)
    return next((other.work_receipt for other in others), b"")


def _run_again(task: Task) -> Turn | None:
    """Run the job here when the two differ, or when nobody else can say any more whether the result is right."""
    main, check = main_leg(task), check_leg(task)
    if task.rerun_asked or main is None or check is None or main.state is not LegState.OPENED or main.good is not None:
        return None
    differ = bool(check.output_hash) and check.output_hash != main.output_hash
    alone = check_missing(check) or (main.disputed and not check.output_hash)
    if not differ and not alone:
        return None
    return Turn(replace(task, rerun_asked=True), (RunAgain(task_id=task.task_id),))


# Reading a task ----------------------------------------------------------------------------------------------------


def is_over(task: Task) -> bool:
    """True when every contract of the task is over, none is being opened, and no further one is to be tried."""
    return bool(task.legs) and all(leg.state in OVER and not _opening(leg) for leg in task.legs) and not _step(task)


def _opening(leg: Leg) -> bool:
    return bool(leg.content_key) and not leg.output_hash and not leg.faulty


_STATE: dict[LegState, TaskState] = {
    LegState.NEW: TaskState.WAITING,
    LegState.PROPOSED: TaskState.PROPOSED,
    LegState.AGREED: TaskState.AGREED,
    LegState.RUNNING: TaskState.RUNNING,
    LegState.DELIVERED: TaskState.DELIVERED,
    LegState.REVEALED: TaskState.CHECKING,
    LegState.OPENED: TaskState.CHECKING,
    LegState.FAULTY: TaskState.CHECKING,
    LegState.CLOSED: TaskState.JUDGED,  # this contract is; the check's is not yet
    LegState.DEAD: TaskState.WAITING,
}


def state_of(task: Task) -> TaskState:
    """The one word that callers see."""
    main = main_leg(task)
    if main is None:
        return TaskState.WAITING
    if is_over(task):
        return _final_state(task, main)
    if main.disputed and main.state not in OVER:
        return TaskState.DISPUTED
    return TaskState.JUDGED if main.good is not None else _STATE[main.state]


def _final_state(task: Task, main: Leg) -> TaskState:
    settlement = main.settlement
    if settlement is None:
        return TaskState.CANCELLED if task.cancelled else TaskState.REFUSED
    if settlement.gross_florins > 0:
        return TaskState.PAID
    return TaskState.CANCELLED if settlement.outcome is Outcome.CANCELLED else TaskState.REFUNDED


def check_word(task: Task) -> str:
    """How the check fares: nothing, waiting, agreed, differs, missing."""
    main, check = main_leg(task), check_leg(task)
    if check is None:
        return "waiting" if _check_wanted(task) and not is_over(task) else ""
    if check_missing(check):
        return "missing"
    if not check.output_hash or main is None or not main.output_hash:
        return "missing" if is_over(task) else "waiting"
    return "agreed" if check.output_hash == main.output_hash else "differs"
