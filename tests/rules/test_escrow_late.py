"""LATE_OK: a late coin is the lot's once both have signed, while all windows fit, and never after a cancel."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from common.contracts.escrow import Refused, WrongPhase
from dux_escrowd import facts as f
from dux_escrowd.docket import items
from dux_escrowd.guards import late_until
from dux_escrowd.hearing import hearers
from dux_escrowd.late import late_coin
from dux_escrowd.model import Coin, Lot, Role, State
from dux_escrowd.mouth import ping_fact
from dux_escrowd.observe import OnChain, next_fact
from dux_escrowd.orders import Fund, News, PingArbiters, Say, SignCancel, Tell, Word
from dux_escrowd.rules import decide
from dux_sim.proof.cast import ARBITERS, B, S
from tests.rules.test_escrow_table import COIN, DEAL, ENOUGH, OTHER, POINT, H, lot

LATE = Coin(POINT, ENOUGH, H.fund_by + 1)
AT = H.fund_by + 2  # d deep
UNTIL = late_until(DEAL)
LOTLESS = (State.STRAY, State.VOID)


def late_lot(state: State, role: Role, **changes: Any) -> Lot:
    """A lot without a coin in time, which all were READY for: it rests on the late one, or on none."""
    return lot(state, role, **{"coin": LATE if state is State.STRAY else None, "ready": (B, S, *ARBITERS)} | changes)


def wanted(at: int = AT, coin: Coin = LATE) -> f.Fact:
    """The buyer's owner asks."""
    return f.LateWanted(at=at, coin=coin)


def said(by: str, outpoint: str = POINT) -> f.Fact:
    """A statement LATE_OK."""
    return f.LateOkSaid(at=AT, by=by, outpoint=outpoint)


def looked(main: Lot, *beside: Lot, tip: int = AT) -> Lot:
    """The lot after a look at a chain that has the late coin."""
    lots, passed = [main, *beside], set()
    while (found := next_fact(lots, [OnChain(LATE, None)], tip, passed)) is not None:
        passed.add(found)
        try:
            lots[found[0]], _orders = decide(lots[found[0]], found[1])
        except (Refused, WrongPhase):
            continue
    return lots[0]


@pytest.mark.parametrize("state", LOTLESS)
def test_both_sign_and_the_late_coin_is_the_lots(state: State) -> None:
    """The buyer asks, the seller answers by rule, and every node that heard both rests its lot on the late coin."""
    beside = () if state is State.STRAY else (lot(State.STRAY, number=1, coin=LATE),)
    buyer, orders = decide(late_lot(state, Role.BUYER), wanted())
    assert orders == (Say(word=Word.LATE_OK),)
    assert looked(buyer, *beside).state is state, "the question alone counts for nothing"
    seller, orders = decide(late_lot(state, Role.SELLER), said(B))
    assert orders == ()
    answered, orders = decide(seller, f.LateCoin(at=AT, coin=LATE))
    assert orders == (Say(word=Word.LATE_OK),)
    assert looked(seller, *beside) == looked(answered, *beside)
    arbiter, _ = decide(late_lot(state, Role.ARBITER), said(B))
    for one in (answered, decide(buyer, said(S))[0], decide(arbiter, said(S))[0]):
        funded = looked(one, *beside)
        assert (funded.state, funded.outpoint, funded.funded_at) == (State.FUNDED, POINT, AT)
    assert looked(answered, *beside).started


def test_the_late_coin_is_found_again_after_a_reorganisation() -> None:
    """What both have signed stands: the same coin is the lot's when it comes back, another late one is not."""
    adopted = late_lot(State.AGREED, Role.SELLER, late_asked=(POINT,), late_agreed=POINT)
    assert decide(adopted, f.OutputSeen(at=AT, coin=LATE))[0].state is State.FUNDED_SEEN
    assert decide(adopted, f.OutputSeen(at=AT, coin=replace_point(LATE)))[0].state is State.AGREED


def replace_point(coin: Coin) -> Coin:
    """The same coin at another outpoint."""
    return Coin(OTHER, coin.value_florins, coin.height)


def test_no_late_coin_once_a_window_does_not_fit_or_a_cancel_was_given() -> None:
    """The seller answers up to the last block for it and never after K went away; the buyer asks no longer either."""
    assert UNTIL + DEAL.start_blocks <= H.deliver_by
    assert 2 * (H.deliver_by - UNTIL) >= H.deliver_by - H.fund_by
    for role, fact, later in (
        (Role.SELLER, f.LateCoin(at=UNTIL, coin=LATE), f.LateCoin(at=UNTIL + 1, coin=LATE)),
        (Role.BUYER, wanted(UNTIL), wanted(UNTIL + 1)),
    ):
        ready = late_lot(State.STRAY, role, late_asked=(POINT,) if role is Role.SELLER else ())
        assert decide(ready, fact)[1] == (Say(word=Word.LATE_OK),)
        with pytest.raises(Refused, match="late_fits"):
            decide(ready, later)
        with pytest.raises(Refused, match="not_cancelled"):
            decide(replace(ready, cancelled=True), fact)
    cancelled, orders = decide(lot(State.FUNDED, Role.SELLER), f.CancelWanted(at=AT))
    assert (cancelled.cancelled, type(orders[0])) == (True, SignCancel)
    asked, orders = decide(late_lot(State.STRAY, Role.BUYER), f.CancelWanted(at=AT))
    assert (asked.cancelled, orders) == (True, (Say(word=Word.CANCEL_ASK),))


@pytest.mark.parametrize(
    ("changes", "coin"),
    [
        ({}, Coin(POINT, ENOUGH - 1, LATE.height)),
        ({"deal": replace(DEAL, series=True)}, LATE),
        ({"deal": replace(DEAL, bond=True)}, LATE),
        ({"number": 1}, LATE),
        ({"ready": (B, S, *ARBITERS[:2])}, LATE),
        ({"coin": replace_point(LATE)}, LATE),
    ],
    ids=["too little", "a stage", "a bond", "a stray by itself", "one was not READY", "beside another coin"],
)
def test_what_never_counts(changes: dict[str, Any], coin: Coin) -> None:
    """Only a coin of A + a, only for a lot that stands alone and on no other coin."""
    seller = late_lot(State.STRAY, Role.SELLER, late_asked=(POINT,))
    with pytest.raises(Refused, match="may_count_late"):
        decide(replace(seller, **changes), f.LateCoin(at=AT, coin=coin))


def test_a_question_for_another_coin_undoes_nothing() -> None:
    """A buyer that asks twice does not keep arbiters from the coin the seller answered for; unasked, none counts."""
    arbiter = late_lot(State.VOID, Role.ARBITER)
    for fact in (said(B), said(B, OTHER), said(B)):
        arbiter, _ = decide(arbiter, fact)
    assert arbiter.late_asked == (POINT, OTHER)
    assert decide(arbiter, said(S))[0].late_agreed == POINT
    for fact in (said(S, "cc" * 32 + ":0"), said("anna")):
        with pytest.raises(Refused):
            decide(arbiter, fact)


def test_after_the_answer_nobody_asks_for_a_cancel_by_itself() -> None:
    """Between the answer and the next look the buyer's cancel is refused, and the seller's node offers none."""
    buyer = late_lot(State.STRAY, Role.BUYER, late_asked=(POINT,), late_agreed=POINT)
    with pytest.raises(Refused, match="not_adopted"):
        decide(buyer, f.CancelWanted(at=AT))
    seller = replace(buyer, me=S, role=Role.SELLER)
    assert decide(seller, f.Clock(at=UNTIL + 1)) == (seller, ())


def test_everybody_named_hears_it() -> None:
    """Arbiters have to know which coin they may be asked about, before anybody disputes."""
    assert hearers(Word.LATE_OK, late_lot(State.VOID, Role.SELLER)) == (B, *ARBITERS)


def test_which_coin_is_asked_for() -> None:
    """The lot's own late one, or the first that is enough beside a lot without a coin; a live lot has none."""
    beside = [lot(State.STRAY, number=n, coin=coin) for n, coin in enumerate((Coin(OTHER, 5, 100), LATE), start=1)]
    assert late_coin([late_lot(State.VOID, Role.BUYER), *beside]) == LATE
    assert late_coin([late_lot(State.STRAY, Role.BUYER)]) == LATE
    assert late_coin([lot(State.FUNDED), *beside]) is None
    assert late_coin([late_lot(State.VOID, Role.BUYER), beside[0]]) is None
    assert late_coin([]) is None


def test_the_seller_asks_at_start_who_is_there_and_may_stop() -> None:
    """Where K is shown to standby arbiters they are asked at START; too few of them is told, and a cancel is open."""
    seen = lot(State.FUNDED_SEEN, Role.SELLER)
    begun, orders = decide(seen, f.CoinDeep(at=107, coin=COIN))
    assert orders[-1] == PingArbiters()
    assert decide(begun, f.ArbitersStandBy(at=108, answers=2, asked_at=108)) == (begun, ())
    silent, orders = decide(begun, f.ArbitersSilent(at=108))
    assert (silent.state, silent.unattended, orders) == (State.FUNDED, True, (Tell(news=News.ARBITERS_SILENT),))
    assert "stop" in items(silent)[0].what
    assert type(decide(silent, f.CancelWanted(at=109))[1][0]) is SignCancel
    plain = replace(seen, deal=replace(DEAL, lock=False))
    assert PingArbiters() not in decide(plain, f.CoinDeep(at=107, coin=COIN))[1], "without a lock nobody waits for them"
    for state in (State.DELIVERED, State.DISPUTED):
        with pytest.raises((Refused, WrongPhase)):
            decide(lot(state, Role.SELLER, delivered_at=108), f.ArbitersSilent(at=109))
    answers = ((Role.SELLER, 1), (Role.BUYER, 1), (Role.ARBITER, 1), (Role.BUYER, 2))
    told = [ping_fact(lot(role=role), count, 108, 109) for role, count in answers]
    assert told == [f.ArbitersSilent(at=109), f.ArbitersSilent(at=109), None, None]


def test_a_funding_of_its_own_is_ordered_once() -> None:
    """A lot that is void never pays a second time by itself: what comes late was paid already."""
    after, orders = decide(late_lot(State.VOID, Role.BUYER), wanted())
    assert not any(isinstance(order, Fund | Tell) for order in orders)
    assert after.state is State.VOID
