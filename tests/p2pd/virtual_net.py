"""A few whole nodes (keeper, directory, sessions, DHT, renewal) over the memory transport, in virtual time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from common.contracts.peer_p2p import DHT_FIND, DHT_GET_AT, DHT_STORE, DID_LOG, DID_TELL
from common.identity.branch import OperationalBranch, make_branch
from common.identity.node_record import NodeRecord
from common.network import Bootstrap, NetworkProfile
from common.parts import Parts
from common.randomness import SeededRandomness
from common.rpc.table import MethodTable
from common.store import Store
from common.units import Did, UnixMs
from dux_p2pd.directory import Directory, Known
from dux_p2pd.keeper import Keeper
from dux_p2pd.key_source import BranchKeys
from dux_p2pd.memory_transport import CalmWeather, MemoryNetwork, MemoryTransport
from dux_p2pd.overlay import Overlay, build_overlay, shared_arguments
from dux_p2pd.record_table import RecordTable
from dux_p2pd.remembered import Remembered
from dux_p2pd.renewal import Renewal
from dux_p2pd.resolver import Resolver
from dux_p2pd.settings import P2pdSettings
from dux_p2pd.store import MIGRATIONS, NodeTable, OwnTable
from dux_p2pd.store_places import PlaceTable
from dux_p2pd.transport_keys import TransportKeys
from dux_p2pd.upkeep import Upkeep

START_MS = 1_790_000_000_000
DAY_S = 86_400
HOUR_S = 3600


class LoopClock:
    """The time of the virtual event loop, and what was skipped: one time for all nodes of a loop."""

    def unix_ms(self) -> UnixMs:
        return UnixMs(START_MS + int(self.monotonic() * 1000))

    def monotonic(self) -> float:
        loop = asyncio.get_running_loop()
        return loop.time() + SKIPPED_S.get(loop, 0.0)


SKIPPED_S: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()


async def skip(seconds: float) -> None:
    """So much time passes on every clock; the last minutes, more than a turn of the renewal, are lived through."""
    loop, lived_s = asyncio.get_running_loop(), 150.0
    SKIPPED_S[loop] = SKIPPED_S.get(loop, 0.0) + max(seconds - lived_s, 0.0)
    await asyncio.sleep(min(seconds, lived_s))


def seed_of(number: int) -> bytes:
    return bytes([number]) * 64


class VirtualNode:
    """One node; it can sleep (its process ends) and wake with what was on its disk."""

    in_memory = False

    def __init__(self, net: MemoryNetwork, number: int, *, seed: bytes = b"", host: str = "", **settings: Any) -> None:
        """Of this number, unless a seed and an address are given."""
        self.net, self.number = net, number
        self.host = host or f"127.1.{number}.1"
        self.folder = Path(tempfile.mkdtemp(prefix="duxtest-"))
        self.branch: OperationalBranch = make_branch(
            seed or seed_of(number), net=1, account=0, made_ms=START_MS, inception_bits=0
        )
        self.bootstrap: tuple[str, ...] = ()
        self.chance = number
        self.more = settings
        self.stack: AsyncExitStack | None = None
        self.overlay: Overlay
        self.keeper: Keeper
        self.resolver: Resolver
        self.renewal: Renewal

    @property
    def did(self) -> Did:
        return self.keeper.did

    @property
    def directory(self) -> Directory:
        return self.overlay.directory

    @property
    def address(self) -> str:
        return f"{self.host}:32570"

    async def wake(self) -> None:
        clock, stack = LoopClock(), AsyncExitStack()
        table = MethodTable(log=structlog.get_logger(), clock=clock, randomness=SeededRandomness(0))
        await stack.__aenter__()
        settings = P2pdSettings(
            network_profile="none",
            data_dir=str(self.folder),
            run_dir=str(self.folder),
            bootstrap=self.bootstrap,
            peers_target=8,
            **self.more,
        )
        parts: Parts[P2pdSettings] = Parts(
            name="p2pd", settings=settings, network=profile(), clock=clock, random=SeededRandomness(self.chance),
            log=structlog.get_logger().bind(node=self.number), stack=stack, table=table,
            neighbours=_nobody, data_dir=self.folder, run_dir=self.folder, store_in_memory=self.in_memory,
        )  # fmt: skip
        store = parts.store(MIGRATIONS)
        transport = TransportKeys(self.folder, parts.random, now_ms=clock.unix_ms(), period_s=7 * DAY_S)
        own = OwnTable(store)
        self.keeper = Keeper(BranchKeys(self.branch), transport, own, clock=clock, inception_bits=0)
        nodes = NodeTable(store)
        net = await build_overlay(parts, self.keeper, nodes, RecordTable(store), self._transport)
        self.overlay, self.stack = net, stack
        self._answer(parts, store, clock)
        await net.transport.serve(net.peers.on_session, net.router.handle)
        self.keeper.announce((self.address,))
        for loop in (self.upkeep.run_connections, self.upkeep.run_records, self.renewal.run):
            net.tasks.spawn(loop(), loop.__qualname__)

    def _transport(self, parts: Parts[P2pdSettings], keeper: Keeper, directory: Directory) -> MemoryTransport:
        shared = shared_arguments(parts, directory)
        return MemoryTransport(
            network_of=self.net, transport_key=keeper.transport.public, listen=(self.host, 32570), **shared
        )

    def _answer(self, parts: Parts[P2pdSettings], store: Store, clock: LoopClock) -> None:
        net, known = self.overlay, [Bootstrap(address=address) for address in self.bootstrap]
        met = Remembered(PlaceTable(store), net.directory, clock=clock)
        self.upkeep = Upkeep(net.peers, net.dht, self.keeper, met, known, clock=clock, random=parts.random,
                             log=parts.log, target=8, republish_s=HOUR_S)  # fmt: skip
        self.resolver = Resolver(net.dht, net.peers, net.directory, clock=clock)
        net.peers.locate = self.resolver.locate
        self.renewal = Renewal(
            self.keeper, net.directory, net.peers, net.dht, self.resolver, self.upkeep, net.transport, net.tasks,
            clock=clock, random=parts.random, log=parts.log, rotate_every_s=parts.settings.rotate_keys_every_s,
        )  # fmt: skip
        for method, handler in (
            (DHT_FIND, net.dht.on_find), (DHT_GET_AT, net.dht.on_get_at), (DHT_STORE, net.dht.on_store),
            (DID_LOG, net.dht.on_log),
        ):  # fmt: skip
            net.router.answer_at_once(method, handler)  # type: ignore[arg-type]
        net.router.answer(DID_TELL, self.renewal.on_tell)

    async def sleep(self) -> None:
        if self.stack is not None:
            await self.stack.aclose()
            self.stack = None

    def knows(self, other: VirtualNode) -> Known:
        known = self.directory.get(other.did)
        assert known is not None
        return known

    def sees_keys(self, other: VirtualNode) -> tuple[bytes, ...]:
        record: NodeRecord | None = self.knows(other).record
        return record.transport_keys if record else ()

    def is_connected(self, other: VirtualNode) -> bool:
        return self.overlay.peers.is_connected(other.did)


def _nobody(daemon: str) -> Any:
    raise AssertionError(f"nobody calls {daemon} here")


def profile() -> NetworkProfile:
    return NetworkProfile(name="test", chain="embedded", genesis="11" * 32, heights="demo")


@asynccontextmanager
async def virtual_net(count: int, **settings: Any) -> AsyncIterator[list[VirtualNode]]:
    """`count` nodes, each told of all others' addresses, connected."""
    net = MemoryNetwork(CalmWeather(delay_s=0.01))
    nodes = [VirtualNode(net, number, **settings) for number in range(1, count + 1)]
    for node in nodes:
        node.bootstrap = tuple(other.address for other in nodes if other is not node)
        await node.wake()
    try:
        await until(lambda: all(len(node.overlay.peers.sessions()) >= count - 1 for node in nodes))
        yield nodes
    finally:
        for node in nodes:
            await node.sleep()


async def until(predicate: Callable[[], Any], within_s: float = 120.0) -> None:
    """Wait in virtual time."""
    async with asyncio.timeout(within_s):
        while not predicate():
            await asyncio.sleep(0.1)
