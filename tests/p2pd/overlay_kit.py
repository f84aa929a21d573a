"""Real p2pds on real sockets, each at its own 127.x address, in one process."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from common.codec import canonical
from common.contracts import p2p
from common.contracts.base import (
    GOSSIP_HANDLE,
    GOSSIP_HANDLE_ALL,
    PEER_HANDLE,
    GossipIn,
    PeerAnswer,
    PeerCallIn,
    Verdict,
    Verdicts,
)
from common.contracts.peer_store import TagPointer
from common.errors import NeighbourDown
from common.identity.branch import BRANCH_FILE, did_of_branch, encode_branch, make_branch
from common.network import Bootstrap, NetworkProfile
from common.node_ports import outside_address, rpc_port
from common.rpc.client import HttpClient, LocalClient
from common.rpc.method import Empty
from dux_p2pd.daemon import P2pDaemon
from dux_p2pd.settings import P2pdSettings
from tests.ports import free_base

WAIT_S = 20.0
MADE_MS = 1_790_000_000_000


async def wait_until(predicate: Callable[[], Any], what: str, within_s: float = WAIT_S) -> Any:
    """The predicate's first true value (it may be async)."""
    async with asyncio.timeout(within_s):
        while True:
            found = predicate()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)
    raise AssertionError(what)


class Owner:
    """Stands for the daemon that owns peer methods and topics: records what it is handed."""

    def __init__(self) -> None:
        self.calls: list[PeerCallIn] = []
        self.heard: list[GossipIn] = []
        self.verdict = "accept"
        self.answer = b"\x90"
        self.down = False

    async def call(self, method: Any, params: Any, *, deadline_s: float = 15.0) -> Any:  # noqa: ARG002 - as every client
        if self.down:
            raise NeighbourDown(daemon="owner", address="nowhere", detail="down on purpose")
        if method is PEER_HANDLE:
            self.calls.append(params)
            return PeerAnswer(result=self.answer)
        if method is GOSSIP_HANDLE_ALL:
            return Verdicts(verdicts=[(await self.call(GOSSIP_HANDLE, one)).verdict for one in params.messages])
        assert method is GOSSIP_HANDLE, method.name
        self.heard.append(params)
        return Verdict(verdict=self.verdict)  # type: ignore[arg-type]


def tagged(text: str) -> bytes:
    """The payload of a record in the namespace `tag`."""
    return canonical(TagPointer(service_ids=(text,)))


class Node:
    """One p2pd."""

    def __init__(self, index: int, folder: Path, profile: NetworkProfile, **settings: Any) -> None:
        self.index, self.folder, self.profile = index, folder, profile
        self.base = free_base()
        self.owner = Owner()
        data = folder / "data" / "p2pd"
        data.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.branch = make_branch(bytes([index]) * 64, net=1, account=0, made_ms=MADE_MS, inception_bits=0)
        (data / BRANCH_FILE).write_bytes(encode_branch(self.branch))
        self.did = did_of_branch(self.branch, 0)
        self.settings = P2pdSettings(
            network_profile="profile.yaml",
            data_dir=str(folder / "data"),
            run_dir=str(folder / "run"),
            port_base=self.base,
            listen_host=outside_address(index),
            listen_port=self.base + 10,
            **settings,
        )
        self.own_settings = ("listen_host", "listen_port", *settings)  # of p2pd.yaml
        self.daemon: P2pDaemon
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"{outside_address(self.index)}:{self.base + 10}"

    def make(self) -> P2pDaemon:
        log = structlog.get_logger().bind(node=self.index)
        return P2pDaemon(self.settings, self.profile, log=log, neighbours=lambda _: self.owner)

    async def start(self) -> None:
        self.daemon = self.make()
        ready = asyncio.Event()
        self._task = asyncio.ensure_future(self.daemon.run(ready))
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait((self._task, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=WAIT_S)
        if not ready.is_set():
            waiting.cancel()
            await self._task
        assert ready.is_set()

    async def stop(self) -> None:
        if self._task is not None:
            self.daemon.stopping.set()
            await self._task
            self._task = None

    def freeze(self) -> None:
        """Vanish without closing a socket: nothing is read, answered or accepted any more."""
        transport = self.daemon.net.transport
        for server in transport._servers:  # type: ignore[attr-defined]
            server.close()
        for line in list(transport.lines):  # type: ignore[attr-defined]
            line.data_received = lambda _data: None
            line.send = lambda _data: None

    def as_caller(self, caller: str) -> LocalClient:
        """Calls this p2pd's methods as a daemon of its node would."""
        return LocalClient(self.daemon.parts.table, caller)

    def http(self, caller: str) -> HttpClient:
        url = f"http://127.0.0.1:{rpc_port('p2pd', self.base)}/"
        return HttpClient("p2pd", url, self.folder / "run" / "p2pd" / f"{caller}.token")

    async def info(self) -> p2p.Info:
        return await self.as_caller("cli").call(p2p.P2P_INFO, Empty())


def profile(bootstrap: tuple[Bootstrap, ...] = ()) -> NetworkProfile:
    return NetworkProfile(name="test", chain="embedded", genesis="11" * 32, heights="demo", bootstrap=bootstrap)


@asynccontextmanager
async def network(count: int, **settings: Any) -> AsyncIterator[list[Node]]:
    """`count` nodes, the first one the only bootstrap node of the others, all connected to all."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="duxtest-")))
        first = Node(1, folder / "1", profile(), **settings)
        others = profile((Bootstrap(address=first.address, did=first.did),))
        nodes = [first, *(Node(i, folder / str(i), others, **settings) for i in range(2, count + 1))]
        for node in nodes:
            await node.start()
            stack.push_async_callback(node.stop)
        await all_connected(nodes)
        yield nodes


async def all_connected(nodes: list[Node]) -> None:
    async def done() -> bool:
        infos = [await node.info() for node in nodes]
        return all(info.sessions >= len(nodes) - 1 and info.contacts >= len(nodes) - 1 for info in infos)

    await wait_until(done, "every node connected to every other")
