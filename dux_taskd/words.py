"""What happened to a task, in sentences that people read. Pure."""

from __future__ import annotations

from common.contracts.escrow_views import Settlement
from common.receipts import Outcome
from common.units import format_flop
from dux_taskd.model import (
    Advanced,
    CancelWanted,
    Delivered,
    DisputeSeen,
    Fact,
    FoundFaulty,
    JudgeLeg,
    KeyShown,
    LegKind,
    LegState,
    Opened,
    Proposed,
    RanAgain,
    Refused,
    SpendSeen,
    Task,
)

WHO = {LegKind.MAIN: "the seller", LegKind.CHECK: "the second worker"}
WHAT = {LegKind.MAIN: "the result", LegKind.CHECK: "the check"}


def ordered(task: Task) -> str:
    """The first line of a buyer's task."""
    main = next(plan for plan in task.spare if plan.kind is LegKind.MAIN)
    check = next((plan for plan in task.spare if plan.kind is LegKind.CHECK), None)
    extra = f", and a second worker's check for {format_flop(check.price_florins)} FLOP" if check else ""
    return f"the buyer orders one call of service {main.service_id} for {format_flop(main.price_florins)} FLOP{extra}"


def judged(task: Task, order: JudgeLeg) -> str:
    """A judgement of the buyer."""
    word = "good" if order.good else "bad"
    return f"{WHAT[task.legs[order.leg].plan.kind]} is judged {word}: {order.reason}"


def sentence(task: Task, fact: Fact) -> str:
    """What a fact says to the task's owner."""
    if isinstance(fact, CancelWanted):
        return "the owner asks for the end of the task"
    if isinstance(fact, RanAgain):
        found = fact.rerun.output_hash.hex()[:16]
        return f"this node runs the job itself and gets {found}…" if found else f"no own run: {fact.rerun.reason}"
    plan = task.legs[fact.leg].plan
    if isinstance(fact, Proposed):
        return f"the buyer offers {WHO[plan.kind]} {format_flop(plan.price_florins)} FLOP ({plan.worker})"
    return _of_leg(WHO[plan.kind], WHAT[plan.kind], fact)


def _of_leg(who: str, what: str, fact: Fact) -> str:  # noqa: PLR0911 - one line for each fact reads as a table
    match fact:
        case Refused():
            return f"there is no contract with {who}: {fact.reason}"
        case Advanced():
            return f"{who}'s contract is {'funded: work begins' if _runs(fact) else 'signed by all'}"
        case Delivered():
            return f"{who} has delivered {what}, encrypted and fixed by a commitment"
        case KeyShown():
            return f"{who} has shown the key of {what}"
        case Opened():
            return f"{what} opens as committed, with output hash {fact.output_hash.hex()[:16]}…"
        case FoundFaulty():
            return f"{what} is not what {who} committed to: {fact.reason}"
        case DisputeSeen():
            return f"the arbiters are asked about {what}: {fact.reason}"
        case SpendSeen():
            return _of_spend(who, what, fact)
    return type(fact).__name__


def _runs(fact: Advanced) -> bool:
    return fact.state is LegState.RUNNING


def _of_spend(who: str, what: str, fact: SpendSeen) -> str:
    if fact.settlement is None:
        return f"the payment for {what} has left the chain again"
    certainty = "for good" if fact.closed else "as the chain shows so far"
    return f"{settled(who, what, fact.settlement)}, {certainty}"


def settled(who: str, what: str, settlement: Settlement) -> str:
    """How a contract ended."""
    paid = format_flop(settlement.gross_florins)
    return {
        Outcome.RELEASED: f"{paid} FLOP are paid for {what}",
        Outcome.AWARDED: f"the arbiters award {who} {paid} FLOP"
        if settlement.gross_florins
        else f"the arbiters award {who} nothing: the buyer is repaid",
        Outcome.REFUNDED: "the buyer has taken all coins back after the contract's last height",
        Outcome.CANCELLED: "both agreed to end: all coins go back to the buyer",
    }[settlement.outcome]
