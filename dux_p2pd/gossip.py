"""Gossip: one message to everybody who listens, each copy judged before it is passed on.

Checks stand cheapest first: size, topic, the peer's allowance, seen before, age, stamp (strangers), key known,
signature, the owner's verdict; only then it is marked for everybody and forwarded. A message's id covers its whole
envelope and is marked as seen only after the signature has verified, so a copy with a garbage signature suppresses
nothing.

Source: transport_identity.md §3.3, network.md §5.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping

import msgspec
from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import Canon
from common.contracts.base import GossipIn
from common.contracts.p2p_errors import RateLimited
from common.contracts.peer_p2p import DID_LOG, GOSSIP_SEND, AskLog, Gossip, Heard
from common.errors import DuxError
from common.identity.did import did_bytes
from common.identity.errors import BadSignature
from common.identity.keys import is_signed
from common.identity.log import Log, was_valid
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.identity.stamp import has_stamp, make_stamp
from common.rpc.method import Topic
from common.units import Did
from dux_p2pd.directory import Directory
from dux_p2pd.keeper import Keeper
from dux_p2pd.peers import PeerBook
from dux_p2pd.records import GossipBody, message_id, sign_gossip, split_gossip
from dux_p2pd.router import Router
from dux_p2pd.rules import gossip_fault, stamped_gossip
from dux_p2pd.scores import BLAME_INVALID_GOSSIP, Scores
from dux_p2pd.session import Peer, Session
from dux_p2pd.tasks import Tasks

SEEN_MAX = 65_536  # ids of 32 bytes; at 200 messages a second this covers the longest life of a message
QUEUE_MAX = 256  # messages waiting for one slow peer; more are dropped for it
SENDERS_PER_PEER = 4  # messages under way to one peer
SEND_S = 10.0
TTL_S = 120


class GossipNet:
    """This node's part of every topic."""

    def __init__(
        self,
        topics: Mapping[str, Topic[Canon]],
        keeper: Keeper,
        directory: Directory,
        peers: PeerBook,
        router: Router,
        scores: Scores,
        tasks: Tasks,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        bits: int,
    ) -> None:
        self._topics = topics
        self._keeper = keeper
        self._directory = directory
        self._peers = peers
        self._router = router
        self._scores = scores
        self._tasks = tasks
        self._clock = clock
        self._log = log
        self._bits = bits
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._judging: set[bytes] = set()
        self._queues: dict[Did, asyncio.Queue[bytes]] = {}
        peers.on_up.append(self._open)

    # sending

    def _open(self, session: Session) -> None:
        did = session.peer.did
        if did not in self._queues:
            self._queues[did] = asyncio.Queue(QUEUE_MAX)
            self._tasks.spawn(self._serve(did), "gossip to a peer")

    async def _serve(self, did: Did) -> None:
        """Send what is queued for one peer until it is gone, over whichever session is kept with it."""
        queue = self._queues[did]
        try:
            async with asyncio.TaskGroup() as group:
                senders = [group.create_task(self._send(did, queue)) for _ in range(SENDERS_PER_PEER)]
                while (current := self._peers.session_with(did)) is not None:
                    await asyncio.wait([current.closed], timeout=SEND_S)
                for sender in senders:
                    sender.cancel()
        finally:
            self._queues.pop(did, None)

    async def _send(self, did: Did, queue: asyncio.Queue[bytes]) -> None:
        while True:
            envelope = await queue.get()
            try:
                await self._peers.call(did, GOSSIP_SEND, Gossip(envelope=envelope), deadline_s=SEND_S)
            except DuxError as error:
                self._log.debug("gossip not sent", did=did, reason=error.message)

    def _forward(self, envelope: bytes, *, without: set[Did]) -> int:
        sent = 0
        for did, queue in self._queues.items():
            if did not in without and not queue.full():
                queue.put_nowait(envelope)
                sent += 1
        return sent

    async def publish(self, topic: Topic[Canon], payload: bytes) -> tuple[bytes, int]:
        """Sign a message and send it to all connected peers; its id and to how many it goes."""
        body = GossipBody(
            v=1,
            topic=topic.name,
            did=self._keeper.did,
            key_seq=self._keeper.key_seq,
            seq_ms=self._clock.unix_ms(),
            ttl_s=TTL_S,
            payload=payload,
            stamp=0,
        )
        envelope = sign_gossip(await self._stamped(body), self._keeper.signer)
        identity = message_id(envelope)
        self._mark(identity)
        return identity, self._forward(envelope, without=set())

    async def _stamped(self, body: GossipBody) -> GossipBody:
        """The body with the work that a stranger's message needs: everybody is a stranger to somebody at first."""
        if not self._bits:
            return body
        stamp = await asyncio.to_thread(make_stamp, stamped_gossip(body), self._bits)
        return msgspec.structs.replace(body, stamp=stamp)

    # receiving

    async def on_message(self, params: Gossip, peer: Peer) -> Heard:
        """GOSSIP_SEND: judge one copy, and pass it on when it is worth it.

        Raises:
            BadParams, BadSignature, RateLimited: why it is refused.
        """
        identity = message_id(params.envelope)
        if identity in self._seen or identity in self._judging:
            return Heard(new=False)
        signed, body = split_gossip(params.envelope)
        if body.topic not in self._topics or gossip_fault(body, self._clock.unix_ms()) is not None:
            return Heard(new=False)
        if not self._scores.may_verify(peer.did):
            raise RateLimited(who=peer.did, what="gossip verifications", wait_s=1.0)
        self._judging.add(identity)
        try:
            return Heard(new=await self._judge(params.envelope, identity, signed, body, peer))
        finally:
            self._judging.discard(identity)

    async def _judge(self, envelope: bytes, identity: bytes, signed: Signed, body: GossipBody, peer: Peer) -> bool:
        if not await self._is_genuine(signed, body, peer):
            self._peers.blame(peer.did, BLAME_INVALID_GOSSIP, f"invalid gossip on {body.topic}")
            raise BadSignature(purpose=Purpose.GOSSIP.value)
        self._mark(identity)
        topic = self._topics[body.topic]
        if len(body.payload) > topic.payload_bytes_max:
            return False
        message = GossipIn(
            topic=body.topic, payload=body.payload, sender=body.did, key_seq=body.key_seq, seq_ms=body.seq_ms
        )
        verdict = await self._router.judge(topic.owner, message)
        if verdict == "reject":
            self._peers.blame(peer.did, BLAME_INVALID_GOSSIP, f"rejected gossip on {body.topic}")
        if verdict == "accept":
            self._forward(envelope, without={peer.did, body.did})
        return verdict == "accept"

    async def _is_genuine(self, signed: Signed, body: GossipBody, peer: Peer) -> bool:
        did_bytes(body.did)
        if not self._directory.is_known(body.did) and not self._has_stamp(body):
            return False
        log = await self._log_of(body, peer)
        key = log.key_of(body.key_seq) if log else None
        if log is None or key is None or len(signed.sigs) != 1 or not was_valid(log, body.key_seq, body.seq_ms):
            return False
        return is_signed(key, Purpose.GOSSIP, signed.body, signed.sigs[0])

    def _has_stamp(self, body: GossipBody) -> bool:
        return has_stamp(stamped_gossip(body), body.stamp, self._bits)

    async def _log_of(self, body: GossipBody, peer: Peer) -> Log | None:
        """The signer's event log; the peer that passed the message on is asked for one that we lack."""
        known = self._directory.get(body.did)
        if known is None or known.log.key_of(body.key_seq) is None:
            answer = await self._peers.call(peer.did, DID_LOG, AskLog(did=body.did))
            if answer.log:
                known = self._directory.learn(body.did, answer.log, answer.node_record)
        return known.log if known else None

    def _mark(self, identity: bytes) -> None:
        self._seen[identity] = None
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
