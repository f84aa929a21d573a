"""The payee's channel messages that came over HTTP, as a program that sells for this node's owner hands them in.

Promise: whoever brought it, a hello and a last state count by the payer's channel key, and a wish for a channel by the
signature of the payer's node, for the payee that it names alone. Source: channel_protocol.md §3, §4, §7.
"""

from __future__ import annotations

from common.codec import canonical, from_canonical
from common.contracts import channel_carried as c
from common.contracts import peer_channel as peer
from common.contracts.channel_errors import BadChannelMessage
from common.contracts.p2p import Signature
from common.identity.purposes import Purpose
from common.receipts import ATTESTED_BYTES_MAX, Attested
from common.rpc.table import Ctx, MethodTable
from common.units import Did
from dux_escrowd.channel.counter import Counter
from dux_escrowd.channel.opening import Opening
from dux_escrowd.channel.sessions import Sessions


class Door:
    """The payee's end: what a selling program was handed."""

    def __init__(self, counter: Counter, opening: Opening, sessions: Sessions) -> None:
        self._counter = counter
        self._opening = opening
        self._sessions = sessions

    def serve(self, table: MethodTable) -> None:
        """What selling programs ask."""
        table.serve(c.CARRIED, self.carried)

    async def carried(self, params: c.Carried, _ctx: Ctx) -> c.CarriedBack:
        """One message, whoever brought it."""
        message = from_canonical(params.message, c.CarriedMessage, max_bytes=c.MESSAGE_BYTES_MAX)
        match message.kind:
            case "open":
                answer = await self._open(message.body)
            case "hello":
                answer = await self._sessions.take_hello(message.body, "")
            case "final":
                taken, state = await self._sessions.take_final(message.body, "")
                answer = canonical(peer.Closing(taken=taken, state=state))
        return c.CarriedBack(answer=answer)

    async def _open(self, data: bytes) -> bytes:
        """The stamp first: for a stranger who did no work nobody's key is looked up."""
        signed = from_canonical(data, Attested, max_bytes=ATTESTED_BYTES_MAX)
        asked, did = from_canonical(signed.body, c.CarriedOpen, max_bytes=c.MESSAGE_BYTES_MAX), Did(signed.did)
        self._opening.require_stamp(asked.wish, asked.stamp, did)
        by = Signature(did=did, key_seq=signed.key_seq, signature=signed.signature)
        right = asked.payee == self._counter.me
        if not right or not await self._counter.desk.peers.is_signed(Purpose.CHANNEL_ASK, signed.body, by):
            raise BadChannelMessage(chid="", reason=f"the wish is not signed by {did} for this node")
        return await self._opening.take(asked.wish, asked.stamp, did)
