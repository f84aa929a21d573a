"""Gossip: one message to everybody who listens, each copy judged before it is passed on.

Every topic has a mesh of 6 to 12 neighbours that get whole messages; some of the others are told ids at each heartbeat
and ask for what they lack, so that who joins late, was cut off or sits behind a bad mesh gets all of it too. A message
is passed on when the checks of `gossip_intake` and its owner (`verdicts`) have accepted it. Who belongs into a mesh is
decided in `mesh_rules`, what a neighbour's conduct is worth in `gossip_score`; here it is done.

Source: transport_identity.md §3.3, network.md §5.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import Canon, from_canonical
from common.contracts.p2p_errors import FramingBroken, RateLimited
from common.contracts.peer_p2p import DID_LOG, AskLog, GossipFrame, Offer
from common.errors import BadParams, DuxError
from common.identity.stamp import make_stamp
from common.randomness import Randomness
from common.rpc.method import Topic
from common.units import Did
from dux_p2pd.directory import Directory
from dux_p2pd.gossip_flow import LENGTH_BYTES, Outflow
from dux_p2pd.gossip_intake import Fault, Intake, Message
from dux_p2pd.gossip_limits import (
    BURST_S,
    FRAME_BYTES_MAX,
    GOSSIP_AT,
    GRAYLIST_AT,
    IHAVE_BURST,
    IHAVE_PER_S,
    INVALID_HALF_S,
    IWANT_PER_S,
    KEPT_S,
    LAZY_PEERS,
    LOGS_ASKED_MAX,
    LOGS_PER_PEER,
    MESH_HIGH,
)
from dux_p2pd.gossip_memory import Keepsakes, Seen, Wants
from dux_p2pd.gossip_mesh import Meshes
from dux_p2pd.gossip_score import Conducts
from dux_p2pd.keeper import Keeper
from dux_p2pd.peers import PeerBook
from dux_p2pd.records import GossipBody, message_id, sign_gossip
from dux_p2pd.router import Router
from dux_p2pd.rules import stamped_gossip
from dux_p2pd.scores import BLAME_INVALID_GOSSIP, Scores
from dux_p2pd.session import Incoming, Session
from dux_p2pd.tasks import Tasks
from dux_p2pd.verdicts import Verdicts

READ_BYTES = 65_536
STREAMS_READ = 2  # of one neighbour: the one in use, and the end of the one before


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
        random: Randomness,
        log: FilteringBoundLogger,
        bits: int,
    ) -> None:
        self._topics = topics
        self._keeper = keeper
        self._peers = peers
        self._directory = directory
        self._tasks = tasks
        self._clock = clock
        self._log = log
        self._bits = bits
        self._seen, self._kept, self._wants = Seen(), Keepsakes(), Wants()
        self._intake = Intake(topics, directory, scores, self._seen, clock=clock, bits=bits)
        self._verdicts = Verdicts(router, tasks, self._judged, clock=clock, log=log)
        self._conducts = Conducts()
        self._flows: dict[Did, Outflow] = {}
        self._owing: dict[Did, None] = {}  # neighbours that are to be offered ids: few, at most heartbeats
        self._senders: dict[Did, asyncio.Task[None]] = {}
        self._reading: dict[Did, list[Incoming]] = {}
        self._givers: dict[bytes, list[Did]] = {}  # of messages without verdict: who has them
        self._lacking: dict[Did, list[Message]] = {}  # by signer whose log is asked for
        self._asking: Counter[Did] = Counter()
        self.mesh = Meshes(tuple(topics), peers, self._conducts, self._flows, clock=clock, random=random)
        self.counted: Counter[str] = Counter()  # what became of the copies that came in
        self.mesh.on_member.append(self._greet)
        peers.on_up.append(self._came)
        peers.on_leaving.append(self._move)
        peers.on_down.append(self._left)
        tasks.spawn(self.mesh.run(self._beat), "gossip heartbeat")

    def gauges(self) -> dict[str, Callable[[], float]]:
        """How many copies were refused, for each reason, under its name in /metrics; and how many wait for a word."""
        names = [fault.name.lower() for fault in Fault] + ["reject"]
        refused = {f"gossip_{name}": partial(self._copies, name) for name in names}
        return refused | {"gossip_waiting": self._waiting}

    def _waiting(self) -> float:
        """Messages that wait for their owner's word."""
        return float(self._verdicts.waiting())

    def _copies(self, name: str) -> float:
        return float(self.counted[name])

    # neighbours

    def _came(self, session: Session) -> None:
        did = session.peer.did
        flow = self._flows.get(did)
        if flow is not None:
            flow.rouse()
        else:
            flow = self._flows[did] = Outflow(did, self._peers, tuple(self._topics), self._log, self._owing)
            sender = self._tasks.spawn(flow.run(), "gossip to a neighbour")
            if sender is None:
                del self._flows[did]
                return
            self._senders[did] = sender
        self.mesh.came(did)

    def _greet(self, did: Did) -> None:
        """A neighbour that shares a mesh may have come late: it is offered once whatever is kept."""
        flow = self._flows[did]
        if not flow.is_greeted:
            flow.is_greeted = True
            for topic, ids in self._kept.all_since(self._clock.monotonic() - KEPT_S).items():
                flow.owe(topic, ids)
            self.mesh.stir()

    def _move(self, did: Did) -> None:
        """A session waits for its streams before it ends: ours is ended, or goes on over another session."""
        flow = self._flows.get(did)
        if flow is not None:
            flow.rouse()

    def _left(self, did: Did) -> None:
        self.mesh.left(did)
        self._flows.pop(did, None)
        self._owing.pop(did, None)
        self._reading.pop(did, None)
        sender = self._senders.pop(did, None)
        if sender is not None:
            sender.cancel()

    async def leave(self) -> None:
        """End every stream, before this node's sessions are drained: others' are dropped, the own said to the end."""
        for reading in list(self._reading.values()):
            for incoming in list(reading):
                incoming.stream.reset()
        async with asyncio.TaskGroup() as group:
            for flow in list(self._flows.values()):
                group.create_task(flow.end())

    # sending

    async def publish(self, topic: Topic[Canon], payload: bytes) -> tuple[bytes, int]:
        """Sign a message and send it to the mesh and some others; its id and to how many it goes at once.

        Raises:
            RateLimited: others would not take so many of ours.
        """
        if not self._intake.may_publish(topic, self._keeper.did):
            raise RateLimited(who="this node", what=f"gossip on {topic.name}", wait_s=BURST_S)
        body = GossipBody(
            v=1,
            topic=topic.name,
            did=self._keeper.did,
            key_seq=self._keeper.key_seq,
            seq_ms=self._clock.unix_ms(),
            ttl_s=topic.ttl_s,
            payload=payload,
            stamp=0,
        )
        envelope = sign_gossip(await self._stamped(body), self._keeper.signer)
        identity = message_id(envelope)
        self._seen.mark(identity, self._clock.monotonic())
        self._keep(identity, topic.name, envelope)
        targets = self.mesh.told_first(topic.name, MESH_HIGH)
        for did in targets:
            self._flows[did].message(identity, topic.name, envelope)
        return identity, len(targets)

    async def _stamped(self, body: GossipBody) -> GossipBody:
        """The body with the work that a stranger's message needs: everybody is a stranger to somebody at first."""
        if not self._bits:
            return body
        stamp = await asyncio.to_thread(make_stamp, stamped_gossip(body), self._bits)
        return msgspec.structs.replace(body, stamp=stamp)

    def _keep(self, identity: bytes, topic: str, envelope: bytes) -> None:
        self._kept.put(identity, topic, envelope, self._clock.monotonic())
        self.mesh.stir()

    # receiving

    async def serve_flow(self, session: Session, incoming: Incoming) -> None:
        """GOSSIP_FLOW: read a neighbour's frames until it ends the stream, has begun others, or is graylisted.

        Raises:
            FramingBroken, BadParams: a frame is too long, or none. RateLimited: it is on the graylist.
        """
        did, buffer = session.peer.did, bytearray()
        if self.is_graylisted(did):
            self._peers.blame(did, BLAME_INVALID_GOSSIP, "gossip: it goes on although nothing of it is read")
            raise RateLimited(who=did, what="patience", wait_s=INVALID_HALF_S)
        reading = self._reading.setdefault(did, [])
        reading.append(incoming)
        del reading[:-STREAMS_READ]
        try:
            while incoming in reading and not self.is_graylisted(did):
                data = await incoming.stream.read(READ_BYTES)
                if not data:
                    break
                self._take_bytes(buffer, data, did)
        finally:
            if incoming in reading:
                reading.remove(incoming)

    def _take_bytes(self, buffer: bytearray, data: bytes, giver: Did) -> None:
        buffer += data
        try:
            while (frame := next_frame(buffer)) is not None:
                self._take(frame, giver)
        except (FramingBroken, BadParams) as error:
            self._invalid(giver, "", error.message)
            raise

    def is_graylisted(self, did: Did) -> bool:
        """Whether nothing of this neighbour is read now."""
        return self._conducts.of(did, self._clock.monotonic()).score(self._clock.monotonic()) < GRAYLIST_AT

    def _take(self, frame: GossipFrame, giver: Did) -> None:
        """Everything that a frame says."""
        if frame.topics:
            self.mesh.carries(giver, frame.topics)
        for parting in frame.prunes:
            self.mesh.on_prune(giver, parting.topic, parting.backoff_s)
        for topic in frame.grafts:
            self.mesh.on_graft(giver, topic)
        for envelope in frame.messages:
            self._receive(envelope, giver)
        if frame.offers or frame.wants:
            self._take_ids(frame, giver)

    def _receive(self, envelope: bytes, giver: Did) -> None:
        found = self._intake.look(envelope, giver)
        if not isinstance(found, Message):
            self.counted[found.name.lower()] += 1
            if found is Fault.SEEN:
                self._note_copy(message_id(envelope), giver)
            elif found.invalid:
                self._invalid(giver, "", found.value)
            return
        self._wants.came(found.identity)
        self._go_on(found, self._intake.verify(found))

    def _note_copy(self, identity: bytes, giver: Did) -> None:
        """The neighbour has it: it need not be sent to it."""
        flow = self._flows.get(giver)
        if flow is not None:
            flow.has(identity)
        givers = self._givers.get(identity)
        if givers is not None and giver not in givers:
            givers.append(giver)

    def _go_on(self, message: Message, fault: Fault | None) -> None:
        """After the signature was looked at."""
        if fault is Fault.KEY:
            self._fetch_log(message)
            return
        if fault is not None:
            self.counted[fault.name.lower()] += 1
            if fault.invalid:
                self._invalid(message.giver, message.body.topic, fault.value)
            return
        self._givers[message.identity] = [message.giver]
        self._verdicts.ask(message)

    def _fetch_log(self, message: Message) -> None:
        """Ask who brought the message for its signer's log, once for all its messages; too many are left to others."""
        signer, giver = message.body.did, message.giver
        waiting = self._lacking.get(signer)
        if waiting is not None and len(waiting) < LOGS_PER_PEER:
            waiting.append(message)
            return
        full = len(self._lacking) >= LOGS_ASKED_MAX or self._asking[giver] >= LOGS_PER_PEER
        if waiting is not None or full:
            self.counted["key"] += 1
            return
        self._lacking[signer] = [message]
        self._asking[giver] += 1
        if self._tasks.spawn(self._with_log(signer, giver), "log of a gossip's signer") is None:
            self._logs_asked(signer, giver)

    async def _with_log(self, signer: Did, giver: Did) -> None:
        try:
            answer = await self._peers.call(giver, DID_LOG, AskLog(did=signer))
            if answer.log:
                self._directory.learn(signer, answer.log, answer.node_record)
        except DuxError as error:
            self._log.debug("a gossip's signer is not known", did=signer, reason=error.message)
        finally:
            waiting = self._logs_asked(signer, giver)
        for message in waiting:
            fault = self._intake.verify(message)
            if fault is not Fault.KEY:
                self._go_on(message, fault)
            elif message.giver == giver:
                self._invalid(giver, message.body.topic, "it has no log of its signer")

    def _logs_asked(self, signer: Did, giver: Did) -> list[Message]:
        self._asking[giver] -= 1
        if not self._asking[giver]:
            del self._asking[giver]
        return self._lacking.pop(signer)

    def _judged(self, message: Message, verdict: str) -> None:
        """The owner has spoken."""
        givers, now = self._givers.pop(message.identity, []), self._clock.monotonic()
        self.counted[verdict] += 1
        if verdict == "reject":
            self._invalid(message.giver, message.body.topic, "its owner rejects it")
        if verdict != "accept":
            return
        topic = message.body.topic
        self._conducts.of(message.giver, now).gave_first(topic, now)
        self._keep(message.identity, topic, message.envelope)
        for did in self.mesh.of(topic):
            if did not in givers and did != message.body.did:
                self._flows[did].message(message.identity, topic, message.envelope)

    def _invalid(self, giver: Did, topic: str, why: str) -> None:
        now = self._clock.monotonic()
        self._conducts.of(giver, now).gave_invalid(topic, now)
        self._peers.blame(giver, BLAME_INVALID_GOSSIP, f"gossip: {why}")
        self.mesh.change()

    def _breach(self, whom: Did) -> None:
        now = self._clock.monotonic()
        self._conducts.of(whom, now).broke_rule(now)
        self.mesh.change()

    # ids

    def _take_ids(self, frame: GossipFrame, giver: Did) -> None:
        now, flow = self._clock.monotonic(), self._flows.get(giver)
        if flow is None or self._conducts.of(giver, now).score(now) < GOSSIP_AT:
            return
        for offer in frame.offers:
            if not self._intake.may_tell(giver, "ids", len(offer.ids), per_s=IHAVE_PER_S, burst=IHAVE_BURST):
                self._breach(giver)
                return
            self._take_offer(offer, flow, now)
        if not self._intake.may_tell(giver, "wants", len(frame.wants), per_s=IWANT_PER_S, burst=IHAVE_BURST):
            self._breach(giver)
            return
        self._give(frame.wants, flow)

    def _take_offer(self, offer: Offer, flow: Outflow, now: float) -> None:
        if offer.topic not in self._topics:
            return
        for identity in offer.ids:
            if identity in self._seen:
                flow.has(identity)
            elif self._wants.offered(identity, flow.did, now):
                flow.want(identity)
        self.mesh.stir()

    def _give(self, wants: tuple[bytes, ...], flow: Outflow) -> None:
        """Whole messages for ids that were offered; asking for anything else is a breach."""
        unoffered = 0
        for identity in wants:
            if not flow.may_ask(identity):
                unoffered += 1
                continue
            kept = self._kept.find(identity)
            if kept is not None:
                flow.message(identity, kept.topic, kept.envelope)
        if unoffered:
            self._breach(flow.did)

    # the heartbeat

    def _beat(self) -> bool:
        """Tell ids, and follow up what was offered and did not come; whether there will be more to do."""
        now, told = self._clock.monotonic(), self._kept.turn()
        for topic, ids in told.items():
            for did in self.mesh.lazy(topic, LAZY_PEERS):
                self._flows[did].owe(topic, ids)
        late = self._wants.late(now)
        for whom in dict.fromkeys(whom for _, whom, _ in late):
            self._breach(whom)
        for identity, _, other in late:
            if other is not None and other in self._flows:
                self._flows[other].want(identity)
        owing = [self._flows[did].pay(now) for did in list(self._owing)]
        return bool(told) or bool(len(self._wants)) or any(owing)


def next_frame(buffer: bytearray) -> GossipFrame | None:
    """Take a frame off the front; None while it is incomplete.

    Raises:
        FramingBroken: too long. BadParams: no frame.
    """
    if len(buffer) < LENGTH_BYTES:
        return None
    length = int.from_bytes(buffer[:LENGTH_BYTES], "big")
    if length > FRAME_BYTES_MAX:
        raise FramingBroken(reason=f"a gossip frame of {length} bytes, {FRAME_BYTES_MAX} are allowed")
    if len(buffer) < LENGTH_BYTES + length:
        return None
    data = bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + length])
    del buffer[: LENGTH_BYTES + length]
    return from_canonical(data, GossipFrame, max_bytes=FRAME_BYTES_MAX)
