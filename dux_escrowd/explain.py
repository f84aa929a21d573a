"""Why a contract stands where it stands, and what happens next: sentences for people.

Pure. Promise: every sentence follows from the lot and its history; heights are named, so that a reader can compare them
with the tip. Amounts are written in FLOP.
"""

from __future__ import annotations

from common.units import format_flop
from dux_escrowd.facts import Clock, Fact
from dux_escrowd.model import Exit, Lot, Role, State
from dux_escrowd.voting import revealed

NEXT: dict[State, str] = {
    State.DRAFT: "The other party has to sign the terms.",
    State.DRAWING: "Arbiters have to accept their seats, and everybody has to sign READY by height {fund_by}.",
    State.AGREED: "The buyer's wallet pays {lot} FLOP to the contract; it must be in a block by height {fund_by}.",
    State.VOID: "Nothing is locked. A coin that still comes counts with LATE_OK, or the buyer takes it from {timeout}.",
    State.FUNDED_SEEN: "The coin has to lie {depth} blocks deep before anybody works.",
    State.FUNDED: "The seller has to deliver by height {deliver_by}; after that the buyer asks the arbiters by itself.",
    State.STRAY: "This coin came too late: it counts with LATE_OK, or goes back by a cancel, or from {timeout}.",
    State.DELIVERED: "The key comes when {needed} arbiters stand by; at height {dispute_by} the seller asks them.",
    State.REVEALED: "The buyer has to judge; at height {dispute_by} the seller asks the arbiters by itself.",
    State.RELEASE_SENT: "The seller has to broadcast the payment; silence ends with a dispute or at height {timeout}.",
    State.RELEASE_SIGNED: "The payment is on its way to the chain; by height {vote_by}, or K stays hidden.",
    State.CANCEL_SIGNED: "The repayment is on its way to the chain.",
    State.DISPUTED: "The other side answers by height {answer_by}; then the arbiters vote.",
    State.ANSWERED: "Arbiters commit by {commit_by}, reveal by {reveal_by} and sign by height {vote_by}.",
    State.AWARD_SIGNED: "The winner completes the award; if it does not, the buyer may take a refund from {timeout}.",
    State.REFUND_SENT: "The refund is on its way to the chain.",
    State.RELEASE_SEEN: "The payment was seen; it is final {depth} blocks deep.",
    State.CANCEL_SEEN: "The repayment was seen; it is final {depth} blocks deep.",
    State.AWARD_SEEN: "The award was seen; it is final {depth} blocks deep.",
    State.REFUND_SEEN: "The refund was seen; it is final {depth} blocks deep.",
    State.CLOSED: "Nothing: it is settled.",
}
ENDED = {
    Exit.RELEASE: "buyer and seller agreed to pay {gross} FLOP",
    Exit.CANCEL: "both agreed to give everything back",
    Exit.AWARD: "the arbiters awarded the seller {gross} FLOP",
    Exit.REFUND: "the buyer took everything back after T",
}


def explain(lot: Lot, history: list[tuple[Fact, State, int]], reason: str) -> tuple[str, ...]:
    """What happened, in order, and what comes next. `history`: facts with the state each led to and its Unix ms."""
    lines = [_head(lot)]
    before = State.DRAFT
    for fact, state, _at_ms in history:
        if state is not before:
            lines.append(f"At height {fact.at}: {before.value} → {state.value} because of {_words(fact)}.")
        before = state
    lines += _dispute(lot, reason)
    if lot.spend is not None:
        how = ENDED[lot.spend.exit].format(gross=format_flop(lot.spend.gross_florins))
        where = f"in block {lot.spend.height}" if lot.spend.height is not None else "not in a block yet"
        lines.append(f"Spent by {lot.spend.txid} ({where}): {how}.")
    return (*lines, f"Next: {_next(lot)}")


def _head(lot: Lot) -> str:
    price, reserve = lot.deal.price_florins, lot.deal.lot_florins - lot.deal.price_florins
    return (
        f"{lot.state.value}: this node is the {lot.role.value}; price {format_flop(price)} FLOP and a reserve of "
        f"{format_flop(reserve)} FLOP for {lot.deal.seats} arbiters, {lot.deal.arbiters_needed} of whom decide."
    )


def _words(fact: Fact) -> str:
    if isinstance(fact, Clock):
        return "the height"
    name = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in type(fact).__name__).strip()
    by = getattr(fact, "by", None)
    return f"{name} by {by}" if by else name


def _dispute(lot: Lot, reason: str) -> list[str]:
    if lot.disputed_by is None:
        return []
    lines = [f"{lot.disputed_by} asked the arbiters at height {lot.disputed_at}: {reason or 'no reason given'}."]
    if lot.role is Role.ARBITER and lot.vote_florins is not None:
        lines.append(f"This node voted for {format_flop(lot.vote_florins)} FLOP.")
    if revealed(lot):
        lines.append(f"{len(revealed(lot))} of {lot.deal.seats} votes are revealed.")
    return lines


def _next(lot: Lot) -> str:
    heights = lot.deal.heights
    return NEXT[lot.state].format(
        lot=format_flop(lot.deal.lot_florins), depth=lot.deal.depth_blocks, needed=lot.deal.arbiters_needed,
        fund_by=heights.fund_by, deliver_by=heights.deliver_by, dispute_by=heights.dispute_by,
        answer_by=heights.answer_by, commit_by=heights.commit_by, reveal_by=heights.reveal_by,
        vote_by=heights.vote_by, timeout=heights.timeout,
    )  # fmt: skip
