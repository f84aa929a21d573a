"""From statements to facts: what a signed sentence means for the lot, judged against this node's own rebuild.

Pure. The signature of the statement itself has been verified before; here coin signatures inside it are checked against
the transaction that this node builds from the contract, never against one that was sent.

Source: escrow_protocol.md §3, §5.5, §8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from common.chain.bond_award import LotCoin, build_both, digests_of_both
from common.chain.contract import Contract, lot_script, result_hash_of
from common.chain.settle import signature_is_right
from common.chain.templates import Award, BadTemplate, Cancel, Release, Side, Template, build
from common.chain.tx import Outpoint
from common.chain.verify import is_signature
from common.units import Florins
from dux_escrowd import facts as f
from dux_escrowd.model import AwardKey, Lot, Role
from dux_escrowd.orders import Word
from dux_escrowd.statements import Heard
from dux_escrowd.voting import commitment_of, winner_of
from dux_escrowd.words import (
    SaidAward,
    SaidCancel,
    SaidCancelAsk,
    SaidDelivered,
    SaidLateOk,
    SaidReady,
    SaidRelease,
    SaidVoteCommit,
    SaidVoteReveal,
)


class Ear(Struct, frozen=True):
    """What a statement is judged with: the contract, the lot, the tip at which it was heard, the bond beside."""

    contract: Contract
    lot: Lot
    at: int
    bond: LotCoin | None = None


def named_in(contract: Contract) -> tuple[str, ...]:
    """Everybody in a contract."""
    return (contract.buyer.did, contract.seller.did, *(arbiter.did for arbiter in contract.arbiters))


def outpoint_of(text: str) -> Outpoint:
    """`txid:vout` as an outpoint."""
    txid, _, vout = text.partition(":")
    return Outpoint(txid, int(vout))


def award_template(contract: Contract, key: AwardKey) -> Award:
    """The award of this key: arbiters by their seats."""
    seats = tuple(seat for seat, arbiter in enumerate(contract.arbiters) if arbiter.did in key.revealed)
    return Award(Florins(key.gross_florins), Side(winner_of(key).value), seats)


def fits(ear: Ear, outpoint: str, template: Template, pubkey: bytes, signatures: tuple[bytes, ...]) -> bool:
    """Whether these are the key's signatures, rung by rung, of the way out as this node builds it.

    For a coin that this lot does not rest on nothing is judged: the table refuses it by its outpoint.
    """
    if ear.lot.coin is None or ear.lot.coin.outpoint != outpoint:
        return True
    value = ear.lot.coin.value_florins
    try:
        rebuilt = [build(ear.contract, outpoint_of(outpoint), value, template, rung) for rung in range(len(signatures))]
    except BadTemplate:
        return False
    pairs = zip(rebuilt, signatures, strict=True)
    return all(signature_is_right(ear.contract, tx, pubkey, signature) for tx, signature in pairs)


def fact_of(heard: Heard, ear: Ear) -> f.Fact:
    """What the statement means for the lot."""
    return _MEANING[heard.statement.kind](heard, ear, heard.said)


def _ready(heard: Heard, ear: Ear, said: SaidReady) -> f.Fact:
    same = said.redeem_script == lot_script(ear.contract) and said.fund_script == ear.contract.fund_script
    return f.Ready(at=ear.at, by=heard.statement.signer, same=same)


def _start(heard: Heard, ear: Ear, _said: Any) -> f.Fact:
    return f.StartSaid(at=ear.at, by=heard.statement.signer)


def _late_ok(heard: Heard, ear: Ear, said: SaidLateOk) -> f.Fact:
    return f.LateOkSaid(at=ear.at, by=heard.statement.signer, outpoint=said.outpoint)


def _delivered(heard: Heard, ear: Ear, _said: SaidDelivered) -> f.Fact:
    return f.DeliverySaid(at=ear.at, by=heard.statement.signer, claimed_at=heard.statement.height)


def _release(heard: Heard, ear: Ear, said: SaidRelease) -> f.Fact:
    template = Release(said.gross_florins)
    return f.ReleaseSaid(
        at=ear.at,
        by=heard.statement.signer,
        outpoint=said.outpoint,
        gross_florins=int(said.gross_florins),
        valid=fits(ear, said.outpoint, template, ear.contract.buyer.key, said.signatures),
    )


def _cancel_ask(heard: Heard, ear: Ear, said: SaidCancelAsk) -> f.Fact:
    return f.CancelAsked(at=ear.at, by=heard.statement.signer, outpoint=said.outpoint)


def _cancel(heard: Heard, ear: Ear, said: SaidCancel) -> f.Fact:
    key_fits = not ear.contract.result_hash or result_hash_of(said.preimage) == ear.contract.result_hash
    return f.CancelSaid(
        at=ear.at,
        by=heard.statement.signer,
        outpoint=said.outpoint,
        valid=key_fits and fits(ear, said.outpoint, Cancel(), ear.contract.seller.key, said.signatures),
    )


def _dispute(heard: Heard, ear: Ear, _said: Any) -> f.Fact:
    return f.DisputeSaid(at=ear.at, by=heard.statement.signer)


def _answer(heard: Heard, ear: Ear, _said: Any) -> f.Fact:
    return f.AnswerSaid(at=ear.at, by=heard.statement.signer)


def _vote_commit(heard: Heard, ear: Ear, said: SaidVoteCommit) -> f.Fact:
    return f.VoteCommitted(at=ear.at, by=heard.statement.signer, commitment=said.commitment)


def _vote_reveal(heard: Heard, ear: Ear, said: SaidVoteReveal) -> f.Fact:
    signer, gross = heard.statement.signer, int(said.gross_florins)
    held = next((ballot.commitment for ballot in ear.lot.ballots if ballot.arbiter == signer), None)
    opened = commitment_of(ear.lot.contract_id, signer, gross, said.salt)
    return f.VoteRevealed(at=ear.at, by=signer, gross_florins=gross, fits=held == opened)


def _award(heard: Heard, ear: Ear, said: SaidAward) -> f.Fact:
    signer = heard.statement.signer
    key = AwardKey(said.outpoint, int(said.gross_florins), tuple(sorted(said.revealed)), said.bond)
    pubkey = next((arbiter.key for arbiter in ear.contract.arbiters if arbiter.did == signer), b"")
    if key.bond:
        valid = bool(pubkey) and fits_both(ear, key, signer, said)
    else:
        valid = bool(pubkey) and fits(ear, said.outpoint, award_template(ear.contract, key), pubkey, said.signatures)
    return f.AwardSaid(at=ear.at, by=signer, key=key, valid=valid)


def fits_both(ear: Ear, key: AwardKey, signer: str, said: SaidAward) -> bool:
    """Whether these are the arbiter's signatures of both inputs of the award as this node builds it.

    As with `fits`, nothing is judged for a coin that this lot does not rest on.
    """
    if ear.lot.coin is None or ear.lot.coin.outpoint != key.outpoint:
        return True
    if ear.bond is None or str(ear.bond.outpoint) != key.bond or key.gross_florins:
        return False
    lot = LotCoin(ear.contract, outpoint_of(key.outpoint), ear.lot.coin.value_florins)
    try:
        tx = build_both(lot, ear.bond, award_template(ear.contract, key).revealed)
    except BadTemplate:
        return False
    digests = digests_of_both(lot, ear.bond, tx)
    held = (said.signatures[0], said.bond_signature)
    keys = [next((a.key for a in coin.contract.arbiters if a.did == signer), b"") for coin in (lot, ear.bond)]
    return all(is_signature(*one) for one in zip(keys, digests, held, strict=True))


_MEANING: dict[Word, Callable[[Heard, Ear, Any], f.Fact]] = {
    Word.READY: _ready,
    Word.START: _start,
    Word.LATE_OK: _late_ok,
    Word.DELIVERED: _delivered,
    Word.RELEASE: _release,
    Word.CANCEL_ASK: _cancel_ask,
    Word.CANCEL: _cancel,
    Word.DISPUTE: _dispute,
    Word.ANSWER: _answer,
    Word.VOTE_COMMIT: _vote_commit,
    Word.VOTE_REVEAL: _vote_reveal,
    Word.AWARD: _award,
}


def hearers(word: Word, lot: Lot) -> tuple[str, ...]:
    """Whom a statement of this node concerns: the other party; the arbiters too where they are needed or asked.

    Of strays everybody hears: the arbiters are asked for their award of it at the same time as the seller.
    """
    parties = (lot.deal.buyer, lot.deal.seller)
    everybody = (
        lot.number > 0 or word in (Word.READY, Word.LATE_OK, Word.DISPUTE, Word.ANSWER) or lot.role is Role.ARBITER
    )
    named = (*parties, *lot.panel) if everybody or lot.disputed_by is not None else parties
    return tuple(did for did in named if did != lot.me)


def concerns(lot: Lot, peer: str, signer: str) -> bool:
    """Whether this node hands a signer's chain to a peer: its own always; once disputed, both parties' to arbiters.

    An arbiter hands what the opener said to the other party, who may have been left out.
    """
    if signer == lot.me:
        return True
    if lot.role is Role.ARBITER:
        return signer == lot.disputed_by and peer in (lot.deal.buyer, lot.deal.seller)
    return lot.disputed_by is not None and peer in lot.panel and signer == lot.other
