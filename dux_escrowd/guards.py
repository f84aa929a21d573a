"""The conditions of the table, each a small question about a lot and a fact.

Pure. Their names appear in the table, in refusals and in the diagram. Margins are those of escrow_protocol.md §4 and
§8, as they stand there: `<` and `<=` matter.
"""

from __future__ import annotations

from typing import Any

from common.chain.contract import Policy
from common.chain.fees import FEE_LADDER
from dux_escrowd.beside import outpoint_of
from dux_escrowd.facts import (
    AnswerSaid,
    ArbitersStandBy,
    AwardSaid,
    CancelAsked,
    CancelSaid,
    Clock,
    CoinDeep,
    DisputeSaid,
    Fact,
    OutputSeen,
    ReleaseSaid,
    StrayAsked,
    VoteCommitted,
    VoteRevealed,
)
from dux_escrowd.model import Coin, Deal, Lot, Role, State
from dux_escrowd.voting import (
    answer_window_over,
    automatic_vote,
    committed,
    is_gross,
    may_cosign,
    must_reveal,
    revealed,
    verdict,
    winner_of,
    winning,
)

RUNG_LAST = len(FEE_LADDER) - 1

# --- who speaks -------------------------------------------------------------------------------------------------------


def by_buyer(lot: Lot, fact: Any) -> bool:
    """The buyer said it."""
    return bool(fact.by == lot.deal.buyer)


def by_seller(lot: Lot, fact: Any) -> bool:
    """The seller said it."""
    return bool(fact.by == lot.deal.seller)


def by_party(lot: Lot, fact: Any) -> bool:
    """A party said it, and not this node."""
    return fact.by in (lot.deal.buyer, lot.deal.seller) and fact.by != lot.me


def by_panel(lot: Lot, fact: Any) -> bool:
    """An arbiter of the panel said it, not proven faulty."""
    return fact.by in lot.panel and fact.by not in lot.faulty


def by_named(lot: Lot, fact: Any) -> bool:
    """Somebody named in the contract said it."""
    return fact.by in (lot.deal.buyer, lot.deal.seller, *lot.panel)


def by_answerer(lot: Lot, fact: AnswerSaid | DisputeSaid) -> bool:
    """The party that did not open the dispute said it."""
    return fact.by in (lot.deal.buyer, lot.deal.seller) and fact.by != lot.disputed_by


# --- agreement and funding --------------------------------------------------------------------------------------------


def past_fund_by(lot: Lot, fact: Fact) -> bool:
    """No funding counts any more."""
    return fact.at > lot.deal.heights.fund_by


def same_contract(_lot: Lot, fact: Any) -> bool:
    """The other's script and fund are those rebuilt here."""
    return bool(fact.same)


def panel_fits(lot: Lot, fact: Any) -> bool:
    """As many arbiters as the script has seats."""
    return len(set(fact.panel)) == lot.deal.seats


def first_enough(lot: Lot, fact: OutputSeen) -> bool:
    """The output holds A + a, for the lot itself, and is not already late, or both have signed LATE_OK for it."""
    in_time = fact.coin.height is None or fact.coin.height <= lot.deal.heights.fund_by or _counts_late(lot, fact.coin)
    return lot.number == 0 and in_time and fact.coin.value_florins >= lot.deal.lot_florins


def precedes(lot: Lot, fact: OutputSeen) -> bool:
    """Another output is enough and stands earlier on the chain than the coin this lot rests on."""
    if lot.coin is None or fact.coin.height is None or this_coin(lot, fact) or not first_enough(lot, fact):
        return False
    return lot.coin.height is None or fact.coin.height < lot.coin.height


def this_coin(lot: Lot, fact: Any) -> bool:
    """It is about the coin that this lot rests on."""
    return outpoint_of(fact) == lot.outpoint


def funded_in_time(lot: Lot, fact: CoinDeep) -> bool:
    """Confirmed by fund_by (or LATE_OK), enough, and the lot's own coin."""
    height = fact.coin.height
    if lot.number or height is None or fact.coin.value_florins < lot.deal.lot_florins:
        return False
    return height <= lot.deal.heights.fund_by or _counts_late(lot, fact.coin)


def _counts_late(lot: Lot, coin: Coin) -> bool:
    return bool(lot.late_agreed) and lot.late_agreed == coin.outpoint


def counts_late(lot: Lot, fact: Any) -> bool:
    """Both have signed LATE_OK for this coin."""
    return _counts_late(lot, fact.coin)


def late_until(deal: Deal) -> int:
    """The last tip at which a late coin may still become the lot's: START's blocks and half of the job's are left.

    No height of the contract moves for it, so every window behind delivery is as long as it was agreed.
    """
    heights = deal.heights
    half = (heights.deliver_by - heights.fund_by + 1) // 2
    return heights.deliver_by - max(deal.start_blocks, half)


def late_fits(lot: Lot, fact: Fact) -> bool:
    """All windows still fit a coin that came late."""
    return fact.at <= late_until(lot.deal)


def late_over(lot: Lot, fact: Fact) -> bool:
    """No late coin can become the lot's any more."""
    return not late_fits(lot, fact)


def may_count_late(lot: Lot, fact: Any) -> bool:
    """A coin of A + a, for a lot that all were READY for, that stands alone (no series, no bond) and on no other coin.

    Without every READY an arbiter might rebuild another script, and nobody could be asked.
    """
    named = {lot.deal.buyer, lot.deal.seller, *lot.panel}
    alone = lot.number == 0 and not lot.deal.series and not lot.deal.bond and set(lot.ready) == named
    return alone and fact.coin.value_florins >= lot.deal.lot_florins and lot.outpoint in (None, fact.coin.outpoint)


def asked_late(lot: Lot, fact: Any) -> bool:
    """The buyer has asked for exactly this coin."""
    return outpoint_of(fact) in lot.late_asked


def not_cancelled(lot: Lot, _fact: Fact) -> bool:
    """No cancel was asked for or given: with it goes K, and work would be for nothing."""
    return not lot.cancelled


def not_adopted(lot: Lot, _fact: Fact) -> bool:
    """This node has not said that a late coin counts."""
    return not lot.late_agreed


def is_stray(lot: Lot, _fact: Fact) -> bool:
    """A stray beside the lot."""
    return lot.number > 0


def this_stray(lot: Lot, fact: CancelAsked) -> bool:
    """It is asked for by its outpoint."""
    return lot.number > 0 and fact.outpoint == lot.outpoint


def ask_back_due(lot: Lot, fact: Fact) -> bool:
    """No stray can become the lot's any more by LATE_OK, and this one was not asked for."""
    return lot.number > 0 and not lot.asked_back and late_over(lot, fact)


def asked_for(lot: Lot, _fact: Fact) -> bool:
    """The buyer has asked for this stray."""
    return lot.number > 0 and lot.asked_back


def of_lot(lot: Lot, fact: CancelAsked) -> bool:
    """The lot itself is meant, not a coin beside it."""
    return fact.outpoint in ("", lot.outpoint)


def key_is_free(lot: Lot, fact: StrayAsked) -> bool:
    """Showing K for this stray loses nothing.

    All outputs of a script share its hash h, so K for a stray opens the result that the lot's coin is to pay for. It is
    free when the lot is paid, when nothing was delivered and nothing can be any more, or where the script has no lock;
    there the stray only must not become the lot's coin later. Orders that were given and not yet done count for
    nothing: an order to show K may come too late and be dropped.
    """
    beside = fact.beside
    if beside.state is State.VOID:
        return late_over(lot, fact) and not beside.adopted and not beside.delivered
    if beside.state is State.CLOSED:
        return beside.paid or not (beside.delivered and lot.deal.lock)
    return not lot.deal.lock and beside.funded


def counts_never(lot: Lot, fact: StrayAsked) -> bool:
    """This output can never be the lot's coin, whatever was said and not heard here: too little, or the lot has one.

    A late coin of A + a beside a lot without one is left alone: both may have let it count, and this node not know.
    """
    if lot.deal.bond or lot.coin is None:
        return False
    return lot.coin.value_florins < lot.deal.lot_florins or fact.beside.funded or fact.beside.state is State.CLOSED


def gives_all_back(_lot: Lot, fact: AwardSaid) -> bool:
    """A «stray» award: nothing for the seller, nothing for arbiters, who had nothing to judge."""
    return not fact.key.gross_florins and not fact.key.revealed and not fact.key.bond


def is_lot(lot: Lot, _fact: Fact) -> bool:
    """The lot itself, not a stray beside it."""
    return lot.number == 0


# --- work, key, payment -----------------------------------------------------------------------------------------------


def has_begun(lot: Lot, _fact: Fact) -> bool:
    """Work for this lot has begun: for a later stage not before the one before it is paid, for a bond never."""
    return lot.started


def before_deliver_by(lot: Lot, fact: Fact) -> bool:
    """Delivered in time."""
    return fact.at <= lot.deal.heights.deliver_by


def claimed_before_deliver_by(lot: Lot, fact: Any) -> bool:
    """The seller wrote a height in time: all an arbiter who hears of it in the dispute can go by."""
    return bool(fact.claimed_at <= lot.deal.heights.deliver_by)


def past_deliver_by(lot: Lot, fact: Fact) -> bool:
    """The time to deliver is over."""
    return fact.at > lot.deal.heights.deliver_by


def no_start(lot: Lot, fact: Fact) -> bool:
    """START was never said, and has been due for more than `start_blocks`: the coin is deep and the turn has come."""
    if lot.started or lot.funded_at is None:
        return False
    return fact.at > max(lot.funded_at, lot.deal.begins) + lot.deal.start_blocks


def is_work(lot: Lot, _fact: Fact) -> bool:
    """Not a bond lot: nobody works for one or argues about it by itself."""
    return not lot.deal.bond


def is_later_stage(lot: Lot, _fact: Fact) -> bool:
    """Its work begins when the lot before was paid, and has not begun."""
    return lot.deal.stage > 0 and not lot.started


def not_begun(lot: Lot, _fact: Fact) -> bool:
    """A bond, or a later stage that nobody has worked for: it can go back without loss. Offered once for a coin."""
    return (lot.deal.bond or (lot.deal.stage > 0 and not lot.started)) and not lot.abandoned


def bond_changed(lot: Lot, fact: Any) -> bool:
    """It says something new about the bond."""
    return bool(fact.outpoint != lot.bond)


def locked(lot: Lot, _fact: Fact) -> bool:
    """Script E+h: the result's key is bought."""
    return lot.deal.lock


def not_locked(lot: Lot, _fact: Fact) -> bool:
    """Script E."""
    return not lot.deal.lock


def swap_agreed(lot: Lot, _fact: Fact) -> bool:
    """The buyer agreed to go first."""
    return lot.deal.lock and lot.deal.policy is Policy.SWAP


def standby_agreed(lot: Lot, _fact: Fact) -> bool:
    """The seller agreed to go first while arbiters stand by."""
    return lot.deal.lock and lot.deal.policy is Policy.STANDBY


def may_pay_first(lot: Lot, fact: Fact) -> bool:
    """Small enough, or confirmed by others; and before dispute_by."""
    small = lot.deal.price_florins <= lot.deal.swap_limit_florins
    return lot.deal.lock and (small or lot.confirmed) and fact.at < lot.deal.heights.dispute_by


def enough_stand_by(lot: Lot, fact: ArbitersStandBy) -> bool:
    """At least k answers, none too old."""
    return fact.answers >= lot.deal.arbiters_needed and fact.at - fact.asked_at <= lot.deal.standby_blocks


def ping_due(lot: Lot, fact: Fact) -> bool:
    """A party's last ping is `start_blocks` old."""
    return (
        lot.role is not Role.ARBITER and lot.pinged_at is not None and fact.at - lot.pinged_at >= lot.deal.start_blocks
    )


def before_dispute_by(lot: Lot, fact: Fact) -> bool:
    """There is still time to dispute afterwards."""
    return fact.at < lot.deal.heights.dispute_by


def dispute_due(lot: Lot, fact: Fact) -> bool:
    """The last height to ask the arbiters by oneself has come."""
    return fact.at >= lot.deal.heights.dispute_by


def dispute_counts(lot: Lot, fact: Fact) -> bool:
    """A dispute is heard up to `start_blocks` (60 on main) after dispute_by, and not before a later stage's turn."""
    if lot.deal.bond or (not lot.started and fact.at <= lot.deal.begins):
        return False
    return fact.at <= lot.deal.heights.dispute_by + lot.deal.start_blocks


def before_vote_by(lot: Lot, fact: Fact) -> bool:
    """Strictly before the last margin."""
    return fact.at < lot.deal.heights.vote_by


def by_vote_by(lot: Lot, fact: Fact) -> bool:
    """Not inside the last margin."""
    return fact.at <= lot.deal.heights.vote_by


def past_vote_by(lot: Lot, fact: Fact) -> bool:
    """Inside the last margin."""
    return fact.at > lot.deal.heights.vote_by


def signatures_fit(_lot: Lot, fact: ReleaseSaid | CancelSaid | AwardSaid) -> bool:
    """The coin signatures fit this node's own rebuild."""
    return fact.valid


def full_price(lot: Lot, fact: ReleaseSaid) -> bool:
    """It pays all that was agreed."""
    return fact.gross_florins == lot.deal.price_florins


def part_is_legal(lot: Lot, fact: Any) -> bool:
    """A part of the price, of at least 0.2 FLOP, and not less than was released before."""
    least = (lot.release_gross_florins or 0) if lot.release_stands else 0
    part = 0 < fact.gross_florins < lot.deal.price_florins
    return part and is_gross(lot, fact.gross_florins) and fact.gross_florins >= least


def is_part(lot: Lot, fact: ReleaseSaid) -> bool:
    """It pays a part of what was agreed."""
    return fact.gross_florins < lot.deal.price_florins and is_gross(lot, fact.gross_florins)


def part_is_offered(lot: Lot, fact: Any) -> bool:
    """The buyer's signatures for exactly this part of the present coin are held."""
    return (
        lot.part_florins == fact.gross_florins and lot.part_outpoint is not None and lot.part_outpoint == lot.outpoint
    )


def released_a_part(lot: Lot, _fact: Fact) -> bool:
    """What this node has released for the present coin is less than the price."""
    return lot.release_stands and (lot.release_gross_florins or 0) < lot.deal.price_florins


def not_released(lot: Lot, _fact: Fact) -> bool:
    """This node has not released the same coin."""
    return not lot.release_stands


def nothing_delivered(lot: Lot, _fact: Fact) -> bool:
    """K may still be shown without giving a result away."""
    return lot.delivered_at is None or not lot.deal.lock


def never_delivered(lot: Lot, _fact: Fact) -> bool:
    """No result exists that K would open."""
    return lot.delivered_at is None


def never_pushed(lot: Lot, _fact: Fact) -> bool:
    """This node's own spend has not reached the chain."""
    return lot.pushed is None


def push_due(lot: Lot, fact: Fact) -> bool:
    """The mempool forgets: hand the spend over again every `rebroadcast_blocks`, and at once after a reorganisation."""
    return lot.ordered_at is None or fact.at - lot.ordered_at >= lot.deal.rebroadcast_blocks


def climb_due(lot: Lot, fact: Fact) -> bool:
    """The own spend has been unconfirmed for `rung_blocks`, and there is a higher rung."""
    deal, unconfirmed = lot.deal, lot.spend is None or lot.spend.height is None
    if not deal.rung_blocks or lot.rung >= RUNG_LAST or lot.pushed is None or lot.ordered_at is None:
        return False
    return unconfirmed and fact.at - lot.ordered_at >= deal.rung_blocks


def release_stands(lot: Lot, _fact: Fact) -> bool:
    """A release for the present coin is held."""
    return lot.release_stands


def own_award(lot: Lot, _fact: Fact) -> bool:
    """This node is the one to complete the award."""
    key = winning(lot)
    return key is not None and winner_of(key) is lot.role


def before_timeout(lot: Lot, fact: Clock) -> bool:
    """The buyer alone cannot take it yet."""
    return fact.at < lot.deal.heights.timeout


def timeout_reached(lot: Lot, fact: Clock) -> bool:
    """The tip is at T or beyond, and young enough to trust."""
    return fact.at >= lot.deal.heights.timeout and fact.fresh


# --- dispute ----------------------------------------------------------------------------------------------------------


def answer_over(lot: Lot, fact: Fact) -> bool:
    """Answered, or the time to answer is over."""
    return lot.answered or answer_window_over(lot, fact.at)


def vote_open(lot: Lot, fact: Fact) -> bool:
    """This arbiter has not voted and commitments still count."""
    return lot.vote_florins is None and fact.at <= lot.deal.heights.commit_by


def vote_is_plain(lot: Lot, fact: Fact) -> bool:
    """Chain and statements decide by themselves."""
    return vote_open(lot, fact) and automatic_vote(lot, fact.at) is not None


def gross_is_legal(lot: Lot, fact: Any) -> bool:
    """Nothing, or from 0.2 FLOP to the price; and not below the buyer's own release."""
    least = lot.release_gross_florins if lot.release_stands else 0
    return is_gross(lot, fact.gross_florins) and fact.gross_florins >= (least or 0)


def commitment_counts(lot: Lot, fact: VoteCommitted) -> bool:
    """In time, and the arbiter's first."""
    return fact.at <= lot.deal.heights.commit_by and fact.by not in committed(lot)


def reveal_counts(lot: Lot, fact: VoteRevealed) -> bool:
    """In time, fits its commitment, and the arbiter's first."""
    return (
        fact.at <= lot.deal.heights.reveal_by
        and fact.fits
        and fact.by in committed(lot)
        and fact.by not in revealed(lot)
        and is_gross(lot, fact.gross_florins)
    )


def reveal_due(lot: Lot, fact: Fact) -> bool:
    """This arbiter has to open its vote."""
    return must_reveal(lot, fact.at)


def verdict_ready(lot: Lot, fact: Fact) -> bool:
    """At least k equal votes, complete, not inside the last margin."""
    return verdict(lot, fact.at) is not None


def cosignable(lot: Lot, fact: AwardSaid) -> bool:
    """It is this arbiter's own vote."""
    return may_cosign(lot, fact.key, fact.at)


def award_for_coin(lot: Lot, fact: AwardSaid) -> bool:
    """For the present coin, paying arbiters of the panel only."""
    return fact.key.outpoint == lot.outpoint and set(fact.key.revealed) <= set(lot.panel)


def fair_to_take(lot: Lot, fact: AwardSaid) -> bool:
    """A buyer never takes an award below what it has released itself."""
    if lot.role is not Role.BUYER or not lot.release_stands:
        return True
    return fact.key.gross_florins >= (lot.release_gross_florins or 0)


# --- spends -----------------------------------------------------------------------------------------------------------


def same_spend(lot: Lot, fact: Any) -> bool:
    """It is about the spend that was seen."""
    return lot.spend is not None and bool(fact.spend.txid == lot.spend.txid)


def that_spend(lot: Lot, fact: Any) -> bool:
    """The spend that was seen is the one that is gone."""
    return lot.spend is not None and bool(fact.txid == lot.spend.txid)
