"""What the lots of one series mean for each other: whose turn it is, what goes back, which bond stands, who funds when.

Pure. Each lot goes through the table by itself (`rules`); the only couplings between lots are the facts made here, from
what this node itself sees of them. Exposure is one lot: a later stage begins when the one before is paid, and ends
unbegun when that came to nothing or was disputed.

Source: escrow_protocol.md §1 (lots, bond lot), §4 (staggered T).
"""

from __future__ import annotations

from collections.abc import Sequence

from dux_escrowd.facts import Abandoned, BondStands, Fact, StageOpened
from dux_escrowd.model import Lot, Role, State

CAME_TO_NOTHING = (
    State.VOID,
    State.CANCEL_SIGNED,
    State.DISPUTED,
    State.ANSWERED,
    State.AWARD_SIGNED,
    State.REFUND_SENT,
)
OVER = (State.CLOSED, State.VOID)


def turn_of(lot: Lot, before: Lot | None, at: int) -> Fact | None:
    """Seller: whether a later stage that waits begins now, or goes back."""
    waits = lot.role is Role.SELLER and lot.state is State.FUNDED and lot.deal.stage > 0 and not lot.started
    if not waits or before is None:
        return None
    if before.spend is not None and before.spend.gross_florins > 0:
        return StageOpened(at=at)
    ended = before.spend is not None or before.abandoned or before.state in CAME_TO_NOTHING
    return Abandoned(at=at) if ended and not lot.abandoned else None


def bond_fact(lot: Lot, bond: Lot | None, at: int) -> Fact | None:
    """A lot of work: the bond beside it stands now, or no more."""
    stands = bond is not None and bond.state is State.FUNDED and bond.coin is not None
    outpoint = bond.coin.outpoint if stands and bond is not None and bond.coin is not None else ""
    unspent = lot.coin is not None and lot.spend is None
    return BondStands(at=at, outpoint=outpoint) if unspent and outpoint != lot.bond else None


def bond_over(bond: Lot, works: Sequence[Lot | None], count: int, at: int) -> Fact | None:
    """The buyer of the work: all its lots are over, so the bond goes back."""
    waits = bond.role is Role.SELLER and bond.state is State.FUNDED and not bond.abandoned
    over = len(works) == count and all(lot is not None and lot.state in OVER for lot in works)
    return Abandoned(at=at) if waits and over else None


def why_not_funded(works: Sequence[Lot | None], count: int, *, bonded: bool, bond: Lot | None) -> str:
    """Why the buyer does not pay the series yet, or an empty string: all lots are agreed, and the bond lies deep."""
    if len(works) < count:
        return f"{len(works)} of {count} lots are agreed"
    if any(lot is None or lot.state in (State.DRAFT, State.DRAWING, State.VOID) for lot in works):
        return "a lot of the series is not agreed"
    if bonded and (bond is None or bond.state is not State.FUNDED):
        return "the seller's bond does not lie deep yet"
    return ""
