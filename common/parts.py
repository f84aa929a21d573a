"""The parts a daemon is assembled from: time, chance, files, neighbours and log come from here and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
from aiohttp import web
from structlog.typing import FilteringBoundLogger

from common.clock import Clock
from common.codec import canonical, from_canonical
from common.contracts.base import (
    GOSSIP_HANDLE,
    GOSSIP_HANDLE_ALL,
    PEER_HANDLE,
    EventsPage,
    EventsSince,
    EventView,
    GossipBatch,
    GossipIn,
    PeerAnswer,
    PeerCallIn,
    Verdict,
    Verdicts,
)
from common.errors import DuxError, UnknownMethod
from common.event_feed import EventFeed
from common.network import NetworkProfile
from common.outbox import OutboxWorker, Perform, Refused
from common.peers import Peers
from common.randomness import Randomness
from common.rpc.client import Client
from common.rpc.method import CP, CR, Method, PeerMethod, Topic
from common.rpc.patience import patiently
from common.rpc.table import Ctx, MethodTable
from common.settings import DaemonSettings
from common.store import Store
from common.units import Did, UnixMs

S = TypeVar("S", bound=DaemonSettings)

EVENTS_WAIT_MAX_S = 25.0
EVENTS_PAGE_MAX = 500
OWN_DID_WAIT_S, OWN_DID_PAUSE_S = 60.0, 0.2  # a node's daemons start in any order

PeerHandler = Callable[[CP, Did], Awaitable[CR]]
TopicHandler = Callable[[CP, GossipIn], Awaitable[str]]
Neighbours = Callable[[str], Client]
OpenStore = Callable[[Path | None, Sequence[str], Clock], Store]


@dataclass(kw_only=True)
class Parts(Generic[S]):
    """What `assemble` gets. Everything entered on `stack` leaves in reverse order when the daemon stops."""

    name: str
    settings: S
    network: NetworkProfile  # its parameters change when a later set begins: read them when they are wanted
    clock: Clock
    random: Randomness
    log: FilteringBoundLogger
    stack: AsyncExitStack
    table: MethodTable
    neighbours: Neighbours
    data_dir: Path
    run_dir: Path
    store_in_memory: bool = False
    open_store: OpenStore = Store.open  # a simulator keeps what was committed while a daemon is dead
    routes: list[web.RouteDef] = field(default_factory=list)
    problems: list[Callable[[], str]] = field(default_factory=list)  # each returns what is wrong, or ""
    gauges: dict[str, Callable[[], float]] = field(default_factory=dict)  # /metrics: name -> value
    on_parameters: list[Callable[[], None]] = field(default_factory=list)  # a later parameter set holds
    on_reload: list[Callable[[S], None]] = field(default_factory=list)  # SIGHUP: gets the settings as read again
    loops: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = field(default_factory=list)
    _peer_methods: dict[str, Callable[[PeerCallIn], Awaitable[bytes]]] = field(default_factory=dict)
    _topics: dict[str, Callable[[GossipIn], Awaitable[str]]] = field(default_factory=dict)

    def neighbour(self, daemon: str) -> Client:
        """The client of another daemon of this node, calling under this daemon's name."""
        return self.neighbours(daemon)

    @property
    def peers(self) -> Peers:
        """Other nodes, signatures and blobs, all through p2pd."""
        return Peers(self.neighbour("p2pd"))

    async def own_did(self) -> Did:
        """This node's DID: asked of p2pd once and kept, so that a daemon starts without waiting for it ever after.

        Raises:
            NeighbourDown: p2pd has never answered, for OWN_DID_WAIT_S.
        """
        kept = self.data_dir / "node.did"
        if not self.store_in_memory and kept.exists():
            return Did(kept.read_text().strip())
        did = await self._ask_did()
        if not self.store_in_memory:
            unfinished = kept.with_suffix(".part")
            unfinished.write_text(did)
            unfinished.replace(kept)
        return did

    async def _ask_did(self) -> Did:
        tries = int(OWN_DID_WAIT_S / OWN_DID_PAUSE_S)
        return (await patiently(self.peers.info, tries=tries, pause_s=OWN_DID_PAUSE_S)).did

    def store(self, migrations: Sequence[str]) -> Store:
        """Open this daemon's store: `once` methods keep their answers in it, and it is closed last."""
        path = None if self.store_in_memory else self.data_dir / f"{self.name}.sqlite"
        store = self.open_store(path, migrations, self.clock)
        self.stack.callback(store.close)
        self.table.store = store
        return store

    def outbox(self, store: Store, perform: Perform, refused: Refused | None = None) -> None:
        """Perform the store's effects in the background."""
        worker = OutboxWorker(store, perform, clock=self.clock, log=self.log, refused=refused)
        self.problems.append(lambda: f"effects met a bug: {', '.join(worker.broken)[:200]}" if worker.broken else "")
        self.background("outbox", worker.run)

    def background(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop as long as the daemon lives; when it fails the daemon ends with its error and is restarted."""
        self.loops.append((name, loop))

    def serve_events(self, method: Method[EventsSince, EventsPage], store: Store) -> None:
        """Let neighbours follow what `tx.emit` tells."""
        feed = EventFeed(store)

        async def since(params: EventsSince, _ctx: Ctx) -> EventsPage:
            wait_s = min(max(params.wait_s, 0.0), EVENTS_WAIT_MAX_S)
            found = await feed.since(params.cursor, wait_s, min(max(params.limit, 1), EVENTS_PAGE_MAX))
            views = [
                EventView(cursor=e.cursor, at_ms=UnixMs(e.at_ms), kind=e.kind, body=msgspec.json.decode(e.body))
                for e in found
            ]
            return EventsPage(events=views, cursor=views[-1].cursor if views else params.cursor)

        self.table.serve(method, since)

    def serve_peer(self, method: PeerMethod[CP, CR], handler: PeerHandler[CP, CR]) -> None:
        """Answer a call of other nodes; p2pd has proven who calls."""

        async def run(call: PeerCallIn) -> bytes:
            params = from_canonical(call.params, method.params, max_bytes=method.params_bytes_max)
            return canonical(await handler(params, call.sender))

        if not self._peer_methods:
            self.table.serve(PEER_HANDLE, self._handle_peer)
        self._peer_methods[method.name] = run

    def serve_topic(self, topic: Topic[CP], handler: TopicHandler[CP]) -> None:
        """Judge and take gossip of a topic: the handler returns accept, ignore or reject."""

        async def run(message: GossipIn) -> str:
            payload = from_canonical(message.payload, topic.payload, max_bytes=topic.payload_bytes_max)
            return await handler(payload, message)

        if not self._topics:
            self.table.serve(GOSSIP_HANDLE, self._handle_gossip)
            self.table.serve(GOSSIP_HANDLE_ALL, self._handle_all_gossip)
        self._topics[topic.name] = run

    async def _handle_peer(self, call: PeerCallIn, _ctx: Ctx) -> PeerAnswer:
        if call.method not in self._peer_methods:
            raise UnknownMethod(method=call.method[:100])
        return PeerAnswer(result=await self._peer_methods[call.method](call))

    async def _handle_gossip(self, message: GossipIn, _ctx: Ctx) -> Verdict:
        if message.topic not in self._topics:
            raise UnknownMethod(method=message.topic[:100])
        return _verdict(await self._topics[message.topic](message))

    async def _handle_all_gossip(self, batch: GossipBatch, ctx: Ctx) -> Verdicts:
        words = await asyncio.gather(*(self._word_on(message, ctx) for message in batch.messages))
        return Verdicts(verdicts=list(words))

    async def _word_on(self, message: GossipIn, ctx: Ctx) -> Literal["accept", "ignore", "reject"]:
        try:
            return (await self._handle_gossip(message, ctx)).verdict
        except DuxError as error:
            self.log.info("gossip not judged", topic=message.topic, reason=error.message)
            return "ignore"


def _verdict(word: str) -> Verdict:
    if word == "accept":
        return Verdict(verdict="accept")
    return Verdict(verdict="ignore") if word == "ignore" else Verdict(verdict="reject")


async def run_loops(loops: Sequence[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]) -> None:
    """Run them all; the first error ends all of them and is raised."""
    async with asyncio.TaskGroup() as group:
        for name, loop in loops:
            group.create_task(loop(), name=name)
