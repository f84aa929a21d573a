"""How arbiters decide: what chain and statements decide alone, when votes are a verdict, what may be co-signed.

Pure. Promises: no vote before the other side could answer; a release that the buyer signed counts for the seller;
all who revealed are paid alike, majority or not; no verdict inside the last margin.

Source: escrow_protocol.md §7, §8, §9.
"""

from __future__ import annotations

from collections import Counter

from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from dux_escrowd.model import AwardKey, Exit, Lot, Role


def commitment_of(contract_id: str, arbiter: str, gross_florins: int, salt: bytes) -> bytes:
    """H(vote, salt), bound to contract and arbiter so that it cannot be copied (32 bytes)."""
    return bytes(tagged_hash(Purpose.ESCROW_VOTE, f"{contract_id}\0{arbiter}\0{gross_florins}\0".encode() + salt))


def is_gross(lot: Lot, gross_florins: int) -> bool:
    """Whether an award may pay this: nothing, or from 0.2 FLOP to the price."""
    return gross_florins == 0 or GROSS_LEAST_FLORINS <= gross_florins <= lot.deal.price_florins


GROSS_LEAST_FLORINS = 20_000_000  # 0.2 FLOP: below, the fund's part would be dust


def answer_window_over(lot: Lot, at: int) -> bool:
    """The other side had its time: until answer_by, or `start_blocks` when not even START was said (the fast award).

    Those blocks count from where START could be said, and only for a dispute whose opener has not said two things at
    once: the other side may have been handed the other one.
    """
    heights = lot.deal.heights
    is_plain = not lot.started and lot.delivered_at is None and lot.disputed_by not in lot.faulty
    if is_plain and lot.disputed_at is not None:
        since = max(lot.disputed_at, lot.funded_at or 0, lot.deal.begins)
        return at > min(heights.answer_by, since + lot.deal.start_blocks)
    return at > heights.answer_by


def automatic_vote(lot: Lot, at: int) -> int | None:
    """The vote that needs no judgement of the result, in florins of gross; None: somebody has to look at the result.

    That nothing was heard tells nothing before the time to answer is over, even where the answer is here already: a
    DELIVERED may be on its way still. A release of a part is no verdict, or a buyer would set its own price in the
    dispute; no vote is below it.
    """
    least = (lot.release_gross_florins or 0) if lot.release_stands else 0
    if least >= lot.deal.price_florins or lot.deal.seller in lot.faulty:
        return least
    if lot.delivered_at is None:
        return least if answer_window_over(lot, at) else None
    if not lot.key_known and at > lot.deal.heights.answer_by:
        return least
    return None


def case_is_ready(lot: Lot, at: int) -> bool:
    """The result has to be looked at, everything to do so is here, and there is time to vote."""
    return (
        lot.role is Role.ARBITER
        and lot.vote_florins is None
        and lot.delivered_at is not None
        and lot.key_known
        and at <= lot.deal.heights.commit_by
        and automatic_vote(lot, at) is None
    )


def committed(lot: Lot) -> tuple[str, ...]:
    """Arbiters whose commitment is held."""
    return tuple(ballot.arbiter for ballot in lot.ballots if ballot.arbiter not in lot.faulty)


def revealed(lot: Lot) -> tuple[str, ...]:
    """Arbiters who opened their vote, sorted."""
    opened = (b.arbiter for b in lot.ballots if b.gross_florins is not None and b.arbiter not in lot.faulty)
    return tuple(sorted(opened))


def must_reveal(lot: Lot, at: int) -> bool:
    """This arbiter voted, has not revealed, and either all have committed or no more commitments count."""
    if lot.vote_florins is None or lot.me in revealed(lot) or at > lot.deal.heights.reveal_by:
        return False
    return len(committed(lot)) >= lot.deal.seats or at > lot.deal.heights.commit_by


def verdict(lot: Lot, at: int) -> AwardKey | None:
    """What this arbiter signs now: at least k equal votes, complete, in time, and not below the buyer's own release."""
    heights, opened = lot.deal.heights, revealed(lot)
    complete = len(opened) >= lot.deal.seats or at > heights.reveal_by
    if not complete or at > heights.vote_by or lot.coin is None:
        return None
    gross = _agreed(lot)
    if gross is None or not _respects_release(lot, gross):
        return None
    return AwardKey(lot.coin.outpoint, gross, opened, bond_for(lot, gross))


def bond_for(lot: Lot, gross_florins: int) -> str:
    """The bond lot that an award of this gross spends with it: the loser pays, and a seller paid nothing has lost."""
    return lot.bond if gross_florins == 0 else ""


def _agreed(lot: Lot) -> int | None:
    counts = Counter(
        b.gross_florins for b in lot.ballots if b.gross_florins is not None and b.arbiter not in lot.faulty
    )
    return next((gross for gross, count in counts.items() if count >= lot.deal.arbiters_needed), None)


def _respects_release(lot: Lot, gross_florins: int) -> bool:
    """Nothing below what the buyer had released when this arbiter voted.

    A larger release that came after the vote takes no award away: else a lying buyer would have all back at T.
    """
    least = lot.release_gross_florins if lot.release_stands else None
    came_later = least is not None and lot.vote_florins is not None and lot.vote_florins < least
    return least is None or gross_florins >= least or (came_later and gross_florins == lot.vote_florins)


def may_cosign(lot: Lot, key: AwardKey, at: int) -> bool:
    """Another arbiter's award is this one's own opened vote, pays at least all who revealed to it, and is in time."""
    return (
        lot.vote_florins == key.gross_florins
        and lot.me in revealed(lot)
        and len(set(key.revealed)) == len(key.revealed)
        and key.outpoint == lot.outpoint
        and key.bond == bond_for(lot, key.gross_florins)
        and set(revealed(lot)) <= set(key.revealed)
        and set(key.revealed) <= set(lot.panel)
        and at <= lot.deal.heights.vote_by
        and _respects_release(lot, key.gross_florins)
    )


def signed_by(lot: Lot, key: AwardKey) -> tuple[str, ...]:
    """Arbiters whose coin signatures for exactly this award are held, sorted."""
    return tuple(sorted({a.arbiter for a in lot.awards if a.key == key and a.arbiter not in lot.faulty}))


def voters(lot: Lot) -> tuple[str, ...]:
    """The arbiters whose opened votes made the award by which the coin was spent; empty for another way out."""
    award = winning(lot) if lot.spend is not None and lot.spend.exit is Exit.AWARD else None
    return award.revealed if award is not None else ()


def winning(lot: Lot) -> AwardKey | None:
    """The award that k arbiters have signed for the present coin, if any."""
    keys = dict.fromkeys(award.key for award in lot.awards if award.key.outpoint == lot.outpoint)
    return next((key for key in keys if len(signed_by(lot, key)) >= lot.deal.arbiters_needed), None)


def winner_of(key: AwardKey) -> Role:
    """Who completes the award: the seller if it is paid anything, else the buyer."""
    return Role.SELLER if key.gross_florins > 0 else Role.BUYER
