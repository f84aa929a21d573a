"""The rows of both tables of a channel, one by one: what follows, what is ordered, and what is refused."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from msgspec.structs import replace

from common.channel_messages import Outcome
from common.contracts.escrow import Refused, WrongPhase
from common.units import FLOP
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel import payee, payer
from dux_escrowd.channel.model import (
    CallState,
    Coin,
    Payee,
    PayeeState,
    Payer,
    PayerState,
    Receipt,
    Spend,
    SpendKind,
    call_of,
)
from dux_escrowd.channel.orders import Reason
from dux_escrowd.channel.payee_steps import CUMS_MAX
from tests.rules.channel_kit import (
    COIN,
    OTHER_COIN,
    PRICE,
    RULES,
    TIP,
    answer,
    done,
    hello_back,
    oid,
    open_pair,
    req,
    voucher,
    wanted,
    went,
)

CLOSE = Spend(SpendKind.CLOSE, "c1" * 32, 20_000_000, None)
REFUND = Spend(SpendKind.REFUND, "d1" * 32, 0, 2_001)
ZONE, MARGIN = RULES.exp - RULES.zone, RULES.exp - RULES.margin


def kinds(effects: tuple[o.Order, ...]) -> list[str]:
    return [type(order).__name__ for order in effects]


def buyer_after(side: Payer, fact: f.Fact) -> tuple[str, list[str]]:
    after, effects = payer.decide(side, fact)
    return after.state.value, kinds(effects)


def seller_after(side: Payee, fact: f.Fact) -> tuple[str, list[str]]:
    after, effects = payee.decide(side, fact)
    return after.state.value, kinds(effects)


def reason(side: Payee, fact: f.VoucherCame) -> str:
    after, effects = payee.decide(side, fact)
    assert isinstance(effects[-1], o.Refuse), effects
    assert after.owed_florins == side.owed_florins
    return effects[-1].reason


def admitted(count: int = 1) -> tuple[Payer, Payee]:
    """Both sides with so many calls running."""
    buyer, seller = open_pair()
    for number in range(1, count + 1):
        buyer = went(buyer, wanted(number))
        seller = went(seller, voucher(buyer, number), f.RunStarted(at=TIP, j=number))
    return buyer, seller


# --- the payer --------------------------------------------------------------------------------------------------------


def test_funding_and_first_hello() -> None:
    """Only the rebuilt script is funded, only a confirmed coin large enough opens, and calls wait for a session."""
    fresh = Payer(chid="c4" * 32, rules=RULES)
    with pytest.raises(Refused):
        payer.decide(fresh, f.OpenOk(at=100, same=False))
    sent, effects = payer.decide(fresh, f.OpenOk(at=100, same=True))
    assert kinds(effects) == ["Fund"]
    assert went(sent, f.CoinSeen(at=101, coin=replace(COIN, height=None))).state is PayerState.FUND_SENT
    assert went(sent, f.CoinSeen(at=101, coin=replace(COIN, value_florins=1))).coin is None
    seen = went(sent, f.CoinSeen(at=101, coin=COIN))
    assert seen.state is PayerState.OPEN_SEEN
    with pytest.raises(WrongPhase):
        payer.decide(seen, wanted(1))
    assert went(sent, f.Started(at=101, nonce=b"n")).nonce == b""
    assert buyer_after(seen, f.Started(at=101, nonce=b"n")) == ("RESYNC", ["SendHello"])


@pytest.mark.parametrize(
    "change",
    [
        {"at": MARGIN}, {"offer_valid_to": TIP - 1}, {"price_max_florins": 0}, {"price_max_florins": 10 * FLOP},
        {"oid": oid(1)},
    ],
)  # fmt: skip
def test_a_call_is_refused(change: dict[str, object]) -> None:
    """Past the margin, without a valid offer, for nothing, beyond the coin, or under a known oid."""
    buyer = went(open_pair()[0], wanted(1))
    fact = msgspec.structs.replace(wanted(2), **change)
    with pytest.raises(Refused):
        payer.decide(buyer, fact)


def test_window_and_memory_are_bounded() -> None:
    """No more than w in flight, and not too far beyond the first that is not acknowledged."""
    buyer = went(open_pair()[0], *(wanted(number) for number in range(1, 5)))
    with pytest.raises(Refused, match="window_free"):
        payer.decide(buyer, wanted(5))
    few = open_pair(replace(RULES, calls_kept=1))[0]
    few = went(few, wanted(1))
    with pytest.raises(Refused, match="window_free"):
        payer.decide(few, wanted(2))


def test_the_amount_rule() -> None:
    """First 0.2 FLOP, then never more than need; what failed is credit; the order of answers does not matter."""
    buyer = open_pair()[0]
    buyer = went(buyer, *(wanted(number, 6_000_000) for number in range(1, 5)))
    assert buyer.cum_florins == 24_000_000
    buyer = went(buyer, answer(2, charged=6_000_000), answer(1, outcome=Outcome.FAILED))
    assert (buyer.receipt.low, buyer.spent_florins) == (3, 6_000_000)
    buyer = went(buyer, answer(4, charged=1_000_000))
    assert buyer.receipt.bits == 2
    assert went(buyer, wanted(5, 6_000_000)).cum_florins == 24_000_000


def test_answers_that_lie() -> None:
    """An answer to nothing, to something else, or that charges too much changes nothing; a repeated one is nothing."""
    buyer = went(open_pair()[0], wanted(1), wanted(2))
    for fact in (answer(7), answer(1, number=2), answer(1, charged=PRICE + 1), answer(1, charged=-1)):
        with pytest.raises(Refused):
            payer.decide(buyer, fact)
    buyer = went(buyer, answer(1))
    assert went(buyer, answer(1)) == buyer
    later = went(buyer, answer(2))
    assert went(later, answer(2)) == later
    ahead = went(open_pair()[0], wanted(1), wanted(2), answer(2))
    assert went(ahead, answer(2)) == ahead


def test_fuel_is_more_of_the_same_call() -> None:
    """A metered call's limit rises within the coin; a lower one, an ended call or too much is refused."""
    buyer = went(open_pair()[0], wanted(1, FLOP))
    buyer, effects = payer.decide(buyer, f.FuelWanted(at=TIP, j=1, price_max_florins=2 * FLOP))
    assert (buyer.cum_florins, kinds(effects)) == (2 * FLOP, ["SendVoucher"])
    for fact in (
        f.FuelWanted(at=TIP, j=1, price_max_florins=FLOP),
        f.FuelWanted(at=TIP, j=2, price_max_florins=FLOP),
        f.FuelWanted(at=TIP, j=1, price_max_florins=20 * FLOP),
    ):
        with pytest.raises(Refused):
            payer.decide(buyer, fact)


def test_hello_back_is_learnt() -> None:
    """An old copy learns amounts, numbers and calls by its own signatures; a wrong nonce teaches nothing."""
    old = went(open_pair()[0], f.Started(at=TIP, nonce=b"n" * 32))
    shown = (
        f.Shown(j=1, oid=oid(1), req=req(1), cum_florins=20_000_000, price_max_florins=PRICE, outcome=Outcome.OK,
                resp=b"r" * 32, charged_florins=PRICE),
        f.Shown(j=2, oid=oid(2), req=req(2), cum_florins=20_000_000, price_max_florins=PRICE),
        f.Shown(j=3, oid=oid(3), req=req(3), cum_florins=21_000_000, price_max_florins=PRICE, outcome=Outcome.FAILED,
                charged_florins=0),
    )  # fmt: skip
    with pytest.raises(Refused):
        payer.decide(old, hello_back(nonce=b"x" * 32))
    after, effects = payer.decide(old, hello_back(b"t" * 32, head_florins=30_000_000, head_j=9, calls=shown))
    assert (after.state, after.cum_florins, after.j) == (PayerState.OPEN, 30_000_000, 9)
    assert (after.spent_florins, after.receipt.low) == (PRICE, 2)
    assert [call.state for call in after.calls] == [CallState.SENT_MAYBE, CallState.FAILED]
    assert kinds(effects) == []  # a call that was only learnt has no request here to send again


def test_hello_back_in_pages() -> None:
    """One page is acknowledged as far as its calls have ended, and the next is asked for."""
    old = went(open_pair()[0], f.Started(at=TIP, nonce=b"n" * 32))
    first = f.Shown(j=1, oid=oid(1), req=req(1), cum_florins=20_000_000, price_max_florins=PRICE,
                    outcome=Outcome.OK, resp=b"r" * 32, charged_florins=PRICE)  # fmt: skip
    after, effects = payer.decide(old, hello_back(calls=(first,), more=True))
    assert (after.state, after.receipt.low, kinds(effects)) == (PayerState.RESYNC, 2, ["SendHello"])
    assert after.nonce == b"m" * 32
    again = payer.decide(after, hello_back(nonce=b"m" * 32, calls=(first,)))
    assert again.next.spent_florins == PRICE  # what is below the receipt is not counted twice


def test_calls_in_flight_after_a_hello() -> None:
    """Unknown ones go out again under the new session, ended ones to their callers, others' requests are ignored."""
    buyer = went(open_pair()[0], wanted(1), wanted(2), wanted(3), f.Started(at=TIP, nonce=b"n" * 32))
    shown = (
        f.Shown(j=1, oid=oid(1), req=req(1), cum_florins=20_000_000, price_max_florins=PRICE, outcome=Outcome.OK,
                resp=b"r" * 32, charged_florins=PRICE),
        f.Shown(j=2, oid=oid(2), req=req(2), cum_florins=20_000_000, price_max_florins=PRICE),
        f.Shown(j=3, oid=oid(9), req=req(9), cum_florins=20_000_000, price_max_florins=PRICE, outcome=Outcome.OK),
    )  # fmt: skip
    after, effects = payer.decide(buyer, hello_back(b"t" * 32, calls=shown))
    assert kinds(effects) == ["HandOver", "SendVoucher", "SendVoucher"]
    assert all(order.session == b"t" * 32 for order in effects if isinstance(order, o.SendVoucher))
    assert after.spent_florins == PRICE


def test_a_call_given_up() -> None:
    """Dropped means asked: unknown to the payee it is over, known and answered it counts."""
    buyer = went(open_pair()[0], wanted(1), wanted(2))
    with pytest.raises(Refused):
        payer.decide(buyer, f.CallDropped(at=TIP, j=5, nonce=b"n" * 32))
    gone, effects = payer.decide(buyer, f.CallDropped(at=TIP, j=1, nonce=b"n" * 32))
    assert (gone.state, kinds(effects), gone.session) == (PayerState.RESYNC, ["SendHello"], b"")
    after, effects = payer.decide(gone, hello_back(b"t" * 32))
    assert kinds(effects) == ["HandOver", "SendVoucher"]
    assert (after.receipt.low, after.need_florins) == (2, PRICE)


def test_the_coin_moves() -> None:
    """Gone: RESYNC without a coin; another one: the hello signs for it; a further output is nothing."""
    buyer = open_pair()[0]
    assert went(buyer, f.CoinSeen(at=TIP, coin=OTHER_COIN)).coin == COIN
    assert went(buyer, f.CoinSeen(at=TIP, coin=replace(COIN, height=104))).coin.height == 104
    assert went(buyer, f.CoinGone(at=TIP, outpoint=OTHER_COIN.outpoint)) == buyer
    lost = went(buyer, f.CoinGone(at=TIP, outpoint=COIN.outpoint))
    assert (lost.state, lost.coin, lost.usable_florins) == (PayerState.RESYNC, None, 0)
    assert went(lost, f.CoinSeen(at=TIP, coin=OTHER_COIN)).coin == OTHER_COIN


def test_the_payer_ends_it() -> None:
    """Asked, or at the margin: no calls, and the last state at S once nothing waits; nothing spent gives all back."""
    buyer = open_pair()[0]
    assert payer.decide(buyer, f.CloseWanted(at=TIP)).effects == (o.SendFinal(cum_florins=0, next_script=b""),)
    busy = went(buyer, wanted(1))
    draining, effects = payer.decide(busy, f.CloseWanted(at=TIP, next_script=b"next", nonce=b"n" * 32))
    assert (draining.state, kinds(effects), draining.session) == (PayerState.DRAINING, ["SendHello"], b"")
    after, effects = payer.decide(draining, answer(1))
    assert effects[-1] == o.SendFinal(cum_florins=20_000_000, next_script=b"next")
    assert buyer_after(after, f.Clock(at=TIP)) == ("DRAINING", [])
    assert buyer_after(after, f.Clock(at=TIP + RULES.step)) == ("DRAINING", ["SendFinal"])
    assert buyer_after(buyer, f.Clock(at=MARGIN)) == ("DRAINING", ["SendFinal"])
    assert buyer_after(buyer, f.Clock(at=TIP)) == ("OPEN", [])


def test_a_voucher_that_was_never_sent_keeps_no_close_waiting() -> None:
    """What the payee does not know once the end is wanted is over; what it works on is waited for."""
    busy = went(open_pair()[0], wanted(1), wanted(2))
    draining = went(busy, f.CloseWanted(at=TIP, nonce=b"n" * 32))
    ended, effects = payer.decide(draining, hello_back(b"t" * 32))
    assert effects == (o.HandOver(j=1), o.HandOver(j=2), o.SendFinal(cum_florins=0, next_script=b""))
    assert (ended.state, ended.in_flight, ended.receipt.low) == (PayerState.DRAINING, (), 3)
    working = f.Shown(j=1, oid=oid(1), req=req(1), cum_florins=20_000_000, price_max_florins=PRICE)
    waits, effects = payer.decide(draining, hello_back(b"t" * 32, calls=(working,)))
    assert kinds(effects) == ["HandOver", "SendVoucher"]  # the same call once more, for its answer
    assert payer.decide(waits, answer(1)).effects[-1] == o.SendFinal(cum_florins=20_000_000, next_script=b"")
    given_up, effects = payer.decide(waits, f.CallDropped(at=TIP, j=1, nonce=b"n" * 32))
    assert (given_up.state, kinds(effects)) == (PayerState.DRAINING, ["SendHello"])


def test_the_refund() -> None:
    """At EXP with a coin and no spend: refund, with more fee step by step, until it is seen and deep."""
    buyer = open_pair()[0]
    assert went(went(buyer, f.CoinGone(at=TIP, outpoint=COIN.outpoint)), f.Clock(at=RULES.exp)).state is (
        PayerState.DRAINING
    )
    sent, effects = payer.decide(buyer, f.Clock(at=RULES.exp))
    assert (sent.state, effects) == (PayerState.REFUND_SENT, (o.Refund(step=0),))
    assert buyer_after(sent, f.Clock(at=RULES.exp + 1)) == ("REFUND_SENT", [])
    assert payer.decide(sent, f.Clock(at=RULES.exp + 12)).effects == (o.Refund(step=1),)
    seen = went(sent, f.SpendSeen(at=2_001, spend=REFUND))
    assert seen.state is PayerState.REFUND_SEEN
    closed = went(seen, f.SpendDeep(at=2_010, spend=REFUND))
    assert closed.state is PayerState.CLOSED
    back = went(closed, f.SpendGone(at=2_010, txid=REFUND.txid))
    assert (back.state, back.acted_at) == (PayerState.REFUND_SENT, None)


def test_the_close_is_seen() -> None:
    """A close ends calls; another spend takes its place; deep it is final, and what still waited is abandoned."""
    buyer = went(open_pair()[0], wanted(1), f.SpendSeen(at=TIP, spend=CLOSE))
    assert buyer.state is PayerState.CLOSE_SEEN
    other = replace(CLOSE, txid="c2" * 32, height=120)
    buyer = went(buyer, f.SpendSeen(at=TIP, spend=other))
    with pytest.raises(Refused):
        payer.decide(buyer, f.SpendDeep(at=TIP, spend=CLOSE))
    buyer = went(buyer, f.SpendDeep(at=130, spend=other))
    assert (buyer.state, buyer.calls[0].state) == (PayerState.CLOSED, CallState.ABANDONED)
    assert went(buyer, f.SpendGone(at=130, txid=other.txid)).state is PayerState.OPEN


# --- the payee --------------------------------------------------------------------------------------------------------


def test_offering_and_opening() -> None:
    """A wish with a problem is refused; a coin in a block and large enough opens, deeper means more."""
    fresh = Payee(chid="c4" * 32, rules=RULES)
    with pytest.raises(Refused):
        payee.decide(fresh, f.OpenAsked(at=100, problem="no work"))
    offered = went(fresh, f.OpenAsked(at=100, problem=""))
    assert seller_after(offered, f.CoinSeen(at=101, coin=replace(COIN, height=None))) == ("OFFERED", [])
    shallow = went(offered, f.CoinSeen(at=101, coin=COIN))
    assert shallow.state is PayeeState.OPEN_SEEN
    assert (shallow.cap_florins(100), shallow.cap_florins(101)) == (0, FLOP)
    assert went(shallow, f.Clock(at=106)).state is PayeeState.OPEN
    assert went(shallow, f.CoinSeen(at=106, coin=replace(COIN, height=100))).coin.height == 100
    assert seller_after(offered, f.Clock(at=100)) == ("OFFERED", [])
    assert seller_after(offered, f.Clock(at=244)) == ("ABANDONED", ["Tell"])
    assert reason(offered, voucher(open_pair()[0], 1, session=b"")) == Reason.DEPTH


def test_a_call_is_admitted_once_and_answered_as_often_as_asked() -> None:
    """W and S move with the call; repeats wait while it runs and get what is stored afterwards."""
    buyer = went(open_pair()[0], wanted(1))
    seller, effects = payee.decide(open_pair()[1], voucher(buyer, 1))
    assert (kinds(effects), seller.held_florins, seller.owed_florins) == (["Execute"], 20_000_000, PRICE)
    assert kinds(payee.decide(seller, voucher(buyer, 1)).effects) == ["Execute"]  # never started: a crash came between
    assert reason(seller, voucher(buyer, 1, session=b"o" * 32)) == Reason.RESYNC
    seller = went(seller, f.RunStarted(at=TIP, j=1))
    with pytest.raises(Refused):
        payee.decide(seller, f.RunStarted(at=TIP, j=1))
    assert reason(seller, voucher(buyer, 1)) == Reason.RUNNING
    seller, effects = payee.decide(seller, done(1))
    assert kinds(effects) == ["SendAnswer"]
    assert kinds(payee.decide(seller, voucher(buyer, 1)).effects) == ["SendAnswer"]
    with pytest.raises(Refused):
        payee.decide(seller, done(1))
    elsewhere = voucher(buyer, 1, outpoint=OTHER_COIN.outpoint, cum_florins=5 * FLOP)
    assert payee.decide(seller, elsewhere).next == seller


def test_failed_calls_are_credit() -> None:
    """S falls, W stays, and the surplus pays the next call; the close takes the smallest voucher that covers S."""
    _, seller = admitted()
    seller = went(seller, done(1, Outcome.FAILED))
    assert (seller.owed_florins, seller.held_florins) == (0, 20_000_000)
    with pytest.raises(Refused):
        payee.decide(admitted()[1], done(1, charged=PRICE + 1))


def test_a_charge_beyond_what_is_held_is_refused() -> None:
    """A meter that ends above what was paid cannot be booked."""
    buyer = went(open_pair()[0], wanted(1, 2 * FLOP))
    cheap = voucher(buyer, 1, price=PRICE, cum_florins=20_000_000, price_max_florins=2 * FLOP)
    seller = went(open_pair()[1], cheap, f.RunStarted(at=TIP, j=1))
    with pytest.raises(Refused, match="charge_is_held"):
        payee.decide(seller, done(1, charged=FLOP))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"session": b"o" * 32}, Reason.RESYNC),
        ({"j": 500}, Reason.RESYNC),
        ({"offer_valid": False}, Reason.OFFER_EXPIRED),
        ({"price_florins": PRICE + 1}, Reason.OFFER_EXPIRED),
        ({"fresh": False}, Reason.BUSY),
        ({"cum_florins": 20_000_000, "price_florins": 30_000_000, "price_max_florins": FLOP}, Reason.NEED_FUNDS),
        ({"at": 101, "cum_florins": 5 * FLOP, "price_florins": 2 * FLOP, "price_max_florins": 2 * FLOP}, Reason.DEPTH),
        ({"at": ZONE}, Reason.CLOSING),
        ({"cum_florins": 11 * FLOP}, Reason.NEED_FUNDS),
        ({"cum_florins": 1}, Reason.NEED_FUNDS),
        ({"outpoint": OTHER_COIN.outpoint}, Reason.RESYNC),
    ],
)
def test_why_a_call_is_not_admitted(change: dict[str, object], why: Reason) -> None:
    """Each guard of the call part has its own word, and nothing is charged."""
    buyer = went(open_pair()[0], wanted(1))
    assert reason(open_pair()[1], msgspec.structs.replace(voucher(buyer, 1), **change)) == why


def test_a_full_window_is_busy() -> None:
    """No more than w at work."""
    buyer, seller = admitted(4)
    more = voucher(buyer, 5, session=buyer.session, cum_florins=FLOP, req=req(5), oid=oid(5))
    assert reason(seller, more) == Reason.BUSY


def test_conflicts_prove_a_fault_in_the_live_session_alone() -> None:
    """One number or one oid for two requests: kept as proof; from an old session, or the same request: only a hello."""
    buyer, seller = admitted()
    other = voucher(buyer, 1, req=req(9))
    effects = payee.decide(seller, other).effects
    assert kinds(effects) == ["KeepProof", "Refuse"]
    assert effects[-1].reason == Reason.CONFLICT
    assert reason(seller, voucher(buyer, 1, req=req(9), session=b"o" * 32)) == Reason.RESYNC
    assert reason(seller, voucher(buyer, 2, oid=oid(1), req=req(1))) == Reason.RESYNC


def test_a_payer_that_signs_many_amounts_fills_no_memory() -> None:
    """W and the least that may be needed stay; of the rest those go whose neighbours lie closest; a close covers S."""
    buyer, seller = admitted()
    first = seller.cums[0]
    for number in range(CUMS_MAX + 50):
        more = voucher(buyer, 2, session=b"o" * 32, cum_florins=first + PRICE + number, req=req(2), oid=oid(2))
        seller = went(seller, more)
    top = voucher(buyer, 2, session=b"o" * 32, cum_florins=FLOP, req=req(2), oid=oid(2))
    seller = went(seller, top)
    assert len(seller.cums) == CUMS_MAX
    assert (seller.cums[0], seller.held_florins) == (first, FLOP)
    assert sorted(seller.cums) == list(seller.cums)
    gaps = [high - low for low, high in itertools.pairwise(seller.cums[1:-1])]
    assert max(gaps) <= 2
    closing = went(seller, done(1), f.CloseWanted(at=TIP, nonce=b"n" * 32)).closing
    assert closing is not None
    assert closing.cum_florins == first


def test_acknowledged_calls_are_settled_and_still_known() -> None:
    """The payer's receipt, chained like our own answers, settles them; a wrong chain settles nothing."""
    buyer, seller = admitted()
    buyer, seller = went(buyer, answer(1), wanted(2)), went(seller, done(1))
    wrong = voucher(buyer, 2, receipt=replace(buyer.receipt, root=b"x" * 32))
    assert went(seller, wrong).settled_florins == 0
    late = voucher(buyer, 2, receipt=replace(buyer.receipt, low=5))
    assert went(seller, late).settled_florins == 0
    seller = went(seller, voucher(buyer, 2))
    assert (seller.settled_florins, [call.j for call in seller.calls]) == (PRICE, [2])
    old = f.VoucherCame(**{**_fields(voucher(buyer, 1)), "oid": oid(1), "req": req(1)})
    archived = replace(call_of(went(*_first()).calls, 1), state=CallState.OK)
    assert kinds(payee.decide(seller, replace(old, archived=archived)).effects) == ["SendAnswer"]


def _first() -> tuple[Payee, f.VoucherCame]:
    buyer = went(open_pair()[0], wanted(1))
    return open_pair()[1], voucher(buyer, 1)


def _fields(fact: f.VoucherCame) -> dict[str, object]:
    return {name: getattr(fact, name) for name in fact.__struct_fields__}


def test_refused_calls_stand_in_the_chain_of_answers() -> None:
    """A number that the payee never knew counts as refused on both sides, so the chains stay equal."""
    buyer = went(open_pair()[0], wanted(1), wanted(2), f.CallDropped(at=TIP, j=1, nonce=b"n" * 32))
    buyer = went(buyer, hello_back(b"s" * 32))
    seller = went(open_pair()[1], voucher(buyer, 2), f.RunStarted(at=TIP, j=2), done(2))
    buyer = went(buyer, answer(2), wanted(3))
    seller = went(seller, voucher(buyer, 3))
    assert (seller.receipt.low, seller.settled_florins) == (3, PRICE)


def test_a_start_ends_sessions_and_credits_what_was_at_work() -> None:
    """Credit by default; run again only where the handler bears it; the payer is asked for a hello."""
    _, seller = admitted(2)
    after, effects = payee.decide(seller, f.Started(at=TIP, nonce=b""))
    assert kinds(effects) == ["SendAnswer", "SendAnswer", "AskHello"]
    assert (after.session, after.owed_florins) == (b"", 0)
    again = replace(seller, rules=replace(RULES, rerun=True))
    after, effects = payee.decide(again, f.Started(at=TIP, nonce=b""))
    assert kinds(effects) == ["Execute", "Execute", "AskHello"]
    assert after.owed_florins == 2 * PRICE
    late, effects = payee.decide(again, f.Started(at=ZONE, nonce=b""))
    assert (kinds(effects), late.owed_florins) == (["SendAnswer", "SendAnswer", "AskHello"], 0)
    over = replace(seller, state=PayeeState.CLOSED)
    assert kinds(payee.decide(over, f.Started(at=TIP, nonce=b"")).effects) == ["SendAnswer", "SendAnswer"]


def test_a_start_does_not_give_away_what_was_delivered() -> None:
    """A call of which parts have left goes on over a start, is charged for them, and can still be fed and credited."""
    _, seller = admitted(2)
    one = PRICE
    sent = went(seller, f.ChunkWanted(at=TIP, j=1, price_florins=one))
    after, effects = payee.decide(sent, f.Started(at=TIP, nonce=b""))
    assert kinds(effects) == ["SendAnswer", "AskHello"]
    assert (after.owed_florins, call_of(after.calls, 1).state) == (one, CallState.RUNNING)
    assert went(after, done(1, charged=one)).owed_florins == one
    assert went(after, done(1, outcome=Outcome.FAILED, charged=0)).owed_florins == 0
    again = replace(sent, rules=replace(RULES, rerun=True))
    assert kinds(payee.decide(again, f.Started(at=TIP, nonce=b"")).effects) == ["Execute", "Execute", "AskHello"]


def test_fuel_of_an_old_session_is_told_so() -> None:
    """It raises W and no limit, and the payer hears that a hello helps; a plain repeat hears that the call runs."""
    buyer, seller = admitted(1)
    old = went(seller, f.ChunkWanted(at=TIP, j=1, price_florins=PRICE), f.Started(at=TIP, nonce=b""))
    fuel = voucher(buyer, 1, cum_florins=FLOP, price_max_florins=2 * PRICE)
    after, effects = payee.decide(old, fuel)
    assert [order.reason for order in effects if isinstance(order, o.Refuse)] == [Reason.RESYNC]
    assert (after.held_florins, call_of(after.calls, 1).price_max_florins) == (FLOP, PRICE)
    _, effects = payee.decide(old, voucher(buyer, 1))
    assert [order.reason for order in effects if isinstance(order, o.Refuse)] == [Reason.RUNNING]


def went_or_refused(side: Payee, fact: f.Fact) -> Payee | None:
    try:
        return went(side, fact)
    except Refused:
        return None


def hello(buyer: Payer, **changes: object) -> f.HelloCame:
    said = {"at": TIP, "payer_nonce": b"n" * 32, "session": b"t" * 32, "outpoint": COIN.outpoint,
            "head_florins": buyer.cum_florins, "receipt": buyer.receipt}  # fmt: skip
    return f.HelloCame(**{**said, **changes})


def test_an_old_copy_of_the_payee_learns_from_an_honest_payer() -> None:
    """Head and receipt bring W and S back; a head for another coin or out of bounds counts nothing."""
    buyer = went(open_pair()[0], wanted(1), answer(1), wanted(2), answer(2))
    old = open_pair()[1]
    after, effects = payee.decide(old, hello(buyer))
    assert (after.held_florins, after.owed_florins, after.receipt.low) == (20_000_000, 2 * PRICE, 3)
    assert kinds(effects) == ["SendHelloBack"]
    assert went(old, hello(buyer, outpoint=OTHER_COIN.outpoint)).held_florins == 0
    assert went(old, hello(buyer, head_florins=11 * FLOP)).held_florins == 0
    again = went(went(old, voucher(went(open_pair()[0], wanted(1)), 1)), hello(buyer))
    assert again.owed_florins == 2 * PRICE  # the call that ran again here is the one that was acknowledged
    running = went(again, f.RunStarted(at=TIP, j=1))
    for more in (done(1), f.ChunkWanted(at=TIP, j=1, price_florins=PRICE)):
        assert went_or_refused(running, more) in (None, running)  # it gets nothing more, neither coins nor a result
    ended = went(running, done(1, Outcome.FAILED))
    assert (ended.owed_florins, ended.at_work) == (2 * PRICE, 0)


def test_two_old_copies_agree_on_what_both_still_know() -> None:
    """What an old disk took on the payer's word goes when the payer's live session no longer says it; not before."""
    buyer = went(open_pair()[0], wanted(1))
    seller = went(open_pair()[1], voucher(buyer, 1))
    adopted = went(went(seller, f.Started(at=TIP, nonce=b"")), hello(went(buyer, answer(1))))
    assert (adopted.owed_florins, adopted.word.florins) == (PRICE, PRICE)
    heard = went(adopted, hello(buyer, session=b"u" * 32))  # an old hello, perhaps: nothing follows from it alone
    assert (heard.owed_florins, heard.word.lapsed) == (PRICE, True)
    told = f.Shown(j=1, oid=oid(1), req=req(1), cum_florins=buyer.cum_florins, price_max_florins=PRICE,
                   outcome=Outcome.FAILED, resp=bytes(32))  # fmt: skip
    old = went(buyer, f.Started(at=TIP, nonce=b"n" * 32), hello_back(b"u" * 32, calls=(told,)))
    next_one = voucher(went(old, wanted(2)), 2)
    assert went(heard, replace(next_one, session=b"t" * 32)).owed_florins == PRICE
    agreed, effects = payee.decide(heard, next_one)
    assert (agreed.owed_florins, agreed.settled_florins, agreed.receipt.low) == (PRICE, 0, 2)
    assert kinds(effects) == ["Execute"]
    again = went(heard, voucher(went(buyer, f.Started(at=TIP, nonce=b"n" * 32), hello_back(b"u" * 32)), 1))
    assert [call.j for call in again.calls] == [1]  # a call that only the lost books had seen end may come again
    mixed = went(seller, f.Started(at=TIP, nonce=b""), hello(buyer, session=b"u" * 32), hello(went(buyer, answer(1))),
                 hello(old, session=b"v" * 32))  # fmt: skip
    assert (mixed.owed_florins, mixed.word.lapsed) == (PRICE, True)  # the lost books' hello came later than the new one
    assert went(mixed, replace(next_one, session=b"v" * 32)).owed_florins == PRICE
    once_more = went(agreed, hello(old, receipt=Receipt(low=2, paid_florins=0)))
    assert not once_more.word.lapsed


def test_meters() -> None:
    """More fuel wakes the handler; a chunk leaves only if W - S, the limit and the depth cover it."""
    buyer = went(open_pair()[0], wanted(1, 40_000_000))
    seller = went(open_pair()[1], voucher(buyer, 1, price=PRICE), f.RunStarted(at=TIP, j=1))
    seller, effects = payee.decide(seller, f.ChunkWanted(at=TIP, j=1, price_florins=30_000_000))
    assert kinds(effects) == ["SendChunk"]
    starved = payee.decide(seller, f.ChunkWanted(at=TIP, j=1, price_florins=50_000_000))
    assert (kinds(starved.effects), starved.next.owed_florins) == (["Refuse"], 30_000_000)
    buyer = went(buyer, f.FuelWanted(at=TIP, j=1, price_max_florins=60_000_000))
    seller, effects = payee.decide(seller, voucher(buyer, 1, price=PRICE))
    assert kinds(effects) == ["AddFuel"]
    assert kinds(payee.decide(seller, f.ChunkWanted(at=TIP, j=1, price_florins=50_000_000)).effects) == ["SendChunk"]
    with pytest.raises(Refused):
        payee.decide(seller, f.ChunkWanted(at=TIP, j=2, price_florins=1))


def test_copies_are_placed_each_step() -> None:
    """A call that crosses x waits for the copy; a copy of less or of more than is held is nothing."""
    buyer = went(open_pair()[0], wanted(1, 2 * FLOP))
    seller, effects = payee.decide(open_pair()[1], voucher(buyer, 1, price=2 * FLOP))
    assert kinds(effects) == ["Mirror", "Execute"]
    assert went(seller, f.Mirrored(at=TIP, cum_florins=5 * FLOP)) == seller
    assert went(seller, f.Mirrored(at=TIP, cum_florins=2 * FLOP)).mirrored_florins == 2 * FLOP


def test_suspended_until_the_new_coin_is_signed_for() -> None:
    """W = 0 on another coin; a voucher or a hello that covers S ends it; the same coin back keeps everything."""
    buyer, seller = admitted()
    seller = went(seller, done(1))
    gone = went(seller, f.CoinGone(at=TIP, outpoint=COIN.outpoint))
    assert went(seller, f.CoinGone(at=TIP, outpoint=OTHER_COIN.outpoint)) == seller
    assert (gone.state, went(gone, f.CoinGone(at=TIP, outpoint=COIN.outpoint)).state) == (PayeeState.SUSPENDED,) * 2
    back = went(gone, f.CoinSeen(at=TIP, coin=COIN))
    assert (back.state, back.held_florins) == (PayeeState.OPEN_SEEN, 20_000_000)
    moved, effects = payee.decide(gone, f.CoinSeen(at=TIP, coin=OTHER_COIN))
    assert (moved.state, moved.held_florins, kinds(effects)) == (PayeeState.SUSPENDED, 0, ["AskHello", "Tell"])
    assert went(moved, f.CoinGone(at=TIP, outpoint=OTHER_COIN.outpoint)).coin is None
    assert went(moved, f.CoinSeen(at=TIP, coin=replace(OTHER_COIN, height=105))).coin.height == 105
    assert went(moved, f.CoinSeen(at=TIP, coin=COIN)) == moved
    late = voucher(buyer, 2, session=b"", outpoint=OTHER_COIN.outpoint, cum_florins=20_000_000)
    after, effects = payee.decide(moved, late)
    assert (after.state, effects[-1].reason) == (PayeeState.OPEN_SEEN, Reason.RESYNC)
    assert reason(moved, voucher(buyer, 2, session=b"")) == Reason.RESYNC
    greeted = went(moved, hello(buyer, outpoint=OTHER_COIN.outpoint))
    assert greeted.state is PayeeState.OPEN_SEEN
    assert went(moved, hello(buyer)).state is PayeeState.SUSPENDED


def test_the_payee_closes_in_time() -> None:
    """At the closing zone, idle, at its own limit, or asked; with nothing held there is nothing to close."""
    _, seller = admitted()
    assert seller_after(seller, f.Clock(at=TIP + 1)) == ("OPEN", [])
    assert seller_after(seller, f.Clock(at=ZONE)) == ("CLOSE_SENT", ["Close", "Tell"])
    done_, _ = payee.decide(seller, done(1))
    assert seller_after(done_, f.Clock(at=TIP + RULES.idle)) == ("CLOSE_SENT", ["Close", "Tell"])
    rich = replace(done_, rules=replace(RULES, limit_florins=20_000_000))
    assert seller_after(rich, f.Clock(at=TIP)) == ("CLOSE_SENT", ["Close", "Tell"])
    assert seller_after(done_, f.CloseWanted(at=TIP)) == ("CLOSE_SENT", ["Close", "Tell"])
    empty = open_pair()[1]
    assert seller_after(empty, f.Clock(at=ZONE)) == ("ABANDONED", ["Tell"])
    with pytest.raises(Refused):
        payee.decide(empty, f.CloseWanted(at=TIP))


def test_the_smallest_voucher_that_covers_is_taken() -> None:
    """Surplus goes back without anybody's asking."""
    buyer = went(open_pair()[0], *(wanted(number, 15_000_000) for number in (1, 2, 3)))
    seller = open_pair()[1]
    for number, cum in ((1, 20_000_000), (2, 30_000_000), (3, 45_000_000)):
        seller = went(seller, voucher(buyer, number, price=15_000_000, cum_florins=cum), f.RunStarted(at=TIP, j=number))
    seller = went(seller, done(1, charged=15_000_000), done(2, Outcome.FAILED), done(3, Outcome.FAILED))
    assert seller.cums == (20_000_000, 30_000_000, 45_000_000)
    assert went(seller, f.CloseWanted(at=TIP)).closing.cum_florins == 20_000_000


def test_the_last_state() -> None:
    """It has to pay what is owed, for this coin, with nothing at work; then the payee closes with it."""
    buyer, seller = admitted()
    final = f.FinalCame(at=TIP, outpoint=COIN.outpoint, cum_florins=20_000_000, next_script=b"next")
    with pytest.raises(Refused):
        payee.decide(seller, final)
    seller = went(seller, done(1))
    for bad in (replace(final, cum_florins=0), replace(final, outpoint=OTHER_COIN.outpoint)):
        with pytest.raises(Refused):
            payee.decide(seller, bad)
    closed, effects = payee.decide(seller, final)
    assert effects[0] == o.Close(cum_florins=20_000_000, final=True, next_script=b"next", step=0)
    assert reason(closed, voucher(went(buyer, wanted(2)), 2)) == Reason.CLOSING


def test_a_close_gets_more_fee_until_it_is_seen_and_deep() -> None:
    """Steps while unseen, rebroadcast while shallow, back when it goes away; a refund before it is a loss."""
    _, seller = admitted()
    seller = went(went(seller, done(1)), f.CloseWanted(at=TIP))
    assert seller_after(seller, f.Clock(at=TIP + 1)) == ("CLOSE_SENT", [])
    more, effects = payee.decide(seller, f.Clock(at=TIP + RULES.step))
    assert effects[0].step == 1
    seen = went(more, f.SpendSeen(at=TIP + 13, spend=CLOSE))
    assert seen.state is PayeeState.CLOSE_SEEN
    assert seller_after(seen, f.Clock(at=TIP + 14)) == ("CLOSE_SEEN", [])
    assert seller_after(seen, f.Clock(at=TIP + RULES.step + RULES.rebroadcast)) == ("CLOSE_SEEN", ["Close"])
    deep = replace(CLOSE, height=130)
    final = went(seen, f.SpendSeen(at=131, spend=deep), f.SpendDeep(at=140, spend=deep))
    assert final.state is PayeeState.CLOSED
    gone = went(final, f.SpendGone(at=140, txid=deep.txid))
    assert (gone.state, seller_after(gone, f.Clock(at=140))) == (PayeeState.CLOSE_SENT, ("CLOSE_SENT", ["Close"]))
    waits, in_block = replace(REFUND, height=None), replace(REFUND, height=2_001)
    assert seller_after(seller, f.SpendSeen(at=2_000, spend=waits)) == ("LOST", [])
    lost = went(seller, f.SpendSeen(at=2_000, spend=waits))
    assert seller_after(lost, f.SpendSeen(at=2_001, spend=in_block)) == ("LOST", ["Tell"])
    assert seller_after(seller, f.SpendSeen(at=2_001, spend=in_block)) == ("LOST", ["Tell"])
    lost = went(lost, f.SpendSeen(at=2_001, spend=in_block))
    assert seller_after(lost, f.SpendSeen(at=2_002, spend=replace(REFUND, height=2_002))) == ("LOST", []), "told once"
    assert seller_after(lost, f.SpendSeen(at=2_002, spend=replace(CLOSE, height=2_002))) == ("CLOSE_SEEN", [])
    moved = went(seller, f.CoinGone(at=TIP, outpoint=COIN.outpoint))
    assert moved.state is PayeeState.SUSPENDED


def test_a_close_that_these_books_never_decided_is_not_repeated() -> None:
    """A watcher's close, or one of a lost copy: seen, booked, left alone."""
    seller = went(admitted()[1], f.SpendSeen(at=TIP, spend=CLOSE))
    assert seller_after(seller, f.Clock(at=TIP + 1_000)) == ("CLOSE_SEEN", [])


def test_a_hello_after_the_end_still_tells() -> None:
    """A payer learns what it is owed also from a closed channel."""
    over = replace(admitted()[1], state=PayeeState.CLOSED)
    assert seller_after(over, hello(open_pair()[0], receipt=Receipt())) == ("CLOSED", ["SendHelloBack"])


def test_unlisted_pairs_change_nothing() -> None:
    """A fact that no row names raises WrongPhase."""
    buyer, seller = open_pair()
    with pytest.raises(WrongPhase):
        payer.decide(replace(buyer, state=PayerState.CLOSED), wanted(1))
    with pytest.raises(WrongPhase):
        payee.decide(seller, f.OpenAsked(at=1, problem=""))


def test_tables_name_what_they_are_made_of() -> None:
    """Every row carries its source; every goal's options are states of its own side."""
    for rows, states in ((payer.ROWS, PayerState), (payee.ROWS, PayeeState)):
        assert all(line.source for line in rows)
        assert all(isinstance(option, states) for line in rows for option in line.options)
        assert all(isinstance(state, states) for line in rows for state in line.frm)
    assert Coin(COIN.outpoint, COIN.value_florins, COIN.height) == COIN
