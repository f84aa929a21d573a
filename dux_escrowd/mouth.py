"""Orders that other nodes carry out: what is said without coin signatures, K and evidence shown, arbiters asked.

Promise: K goes to the buyer alone, evidence to the arbiters alone, each inside the session; a ping decides nothing by
itself, it becomes a fact. Source: escrow_protocol.md §8, §9; settled.md 2, 11.
"""

from __future__ import annotations

import asyncio

from common.chain.contract import Contract
from common.codec import from_canonical
from common.contracts.escrow_base import Refused, WrongPhase
from common.contracts.peer_escrow import CASE, FAULT, KEY, STANDBY, CaseCall, CaseGet, FaultProof, KeyCall, StandbyCall
from common.errors import DuxError, NotFound
from common.units import Did, Florins
from dux_escrowd.desk import Desk
from dux_escrowd.effects import Job, WalletHand
from dux_escrowd.facts import ArbitersSilent, ArbitersStandBy, Fact
from dux_escrowd.model import Lot, Role
from dux_escrowd.orders import PassOn, PingArbiters, PublishFault, Say, ShowCase, ShowKey, Word
from dux_escrowd.records import VOTE, VoteNote
from dux_escrowd.store import Agreed
from dux_escrowd.voice import Voice
from dux_escrowd.voting import commitment_of
from dux_escrowd.words import (
    Said,
    SaidAnswer,
    SaidCancelAsk,
    SaidDispute,
    SaidLateOk,
    SaidStart,
    SaidVoteCommit,
    SaidVoteReveal,
)

PING_DEADLINE_S = 5.0
NOTE_BYTES_MAX = 4_096


class PeerHand:
    """Orders that go to other nodes."""

    def __init__(self, desk: Desk, voice: Voice, wallet: WalletHand) -> None:
        self._desk = desk
        self._voice = voice
        self._wallet = wallet

    async def say(self, job: Job, order: Say) -> None:
        """A statement that needs no coin signature."""
        await self._voice.say(job.lot, order.word, self._said(job, order.word), job.effect_id)

    def _said(self, job: Job, word: Word) -> Said:
        if word is Word.START:
            return SaidStart()
        if word is Word.CANCEL_ASK:
            return SaidCancelAsk((job.lot.outpoint or "") if job.lot.number else "")
        if word is Word.LATE_OK:
            return SaidLateOk(job.lot.late_agreed or job.lot.late_asked[-1])
        if word is Word.DELIVERED:
            delivery = self._desk.book.records.delivery(job.row.contract_id)
            if delivery is None:
                raise NotFound(what="delivery of contract", name=job.row.contract_id)
            return delivery
        return self._argued(job, word)

    def _argued(self, job: Job, word: Word) -> Said:
        if word is Word.DISPUTE:
            return SaidDispute(job.row.reason or automatic_reason(job.lot))
        if word is Word.ANSWER:
            return SaidAnswer("what was said and signed stands")
        return self._ballot(job, word)

    def _ballot(self, job: Job, word: Word) -> Said:
        note, gross = self._note(job), job.lot.vote_florins or 0
        if word is Word.VOTE_COMMIT:
            return SaidVoteCommit(commitment_of(job.row.contract_id, job.lot.me, gross, note.salt))
        return SaidVoteReveal(Florins(gross), note.salt, note.reason)

    def _note(self, job: Job) -> VoteNote:
        """The vote's salt and reason; made now for a vote that needed no judgement."""
        shelf = self._desk.book.shelf
        with self._desk.book.store.transaction() as tx:
            made = VoteNote(self._desk.random.bytes(32), "decided by chain and statements")
            shelf.keep(tx, job.row.contract_id, VOTE, made)
        kept = shelf.raw(job.row.contract_id, VOTE) or b""
        return from_canonical(kept, VoteNote, max_bytes=NOTE_BYTES_MAX)

    async def show_key(self, job: Job, _order: ShowKey) -> None:
        """K, to the buyer."""
        call = KeyCall(bytes.fromhex(job.row.contract_id), await self._wallet.preimage(job.row))
        await self._desk.call(job.row.buyer, KEY, call)

    async def show_case(self, job: Job, _order: ShowCase) -> None:
        """Evidence, to one arbiter."""
        await self._desk.call(Did(job.errand.to), CASE, await self._evidence(job.row, job.lot, job.contract))

    async def case_get(self, ask: CaseGet, sender: Did) -> CaseCall:
        """The same, to an arbiter of an open dispute that asks for it."""
        contract_id = ask.contract_id.hex()
        row, lot = self._desk.book.shelf.contract(contract_id), self._desk.book.shelf.lot(contract_id)
        contract = self._desk.book.records.contract(contract_id)
        if row is None or lot is None or contract is None or sender not in lot.panel:
            raise NotFound(what="contract", name="of yours")
        if row.role is Role.ARBITER or lot.disputed_by is None:
            raise NotFound(what="evidence of contract", name=contract_id)
        return await self._evidence(row, lot, contract)

    async def _evidence(self, row: Agreed, lot: Lot, contract: Contract) -> CaseCall:
        """Job, r, own evidence, and K where this node has it and has delivered under it."""
        shows_key = bool(contract.result_hash) and (lot.role is Role.BUYER or lot.delivered_at is not None)
        return CaseCall(
            contract_id=bytes.fromhex(row.contract_id),
            job=self._desk.book.records.job(row.contract_id),
            salt=row.salt or b"",
            preimage=await self._key_held(row) if shows_key else b"",
            evidence=(row.evidence,) if row.evidence else (),
        )

    async def _key_held(self, row: Agreed) -> bytes:
        return await self._wallet.preimage(row) if row.role is Role.SELLER else row.preimage or b""

    async def ping(self, job: Job, _order: PingArbiters) -> None:
        """Ask every arbiter at once; what that means is for the table."""
        asked_at = await self._desk.height()
        call = StandbyCall(bytes.fromhex(job.row.contract_id))
        answers = await asyncio.gather(*(self._answers(Did(did), call) for did in job.lot.panel))
        fact = ping_fact(job.lot, sum(answers), asked_at, await self._desk.height())
        if fact is None:
            return
        with self._desk.book.store.transaction() as tx:
            try:
                self._desk.book.learn(tx, job.row.contract_id, fact)
            except (WrongPhase, Refused) as error:
                self._desk.log.debug("ping came to nothing", contract_id=job.row.contract_id, reason=error.message)

    async def _answers(self, did: Did, call: StandbyCall) -> bool:
        try:
            await self._desk.peers.call(did, STANDBY, call, deadline_s=PING_DEADLINE_S)
        except DuxError:
            return False
        return True

    async def pass_on(self, job: Job, _order: PassOn) -> None:
        """The opener's chain, to the other party, until that has acknowledged it."""
        parties = (job.row.buyer, job.row.seller)
        for other in (did for did in parties if did != job.lot.disputed_by):
            self._voice.write(job.lot, other, job.effect_id)

    async def publish(self, job: Job, order: PublishFault) -> None:
        """Spread a proof of fault."""
        proof = self._desk.book.shelf.fault(job.row.contract_id, order.by)
        if proof is not None:
            await self._desk.peers.publish(FAULT, FaultProof(*proof))


def ping_fact(lot: Lot, answers: int, asked_at: int, at: int) -> Fact | None:
    """What so many answers mean: enough of them for the seller, too few of them for either party."""
    enough = answers >= lot.deal.arbiters_needed
    if lot.role is Role.SELLER and enough:
        return ArbitersStandBy(at=at, answers=answers, asked_at=asked_at)
    return None if enough or lot.role is Role.ARBITER else ArbitersSilent(at=at)


def automatic_reason(lot: Lot) -> str:
    """Why a dispute was opened that nobody asked for."""
    if lot.role is Role.SELLER:
        return "delivered, and not released in time"
    if not lot.started:
        return "no start: the seller has not begun"
    return "nothing was delivered in time" if lot.delivered_at is None else "the result is not what was agreed"
