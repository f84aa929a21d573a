"""Finding nodes while connections are missing: asking peers whom they know, and walking the DHT.

Promise, asked: only nodes are named that this node has dialled itself and is connected to, at the address that
answered; a peer is told once in half a minute. Asking: an answer gives hints, of which each is dialled for the DID that
it names; on main no private address is taken from afar.

Source: network.md §3.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from ipaddress import ip_address

from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.contracts.peer_p2p import Contact
from common.contracts.peer_reach import EXCHANGED_MAX, PEERS_EXCHANGE, NodesAnswer, NodesAsk
from common.errors import DuxError
from common.randomness import Randomness
from common.units import Did
from dux_p2pd.circuits import is_relayed
from dux_p2pd.dht import Dht
from dux_p2pd.peers import PeerBook
from dux_p2pd.rules import contact_at, endpoint_of
from dux_p2pd.session import Peer
from dux_p2pd.upkeep import Upkeep

EVERY_S = 30.0  # one peer is asked, one walk is made
TOLD_EVERY_S = 25.0  # the same asker is answered again
ASKERS_MAX = 1024


class Exchange:
    """Both sides."""

    def __init__(
        self,
        peers: PeerBook,
        dht: Dht,
        upkeep: Upkeep,
        *,
        target: int,
        public_only: bool,
        clock: Clock,
        random: Randomness,
        log: FilteringBoundLogger,
    ) -> None:
        """`target`: so many connections are wanted; `public_only`: private addresses are neither told nor believed."""
        self._peers = peers
        self._dht = dht
        self._upkeep = upkeep
        self._target = target
        self._public_only = public_only
        self._clock = clock
        self._random = random
        self._log = log
        self._told: OrderedDict[Did, float] = OrderedDict()

    async def on_exchange(self, params: NodesAsk, peer: Peer) -> NodesAnswer:
        """PEERS_EXCHANGE."""
        now = self._clock.monotonic()
        if self._told.get(peer.did, float("-inf")) > now - TOLD_EVERY_S:
            return NodesAnswer(contacts=())
        self._told[peer.did] = now
        self._told.move_to_end(peer.did)
        if len(self._told) > ASKERS_MAX:
            self._told.popitem(last=False)
        met = [
            Contact(did=session.peer.did, endpoints=(endpoint_of(session.peer.address),))
            for session in self._peers.sessions()
            if session.peer.dialled
            and session.peer.did != peer.did
            and not is_relayed(session.peer.address)
            and self._may_be_told(session.peer.address[0])
        ]
        return NodesAnswer(contacts=tuple(self._random.sample(met, min(len(met), params.count))))

    def _may_be_told(self, host: str) -> bool:
        try:
            ip = ip_address(host)
        except ValueError:
            return False  # a name of the bootstrap list: whoever has the list has it too
        return ip.is_global or not (self._public_only or ip.is_link_local)

    async def run(self) -> None:
        """Ask and walk while connections are missing, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            sessions = [session for session in self._peers.sessions() if not is_relayed(session.peer.address)]
            if 0 < len(sessions) < self._target:
                await self.ask(self._random.sample(sessions, 1)[0].peer.did)
                await self._dht.find(self._random.bytes(32))

    async def ask(self, did: Did) -> int:
        """Take the hints of one peer; how many were new."""
        try:
            answer = await self._peers.call(did, PEERS_EXCHANGE, NodesAsk(count=EXCHANGED_MAX))
        except DuxError as error:
            self._log.debug("no exchange", did=did, reason=error.message)
            return 0
        new = 0
        for contact in answer.contacts:
            address = contact_at(contact.endpoints[0])
            if address is not None and not self._peers.is_connected(contact.did) and self._may_be_told(address[0]):
                new += self._upkeep.sources.hint(endpoint_of(address), contact.did)
        if new:
            self._upkeep.look()
        return new
