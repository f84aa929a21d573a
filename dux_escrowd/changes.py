"""What the table's rows write down: each takes a lot and a fact and gives the lot as it is afterwards.

Pure; the state itself is set by the table, not here.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from dux_escrowd.beside import outpoint_of
from dux_escrowd.facts import (
    AwardSaid,
    Equivocation,
    EvidenceArrived,
    Fact,
    PanelSeated,
    Pushed,
    Ready,
    ReleaseSaid,
    VoteCommitted,
    VoteDecided,
    VoteRevealed,
)
from dux_escrowd.model import AwardKey, AwardSigned, Ballot, Lot, Role
from dux_escrowd.voting import automatic_vote, case_is_ready, is_gross, must_reveal, verdict, winning


def seat_panel(lot: Lot, fact: PanelSeated) -> Lot:
    """Remember who arbitrates."""
    return replace(lot, panel=fact.panel)


def count_ready(lot: Lot, fact: Ready) -> Lot:
    """One more READY."""
    return replace(lot, ready=tuple(sorted({*lot.ready, fact.by})))


def take_coin(lot: Lot, fact: Any) -> Lot:
    """Rest on this coin."""
    return replace(lot, coin=fact.coin)


def fund(lot: Lot, fact: Any) -> Lot:
    """The coin lies deep; the seller says START at once. What the buyer had released is for this coin again."""
    released = fact.coin.outpoint if lot.role is Role.BUYER and lot.release_gross_florins is not None else None
    return replace(
        lot,
        coin=fact.coin,
        funded_at=fact.at,
        started=lot.started or (lot.role is Role.SELLER and lot.deal.stage == 0 and not lot.deal.bond),
        release_outpoint=released,
    )


def ask_late(lot: Lot, fact: Any) -> Lot:
    """The buyer asks that this late coin counts.

    It stays asked when another is asked for: a buyer that asks twice must not undo for arbiters what a seller answers.
    """
    outpoint = outpoint_of(fact)
    return lot if outpoint in lot.late_asked else replace(lot, late_asked=(*lot.late_asked, outpoint))


def agree_late(lot: Lot, fact: Any) -> Lot:
    """Both have signed LATE_OK."""
    return replace(lot, late_agreed=outpoint_of(fact))


def ask_back(lot: Lot, _fact: Fact) -> Lot:
    """The buyer would have the stray back."""
    return replace(lot, asked_back=True)


def award_stray(lot: Lot, _fact: Fact) -> Lot:
    """Arbiter: sign that all of the stray goes back."""
    return _with_award(lot, AwardSigned(lot.me, AwardKey(lot.outpoint or "", 0, ())))


def give_back(lot: Lot, _fact: Fact) -> Lot:
    """The coin goes back, K with it: no late coin can ever count any more."""
    return replace(lot, cancelled=True)


def lose_coin(lot: Lot, _fact: Fact) -> Lot:
    """All coin signatures are void; statements stay."""
    return replace(
        lot,
        coin=None,
        funded_at=None,
        awards=(),
        release_outpoint=None,
        ordered_at=None,
        pushed=None,
        spend=None,
        before=None,
        part_florins=None,
        part_outpoint=None,
        abandoned=False,
        rung=0,
    )


def start(lot: Lot, _fact: Fact) -> Lot:
    """START was said."""
    return replace(lot, started=True)


def deliver(lot: Lot, fact: Fact) -> Lot:
    """Delivered; the seller asks the arbiters at once, the buyer later. An arbiter may now have to look."""
    return consider(replace(lot, started=True, delivered_at=fact.at, pinged_at=fact.at), fact)


def abandon(lot: Lot, _fact: Fact) -> Lot:
    """Offered back."""
    return replace(lot, abandoned=True)


def note_bond(lot: Lot, fact: Any) -> Lot:
    """The bond lot stands at this outpoint, or nowhere."""
    return replace(lot, bond=fact.outpoint)


def note_silence(lot: Lot, _fact: Fact) -> Lot:
    """Fewer than k arbiters are there."""
    return replace(lot, unattended=True)


def ping(lot: Lot, fact: Fact) -> Lot:
    """The arbiters were asked now."""
    return replace(lot, pinged_at=fact.at)


def confirm(lot: Lot, _fact: Fact) -> Lot:
    """Other workers found the same hash."""
    return replace(lot, confirmed=True)


def reveal_key(lot: Lot, _fact: Fact) -> Lot:
    """K was shown to the buyer."""
    return replace(lot, revealed=True)


def release(lot: Lot, _fact: Fact) -> Lot:
    """The buyer releases the whole price for the present coin."""
    return replace(lot, release_gross_florins=lot.deal.price_florins, release_outpoint=lot.outpoint)


def release_part(lot: Lot, fact: Any) -> Lot:
    """The buyer releases a part for the present coin; it is bound to it as to a whole one."""
    return replace(lot, release_gross_florins=fact.gross_florins, release_outpoint=lot.outpoint)


def hear_part(lot: Lot, fact: ReleaseSaid) -> Lot:
    """A part is offered: nothing is decided by that."""
    return replace(lot, part_florins=fact.gross_florins, part_outpoint=fact.outpoint)


def take_part(lot: Lot, fact: Any) -> Lot:
    """The part counts as the release; ordering it is due now."""
    return _released(lot, lot.part_florins or 0, lot.part_outpoint, fact.at)


def take_release(lot: Lot, fact: ReleaseSaid) -> Lot:
    """A release is held; ordering it is due now."""
    return _released(lot, fact.gross_florins, fact.outpoint, fact.at)


def _released(lot: Lot, gross_florins: int, outpoint: str | None, at: int) -> Lot:
    return replace(
        lot, release_gross_florins=gross_florins, release_outpoint=outpoint, ordered_at=at, pushed=None, rung=0
    )


def take_cancel(lot: Lot, fact: Fact) -> Lot:
    """A cancel is held: this node's own spend from now on, from the first rung."""
    return replace(lot, ordered_at=fact.at, pushed=None, rung=0)


def see_release(lot: Lot, fact: ReleaseSaid) -> Lot:
    """Arbiter: the buyer's release is evidence, the larger one if there are two."""
    gross = max(fact.gross_florins, lot.release_gross_florins or 0)
    return consider(replace(lot, release_gross_florins=gross, release_outpoint=fact.outpoint), fact)


def order_now(lot: Lot, fact: Fact) -> Lot:
    """This node's own spend is ordered at this tip."""
    return replace(lot, ordered_at=fact.at)


def climb(lot: Lot, fact: Fact) -> Lot:
    """The next rung is ordered at this tip."""
    return replace(lot, rung=lot.rung + 1, ordered_at=fact.at)


def push(lot: Lot, fact: Pushed) -> Lot:
    """This node's own spend has reached the chain."""
    return replace(lot, pushed=fact.exit)


def drop_release(lot: Lot, _fact: Fact) -> Lot:
    """The release came to nothing: K stays hidden."""
    return replace(lot, ordered_at=None)


def dispute_by_me(lot: Lot, fact: Fact) -> Lot:
    """This node asked the arbiters."""
    return replace(lot, disputed_by=lot.me, disputed_at=fact.at)


def dispute_by_other(lot: Lot, fact: Any) -> Lot:
    """The other party asked; a party answers at once."""
    return replace(lot, disputed_by=fact.by, disputed_at=fact.at, answered=lot.role is not Role.ARBITER)


def answer(lot: Lot, fact: Fact) -> Lot:
    """Both sides were heard, or had their time."""
    return consider(replace(lot, answered=True), fact)


def take_evidence(lot: Lot, fact: EvidenceArrived) -> Lot:
    """Arbiter: evidence is here."""
    return consider(replace(lot, key_known=lot.key_known or fact.key), fact)


def consider(lot: Lot, fact: Fact) -> Lot:
    """Arbiter, once both sides were heard: vote where no judgement is needed, else open the case for taskd."""
    if lot.role is not Role.ARBITER or not lot.answered or lot.vote_florins is not None:
        return lot
    plain = automatic_vote(lot, fact.at)
    if plain is not None and fact.at <= lot.deal.heights.commit_by:
        return _voted(lot, plain)
    return replace(lot, case_open=lot.case_open or case_is_ready(lot, fact.at))


def vote(lot: Lot, fact: VoteDecided) -> Lot:
    """Arbiter: this is the vote."""
    return open_own(_voted(lot, fact.gross_florins), fact)


def _voted(lot: Lot, gross_florins: int) -> Lot:
    own = Ballot(lot.me, b"")  # the commitment is made with a salt when the statement is signed
    return replace(lot, vote_florins=gross_florins, ballots=(*lot.ballots, own))


def take_commitment(lot: Lot, fact: VoteCommitted) -> Lot:
    """One more commitment; perhaps the last one that this arbiter waited for."""
    return open_own(replace(lot, ballots=(*lot.ballots, Ballot(fact.by, fact.commitment))), fact)


def take_vote(lot: Lot, fact: VoteRevealed) -> Lot:
    """One more vote opened."""
    return _opened(lot, fact.by, fact.gross_florins)


def open_own(lot: Lot, fact: Fact) -> Lot:
    """Arbiter: open the own vote if it is time."""
    if lot.vote_florins is None or not must_reveal(lot, fact.at):
        return lot
    return _opened(lot, lot.me, lot.vote_florins)


def _opened(lot: Lot, arbiter: str, gross_florins: int) -> Lot:
    ballots = tuple(replace(b, gross_florins=gross_florins) if b.arbiter == arbiter else b for b in lot.ballots)
    return replace(lot, ballots=ballots)


def sign_verdict(lot: Lot, fact: Fact) -> Lot:
    """Arbiter: the verdict is signed."""
    key = verdict(lot, fact.at)
    return lot if key is None else _with_award(lot, AwardSigned(lot.me, key))


def cosign(lot: Lot, fact: AwardSaid) -> Lot:
    """Arbiter: sign what another arbiter signed, where it is the own vote."""
    return _with_award(_with_award(lot, AwardSigned(fact.by, fact.key)), AwardSigned(lot.me, fact.key))


def take_award(lot: Lot, fact: AwardSaid) -> Lot:
    """One more arbiter's signature; with the k-th the award is ordered."""
    taken = _with_award(lot, AwardSigned(fact.by, fact.key))
    newly = winning(lot) is None and winning(taken) is not None
    return replace(taken, ordered_at=fact.at, pushed=None, rung=0) if newly else taken


def _with_award(lot: Lot, award: AwardSigned) -> Lot:
    return lot if award in lot.awards else replace(lot, awards=(*lot.awards, award))


def see_spend(lot: Lot, fact: Any) -> Lot:
    """A spend was seen; before it the lot stood where it stood."""
    return replace(lot, spend=fact.spend, before=lot.before or lot.state)


def update_spend(lot: Lot, fact: Any) -> Lot:
    """The same spend, at another height; or another one in its place."""
    return replace(lot, spend=fact.spend)


def lose_spend(lot: Lot, _fact: Fact) -> Lot:
    """The spend is gone: hand the own one over again at the next tip."""
    return replace(lot, spend=None, before=None, ordered_at=None)


def mark_fault(lot: Lot, fact: Equivocation) -> Lot:
    """Somebody contradicted itself: an arbiter's vote is void, a buyer is held to its larger release."""
    marked = replace(lot, faulty=tuple(sorted({*lot.faulty, fact.by})))
    gross, least = fact.gross_florins, lot.release_gross_florins or 0
    if fact.by != lot.deal.buyer or gross is None or fact.outpoint is None or fact.outpoint != lot.outpoint:
        return marked
    if gross < least or not is_gross(lot, gross):  # what no transaction can pay would bind arbiters to nothing
        return marked
    return replace(marked, release_gross_florins=gross, release_outpoint=fact.outpoint)
