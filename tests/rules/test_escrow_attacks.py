"""What liars say to a node's table: each of these once cost an honest party its coins."""

from __future__ import annotations

from msgspec.structs import replace

from common.units import FLOP
from dux_escrowd import facts as f
from dux_escrowd.hearing import concerns
from dux_escrowd.model import AwardKey, AwardSigned, Ballot, Coin, Exit, Lot, Role, Spend, State
from dux_escrowd.observe import STRAYS_AT_TIMEOUT_MAX, STRAYS_MAX, OnChain, next_fact
from dux_escrowd.orders import OpenStray, PassOn
from dux_escrowd.rules import decide
from dux_escrowd.voting import answer_window_over, automatic_vote, may_cosign
from dux_sim.proof.cast import ARBITERS, PRICE, B, S, deal_for
from tests.attacks.registry import attack

POINT = "aa" * 32 + ":0"
DEAL = deal_for()
COIN = Coin(POINT, DEAL.lot_florins, 105)
KEY = AwardKey(POINT, PRICE, ARBITERS)


def arbiter(**changes: object) -> Lot:
    """Anna, who has heard both sides, and knows delivery and key."""
    lot = Lot(
        contract_id="c" * 64, me="anna", role=Role.ARBITER, deal=DEAL, state=State.ANSWERED, panel=ARBITERS, coin=COIN,
        started=True, delivered_at=110, key_known=True, disputed_by=S, disputed_at=112, answered=True,
    )  # fmt: skip
    return replace(lot, **changes)


def release(gross_florins: int) -> f.ReleaseSaid:
    """The buyer's valid coin signatures for this gross."""
    return f.ReleaseSaid(at=113, by=B, outpoint=POINT, gross_florins=gross_florins, valid=True)


@attack(
    "escrow",
    tries="a buyer releases a part in a dispute, to set its own price",
    meets="a part is the least of a vote; the whole price decides",
)
def test_a_release_of_a_part_is_no_verdict() -> None:
    """A buyer cannot set its own price in a dispute: a part is the least of a vote, the whole price decides."""
    part, _orders = decide(arbiter(), release(FLOP // 5))
    assert (part.vote_florins, automatic_vote(part, 113)) == (None, None)
    whole, _orders = decide(arbiter(), release(PRICE))
    assert whole.vote_florins == PRICE
    nothing, _orders = decide(arbiter(delivered_at=None, started=False), release(FLOP // 5))
    over = DEAL.heights.answer_by + 1
    assert (nothing.vote_florins, automatic_vote(nothing, over)) == (None, FLOP // 5)


@attack(
    "escrow",
    tries="holds its word back, so that a statement comes late",
    meets="the case waits until the time to answer is over",
)
def test_silence_tells_an_arbiter_nothing_while_a_statement_may_be_on_its_way() -> None:
    """Both have answered, and no DELIVERED is here: the case waits for it until the time to answer is over."""
    unheard = arbiter(delivered_at=None, release_gross_florins=None)
    waiting, orders = decide(unheard, f.Clock(at=DEAL.heights.answer_by))
    assert (waiting.vote_florins, orders) == (None, ())
    said = f.DeliverySaid(at=DEAL.heights.answer_by, by=S, claimed_at=DEAL.heights.deliver_by)
    heard, _orders = decide(waiting, said)
    assert (heard.vote_florins, heard.case_open) == (None, True)
    silent, _orders = decide(waiting, f.Clock(at=DEAL.heights.answer_by + 1))
    assert silent.vote_florins == 0
    fast = arbiter(delivered_at=None, started=False)
    last = 112 + DEAL.start_blocks
    votes = [decide(fast, f.Clock(at=at))[0].vote_florins for at in (last, last + 1)]
    assert votes == [None, 0]


@attack(
    "escrow",
    tries="signs forked releases of what cannot be paid",
    meets="binds nobody; a legal one counts against it",
)
def test_a_buyer_that_contradicts_itself_binds_nobody_to_what_cannot_be_paid() -> None:
    """Illegal gross or another coin in a forked release leave the case to judgement; a legal one counts against it."""
    for gross, point in ((10**18, POINT), (1, POINT), (PRICE, "bb" * 32 + ":0"), (PRICE, None)):
        fault = f.Equivocation(at=113, by=B, gross_florins=gross, outpoint=point)
        after, _orders = decide(arbiter(), fault)
        assert (after.faulty, after.release_gross_florins, automatic_vote(after, 113)) == ((B,), None, None)
    held, _orders = decide(arbiter(), release(PRICE))
    fork = f.Equivocation(at=114, by=B, gross_florins=PRICE, outpoint="bb" * 32 + ":0")
    assert decide(held, fork)[0].release_stands
    legal = f.Equivocation(at=113, by=B, gross_florins=PRICE, outpoint=POINT)
    assert automatic_vote(decide(arbiter(), legal)[0], 113) == PRICE


@attack(
    "escrow",
    tries="an arbiter sends its award before votes are open, or twice",
    meets="learns nothing of a vote, gets no signature",
)
def test_no_arbiter_signs_with_another_before_its_own_vote_is_open() -> None:
    """An award that comes before the reveal learns nothing of a vote and gets no signature; nor does a doubled name."""
    ballot = Ballot("anna", b"", None)
    voted = arbiter(vote_florins=PRICE, ballots=(ballot,))
    assert not may_cosign(voted, KEY, 130)
    opened = replace(voted, ballots=(replace(ballot, gross_florins=PRICE),))
    assert may_cosign(opened, KEY, 130)
    assert not may_cosign(opened, replace(KEY, revealed=("anna", "anna", "bert")), 130)
    signed, _orders = decide(opened, f.AwardSaid(at=130, by="bert", key=KEY, valid=True))
    assert AwardSigned("anna", KEY) in signed.awards


@attack("escrow", tries="dust on the contract's script before its funding", meets="the funding is seen first")
def test_dust_never_hides_the_funding() -> None:
    """Any number of small outputs before the funding on the chain: it is seen first, and they are forgotten at last."""
    lot = Lot(contract_id="c" * 64, me=B, role=Role.BUYER, deal=DEAL, state=State.AGREED, panel=ARBITERS)
    dust = [OnChain(Coin(f"{number:064x}:0", FLOP // 100, 104), None) for number in range(200)]
    found = next_fact([lot], [*dust, OnChain(COIN, None)], 105)
    assert found == (0, f.OutputSeen(at=105, coin=COIN))
    strays = [replace(lot, number=n + 1, coin=dust[n].coin, state=State.VOID) for n in range(STRAYS_MAX)]
    later = [item for item in dust if item.coin.outpoint not in {stray.outpoint for stray in strays}]
    assert next_fact([lot, *strays], [*later, *dust[:STRAYS_MAX]], 105) is None
    assert next_fact([lot, *strays], [*dust, OnChain(COIN, None)], 105) == found


@attack("escrow", tries="hides the buyer's own small payments under dust", meets="from T on the most valuable go back")
def test_what_was_paid_too_little_comes_back_at_timeout_whatever_lies_beside_it() -> None:
    """Sixteen strays are followed before T; at T the buyer follows more of them, the largest first, within a bound."""
    timeout = DEAL.heights.timeout
    lot = Lot(contract_id="c" * 64, me=B, role=Role.BUYER, deal=DEAL, state=State.VOID, panel=ARBITERS)
    dust = [OnChain(Coin(f"{number:064x}:0", FLOP // 100, 104), None) for number in range(STRAYS_AT_TIMEOUT_MAX + 1)]
    strays = [replace(lot, number=n + 1, coin=item.coin, state=State.STRAY) for n, item in enumerate(dust)]
    mine = OnChain(Coin("dd" * 32 + ":0", FLOP // 2, 105), None)
    gone = OnChain(Coin("de" * 32 + ":0", FLOP, 105), Spend(Exit.REFUND, "ef" * 32, 0, 106))
    beside, outputs = strays[:STRAYS_MAX], [*dust[:40], gone, mine]
    assert next_fact([lot, *beside], outputs, timeout - 1) is None
    found = next_fact([lot, *beside], outputs, timeout)
    assert found == (0, f.OutputSeen(at=timeout, coin=mine.coin))
    assert [type(order) for order in decide(lot, found[1])[1]] == [OpenStray]
    seen = replace(lot, number=17, coin=mine.coin, state=State.FUNDED_SEEN)
    stray = decide(seen, f.CoinDeep(at=timeout, coin=mine.coin))[0]
    assert decide(stray, f.Clock(at=timeout))[0].state is State.REFUND_SENT
    assert next_fact([lot, *strays], [*dust, mine], timeout) is None
    sellers = [replace(one, me=S, role=Role.SELLER) for one in (lot, *beside)]
    assert next_fact(sellers, outputs, timeout) is None


@attack("escrow", tries="asks the panel alone for the fast award", meets="the other party is told")
def test_an_arbiter_tells_the_other_party_of_a_dispute() -> None:
    """A lying buyer that asks the panel alone cannot have the fast award behind the seller's back."""
    lot = arbiter(state=State.FUNDED, funded_at=106, delivered_at=None, started=False, answered=False, disputed_by=None)
    disputed, orders = decide(lot, f.DisputeSaid(at=107, by=B))
    assert PassOn() in orders
    assert concerns(disputed, S, B)
    assert not concerns(disputed, B, S)
    assert not concerns(disputed, "bert", B)


@attack(
    "escrow",
    tries="disputes before the coin is deep, or with two tongues",
    meets="blocks for START are left; no fast award for a liar",
)
def test_the_fast_award_counts_from_the_funding_and_not_for_two_tongues() -> None:
    """A dispute heard before the coin was deep leaves blocks for START; a forked opener has no fast award."""
    lot = arbiter(funded_at=106, delivered_at=None, started=False, answered=False, disputed_by=B, disputed_at=100)
    last = 106 + DEAL.start_blocks
    assert not answer_window_over(lot, last)
    assert answer_window_over(lot, last + 1)
    forked = replace(lot, faulty=(B,))
    assert not answer_window_over(forked, DEAL.heights.answer_by)
    assert answer_window_over(forked, DEAL.heights.answer_by + 1)
