"""Takes in what is signed elsewhere: descriptions, heartbeats and receipts, from gossip, peers, the DHT or callers.

One door for all: form, rules, signature, store, in that order, so that the dear step comes last. The answer is a gossip
verdict with its reason: `accept` what is new and right, `ignore` what is old or cannot be judged now, `reject` what is
wrong whoever looks at it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from common.chain.heights import depth_for, heights_profile
from common.clock import Clock
from common.codec import canonical
from common.contracts.registry import ReceiptState
from common.errors import BadParams, DuxError, Unavailable
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.receipt_keys import of_other_lots, strength, word_fault
from common.receipts import (
    HEARTBEAT_BYTES_MAX,
    Attested,
    Heartbeat,
    KeyedReceipt,
    SettledReceipt,
    attested,
    body_of,
    described,
    facts_id,
    receipt_fault,
    receipt_in,
)
from common.store import Tx
from common.units import Did, UnixMs
from dux_registryd.effects import TELL_RECEIPT, Outside, TipSeen, Told
from dux_registryd.payment_rules import (
    AHEAD_BLOCKS,
    GIVEN_WAY,
    heard_finding,
    holder_among,
    overall,
    payment_finding,
    rival_finding,
    word_finding,
)
from dux_registryd.rules import hardware_fault, heartbeat_fault, newer_node, node_fault
from dux_registryd.settings import RegistrydSettings
from dux_registryd.store import Book, Claim
from dux_registryd.waiting_room import WaitingRoom

ASK_AGAIN_MS = 60_000  # between two looks into the DHT for the same unknown node
ASKED_KEPT = 10_000  # unknown nodes remembered

Word = Literal["accept", "ignore", "reject"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of something that came in; `facts` names a receipt's claim."""

    word: Word
    reason: str = ""
    facts: bytes = b""


class Intake:
    """The one door of the registry."""

    def __init__(
        self, book: Book, outside: Outside, network: NetworkProfile, clock: Clock, settings: RegistrydSettings
    ) -> None:
        self._book = book
        self._outside = outside
        self._network = network
        self._clock = clock
        self._settings = settings
        self._heights = heights_profile(network.heights)
        self._asked_ms: dict[Did, int] = {}
        self.counted: dict[Word, int] = {"accept": 0, "ignore": 0, "reject": 0}  # gossip since the start, for /metrics
        self.room = WaitingRoom(book, clock, settings.receipts_pending_max)
        self.new_receipts = asyncio.Event()  # set when a receipt was kept that nobody has looked for yet

    def count(self, taken: Taken) -> Word:
        """The word on a gossip message, counted."""
        self.counted[taken.word] += 1
        return taken.word

    async def node(self, envelope: Attested) -> Taken:
        """A node's description of itself."""
        try:
            told = described(envelope)
        except BadParams as error:
            return Taken("reject", error.message)
        info = told.info
        fault = node_fault(info, self._network.genesis) or hardware_fault(told.hardware)
        if fault or info.did != envelope.did:
            return Taken("reject", fault or "it is signed by another node")
        held = self._book.node(info.did)
        if not newer_node(held.info if held else None, info, self._clock.unix_ms()):
            return Taken("ignore", "a newer description is held")
        if held is None and self._book.count_nodes() >= self._settings.nodes_max:
            return Taken("ignore", "the registry is full")
        taken = await self.signed(Purpose.REGISTRATION, envelope, info.at_ms)
        if taken.word == "accept":
            with self._book.store.transaction() as tx:
                tip = self._outside.tip_seen
                self._book.put_node(
                    tx, info, envelope, told.look_key, self._book.height_by(tip.height if tip else None)
                )
        return taken

    async def heartbeat(self, envelope: Attested) -> Taken:
        """A node's sign of life. Without a chain of our own it tells that the node lives, but is no evidence."""
        try:
            beat = body_of(envelope, Heartbeat, HEARTBEAT_BYTES_MAX)
        except BadParams as error:
            return Taken("reject", error.message)
        if beat.did != envelope.did:
            return Taken("reject", "it is signed by another node")
        if not await self.introduced(beat.did):
            return Taken("ignore", "the node is not registered here")
        tip, now_ms = self._outside.tip_seen, self._clock.unix_ms()
        held = self._book.heartbeat(beat.did)
        height = tip.height if tip else None
        fault = heartbeat_fault(beat, held, network=self._network.genesis, now_ms=now_ms, tip=height)
        if fault:
            return Taken("ignore", fault)
        taken = await self.signed(Purpose.HEARTBEAT, envelope, beat.at_ms)
        if taken.word == "accept":
            witnessed = await self._on_our_chain(beat, tip)
            with self._book.store.transaction() as tx:
                self._book.put_heartbeat(tx, beat, envelope, heard_ms=now_ms, witnessed=witnessed)
        return taken

    async def introduced(self, did: Did) -> bool:
        """Whether a node is registered; one never heard of is looked up in the DHT, at most once a minute."""
        now_ms = self._clock.unix_ms()
        if self._book.node(did) is None and now_ms - self._asked_ms.get(did, 0) > ASK_AGAIN_MS:
            if len(self._asked_ms) >= ASKED_KEPT:
                self._asked_ms.clear()
            self._asked_ms[did] = now_ms
            await self.look_up(did)
        held = self._book.node(did)
        return held is not None and not held.info.withdrawn

    async def look_up(self, did: Did) -> None:
        """Take in a node's description from the DHT, if it is there."""
        try:
            found = await self._outside.looked_up(did)
            if found is not None:
                await self.node(attested(found))
        except DuxError:
            return  # it will be heard of again: by gossip, by a peer's list, or at the next heartbeat

    async def _on_our_chain(self, beat: Heartbeat, tip: TipSeen | None) -> bool:
        return tip is not None and await self._outside.block_hash(beat.height) == beat.block_hash

    async def receipt(self, envelope: Attested, *, tell: bool) -> Taken:
        """A party's or an arbiter's receipt; `tell`: it came from a caller here, so the network is told of it."""
        try:
            receipt = receipt_in(envelope)
        except BadParams as error:
            return Taken("reject", error.message)
        fault = receipt_fault(receipt, self._network.genesis, self._network.taxes_bps, self._network.arbiters)
        fault = fault or word_fault(receipt)
        if fault or receipt.signer != envelope.did:
            return Taken("reject", fault or "it is signed by another node")
        facts = facts_id(receipt)
        known = self._book.claim(facts)
        if known and known.holds(receipt):
            return Taken("ignore", "it is held already", facts)
        refusal = "" if known else await self._ahead(receipt.height)
        if not known and not refusal and self.room.is_shut_to(receipt.signer):
            refusal = "too many receipts wait for the chain"
        if refusal:
            return Taken("ignore", refusal)
        taken = await self.signed(Purpose.SETTLED_RECEIPT, envelope, receipt.at_ms)
        if taken.word != "accept":
            return taken
        with self._book.store.transaction() as tx:
            if not known:
                self.room.let_in(tx, receipt.signer)  # nobody leaves before the newcomer is verified
            self._keep_word(tx, facts, receipt, envelope, tell=tell)
        self.new_receipts.set()
        return Taken("accept", "", facts)

    async def _ahead(self, height: int) -> str:
        """Why no claim of this height is kept, or an empty string; the tip is read anew before it is too low."""
        tip = self._outside.tip_seen
        if tip is not None and height > tip.height + AHEAD_BLOCKS:
            tip = await self._outside.tip()
        ahead = tip is not None and height > tip.height + AHEAD_BLOCKS
        return "its payment's height is yet to come" if ahead else ""

    def _keep_word(self, tx: Tx, facts: bytes, receipt: SettledReceipt, envelope: Attested, *, tell: bool) -> None:
        self._book.put_word(tx, facts, receipt, envelope)
        if tell:
            key = "/key" if isinstance(receipt, KeyedReceipt) else ""
            effect = f"tell-receipt/{facts.hex()}/{receipt.signer}{key}"
            tx.outbox(effect, TELL_RECEIPT, Told(signed=canonical(envelope)))

    async def check(self, facts: bytes) -> Claim | None:
        """Look at the chain for a claim's payment now and write down what it says.

        Raises:
            Unavailable: the wallet or its coin node does not answer; the claim stays as it was.
        """
        claim = self._book.claim(facts)
        tip = await self._outside.tip()
        if claim is None or tip is None:
            return claim
        receipt = claim.receipt
        seen = await self._outside.payment(receipt.txid, receipt.height)
        depth = depth_for(self._heights, receipt.price_florins)
        chain = payment_finding(receipt, seen, tip=tip.height, depth=depth)
        with self._book.store.transaction() as tx:
            if seen is not None:
                self._book.judge_keys(tx, facts, seen)
            claim = self._book.claim(facts) or claim  # a word may have come while the chain was looked at
            heard = heard_finding(claim.told, seen)
            word = word_finding(receipt, [told.signer for told in claim.told], self._network.arbiters)
            rivals = self._rivals(claim)
            others = [(rival.receipt, self._strength(rival)) for rival in rivals]
            holder = holder_among(self._strength(claim), others)
            outdone = rival_finding(receipt, holder)
            found = overall(chain, heard, outdone, word)
            fallen = [facts] if found[0] is ReceiptState.REFUSED else []
            if found[0] is ReceiptState.SETTLED:
                for rival in rivals:
                    self._book.set_state(tx, rival.facts, GIVEN_WAY, outdone_by=facts)
                    fallen.append(rival.facts)
            self._book.set_state(tx, facts, found, facts_id(holder) if holder and found == outdone else None)
            revived = sum(self._book.revive(tx, one) for one in fallen)
        if revived:
            self.new_receipts.set()
        return self._book.claim(facts)

    def _strength(self, claim: Claim) -> int:
        return strength(claim.told, self._network.arbiters)

    def _rivals(self, claim: Claim) -> list[Claim]:
        found = self._book.rivals(claim.facts, claim.receipt)
        return [rival for rival in found if not of_other_lots(claim.told, rival.told)]

    async def signed(self, purpose: Purpose, envelope: Attested, at_ms: UnixMs) -> Taken:
        """Whether an envelope's signature is its DID's, as a word on it."""
        try:
            if await self._outside.is_signed(purpose, envelope, at_ms):
                return Taken("accept")
        except Unavailable as error:
            return Taken("ignore", error.message)
        return Taken("reject", "its signature does not verify")
