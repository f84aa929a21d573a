"""What goes to one neighbour: queued, put together and written to one long stream.

Promise: a message is encoded once for all neighbours and several travel in one frame; nothing is sent to whom we had it
from; a neighbour that does not read costs a bounded queue, and what did not fit is offered to it by id later.

Source: network.md §5.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress

from structlog.typing import FilteringBoundLogger

from common.codec import canonical
from common.contracts.peer_p2p import GOSSIP_FLOW, GOSSIP_FLOW_S, GossipFrame, Offer, Parting
from common.errors import DuxError
from common.units import Did
from dux_p2pd.gossip_limits import (
    END_S,
    FLOW_S,
    FRAME_FILL_BYTES,
    FRAME_LIGHT_BYTES,
    GAP_S,
    IDS_PER_FRAME,
    KEPT_S,
    OFFERED_MAX,
    OFFERS_PER_BEAT,
    OWED_MAX,
    QUEUE_BYTES,
    QUEUE_MESSAGES,
    WRITE_S,
)
from dux_p2pd.peers import PeerBook
from dux_p2pd.session import Session, Stream

LENGTH_BYTES = 4


class Outflow:
    """The queue of one neighbour, and the task that empties it."""

    def __init__(
        self, did: Did, peers: PeerBook, topics: tuple[str, ...], log: FilteringBoundLogger, owing: dict[Did, None]
    ) -> None:
        """`topics` is what this node carries: said first on every stream. `owing`: who is owed ids, of all."""
        self.did = did
        self._owing = owing
        self._peers = peers
        self._topics = topics
        self._log = log
        self._messages: dict[bytes, bytes] = {}
        self._bytes = 0
        self._offers: dict[str, list[bytes]] = {}
        self._wants: list[bytes] = []
        self._grafts: dict[str, None] = {}
        self._prunes: dict[str, int] = {}
        self._owed: OrderedDict[bytes, str] = OrderedDict()
        self._offered: OrderedDict[bytes, float] = OrderedDict()  # id -> when
        self.is_greeted = False  # it was offered what was kept when it came
        self._wake = asyncio.Event()
        self._session: Session | None = None
        self._stream: Stream | None = None
        self._since_s = 0.0

    # what is to be told

    def message(self, identity: bytes, topic: str, envelope: bytes) -> None:
        """A whole message; where there is no room, its id later."""
        if identity in self._messages:
            return
        if len(self._messages) >= QUEUE_MESSAGES or self._bytes + len(envelope) > QUEUE_BYTES:
            self.owe(topic, [identity])
            return
        self._messages[identity] = envelope
        self._bytes += len(envelope)
        self._wake.set()

    def has(self, identity: bytes) -> None:
        """The neighbour has this message itself."""
        found = self._messages.pop(identity, None)
        if found is not None:
            self._bytes -= len(found)

    def owe(self, topic: str, ids: list[bytes]) -> None:
        """Ids that the neighbour is to be offered, as fast as it may be told."""
        if ids:
            self._owing[self.did] = None
        for identity in ids:
            self._owed[identity] = topic
        while len(self._owed) > OWED_MAX:
            self._owed.popitem(last=False)

    def pay(self, now_s: float) -> bool:
        """A heartbeat: offer what a heartbeat may carry; whether more is owed.

        An offer is remembered for as long as the message itself is kept: whoever asks later could be given nothing.
        """
        for _ in range(min(len(self._owed), OFFERS_PER_BEAT)):
            identity, topic = self._owed.popitem(last=False)
            self._offers.setdefault(topic, []).append(identity)
            self._offered[identity] = now_s
        while len(self._offered) > OFFERED_MAX or next(iter(self._offered.values()), now_s) < now_s - KEPT_S:
            self._offered.popitem(last=False)
        if self._offers:
            self._wake.set()
        if not (self._owed or self._offers):
            self._owing.pop(self.did, None)
        return bool(self._owed)

    def may_ask(self, identity: bytes) -> bool:
        """Whether it was offered and not given yet; it is given once."""
        if identity not in self._offered:
            return False
        del self._offered[identity]
        return True

    def want(self, identity: bytes) -> None:
        """Ask for a message that the neighbour offered."""
        self._wants.append(identity)
        self._wake.set()

    def graft(self, topic: str) -> None:
        """It is in our mesh now."""
        self._grafts[topic] = None
        self._wake.set()

    def prune(self, topic: str, backoff_s: int) -> None:
        """It is not in our mesh."""
        self._grafts.pop(topic, None)
        self._prunes[topic] = backoff_s
        self._wake.set()

    def rouse(self) -> None:
        """Say at least what we carry."""
        self._wake.set()

    # how it goes out

    async def run(self) -> None:
        """Write what is queued, for as long as there is a session with the neighbour."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            started_s = loop.time()
            try:
                async with asyncio.timeout(WRITE_S):
                    await self._send()
            except (DuxError, TimeoutError) as error:
                self._log.debug("gossip not sent", did=self.did, reason=str(error))
                self._stream = None
            await asyncio.sleep(max(0.0, started_s + GAP_S - loop.time()))

    async def _send(self) -> None:
        session = self._peers.session_with(self.did)
        if session is None:
            await self.end()
            return
        stream = await self._current(session)
        while self._has_news():
            await stream.write(framed(self._next_frame(())))

    async def _current(self, session: Session) -> Stream:
        """The stream in use; a new one over a new session, or when the old one has lasted long enough."""
        now_s = asyncio.get_running_loop().time()
        if self._stream is not None and self._session is session and now_s - self._since_s < FLOW_S:
            return self._stream
        await self.end()
        stream = await session.open_stream(GOSSIP_FLOW, deadline_s=GOSSIP_FLOW_S)
        self._stream, self._session, self._since_s = stream, session, now_s
        await stream.write(framed(self._next_frame(self._topics)))
        return stream

    async def end(self) -> None:
        """The old one ends in order, its last frame read: a session that was replaced waits for its streams."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(DuxError, TimeoutError):
                async with asyncio.timeout(END_S):
                    await stream.close()
                    await stream.read(1)
            stream.reset()

    def _has_news(self) -> bool:
        return bool(self._messages or self._offers or self._wants or self._grafts or self._prunes)

    def _next_frame(self, topics: tuple[str, ...]) -> GossipFrame:
        """Ids wait until the messages leave them room."""
        messages = self._next_messages()
        light = sum(map(len, messages)) < FRAME_LIGHT_BYTES
        return GossipFrame(
            topics=topics,
            messages=messages,
            offers=self._next_offers() if light else (),
            wants=self._next_wants() if light else (),
            grafts=_all_of(self._grafts),
            prunes=self._next_prunes(),
        )

    def _next_messages(self) -> tuple[bytes, ...]:
        chosen: list[bytes] = []
        room = FRAME_FILL_BYTES
        while self._messages and room > 0:
            envelope = self._messages.pop(next(iter(self._messages)))
            chosen.append(envelope)
            room -= len(envelope)
            self._bytes -= len(envelope)
        return tuple(chosen)

    def _next_offers(self) -> tuple[Offer, ...]:
        """One topic's ids per frame."""
        if not self._offers:
            return ()
        topic = next(iter(self._offers))
        ids = self._offers.pop(topic)
        if len(ids) > IDS_PER_FRAME:
            self._offers[topic] = ids[IDS_PER_FRAME:]
        return (Offer(topic=topic, ids=tuple(ids[:IDS_PER_FRAME])),)

    def _next_wants(self) -> tuple[bytes, ...]:
        chosen, self._wants = self._wants[:IDS_PER_FRAME], self._wants[IDS_PER_FRAME:]
        return tuple(chosen)

    def _next_prunes(self) -> tuple[Parting, ...]:
        chosen = tuple(Parting(topic=topic, backoff_s=wait_s) for topic, wait_s in self._prunes.items())
        self._prunes.clear()
        return chosen


def _all_of(names: dict[str, None]) -> tuple[str, ...]:
    chosen = tuple(names)
    names.clear()
    return chosen


def framed(frame: GossipFrame) -> bytes:
    """The frame as it travels."""
    data = canonical(frame)
    return len(data).to_bytes(LENGTH_BYTES) + data
