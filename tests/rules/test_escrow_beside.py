"""Strays: asked for when they can count no more, given back where K has nothing to sell or by an award, else at T."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from common.contracts.escrow import Refused, WrongPhase
from dux_escrowd import facts as f
from dux_escrowd.beside import addressed, standing_of
from dux_escrowd.guards import late_until
from dux_escrowd.hearing import hearers
from dux_escrowd.model import AwardKey, AwardSigned, Coin, Exit, Lot, Role, Spend, Standing, State
from dux_escrowd.observe import OnChain, next_fact
from dux_escrowd.orders import Say, Settle, SignAward, SignCancel, Word
from dux_escrowd.rules import decide, still_wanted
from dux_sim.proof.cast import ARBITERS, B, S
from tests.rules.test_escrow_table import COIN, DEAL, ENOUGH, OTHER, POINT, H, lot

UNTIL = late_until(DEAL)
BACK = AwardKey(OTHER, 0, ())
OPEN_DEAL = replace(DEAL, lock=False)
VOID = Standing(state=State.VOID, funded=False, adopted=False, delivered=False, paid=False)
LIVE = replace(VOID, state=State.DELIVERED, funded=True, delivered=True)
PAID = replace(LIVE, state=State.CLOSED, paid=True)


def stray(role: Role, *, florins: int = ENOUGH, **changes: Any) -> Lot:
    """A stray that the buyer has asked for."""
    coin = Coin(OTHER, florins, H.fund_by + 1)
    return lot(State.STRAY, role, number=1, coin=coin, **{"asked_back": True} | changes)


def told(beside: Standing, at: int = UNTIL + 1) -> f.Fact:
    """What the stray is told of the lot."""
    return f.StrayAsked(at=at, beside=beside)


@pytest.mark.parametrize(
    ("beside", "lock", "free"),
    [
        (VOID, True, True),
        (replace(VOID, adopted=True), True, False),
        (replace(VOID, delivered=True), True, False),
        (replace(VOID, state=State.AGREED), True, False),
        (replace(LIVE, state=State.FUNDED, delivered=False), True, False),
        (LIVE, True, False),
        (replace(LIVE, state=State.REVEALED), True, False),
        (replace(LIVE, state=State.RELEASE_SEEN, paid=True), True, False),
        (PAID, True, True),
        (replace(PAID, paid=False), True, False),
        (replace(PAID, paid=False, delivered=False), True, True),
        (LIVE, False, True),
        (replace(LIVE, funded=False), False, False),
        (replace(PAID, paid=False), False, True),
        (VOID, False, True),
    ],
)
def test_the_seller_cancels_a_stray_only_when_k_has_nothing_left_to_sell(
    beside: Standing, *, lock: bool, free: bool
) -> None:
    """All outputs share h: with a lock never beside a live lot, nor after a delivery that was not paid."""
    seller = stray(Role.SELLER, deal=DEAL if lock else OPEN_DEAL)
    if not free:
        with pytest.raises(Refused, match="key_is_free"):
            decide(seller, told(beside))
        return
    after, orders = decide(seller, told(beside))
    assert (after.state, orders) == (State.CANCEL_SIGNED, (SignCancel(outpoint=OTHER, not_after=H.timeout),))
    assert still_wanted(after, orders[0], UNTIL + 1)


def test_a_late_coin_is_not_cancelled_while_it_may_count() -> None:
    """Up to the last block for LATE_OK a void lot keeps its key."""
    with pytest.raises(Refused, match="key_is_free"):
        decide(stray(Role.SELLER), told(VOID, UNTIL))


@pytest.mark.parametrize(
    ("beside", "changes", "never"),
    [
        (LIVE, {}, True),
        (PAID, {}, True),
        (VOID, {}, False),
        (replace(VOID, state=State.FUNDED_SEEN), {}, False),
        (VOID, {"florins": ENOUGH - 1}, True),
        (LIVE, {"deal": replace(DEAL, bond=True)}, False),
        (LIVE, {"asked_back": False}, False),
    ],
)
def test_arbiters_sign_a_stray_back_by_chain_evidence_alone(
    beside: Standing, changes: dict[str, Any], *, never: bool
) -> None:
    """Only what can never be the lot's coin, said or not; nothing unasked, before its time or in the last margin."""
    arbiter = stray(Role.ARBITER, **changes)
    if not never:
        with pytest.raises(Refused):
            decide(arbiter, told(beside))
        return
    after, orders = decide(arbiter, told(beside))
    assert (after.state, after.awards) == (State.AWARD_SIGNED, (AwardSigned("anna", BACK),))
    assert orders == (SignAward(key=BACK, not_after=H.vote_by),)
    assert still_wanted(after, orders[0], H.vote_by)
    with pytest.raises(Refused, match="late_over"):  # the lot's coin may go, and this one be let count
        decide(arbiter, told(beside, UNTIL))
    with pytest.raises(Refused, match="by_vote_by"):
        decide(arbiter, told(beside, H.vote_by + 1))
    other = f.AwardSaid(at=UNTIL, by="bert", key=BACK, valid=True)
    assert decide(after, other) == (after, ())


def test_the_buyers_node_asks_once_when_nothing_can_count_any_more() -> None:
    """By itself, after the last block for LATE_OK and before T; everybody named hears it."""
    mine = stray(Role.BUYER, asked_back=False)
    assert decide(mine, f.Clock(at=UNTIL)) == (mine, ())
    after, orders = decide(mine, f.Clock(at=UNTIL + 1))
    assert (after.asked_back, orders) == (True, (Say(word=Word.CANCEL_ASK),))
    assert decide(after, f.Clock(at=UNTIL + 2)) == (after, ())
    assert decide(mine, f.Clock(at=H.timeout))[0].state is State.REFUND_SENT
    assert hearers(Word.CANCEL_ASK, mine) == (S, *ARBITERS)
    for role in (Role.SELLER, Role.ARBITER):
        heard = stray(role, asked_back=False)
        assert decide(heard, f.CancelAsked(at=UNTIL + 1, by=B, outpoint=OTHER))[0].asked_back
        for wrong in (f.CancelAsked(at=1, by=S, outpoint=OTHER), f.CancelAsked(at=1, by=B, outpoint=POINT)):
            with pytest.raises(Refused):
                decide(heard, wrong)


def test_the_buyer_takes_the_stray_by_k_signatures_or_by_the_cancel() -> None:
    """The k-th «stray» award is handed in; one that pays anybody, or of another coin, is none; a cancel is taken."""
    said = f.AwardSaid(at=UNTIL + 2, by="anna", key=BACK, valid=True)
    one, orders = decide(stray(Role.BUYER), said)
    assert (one.state, orders) == (State.STRAY, ())
    two, orders = decide(one, replace(said, by="bert"))
    assert (two.state, orders) == (
        State.AWARD_SIGNED, (Settle(exit=Exit.AWARD, outpoint=OTHER, not_after=None, award=BACK),),
    )  # fmt: skip
    seller = decide(decide(stray(Role.SELLER), said)[0], replace(said, by="bert"))
    assert (seller[0].state, seller[1]) == (State.AWARD_SIGNED, ())
    for key in (AwardKey(OTHER, ENOUGH, ()), AwardKey(OTHER, 0, ("anna",)), AwardKey(POINT, 0, ()), replace_bond(BACK)):
        with pytest.raises(Refused):
            decide(stray(Role.BUYER), replace(said, key=key))
    for wrong in (replace(said, valid=False), replace(said, by=S)):
        with pytest.raises(Refused):
            decide(stray(Role.BUYER), wrong)
    with pytest.raises(Refused):
        decide(lot(State.STRAY), replace(said, key=AwardKey(POINT, 0, ())))  # the lot's own coin is no stray
    after, _ = decide(stray(Role.BUYER), f.CancelSaid(at=UNTIL + 2, by=S, outpoint=OTHER, valid=True))
    assert after.state is State.CANCEL_SIGNED


def replace_bond(key: AwardKey) -> AwardKey:
    """The same award with a bond's coin."""
    return AwardKey(key.outpoint, key.gross_florins, key.revealed, "bond:0")


def test_a_word_about_a_coin_is_for_the_record_that_rests_on_it() -> None:
    """A stray by its outpoint, else the lot; a request for another coin is no request to end the lot."""
    lots = [lot(), stray(Role.BUYER)]
    assert [addressed(lots, point).number for point in (OTHER, POINT, "", "cc" * 32 + ":0")] == [1, 0, 0, 0]
    for state in (State.FUNDED, State.STRAY):
        with pytest.raises((Refused, WrongPhase)):
            decide(lot(state, Role.SELLER), f.CancelAsked(at=110, by=B, outpoint=OTHER))


def test_a_stray_is_told_of_the_lot_until_it_is_given_back() -> None:
    """At each look, for the seller and the arbiters; the buyer is told nothing, nobody of what was not asked for."""
    outputs = [OnChain(COIN, None), OnChain(stray(Role.SELLER).coin, None)]
    for role in (Role.SELLER, Role.ARBITER):
        main = lot(State.DELIVERED, role, funded_at=107, delivered_at=110, spend=None)
        found = (1, told(standing_of(main)))
        assert next_fact([main, stray(role)], outputs, UNTIL + 1) == found
        assert next_fact([main, stray(role)], outputs, UNTIL + 1, {found}) is None
        assert next_fact([main, stray(role, asked_back=False)], outputs, UNTIL + 1) is None
        assert next_fact([main, replace(stray(role), state=State.CANCEL_SIGNED)], outputs, UNTIL + 1) is None
    assert next_fact([lot(), stray(Role.BUYER)], outputs, UNTIL + 1) is None
    assert standing_of(lot(State.CLOSED, spend=Spend(Exit.RELEASE, "t", 5, 120))).paid


def test_a_stray_that_was_given_back_never_becomes_the_lots_coin() -> None:
    """A reorganisation takes the lot's coin: an output whose way back somebody holds is not taken in its place."""
    main = lot(State.AGREED, Role.SELLER)
    second = Coin(OTHER, ENOUGH, H.fund_by)
    given = replace(stray(Role.SELLER), coin=second)
    found = (0, f.OutputSeen(at=H.fund_by, coin=second))
    assert next_fact([main, replace(given, asked_back=False)], [OnChain(second, None)], H.fund_by) == found
    for state in (State.CANCEL_SIGNED, State.AWARD_SIGNED):
        assert next_fact([main, replace(given, state=state)], [OnChain(second, None)], H.fund_by) is None
