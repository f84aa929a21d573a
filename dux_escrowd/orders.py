"""What the table wants done: orders in the imperative, performed later by `effects`, as often as it takes.

An order carries everything it needs but secrets and signatures, which are looked up when it is performed.
`not_after` is the last tip at which it may still be done: an order that comes too late is dropped, never done late
(a K shown inside the last margin is lost: escrow_protocol.md §11 d).

Source: escrow_protocol.md §8.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from dux_escrowd.model import AwardKey, Exit


class Word(StrEnum):
    """Kinds of statements."""

    READY = "ready"
    START = "start"
    LATE_OK = "late-ok"
    DELIVERED = "delivered"
    RELEASE = "release"
    CANCEL_ASK = "cancel-ask"
    CANCEL = "cancel"
    DISPUTE = "dispute"
    ANSWER = "answer"
    VOTE_COMMIT = "vote-commit"
    VOTE_REVEAL = "vote-reveal"
    AWARD = "award"


class Order(msgspec.Struct, frozen=True, kw_only=True, tag_field="order", tag=True):
    """Base of all orders."""


class Adopt(Order, frozen=True, kw_only=True):
    """Have the wallet rebuild the script from the contract, then sign READY."""


class Fund(Order, frozen=True, kw_only=True):
    """Buyer: pay exactly A + a to the script."""

    not_after: int


class Say(Order, frozen=True, kw_only=True):
    """Sign a statement that needs nothing but its kind and what the store holds, and hand it to those it concerns."""

    word: Word


class SignRelease(Order, frozen=True, kw_only=True):
    """Buyer: coin signatures of a release, then RELEASE."""

    outpoint: str
    gross_florins: int
    not_after: int


class SignCancel(Order, frozen=True, kw_only=True):
    """Seller: coin signatures of a cancel with K, then CANCEL."""

    outpoint: str
    not_after: int


class SignAward(Order, frozen=True, kw_only=True):
    """Arbiter: coin signature of an award, then AWARD."""

    key: AwardKey
    not_after: int


class Settle(Order, frozen=True, kw_only=True):
    """Assemble this node's way out, have the wallet verify and broadcast it; again when repeated."""

    exit: Exit
    outpoint: str
    not_after: int | None
    award: AwardKey | None = None
    rung: int = 0  # of the fee ladder, or the highest that was co-signed


class ShowKey(Order, frozen=True, kw_only=True):
    """Show K to the buyer, inside the session: the seller while arbiters stand by, an arbiter with an award."""

    not_after: int | None


class ShowCase(Order, frozen=True, kw_only=True):
    """Show the evidence to every arbiter, inside the session."""


class PingArbiters(Order, frozen=True, kw_only=True):
    """Ask the arbiters whether they are there."""


class OpenStray(Order, frozen=True, kw_only=True):
    """Keep a record of its own for another output on the script."""

    outpoint: str
    value_florins: int
    height: int | None


class PassOn(Order, frozen=True, kw_only=True):
    """Arbiter: hand the party that did not open the dispute what its opener has said; it may have told nobody else."""


class PublishFault(Order, frozen=True, kw_only=True):
    """Spread the proof that somebody signed two statements with one number."""

    by: str


class News(StrEnum):
    """What this node's readers are told."""

    AGREED = "Agreed"
    FUNDED = "Funded"
    STARTED = "Started"
    PAUSED = "Paused"
    DELIVERED = "Delivered"
    KEY_REVEALED = "KeyRevealed"
    CANCEL_ASKED = "CancelAsked"
    ARBITERS_SILENT = "ArbitersSilent"
    PART_OFFERED = "PartOffered"
    DISPUTED = "Disputed"
    CASE_OPENED = "CaseOpened"
    VOIDED = "Voided"
    SETTLED = "Settled"
    CLOSED = "Closed"
    REOPENED = "Reopened"


class Tell(Order, frozen=True, kw_only=True):
    """Tell the readers of this node's events."""

    news: News


AnyOrder = (
    Adopt
    | Fund
    | Say
    | SignRelease
    | SignCancel
    | SignAward
    | Settle
    | ShowKey
    | ShowCase
    | PingArbiters
    | OpenStray
    | PassOn
    | PublishFault
    | Tell
)
