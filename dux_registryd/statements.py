"""Takes in statements about standing: from gossip, peers and this node itself. One door for all kinds.

Form, place, what its kind asks, signature, store, in that order, so that the dear step comes last. A second statement
of one signer at one place is not only refused: where its kind allows one only, the two are kept as proof of fault.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from common.clock import Clock
from common.codec import Canon, canonical, from_canonical
from common.contracts.base import GossipIn
from common.contracts.peer_registry import NOTES_MAX, NotesAsk, SyncAnswer
from common.errors import BadParams, Unavailable
from common.identity.purposes import Purpose
from common.receipts import Attested, attested, body_of
from common.standing import NOTE_BYTES_MAX, STATEMENT_BYTES_MAX, FaultProof, Kind, Note, note_id
from common.store import Tx
from common.units import Did, UnixMs
from dux_registryd.effects import TELL_NOTE, Outside, Told
from dux_registryd.fault_rules import CLAIMS, Contradiction, contradiction
from dux_registryd.intake import Intake, Taken
from dux_registryd.rules import FUTURE_MS
from dux_registryd.store import Book
from dux_registryd.store_standing import KEPT_ELSE_MS, KEPT_MS, PER_SIGNER_MAX, Kept

HELD = "it is held already"
CLAIM_OF = {Kind.VERDICT: "verdict", Kind.BENCHMARK: "benchmark"}  # kinds of which a signer has one word per place


@dataclass(frozen=True, slots=True)
class Heading:
    """What a statement is found by: about whom, by whom, where, when."""

    subject: Did
    signer: Did
    place: str
    at_ms: UnixMs


@dataclass(frozen=True, slots=True)
class Rule:
    """How a kind of statement is read and judged; `fault` says why it does not count here, or None."""

    purpose: Purpose
    body: type[Canon]
    told: Callable[[Any], Heading]
    fault: Callable[[Any], Awaitable[str | None]]


class Statements:
    """The door, and the kinds that it knows."""

    def __init__(self, book: Book, outside: Outside, intake: Intake, *, network: str, clock: Clock) -> None:
        self._book = book
        self._outside = outside
        self._intake = intake
        self._network = network
        self._clock = clock
        self._rules: dict[Kind, Rule] = {}
        self.on_taken: list[Callable[[Kept], None]] = []

    def judge(self, kind: Kind, rule: Rule) -> None:
        """Know a kind."""
        self._rules[kind] = rule

    async def say(self, kind: Kind, value: Canon) -> Taken:
        """Sign a statement of this node's own, keep it, and have the network told."""
        envelope = await self._outside.signed(self._rules[kind].purpose, value)
        return await self.take(Note(kind=kind, body=canonical(envelope)), tell=True)

    async def gossip(self, note: Note, _message: GossipIn) -> str:
        """A note by gossip."""
        return self._intake.count(await self.take(note, tell=False))

    async def take(self, note: Note, *, tell: bool) -> Taken:
        """One note; `facts` of the answer is its name."""
        if len(canonical(note)) > NOTE_BYTES_MAX:
            return Taken("reject", "it is too long")
        if self._book.statement(note_id(note)) is not None:
            return Taken("ignore", HELD, note_id(note))
        try:
            return await (self._fault(note, tell=tell) if note.kind is Kind.FAULT else self._attested(note, tell=tell))
        except BadParams as error:
            return Taken("reject", error.message)

    async def _attested(self, note: Note, *, tell: bool) -> Taken:
        rule = self._rules.get(note.kind)
        if rule is None:
            return Taken("ignore", "this node does not know its kind")
        envelope = attested(note.body)
        value = body_of(envelope, rule.body, STATEMENT_BYTES_MAX)
        found = rule.told(value)
        if found.signer != envelope.did or getattr(value, "network", None) != self._network:
            return Taken("reject", "it is signed by another node, or belongs to another network")
        fault = self._time_fault(note.kind, found.at_ms) or self._room_fault(note.kind, found)
        held = self._book.statement_at(note.kind, found.signer, found.place)
        fault = fault or (None if held else await rule.fault(value))
        if fault:
            return Taken("ignore", fault)
        taken = await self._intake.signed(rule.purpose, envelope, found.at_ms)
        if taken.word != "accept":
            return taken
        if held is not None:
            return await self._two_faced(note, held)
        kept = Kept(note.kind, found.subject, found.signer, found.place, found.at_ms, note)
        return self._keep(kept, tell=tell)

    def _time_fault(self, kind: Kind, at_ms: int) -> str | None:
        now_ms = self._clock.unix_ms()
        if at_ms > now_ms + FUTURE_MS:
            return "it comes from the future"
        return "it is too old" if at_ms < now_ms - KEPT_MS.get(kind, KEPT_ELSE_MS) else None

    def _room_fault(self, kind: Kind, found: Heading) -> str | None:
        if self._book.count_statements_by(kind, found.signer) >= PER_SIGNER_MAX:
            return "too many of its signer are held"
        return None

    async def _two_faced(self, note: Note, held: Kept) -> Taken:
        """Another word at a place that is taken: with the first it may prove a fault."""
        if note.kind in CLAIM_OF:
            proof = FaultProof(claim=CLAIM_OF[note.kind], one=held.note.body, other=note.body)
            await self.take(Note(kind=Kind.FAULT, body=canonical(proof)), tell=True)
        return Taken("ignore", "its signer has said something else at this place")

    async def _fault(self, note: Note, *, tell: bool) -> Taken:
        proof = from_canonical(note.body, FaultProof, max_bytes=NOTE_BYTES_MAX)
        one, other = attested(proof.one), attested(proof.other)
        found = contradiction(proof.claim, one, other)
        if isinstance(found, str):
            return Taken("reject", found)
        place = f"{found.claim}/{found.place}"
        if self._book.statement_at(Kind.FAULT, found.signer, place) is not None:
            return Taken("ignore", "this fault is proven already")
        fault = self._time_fault(Kind.FAULT, found.at_ms)
        if fault:
            return Taken("ignore", fault)
        for envelope in (one, other):
            taken = await self._signed_then(envelope, found)
            if taken.word != "accept":
                return taken
        for envelope in (one, other):  # only now, because the network is asked
            taken = await self._stands(envelope, found)
            if taken.word != "accept":
                return taken
        kept = Kept(Kind.FAULT, found.signer, found.signer, place, found.at_ms, note)
        return self._keep(kept, tell=tell)

    async def _signed_then(self, envelope: Attested, found: Contradiction) -> Taken:
        """Whether a statement was signed with the key of its own time."""
        at_ms = CLAIMS[found.claim][1](envelope).at_ms
        if await self._outside.was_signed(found.purpose, envelope, at_ms):
            return Taken("accept")
        return Taken("reject", "a signature does not verify")

    async def _stands(self, envelope: Attested, found: Contradiction) -> Taken:
        """A proof that is first shown after a recovery speaks against a key that others may have, not against its name.

        What was proven here before stays: an owner does not undo by a recovery what it was seen doing.
        """
        try:
            if await self._outside.stands(found.purpose, envelope, CLAIMS[found.claim][1](envelope).at_ms):
                return Taken("accept")
        except Unavailable as error:
            return Taken("ignore", error.message)
        return Taken("ignore", "its signer has recovered or closed its name since: a thief may have signed both")

    def _keep(self, kept: Kept, *, tell: bool) -> Taken:
        name = note_id(kept.note)
        with self._book.store.transaction() as tx:
            if self._book.put_statement(tx, kept):
                self._tell(tx, kept, tell=tell)
        for told in self.on_taken:
            told(kept)
        return Taken("accept", "", name)

    def _tell(self, tx: Tx, kept: Kept, *, tell: bool) -> None:
        if kept.kind is Kind.FAULT:
            tx.emit("FaultProven", {"node_id": kept.signer, "claim": kept.place.partition("/")[0]})
        if tell:
            tx.outbox(f"{TELL_NOTE}/{note_id(kept.note).hex()}", TELL_NOTE, Told(signed=canonical(kept.note)))

    # for other nodes

    async def for_peer(self, ask: NotesAsk, _sender: Did) -> SyncAnswer:
        """Statements that arrived here after a cursor."""
        found = self._book.statements_after(ask.after, min(ask.limit, NOTES_MAX))
        return SyncAnswer(items=tuple(data for _, data in found), next_after=found[-1][0] if found else ask.after)
