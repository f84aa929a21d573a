"""Channels in the words of people: what stands where, and what comes next. Pure."""

from __future__ import annotations

from common.chain.channel import usable
from common.contracts.channel import CallView, ChannelView
from common.units import Did, Florins, format_flop
from dux_escrowd.channel.model import Channel, Payee, PayeeState, Payer, PayerState, trusted_florins
from dux_escrowd.channel.shelf import Book, CallRow

NEXT = {
    PayerState.NEW: "the payee has not signed the terms yet",
    PayerState.FUND_SENT: "its funding waits for a block",
    PayerState.OPEN_SEEN: "a hello to the payee is not answered yet; then calls can go over it",
    PayerState.OPEN: "calls can go over it",
    PayerState.RESYNC: "a hello to the payee is not answered yet; no voucher leaves before",
    PayerState.DRAINING: "no new calls; the payee is asked to close, and from EXP on everything left comes back alone",
    PayerState.REFUND_SENT: "everything left is on its way back",
    PayerState.CLOSE_SEEN: "the payee's close was seen and waits for its depth",
    PayerState.REFUND_SEEN: "the refund was seen and waits for its depth",
    PayerState.CLOSED: "it has ended",
}
ENDED = (PayerState.CLOSED, PayeeState.CLOSED, PayeeState.LOST, PayeeState.ABANDONED)
BEFORE_CLOSE = (PayerState.FUND_SENT, PayerState.OPEN_SEEN, PayerState.RESYNC)
NEXT_PAYEE = {
    PayeeState.NEW: "the terms are not signed yet",
    PayeeState.OFFERED: "the payer has not funded it yet",
    PayeeState.OPEN_SEEN: "small calls are taken; more once the coin lies deeper",
    PayeeState.OPEN: "calls are taken",
    PayeeState.SUSPENDED: "its coin moved in a reorganisation; no calls until the payer has signed for the new one",
    PayeeState.CLOSE_SENT: "its close is on its way into a block",
    PayeeState.CLOSE_SEEN: "its close was seen and waits for its depth",
    PayeeState.CLOSED: "it has ended and was paid",
    PayeeState.LOST: "the payer's refund came first; what was owed is lost",
    PayeeState.ABANDONED: "it has ended, and nothing was paid",
}


def channel_view(book: Book, state: Channel, tip: int) -> ChannelView:
    """One channel."""
    coin = state.coin
    payer = isinstance(state, Payer)
    held, owed = _sums(state)
    return ChannelView(
        chid=book.chid,
        role="payer" if payer else "payee",
        other=Did(book.other),
        state=state.state.value,
        cap_florins=Florins(coin.value_florins) if coin else book.terms.cap_florins,
        usable_florins=usable(book.terms, coin.value_florins) if coin else Florins(0),
        trusted_florins=Florins(trusted_florins(coin, state.rules, tip)),
        held_florins=Florins(held),
        owed_florins=Florins(owed),
        exp=book.terms.exp,
        height=tip,
        depth=coin.depth(tip) if coin else 0,
        outpoint=coin.outpoint if coin else "",
        address=book.address,
        calls=_calls(state),
        in_flight=len(state.in_flight) if isinstance(state, Payer) else state.at_work,
        spend=state.spend.txid if state.spend else "",
        reason=book.reason,
        taken_florins=Florins(state.spend.cum_florins if state.spend else 0),
    )


def _sums(state: Channel) -> tuple[int, int]:
    if isinstance(state, Payer):
        return state.cum_florins, state.spent_florins
    return state.held_florins, state.owed_florins


def _calls(state: Channel) -> int:
    if isinstance(state, Payer):
        return state.j
    return max([state.receipt.low - 1, *(call.j for call in state.calls)])


def call_view(row: CallRow) -> CallView:
    """One call."""
    return CallView(
        j=row.j,
        oid=row.oid,
        state=row.call.state.value,
        price_max_florins=Florins(row.call.price_max_florins),
        price_florins=Florins(row.call.price_florins),
    )


def lines(book: Book, state: Channel, faults: int, placed: tuple[int, int] | None) -> tuple[str, ...]:
    """What stands where and what comes next, in sentences. `placed`: keepers of its newest copy, of how many asked."""
    keepers = placed if state.state not in ENDED else None
    copied = [f"its encrypted copy is kept by {keepers[0]} of {keepers[1]} nodes that were asked"] if keepers else []
    if isinstance(state, Payee):
        said = [NEXT_PAYEE[state.state], _worth(state), *copied]
    else:
        spent = f"{format_flop(state.spent_florins)} FLOP spent, the rest of the coin comes back"
        said = [NEXT[state.state], spent, *copied]
        if state.closing and state.state in BEFORE_CLOSE:
            said.append("its end is wanted: no calls any more, and it closes as soon as its coin is in a block")
    if faults:
        said.append(f"{faults} vouchers are kept that prove a fault of the payer")
    said.append(f"it can be taken back by the payer alone from height {book.terms.exp} on")
    return tuple(said)


def _worth(state: Payee) -> str:
    held, owed = format_flop(state.held_florins), format_flop(state.owed_florins)
    return f"{held} FLOP are held in vouchers, {owed} are owed for calls; five per cent go to the fund"
