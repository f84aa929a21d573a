"""Signs this node's statements and hands them to those they concern, until each has acknowledged them.

Promise: one statement per number, ever: it is signed and written down before anybody hears it, under the effect that
wanted it, so that doing it again after a crash says nothing twice. Source: escrow_protocol.md §7.
"""

from __future__ import annotations

import asyncio

import msgspec

from common.codec import canonical
from common.contracts.escrow import PeerNotReady
from common.contracts.p2p_errors import PeerAnswered
from common.contracts.peer_escrow import (
    STATEMENTS,
    STATEMENTS_AT_ONCE,
    STATEMENTS_GET,
    AskStatements,
    Head,
    StatementsCall,
)
from common.errors import CallerMistake, PeerMisbehaved
from common.identity.purposes import Purpose
from common.store import Tx
from common.units import Did
from dux_escrowd.book import lane_to
from dux_escrowd.desk import Desk
from dux_escrowd.facts import Fact
from dux_escrowd.hearing import concerns, hearers
from dux_escrowd.inbox import Inbox
from dux_escrowd.keeping import caught_up
from dux_escrowd.model import Lot
from dux_escrowd.orders import Word
from dux_escrowd.statements import Heard, next_statement, statement_hash
from dux_escrowd.words import Said

ROUNDS_MAX = 12  # of sending what a peer lacks; 64 statements of two signers, 12 at once
LETTER = "statements"


class Letter(msgspec.Struct, frozen=True):
    """A peer has to be brought up to date about a contract."""

    contract_id: str
    to: str


class Voice:
    """Says and delivers."""

    def __init__(self, desk: Desk, inbox: Inbox) -> None:
        self._desk = desk
        self._inbox = inbox
        self._one_at_a_time = asyncio.Lock()

    async def say(self, lot: Lot, word: Word, said: Said, effect_id: str, fact: Fact | None = None) -> None:
        """Sign the next statement of this node; `fact` is taken together with it. Said before: nothing happens."""
        shelf = self._desk.book.shelf
        async with self._one_at_a_time:
            if shelf.authored(effect_id):
                return
            await caught_up(self._desk, lot)
            heard, height = await self._signed(lot, word, said)
            with self._desk.book.store.transaction() as tx:
                shelf.add_statement(tx, lot.contract_id, heard, height=height, taken=True, effect_id=effect_id)
                self._post(tx, lot, word, effect_id)
                if fact is not None:
                    self._desk.book.learn(tx, lot.contract_id, fact)

    async def _signed(self, lot: Lot, word: Word, said: Said) -> tuple[Heard, int]:
        tip = await self._desk.tip()
        chains = self._desk.book.shelf.chains(lot.contract_id)
        statement = next_statement(
            net=self._desk.profile.genesis,
            cid=bytes.fromhex(self._desk.row(lot.contract_id).cid or ""),
            signer=self._desk.me,
            hashes=chains.get(self._desk.me, []),
            heads={did: hashes[-1] for did, hashes in chains.items() if hashes},
            word=word,
            said=said,
            height=int(tip.height),
            block=tip.hash,
        )
        attested = await self._desk.attest(Purpose.ESCROW_STATEMENT, statement)
        return Heard(attested, statement, said, statement_hash(canonical(statement))), int(tip.height)

    def _post(self, tx: Tx, lot: Lot, word: Word, effect_id: str) -> None:
        for peer in hearers(word, lot):
            _letter(tx, lot, peer, effect_id)

    def write(self, lot: Lot, peer: Did, effect_id: str) -> None:
        """Bring a peer up to date although this node itself has said nothing new."""
        with self._desk.book.store.transaction() as tx:
            _letter(tx, lot, peer, effect_id)

    async def deliver(self, letter: Letter) -> None:
        """Send the peer what it lacks, and take what this node lacks.

        Raises:
            PeerNotReady, Unavailable: repeat later.
        """
        lot, peer = self._desk.book.shelf.lot(letter.contract_id), Did(letter.to)
        for _ in range(ROUNDS_MAX):
            batch = self._lacking(lot, peer) if lot else []
            if not batch:
                return
            call = StatementsCall(bytes.fromhex(letter.contract_id), await self._desk.under_present_key(batch))
            before = self._desk.book.shelf.acked(letter.contract_id, peer)
            answer = await self._desk.call(peer, STATEMENTS, call)
            await self._note(letter.contract_id, peer, answer.heads)
            if self._desk.book.shelf.acked(letter.contract_id, peer) == before:
                break
        raise PeerNotReady(did=peer, method=STATEMENTS.name, detail="it does not take the next statement")

    def _lacking(self, lot: Lot, peer: Did) -> list[bytes]:
        shelf = self._desk.book.shelf
        acked = shelf.acked(lot.contract_id, peer)
        said_by = (lot.me, lot.deal.buyer, lot.deal.seller)  # own first: nothing of another can stand in its way
        signers = [did for did in said_by if concerns(lot, peer, did) and did != peer]
        missing = [
            statement
            for did in dict.fromkeys(signers)
            for statement in shelf.said(lot.contract_id, did, acked.get(Did(did), 0))
        ]
        return missing[:STATEMENTS_AT_ONCE]

    async def _note(self, contract_id: str, peer: Did, heads: tuple[Head, ...]) -> None:
        """What the peer holds now; where it holds more than this node, ask for it."""
        shelf = self._desk.book.shelf
        chains = shelf.chains(contract_id)
        with self._desk.book.store.transaction() as tx:
            for head in heads:
                if head.signer in chains:
                    shelf.ack(tx, contract_id, peer, head.signer, min(head.next_seq, len(chains[head.signer])))
        for head in heads:
            if head.next_seq > len(chains.get(head.signer, [])) and head.signer != self._desk.me:
                await self._fetch(contract_id, peer, head.signer, len(chains.get(head.signer, [])))

    async def _fetch(self, contract_id: str, peer: Did, signer: Did, from_seq: int) -> None:
        ask = AskStatements(bytes.fromhex(contract_id), signer, from_seq)
        try:
            answer = await self._desk.call(peer, STATEMENTS_GET, ask)
            await self._inbox.take(contract_id, answer.statements)
        except (
            CallerMistake,
            PeerMisbehaved,
            PeerAnswered,
        ) as error:
            # what a peer says of others closes no letter of this node
            self._desk.log.info("chain not fetched", contract_id=contract_id, peer=peer, reason=error.message)


def _letter(tx: Tx, lot: Lot, peer: str, effect_id: str) -> None:
    tx.outbox(f"{effect_id}/to/{peer}", LETTER, Letter(lot.contract_id, peer), lane=lane_to(lot.contract_id, peer))
