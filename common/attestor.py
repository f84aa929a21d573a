"""This node's name and its signature on market nouns, and the check of others': what registryd and stored share.

Keeps the node's own DID once it is known; keys and logs are p2pd's.
"""

from __future__ import annotations

from common.codec import Canon, canonical
from common.contracts import p2p
from common.identity.purposes import Purpose
from common.peers import Peers
from common.receipts import Attested
from common.rpc.client import Client
from common.rpc.method import CP, CR, Empty, PeerMethod, Topic
from common.units import Did, UnixMs

NEW_BUSINESS = (Purpose.REGISTRATION, Purpose.HEARTBEAT, Purpose.SERVICE)
"""Taken under a key that is in use and from a name that stands alone: another node offers nothing and ages out of every
list. Its owner signs anew what lasts, when its key has changed."""


class Attestor:
    """p2pd, as those need it who sign and check `Attested` things."""

    def __init__(self, p2pd: Client) -> None:
        self.p2pd = p2pd
        self.peers = Peers(p2pd)
        self._own: Did | None = None

    async def own_did(self) -> Did:
        """This node's DID.

        Raises:
            NeighbourDown: p2pd does not answer yet.
        """
        if self._own is None:
            self._own = (await self.peers.info()).did
        return self._own

    async def own_key_seq(self) -> int:
        """The number of the key that this node signs with now."""
        return (await self.peers.info()).key_seq

    async def signed(self, purpose: Purpose, value: Canon) -> Attested:
        """The value with this node's signature."""
        by = await self.peers.sign(purpose, value)
        return Attested(body=canonical(value), did=by.did, key_seq=by.key_seq, signature=by.signature)

    async def is_signed(self, purpose: Purpose, envelope: Attested, at_ms: int) -> bool:
        """Whether the envelope's signature is its DID's, with the key of that time."""
        by = p2p.Signature(did=envelope.did, key_seq=envelope.key_seq, signature=envelope.signature)
        if purpose in NEW_BUSINESS:
            return await self.peers.is_signed_soundly(purpose, envelope.body, by, UnixMs(at_ms))
        return await self.peers.is_signed(purpose, envelope.body, by, UnixMs(at_ms))

    async def publish(self, topic: Topic[CP], payload: CP) -> int:
        """Spread a message; to how many nodes it went at once."""
        return await self.peers.publish(topic, payload)

    async def ask(self, did: Did, method: PeerMethod[CP, CR], params: CP) -> CR:
        """Another node's answer."""
        return await self.peers.call(did, method, params)

    async def connected(self) -> list[Did]:
        """The nodes this node is connected to."""
        return [peer.did for peer in (await self.p2pd.call(p2p.P2P_PEERS, Empty())).peers]
