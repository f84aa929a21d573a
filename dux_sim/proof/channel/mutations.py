"""Faults to plant into the channel's tables, and the case in which the walk must find each.

`a` to `e` are those of channel_protocol.md §9; the others are what this walk found in the product before it was mended,
and what a hand could forget. A walk that no longer finds one of them proves less than it says.
"""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any

import msgspec
from msgspec.structs import replace

from common.channel_messages import Outcome
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import onchain as c
from dux_escrowd.channel import orders as o
from dux_escrowd.channel import payee, payer
from dux_escrowd.channel import payee_orders as r
from dux_escrowd.channel import payee_steps as s
from dux_escrowd.channel import payer_steps as b
from dux_escrowd.channel.model import AT_WORK, CallState, Payee, PayeeState, Payer, PayerState, call_of, with_call
from dux_escrowd.channel.table import indexed, row
from dux_sim.proof.channel.cases import (
    LYING_PAYEE,
    LYING_PAYER,
    NOTHING,
    OLD_PAYEE,
    OLD_PAYER,
    ONE,
    TWO,
    WHIM,
    Case,
    case_of,
)
from dux_sim.proof.channel.cast import CHAIN, CRASHES, LATE, PAYEE, PAYER, UNIT, Left
from dux_sim.proof.channel.nodes import SOUND
from dux_sim.proof.channel.sight import Sight, coin_alone, first_alone, none_due
from dux_sim.proof.channel.walk import Walk
from dux_sim.proof.plant import Plant, Rows, altered, changes, dropped, forgets, instead, orders_less
from dux_sim.proof.search import Found

SEARCH_STATES_MAX = 150_000


class Mutation(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, whose table it is in, and where it is looked for."""

    name: str
    side: int
    plant: Plant
    case: Case
    sight: Sight = SOUND


def hunt(mutation: Mutation) -> Found | None:
    """The first law that the fault breaks, and how; None: it was not found."""
    tables = [payer.TABLE, payee.TABLE]
    rows = (payer.ROWS, payee.ROWS)[mutation.side]
    tables[mutation.side] = indexed(mutation.plant(rows))
    case = mutation.case
    walk = Walk(case.name, case.setting, case.left, tables=(tables[PAYER], tables[PAYEE]), sight=mutation.sight)
    told = walk.run(case.states_max, first_only=True)
    return told.violations[0] if told.violations else None


# --- of the payee's table ---------------------------------------------------------------------------------------------


def _last_value(rows: Rows) -> Rows:
    """Fault a: W is the last voucher, not the highest."""

    def lower(before: Payee, after: Payee, fact: f.VoucherCame) -> Payee:
        counts = s.for_this_coin(before, fact) and s.within_coin(before, fact)
        return replace(after, cums=(fact.cum_florins,)) if counts else after

    return changes(f.VoucherCame, s.raise_held, lower)(changes(f.VoucherCame, s.admit, lower)(rows))


def _any_session(channel: Payee, fact: f.VoucherCame) -> bool:
    return s.admissible(replace(channel, session=fact.session), fact)


def _any_height(channel: Payee, fact: f.VoucherCame) -> bool:
    return s.admissible(channel, replace(fact, at=min(fact.at, channel.rules.exp - channel.rules.zone - 1)))


def _without_funds(channel: Payee, fact: f.VoucherCame) -> bool:
    held = channel.usable_florins if s.for_this_coin(channel, fact) and s.within_coin(channel, fact) else 0
    return s.admissible(replace(channel, cums=(*channel.cums, held)) if held else channel, fact)


def _at_any_depth(channel: Payee, fact: f.VoucherCame) -> bool:
    deep = replace(channel.rules, caps=(changed_cap(channel),))
    return s.admissible(replace(channel, rules=deep), fact)


def changed_cap(channel: Payee) -> Any:
    """The cap of the deepest coin, from the first block on."""
    return replace(channel.rules.caps[-1], depth=1)


def _in_any_window(channel: Payee, fact: f.VoucherCame) -> bool:
    return s.admissible(replace(channel, rules=replace(channel.rules, window=99)), fact)


def _reruns(before: Payee, after: Payee, _fact: f.Started) -> Payee:
    """Fault e: what a crash found running is run again, whatever the handler can bear."""
    calls = tuple(
        replace(call, state=CallState.ADMITTED, price_florins=call.price_max_florins)
        if any(was.j == call.j and was.state in AT_WORK for was in before.calls)
        else call
        for call in after.calls
    )
    return replace(after, calls=calls)


def _forgets_crash(before: Payee, after: Payee, _fact: f.Started) -> Payee:
    return replace(after, calls=before.calls)


def _keeps_session(before: Payee, after: Payee, _fact: f.Started) -> Payee:
    return replace(after, session=before.session)


def _charges_failed(before: Payee, after: Payee, fact: f.HandlerDone) -> Payee:
    call, was = call_of(after.calls, fact.j), call_of(before.calls, fact.j)
    if call is None or was is None or fact.outcome is not Outcome.FAILED:
        return after
    return replace(
        after, calls=with_call(after.calls, replace(call, state=CallState.OK, price_florins=was.price_florins))
    )


def _closes_below(_before: Payee, after: Payee, _fact: f.Fact) -> Payee:
    closing = after.closing
    return after if closing is None else replace(after, closing=replace(closing, cum_florins=after.cums[0]))


def _keeps_vouchers(before: Payee, after: Payee, _fact: f.CoinSeen) -> Payee:
    return replace(after, cums=before.cums)


def _counts_any_coin(rows: Rows) -> Rows:
    """Where the coin part is for another coin, W rises all the same."""

    def hold(_before: Payee, after: Payee, fact: f.VoucherCame) -> Payee:
        return replace(after, cums=tuple(sorted({*after.cums, fact.cum_florins})))

    free = forgets(f.VoucherCame, s.for_this_coin)(rows)
    return changes(f.VoucherCame, s.raise_held, hold)(changes(f.VoucherCame, s.admit, hold)(free))


def _no_index(rows: Rows) -> Rows:
    """Neither the session nor the oid is looked at: fault c, second half."""
    free = instead(f.VoucherCame, s.admissible, _any_session)(rows)
    index = {s.known_call, s.conflicting, s.taken_otherwise}
    return altered(free, lambda line: line.fact is f.VoucherCame and bool(index & set(line.guards)), lambda _line: None)


def _forgets_below(before: Payee, after: Payee, fact: f.HelloCame) -> Payee:
    """A receipt's word is taken even where it says less than what is known here."""
    if fact.receipt.low <= before.receipt.low:
        return after
    return replace(after, settled_florins=fact.receipt.paid_florins)


def _counts_twice(before: Payee, after: Payee, _fact: f.HelloCame) -> Payee:
    """F8 as it was: what is at work counts, although the receipt has settled it."""
    twice = (call.price_florins for call in before.calls if call.state in AT_WORK and not after.counts(call))
    return replace(after, settled_florins=after.settled_florins + sum(twice))


def _pays_whatever(channel: Payee, fact: f.FinalCame) -> bool:
    return s.last_state_fits(channel, replace(fact, cum_florins=max(fact.cum_florins, channel.owed_florins)))


def _never_closes_again(rows: Rows) -> Rows:
    return altered(
        rows,
        lambda line: line.fact is f.Clock and bool({s.more_fee_due, c.rebroadcast_due} & set(line.guards)),
        lambda _line: None,
    )


def _frames(rows: Rows) -> Rows:
    """F7 as it was: a conflict is a proof, in whichever session it was said."""
    return altered(
        rows,
        lambda line: line.fact is f.VoucherCame and s.taken_otherwise in line.guards,
        lambda line: changed(line, orders=r.conflict),
    )


def _admitted_for_ever(before: Payee, after: Payee, _fact: f.Started) -> Payee:
    """As it was: what was admitted and never begun waits for a repeat that may never come."""
    kept = {call.j: call for call in before.calls if call.state is CallState.ADMITTED}
    return replace(after, calls=tuple(kept.get(call.j, call) for call in after.calls))


def _stays_suspended(before: Payee, _after: Payee, _fact: f.HelloCame) -> PayeeState:
    return before.state


def _no_way_back(rows: Rows) -> Rows:
    """As it was: a hello that covers S on a new coin does not end the suspension."""
    return altered(rows, lambda line: line.to is s.greeted, lambda line: changed(line, to=_stays_suspended))


def _at_its_word_for_ever(_before: Payee, after: Payee, _fact: f.HelloCame) -> Payee:
    """As it was: what an old disk took on the payer's word stands, although the payer has lost those books too."""
    return replace(after, word=replace(after.word, lapsed=False))


def _reruns_in_the_zone(before: Payee, after: Payee, fact: f.Started) -> Payee:
    """As it was: what a crash found at work is run again at any height."""
    if s.before_zone(before, fact):
        return after
    return replace(s.restart(before, replace(fact, at=0)), session=after.session)


# --- of the payer's table ---------------------------------------------------------------------------------------------


def _no_hello(rows: Rows) -> Rows:
    """Fault b: a start with a session on the disk goes on in it."""

    def has_session(channel: Payer, _fact: f.Started) -> bool:
        return channel.session != b""

    return (row(tuple(PayerState), f.Started, has_session, source="fault"), *rows)


def _adds_up(_before: Payer, after: Payer, fact: f.CallWanted) -> Payer:
    """Every call is paid on top, whatever credit there is."""
    return replace(after, cum_florins=_before.cum_florins + fact.price_max_florins)


def _learns_nothing(before: Payer, after: Payer, _fact: f.HelloBackCame) -> Payer:
    """What the payee shows is not believed: numbers are used again."""
    return replace(after, cum_florins=before.cum_florins, j=before.j, calls=before.calls, receipt=before.receipt)


def _any_charge(channel: Payer, fact: f.AnswerCame) -> bool:
    return b.answers_in_flight(channel, replace(fact, charged_florins=0))


def _any_request(channel: Payer, fact: f.AnswerCame) -> bool:
    call = call_of(channel.calls, fact.j)
    return b.answers_in_flight(channel, replace(fact, req=call.req if call is not None else fact.req))


def _early(channel: Payer, fact: f.Clock) -> bool:
    return b.refundable(channel, replace(fact, at=fact.at + channel.rules.margin))


def _hunt(
    name: str, side: int, plant: Plant, what: str = "both honest", left: Left = NOTHING, *, calls: int = 2, **how: Any
) -> Mutation:
    case = case_of(what, left, states_max=SEARCH_STATES_MAX, calls=calls, **how)
    return Mutation(name=name, side=side, plant=plant, case=case)


def _blind(name: str, sight: Sight, **how: Any) -> Mutation:
    """A fault in what is made of the chain; both tables are sound."""
    plain = _hunt(name, PAYER, lambda rows: rows, left=ONE, calls=1, accidents=frozenset({CHAIN}), **how)
    return replace(plain, sight=sight)


ADMIT = s.admissible
MUTATIONS: tuple[Mutation, ...] = (
    _hunt("a: W is the last voucher, not the highest", PAYEE, _last_value),
    _hunt("b: a restored payer goes on without a hello", PAYER, _no_hello, left=OLD_PAYER),
    _hunt("c: a call of an old session is admitted", PAYEE, instead(f.VoucherCame, ADMIT, _any_session),
          left=OLD_PAYER),
    _hunt("c: neither session nor oid is looked at", PAYEE, _no_index, left=OLD_PAYER),
    _hunt("d: work is begun in the closing zone", PAYEE, instead(f.VoucherCame, ADMIT, _any_height), left=ONE,
          calls=1),
    _hunt("e: what a crash found running is run again", PAYEE, changes(f.Started, s.restart, _reruns), left=ONE,
          calls=1),
    _hunt("a call is admitted whatever W - S", PAYEE, instead(f.VoucherCame, ADMIT, _without_funds), calls=2,
          what="payer lies", **LYING_PAYER),
    _hunt("a call is admitted at any depth", PAYEE, instead(f.VoucherCame, ADMIT, _at_any_depth), opening=True),
    _hunt("more calls run than the window holds", PAYEE, instead(f.VoucherCame, ADMIT, _in_any_window), calls=3,
          what="payer lies", rules={"window": 1}, **LYING_PAYER),
    _hunt("a crash leaves a call running for ever", PAYEE, changes(f.Started, s.restart, _forgets_crash), left=ONE,
          calls=1),
    _hunt("a restarted payee goes on in the old session", PAYEE, changes(f.Started, s.restart, _keeps_session),
          left=(0, 1, 1, 0)),
    _hunt("a failed call is charged", PAYEE, changes(f.HandlerDone, s.finish, _charges_failed), calls=1, failing=True),
    _hunt("the lowest voucher is brought to the chain", PAYEE, changes(f.Clock, s.close_now, _closes_below), calls=3),
    _hunt("vouchers for a coin that moved still count", PAYEE, changes(f.CoinSeen, s.rest_on, _keeps_vouchers),
          left=ONE, calls=1, opening=True),
    _hunt("a voucher for another coin counts", PAYEE, _counts_any_coin, left=ONE, calls=1, opening=True),
    _hunt("a receipt makes the payee forget what it knows", PAYEE,
          changes(f.HelloCame, s.begin_session, _forgets_below), what="payer lies", calls=1, **LYING_PAYER),
    _hunt("a call that was answered counts again when it is run again", PAYEE,
          changes(f.HelloCame, s.begin_session, _counts_twice), left=OLD_PAYEE),
    _hunt("what was admitted waits for ever", PAYEE, changes(f.Started, s.restart, _admitted_for_ever),
          left=(1, 0, 0, 1), calls=1),
    _hunt("a payee that starts asks for no hello", PAYEE, orders_less(f.Started, o.AskHello), left=OLD_PAYEE, calls=1),
    _hunt("what was once said by lost books counts for ever", PAYEE,
          changes(f.HelloCame, s.begin_session, _at_its_word_for_ever), left=(0, 1, 1, 0)),
    _hunt("a call is run again in the closing zone", PAYEE, changes(f.Started, s.restart, _reruns_in_the_zone),
          left=TWO, calls=1, rules={"rerun": True}, accidents=frozenset({CRASHES, LATE})),
    _hunt("a suspended channel stays so", PAYEE, _no_way_back, left=ONE, calls=1, opening=True),
    _hunt("a conflict of an old session is a proof of fault", PAYEE, _frames, left=OLD_PAYER),
    _hunt("a last state below S is taken", PAYEE, instead(f.FinalCame, s.last_state_fits, _pays_whatever), calls=1,
          what="payer lies", **LYING_PAYER),
    _hunt("the payee does not close in its zone", PAYEE, dropped(f.Clock, s.due_to_close), calls=1),
    _hunt("a close that is forgotten is never handed in again", PAYEE, _never_closes_again, left=ONE, calls=1),
    _hunt("no copy is placed before the step is crossed", PAYEE, orders_less(f.VoucherCame, o.Mirror), calls=2,
          rules={"mirror": UNIT}),
    _hunt("the payer pays each call on top of its credit", PAYER, changes(f.CallWanted, b.allocate, _adds_up),
          failing=True),
    _hunt("the payer believes nothing that it is shown", PAYER, changes(f.HelloBackCame, b.resume, _learns_nothing),
          left=OLD_PAYER),
    _hunt("the payer takes any charge", PAYER, instead(f.AnswerCame, b.answers_in_flight, _any_charge),
          what="payee lies", **LYING_PAYEE),
    _hunt("the payer keeps no window", PAYER, forgets(f.CallWanted, b.window_free), what="payee lies",
          rules={"window": 1}, **LYING_PAYEE),
    _hunt("the payer refunds before EXP", PAYER, instead(f.Clock, b.refundable, _early), calls=1),
    _hunt("a voucher that was never sent keeps the close waiting", PAYER, dropped(f.CloseWanted, b.something_waits),
          left=WHIM, calls=1),
    _hunt("the payer never refunds", PAYER, dropped(f.Clock, b.refundable), what="payee lies", calls=1, **LYING_PAYEE),
    _hunt("the payer's books stay closed when the spend goes", PAYER, dropped(f.SpendGone, c.that_spend), left=ONE,
          calls=1),
    _blind("where spend and coin go, only the coin is missed", Sight(next_fact=coin_alone)),
    _blind("what a stranger pays first hides the funding", Sight(next_fact=first_alone), opening=True),
    _blind("what lies beside the coin is never taken back", Sight(further_due=none_due)),
)  # fmt: skip
