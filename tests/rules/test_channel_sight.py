"""What each side of a channel makes of the outputs on its script: dust, further ones, and what reorganisations took."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from common.chain.channel import ChannelTerms, refund_fee
from common.chain.tx import Outpoint
from common.contracts import wallet_chain as chain
from common.contracts.escrow import WrongPhase
from common.units import FLOP, BlockHeight, Florins
from dux_escrowd.channel import facts as f
from dux_escrowd.channel import orders as o
from dux_escrowd.channel import payer
from dux_escrowd.channel.follower import FOLLOWED_AFTER_END_BLOCKS, FURTHER_AT_ONCE, further_due, is_past, next_fact
from dux_escrowd.channel.ledger import decide
from dux_escrowd.channel.model import Channel, Coin, Payee, PayeeState, Payer, PayerState, Spend, SpendKind
from dux_escrowd.channel.orders import Close
from tests.chain.test_channel import terms
from tests.rules.channel_kit import RULES, hello_back, open_pair, voucher, wanted, went

TERMS: ChannelTerms = terms()
CLOSE = Spend(SpendKind.CLOSE, "cc" * 32, 20_000_000, 105)
DUST, EXP, ZONE = 2_000_000, RULES.exp, RULES.exp - RULES.zone


def output(name: str, value: int, height: int | None = 101, spend: chain.SpendView | None = None) -> chain.CoinView:
    at = None if height is None else BlockHeight(height)
    return chain.CoinView(
        outpoint=Outpoint(name * 32, 0), value_florins=Florins(value), height=at, position=1, spend=spend
    )


def looked(side: Channel, coins: list[chain.CoinView], tip: int) -> Channel:
    """The side after everything that a look at these outputs tells it."""
    while (fact := next_fact(side, TERMS, coins, tip)) is not None:
        before, side = side, decide(side, fact).next
        if side == before:
            break
    return decide(side, f.Clock(at=tip)).next


def waiting_pair() -> tuple[Payer, Payee]:
    """Both sides before any coin is there."""
    buyer = went(Payer(chid="c4" * 32, rules=RULES), f.OpenOk(at=100, same=True))
    return buyer, went(Payee(chid="c4" * 32, rules=RULES), f.OpenAsked(at=100, problem=""))


def test_dust_never_hides_the_funding() -> None:
    """Anybody may pay the script: what is too small or in no block is passed over, by both sides alike."""
    coins = [output("aa", DUST), output("ab", 9 * FLOP, None), output("bb", 5 * FLOP, 102), output("bc", 7 * FLOP, 103)]
    for side in waiting_pair():
        assert looked(side, coins[:2], 103).coin is None
        found = looked(side, coins, 103)
        assert found.coin == Coin("bb" * 32 + ":0", 5 * FLOP, 102)
        assert found.state.value == "OPEN_SEEN"


def test_a_suspended_payee_takes_the_coin_that_its_vouchers_are_for() -> None:
    """An output that came before it in the chain's order does not make vouchers worthless."""
    buyer, seller = open_pair()
    seller = went(seller, voucher(went(buyer, wanted(1)), 1))
    gone = looked(seller, [], 111)
    assert (gone.state, gone.coin) == (PayeeState.SUSPENDED, None)
    back = looked(gone, [output("aa", 5 * FLOP, 104), output("ab", 10 * FLOP, 112)], 112)
    assert back.coin is not None
    assert back.coin.outpoint == seller.outpoint
    assert back.held_florins == seller.held_florins


def test_further_outputs_go_back_to_their_payer_from_exp_on() -> None:
    """Each one but the channel's own, the largest first, the fee by the blocks that went by and never to dust."""
    buyer, seller = open_pair()
    assert buyer.coin is not None
    fee = int(refund_fee(TERMS))
    spent = chain.SpendView(txid="ee" * 32, height=BlockHeight(EXP), raw=b"", script_sig=b"")
    waits = replace(spent, height=None)
    coins = [
        output("ab", 10 * FLOP), output("bb", DUST), output("bc", 5 * FLOP), output("bd", 4 * FLOP, None),
        output("be", 3 * FLOP, spend=spent), output("bf", 2 * FLOP, spend=waits), output("d0", fee),
    ]  # fmt: skip
    assert further_due(buyer, TERMS, coins, EXP - 1) == []
    assert further_due(seller, TERMS, coins, EXP) == []
    due = further_due(buyer, TERMS, coins, EXP)
    assert [(point.txid[:2], step) for point, step in due] == [("bc", 0), ("bf", 0), ("bb", 0)]
    assert further_due(buyer, TERMS, coins, EXP + 500 * RULES.step)[0][1] == 2
    assert further_due(replace(buyer, state=PayerState.CLOSED), TERMS, coins, EXP) == due
    lonely = further_due(replace(buyer, coin=None), TERMS, coins[:1], EXP)
    assert [point.txid[:2] for point, _step in lonely] == ["ab"]
    many = [output(f"{number:02x}", FLOP) for number in range(40)]
    assert len(further_due(buyer, TERMS, many, EXP)) == FURTHER_AT_ONCE


@pytest.mark.parametrize("more", [(), (f.SpendDeep(at=112, spend=CLOSE),)])
def test_a_reorganisation_that_takes_close_and_funding(more: tuple[f.Fact, ...]) -> None:
    """The funding comes back under another id: the payer rests on that one and has it back at EXP."""
    buyer, seller = open_pair()
    for side in (buyer, went(seller, voucher(went(buyer, wanted(1)), 1))):
        ended = went(side, f.SpendSeen(at=105, spend=CLOSE), *more)
        moved = looked(ended, [output("dd", 10 * FLOP, 113)], 113)
        assert moved.spend is None
        assert moved.coin == Coin("dd" * 32 + ":0", 10 * FLOP, 113)
        assert moved.state.value in ("RESYNC", "SUSPENDED")
        if isinstance(moved, Payer):
            refunded = looked(moved, [output("dd", 10 * FLOP, 113)], EXP)
            assert refunded.state is PayerState.REFUND_SENT


def test_an_ended_channel_is_followed_until_nothing_can_happen_any_more() -> None:
    """A day after the spend; the payer's, because of other outputs on its script, not before a day after EXP."""
    buyer, seller = open_pair()
    for side, last in ((buyer, EXP), (seller, 105)):
        ended = went(side, f.SpendSeen(at=105, spend=CLOSE), f.SpendDeep(at=112, spend=CLOSE))
        assert [is_past(ended, last + FOLLOWED_AFTER_END_BLOCKS + more) for more in (0, 1)] == [False, True]
        assert not is_past(side, EXP + 10_000)
    lost = went(seller, f.SpendSeen(at=EXP, spend=Spend(SpendKind.REFUND, "dd" * 32, 0, EXP)))
    assert [is_past(lost, EXP + FOLLOWED_AFTER_END_BLOCKS + more) for more in (0, 1)] == [False, True]


def test_a_channel_that_was_never_paid_is_withdrawn() -> None:
    """Its owner may say so before a coin is there; what is paid all the same is the payer's again at EXP."""
    buyer, _ = waiting_pair()
    wanted, orders = payer.decide(buyer, f.CloseWanted(at=104, nonce=b"n" * 32))
    assert (wanted.state, orders) == (PayerState.FUND_SENT, (o.Withdraw(),))
    assert went(buyer, f.NotFunded(at=104)) == buyer  # nobody wants its end
    after = went(wanted, f.NotFunded(at=104))
    assert after.state is PayerState.CLOSED
    coins = [output("bb", 5 * FLOP, 105)]
    assert looked(after, coins, 106) == after
    assert further_due(after, TERMS, coins, EXP) == [(coins[0].outpoint, 0)]


def test_a_channel_whose_funding_is_on_its_way_is_closed_once_the_coin_is_there() -> None:
    """The end was wanted before: the first session asks for it, no call goes out, and a late word is nothing."""
    buyer, _ = waiting_pair()
    seen = looked(went(buyer, f.CloseWanted(at=104, nonce=b"n" * 32)), [output("bb", 10 * FLOP, 105)], 105)
    assert (seen.state, seen.closing) == (PayerState.OPEN_SEEN, True)
    assert went(seen, f.NotFunded(at=105)) == seen
    with pytest.raises(WrongPhase):
        payer.decide(seen, wanted(1))
    greeted = went(seen, f.Started(at=105, nonce=b"m" * 32))
    ending, orders = payer.decide(greeted, hello_back(nonce=b"m" * 32))
    assert (ending.state, orders) == (PayerState.DRAINING, (o.SendFinal(cum_florins=0, next_script=b""),))


def test_a_coin_that_is_back_in_the_zone_is_closed_at_once() -> None:
    """It was away exactly when the zone began: vouchers are stored, so the end is the close and nothing is lost."""
    buyer, seller = open_pair()
    held = went(seller, voucher(went(buyer, wanted(1)), 1))
    for side, state in ((held, PayeeState.CLOSE_SENT), (seller, PayeeState.ABANDONED)):
        away = looked(side, [], ZONE)
        assert away.state is PayeeState.ABANDONED
        assert looked(away, [output("ab", 10 * FLOP, ZONE)], ZONE + 1).state is state
    away = looked(held, [], ZONE)
    coin = Coin(held.outpoint, 10 * FLOP, ZONE + 1)
    after, orders = decide(away, f.CoinSeen(at=ZONE + 1, coin=coin))
    assert after.closing is not None
    assert [order.cum_florins for order in orders if isinstance(order, Close)] == [held.held_florins]
