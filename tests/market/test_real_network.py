"""registryd and stored of three nodes over real p2pds: TLS, gossip, DHT, identities as they are; the coin is fake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common.clock import SystemClock
from common.codec import canonical
from common.contracts import p2p, registry
from common.contracts import store as contract
from common.contracts.peer_registry import NODES_SYNC, NodesAsk
from common.contracts.registry import ListNodes, NodeStatus, ReceiptState, RegisterNode, SubmitReceipt
from common.contracts.registry_seen import EVIDENCE_SEEN, SeenAsked
from common.contracts.registry_standing import Ban, Unban
from common.contracts.registry_witness import PresenceAsked
from common.contracts.store import PublishService, RateService, SearchServices
from common.daemon import DuxOSDaemon
from common.errors import DuxError
from common.identity.purposes import Purpose
from common.network import Bootstrap, NetworkProfile
from common.randomness import SeededRandomness
from common.receipts import Attested, SettledReceipt
from common.rpc.client import Client, LocalClient
from common.rpc.method import Empty
from common.rpc.table import MethodTable
from common.units import Florins, Hash32
from dux_p2pd.daemon import P2pDaemon
from dux_registryd.daemon import RegistryDaemon
from dux_stored.daemon import StoreDaemon
from tests.market.fakes import LOG, FakeChain, network, until
from tests.market.makers import NOW_MS, receipt
from tests.p2pd.overlay_kit import Node, all_connected

pytestmark = pytest.mark.patient

WALLET = "mzBc4XEFSdzCDcTxAgf6EZXgsZWpztRhef"
SETTINGS: dict[str, dict[str, Any]] = {
    "registryd": {"heartbeat_s": 0.5, "check_s": 0.1, "sync_s": 1.0, "probe_s": 0.1},
    "stored": {"follow_s": 0.1, "sync_s": 1.0},
}
TXID = "cd" * 32


class MarketNode(Node):
    """A node of the overlay with registryd and stored on it."""

    def __init__(self, index: int, folder: Path, profile: NetworkProfile, chain: FakeChain) -> None:
        super().__init__(index, folder, profile, known_after_s=0)
        self.daemons: dict[str, DuxOSDaemon[Any]] = {}
        self.flopd = MethodTable(log=LOG, clock=SystemClock(), randomness=SeededRandomness(index))
        chain.serve(self.flopd)

    def make(self) -> P2pDaemon:
        return P2pDaemon(self.settings, self.profile, log=LOG, neighbours=self.caller("p2pd"))

    def caller(self, caller: str) -> Any:
        """How a daemon of this node reaches its neighbours."""

        def client(daemon: str) -> Client:
            if daemon == "p2pd":
                return self.as_caller(caller)
            return LocalClient(self.flopd if daemon == "flopd" else self.daemons[daemon].parts.table, caller)

        return client

    def client(self, daemon: str, caller: str = "cli") -> LocalClient:
        """A caller's client of a daemon of this node."""
        return LocalClient(self.daemons[daemon].parts.table, caller)

    @contextlib.asynccontextmanager
    async def market(self) -> AsyncIterator[MarketNode]:
        """Registryd and stored, running."""
        async with asyncio.TaskGroup() as group:
            for kind in (RegistryDaemon, StoreDaemon):
                settings = kind.settings_type(
                    network_profile="",
                    data_dir=str(self.folder / "data"),
                    run_dir=str(self.folder / "run"),
                    port_base=self.base,
                    **SETTINGS[kind.name],
                )
                daemon: DuxOSDaemon[Any] = kind(
                    settings,  # type: ignore[arg-type]
                    self.profile,
                    log=LOG,
                    neighbours=self.caller(kind.name),
                    store_in_memory=True,
                )
                self.daemons[kind.name] = daemon
                ready = asyncio.Event()
                group.create_task(daemon.run(ready))
                await ready.wait()
            try:
                yield self
            finally:
                for daemon in self.daemons.values():
                    daemon.stopping.set()

    async def sign(self, value: SettledReceipt) -> bytes:
        """A receipt signed as this node's taskd does."""
        by = await self.as_caller("taskd").call(
            p2p.IDENTITY_SIGN, p2p.Sign(purpose=Purpose.SETTLED_RECEIPT.value, body=canonical(value))
        )
        return canonical(Attested(body=canonical(value), did=by.did, key_seq=by.key_seq, signature=by.signature))


@contextlib.asynccontextmanager
async def nodes(count: int, folder: Path, chain: FakeChain) -> AsyncIterator[list[MarketNode]]:
    """`count` connected nodes, the first one the others' bootstrap node."""
    async with contextlib.AsyncExitStack() as stack:
        first = MarketNode(1, folder / "1", network(), chain)
        known = network(bootstrap=(Bootstrap(address=first.address, did=first.did),))
        made = [first, *(MarketNode(i, folder / str(i), known, chain) for i in range(2, count + 1))]
        for node in made:
            await node.start()
            stack.push_async_callback(node.stop)
        await all_connected(made)  # type: ignore[arg-type]
        for node in made:
            await stack.enter_async_context(node.market())
        yield made


@pytest.mark.timeout(60)
async def test_a_market_of_three_nodes(tmp_path: Path) -> None:
    """Registered, published, found, paid, rated: each node sees it, signatures and all, over the real overlay."""
    chain = FakeChain()
    async with nodes(3, tmp_path, chain) as (seller, buyer, third):
        for node in (seller, buyer):
            wish = RegisterNode(request_id="r", wallet_address=WALLET)
            await node.client("registryd").call(registry.NODE_REGISTER, wish)
        await until(lambda: _active(third, {seller.did, buyer.did}), within_s=15)
        offer = PublishService(
            request_id="p", slug="upscale", name="Image Upscaler", kind="check", price_florins=Florins(1_000_000_000)
        )
        mine = await seller.client("stored").call(contract.SERVICE_PUBLISH, offer)
        await until(lambda: _found(third, 0.0), within_s=15)
        chain.settle(TXID, 100, 50_000_000)
        chain.height = 110
        for node in (seller, buyer):
            paid = receipt(buyer=buyer.did, seller=seller.did, signer=node.did, service_id=mine.id, at_ms=_now())
            submit = SubmitReceipt(request_id="s", receipt=await node.sign(paid))
            verdict = await node.client("registryd", "taskd").call(registry.REPUTATION_SUBMIT, submit)
            assert verdict.state is ReceiptState.SETTLED
        rate = RateService(request_id="rate", cid=Hash32(receipt().cid), stars=5, review="sharp")
        await buyer.client("stored").call(contract.SERVICE_RATE, rate)
        await until(lambda: _found(third, 5.0), within_s=15)
        await until(lambda: _scored(third, seller), within_s=15)
        chain.height = 400
        await until(lambda: _seen(seller, seller), within_s=15)
        chain.height = 410  # the slot is over: a third node learns who saw the seller in it, and checks the signatures
        await until(lambda: _seen(third, seller), within_s=15)
        chain.height = 420  # and those sightings have had their time: they tell in which network the seller is
        await until(lambda: _in_network(third, seller, "127.1.1.0/24"), within_s=15)
        await until(lambda: _in_network(third, buyer, "127.1.2.0/24"), within_s=15)
        await _banned(third, buyer)


async def _banned(node: MarketNode, other: MarketNode) -> None:
    """A banned node's session ends, neither end can make a new one; lifted, they meet again."""
    client = node.client("registryd")
    ban = Ban(request_id="b", node_id=other.did, reason="sends junk")
    await client.call(registry.NODE_BAN, ban)
    await until(lambda: _parted(node, other), within_s=10)
    ask = p2p.PeerCall(
        did=other.did, method=NODES_SYNC.name, params=canonical(NodesAsk(after=0, limit=1)), deadline_ms=5_000
    )
    with pytest.raises(DuxError):
        await node.as_caller("registryd").call(p2p.PEER_CALL, ask)
    back = msgspec.structs.replace(ask, did=node.did)
    with pytest.raises(DuxError):
        await other.as_caller("registryd").call(p2p.PEER_CALL, back)
    await client.call(registry.NODE_UNBAN, Unban(request_id="u", node_id=other.did))

    async def answers() -> bool:
        with contextlib.suppress(DuxError):
            return bool((await other.as_caller("registryd").call(p2p.PEER_CALL, back)).result)
        return False

    await until(answers, within_s=20)


async def _parted(node: MarketNode, other: MarketNode) -> bool:
    found = await node.as_caller("cli").call(p2p.P2P_PEERS, Empty())
    return other.did not in {peer.did for peer in found.peers}


async def _seen(node: MarketNode, seller: MarketNode) -> bool:
    asked = PresenceAsked(node_id=seller.did)
    view = await node.client("registryd").call(registry.PRESENCE_SHOW, asked)
    return any(slot.slot == 40 and slot.up for slot in view.slots)


async def _in_network(node: MarketNode, other: MarketNode, net: str) -> bool:
    seen = await node.client("registryd").call(EVIDENCE_SEEN, SeenAsked(height=420, days=1, day_blocks=1_440))
    return {one.did: one.net for one in seen.nodes}.get(other.did) == net


def _now() -> int:
    now = SystemClock().unix_ms()
    assert now > NOW_MS
    return now


async def _active(node: MarketNode, dids: set[str]) -> bool:
    found = await node.client("registryd").call(registry.NODE_LIST, ListNodes(status=NodeStatus.ACTIVE))
    return dids <= {view.node_id for view in found.nodes}


async def _found(node: MarketNode, least: float) -> bool:
    result = await node.client("stored").call(
        contract.SERVICE_SEARCH, SearchServices(text="upscaler", min_rating=least)
    )
    return [view.slug for view in result.services] == ["upscale"]


async def _scored(node: MarketNode, seller: MarketNode) -> bool:
    name = registry.NodeName(node_id=seller.did)
    return (await node.client("registryd").call(registry.REPUTATION_GET, name)).score > 0.9
