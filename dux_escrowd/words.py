"""What statements say: one body per kind, canonical, nothing secret but K in a cancel (which ends the contract anyway).

Shapes only. Source: escrow_protocol.md §3, §7, §9.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.units import Did, Florins
from dux_escrowd.orders import Word

Text = Annotated[str, Meta(max_length=500)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
CoinSignatures = Annotated[tuple[Annotated[bytes, Meta(max_length=73)], ...], Meta(min_length=1, max_length=3)]
Outpoint = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}:\d{1,5}$")]


class SaidReady(Canon, frozen=True):
    """The script and the fund as the signer's own node built and knows them."""

    redeem_script: Annotated[bytes, Meta(max_length=520)]
    fund_script: Annotated[bytes, Meta(max_length=64)]


class SaidStart(Canon, frozen=True):
    """START."""


class SaidLateOk(Canon, frozen=True):
    """This late coin counts: by the buyer a question, by the seller the answer."""

    outpoint: Outpoint


class SaidDelivered(Canon, frozen=True):
    """Where the encrypted result lies, and what it is committed to."""

    ciphertext_blob: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    output_commitment: Bytes32
    receipts: Annotated[tuple[Annotated[bytes, Meta(max_length=512)], ...], Meta(max_length=4)]
    holders: Annotated[tuple[Did, ...], Meta(max_length=8)]
    work_receipt: Annotated[bytes, Meta(max_length=1_024)]


class SaidRelease(Canon, frozen=True):
    """The buyer's coin signatures, one per rung."""

    outpoint: Outpoint
    gross_florins: Florins
    signatures: CoinSignatures


class SaidCancelAsk(Canon, frozen=True):
    """The buyer would rather end; with an outpoint: it would have that stray back."""

    outpoint: Annotated[str, Meta(pattern=r"^([0-9a-f]{64}:\d{1,5})?$")] = ""


class SaidCancel(Canon, frozen=True):
    """The seller's coin signatures, and K where the script wants it."""

    outpoint: Outpoint
    signatures: CoinSignatures
    preimage: Annotated[bytes, Meta(max_length=32)]


class SaidDispute(Canon, frozen=True):
    """Why the arbiters are asked."""

    reason: Text


class SaidAnswer(Canon, frozen=True):
    """The other side's view."""

    reason: Text


class SaidVoteCommit(Canon, frozen=True):
    """H(vote, salt)."""

    commitment: Bytes32


class SaidVoteReveal(Canon, frozen=True):
    """The vote, with its salt and its reason: public."""

    gross_florins: Florins
    salt: Bytes32
    reason: Text


class SaidAward(Canon, frozen=True):
    """One arbiter's coin signatures for an award that pays these arbiters, and of the bond's input where it has one."""

    outpoint: Outpoint
    gross_florins: Florins
    revealed: Annotated[tuple[Did, ...], Meta(max_length=9)]
    signatures: CoinSignatures
    bond: Annotated[str, Meta(max_length=70)] = ""  # outpoint of the bond lot that is spent with it
    bond_signature: Annotated[bytes, Meta(max_length=73)] = b""


Said = (
    SaidReady
    | SaidStart
    | SaidLateOk
    | SaidDelivered
    | SaidRelease
    | SaidCancelAsk
    | SaidCancel
    | SaidDispute
    | SaidAnswer
    | SaidVoteCommit
    | SaidVoteReveal
    | SaidAward
)
BODY_OF: dict[Word, type[Said]] = {
    Word.READY: SaidReady,
    Word.START: SaidStart,
    Word.LATE_OK: SaidLateOk,
    Word.DELIVERED: SaidDelivered,
    Word.RELEASE: SaidRelease,
    Word.CANCEL_ASK: SaidCancelAsk,
    Word.CANCEL: SaidCancel,
    Word.DISPUTE: SaidDispute,
    Word.ANSWER: SaidAnswer,
    Word.VOTE_COMMIT: SaidVoteCommit,
    Word.VOTE_REVEAL: SaidVoteReveal,
    Word.AWARD: SaidAward,
}
