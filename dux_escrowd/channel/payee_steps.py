"""What the payee's rows ask and change. Pure. Source: channel_protocol.md §3 to §6."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from common.channel_messages import Outcome
from dux_escrowd.channel import facts as f
from dux_escrowd.channel.model import (
    AT_WORK,
    ENDED,
    Call,
    CallState,
    Closing,
    Payee,
    PayeeState,
    SpendKind,
    call_of,
    the_call,
    with_call,
)
from dux_escrowd.channel.orders import Reason
from dux_escrowd.channel.receipts import acknowledged, adopted, says_less, word_taken_back

V = TypeVar("V", bound=f.Fact)
CUMS_MAX = 256  # vouchers kept for one coin: twice what calls that nobody acknowledged can bring

# --- guards -----------------------------------------------------------------------------------------------------------


def may_open(_payee: Payee, fact: f.OpenAsked) -> bool:
    """Terms, limits and work stamp are in order."""
    return not fact.problem


def same_outpoint(payee: Payee, fact: f.CoinSeen) -> bool:
    """The coin is back where it was: what was signed for it holds again."""
    return payee.coin is None and fact.coin.outpoint == payee.outpoint


def holds_for_it(payee: Payee, _fact: f.CoinSeen) -> bool:
    """W > 0: vouchers are stored."""
    return payee.held_florins > 0


def known_call(payee: Payee, fact: f.VoucherCame) -> bool:
    """The number and the oid are those of one known call, and it asked for the same."""
    known = _known(payee, fact)
    return len(known) == 1 and (known[0].j, known[0].oid, known[0].req) == (fact.j, fact.oid, fact.req)


def conflicting(payee: Payee, fact: f.VoucherCame) -> bool:
    """The number or the oid is taken by another request, in the session that is live: only that proves a fault."""
    return in_session(payee, fact) and any(call.req != fact.req for call in _known(payee, fact))


def taken_otherwise(payee: Payee, fact: f.VoucherCame) -> bool:
    """The number or the oid is taken; an honest payer that lost its books may do that, and a hello tells it."""
    return bool(_known(payee, fact))


def _known(payee: Payee, fact: f.VoucherCame) -> list[Call]:
    found = [call for call in payee.calls if call.j == fact.j or call.oid == fact.oid]
    return found if fact.archived is None else [*found, fact.archived]


def is_running(payee: Payee, fact: f.VoucherCame) -> bool:
    """The call is at its handler."""
    call = call_of(payee.calls, fact.j)
    return call is not None and call.state is CallState.RUNNING


def is_admitted(payee: Payee, fact: f.VoucherCame) -> bool:
    """The call was admitted and never started: a crash came between."""
    call = call_of(payee.calls, fact.j)
    return call is not None and call.state is CallState.ADMITTED


def is_stored(payee: Payee, fact: f.VoucherCame) -> bool:
    """The call's answer is stored."""
    return call_of(payee.calls, fact.j) is not None


def raises_limit(payee: Payee, fact: f.VoucherCame) -> bool:
    """More fuel for a running call, in the live session, for this coin, and within it."""
    return wants_more(payee, fact) and in_session(payee, fact)


def wants_more(payee: Payee, fact: f.VoucherCame) -> bool:
    """The running call may cost more than so far, says the payer."""
    return fact.price_max_florins > the_call(payee.calls, fact.j).price_max_florins


def for_this_coin(payee: Payee, fact: f.VoucherCame | f.FinalCame) -> bool:
    """The coin part is for the coin that is there."""
    return payee.coin is not None and fact.outpoint == payee.coin.outpoint


def within_coin(payee: Payee, fact: f.VoucherCame | f.FinalCame) -> bool:
    """The coin carries it."""
    return payee.rules.first_min_florins <= fact.cum_florins <= payee.usable_florins


def before_zone(payee: Payee, fact: f.Fact) -> bool:
    """The closing zone is not reached."""
    return fact.at < payee.rules.exp - payee.rules.zone


def in_session(payee: Payee, fact: f.VoucherCame) -> bool:
    """It belongs to the session that is live."""
    return payee.session != b"" and fact.session == payee.session


def unknown_number(payee: Payee, fact: f.VoucherCame) -> bool:
    """The number is beyond what the payer has acknowledged."""
    return payee.receipt.low <= fact.j < payee.receipt.low + payee.rules.calls_kept


def why_not(payee: Payee, fact: f.VoucherCame) -> Reason | None:
    """Why a call that fits in every other way is not admitted now; the voucher counts already."""
    raised = raise_held(payee, fact)
    owed = raised.owed_florins
    reasons = (
        (before_zone(payee, fact), Reason.CLOSING),
        (in_session(payee, fact), Reason.RESYNC),
        (unknown_number(raised, fact), Reason.RESYNC),
        (fact.offer_valid and fact.price_florins <= fact.price_max_florins, Reason.OFFER_EXPIRED),
        (payee.at_work < payee.rules.window and fact.fresh, Reason.BUSY),
        (raised.held_florins - owed >= fact.price_florins, Reason.NEED_FUNDS),
        (owed + fact.price_florins <= payee.cap_florins(fact.at), Reason.DEPTH),
    )
    return next((reason for holds, reason in reasons if not holds), None)


def admissible(payee: Payee, fact: f.VoucherCame) -> bool:
    """Every guard of the call part holds."""
    return why_not(payee, fact) is None


def starts(payee: Payee, fact: f.RunStarted) -> bool:
    """The call was admitted and did not start yet."""
    call = call_of(payee.calls, fact.j)
    return call is not None and call.state is CallState.ADMITTED


def ends(payee: Payee, fact: f.HandlerDone) -> bool:
    """The call runs, and costs no more than was allowed; one that counts no more is not answered with a result."""
    call = call_of(payee.calls, fact.j)
    good = fact.outcome is Outcome.OK
    if call is None or call.state not in AT_WORK or (good and not payee.counts(call)):
        return False
    return 0 <= fact.charged_florins <= (call.price_max_florins if good else 0)


def charge_is_held(payee: Payee, fact: f.HandlerDone) -> bool:
    """The last charge is covered by what was paid."""
    call = the_call(payee.calls, fact.j)
    more = fact.charged_florins - call.price_florins
    return more <= 0 or payee.held_florins - payee.owed_florins >= more


def chunk_covered(payee: Payee, fact: f.ChunkWanted) -> bool:
    """The call runs, and W - S covers the meter; within the cap of the coin's depth."""
    call = call_of(payee.calls, fact.j)
    if call is None or call.state is not CallState.RUNNING or not payee.counts(call):
        return False
    owed = payee.owed_florins - call.price_florins + fact.price_florins
    return (
        call.price_florins <= fact.price_florins <= call.price_max_florins
        and owed <= payee.held_florins
        and owed <= payee.cap_florins(fact.at)
    )


def chunk_of_running(payee: Payee, fact: f.ChunkWanted) -> bool:
    """The call runs; the meter is not covered."""
    call = call_of(payee.calls, fact.j)
    return call is not None and call.state is CallState.RUNNING


def something_held(payee: Payee, _fact: f.Fact) -> bool:
    """W > 0 on the coin that is there."""
    return payee.held_florins > 0 and payee.coin is not None


def was_decided(payee: Payee, _fact: f.Clock) -> bool:
    """The close is one that these books know; a watcher's, or one of a lost copy, is not repeated from here."""
    return payee.closing is not None and payee.coin is not None


def past_zone(payee: Payee, fact: f.Fact) -> bool:
    """The closing zone is reached."""
    return not before_zone(payee, fact)


def due_to_close(payee: Payee, fact: f.Clock) -> bool:
    """The first of: the closing zone, a long idleness, the own limit."""
    idle = fact.at - payee.used_at >= payee.rules.idle and not payee.at_work
    return past_zone(payee, fact) or idle or payee.held_florins >= payee.rules.limit_florins


def offer_over(payee: Payee, fact: f.Clock) -> bool:
    """Nobody funded it in time."""
    return fact.at - payee.offered_at >= payee.rules.fund or past_zone(payee, fact)


def deep_enough(payee: Payee, fact: f.Clock) -> bool:
    """The coin lies as deep as the second step of the caps."""
    return payee.coin is not None and payee.coin.depth(fact.at) >= payee.rules.caps[1].depth


def more_fee_due(payee: Payee, fact: f.Clock) -> bool:
    """The close is not in a block after a step."""
    return payee.acted_at is None or fact.at - payee.acted_at >= payee.rules.step


def last_state_fits(payee: Payee, fact: f.FinalCame) -> bool:
    """Nothing is at work, and the last state pays all that is owed."""
    return not payee.at_work and payee.owed_florins <= fact.cum_florins <= payee.usable_florins


def placed(payee: Payee, fact: f.Mirrored) -> bool:
    """The copy is of a voucher that was stored."""
    return payee.mirrored_florins <= fact.cum_florins <= payee.held_florins


# --- changes ----------------------------------------------------------------------------------------------------------


def offer(payee: Payee, fact: f.OpenAsked) -> Payee:
    """The terms are signed; nothing is watched yet."""
    return replace(payee, offered_at=fact.at)


def rest_on(payee: Payee, fact: f.CoinSeen) -> Payee:
    """The channel rests on this coin; vouchers for another are worth nothing on it."""
    kept = payee.cums if fact.coin.outpoint == payee.outpoint else ()
    return replace(payee, coin=fact.coin, outpoint=fact.coin.outpoint, cums=kept, used_at=fact.at)


def end_session(payee: Payee, _fact: f.Fact) -> Payee:
    """Only a hello begins the next one."""
    return replace(payee, session=b"")


def restart(payee: Payee, fact: f.Started) -> Payee:
    """After every start: what was at work is credited, or run again where the handler can bear it and time allows.

    A metered call of which parts have left goes on: its program may live, and what was delivered is not given away.
    """
    again = payee.rules.rerun and before_zone(payee, fact)
    state = CallState.ADMITTED if again else CallState.FAILED
    calls = tuple(
        replace(call, state=state, price_florins=call.price_florins if again else 0)
        if _is_cut(call, again=again)
        else call
        for call in payee.calls
    )
    return replace(end_session(payee, fact), calls=calls)


def _is_cut(call: Call, *, again: bool) -> bool:
    """A start of the daemon ends it."""
    return call.state in AT_WORK and (again or not call.sent_florins)


def begin_session(payee: Payee, fact: f.HelloCame) -> Payee:
    """A new session; the payer's head and receipt bring back what was lost here."""
    raised = _hold(payee, fact.head_florins) if _head_counts(payee, fact) else payee
    took = adopted(raised, fact.receipt)
    word = replace(took.word, lapsed=says_less(took, fact.receipt))
    return replace(took, session=fact.session, word=word, used_at=fact.at)


def _head_counts(payee: Payee, fact: f.HelloCame) -> bool:
    mine = payee.coin is not None and fact.outpoint == payee.coin.outpoint
    return mine and payee.rules.first_min_florins <= fact.head_florins <= payee.usable_florins


def _hold(payee: Payee, cum_florins: int) -> Payee:
    """W = max(W, cum): what may still be the smallest voucher to cover S is kept, by amount, as far as it fits."""
    cums = sorted({*payee.cums, cum_florins})
    needed = max((cum for cum in cums if cum <= payee.earned_florins), default=0)
    return replace(payee, cums=_thinned(tuple(cum for cum in cums if cum >= needed)))


def _thinned(cums: tuple[int, ...]) -> tuple[int, ...]:
    """So many amounts at most, W and the smallest among them: a payer that signs many wins nothing but a coarser close.

    Those go whose neighbours lie closest.
    """
    while len(cums) > CUMS_MAX:
        at = min(range(1, len(cums) - 1), key=lambda at: cums[at + 1] - cums[at - 1])
        cums = (*cums[:at], *cums[at + 1 :])
    return cums


def raise_held(payee: Payee, fact: f.VoucherCame) -> Payee:
    """W and the payer's receipt, whatever becomes of the call; out of the coin's bounds, nothing."""
    if not (for_this_coin(payee, fact) and within_coin(payee, fact)):
        return payee
    held = _hold(payee, fact.cum_florins)
    if payee.word.lapsed and in_session(payee, fact):  # only the session that the payer took says how it stands now
        held = word_taken_back(held, fact.receipt)
    return acknowledged(held, fact.receipt)


def admit(payee: Payee, fact: f.VoucherCame) -> Payee:
    """The call counts from now on."""
    raised = raise_held(payee, fact)
    call = Call(
        j=fact.j, oid=fact.oid, req=fact.req, state=CallState.ADMITTED,
        price_max_florins=fact.price_max_florins, price_florins=fact.price_florins,
    )  # fmt: skip
    return replace(raised, calls=with_call(raised.calls, call), used_at=fact.at)


def add_fuel(payee: Payee, fact: f.VoucherCame) -> Payee:
    """The running call may go on to a higher price."""
    raised = raise_held(payee, fact)
    more = replace(the_call(raised.calls, fact.j), price_max_florins=fact.price_max_florins)
    return replace(raised, calls=with_call(raised.calls, more))


def run(payee: Payee, fact: f.RunStarted) -> Payee:
    """From here on a crash credits it."""
    running = replace(the_call(payee.calls, fact.j), state=CallState.RUNNING)
    return replace(payee, calls=with_call(payee.calls, running))


def finish(payee: Payee, fact: f.HandlerDone) -> Payee:
    """Its answer is stored; a failed call counts no more."""
    call = the_call(payee.calls, fact.j)
    ended = replace(call, state=ENDED[fact.outcome], price_florins=fact.charged_florins, resp=fact.resp)
    return replace(payee, calls=with_call(payee.calls, ended), used_at=fact.at)


def meter(payee: Payee, fact: f.ChunkWanted) -> Payee:
    """The call costs so much by now."""
    metered = replace(the_call(payee.calls, fact.j), price_florins=fact.price_florins, sent_florins=fact.price_florins)
    return replace(payee, calls=with_call(payee.calls, metered))


def mirror(payee: Payee, fact: f.Mirrored) -> Payee:
    """So much would survive the loss of this machine."""
    owed = max(payee.copied_florins, fact.owed_florins)
    return replace(payee, mirrored_florins=fact.cum_florins, copied_florins=owed)


def take_copy(payee: Payee, fact: f.CopyCame) -> Payee:
    """The books of the copy in place of older ones; what was signed for another coin than is seen waits for its own."""
    same = payee.coin is not None and payee.coin.outpoint == fact.copy.outpoint
    return replace(fact.copy, coin=payee.coin if same else None)


def close_now(payee: Payee, fact: f.Fact) -> Payee:
    """The smallest stored voucher that covers S: surplus goes back without anybody's asking."""
    cum = next((cum for cum in payee.cums if cum >= payee.owed_florins), payee.held_florins)
    return replace(payee, closing=Closing(cum), acted_at=fact.at, steps=0, session=b"")


def close_returned(payee: Payee, fact: f.CoinSeen) -> Payee:
    """The coin is back when nothing may be waited for any more."""
    return close_now(rest_on(payee, fact), fact)


def close_finally(payee: Payee, fact: f.FinalCame) -> Payee:
    """The last state as the payer signed it."""
    closing = Closing(fact.cum_florins, final=True, next_script=fact.next_script)
    return replace(payee, closing=closing, acted_at=fact.at, steps=0, session=b"")


def more_fee(payee: Payee, fact: f.Clock) -> Payee:
    """One more step of the fee."""
    return replace(payee, acted_at=fact.at, steps=payee.steps + 1)


def acted(payee: Payee, fact: f.Fact) -> Payee:
    """Handed to the chain once more."""
    return replace(payee, acted_at=fact.at)


# --- goals ------------------------------------------------------------------------------------------------------------


def open_by_depth(_before: Payee, after: Payee, fact: f.CoinSeen) -> PayeeState:
    """OPEN from the second step of the caps on."""
    deep = after.coin is not None and after.coin.depth(fact.at) >= after.rules.caps[1].depth
    return PayeeState.OPEN if deep else PayeeState.OPEN_SEEN


def covered_again(_before: Payee, after: Payee, _fact: f.Fact) -> PayeeState:
    """SUSPENDED until W reaches S."""
    rests = after.coin is not None and after.held_florins >= after.owed_florins
    return PayeeState.OPEN_SEEN if rests else PayeeState.SUSPENDED


def greeted(before: Payee, after: Payee, _fact: f.HelloCame) -> PayeeState:
    """A hello whose head covers S on a new coin ends the suspension."""
    rests = after.coin is not None and after.held_florins >= after.owed_florins
    return PayeeState.OPEN_SEEN if before.state is PayeeState.SUSPENDED and rests else PayeeState(before.state)


def seen_as(_before: Payee, after: Payee, _fact: f.SpendSeen) -> PayeeState:
    """CLOSE_SEEN, or LOST to a refund."""
    refunded = after.spend is not None and after.spend.kind is SpendKind.REFUND
    return PayeeState.LOST if refunded else PayeeState.CLOSE_SEEN
