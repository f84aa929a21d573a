"""What the payer's rows ask, change and order. Pure. Source: channel_protocol.md §3 to §6."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from common.channel_messages import ACK_FLAGS, Outcome
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel.model import (
    ENDED,
    IN_FLIGHT,
    OUTCOME_OF,
    Call,
    CallState,
    Payer,
    PayerState,
    SpendKind,
    call_of,
    the_call,
    with_call,
)
from dux_escrowd.channel.onchain import advanced

# --- guards -----------------------------------------------------------------------------------------------------------


def script_equal(_payer: Payer, fact: f.OpenOk) -> bool:
    """The payee signed the script that was rebuilt here."""
    return fact.same


def session_live(payer: Payer, _fact: f.Fact) -> bool:
    """The payee has begun a session."""
    return payer.session != b""


def window_free(payer: Payer, _fact: f.CallWanted) -> bool:
    """Fewer than w calls in flight, and not too many unacknowledged."""
    waiting = payer.j + 1 - payer.receipt.low
    return len(payer.in_flight) < payer.rules.window and waiting < payer.rules.calls_kept


def before_margin(payer: Payer, fact: f.Fact) -> bool:
    """The payee still has time to close."""
    return fact.at < payer.rules.exp - payer.rules.margin


def past_margin(payer: Payer, fact: f.Fact) -> bool:
    """Calls end here."""
    return not before_margin(payer, fact)


def offer_valid(_payer: Payer, fact: f.CallWanted) -> bool:
    """The offer's height is not over."""
    return fact.at <= fact.offer_valid_to


def new_oid(payer: Payer, fact: f.CallWanted) -> bool:
    """No call that is remembered here has this oid."""
    return all(call.oid != fact.oid for call in payer.calls)


def affordable(payer: Payer, fact: f.CallWanted) -> bool:
    """What is needed fits into the coin."""
    return fact.price_max_florins > 0 and cum_with(payer, fact.price_max_florins) <= payer.usable_florins


def fuel_fits(payer: Payer, fact: f.FuelWanted) -> bool:
    """The call waits, its limit rises, and the coin covers it."""
    call = call_of(payer.calls, fact.j)
    if call is None or call.state is not CallState.SENT_MAYBE or fact.price_max_florins <= call.price_max_florins:
        return False
    return cum_with(payer, fact.price_max_florins - call.price_max_florins) <= payer.usable_florins


def answers_in_flight(payer: Payer, fact: f.AnswerCame) -> bool:
    """The answer is to a call that waits, to what was asked, and charges no more than was allowed."""
    call = call_of(payer.calls, fact.j)
    if call is None or call.state not in IN_FLIGHT or call.req != fact.req:
        return False
    free = fact.outcome is not Outcome.OK
    return 0 <= fact.charged_florins <= (0 if free else call.price_max_florins)


def answered_before(payer: Payer, fact: f.AnswerCame) -> bool:
    """The same answer came already."""
    call = call_of(payer.calls, fact.j)
    if call is None:
        return fact.j < payer.receipt.low
    return call.req == fact.req and OUTCOME_OF.get(call.state) is fact.outcome


def drops_in_flight(payer: Payer, fact: f.CallDropped) -> bool:
    """The call waits."""
    call = call_of(payer.calls, fact.j)
    return call is not None and call.state in IN_FLIGHT


def end_wanted(payer: Payer, _fact: f.Fact) -> bool:
    """The owner wants the end."""
    return payer.closing


def something_waits(payer: Payer, _fact: f.CloseWanted) -> bool:
    """A call waits for its answer, or was never sent: only the payee can tell which."""
    return bool(payer.in_flight)


def this_nonce(payer: Payer, fact: f.HelloBackCame) -> bool:
    """It answers the hello that was sent last."""
    return payer.nonce != b"" and payer.nonce == fact.nonce


def has_more(_payer: Payer, fact: f.HelloBackCame) -> bool:
    """The payee has more to show, and what it showed leads on."""
    return fact.more and bool(fact.calls)


def refundable(payer: Payer, fact: f.Clock) -> bool:
    """EXP is reached, the coin is there and nothing spends it."""
    return fact.at >= payer.rules.exp and payer.coin is not None and payer.spend is None


def step_due(payer: Payer, fact: f.Clock) -> bool:
    """What was handed to the chain did not get into a block for a step."""
    return payer.acted_at is None or fact.at - payer.acted_at >= payer.rules.step


# --- changes ----------------------------------------------------------------------------------------------------------


def cum_with(payer: Payer, more_florins: int) -> int:
    """The amount rule: never below what was signed, never above need."""
    return max(payer.cum_florins, payer.rules.first_min_florins, payer.need_florins + more_florins)


def hello(payer: Payer, fact: f.Started | f.CallDropped | f.CloseWanted) -> Payer:
    """No session until the payee answers."""
    return replace(payer, session=b"", nonce=fact.nonce)


def allocate(payer: Payer, fact: f.CallWanted) -> Payer:
    """The next number is this call's."""
    price = fact.price_max_florins
    state, at = CallState.SENT_MAYBE, payer.j + 1
    call = Call(j=at, oid=fact.oid, req=fact.req, state=state, price_max_florins=price, price_florins=price)
    return replace(payer, j=at, cum_florins=cum_with(payer, price), calls=(*payer.calls, call))


def fuel(payer: Payer, fact: f.FuelWanted) -> Payer:
    """The call may cost more."""
    call, price = the_call(payer.calls, fact.j), fact.price_max_florins
    cum = cum_with(payer, price - call.price_max_florins)
    raised = replace(call, price_max_florins=price, price_florins=price)
    return replace(payer, cum_florins=cum, calls=with_call(payer.calls, raised))


def receive(payer: Payer, fact: f.AnswerCame) -> Payer:
    """The call has ended; the receipt goes on over all that have."""
    ended = replace(
        the_call(payer.calls, fact.j), state=ENDED[fact.outcome], price_florins=fact.charged_florins, resp=fact.resp
    )
    return _acknowledged(replace(payer, calls=with_call(payer.calls, ended)))


def _acknowledged(payer: Payer) -> Payer:
    upto = payer.j + 1
    waiting = [call.j for call in payer.calls if call.state in IN_FLIGHT]
    receipt = advanced(payer.receipt, payer.calls, min(waiting, default=upto))
    calls = tuple(call for call in payer.calls if call.j >= receipt.low)
    bits = sum(
        1 << (call.j - receipt.low)
        for call in calls
        if call.state not in IN_FLIGHT and call.j - receipt.low < ACK_FLAGS
    )
    return replace(payer, calls=calls, receipt=replace(receipt, bits=bits))


def drop(payer: Payer, fact: f.CallDropped) -> Payer:
    """The caller wants it no more; only a new session can tell whether it was run."""
    dropping = replace(the_call(payer.calls, fact.j), state=CallState.DROPPING)
    return hello(replace(payer, calls=with_call(payer.calls, dropping)), fact)


def learn(payer: Payer, fact: f.HelloBackCame) -> Payer:
    """What the payee shows by this payer's own signatures is true, whatever was forgotten here."""
    top = max((shown.j for shown in fact.calls), default=0)
    cum = max([payer.cum_florins, fact.head_florins, *(shown.cum_florins for shown in fact.calls)])
    learnt = replace(payer, cum_florins=cum, j=max(payer.j, top, fact.head_j))
    for shown in fact.calls:
        if shown.j >= payer.receipt.low:
            learnt = replace(learnt, calls=with_call(learnt.calls, _as_shown(call_of(learnt.calls, shown.j), shown)))
    return learnt


def _as_shown(known: Call | None, shown: f.Shown) -> Call:
    if known is not None and (known.state not in IN_FLIGHT or known.req != shown.req):
        return known  # its answer is held here already, or the payee shows another request under this number
    limit = shown.price_max_florins if known is None else max(shown.price_max_florins, known.price_max_florins)
    if shown.outcome is None:
        return known or _call(shown, CallState.SENT_MAYBE, limit, limit)
    charged = min(shown.charged_florins, limit) if shown.outcome is Outcome.OK else 0
    return _call(shown, ENDED[shown.outcome], limit, charged)


def _call(shown: f.Shown, state: CallState, limit: int, price: int) -> Call:
    return Call(
        j=shown.j, oid=shown.oid, req=shown.req, state=state,
        price_max_florins=limit, price_florins=price, resp=shown.resp or bytes(32),
    )  # fmt: skip


def learn_page(payer: Payer, fact: f.HelloBackCame) -> Payer:
    """One page of what the payee holds: what has ended on it is acknowledged, and the next one is asked for."""
    top = max(shown.j for shown in fact.calls)
    learnt = learn(payer, fact)
    waiting = [call.j for call in learnt.calls if call.state in IN_FLIGHT]
    receipt = advanced(learnt.receipt, learnt.calls, min([top + 1, *waiting]))
    calls = tuple(call for call in learnt.calls if call.j >= receipt.low)
    return replace(learnt, receipt=receipt, calls=calls, nonce=fact.next_nonce)


def resume(payer: Payer, fact: f.HelloBackCame) -> Payer:
    """The session is live; what was dropped and is unknown to the payee has never been, and never will be, run.

    Once the end is wanted no call goes out again, so whatever the payee does not know is dropped with it.
    """
    learnt = learn(payer, fact)
    known = {shown.j for shown in fact.calls}
    over = IN_FLIGHT if payer.closing else (CallState.DROPPING,)
    calls = tuple(
        replace(call, state=CallState.REFUSED, price_florins=0) if call.state in over and call.j not in known else call
        for call in learnt.calls
    )
    return _acknowledged(replace(learnt, calls=calls, session=fact.session, nonce=b""))


def begin_close(payer: Payer, fact: f.CloseWanted) -> Payer:
    """No new calls; the end is asked for once nothing waits."""
    return replace(payer, closing=True, next_script=fact.next_script, acted_at=fact.at)


def ask_what_waits(payer: Payer, fact: f.CloseWanted) -> Payer:
    """The same, after a hello that ends the session: no voucher that is still on its way can begin a call."""
    return hello(begin_close(payer, fact), fact)


def drain(payer: Payer, fact: f.Clock) -> Payer:
    """No new calls; the end is asked for now and again."""
    return replace(payer, closing=True, acted_at=fact.at)


def order_refund(payer: Payer, fact: f.Clock) -> Payer:
    """The refund is handed to the chain now."""
    return replace(payer, acted_at=fact.at, steps=0)


def climb(payer: Payer, fact: f.Clock) -> Payer:
    """The refund again, with more fee."""
    return replace(payer, acted_at=fact.at, steps=payer.steps + 1)


def abandon(payer: Payer, _fact: f.SpendDeep) -> Payer:
    """Nothing comes of what still waits."""
    calls = tuple(replace(call, state=CallState.ABANDONED) if call.state in IN_FLIGHT else call for call in payer.calls)
    return replace(payer, calls=calls)


# --- orders -----------------------------------------------------------------------------------------------------------


def fund(_before: Payer, _after: Payer, _fact: f.Fact) -> tuple[o.Order, ...]:
    """Pay the script."""
    return (o.Fund(),)


def withdraw(_before: Payer, _after: Payer, _fact: f.CloseWanted) -> tuple[o.Order, ...]:
    """Look whether the script was paid."""
    return (o.Withdraw(),)


def say_hello(_before: Payer, after: Payer, _fact: f.Fact) -> tuple[o.Order, ...]:
    """Ask for a session."""
    return (o.SendHello(nonce=after.nonce, cum_florins=after.cum_florins),)


def _voucher(payer: Payer, call: Call) -> o.SendVoucher:
    return o.SendVoucher(
        j=call.j, session=payer.session, cum_florins=payer.cum_florins, price_max_florins=call.price_max_florins
    )


def send_new(_before: Payer, after: Payer, _fact: f.Fact) -> tuple[o.Order, ...]:
    """The voucher of the call that was just allocated."""
    return (_voucher(after, after.calls[-1]),)


def send_fuel(_before: Payer, after: Payer, fact: f.FuelWanted) -> tuple[o.Order, ...]:
    """The call's voucher with its new limit."""
    return (_voucher(after, the_call(after.calls, fact.j)),)


def send_waiting(before: Payer, after: Payer, _fact: f.HelloBackCame) -> tuple[o.Order, ...]:
    """Calls in flight once more, under the new session; those that have ended or were dropped go to their callers."""
    again = tuple(
        _voucher(after, call)
        for call in after.calls
        if call.state is CallState.SENT_MAYBE and call_of(before.calls, call.j) is not None
    )
    ended = tuple(o.HandOver(j=call.j) for call in before.in_flight if not _waits(after, call.j))
    return (*ended, *again, *_final(after))


def _waits(payer: Payer, j: int) -> bool:
    call = call_of(payer.calls, j)
    return call is not None and call.state in IN_FLIGHT


def hand_over(_before: Payer, after: Payer, fact: f.AnswerCame) -> tuple[o.Order, ...]:
    """The caller's answer; the last one in DRAINING also asks for the end."""
    return (o.HandOver(j=fact.j), *_final(after))


def ask_close(_before: Payer, after: Payer, _fact: f.Fact) -> tuple[o.Order, ...]:
    """The last state, once nothing waits."""
    return _final(after)


def _final(payer: Payer) -> tuple[o.Order, ...]:
    if not payer.closing or payer.in_flight or payer.coin is None:
        return ()
    spent = payer.spent_florins
    cum = max(spent, payer.rules.first_min_florins) if spent else 0
    return (o.SendFinal(cum_florins=cum, next_script=payer.next_script),)


def refund(_before: Payer, after: Payer, _fact: f.Fact) -> tuple[o.Order, ...]:
    """Everything back."""
    return (o.Refund(step=after.steps),)


def tell(news: o.News) -> Callable[[Payer, Payer, f.Fact], tuple[o.Order, ...]]:
    """One piece of news."""

    def telling(_before: Payer, _after: Payer, _fact: f.Fact) -> tuple[o.Order, ...]:
        return (o.Tell(news=news),)

    return telling


def seen_as(_before: Payer, after: Payer, _fact: f.SpendSeen) -> PayerState:
    """…_SEEN by the way out."""
    refunded = after.spend is not None and after.spend.kind is SpendKind.REFUND
    return PayerState.REFUND_SEEN if refunded else PayerState.CLOSE_SEEN


def resumed(_before: Payer, after: Payer, fact: f.Fact) -> PayerState:
    """OPEN, or DRAINING once the end is wanted."""
    return PayerState.DRAINING if after.closing or past_margin(after, fact) else PayerState.OPEN
