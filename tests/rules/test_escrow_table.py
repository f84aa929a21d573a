"""The table row by row where random histories seldom lead, and that nothing else is in it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from common.chain.contract import Policy
from common.contracts.escrow import Refused, WrongPhase
from common.contracts.escrow_views import STATUS_OF, Status, status_of
from common.receipts import Outcome
from dux_escrowd import facts as f
from dux_escrowd.beside import standing_of
from dux_escrowd.explain import NEXT, explain
from dux_escrowd.guards import late_until
from dux_escrowd.model import SEEN, WITH_COIN, AwardKey, Ballot, Coin, Exit, Lot, Role, Spend, State
from dux_escrowd.observe import OnChain, next_fact
from dux_escrowd.orders import Fund, OpenStray, PublishFault, Settle, SignAward, SignCancel, SignRelease, Tell
from dux_escrowd.rules import ROWS, TABLE, decide, still_wanted
from dux_escrowd.voting import automatic_vote, case_is_ready, is_gross, verdict
from dux_sim.proof.cast import ARBITERS, PRICE, B, S, deal_for

POINT, OTHER = "aa" * 32 + ":0", "bb" * 32 + ":1"
DEAL = deal_for()
ENOUGH = DEAL.lot_florins
H = DEAL.heights
COIN = Coin(POINT, ENOUGH, 105)
KEY = AwardKey(POINT, 0, ARBITERS)


def lot(state: State = State.FUNDED, role: Role = Role.BUYER, **changes: Any) -> Lot:
    """A lot in a state, with a coin where there has to be one."""
    me = {Role.BUYER: B, Role.SELLER: S, Role.ARBITER: "anna"}[role]
    fields: dict[str, Any] = {
        "contract_id": "c" * 64, "me": me, "role": role, "deal": DEAL, "state": state, "panel": ARBITERS,
        "coin": COIN if state in (*WITH_COIN, *SEEN, State.CLOSED) else None,
    }  # fmt: skip
    return Lot(**fields | changes)


def sample(kind: type[f.Fact]) -> f.Fact:
    """A fact of this kind with something in every field."""
    known: dict[str, Any] = {
        "at": 110, "by": B, "coin": COIN, "outpoint": POINT, "spend": Spend(Exit.REFUND, "t", 0, None), "txid": "t",
        "panel": ARBITERS, "same": True, "claimed_at": 110, "answers": 3, "asked_at": 110, "gross_florins": PRICE,
        "valid": True, "commitment": b"c", "fits": True, "key": KEY, "exit": Exit.REFUND,
        "beside": standing_of(Lot(contract_id="c" * 64, me=B, role=Role.BUYER, deal=DEAL)),
    }  # fmt: skip
    if kind is f.EvidenceArrived:
        known["key"] = True
    names = [name for name in kind.__struct_fields__ if name in known]
    return kind(**{name: known[name] for name in names})


KINDS = f.AnyFact.__args__


def test_what_stands_nowhere_changes_nothing() -> None:
    """Every pair of state and fact that no row names raises WrongPhase for every role and changes nothing."""
    refused = 0
    for state in State:
        for kind in KINDS:
            for role in Role:
                rows = [row for row in TABLE.get((state, kind), ()) if row.who is None or role in row.who]
                if not rows:
                    before = lot(state, role)
                    with pytest.raises(WrongPhase):
                        decide(before, sample(kind))
                    refused += 1
    assert refused > 1_000


def test_every_row_names_its_source_and_every_state_is_reached_or_begun() -> None:
    """A reader finds each row in the protocol; no state stands in the table that nothing leads to."""
    assert all("§" in row.source or row.fact is f.Clock or "nobody" in row.source for row in ROWS)
    reached = {State.DRAFT, State.FUNDED_SEEN}
    for row in ROWS:
        if row.to is not None:
            reached |= set(row.to.options) if hasattr(row.to, "options") else {row.to}
    assert reached == set(State)
    assert {state for state, _ in TABLE} == set(State)


def test_a_guard_that_fails_is_named() -> None:
    """Refused says which condition is not met, and nothing changes."""
    with pytest.raises(Refused, match="before_deliver_by"):
        decide(lot(role=Role.SELLER), f.DeliveryMade(at=H.deliver_by + 1))


def orders_of(before: Lot, fact: f.Fact) -> tuple[Any, ...]:
    """What is ordered; nothing where the fact is refused."""
    try:
        return decide(before, fact)[1]
    except (Refused, WrongPhase):
        return ()


# --- strays -----------------------------------------------------------------------------------------------------------


def test_a_late_coin_of_the_lot_is_a_stray_that_the_seller_offers_to_cancel() -> None:
    """Confirmed after fund_by: no work for it; the seller signs its cancel once it cannot count, or on request."""
    late = Coin(POINT, ENOUGH, H.fund_by + 1)
    for role in (Role.SELLER, Role.BUYER):
        after, orders = decide(lot(State.FUNDED_SEEN, role), f.CoinDeep(at=H.fund_by + 3, coin=late))
        assert (after.state, orders) == (State.STRAY, ())
    seller = lot(State.STRAY, Role.SELLER)
    until = late_until(DEAL)
    assert decide(seller, f.Clock(at=until)) == (seller, ())
    for fact in (f.Clock(at=until + 1), f.CancelAsked(at=until, by=B), f.CancelWanted(at=until)):
        after, orders = decide(seller, fact)
        assert (after.cancelled, orders) == (True, (SignCancel(outpoint=POINT, not_after=H.timeout),))
        worked = replace(seller, delivered_at=H.fund_by)  # before a reorganisation: K would open the result
        assert not any(isinstance(order, SignCancel) for order in orders_of(worked, fact))
        assert not any(isinstance(order, SignCancel) for order in orders_of(after, fact)), "once"
    stray = lot(State.STRAY)
    said = f.CancelSaid(at=H.fund_by + 4, by=S, outpoint=POINT, valid=True)
    after, orders = decide(stray, said)
    assert after.state is State.CANCEL_SIGNED
    assert orders == (Settle(exit=Exit.CANCEL, outpoint=POINT, not_after=None),)
    after, orders = decide(stray, f.Clock(at=H.timeout))
    assert after.state is State.REFUND_SENT


@pytest.mark.parametrize(
    "coin", [Coin(OTHER, ENOUGH - 1, 105), Coin(OTHER, ENOUGH, H.fund_by + 1)], ids=["too little", "too late"]
)
def test_what_cannot_be_the_lot_is_a_stray_from_the_start(coin: Coin) -> None:
    """Too little or too late: a record of its own, the lot waits on."""
    after, orders = decide(lot(State.AGREED), f.OutputSeen(at=112, coin=coin))
    assert after.state is State.AGREED
    assert orders == (OpenStray(outpoint=OTHER, value_florins=coin.value_florins, height=coin.height),)


def test_the_first_output_on_the_chain_is_the_lot() -> None:
    """An earlier output takes the place of one that was seen first; the other becomes a stray."""
    seen = lot(State.FUNDED_SEEN, coin=Coin(POINT, ENOUGH, None))
    after, orders = decide(seen, f.OutputSeen(at=106, coin=Coin(OTHER, ENOUGH, 104)))
    assert (after.outpoint, [type(order) for order in orders]) == (OTHER, [OpenStray])
    after, orders = decide(lot(State.FUNDED_SEEN), f.OutputSeen(at=106, coin=Coin(OTHER, ENOUGH, 106)))
    assert (after.outpoint, [type(order) for order in orders]) == (POINT, [OpenStray])
    moved, _ = decide(lot(), f.OutputSeen(at=107, coin=Coin(POINT, ENOUGH, 107)))
    assert moved.coin == Coin(POINT, ENOUGH, 107)


def test_a_stray_has_no_readers_and_ends_alone() -> None:
    """A second payment is never the lot: deep it is STRAY, gone it is VOID, and nothing is told about it."""
    stray = lot(State.FUNDED_SEEN, number=1)
    after, orders = decide(stray, f.CoinDeep(at=107, coin=COIN))
    assert (after.state, orders) == (State.STRAY, ())
    gone, orders = decide(after, f.OutputGone(at=108, outpoint=POINT))
    assert (gone.state, orders) == (State.VOID, ())


def test_the_chain_tells_about_strays_and_the_lot_alike() -> None:
    """A look finds first what happened to known coins, then the outputs that nobody knows; then nothing more."""
    main, stray = lot(), lot(State.STRAY, number=1, coin=Coin(OTHER, 5, 106))
    unknown = Coin("cc" * 32 + ":0", 7, None)
    outputs = [OnChain(COIN, None), OnChain(Coin(OTHER, 5, 107), None), OnChain(unknown, None)]
    assert next_fact([main, stray], outputs, 110) == (1, f.OutputSeen(at=110, coin=Coin(OTHER, 5, 107)))
    known = replace(stray, coin=Coin(OTHER, 5, 107))
    found = next_fact([main, known], outputs, 110)
    assert found == (0, f.OutputSeen(at=110, coin=unknown))
    assert next_fact([main, known], outputs, 110, {found}) is None
    spent = replace(main, spend=Spend(Exit.REFUND, "t", 0, 1))
    gone = (0, f.SpendGone(at=110, txid="t"))
    assert next_fact([], outputs, 110) is None
    assert next_fact([spent], [], 110) == gone
    coin_gone = (0, f.OutputGone(at=110, outpoint=POINT))
    assert next_fact([spent], [], 110, {gone}) == coin_gone
    assert next_fact([spent], [], 110, {gone, coin_gone}) is None


def test_a_payment_that_comes_back_under_another_id_is_the_lots_again() -> None:
    """A fork took the coin on which work had been done; its twin, held as a stray before, pays for that work still.

    Found by the simulator: the lot stayed without a coin, ended VOID, and the buyer took the twin back at T.
    """
    twin = Coin(OTHER, ENOUGH, 104)
    worked = lot(State.REVEALED, started=True, delivered_at=103, revealed=True)
    lots, outputs = {0: worked, 1: lot(State.FUNDED_SEEN, number=1, coin=twin)}, [OnChain(twin, None)]
    taken = []
    while (found := next_fact(list(lots.values()), outputs, 105)) is not None and len(taken) < 9:
        taken.append((found[0], type(found[1])))
        lots[found[0]], _ = decide(lots[found[0]], found[1])
    assert (lots[0].state, lots[0].coin) == (State.REVEALED, twin)
    assert (lots[1].state, lots[1].coin) == (State.VOID, None)
    assert taken[0] == (0, f.OutputGone)
    assert {(0, f.OutputSeen), (1, f.OutputGone), (0, f.CoinDeep)} <= set(taken)


@pytest.mark.parametrize(
    ("twin", "state", "spend"),
    [
        (Coin(OTHER, ENOUGH - 1, 104), State.FUNDED_SEEN, None),
        (Coin(OTHER, ENOUGH, H.fund_by + 1), State.STRAY, None),
        (Coin(OTHER, ENOUGH, 104), State.FUNDED_SEEN, Spend(Exit.REFUND, "t", 0, None)),
    ],
    ids=["too little", "too late", "spent"],
)
def test_no_other_stray_becomes_the_lots_coin(twin: Coin, state: State, spend: Spend | None) -> None:
    """What could not have funded the contract does not fund it because the first payment is gone."""
    lots = [lot(State.AGREED, coin=None), lot(state, number=1, coin=twin)]
    found = next_fact(lots, [OnChain(twin, spend)], H.fund_by + 2)
    while found is not None and found[0] != 0 and found[1] is not None:
        lots[1], _ = decide(lots[1], found[1])
        found = next_fact(lots, [OnChain(twin, spend)], H.fund_by + 2)
    assert found is None


def test_a_contract_that_nobody_funds_ends_by_itself() -> None:
    """After fund_by there is nothing to wait for; what still arrives is a stray."""
    void, orders = decide(lot(State.AGREED), f.Clock(at=H.fund_by + 1))
    assert (void.state, [type(order) for order in orders]) == (State.VOID, [Tell])
    after, orders = decide(void, f.OutputSeen(at=120, coin=COIN))
    assert (after.state, [type(order) for order in orders]) == (State.VOID, [OpenStray])


def test_a_spend_that_a_reorganisation_takes_away_leaves_the_state_before() -> None:
    """Books go back with the chain; the own spend is handed over again at the next tip; another spend is noted."""
    signed = lot(State.RELEASE_SIGNED, Role.SELLER, release_gross_florins=PRICE, release_outpoint=POINT, ordered_at=120)
    spend = Spend(Exit.RELEASE, "r" * 64, PRICE, 121)
    seen, _ = decide(signed, f.SpendSeen(at=121, spend=spend))
    closed, _ = decide(seen, f.SpendDeep(at=122, spend=spend))
    assert (seen.state, closed.state) == (State.RELEASE_SEEN, State.CLOSED)
    back, orders = decide(closed, f.SpendGone(at=122, txid=spend.txid))
    assert (back.state, back.spend, [type(order) for order in orders]) == (State.RELEASE_SIGNED, None, [Tell])
    _, orders = decide(back, f.Clock(at=123))
    assert [type(order) for order in orders] == [Settle]
    other, _ = decide(closed, f.SpendSeen(at=123, spend=Spend(Exit.AWARD, "a" * 64, 0, 123)))
    assert (other.state, other.before) == (State.AWARD_SEEN, State.RELEASE_SIGNED)


# --- equivocation -----------------------------------------------------------------------------------------------------


def test_who_contradicts_itself_is_worse_off() -> None:
    """A buyer keeps its larger release, a seller loses, an arbiter's vote is void; the proof is spread."""
    case = lot(State.ANSWERED, Role.ARBITER, answered=True, started=True, delivered_at=110, key_known=True)
    by_buyer, orders = decide(case, f.Equivocation(at=120, by=B, gross_florins=PRICE, outpoint=POINT))
    assert orders == (PublishFault(by=B),)
    assert automatic_vote(by_buyer, 120) == PRICE
    smaller, _ = decide(by_buyer, f.Equivocation(at=120, by=B, gross_florins=1, outpoint=OTHER))
    assert automatic_vote(smaller, 120) == PRICE
    by_seller, _ = decide(case, f.Equivocation(at=120, by=S))
    assert automatic_vote(by_seller, 120) == 0
    votes = tuple(Ballot(name, b"c", 0) for name in ARBITERS)
    assert verdict(replace(case, ballots=votes), 120) == KEY
    by_two = decide(decide(replace(case, ballots=votes), f.Equivocation(at=120, by="bert"))[0],
                    f.Equivocation(at=120, by="carl"))[0]  # fmt: skip
    assert verdict(by_two, H.reveal_by + 1) is None


# --- swap, cancel, lateness -------------------------------------------------------------------------------------------


def test_a_large_lot_is_paid_first_only_when_others_found_the_same_output() -> None:
    """Swap: above the limit the buyer waits until the output's hash was confirmed by other workers."""
    deal = replace(DEAL, policy=Policy.SWAP, swap_limit_florins=PRICE - 1)
    waits = lot(State.DELIVERED, deal=deal, delivered_at=110, pinged_at=110)
    assert decide(waits, f.Clock(at=111))[0].state is State.DELIVERED
    confirmed, _ = decide(waits, f.OutputConfirmed(at=111))
    after, orders = decide(confirmed, f.Clock(at=112))
    assert after.state is State.RELEASE_SENT
    assert orders == (SignRelease(outpoint=POINT, gross_florins=PRICE, not_after=H.vote_by - 1),)


def test_silent_arbiters_make_a_standby_buyer_pay_first_or_wait() -> None:
    """Settled 21: policy standby, own pings unanswered; not after dispute_by."""
    waits = lot(State.DELIVERED, delivered_at=110, pinged_at=110)
    assert decide(waits, f.ArbitersSilent(at=116))[0].state is State.RELEASE_SENT
    with pytest.raises(Refused, match="may_pay_first"):
        decide(waits, f.ArbitersSilent(at=H.dispute_by))


def test_a_cancel_never_shows_k_after_delivery_nor_undoes_a_release() -> None:
    """The seller cancels only before it delivered; a buyer that released takes no cancel."""
    with pytest.raises(Refused, match="nothing_delivered"):
        decide(lot(State.ANSWERED, Role.SELLER, delivered_at=110), f.CancelWanted(at=120))
    said = f.CancelSaid(at=120, by=S, outpoint=POINT, valid=True)
    with pytest.raises(Refused, match="not_released"):
        decide(lot(State.ANSWERED, release_gross_florins=PRICE, release_outpoint=POINT), said)


def test_an_unfit_vote_is_refused() -> None:
    """Between nothing and 0.2 FLOP, above the price, below the buyer's own release: no such vote."""
    case = lot(State.ANSWERED, Role.ARBITER, answered=True)
    assert not is_gross(case, 1)
    for gross in (1, PRICE + 1):
        with pytest.raises(Refused, match="gross_is_legal"):
            decide(case, f.VoteDecided(at=120, gross_florins=gross))
    released = replace(case, release_gross_florins=PRICE, release_outpoint=POINT)
    with pytest.raises(Refused, match="gross_is_legal"):
        decide(released, f.VoteDecided(at=120, gross_florins=0))


def test_without_k_the_seller_has_not_shown_its_work() -> None:
    """After the answer's time a delivery whose key no arbiter was shown earns nothing; before, the arbiter waits."""
    case = lot(State.ANSWERED, Role.ARBITER, answered=True, started=True, delivered_at=110)
    assert automatic_vote(case, H.answer_by) is None
    assert not case_is_ready(case, H.answer_by)
    assert automatic_vote(case, H.answer_by + 1) == 0


def test_an_answer_brings_the_case_to_the_arbiters_taskd_once() -> None:
    """With evidence and answer there the case is opened, and not again for more evidence."""
    case = lot(State.DISPUTED, Role.ARBITER, started=True, delivered_at=110, disputed_by=B, disputed_at=115)
    shown, orders = decide(case, f.EvidenceArrived(at=116, key=True))
    assert orders == ()
    answered, orders = decide(shown, f.AnswerSaid(at=117, by=S))
    assert [type(order) for order in orders] == [Tell]
    again, orders = decide(answered, f.EvidenceArrived(at=118, key=False))
    assert (again.case_open, orders) == (True, ())


def test_orders_that_came_too_late_are_dropped() -> None:
    """Not for another coin, not past their height, not once the lot has moved on."""
    release = Settle(exit=Exit.RELEASE, outpoint=POINT, not_after=H.vote_by)
    signed = lot(State.RELEASE_SIGNED, Role.SELLER)
    assert still_wanted(signed, release, H.vote_by)
    assert not still_wanted(signed, release, H.vote_by + 1)
    assert not still_wanted(signed, replace(release, outpoint=OTHER), H.vote_by)
    assert not still_wanted(replace(signed, state=State.REFUND_SEEN), release, H.vote_by)
    assert not still_wanted(lot(State.VOID), Fund(not_after=H.fund_by), 100)
    assert not still_wanted(lot(State.CLOSED), SignRelease(outpoint=POINT, gross_florins=PRICE, not_after=200), 100)
    assert still_wanted(lot(State.AWARD_SIGNED, Role.ARBITER), SignAward(key=KEY, not_after=200), 100)


def test_a_release_that_never_went_out_hides_k_again() -> None:
    """RELEASE_SIGNED past vote_by: the seller does not broadcast; one that went out already stays."""
    signed = lot(State.RELEASE_SIGNED, Role.SELLER, release_gross_florins=PRICE, release_outpoint=POINT, ordered_at=170)
    assert decide(signed, f.Clock(at=H.vote_by + 1))[0].state is State.DELIVERED
    pushed, _ = decide(signed, f.Pushed(at=171, exit=Exit.RELEASE))
    after, orders = decide(pushed, f.Clock(at=H.vote_by + 10))
    assert after.state is State.RELEASE_SIGNED
    assert orders == (Settle(exit=Exit.RELEASE, outpoint=POINT, not_after=None),)


# --- views ------------------------------------------------------------------------------------------------------------


def test_every_state_has_a_status_and_a_next_step() -> None:
    """The spec's names cover all states; an award that pays nothing reads as a refund."""
    assert set(STATUS_OF) | {"CLOSED"} == {state.value for state in State}
    assert set(NEXT) == set(State)
    paid = status_of("CLOSED", started=True, outcome=Outcome.AWARDED, gross_florins=1)
    nothing = status_of("CLOSED", started=True, outcome=Outcome.AWARDED, gross_florins=0)
    assert (paid, nothing) == (Status.RELEASED, Status.REFUNDED)
    assert status_of("FUNDED", started=True, outcome=None, gross_florins=0) is Status.IN_PROGRESS


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_explained(state: State) -> None:
    """Sentences with heights, for each state, with and without a dispute and a spend."""
    plain = explain(lot(state), [(f.Clock(at=101), State.AGREED, 0), (f.StartSaid(at=102, by=S), state, 0)], "")
    assert plain[-1].startswith("Next: ")
    spend = Spend(Exit.AWARD, "t" * 64, 0, 150)
    case = lot(state, Role.ARBITER, disputed_by=B, disputed_at=120, vote_florins=0, spend=spend,
               ballots=(Ballot("anna", b"c", 0),))  # fmt: skip
    told = " ".join(explain(case, [], "wrong size"))
    assert "wrong size" in told
    assert "voted for 0 FLOP" in told
    assert "in block 150" in told
    unconfirmed = explain(lot(state, disputed_by=B, disputed_at=120, spend=replace(spend, height=None)), [], "")
    assert "not in a block yet" in " ".join(unconfirmed)
