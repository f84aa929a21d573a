"""Nodes that only gossip: keeper, directory, sessions and gossip over the memory transport, in virtual time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from common.contracts.base import GOSSIP_HANDLE, GOSSIP_HANDLE_ALL, GossipIn, Verdict, Verdicts
from common.contracts.peer import topics
from common.contracts.peer_p2p import DID_LOG, GOSSIP_FLOW, GossipFrame, Offer, Parting
from common.errors import NeighbourDown
from common.identity.branch import make_branch
from common.identity.keys import Signer
from common.network import NetworkProfile
from common.parts import Parts
from common.randomness import SeededRandomness
from common.rpc.table import MethodTable
from common.units import Did
from dux_p2pd.directory import Directory
from dux_p2pd.gossip import GossipNet
from dux_p2pd.gossip_flow import framed
from dux_p2pd.keeper import Keeper
from dux_p2pd.key_source import BranchKeys
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork, MemoryTransport
from dux_p2pd.overlay import Overlay, build_overlay, shared_arguments
from dux_p2pd.record_table import RecordTable
from dux_p2pd.records import GossipBody, sign_gossip
from dux_p2pd.session import Session, Stream
from dux_p2pd.settings import P2pdSettings
from dux_p2pd.store import MIGRATIONS, NodeTable, OwnTable
from dux_p2pd.transport_keys import TransportKeys
from tests.p2pd.virtual_net import START_MS, LoopClock, until

TOPIC = topics()["service"]
QUIET: Any = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(50))
PORT = 32570


class Listener:
    """Stands for the daemon that owns the topics: notes what it is handed, and when."""

    def __init__(self) -> None:
        self.heard: list[tuple[GossipIn, float]] = []
        self.verdict = "accept"
        self.away = False
        self.slow_s = 0.0

    async def call(self, method: Any, params: Any, *, deadline_s: float = 15.0) -> Any:  # noqa: ARG002 - as every client
        if method is GOSSIP_HANDLE_ALL:
            return Verdicts(verdicts=[(await self.call(GOSSIP_HANDLE, one)).verdict for one in params.messages])
        assert method is GOSSIP_HANDLE
        if self.away:
            raise NeighbourDown(daemon="owner", address="nowhere", detail="down on purpose")
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        self.heard.append((params, asyncio.get_running_loop().time()))
        return Verdict(verdict=self.verdict)  # type: ignore[arg-type]

    def payloads(self) -> list[bytes]:
        return [message.payload for message, _ in self.heard]


class GossipNode:
    """One node; `number` gives it its keys, its address and its net."""

    def __init__(self, net: MemoryNetwork, number: int, folder: Path, **settings: Any) -> None:
        self.net, self.number, self.folder, self.more = net, number, folder, settings
        self.host = f"127.{1 + (number >> 8)}.{number & 255}.1"
        seed = hashlib.sha512(b"%d" % number).digest()
        self.branch = make_branch(seed, net=1, account=0, made_ms=START_MS, inception_bits=0)
        self.owner = Listener()
        self.stack: AsyncExitStack | None = None
        self.overlay: Overlay
        self.keeper: Keeper

    @property
    def did(self) -> Did:
        return self.keeper.did

    @property
    def gossip(self) -> GossipNet:
        return self.overlay.gossip

    @property
    def signer(self) -> Signer:
        return self.keeper.signer

    async def start(self) -> None:
        clock, stack = LoopClock(), AsyncExitStack()
        await stack.__aenter__()
        log = QUIET
        settings = P2pdSettings(network_profile="none", data_dir="none", run_dir="none", **self.more)
        random = SeededRandomness(self.number)
        parts: Parts[P2pdSettings] = Parts(
            name="p2pd", settings=settings, network=profile(), clock=clock, random=random, log=log, stack=stack,
            table=MethodTable(log=log, clock=clock, randomness=random), neighbours=lambda _: self.owner,
            data_dir=self.folder, run_dir=self.folder, store_in_memory=True,
        )  # fmt: skip
        store = parts.store(MIGRATIONS)
        transport = TransportKeys(None, random, now_ms=clock.unix_ms(), period_s=604_800)
        self.keeper = Keeper(BranchKeys(self.branch), transport, OwnTable(store), clock=clock, inception_bits=0)
        self.overlay = await build_overlay(parts, self.keeper, NodeTable(store), RecordTable(store), self._transport)
        router = self.overlay.router
        router.answer_at_once(DID_LOG, self.overlay.dht.on_log)
        router.answer_stream(GOSSIP_FLOW, self.gossip.serve_flow)
        await self.overlay.transport.serve(self.overlay.peers.on_session, router.handle)
        self.keeper.announce((f"{self.host}:{PORT}",))
        self.stack = stack

    def _transport(self, parts: Parts[P2pdSettings], keeper: Keeper, directory: Directory) -> MemoryTransport:
        shared = shared_arguments(parts, directory)
        return MemoryTransport(
            network_of=self.net, transport_key=keeper.transport.public, listen=(self.host, PORT), **shared
        )

    async def stop(self) -> None:
        if self.stack is not None:
            await self.stack.aclose()
            self.stack = None

    async def dial(self, other: GossipNode) -> Session:
        return await self.overlay.peers.dial((other.host, PORT), other.did)

    async def publish(self, payload: bytes) -> bytes:
        return (await self.gossip.publish(TOPIC, payload))[0]

    def message(self, payload: bytes, *, signer: Signer | None = None, **changes: Any) -> bytes:
        """A message in this node's name, signed by its key or another."""
        body = GossipBody(
            v=1, topic=TOPIC.name, did=self.did, key_seq=0, seq_ms=LoopClock().unix_ms(), ttl_s=120,
            payload=payload, stamp=0,
        )  # fmt: skip
        return sign_gossip(msgspec.structs.replace(body, **changes), signer or self.signer)

    async def flow_to(self, other: GossipNode) -> Stream:
        """A gossip stream of one's own, to say on it what an honest node would not."""
        session = await self.overlay.peers.session_to(other.did, ((other.host, PORT),))
        stream = await session.open_stream(GOSSIP_FLOW, deadline_s=300)
        await stream.write(framed(said(topics=(TOPIC.name,))))
        return stream

    def mesh(self) -> list[Did]:
        return self.gossip.mesh.of(TOPIC.name)


def said(
    *messages: bytes,
    topics: tuple[str, ...] = (),
    offers: Iterable[bytes] = (),
    wants: Iterable[bytes] = (),
    grafts: tuple[str, ...] = (),
    prunes: tuple[str, ...] = (),
) -> GossipFrame:
    """One frame."""
    ids = tuple(offers)
    return GossipFrame(
        topics=topics,
        messages=messages,
        offers=(Offer(topic=TOPIC.name, ids=ids),) if ids else (),
        wants=tuple(wants),
        grafts=grafts,
        prunes=tuple(Parting(topic=name, backoff_s=60) for name in prunes),
    )


def profile() -> NetworkProfile:
    return NetworkProfile(name="test", chain="embedded", genesis="11" * 32, heights="demo")


@asynccontextmanager
async def gossip_net(
    folder: Path, count: int, *, dials: int = 8, delay_s: float = 0.01, seed: int = 1, **settings: Any
) -> AsyncIterator[list[GossipNode]]:
    """`count` nodes; each dials `dials` others by lot (all earlier ones, in a small network)."""
    random = SeededRandomness(seed)
    net = MemoryNetwork(CalmWeather(delay_s=delay_s))
    nodes = [GossipNode(net, number, folder, **settings) for number in range(1, count + 1)]
    try:
        for node in nodes:
            await node.start()
        for index, node in enumerate(nodes):
            for other in random.sample(nodes[:index], dials):
                await node.dial(other)
        await asyncio.sleep(3.0)
        yield nodes
    finally:
        for node in nodes:
            await node.stop()


async def all_heard(nodes: Iterable[GossipNode], payload: bytes, within_s: float = 10.0) -> None:
    await until(lambda: all(payload in node.owner.payloads() for node in nodes), within_s)
