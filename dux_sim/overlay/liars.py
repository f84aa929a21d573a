"""A tenth of the nodes lie: about who is near, about what they hold, about what they can do; and they pass nothing on.

They are real p2pds with real keys; only what they answer is bent. Every lie is counted by its kind.
"""

from __future__ import annotations

from common.contracts.base import GossipIn
from common.contracts.peer_escrow import Offer, Quote
from common.contracts.peer_p2p import (
    DHT_FIND,
    DHT_GET_AT,
    DHT_STORE,
    DID_TELL,
    Contact,
    Contacts,
    FindNode,
    FindValue,
    Heard,
    Store,
    Stored,
    Values,
)
from common.identity.news import LogNews
from common.parts import Parts
from dux_p2pd.session import Peer
from dux_p2pd.settings import P2pdSettings
from dux_sim.overlay.nodes import Household, OverlayP2pd, Word, quote_of
from dux_sim.world.history import History
from dux_sim.world.keys import keys_of
from dux_sim.world.node import OUTSIDE_PORT

LIES = ("wrong contacts", "stale record", "forged record", "record withheld", "store forgotten")
NAMED = 8  # false contacts in an answer
STALE_MAX = 256


class LyingP2pd(OverlayP2pd):
    """Answers the DHT's questions falsely; what it asks itself is honest, so that it is let in everywhere."""

    async def assemble(self, parts: Parts[P2pdSettings]) -> None:
        """The honest daemon, and then other answers."""
        await super().assemble(parts)
        self._first: dict[bytes, tuple[bytes, ...]] = {}  # the first that was seen at a place: by and by it is stale
        self._turn = 0
        router = self.net.router
        router.answer_at_once(DHT_FIND, self.on_find)
        router.answer_at_once(DHT_GET_AT, self.on_get_at)
        router.answer_at_once(DHT_STORE, self.on_store)
        router.answer(DID_TELL, self.on_tell)

    @property
    def history(self) -> History:
        """Where lies are counted."""
        return self.site.coin.history

    def _lied(self, kind: str) -> None:
        self.history.faults[kind] += 1

    def _others(self, key: bytes) -> tuple[Contact, ...]:
        """Nodes that are not there: real names at wrong addresses, and names that nobody has, near the place."""
        found, own = [], self.site.number
        for turn in range(NAMED):
            number = (key[turn] * 256 + key[turn + 1]) % 4000
            did = keys_of(number).did if turn % 2 else keys_of(own).did
            found.append(Contact(did=did, endpoints=(f"127.{200 + turn}.{number & 255}.1:{OUTSIDE_PORT}",)))
        return tuple(found)

    def on_find(self, params: FindNode, peer: Peer) -> Contacts:
        """Every second answer names nodes that are not there."""
        self._turn += 1
        if self._turn % 2:
            return self.net.dht.on_find(params, peer)
        self._lied("wrong contacts")
        return Contacts(contacts=self._others(params.key))

    def on_get_at(self, params: FindValue, peer: Peer) -> Values:
        """Nothing, something old, or something with a broken signature."""
        self._turn += 1
        honest = self.net.dht.on_get_at(params, peer)
        if not honest.records:
            return Values(records=(), contacts=self._others(params.key))
        if len(self._first) < STALE_MAX:
            self._first.setdefault(params.key, honest.records)
        if self._turn % 3 == 0:
            self._lied("record withheld")
            return Values(records=(), contacts=honest.contacts)
        if self._turn % 3 == 1:
            self._lied("stale record")
            return Values(records=self._first.get(params.key, ()), contacts=honest.contacts)
        self._lied("forged record")
        forged = tuple(record[:-1] + bytes([record[-1] ^ 1]) for record in honest.records)
        return Values(records=forged, contacts=honest.contacts)

    def on_store(self, params: Store, peer: Peer) -> Stored:
        """Says that it keeps, and every second time does not."""
        self._turn += 1
        if self._turn % 2:
            return self.net.dht.on_store(params, peer)
        self._lied("store forgotten")
        return Stored(kept=True, reason="")

    async def on_tell(self, _news: LogNews, _peer: Peer) -> Heard:
        """What is told of a log it neither keeps nor passes on."""
        self._lied("news swallowed")
        return Heard(new=False)


class LyingHousehold(Household):
    """Says that it can do everything, quotes nothing, and swallows gossip."""

    def hear(self, message: GossipIn) -> Word:
        """Written down and not passed on."""
        super().hear(message)
        self.node.world.history.faults["gossip swallowed"] += 1
        return "ignore"

    def judge(self, offer: Offer) -> Quote:
        """What it said it could do, it cannot."""
        self.node.world.history.faults["false capability"] += 1
        return quote_of(offer, accept=False)
