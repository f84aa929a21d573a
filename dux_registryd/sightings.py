"""Takes in sightings: from challengers of this node, and from others' bundles by gossip. Judges each slot anew.

One door as for everything signed elsewhere: form, proof, signature, store. Of who is no candidate nothing is verified,
of one that shows no lot of its own only the proof.
"""

from __future__ import annotations

from common.contracts.base import GossipIn
from common.contracts.peer_registry import (
    PresenceAsk,
    PresenceShown,
    ProbeAnswer,
    ProbeAsk,
    SightingTaken,
    SightingTold,
)
from common.errors import BadParams
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.receipts import Attested, attested, body_of
from common.store import Tx
from common.units import Did
from common.witness import SIGHTING_BYTES_MAX, SIGHTINGS_MAX, Sighting, SlotEvidence
from dux_registryd.challengers import Challengers
from dux_registryd.effects import Outside
from dux_registryd.intake import Intake, Taken, Word
from dux_registryd.look_rules import SEAT_SIGHTINGS, Round
from dux_registryd.presence_rules import day_of, judged, sighting_fault, slot_of
from dux_registryd.store import Book
from dux_registryd.store_presence import OTHERS_SLOTS

SHOWN_MAX = 200  # signed sightings in one answer to a peer
RANK: tuple[Word, ...] = ("accept", "reject", "ignore")  # the word on a bundle is the first that one of its parts got
HELD = "it is held already"
ENOUGH = "enough of its witness's network are held"
NOT_DRAWN = "its witness was not drawn"
AHEAD_SLOTS = 1  # another's chain may be a block ahead of ours


class Sightings:
    """What was seen of nodes, as it comes in."""

    def __init__(
        self, book: Book, outside: Outside, intake: Intake, challengers: Challengers, network: NetworkProfile
    ) -> None:
        self._book = book
        self._outside = outside
        self._intake = intake
        self._challengers = challengers
        self._network = network
        self._rules = network.presence

    def slot_now(self) -> int | None:
        """The slot of the tip last seen; None before there is one."""
        tip = self._outside.tip_seen
        return slot_of(tip.height, self._rules) if tip else None

    async def keep_own(self, sighting: Sighting, envelope: Attested) -> None:
        """A sighting that this node made."""
        with self._book.store.transaction() as tx:
            self._keep(tx, sighting, envelope)

    async def take(self, envelope: Attested, target: Did, slot: int) -> Taken:
        """One signed sighting of a node in a slot."""
        try:
            sighting = body_of(envelope, Sighting, SIGHTING_BYTES_MAX)
        except BadParams as error:
            return Taken("reject", error.message)
        if sighting.prober != envelope.did:
            return Taken("reject", "it is signed by another node")
        fault = await self._fault(sighting, target, slot)
        if fault:
            return Taken("ignore", fault)
        taken = await self._intake.signed(Purpose.SIGHTING, envelope, sighting.at_ms)
        if taken.word == "accept":
            with self._book.store.transaction() as tx:
                self._keep(tx, sighting, envelope)
        return taken

    async def _fault(self, sighting: Sighting, target: Did, slot: int) -> str | None:
        """Why it does not count, or is not needed; the dearest look last."""
        beacon = await self._challengers.beacon(slot)
        if beacon is None:
            return "this node's chain is not there yet"
        fault = sighting_fault(sighting, network=self._network.genesis, target=target, slot=slot, beacon=beacon)
        if fault:
            return fault
        held = [Did(one.prober) for one, _ in self._book.sightings(target, slot) if one.beacon == beacon]
        if sighting.prober in held:
            return HELD
        if self._challengers.round_of(slot).beside(Did(sighting.prober), held) >= SEAT_SIGHTINGS:
            return ENOUGH
        return None if self._challengers.is_witness(sighting) else NOT_DRAWN

    def _keep(self, tx: Tx, sighting: Sighting, envelope: Attested) -> None:
        if self._book.put_sighting(tx, sighting, envelope):
            self._book.put_latency(tx, sighting)
        target, slot = Did(sighting.target), sighting.slot
        held = [one for one, _ in self._book.sightings(target, slot) if one.beacon == sighting.beacon]
        found, own_net = self._challengers.round_of(slot), self._challengers.net_of(target)
        seen = found.seated((Did(one.prober) for one in held), target, own_net)
        view = judged(slot, found.odds(target, own_net).seats, seen, (one.net for one in held), self._rules)
        self._book.put_slot(tx, target, view, day_of(slot, self._rules))

    async def bundle(self, evidence: SlotEvidence, _message: GossipIn) -> str:
        """A node's sightings of one slot by gossip: spread further if one of them was new and right."""
        now = self.slot_now()
        if now is None or not now - OTHERS_SLOTS <= evidence.slot <= now + AHEAD_SLOTS:
            return self._intake.count(Taken("ignore", "its slot is not lately"))
        if not await self._intake.introduced(evidence.target):
            return self._intake.count(Taken("ignore", "the node is not registered here"))
        words = [await self._take_bytes(data, evidence) for data in evidence.sightings]
        best = min((word for word in words), key=RANK.index)
        return self._intake.count(Taken(best))

    async def _take_bytes(self, data: bytes, evidence: SlotEvidence) -> Word:
        try:
            return (await self.take(attested(data), evidence.target, evidence.slot)).word
        except BadParams:
            return "reject"

    # for other nodes

    async def probe(self, ask: ProbeAsk, _sender: Did) -> ProbeAnswer:
        """Here I am: p2pd has proven to the caller whose session this is."""
        return ProbeAnswer(nonce=ask.nonce)

    async def tell(self, told: SightingTold, sender: Did) -> SightingTaken:
        """A challenger hands over what it signed about this node."""
        own = await self._outside.own_did()
        envelope = attested(told.signed)
        sighting = body_of(envelope, Sighting, SIGHTING_BYTES_MAX)
        now = self.slot_now()
        if sighting.slot != now:
            await self._outside.tip()  # the challenger may have seen the new slot first
            now = self.slot_now()
        if sighting.prober != sender or now is None or abs(sighting.slot - now) > AHEAD_SLOTS:
            return SightingTaken(taken=False, reason="only the caller's own word about this slot is taken")
        await self._challengers.look_round()  # the challenger may be here for the first time
        taken = await self.take(envelope, own, sighting.slot)
        return SightingTaken(taken=taken.word == "accept" or taken.reason in (HELD, ENOUGH), reason=taken.reason[:200])

    async def show(self, ask: PresenceAsk, _sender: Did) -> PresenceShown:
        """The sightings that this node keeps of itself."""
        own = await self._outside.own_did()
        return PresenceShown(sightings=self.shown(own, ask.from_slot, ask.to_slot, SHOWN_MAX))

    def shown(self, target: Did, low: int, high: int, limit: int) -> tuple[bytes, ...]:
        """Signed sightings of a node, the newest slot first, and of each slot one of every network before a second.

        Who sits in which network is told by the round of now, for all slots: a round of each would cost more.
        """
        by = self._challengers.round_of(self.slot_now() or 0)
        found: list[bytes] = []
        for slot in self._book.slots_sighted(target, low, high, limit):
            found += self._seats_first(target, slot, by)
            if len(found) >= limit:
                break
        return tuple(found[:limit])

    def told_of(self, target: Did, slot: int) -> tuple[bytes, ...]:
        """What is told of a node in a slot: as many sightings as a bundle holds, of every seat one before a second."""
        return self._seats_first(target, slot, self._challengers.round_of(slot))

    def _seats_first(self, target: Did, slot: int, by: Round) -> tuple[bytes, ...]:
        held = {Did(one.prober): data for one, data in self._book.sightings(target, slot)}
        order = by.seats_first(held, self._challengers.net_of(target))
        return tuple(held[did] for did in order[:SIGHTINGS_MAX])
