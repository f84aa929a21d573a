"""Stages, bonds, parts and the fee ladder in the table: what each side may do, and what nobody can be made to do."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from common.contracts.escrow import Refused
from dux_escrowd import facts as f
from dux_escrowd.model import SEEN, AwardKey, Ballot, Exit, Lot, Role, Spend, State
from dux_escrowd.orders import News, PingArbiters, Say, Settle, ShowKey, SignAward, SignCancel, SignRelease, Tell, Word
from dux_escrowd.rules import decide
from dux_escrowd.voting import answer_window_over, bond_for, may_cosign, verdict
from dux_sim.proof.cast import ARBITERS, PRICE, B, S
from tests.rules.test_escrow_table import COIN, DEAL, ENOUGH, OTHER, POINT, H, lot

PART = PRICE // 2
STAGE = replace(DEAL, stage=1, begins=H.fund_by + 3)
BOND = replace(DEAL, bond=True, lock=False)
LADDER = replace(DEAL, rung_blocks=2)


def said(gross: int, at: int = 120, *, valid: bool = True, outpoint: str = POINT) -> f.ReleaseSaid:
    return f.ReleaseSaid(at=at, by=B, outpoint=outpoint, gross_florins=gross, valid=valid)


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.DELIVERED, State.REVEALED, State.DISPUTED, State.ANSWERED])
def test_a_part_binds_the_seller_only_when_it_takes_it(state: State) -> None:
    """Offered: told, nothing decided. Taken: the release of exactly that part goes to the chain."""
    before = lot(state, Role.SELLER, disputed_by=B, disputed_at=115)
    offered, orders = decide(before, said(PART))
    assert (offered.state, orders) == (state, (Tell(news=News.PART_OFFERED),))
    assert not offered.release_stands
    taken, orders = decide(offered, f.PartTaken(at=121, gross_florins=PART))
    assert (taken.state, taken.release_gross_florins) == (State.RELEASE_SIGNED, PART)
    assert [order.exit for order in orders if isinstance(order, Settle)] == [Exit.RELEASE]
    whole, _orders = decide(offered, said(PRICE))
    assert (whole.state, whole.release_gross_florins) == (State.RELEASE_SIGNED, PRICE)


@pytest.mark.parametrize(
    "fact",
    [
        f.PartTaken(at=121, gross_florins=PART + 1),
        f.PartTaken(at=H.vote_by + 1, gross_florins=PART),
        f.PartTaken(at=121, gross_florins=PRICE),
    ],
)
def test_only_the_offered_part_is_taken_and_in_time(fact: f.PartTaken) -> None:
    """Another amount, or inside the last margin (K would be shown there): refused, nothing changes."""
    offered, _orders = decide(lot(State.REVEALED, Role.SELLER), said(PART))
    with pytest.raises(Refused):
        decide(offered, fact)
    with pytest.raises(Refused):
        decide(replace(offered, coin=replace(COIN, outpoint=OTHER)), f.PartTaken(at=121, gross_florins=PART))


def test_what_is_no_offer_is_not_heard_as_one() -> None:
    """Signatures that do not fit, another coin, dust, more than the price: no offer."""
    before = lot(State.REVEALED, Role.SELLER)
    for wrong in (said(PART, valid=False), said(PART, outpoint=OTHER), said(1), said(PRICE + 1), said(PART, H.timeout)):
        with pytest.raises(Refused):
            decide(before, wrong)


@pytest.mark.parametrize("state", [State.DELIVERED, State.REVEALED, State.RELEASE_SENT])
def test_a_buyer_offers_a_part_and_may_pay_all_later_never_less(state: State) -> None:
    """The offer is a release of the present coin: it binds the buyer at the arbiters' table, and can only be raised."""
    offered, orders = decide(lot(state), f.PartWanted(at=120, gross_florins=PART))
    assert offered.state is State.RELEASE_SENT
    assert [(o.gross_florins, o.outpoint) for o in orders if isinstance(o, SignRelease)] == [(PART, POINT)]
    with pytest.raises(Refused):
        decide(offered, f.PartWanted(at=121, gross_florins=PART - 1))
    more, orders = decide(offered, f.ResultGood(at=122))
    assert more.release_gross_florins == PRICE
    assert [o.gross_florins for o in orders if isinstance(o, SignRelease)] == [PRICE]
    assert decide(more, f.ResultGood(at=123)) == (more, ())


@pytest.mark.parametrize("gross", [0, 1, PRICE])
def test_a_part_is_from_the_least_to_below_the_price(gross: int) -> None:
    """Nothing, dust, or everything is no part."""
    for state in (State.REVEALED, State.DISPUTED):
        with pytest.raises(Refused):
            decide(lot(state), f.PartWanted(at=120, gross_florins=gross))
    with pytest.raises(Refused):
        decide(lot(State.REVEALED), f.PartWanted(at=H.vote_by, gross_florins=PART))


def test_a_part_offered_in_a_dispute_is_the_least_that_arbiters_give() -> None:
    """The buyer stays in the dispute; an arbiter's vote is not below what the buyer itself would pay."""
    asked, orders = decide(lot(State.ANSWERED, disputed_by=B), f.PartWanted(at=130, gross_florins=PART))
    assert (asked.state, asked.release_gross_florins) == (State.ANSWERED, PART)
    assert [type(order) for order in orders] == [SignRelease]
    judge = lot(State.ANSWERED, Role.ARBITER, disputed_by=B, delivered_at=110, answered=True, key_known=True)
    heard, _orders = decide(judge, said(PART, 130))
    with pytest.raises(Refused, match="gross_is_legal"):
        decide(heard, f.VoteDecided(at=131, gross_florins=PART - 1))
    voted, _orders = decide(heard, f.VoteDecided(at=131, gross_florins=PART + 5))
    assert voted.vote_florins == PART + 5


def test_a_partial_award_needs_k_equal_votes() -> None:
    """Arbiters may give a part: k equal votes are a verdict for exactly that gross, others are none."""
    votes = (Ballot(ARBITERS[0], b"a", PART), Ballot(ARBITERS[1], b"b", PART), Ballot(ARBITERS[2], b"c", 0))
    judge = lot(State.ANSWERED, Role.ARBITER, me=ARBITERS[0], ballots=votes, disputed_by=B)
    assert verdict(judge, H.reveal_by) == AwardKey(POINT, PART, ARBITERS)
    other = replace(judge, ballots=(votes[0], replace(votes[1], gross_florins=PART + 1), votes[2]))
    assert verdict(other, H.reveal_by) is None


def test_a_larger_release_after_the_votes_takes_no_award_away() -> None:
    """A lying buyer would have all back at T; what it released before the vote is the least of any award."""
    votes = (Ballot(ARBITERS[0], b"a", PART), Ballot(ARBITERS[1], b"b", PART), Ballot(ARBITERS[2], b"c", 0))
    judge = lot(State.ANSWERED, Role.ARBITER, me=ARBITERS[0], ballots=votes, disputed_by=B, vote_florins=PART)
    key = AwardKey(POINT, PART, ARBITERS)
    later = replace(judge, release_gross_florins=PRICE, release_outpoint=POINT)
    assert verdict(later, H.reveal_by) == key
    assert may_cosign(later, key, H.reveal_by)
    for knew in (replace(later, vote_florins=PRICE), replace(later, vote_florins=None), replace(later, vote_florins=0)):
        assert verdict(knew, H.reveal_by) is None


def test_an_arbiter_shows_the_key_when_k_have_signed() -> None:
    """One signature moves no coin: K with it would be a gift where the others die before theirs."""
    votes = (Ballot(ARBITERS[0], b"a", PART), Ballot(ARBITERS[1], b"b", PART))
    judge = lot(State.ANSWERED, Role.ARBITER, me=ARBITERS[0], ballots=votes, disputed_by=B, vote_florins=PART,
                key_known=True)  # fmt: skip
    signed, orders = decide(judge, f.Clock(at=H.reveal_by + 1))
    assert (signed.state, [type(one) for one in orders]) == (State.AWARD_SIGNED, [SignAward])
    second = f.AwardSaid(at=H.reveal_by + 1, by=ARBITERS[1], key=signed.awards[0].key, valid=True)
    complete, orders = decide(signed, second)
    assert [type(one) for one in orders] == [ShowKey]
    assert decide(complete, second)[1] == ()


# --- stages -----------------------------------------------------------------------------------------------------------


def funded(deal: Any, role: Role) -> tuple[Lot, tuple[Any, ...]]:
    return decide(lot(State.FUNDED_SEEN, role, deal=deal), f.CoinDeep(at=H.fund_by, coin=COIN))


def test_a_later_stage_begins_when_the_one_before_is_paid() -> None:
    """Funded with the rest, it waits: no START, no work; opened, it starts once."""
    waiting, orders = funded(STAGE, Role.SELLER)
    assert (waiting.state, waiting.started, orders) == (State.FUNDED, False, ())
    opened, orders = decide(waiting, f.StageOpened(at=H.fund_by + 1))
    assert opened.started
    assert orders == (Say(word=Word.START), Tell(news=News.FUNDED), PingArbiters())
    with pytest.raises(Refused):
        decide(opened, f.StageOpened(at=H.fund_by + 2))
    first, orders = funded(DEAL, Role.SELLER)
    assert (first.started, orders[0]) == (True, Say(word=Word.START))
    with pytest.raises(Refused):
        decide(replace(first, started=False), f.StageOpened(at=H.fund_by + 2))


def test_a_later_stage_is_not_delivered_before_its_turn() -> None:
    """Work for a second unpaid lot, also in a dispute: refused. The other side hears DELIVERED also before START."""
    delivered = f.DeliveryMade(at=H.fund_by + 1)
    waiting, _orders = funded(STAGE, Role.SELLER)
    for unbegun in (waiting, replace(waiting, state=State.DISPUTED, disputed_by=B), funded(BOND, Role.SELLER)[0]):
        with pytest.raises(Refused, match="has_begun"):
            decide(unbegun, delivered)
    opened, _orders = decide(waiting, f.StageOpened(at=H.fund_by + 1))
    assert decide(opened, delivered)[0].state is State.DELIVERED
    heard = f.DeliverySaid(at=H.fund_by + 1, by=S, claimed_at=H.fund_by + 1)
    assert decide(funded(STAGE, Role.BUYER)[0], heard)[0].state is State.DELIVERED


def test_no_start_of_a_later_stage_counts_from_its_turn() -> None:
    """The buyer complains `start_blocks` after the stage was due, not after it was funded; earlier nobody listens."""
    waiting, _orders = funded(STAGE, Role.BUYER)
    due = STAGE.begins + STAGE.start_blocks
    assert decide(waiting, f.Clock(at=due)) == (waiting, ())
    complained, _orders = decide(waiting, f.Clock(at=due + 1))
    assert complained.state is State.DISPUTED
    with pytest.raises(Refused):
        decide(waiting, f.DisputeWanted(at=STAGE.begins))
    judge = lot(State.FUNDED, Role.ARBITER, deal=STAGE, funded_at=H.fund_by)
    with pytest.raises(Refused):
        decide(judge, f.DisputeSaid(at=STAGE.begins, by=B))
    heard, _orders = decide(judge, f.DisputeSaid(at=STAGE.begins + 1, by=B))
    assert not answer_window_over(heard, due)
    assert answer_window_over(replace(heard, disputed_at=STAGE.begins - 9), due + 1)


def test_what_nobody_works_for_goes_back_once() -> None:
    """An earlier stage came to nothing: the seller signs the later one's cancel, once for a coin; never after START."""
    waiting, _orders = funded(STAGE, Role.SELLER)
    dropped, orders = decide(waiting, f.Abandoned(at=H.fund_by + 2))
    assert [type(order) for order in orders] == [SignCancel]
    with pytest.raises(Refused):
        decide(dropped, f.Abandoned(at=H.fund_by + 3))
    with pytest.raises(Refused):
        decide(replace(waiting, started=True), f.Abandoned(at=H.fund_by + 3))
    first, _orders = funded(DEAL, Role.SELLER)
    with pytest.raises(Refused):
        decide(replace(first, started=False), f.Abandoned(at=H.fund_by + 3))
    gone, _orders = decide(dropped, f.OutputGone(at=H.fund_by + 4, outpoint=POINT))
    assert not gone.abandoned


# --- bonds ------------------------------------------------------------------------------------------------------------


def test_a_bond_is_nobodys_work() -> None:
    """No START, no complaint about one, no dispute; it goes back when the series is over, or alone at its T."""
    for role in Role:
        kept, orders = funded(BOND, role)
        assert not kept.started
        assert Say(word=Word.START) not in orders
        for at in (H.deliver_by + 1, H.dispute_by):
            assert decide(kept, f.Clock(at=at)) == (kept, ())
        if role is not Role.ARBITER:
            with pytest.raises(Refused):
                decide(kept, f.DisputeWanted(at=H.deliver_by))
    back, orders = decide(funded(BOND, Role.SELLER)[0], f.Abandoned(at=H.deliver_by))
    assert (back.abandoned, [type(order) for order in orders]) == (True, [SignCancel])
    owner, orders = decide(funded(BOND, Role.BUYER)[0], f.Clock(at=H.timeout))
    assert (owner.state, orders[0].exit) == (State.REFUND_SENT, Exit.REFUND)


def test_a_seller_that_is_paid_nothing_pays_from_its_bond() -> None:
    """A verdict of nothing names the bond that stands, one of something does not; other views are not cosigned."""
    judge = lot(State.ANSWERED, Role.ARBITER, me=ARBITERS[0], disputed_by=B)
    bonded, _orders = decide(judge, f.BondStands(at=120, outpoint=OTHER))
    with pytest.raises(Refused):
        decide(bonded, f.BondStands(at=121, outpoint=OTHER))
    with pytest.raises(Refused):
        decide(replace(bonded, deal=BOND), f.BondStands(at=121, outpoint=""))
    assert (bond_for(bonded, 0), bond_for(bonded, PART), bond_for(judge, 0)) == (OTHER, "", "")
    nothing = tuple(Ballot(name, b"x", 0) for name in ARBITERS)
    voted = replace(bonded, ballots=nothing, vote_florins=0)
    key = verdict(voted, H.reveal_by)
    assert key == AwardKey(POINT, 0, ARBITERS, OTHER)
    assert key is not None
    assert may_cosign(voted, key, H.vote_by)
    assert not may_cosign(replace(voted, bond=""), key, H.vote_by)
    assert not may_cosign(voted, replace(key, bond=""), H.vote_by)


# --- the ladder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "role", "exit_", "changes"),
    [
        (State.RELEASE_SEEN, Role.SELLER, Exit.RELEASE, {"release_outpoint": POINT, "release_gross_florins": PRICE}),
        (State.RELEASE_SIGNED, Role.SELLER, Exit.RELEASE, {"release_outpoint": POINT, "release_gross_florins": PRICE}),
        (State.REFUND_SEEN, Role.BUYER, Exit.REFUND, {}),
        (State.CANCEL_SIGNED, Role.BUYER, Exit.CANCEL, {}),
        (State.CANCEL_SEEN, Role.BUYER, Exit.CANCEL, {}),
    ],
)
def test_an_unconfirmed_spend_climbs_the_ladder(state: State, role: Role, exit_: Exit, changes: dict[str, Any]) -> None:
    """After `rung_blocks` without a block the next rung is ordered, twice at most; what is in a block stays."""
    spend = Spend(exit_, "t", PRICE, None) if state in SEEN else None
    pushed = lot(state, role, deal=LADDER, pushed=exit_, ordered_at=120, spend=spend, **changes)
    assert decide(pushed, f.Clock(at=121)) == (pushed, ())
    second, orders = decide(pushed, f.Clock(at=122))
    assert (second.rung, orders[0].rung, orders[0].exit) == (1, 1, exit_)
    third, orders = decide(second, f.Clock(at=124))
    assert (third.rung, orders[0].rung) == (2, 2)
    assert decide(third, f.Clock(at=126)) == (third, ())
    mined = replace(pushed, spend=Spend(exit_, "t", PRICE, 121))
    assert decide(mined, f.Clock(at=125)) == (mined, ())
    never = replace(pushed, deal=DEAL)
    assert decide(never, f.Clock(at=125)) == (never, ())


def test_a_cancel_begins_at_the_first_rung() -> None:
    """Whatever this node's last spend had climbed to before a reorganisation took it; nothing climbs unpushed."""
    before = lot(State.ANSWERED, Role.BUYER, deal=LADDER, rung=2, pushed=Exit.AWARD, ordered_at=110)
    held, orders = decide(before, f.CancelSaid(at=120, by=S, outpoint=POINT, valid=True))
    assert (held.state, orders) == (State.CANCEL_SIGNED, (Settle(exit=Exit.CANCEL, outpoint=POINT, not_after=None),))
    assert decide(held, f.Clock(at=122))[1] == ()
    pushed, _orders = decide(held, f.Pushed(at=122, exit=Exit.CANCEL))
    climbed, orders = decide(pushed, f.Clock(at=122))
    assert (climbed.rung, orders) == (1, (Settle(exit=Exit.CANCEL, outpoint=POINT, not_after=None, rung=1),))


def test_an_award_climbs_too() -> None:
    """The winner replaces its own award by the next rung."""
    key = AwardKey(POINT, PRICE, ARBITERS)
    held = decide(
        lot(State.ANSWERED, Role.SELLER, deal=LADDER), f.AwardSaid(at=120, by=ARBITERS[0], key=key, valid=True)
    )
    taken, _orders = decide(held[0], f.AwardSaid(at=120, by=ARBITERS[1], key=key, valid=True))
    climbed, orders = decide(replace(taken, pushed=Exit.AWARD), f.Clock(at=122))
    assert (climbed.rung, orders[0].rung, orders[0].award) == (1, 1, key)
    assert ENOUGH > PRICE
