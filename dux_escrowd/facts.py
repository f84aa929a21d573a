"""What can happen to a lot, in the past tense, each with the tip at which this node learnt it (`at`, a height).

Three origins: the chain (read by the follower), statements of others (their signatures already verified, `by` names the
signer), and decisions of this node's owner or its taskd. Facts carry no logic and no secret.

Source: escrow_protocol.md §8.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from dux_escrowd.model import AwardKey, Coin, Exit, Spend, Standing


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="fact", tag=True):
    """Base of all facts. `words`: what it is called where a person is told that it does not fit."""

    words: ClassVar[str] = ""
    at: int


# --- from the chain ---------------------------------------------------------------------------------------------------


class Clock(Fact, frozen=True, kw_only=True):
    """The tip moved. `fresh`: it is young enough to decide on K or a refund."""

    fresh: bool = True


class OutputSeen(Fact, frozen=True, kw_only=True):
    """An output on the contract's script appeared, or its height changed."""

    coin: Coin


class OutputGone(Fact, frozen=True, kw_only=True):
    """The lot's coin is neither on the chain nor waiting for it any more."""

    outpoint: str


class LateCoin(Fact, frozen=True, kw_only=True):
    """A coin that came too late lies d deep and unspent, and the buyer has asked whether it may count (LATE_OK)."""

    coin: Coin


class StrayAsked(Fact, frozen=True, kw_only=True):
    """A stray that the buyer has asked for lies deep beside a lot that stands so."""

    beside: Standing


class CoinDeep(Fact, frozen=True, kw_only=True):
    """The lot's coin lies d deep."""

    coin: Coin


class SpendSeen(Fact, frozen=True, kw_only=True):
    """A spend of the coin was seen, or its height changed."""

    spend: Spend


class SpendDeep(Fact, frozen=True, kw_only=True):
    """The spend lies d deep."""

    spend: Spend


class SpendGone(Fact, frozen=True, kw_only=True):
    """The spend that was seen is gone."""

    txid: str


# --- from others' statements ------------------------------------------------------------------------------------------


class TermsSigned(Fact, frozen=True, kw_only=True):
    """Buyer and seller have both signed the terms."""


class PanelSeated(Fact, frozen=True, kw_only=True):
    """The arbiters have accepted their seats; the contract is complete."""

    panel: tuple[str, ...]


class Ready(Fact, frozen=True, kw_only=True):
    """One of those named signed READY; `same`: its script and fund are those rebuilt here."""

    by: str
    same: bool


class StartSaid(Fact, frozen=True, kw_only=True):
    """START."""

    by: str


class StageOpened(Fact, frozen=True, kw_only=True):
    """Seller: the lot before this one was paid, so this one's work begins."""


class Abandoned(Fact, frozen=True, kw_only=True):
    """What the lot was for has ended: an earlier stage was not paid, or (a bond) all lots of work are closed."""


class BondStands(Fact, frozen=True, kw_only=True):
    """The bond lot beside this one is funded and deep; `outpoint` empty: it is not, or no more."""

    outpoint: str


class LateOkSaid(Fact, frozen=True, kw_only=True):
    """A party signed LATE_OK: the buyer's is the question, the seller's the answer; with both this late coin counts."""

    by: str
    outpoint: str


class DeliverySaid(Fact, frozen=True, kw_only=True):
    """The encrypted result lies at its holders; `claimed_at` is the height that the seller wrote."""

    by: str
    claimed_at: int


class ArbitersStandBy(Fact, frozen=True, kw_only=True):
    """So many arbiters answered a ping; the oldest answer is from `asked_at`."""

    answers: int
    asked_at: int


class ArbitersSilent(Fact, frozen=True, kw_only=True):
    """Fewer than k arbiters answered this node's pings."""


class KeyShown(Fact, frozen=True, kw_only=True):
    """K arrived and hashes to h."""

    by: str


class ReleaseSaid(Fact, frozen=True, kw_only=True):
    """The buyer's coin signatures of a release; `valid`: they fit this node's own rebuild."""

    by: str
    outpoint: str
    gross_florins: int
    valid: bool


class CancelAsked(Fact, frozen=True, kw_only=True):
    """The buyer would rather end, or (with `outpoint`) have a stray back."""

    by: str
    outpoint: str = ""


class CancelSaid(Fact, frozen=True, kw_only=True):
    """The seller's coin signatures of a cancel, with K where the script wants it."""

    by: str
    outpoint: str
    valid: bool


class DisputeSaid(Fact, frozen=True, kw_only=True):
    """One party asked the arbiters."""

    by: str


class AnswerSaid(Fact, frozen=True, kw_only=True):
    """The other party answered."""

    by: str


class VoteCommitted(Fact, frozen=True, kw_only=True):
    """An arbiter committed to a vote."""

    by: str
    commitment: bytes


class VoteRevealed(Fact, frozen=True, kw_only=True):
    """An arbiter opened its vote; `fits`: it is the one committed to."""

    by: str
    gross_florins: int
    fits: bool


class AwardSaid(Fact, frozen=True, kw_only=True):
    """An arbiter's coin signature of an award; `valid`: it fits this node's own rebuild."""

    by: str
    key: AwardKey
    valid: bool


class Equivocation(Fact, frozen=True, kw_only=True):
    """Two statements of one signer with one number; `gross_florins`, `outpoint`: the larger release in them, if any."""

    by: str
    gross_florins: int | None = None
    outpoint: str | None = None


# --- decided here -----------------------------------------------------------------------------------------------------


class DeliveryMade(Fact, frozen=True, kw_only=True):
    """Seller: the result is encrypted and held."""


class OutputConfirmed(Fact, frozen=True, kw_only=True):
    """Buyer: other workers found the same output hash."""

    words: ClassVar[str] = "a confirmation"


class ResultGood(Fact, frozen=True, kw_only=True):
    """Buyer: own check passed."""

    words: ClassVar[str] = "a judgement (good)"


class ResultBad(Fact, frozen=True, kw_only=True):
    """Buyer: own check failed."""

    words: ClassVar[str] = "a judgement (bad)"


class PartWanted(Fact, frozen=True, kw_only=True):
    """Buyer: pay a part, if the seller takes it."""

    words: ClassVar[str] = "an offered part"
    gross_florins: int


class PartTaken(Fact, frozen=True, kw_only=True):
    """Seller: take the part that the buyer offers."""

    words: ClassVar[str] = "taking a part"
    gross_florins: int


class LateWanted(Fact, frozen=True, kw_only=True):
    """Buyer: let this late coin be the lot's after all, if the seller agrees."""

    words: ClassVar[str] = "late funding"
    coin: Coin


class DisputeWanted(Fact, frozen=True, kw_only=True):
    """Buyer or seller: ask the arbiters now."""

    words: ClassVar[str] = "a dispute"


class CancelWanted(Fact, frozen=True, kw_only=True):
    """Buyer or seller: end with everything back."""

    words: ClassVar[str] = "a cancel"


class EvidenceArrived(Fact, frozen=True, kw_only=True):
    """Arbiter: a party showed its evidence; `key`: with K, or the script has none."""

    key: bool


class VoteDecided(Fact, frozen=True, kw_only=True):
    """Arbiter: what the seller has earned."""

    gross_florins: int


class Pushed(Fact, frozen=True, kw_only=True):
    """This node handed its own spend to the chain."""

    exit: Exit


AnyFact = (
    Clock
    | OutputSeen
    | OutputGone
    | LateCoin
    | StrayAsked
    | CoinDeep
    | SpendSeen
    | SpendDeep
    | SpendGone
    | TermsSigned
    | PanelSeated
    | Ready
    | StartSaid
    | StageOpened
    | Abandoned
    | BondStands
    | LateOkSaid
    | DeliverySaid
    | ArbitersStandBy
    | ArbitersSilent
    | KeyShown
    | ReleaseSaid
    | CancelAsked
    | CancelSaid
    | DisputeSaid
    | AnswerSaid
    | VoteCommitted
    | VoteRevealed
    | AwardSaid
    | Equivocation
    | DeliveryMade
    | OutputConfirmed
    | ResultGood
    | ResultBad
    | PartWanted
    | PartTaken
    | LateWanted
    | DisputeWanted
    | CancelWanted
    | EvidenceArrived
    | VoteDecided
    | Pushed
)
