"""The protocol as a table: every state, every fact that may meet it, the guards, what follows, what is ordered.

Rows stand in the order of escrow_protocol.md §8 and carry where they come from; the first row that holds is taken. A
pair that stands nowhere raises WrongPhase and changes nothing; "nothing to do" is a row too. Pure: a node replays
its facts and gets its lots again.

Source: escrow_protocol.md §3 to §9; settled.md 20, 21.
"""

from __future__ import annotations

from dux_escrowd import changes as c
from dux_escrowd import facts as f
from dux_escrowd import guards as g
from dux_escrowd import replies as r
from dux_escrowd.model import OPEN, SEEN, SEEN_AS, WITH_COIN, Exit, Lot, Role, State
from dux_escrowd.orders import (
    Fund,
    News,
    Order,
    Settle,
    SignAward,
    SignCancel,
    SignRelease,
    Word,
)
from dux_escrowd.table import Goal, Row, indexed, row, step
from dux_escrowd.voting import winning

B, S, A = Role.BUYER, Role.SELLER, Role.ARBITER
PARTIES = (B, S)
EVERY = tuple(State)
UNDISPUTED = (State.FUNDED, State.DELIVERED, State.REVEALED, State.RELEASE_SENT, State.RELEASE_SIGNED)
ARGUED = (State.DISPUTED, State.ANSWERED)


def _after_ready(_before: Lot, after: Lot, _fact: f.Fact) -> State:
    named = {after.deal.buyer, after.deal.seller, *after.panel}
    return State.AGREED if set(after.ready) == named else State.DRAWING


def _resumed(_before: Lot, after: Lot, _fact: f.Fact) -> State:
    if after.disputed_by is not None:
        return State.ANSWERED if after.answered else State.DISPUTED
    if after.release_stands and after.role is B:
        return State.RELEASE_SENT
    if after.revealed:
        return State.REVEALED
    return State.FUNDED if after.delivered_at is None else State.DELIVERED


def _coinless(before: Lot, _after: Lot, _fact: f.Fact) -> State:
    return State.AGREED if before.number == 0 else State.VOID


def _seen(_before: Lot, after: Lot, _fact: f.Fact) -> State:
    return SEEN_AS[after.spend.exit] if after.spend else after.state


def _fallen_back(before: Lot, _after: Lot, _fact: f.Fact) -> State:
    return before.before or before.state


def _after_award(before: Lot, after: Lot, _fact: f.Fact) -> State:
    return State.AWARD_SIGNED if winning(after) is not None else before.state


def _after_vote(before: Lot, after: Lot, _fact: f.Fact) -> State:
    mine = any(award.arbiter == after.me for award in after.awards)
    return State.AWARD_SIGNED if mine else before.state


ALL_READY = Goal("all ready?", (State.DRAWING, State.AGREED), _after_ready)
RESUMED = Goal(
    "where the statements stand",
    (State.FUNDED, State.DELIVERED, State.REVEALED, State.RELEASE_SENT, State.DISPUTED, State.ANSWERED),
    _resumed,
)
COINLESS = Goal("the lot / a stray", (State.AGREED, State.VOID), _coinless)
SPENT = Goal("…_SEEN by exit", SEEN, _seen)
BEFORE = Goal("state before", WITH_COIN, _fallen_back)
K_SIGNED = Goal("k signatures?", (State.ANSWERED, State.AWARD_SIGNED), _after_award)
VERDICT = Goal("verdict?", (State.ANSWERED, State.AWARD_SIGNED), _after_vote)

STRAY_SIGNED = Goal("k signatures for a stray?", (State.STRAY, State.AWARD_SIGNED), _after_award)

ROWS: tuple[Row, ...] = (
    # --- agreement ---
    row(State.DRAFT, f.TermsSigned, to=State.DRAWING, source="§8 DRAFT Terms"),
    row(State.DRAWING, f.PanelSeated, g.panel_fits, change=c.seat_panel, orders=r.adopt, source="§5.4, list not draw"),
    row(
        State.DRAWING, f.Ready, g.by_named, g.same_contract,
        to=ALL_READY, change=c.count_ready, orders=r.agreed, source="§8 DRAWING Ready",
    ),
    row(State.AGREED, f.Ready, g.by_named, source="§8 DRAWING Ready, repeated"),
    row(
        (State.DRAFT, State.DRAWING, State.AGREED), f.Clock, g.past_fund_by,
        to=State.VOID, orders=r.tell(News.VOIDED), source="§8 AGREED Clock",
    ),
    # --- funding ---
    row(State.AGREED, f.OutputSeen, g.first_enough, to=State.FUNDED_SEEN, change=c.take_coin, source="§8 OutputSeen"),
    row(
        State.FUNDED_SEEN, f.OutputSeen, g.precedes, change=c.take_coin, orders=r.open_old_coin,
        source="§6 first output",
    ),
    row((*WITH_COIN, *SEEN, State.CLOSED), f.OutputSeen, g.this_coin, change=c.take_coin, source="§6 height moved"),
    row(
        State.VOID, f.OutputSeen, g.counts_late,
        to=State.FUNDED_SEEN, change=c.take_coin, source="§6 LATE_OK: the late coin is the lot's",
    ),
    row(
        (State.AGREED, State.VOID, *WITH_COIN, *SEEN, State.CLOSED), f.OutputSeen,
        orders=r.open_stray, source="§6 STRAY",
    ),
    row(
        State.FUNDED_SEEN, f.CoinDeep, g.this_coin, g.funded_in_time,
        to=RESUMED, change=c.fund, orders=r.funded, source="§8 FUNDED_SEEN Depth",
    ),
    row(
        State.FUNDED_SEEN, f.CoinDeep, g.this_coin,
        to=State.STRAY, change=c.take_coin, source="§8 FUNDED_SEEN Depth late/under",
    ),
    # --- late funding: both may let it count ---
    row(
        (State.STRAY, State.VOID), f.LateWanted, g.may_count_late, g.late_fits, g.not_cancelled, who=B,
        change=c.ask_late, orders=r.say(Word.LATE_OK), source="§6 LATE_OK asked",
    ),
    row(
        (State.STRAY, State.VOID), f.LateOkSaid, g.is_lot, g.by_buyer, who=(S, A),
        change=c.ask_late, source="§6 LATE_OK asked",
    ),
    row(
        (State.STRAY, State.VOID), f.LateCoin, g.may_count_late, g.asked_late, g.late_fits, g.not_cancelled, who=S,
        change=c.agree_late, orders=r.say(Word.LATE_OK), source="§6 LATE_OK by rule: all windows still fit",
    ),
    row(
        (State.STRAY, State.VOID), f.LateOkSaid, g.is_lot, g.by_seller, g.asked_late, who=(B, A),
        change=c.agree_late, source="§6 LATE_OK by both",
    ),
    row(
        State.STRAY, f.CoinDeep, g.this_coin, g.counts_late,
        to=RESUMED, change=c.fund, orders=r.funded, source="§6 LATE_OK: the late coin is the lot's",
    ),
    row(
        WITH_COIN, f.OutputGone, g.this_coin,
        to=COINLESS, change=c.lose_coin, orders=r.tell(News.PAUSED), source="§8 OutputGone",
    ),
    # --- work ---
    row(State.FUNDED, f.StartSaid, g.by_seller, change=c.start, orders=r.tell(News.STARTED), source="§5 START"),
    row(
        State.FUNDED, f.StageOpened, g.is_later_stage, who=S,
        change=c.start, orders=r.stage_opened, source="§1 staged payment: a lot begins when the one before is paid",
    ),
    row(
        State.FUNDED, f.ArbitersSilent, g.has_begun, who=S,
        change=c.note_silence, orders=r.tell(News.ARBITERS_SILENT), source="§9 STANDBY at START: the seller may stop",
    ),
    row(
        (State.FUNDED, *ARGUED), f.Abandoned, g.not_begun, g.by_vote_by, who=S,
        change=c.abandon, orders=r.sign_cancel, source="§1 staged payment: what nobody works for goes back",
    ),
    row(
        (State.AGREED, *WITH_COIN), f.BondStands, g.is_work, g.bond_changed,
        change=c.note_bond, source="§1 bond lot, §9 loser pays",
    ),
    row((*ARGUED, State.DELIVERED), f.StartSaid, g.by_seller, change=c.start, source="§5 START, heard late"),
    row(
        State.FUNDED, f.DeliveryMade, g.has_begun, g.before_deliver_by, who=S,
        to=State.DELIVERED, change=c.deliver, orders=r.delivered, source="§8 FUNDED Delivered",
    ),
    row(
        State.FUNDED, f.DeliverySaid, g.by_seller, g.before_deliver_by, who=B,
        to=State.DELIVERED, change=c.deliver, orders=r.delivered, source="§8 FUNDED Delivered",
    ),
    row(
        State.FUNDED, f.DeliverySaid, g.by_seller, g.claimed_before_deliver_by, who=A,
        to=State.DELIVERED, change=c.deliver, source="§9 evidence",
    ),
    row(
        ARGUED, f.DeliveryMade, g.has_begun, g.before_deliver_by, who=S,
        change=c.deliver, orders=r.delivered_in_dispute, source="§8 FUNDED Delivered, disputed too early",
    ),
    row(
        ARGUED, f.DeliverySaid, g.by_seller, g.claimed_before_deliver_by,
        change=c.deliver, orders=r.delivered_in_dispute, source="§9 evidence",
    ),
    row(
        State.FUNDED, f.Clock, g.is_work, g.no_start, g.dispute_counts, who=B,
        to=State.DISPUTED, change=c.dispute_by_me, orders=r.dispute, source="§8 FUNDED Clock no START",
    ),
    row(
        State.FUNDED, f.Clock, g.is_work, g.past_deliver_by, g.dispute_counts, who=B,
        to=State.DISPUTED, change=c.dispute_by_me, orders=r.dispute, source="§8 FUNDED Clock deliver_by",
    ),
    # --- key and payment ---
    row(
        State.DELIVERED, f.Clock, g.swap_agreed, g.may_pay_first, who=B,
        to=State.RELEASE_SENT, change=c.release, orders=r.release, source="§8 DELIVERED NoStandby, swap (settled 21)",
    ),
    row(
        State.DELIVERED, f.ArbitersSilent, g.may_pay_first, who=B,
        to=State.RELEASE_SENT, change=c.release, orders=r.release, source="§8 DELIVERED NoStandby",
    ),
    row(
        State.DELIVERED, f.ArbitersStandBy, g.standby_agreed, g.enough_stand_by, g.before_dispute_by, who=S,
        to=State.REVEALED, change=c.reveal_key, orders=r.show_key, source="§8 DELIVERED Standby",
    ),
    row((State.DELIVERED, *UNDISPUTED, *ARGUED), f.ArbitersStandBy, who=PARTIES, source="answers nobody needs now"),
    row(
        State.DELIVERED, f.KeyShown, g.locked, who=B,
        to=State.REVEALED, change=c.reveal_key, orders=r.tell(News.KEY_REVEALED), source="§8 DELIVERED Standby, at B",
    ),
    row(
        (State.REVEALED, State.RELEASE_SENT, *ARGUED, State.AWARD_SIGNED, State.REFUND_SENT, *SEEN, State.CLOSED),
        f.KeyShown, g.locked, who=B,
        change=c.reveal_key, orders=r.tell(News.KEY_REVEALED), source="§8 K comes with spend or vote",
    ),
    row((State.FUNDED, State.DELIVERED), f.OutputConfirmed, who=B, change=c.confirm, source="§8 NoStandby guard"),
    row(
        State.DELIVERED, f.Clock, g.standby_agreed, g.before_dispute_by, g.ping_due, who=PARTIES,
        change=c.ping, orders=r.ping, source="§9 STANDBY pings",
    ),
    row(
        (State.DELIVERED, State.REVEALED, *ARGUED), f.ReleaseSaid,
        g.by_buyer, g.signatures_fit, g.full_price, g.this_coin, g.by_vote_by, who=S,
        to=State.RELEASE_SIGNED, change=c.take_release, orders=r.settle(Exit.RELEASE),
        source="§8 Release; agreement beats arbiters",
    ),
    row(
        ARGUED, f.ReleaseSaid, g.by_buyer, g.signatures_fit, g.this_coin, who=A,
        change=c.see_release, orders=r.considered, source="§8 a release counts for S",
    ),
    row(
        (State.DELIVERED, State.REVEALED, *ARGUED), f.ReleaseSaid,
        g.by_buyer, g.signatures_fit, g.is_part, g.this_coin, g.by_vote_by, who=S,
        change=c.hear_part, orders=r.tell(News.PART_OFFERED), source="§3 RELEASE(g): a part binds nobody until taken",
    ),
    row(
        (State.DELIVERED, State.REVEALED, *ARGUED), f.PartTaken, g.part_is_offered, g.by_vote_by, who=S,
        to=State.RELEASE_SIGNED, change=c.take_part, orders=r.settle(Exit.RELEASE),
        source="§3 RELEASE(g) taken; agreement beats arbiters",
    ),
    row(
        (State.DELIVERED, State.REVEALED, State.RELEASE_SENT), f.PartWanted, g.part_is_legal, g.before_vote_by, who=B,
        to=State.RELEASE_SENT, change=c.release_part, orders=r.release, source="§3 RELEASE(g) offered",
    ),
    row(
        ARGUED, f.PartWanted, g.part_is_legal, g.before_vote_by, who=B,
        change=c.release_part, orders=r.release, source="§3 RELEASE(g) offered; agreement beats arbiters",
    ),
    row(
        State.REVEALED, f.ResultGood, g.before_vote_by, who=B,
        to=State.RELEASE_SENT, change=c.release, orders=r.release, source="§8 REVEALED ResultGood",
    ),
    row(
        State.DELIVERED, f.ResultGood, g.not_locked, g.before_vote_by, who=B,
        to=State.RELEASE_SENT, change=c.release, orders=r.release, source="§8 ResultGood, script E",
    ),
    row(
        State.RELEASE_SENT, f.ResultGood, g.released_a_part, g.before_vote_by, who=B,
        change=c.release, orders=r.release, source="§3 RELEASE(g): all after a part",
    ),
    row(State.RELEASE_SENT, f.ResultGood, who=B, source="§8 ResultGood, repeated"),
    row(
        ARGUED, f.ResultGood, g.before_vote_by, who=B,
        change=c.release, orders=r.release, source="§8 agreement beats arbiters",
    ),
    row(
        State.REVEALED, f.ResultBad, g.dispute_counts, who=B,
        to=State.DISPUTED, change=c.dispute_by_me, orders=r.dispute, source="§8 REVEALED ResultBad",
    ),
    row(
        State.DELIVERED, f.ResultBad, g.not_locked, g.dispute_counts, who=B,
        to=State.DISPUTED, change=c.dispute_by_me, orders=r.dispute, source="§8 ResultBad, script E",
    ),
    row(ARGUED, f.ResultBad, who=B, orders=r.show_case, source="§9 evidence"),
    row(
        (State.DELIVERED, State.REVEALED), f.Clock, g.dispute_due, g.dispute_counts, who=S,
        to=State.DISPUTED, change=c.dispute_by_me, orders=r.dispute, source="§8 DELIVERED, REVEALED Clock",
    ),
    # --- cancel ---
    row(State.FUNDED, f.CancelWanted, who=B, orders=r.say(Word.CANCEL_ASK), source="§3 CANCEL"),
    row(State.FUNDED, f.CancelAsked, g.by_buyer, g.of_lot, who=S, orders=r.tell(News.CANCEL_ASKED), source="§3 CANCEL"),
    row(
        (State.FUNDED, *ARGUED), f.CancelWanted, g.nothing_delivered, g.by_vote_by, who=S,
        change=c.give_back, orders=r.sign_cancel, source="§3 CANCEL before DELIVERED",
    ),
    row(
        (State.FUNDED, *ARGUED, State.STRAY), f.CancelSaid,
        g.by_seller, g.signatures_fit, g.this_coin, g.not_released, who=B,
        to=State.CANCEL_SIGNED, change=c.take_cancel, orders=r.settle(Exit.CANCEL), source="§8 Cancel",
    ),
    row(
        State.STRAY, f.CancelWanted, g.is_lot, g.not_adopted, who=B,
        change=c.give_back, orders=r.say(Word.CANCEL_ASK), source="§6 STRAY, CANCEL on request",
    ),
    row(
        State.STRAY, f.CancelAsked,
        g.is_lot, g.by_buyer, g.of_lot, g.not_adopted, g.not_cancelled, g.never_delivered, who=S,
        change=c.give_back, orders=r.cancel_late, source="§6 STRAY, CANCEL on request",
    ),
    row(
        State.STRAY, f.CancelWanted, g.is_lot, g.not_adopted, g.not_cancelled, g.never_delivered, who=S,
        change=c.give_back, orders=r.cancel_late, source="§6 STRAY, CANCEL",
    ),
    # --- strays beside the lot: asked for by the buyer, given by the seller or the arbiters, else taken at T ---
    row(
        State.STRAY, f.Clock, g.ask_back_due, g.before_timeout, who=B,
        change=c.ask_back, orders=r.say(Word.CANCEL_ASK), source="§6 STRAY, CANCEL on request",
    ),
    row(
        State.STRAY, f.CancelAsked, g.by_buyer, g.this_stray, who=(S, A),
        change=c.ask_back, source="§6 STRAY, asked for",
    ),
    row(
        State.STRAY, f.StrayAsked, g.asked_for, g.key_is_free, who=S,
        to=State.CANCEL_SIGNED, orders=r.cancel_late, source="§6 STRAY, CANCEL: K has nothing left to sell",
    ),
    row(
        State.STRAY, f.StrayAsked, g.asked_for, g.counts_never, g.late_over, g.by_vote_by, who=A,
        to=State.AWARD_SIGNED, change=c.award_stray, orders=r.awarded, source="§6 «stray» award by chain evidence",
    ),
    row(
        State.STRAY, f.AwardSaid, g.is_stray, g.by_panel, g.signatures_fit, g.award_for_coin, g.gives_all_back,
        who=PARTIES, to=STRAY_SIGNED, change=c.take_award, orders=r.award_arrived, source="§6 «stray» award",
    ),
    row(
        (State.STRAY, State.AWARD_SIGNED), f.AwardSaid, g.is_stray, g.by_panel, who=A,
        source="§6 «stray» award, another arbiter's",
    ),
    # --- dispute ---
    row(
        (State.FUNDED, State.DELIVERED, State.REVEALED), f.DisputeWanted, g.dispute_counts, who=PARTIES,
        to=State.DISPUTED, change=c.dispute_by_me, orders=r.dispute, source="§8 Dispute",
    ),
    row(
        UNDISPUTED, f.DisputeSaid, g.by_party, g.dispute_counts,
        to=State.DISPUTED, change=c.dispute_by_other, orders=r.disputed, source="§8 Dispute: S answers always",
    ),
    row(
        (State.RELEASE_SEEN, State.CANCEL_SEEN, State.CANCEL_SIGNED), f.DisputeSaid, g.by_party, g.dispute_counts,
        who=PARTIES, orders=r.disputed, source="§8 Dispute: S answers always, with a spend in flight",
    ),
    row(
        State.DISPUTED, f.DisputeSaid, g.by_answerer,
        to=State.ANSWERED, change=c.answer, orders=r.considered, source="§8 Answer: the other disputes too",
    ),
    row((State.ANSWERED, State.AWARD_SIGNED), f.DisputeSaid, g.by_party, source="§8 Dispute, repeated"),
    row(
        State.DISPUTED, f.AnswerSaid, g.by_answerer,
        to=State.ANSWERED, change=c.answer, orders=r.considered, source="§8 DISPUTED Answer",
    ),
    row((State.ANSWERED, State.AWARD_SIGNED), f.AnswerSaid, g.by_party, source="§8 Answer, repeated"),
    row(
        State.DISPUTED, f.Clock, g.answer_over,
        to=State.ANSWERED, change=c.answer, orders=r.considered, source="§8 DISPUTED tip > answer_by",
    ),
    # --- votes ---
    row(
        (State.FUNDED, State.DELIVERED, *ARGUED), f.EvidenceArrived, who=A,
        change=c.take_evidence, orders=r.considered, source="§9 evidence",
    ),
    row(
        State.ANSWERED, f.VoteDecided, g.vote_open, g.gross_is_legal, who=A,
        change=c.vote, orders=r.considered, source="§9 vote",
    ),
    row(
        State.ANSWERED, f.VoteCommitted, g.by_panel, g.commitment_counts,
        change=c.take_commitment, orders=r.considered, source="§9 commit",
    ),
    row(
        State.ANSWERED, f.VoteRevealed, g.by_panel, g.reveal_counts, who=PARTIES,
        change=c.take_vote, source="§9 reveal",
    ),
    row(
        State.ANSWERED, f.VoteRevealed, g.by_panel, g.reveal_counts, who=A,
        to=VERDICT, change=lambda lot, fact: c.sign_verdict(c.take_vote(lot, fact), fact), orders=r.awarded,
        source="§8 ANSWERED Votes",
    ),
    row(
        State.ANSWERED, f.Clock, g.vote_is_plain, who=A,
        change=c.consider, orders=r.considered, source="§8 decided by chain and statements",
    ),
    row(
        State.ANSWERED, f.Clock, g.reveal_due, who=A,
        change=c.open_own, orders=r.considered, source="§9 reveal",
    ),
    row(
        State.ANSWERED, f.Clock, g.verdict_ready, who=A,
        to=State.AWARD_SIGNED, change=c.sign_verdict, orders=r.awarded, source="§8 ANSWERED Votes",
    ),
    row(
        (State.ANSWERED, State.AWARD_SIGNED), f.AwardSaid,
        g.by_panel, g.signatures_fit, g.award_for_coin, g.cosignable, who=A,
        to=State.AWARD_SIGNED, change=c.cosign, orders=r.awarded, source="§8 AWARD_SIGNED, sets brought together",
    ),
    row(
        (State.ANSWERED, State.AWARD_SIGNED), f.AwardSaid,
        g.by_panel, g.signatures_fit, g.award_for_coin, g.by_vote_by, g.fair_to_take, who=PARTIES,
        to=K_SIGNED, change=c.take_award, orders=r.award_arrived, source="§8 ANSWERED Votes; §11 c",
    ),
    # --- the end ---
    row(
        (*OPEN, State.STRAY), f.Clock, g.timeout_reached, who=B,
        to=State.REFUND_SENT, change=c.order_now, orders=r.settle(Exit.REFUND), source="§8 any funded Clock T; STRAY",
    ),
    row(
        State.STRAY, f.Clock, g.is_lot, g.late_over, g.not_adopted, g.not_cancelled, g.never_delivered, who=S,
        change=c.give_back, orders=r.cancel_late, source="§8 STRAY, CANCEL offer: it can count no more",
    ),
    row(
        State.RELEASE_SIGNED, f.Clock, g.locked, g.past_vote_by, g.never_pushed,
        to=State.DELIVERED, change=c.drop_release, source="§8 RELEASE_SIGNED Clock: K stays hidden",
    ),
    row(
        (State.RELEASE_SIGNED, State.RELEASE_SEEN), f.Clock, g.release_stands, g.climb_due, who=S,
        change=c.climb, orders=r.settle(Exit.RELEASE), source="§3 fee ladder",
    ),
    row(
        (State.CANCEL_SIGNED, State.CANCEL_SEEN), f.Clock, g.climb_due, who=B,
        change=c.climb, orders=r.settle(Exit.CANCEL), source="§3 fee ladder: the seller signed every rung",
    ),
    row(
        (State.AWARD_SIGNED, State.AWARD_SEEN), f.Clock, g.own_award, g.climb_due, who=PARTIES,
        change=c.climb, orders=r.settle_again, source="§3 fee ladder",
    ),
    row(
        (State.REFUND_SENT, State.REFUND_SEEN), f.Clock, g.climb_due, who=B,
        change=c.climb, orders=r.settle(Exit.REFUND), source="§3 fee ladder: re-signed by the buyer at will",
    ),
    row(
        (State.RELEASE_SIGNED, *ARGUED, State.RELEASE_SEEN), f.Clock, g.release_stands, g.push_due, who=S,
        change=c.order_now, orders=r.settle(Exit.RELEASE), source="§4 rebroadcast",
    ),
    row(
        (State.CANCEL_SIGNED, State.CANCEL_SEEN), f.Clock, g.push_due, who=B,
        change=c.order_now, orders=r.settle(Exit.CANCEL), source="§4 rebroadcast",
    ),
    row(
        (State.AWARD_SIGNED, State.AWARD_SEEN), f.Clock, g.own_award, g.push_due, who=PARTIES,
        change=c.order_now, orders=r.settle_again, source="§4 rebroadcast",
    ),
    row(
        (State.REFUND_SENT, State.REFUND_SEEN), f.Clock, g.push_due, who=B,
        change=c.order_now, orders=r.settle(Exit.REFUND), source="§4 rebroadcast",
    ),
    row(
        WITH_COIN, f.SpendSeen,
        to=SPENT, change=c.see_spend, orders=r.tell(News.SETTLED), source="§8 SpendSeen",
    ),
    row(SEEN, f.SpendSeen, g.same_spend, change=c.update_spend, source="§8 SpendSeen, height moved"),
    row(
        (*SEEN, State.CLOSED), f.SpendSeen,
        to=SPENT, change=c.update_spend, orders=r.tell(News.SETTLED), source="§8 OtherSpendSeen",
    ),
    row(
        SEEN, f.SpendDeep, g.same_spend,
        to=State.CLOSED, change=c.update_spend, orders=r.tell(News.CLOSED), source="§8 …_SEEN Depth",
    ),
    row(
        (*SEEN, State.CLOSED), f.SpendGone, g.that_spend,
        to=BEFORE, change=c.lose_spend, orders=r.tell(News.REOPENED), source="§8 SpendGone",
    ),
    row(EVERY, f.Pushed, change=c.push, source="§8 broadcast"),
    row(EVERY, f.Equivocation, change=c.mark_fault, orders=r.publish, source="§8 any Equivocation; §7"),
    row(EVERY, f.Clock, source="nothing is due"),
)  # fmt: skip

TABLE = indexed(ROWS)


def decide(lot: Lot, fact: f.Fact) -> tuple[Lot, tuple[Order, ...]]:
    """The lot after the fact, and what is ordered.

    Raises:
        WrongPhase, Refused: this does not fit; nothing changed.
    """
    return step(TABLE, lot, fact)


SETTLE_STATES: dict[Exit, tuple[State, ...]] = {
    Exit.RELEASE: (State.RELEASE_SIGNED, *ARGUED, State.RELEASE_SEEN),
    Exit.CANCEL: (State.CANCEL_SIGNED, State.CANCEL_SEEN),
    Exit.AWARD: (State.AWARD_SIGNED, State.AWARD_SEEN),
    Exit.REFUND: (State.REFUND_SENT, State.REFUND_SEEN),
}
UNSPENT = (*OPEN, State.STRAY)


def still_wanted(lot: Lot, order: Order, tip: int) -> bool:
    """Asked right before an order is done: it is for the present coin, in time, and the lot has not moved on."""
    not_after = getattr(order, "not_after", None)
    if not_after is not None and tip > not_after:
        return False
    if isinstance(order, Fund):
        return lot.state is State.AGREED
    if isinstance(order, Settle):
        return order.outpoint == lot.outpoint and lot.state in SETTLE_STATES[order.exit]
    if isinstance(order, SignRelease | SignCancel):
        return order.outpoint == lot.outpoint and lot.state in UNSPENT
    if isinstance(order, SignAward):
        return order.key.outpoint == lot.outpoint and lot.state is State.AWARD_SIGNED
    return True
