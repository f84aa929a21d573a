"""The nouns of a lot: its states, whose eyes it is seen with, what was agreed, and what is remembered of it.

Frozen and without logic: `rules` says what may follow what. Names of uncertainty are states of their own
(RELEASE_SENT: did the seller get it? …_SEEN: will it stay? REVEALED: did the buyer get K?). Heights are blocks,
amounts florins.

Source: escrow_protocol.md §2 to §9.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from common.chain.contract import Policy
from common.chain.heights import Heights


class State(StrEnum):
    """Where a lot stands, as one node sees it."""

    DRAFT = "DRAFT"
    DRAWING = "DRAWING"
    AGREED = "AGREED"
    VOID = "VOID"
    FUNDED_SEEN = "FUNDED_SEEN"
    FUNDED = "FUNDED"
    STRAY = "STRAY"
    DELIVERED = "DELIVERED"
    REVEALED = "REVEALED"
    RELEASE_SENT = "RELEASE_SENT"
    RELEASE_SIGNED = "RELEASE_SIGNED"
    CANCEL_SIGNED = "CANCEL_SIGNED"
    DISPUTED = "DISPUTED"
    ANSWERED = "ANSWERED"
    AWARD_SIGNED = "AWARD_SIGNED"
    REFUND_SENT = "REFUND_SENT"
    RELEASE_SEEN = "RELEASE_SEEN"
    CANCEL_SEEN = "CANCEL_SEEN"
    AWARD_SEEN = "AWARD_SEEN"
    REFUND_SEEN = "REFUND_SEEN"
    CLOSED = "CLOSED"


class Role(StrEnum):
    """Whose eyes and hands."""

    BUYER = "buyer"
    SELLER = "seller"
    ARBITER = "arbiter"


class Exit(StrEnum):
    """Which way out of the script a spend takes."""

    RELEASE = "release"
    CANCEL = "cancel"
    AWARD = "award"
    REFUND = "refund"


OPEN = (  # funded, unspent, and something may still be decided
    State.FUNDED,
    State.DELIVERED,
    State.REVEALED,
    State.RELEASE_SENT,
    State.RELEASE_SIGNED,
    State.CANCEL_SIGNED,
    State.DISPUTED,
    State.ANSWERED,
    State.AWARD_SIGNED,
)
SEEN = (State.RELEASE_SEEN, State.CANCEL_SEEN, State.AWARD_SEEN, State.REFUND_SEEN)
WITH_COIN = (State.FUNDED_SEEN, *OPEN, State.REFUND_SENT, State.STRAY)
SEEN_AS = {
    Exit.RELEASE: State.RELEASE_SEEN,
    Exit.CANCEL: State.CANCEL_SEEN,
    Exit.AWARD: State.AWARD_SEEN,
    Exit.REFUND: State.REFUND_SEEN,
}


class Deal(msgspec.Struct, frozen=True, kw_only=True):
    """What the table needs of the contract."""

    buyer: str
    seller: str
    price_florins: int  # A
    lot_florins: int  # A + a
    arbiters_needed: int  # k
    seats: int  # n
    lock: bool  # script E+h: paying shows K
    policy: Policy
    swap_limit_florins: int
    depth_blocks: int  # d
    start_blocks: int
    standby_blocks: int
    rebroadcast_blocks: int
    heights: Heights
    rung_blocks: int = 0  # unconfirmed for so long: the next rung of the fee ladder; 0: never
    series: bool = False  # one of several lots, or beside a bond
    stage: int = 0  # which lot of work of the series
    begins: int = 0  # START of a later stage is due from here on
    bond: bool = False  # the lot of the seller's bond: its «buyer» sells the work


class Coin(msgspec.Struct, frozen=True):
    """The output that a lot rests on; `height` is None while unconfirmed."""

    outpoint: str
    value_florins: int
    height: int | None


class Spend(msgspec.Struct, frozen=True):
    """A spend of the lot's coin that was seen; `height` is None while unconfirmed."""

    exit: Exit
    txid: str
    gross_florins: int
    height: int | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What matters of a lot for the strays beside it."""

    state: State
    funded: bool  # its coin came in time, or both let it count, and lies deep
    adopted: bool  # both have signed LATE_OK
    delivered: bool
    paid: bool  # its spend pays something for the work


class Ballot(msgspec.Struct, frozen=True):
    """What one arbiter has said: its commitment, and its vote once revealed."""

    arbiter: str
    commitment: bytes
    gross_florins: int | None = None


class AwardKey(msgspec.Struct, frozen=True):
    """What an arbiter's coin signature is for; signatures add up only under one key."""

    outpoint: str
    gross_florins: int
    revealed: tuple[str, ...]  # arbiters who are paid, sorted
    bond: str = ""  # outpoint of the bond lot that is spent with it: the seller lost and has one


class AwardSigned(msgspec.Struct, frozen=True):
    """One arbiter's coin signature of an award is held."""

    arbiter: str
    key: AwardKey


class Lot(msgspec.Struct, frozen=True, kw_only=True):
    """One coin on a contract's script, as one node sees it. Number 0 is the lot; others are strays beside it."""

    contract_id: str
    number: int = 0
    me: str
    role: Role
    deal: Deal
    state: State = State.DRAFT
    before: State | None = None  # where to fall back when a reorganisation takes the spend away

    panel: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()

    coin: Coin | None = None
    funded_at: int | None = None  # tip when the coin was deep enough
    late_asked: tuple[str, ...] = ()  # outpoints of late coins that the buyer has asked to let count
    late_agreed: str = ""  # outpoint of the late coin that both have signed LATE_OK for: it is the lot's
    asked_back: bool = False  # of a stray: the buyer has asked for it
    cancelled: bool = False  # a cancel was given, with K (buyer: asked for): no LATE_OK any more

    started: bool = False
    unattended: bool = False  # seller: fewer than k arbiters gave a sign of life at START
    delivered_at: int | None = None  # tip when the delivery was made or heard of
    pinged_at: int | None = None  # tip when the arbiters were last asked whether they are there
    confirmed: bool = False  # other workers found the same output hash
    revealed: bool = False  # K was shown to the buyer
    key_known: bool = False  # this arbiter holds K as evidence, or needs none

    release_gross_florins: int | None = None  # a release by the buyer exists: what it pays
    release_outpoint: str | None = None  # and for which coin
    part_florins: int | None = None  # seller: a release of a part that the buyer offers
    part_outpoint: str | None = None
    abandoned: bool = False  # the work (the series) ended before this lot's turn: it was offered back
    bond: str = ""  # outpoint of the seller's bond lot, while it stands

    disputed_by: str | None = None
    disputed_at: int | None = None
    answered: bool = False
    case_open: bool = False  # this arbiter's taskd was asked to decide
    vote_florins: int | None = None  # this arbiter's own vote
    ballots: tuple[Ballot, ...] = ()
    awards: tuple[AwardSigned, ...] = ()
    faulty: tuple[str, ...] = ()  # proven to have signed two statements with one number

    ordered_at: int | None = None  # tip when this node last ordered its own spend
    pushed: Exit | None = None  # the spend that this node has handed to the chain
    rung: int = 0  # of the fee ladder, of the own spend
    spend: Spend | None = None

    @property
    def other(self) -> str:
        """The other party, as buyer or seller sees it."""
        return self.deal.seller if self.role is Role.BUYER else self.deal.buyer

    @property
    def outpoint(self) -> str | None:
        """The coin's outpoint."""
        return self.coin.outpoint if self.coin else None

    @property
    def release_stands(self) -> bool:
        """The buyer's release is for the coin that is there now."""
        return self.release_outpoint is not None and self.release_outpoint == self.outpoint
