"""registryd whole, on a small network at the contract: real daemons, real signatures, no wire."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from common.chain.address import pay_to_key, script_to_address
from common.chain.params import EMBEDDED, FLOPCOIN_TEST
from common.chain.script import BRANCH_ARBITERS
from common.codec import canonical
from common.contracts import registry
from common.contracts.base import GOSSIP_HANDLE, EventsSince, GossipIn
from common.contracts.peer_registry import TOPIC_HEARTBEAT, TOPIC_NODE, TOPIC_RECEIPT
from common.contracts.registry import (
    AskOpinion,
    BadNode,
    BadReceipt,
    ContractName,
    Deregister,
    EvidenceWindow,
    FindNodes,
    ListNodes,
    NodeName,
    NodeStatus,
    NoTip,
    NotOwnNode,
    NotRegistered,
    ReceiptNotTaken,
    ReceiptsSince,
    ReceiptState,
    RegisterNode,
    SubmitReceipt,
    UpdateHealth,
)
from common.errors import BadParams, NotFound, NotPermitted
from common.identity.ecvrf import public_of
from common.identity.purposes import Purpose
from common.keygen import PAYOUT_FILE
from common.receipts import (
    Heartbeat,
    LotKeys,
    NodeInfo3,
    Outcome,
    SettledReceipt,
    attested,
    body_of,
    described,
    facts_id,
    receipt_in,
    without_key,
)
from common.rpc.client import LocalClient
from common.rpc.method import Empty
from common.units import FLOP, BlockHeight, Florins, Hash32
from dux_registryd import upkeep, waiting_room
from dux_registryd.daemon import RegistryDaemon, paid_at
from dux_registryd.finder import INDEX_AGE_S
from dux_registryd.machine import Machine
from dux_registryd.settings import RegistrydSettings
from dux_registryd.store import Book
from dux_registryd.upkeep import Announcer
from tests.attacks.registry import attack
from tests.market.fakes import LOG, FakeNet, FakeNode, attest, did_number, look_seed, running, until
from tests.market.keyed import LOT, OTHER_LOT, keyed, spend
from tests.market.makers import changed, heartbeat, lost, node, receipt

WALLET = "mzBc4XEFSdzCDcTxAgf6EZXgsZWpztRhef"
QUICK: dict[str, Any] = {"heartbeat_s": 0.1, "check_s": 0.03, "sync_s": 0.05, "announce_s": 60.0}
TXID = "cd" * 32
TAX = 50_000_000
CID_2 = b"\x02" * 32


def register(request_id: str = "r", **changes: Any) -> RegisterNode:
    """The specification's machine."""
    fields: dict[str, Any] = {
        "wallet_address": WALLET,
        "ip_address": "192.168.1.100",
        "hostname": "my-node",
        "os_version": "22.04",
        "duxos_version": "1.0.0",
        "cpu_cores": 8,
        "memory_mb": 16_384,
        "storage_gb": 500,
        "gpu_enabled": True,
        "gpu_model": "NVIDIA RTX 3080",
        "region": "eu",
    }
    return RegisterNode(request_id=request_id, **fields | changes)


def paid(buyer: int, seller: int, signer: int, **changes: Any) -> bytes:
    """A signed receipt of a release of 10 FLOP between two nodes of the fake network."""
    made = receipt(buyer=did_number(buyer), seller=did_number(seller), signer=did_number(signer), **changes)
    return canonical(attest(signer, Purpose.SETTLED_RECEIPT, made))


def taken_back(buyer: int, seller: int, signer: int, **changes: Any) -> bytes:
    """A signed receipt of an award of everything to the buyer."""
    made = lost(buyer=did_number(buyer), seller=did_number(seller), signer=did_number(signer), **changes)
    return canonical(attest(signer, Purpose.SETTLED_RECEIPT, made))


async def submit(client: LocalClient, data: bytes, request_id: str = "s") -> ReceiptState:
    """Hand a receipt in as taskd does."""
    taskd = LocalClient(client._table, "taskd")
    return (await taskd.call(registry.REPUTATION_SUBMIT, SubmitReceipt(request_id=request_id, receipt=data))).state


async def score(client: LocalClient, number: int) -> float:
    """Q of a node as this registry tells it."""
    return (await client.call(registry.REPUTATION_GET, NodeName(node_id=did_number(number)))).score


async def test_a_registered_node_is_known_to_the_others(tmp_path: Path) -> None:
    """What one node registers, the other lists, with the same figures, active after its first heartbeat."""
    net = FakeNet()
    async with (
        running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one,
        running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two,
    ):
        view = await one.call(registry.NODE_REGISTER, register())
        assert (view.node_id, view.own, view.memory_gb, view.gpu_enabled) == (did_number(1), True, 16.0, True)
        assert view.capabilities == ("api_hosting", "gpu_declared", "task_execution")

        async def seen() -> Any:
            listed = (await two.call(registry.NODE_LIST, ListNodes(status=NodeStatus.ACTIVE))).nodes
            return listed[0] if listed else None

        other = await until(seen)
        assert not other.own
        assert (other.hostname, other.cpu_cores, other.storage_gb) == ("my-node", 8, 500)
        assert other.last_heartbeat == "2026-09-21T14:13:20Z"
        assert other.tier == 1
        index = await two.call(registry.NODE_CAPABILITIES, Empty())
        assert index.capabilities["gpu_declared"] == (did_number(1),)
        assert ("registered", did_number(1)) in net.dht
        assert ("capability", "gpu_declared") in net.dht


async def test_a_gpu_is_seen_by_its_node_or_declared_and_told_apart(tmp_path: Path, gpu_here: dict[str, str]) -> None:
    """None here and none named: refused, saying what to do. Named: declared. Found by the node: seen."""
    net = FakeNet()
    async with (
        running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one,
        running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two,
    ):
        for number, wish in enumerate(({"gpu_enabled": True, "gpu_model": ""}, {"capabilities": ("GPU",)})):
            bare = RegisterNode(request_id=f"b{number}", wallet_address=WALLET, **wish)
            with pytest.raises(BadNode, match="--gpu-model"):
                await one.call(registry.NODE_REGISTER, bare)
        named = RegisterNode(request_id="n", wallet_address=WALLET, capabilities=("gpu", "api"), gpu_model="RTX 3080")
        view = await one.call(registry.NODE_REGISTER, named)
        assert (view.gpu_enabled, view.gpu_seen, view.capabilities) == (True, False, ("api", "gpu_declared"))
        await until(lambda: _finds(two, "gpu_declared"))
        assert not await _finds(two, "gpu")
        gpu_here["model"] = "NVIDIA 0x2206"
        view = await one.call(registry.NODE_REGISTER, RegisterNode(request_id="s", region="eu"))
        assert (view.gpu_model, view.gpu_seen, view.capabilities) == ("RTX 3080", True, ("api", "gpu"))
        await until(lambda: _finds(two, "gpu"))
        found = (await two.call(registry.NODE_SHOW, NodeName(node_id=did_number(1)))).gpu_seen
        assert (found, await _finds(two, "gpu_declared")) == (True, False)
        view = await one.call(registry.NODE_REGISTER, RegisterNode(request_id="o", gpu_enabled=False))
        assert (view.gpu_enabled, view.gpu_seen, view.capabilities) == (False, False, ("api",))
        view = await one.call(registry.NODE_REGISTER, RegisterNode(request_id="y", gpu_enabled=True))
        assert (view.gpu_model, view.gpu_seen) == ("NVIDIA 0x2206", True)


async def _finds(client: LocalClient, capability: str) -> bool:
    return (await client.call(registry.NODE_FIND, FindNodes(capabilities=(capability,)))).total == 1


async def test_a_late_node_learns_by_asking(tmp_path: Path) -> None:
    """A node that was away when it was told learns of nodes and receipts from a peer."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        await one.call(registry.NODE_REGISTER, register())
        net.chain.settle(TXID, 100, TAX)
        net.chain.height = 110
        assert await submit(one, paid(5, 1, 1)) is ReceiptState.SETTLED
        async with running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two:
            await until(lambda: _known(two, 1))
            await until(lambda: _scored(two, 1, 0.9))


async def _known(client: LocalClient, number: int) -> bool:
    try:
        await client.call(registry.NODE_SHOW, NodeName(node_id=did_number(number)))
    except NotFound:
        return False
    return True


async def _scored(client: LocalClient, number: int, least: float) -> bool:
    return await score(client, number) >= least


async def test_an_unknown_node_is_found_in_the_dht(tmp_path: Path) -> None:
    """`show` of a node that nobody told us of finds its record; one that is nowhere is not found."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        await one.call(registry.NODE_REGISTER, register())
        await until(lambda: net.dht.get(("registered", did_number(1))))
    async with running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two:
        assert (await two.call(registry.NODE_SHOW, NodeName(node_id=did_number(1)))).hostname == "my-node"
        with pytest.raises(NotFound):
            await two.call(registry.NODE_SHOW, NodeName(node_id=did_number(3)))


@attack("registry", tries="registers another's name, or a foreign coin's address", meets="refused, with what to do")
async def test_nobody_registers_another(tmp_path: Path) -> None:
    """Another's name, a 0x address and a foreign coin's address are refused, each saying what to do."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        with pytest.raises(NotOwnNode):
            await one.call(registry.NODE_REGISTER, register(node_id=did_number(2)))
        with pytest.raises(BadNode, match="Flopcoin address"):
            await one.call(registry.NODE_REGISTER, register(wallet_address="0x" + "1" * 40))
        with pytest.raises(BadNode, match="another network"):
            await one.call(registry.NODE_REGISTER, register(wallet_address="1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"))
        with pytest.raises(BadNode, match="IP address"):
            await one.call(registry.NODE_REGISTER, register(ip_address="here"))
        with pytest.raises(BadNode, match="32"):
            await one.call(registry.NODE_REGISTER, register(region="e" * 33))
        with pytest.raises(NotRegistered):
            await one.call(registry.NODE_SELF, Empty())
        with pytest.raises(NotPermitted):
            await LocalClient(one._table, "taskd").call(registry.NODE_REGISTER, register())


async def test_the_same_request_registers_once(tmp_path: Path) -> None:
    """Repeating a register with its request_id gives the first answer and announces nothing new."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        first = await one.call(registry.NODE_REGISTER, register())
        held = one_signed(net.node(1))
        assert await one.call(registry.NODE_REGISTER, register()) == first
        assert one_signed(net.node(1)) == held
        again = await one.call(registry.NODE_REGISTER, register("r2", cpu_cores=4, gpu_enabled=False, gpu_model=""))
        assert (again.cpu_cores, again.gpu_enabled) == (4, False)
        await until(lambda: not net.dht.get(("capability", "gpu_declared")))


def one_signed(node_: FakeNode) -> Any:
    """The node's own description as signed."""
    store = node_.daemons["registryd"].parts.table.store
    assert store is not None
    row = store.row("SELECT body FROM nodes WHERE did = ?", node_.did)
    return bytes(row["body"]) if row else None


async def test_health_is_told_in_a_heartbeat(tmp_path: Path) -> None:
    """update-health reaches the other node; without a chain there is no block to name, so it waits."""
    net = FakeNet()
    calm = QUICK | {"heartbeat_s": 60.0}
    async with (
        running(net.node(1), RegistryDaemon, tmp_path, **calm) as one,
        running(net.node(2), RegistryDaemon, tmp_path, **calm) as two,
    ):
        health = UpdateHealth(request_id="h", load_average=0.5, memory_usage=65.5, disk_usage=45.2)
        with pytest.raises(NotRegistered):
            await one.call(registry.NODE_UPDATE_HEALTH, health)
        await one.call(registry.NODE_REGISTER, register())
        await until(lambda: _known(two, 1))
        await until(lambda: (TOPIC_HEARTBEAT.name, did_number(2), "accept") in net.gossip)
        await one.call(registry.NODE_UPDATE_HEALTH, health)
        view = await two.call(registry.NODE_SHOW, NodeName(node_id=did_number(1)))
        assert (view.load_average[0], view.memory_usage, view.disk_usage) == (0.5, 65.5, 45.2)
        net.chain.up = False
        with pytest.raises(NoTip):
            await one.call(registry.NODE_UPDATE_HEALTH, UpdateHealth(request_id="h2", load_average=9.0))
        with pytest.raises(BadParams):
            await one.call(registry.NODE_UPDATE_HEALTH, UpdateHealth(request_id="h3", memory_usage=101.0))


async def test_a_deregistered_node_leaves_and_does_not_come_back(tmp_path: Path) -> None:
    """It is gone here and there; its older description, told again by anybody, is ignored."""
    net = FakeNet()
    async with (
        running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one,
        running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two,
    ):
        await one.call(registry.NODE_REGISTER, register())
        await until(lambda: _known(two, 1))
        old = one_signed(net.node(1))
        await one.call(registry.NODE_DEREGISTER, Deregister(request_id="d"))
        assert (await one.call(registry.NODE_LIST, ListNodes())).total == 0
        await until(lambda: _unknown(two, 1))
        assert await gossip(net.node(2), TOPIC_NODE.name, old) == "ignore"
        assert not await _known(two, 1)
        with pytest.raises(NotRegistered):
            await one.call(registry.NODE_DEREGISTER, Deregister(request_id="d2"))


async def _unknown(client: LocalClient, number: int) -> bool:
    return not await _known(client, number)


async def gossip(target: FakeNode, topic: str, payload: bytes) -> str:
    """What a node answers to a gossip message."""
    message = GossipIn(topic=topic, payload=payload, sender=did_number(30), key_seq=0, seq_ms=0)
    return (await target.client("registryd", "p2pd").call(GOSSIP_HANDLE, message)).verdict


@pytest.mark.parametrize("case", ["recovered", "rotated long ago"])
@attack(
    "registry",
    tries="signs descriptions and heartbeats with a key that its owner has replaced, dated back into that key's time",
    meets="not taken: new business asks for a key in use; the owner's node signs its description anew",
)
async def test_a_replaced_key_says_nothing_new_of_a_node(tmp_path: Path, case: str) -> None:
    """The owner's own description, signed by the old key, is offered under the new one at the next turn."""
    net, recovered = FakeNet(), case == "recovered"
    quick = QUICK | {"announce_s": 0.05, "heartbeat_s": 60.0}
    async with (
        running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two,
        running(net.node(1), RegistryDaemon, tmp_path, **quick) as one,
    ):
        await one.call(registry.NODE_REGISTER, register())
        await until(lambda: _known(two, 1))
        net.clock.advance(60)
        back_ms = net.clock.unix_ms() - 1_000
        info = node(did=did_number(1), at_ms=back_ms, wallet_address=WALLET, hostname="thief")
        beat = heartbeat(did=did_number(1), at_ms=back_ms)
        net.node(1).cut = True
        net.node(1).change_key(recovered=recovered)
        net.clock.advance(1 if recovered else 25 * 3_600)
        for topic, purpose, value in (
            (TOPIC_NODE, Purpose.REGISTRATION, info),
            (TOPIC_HEARTBEAT, Purpose.HEARTBEAT, beat),
        ):
            assert await gossip(net.node(2), topic.name, canonical(attest(1, purpose, value))) == "reject"
        net.node(1).cut, name = False, ("registered", did_number(1))
        await until(lambda: attested(net.dht[name][did_number(1)].payload).key_seq == 1)
        assert described(attested(net.dht[name][did_number(1)].payload)).info.hostname == "my-node"
        async with running(net.node(3), RegistryDaemon, tmp_path, **QUICK) as three:
            await until(lambda: _known(three, 1))


async def test_who_registers_before_the_chain_is_seen_has_its_key_counted_from_the_last_tip_kept(
    tmp_path: Path,
) -> None:
    """After a start with the wallet away; and not from the first block on."""
    net = FakeNet()
    net.chain.up = False
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        store = net.node(1).daemons["registryd"].parts.table.store
        with store.transaction() as tx:
            Book(store).set_last_tip(tx, 5_000, "00" * 32)
        await one.call(registry.NODE_REGISTER, register())
        assert [since for _, since in Book(store).look_keys().values()] == [5_000]


async def test_another_look_key_is_told_by_itself_and_none_of_a_node_that_left(tmp_path: Path) -> None:
    """A node whose key file was lost registers anew with the next one; what is withdrawn stays withdrawn."""
    net, quick = FakeNet(), QUICK | {"announce_s": 0.05}
    async with running(net.node(1), RegistryDaemon, tmp_path, **quick) as one:
        await one.call(registry.NODE_REGISTER, register())
        name = ("registered", did_number(1))

        def told() -> NodeInfo3:
            return described(attested(net.dht[name][did_number(1)].payload))

        await until(lambda: name in net.dht)
        first = told()
        assert first.look_key == public_of(look_seed(1))
        net.clock.advance(1)
        net.node(1).look_seed = look_seed(20)
        await until(lambda: told().look_key == public_of(look_seed(20)))
        assert told().info == msgspec.structs.replace(first.info, at_ms=told().info.at_ms)
        await one.call(registry.NODE_DEREGISTER, registry.Deregister(request_id="gone"))
        await until(lambda: told().info.withdrawn)
        gone = told()
        await asyncio.sleep(0.3)
        assert told() == gone


async def test_silence_is_noticed_and_told(tmp_path: Path) -> None:
    """A node that stops beating turns stale and then offline; whoever reads the events is told."""
    net = FakeNet()
    async with running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two:
        async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
            await one.call(registry.NODE_REGISTER, register())
            await until(lambda: _told(two, "active"))
        net.clock.advance(181)
        await until(lambda: _told(two, "stale"))
        assert await _status(two, NodeStatus.STALE)
        net.clock.advance(3_600)
        await until(lambda: _told(two, "offline"))
        assert await _status(two, NodeStatus.OFFLINE)


async def _told(client: LocalClient, status: str) -> bool:
    page = await client.call(registry.REGISTRY_EVENTS, EventsSince())
    return bool(page.events) and page.events[-1].body == {"node_id": did_number(1), "status": status}


async def _status(client: LocalClient, status: NodeStatus) -> bool:
    return (await client.call(registry.NODE_LIST, ListNodes(status=status))).total == 1


async def test_a_paid_job_moves_a_reputation_once_the_chain_shows_it(tmp_path: Path) -> None:
    """Pending while unseen or shallow, settled when two blocks deep (demo), 0.5 to 0.9; told to the other node."""
    net = FakeNet()
    async with (
        running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one,
        running(net.node(2), RegistryDaemon, tmp_path, **QUICK) as two,
    ):
        assert await submit(one, paid(5, 1, 1)) is ReceiptState.PENDING
        assert await score(one, 1) == 0.5
        net.chain.settle(TXID, 100, TAX)
        net.chain.height = 101
        await until(lambda: _scored(one, 1, 0.9))
        await until(lambda: _scored(two, 1, 0.9))
        shown = await two.call(registry.RECEIPT_SHOW, ContractName(cid=Hash32(receipt().cid)))
        assert (shown.state, shown.signed_by) == (ReceiptState.SETTLED, (did_number(1),))
        reputation = await two.call(registry.REPUTATION_GET, NodeName(node_id=did_number(1)))
        assert sum(line.good_florins for line in reputation.evidence) == reputation.good_florins == TAX
        assert reputation.jobs_done == 1
        since = await one.call(registry.RECEIPTS_SINCE, ReceiptsSince())
        assert [view.cid for view in since.receipts] == [receipt().cid]
        again = await one.call(registry.RECEIPTS_SINCE, ReceiptsSince(after_cursor=since.next_cursor))
        assert again.receipts == ()
        assert (await one.call(registry.REGISTRY_STATUS, Empty())).receipts == {"settled": 1}


async def test_without_a_chain_receipts_wait_and_nothing_is_lost(tmp_path: Path) -> None:
    """A receipt handed in while the wallet is away is pending; when it is back the receipt settles by itself."""
    net = FakeNet()
    net.chain.settle(TXID, 100, TAX)
    net.chain.height = 101
    net.chain.up = False
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        await one.call(registry.NODE_REGISTER, register())
        assert await submit(one, paid(5, 1, 1)) is ReceiptState.PENDING
        assert (await one.call(registry.REGISTRY_STATUS, Empty())).tip_height is None
        assert (await one.call(registry.NODE_SELF, Empty())).last_heartbeat == ""
        net.chain.up = True
        await until(lambda: _scored(one, 1, 0.9))
        await until(lambda: _beating(one))


async def _beating(client: LocalClient) -> bool:
    return bool((await client.call(registry.NODE_SELF, Empty())).last_heartbeat)


@attack("registry", tries="nodes and claims without end", meets="bounded; what is known is still served")
async def test_a_full_registry_takes_nobody_new(tmp_path: Path) -> None:
    """Above its bounds unknown nodes and new claims are ignored, and what is known is still served."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, nodes_max=1, receipts_pending_max=1, **QUICK) as one:
        target = net.node(1)
        for number, verdict in ((2, "accept"), (3, "ignore"), (2, "ignore")):
            told = attest(number, Purpose.REGISTRATION, node(did=did_number(number), wallet_address=WALLET))
            assert await gossip(target, TOPIC_NODE.name, canonical(told)) == verdict
        net.chain.up = False  # nobody has looked for what waits
        assert await gossip(target, TOPIC_RECEIPT.name, paid(5, 1, 1)) == "accept"
        assert await gossip(target, TOPIC_RECEIPT.name, paid(5, 1, 1)) == "ignore"
        with pytest.raises(ReceiptNotTaken, match="too many"):
            await submit(one, paid(5, 1, 1, cid=b"\x02" * 32))
        assert await gossip(target, TOPIC_RECEIPT.name, paid(5, 1, 5)) == "accept"


@attack(
    "registry",
    tries="a crowd of names fills the queue of receipts, with payments that never come or that nobody settles",
    meets="an honest receipt takes the place of one that was looked for in vain, and settles",
)
async def test_a_crowd_in_the_queue_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many names as places, none of them seen anywhere; a forged word takes nobody's place."""
    monkeypatch.setattr(waiting_room, "READ_AGAIN_S", 0.0)
    net = shown()
    net.chain.settle("ce" * 32, 100, TAX)
    async with running(net.node(1), RegistryDaemon, tmp_path, receipts_pending_max=6, **QUICK) as one:
        target = net.node(1)
        for number in range(2, 5):
            junk = paid(number, 9, number, cid=bytes([9, number]) * 16, txid="ee" * 32)
            assert await gossip(target, TOPIC_RECEIPT.name, junk) == "accept"
            slander = taken_back(number, 9, number, cid=bytes([8, number]) * 16, txid="ce" * 32)
            assert await gossip(target, TOPIC_RECEIPT.name, slander) == "accept"
        book = Book(target.daemons["registryd"].parts.table.store)
        await until(lambda: all(idle for _, _, idle in book.waiting()))
        forged = changed(attested(paid(5, 1, 1)), signature=b"s" * 64)
        assert await gossip(target, TOPIC_RECEIPT.name, canonical(forged)) == "reject"
        assert await _has(one, {"pending": 6})
        assert await gossip(target, TOPIC_RECEIPT.name, paid(5, 1, 1)) == "accept"
        await until(lambda: _scored(one, 1, 0.9))
        assert await _has(one, {"settled": 1, "pending": 5})
        assert await submit(one, paid(5, 6, 6, cid=CID_2, txid="ce" * 32), "no seat needed") is ReceiptState.SETTLED


@attack(
    "registry",
    tries="names of one network, and names that nobody has seen, fill the queue before anything in it is looked for",
    meets="whoever takes most gives way: networks that others see first, and within one by names",
)
async def test_who_takes_most_of_the_queue_gives_way(tmp_path: Path) -> None:
    """Nothing is looked for while the chain is away; then only shares count."""
    net = shown()
    nets = {did_number(2): "198.51.100.0/24", did_number(3): "198.51.100.0/24", did_number(5): "203.0.113.0/24"}
    settings = {"receipts_pending_max": 6, **QUICK}
    async with running(net.node(1), RegistryDaemon, tmp_path, **settings) as one:
        target = net.node(1)
        daemon = target.daemons["registryd"]
        net.chain.up = False
        daemon.intake.room.net_of = lambda name: nets.get(name, "")

        async def tells(teller: int, *numbers: int) -> list[str]:
            words = [paid(teller, 9, teller, cid=bytes([teller, number]) * 16, txid="ee" * 32) for number in numbers]
            return [await gossip(target, TOPIC_RECEIPT.name, word) for word in words]

        book = Book(daemon.parts.table.store)

        def held() -> dict[str, int]:
            return {name: count for name, count, _ in book.waiting()}

        assert await tells(2, *range(4)) == ["accept"] * 4
        assert await tells(4, *range(3)) == ["accept", "accept", "ignore"]
        assert await tells(5, 0, 1) == ["accept", "accept"]
        assert held() == {did_number(2): 4, did_number(5): 2}
        assert await tells(3, 0) == ["accept"]
        assert held() == {did_number(2): 3, did_number(3): 1, did_number(5): 2}
        assert await tells(5, 2, 3) == ["accept", "ignore"]
        assert held() == {did_number(2): 2, did_number(3): 1, did_number(5): 3}
        assert await _has(one, {"pending": 6})


@attack("registry", tries="a receipt whose payment gives the fund less than its part", meets="counts nothing")
@pytest.mark.parametrize("tax", [0, TAX - 1])
async def test_a_payment_that_skips_the_fund_counts_nothing(tmp_path: Path, tax: int) -> None:
    """A transaction without the fund's exact part settles no receipt."""
    net = FakeNet()
    net.chain.settle(TXID, 100, tax)
    net.chain.height = 101
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, paid(5, 1, 1)) is ReceiptState.REFUSED
        assert await score(one, 1) == 0.5


@attack("registry", tries="one payment named by two contracts", meets="counts once")
async def test_one_payment_is_not_counted_for_two_contracts(tmp_path: Path) -> None:
    """A second contract that names a settled contract's transaction is refused."""
    net = FakeNet()
    net.chain.settle(TXID, 100, TAX)
    net.chain.height = 101
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, paid(5, 1, 1)) is ReceiptState.SETTLED
        assert await submit(one, paid(4, 3, 3, cid=b"\x02" * 32), "t") is ReceiptState.REFUSED
        assert await score(one, 3) == 0.5


@attack("registry", tries="a stranger's payment as one's own, told first", meets="gives way to both parties' words")
@pytest.mark.parametrize("cid", [b"\x02" * 32, b"\x01" * 32])
async def test_a_thief_who_tells_first_gives_way_to_the_parties(tmp_path: Path, cid: bytes) -> None:
    """Told by one name, a stolen payment, or a stolen contract, counts only until both parties have told of theirs."""
    net = FakeNet()
    net.chain.settle(TXID, 100, TAX)
    net.chain.height = 101
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, paid(4, 3, 3, cid=cid), "thief") is ReceiptState.SETTLED
        assert await submit(one, paid(5, 1, 1), "seller") is ReceiptState.REFUSED
        assert await submit(one, paid(5, 1, 5), "buyer") is ReceiptState.SETTLED
        assert await submit(one, paid(6, 3, 3, cid=cid), "again") is ReceiptState.REFUSED
        await until(lambda: _scored(one, 1, 0.9))
        assert await score(one, 3) == 0.5
        assert (await one.call(registry.REGISTRY_STATUS, Empty())).receipts == {"settled": 1, "refused": 2}


def under_key(buyer: int, seller: int, signer: int, lot: LotKeys = LOT, **changes: Any) -> bytes:
    """A signed receipt as `paid`, under the signer's key of the lot, too."""
    made = receipt(buyer=did_number(buyer), seller=did_number(seller), signer=did_number(signer), **changes)
    return canonical(attest(signer, Purpose.SETTLED_RECEIPT, keyed(made, lot)))


def shown(height: int = 101) -> FakeNet:
    """A network whose chain has the spend of a lot at height 100."""
    net = FakeNet()
    net.chain.settle(TXID, 100, TAX, spend(LOT))
    net.chain.height = height
    return net


@attack(
    "registry",
    tries="a stranger's payment as one's own, by two names, told first",
    meets="gives way to receipts under the keys of the spent script",
)
@pytest.mark.parametrize("cid", [b"\x02" * 32, b"\x01" * 32])
async def test_two_names_who_tell_first_give_way_to_the_keys(tmp_path: Path, cid: bytes) -> None:
    """A thief pair counts only until an owner has told under its key; what it had by it falls."""
    net = shown()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, paid(4, 3, 3, cid=cid), "thief") is ReceiptState.SETTLED
        assert await submit(one, paid(4, 3, 4, cid=cid), "friend") is ReceiptState.SETTLED
        await until(lambda: _scored(one, 3, 0.9))
        assert await submit(one, under_key(5, 1, 1), "seller") is ReceiptState.SETTLED
        await until(lambda: _scored(one, 1, 0.9))
        assert await score(one, 3) == 0.5
        assert await submit(one, under_key(5, 1, 5), "buyer") is ReceiptState.SETTLED
        assert await submit(one, paid(6, 3, 3, cid=cid), "again") is ReceiptState.REFUSED
        assert await submit(one, paid(6, 3, 6, cid=cid), "friend again") is ReceiptState.REFUSED
        assert (await one.call(registry.REGISTRY_STATUS, Empty())).receipts == {"settled": 1, "refused": 2}


@attack(
    "registry",
    tries="a stranger's payment under made-up keys, or as a party that names a friend in the other's place",
    meets="keys that the spent script does not show are not heard; both keys weigh more than one",
)
async def test_other_keys_are_not_heard_and_one_is_less_than_two(tmp_path: Path) -> None:
    """Strange keys are refused, also beside an honest word; the buyer's false story gives way to the seller's key."""
    net = shown()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, under_key(4, 3, 3, OTHER_LOT), "thief") is ReceiptState.REFUSED
        assert await submit(one, under_key(4, 3, 4, OTHER_LOT), "friend") is ReceiptState.REFUSED
        assert await submit(one, under_key(5, 3, 5), "false buyer") is ReceiptState.SETTLED
        assert await submit(one, under_key(5, 1, 1), "seller") is ReceiptState.SETTLED
        assert await submit(one, under_key(6, 1, 1, cid=b"\x03" * 32), "the same twice") is ReceiptState.REFUSED
        await until(lambda: _scored(one, 1, 0.9))
        assert await score(one, 3) == 0.5


@attack(
    "registry",
    tries="an award of a part told as a release at that price, under the seller's key and without any",
    meets="the branch by which its lot was taken: refused, saying why; the award settles by the buyer's word",
)
async def test_an_award_is_not_told_as_a_release(tmp_path: Path) -> None:
    """The seller tells first, and in every way; only what the spend can have been counts, by whoever tells it."""
    net = FakeNet()
    net.chain.settle(TXID, 100, TAX, spend(LOT, branch=BRANCH_ARBITERS))
    net.chain.height = 101
    price = {"price_florins": Florins(20 * FLOP)}
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        for number, lie in enumerate((paid(5, 1, 1), under_key(5, 1, 1), under_key(5, 1, 1, cid=CID_2))):
            assert await submit(one, lie, f"lie {number}") is ReceiptState.REFUSED
        found = await one.call(registry.RECEIPT_SHOW, ContractName(cid=Hash32(receipt().cid)))
        assert found.reason == "its lot was taken by a party with the arbiters: that is awarded, not released"
        truth = under_key(5, 1, 5, outcome=Outcome.AWARDED, **price)
        assert await submit(one, truth, "buyer") is ReceiptState.SETTLED
        assert await score(one, 1) < 0.6


@attack(
    "registry",
    tries="an own payment under a stranger's contract id, told first",
    meets="other keys, another contract: both count",
)
async def test_a_contract_id_that_somebody_else_took_is_no_hindrance(tmp_path: Path) -> None:
    """Ids are typed, keys are on the chain: the thief's costs its tax, and takes nothing from the owners."""
    net = shown()
    net.chain.settle("ce" * 32, 100, TAX, spend(OTHER_LOT))
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        for signer in (3, 4):
            squat = under_key(4, 3, signer, OTHER_LOT, txid="ce" * 32)
            assert await submit(one, squat, f"thief {signer}") is ReceiptState.SETTLED
        for signer in (1, 5):
            assert await submit(one, under_key(5, 1, signer), f"owner {signer}") is ReceiptState.SETTLED
        assert (await one.call(registry.REGISTRY_STATUS, Empty())).receipts == {"settled": 2}


@attack(
    "registry",
    tries="receipts of payments that never come, more than a registry looks up at once",
    meets="it goes round: each that waits is looked at in its turn",
)
async def test_receipts_that_wait_keep_no_other_from_being_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Junk waits for a day, and an honest receipt behind it settles within a round; so does one told later."""
    monkeypatch.setattr(upkeep, "CHECKED_AT_ONCE", 2)
    net = shown(102)
    net.chain.settle("ce" * 32, 100, TAX)
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        for number in range(6):
            junk = paid(4, 3, 3, cid=bytes([9, number]) * 16, txid="ee" * 32)
            assert await gossip(net.node(1), TOPIC_RECEIPT.name, junk) == "accept"
        assert await gossip(net.node(1), TOPIC_RECEIPT.name, paid(5, 1, 1)) == "accept"
        await until(lambda: _scored(one, 1, 0.9))
        assert await gossip(net.node(1), TOPIC_RECEIPT.name, paid(5, 6, 6, cid=CID_2, txid="ce" * 32)) == "accept"
        await until(lambda: _scored(one, 6, 0.9))
        assert (await one.call(registry.REGISTRY_STATUS, Empty())).receipts == {"settled": 2, "pending": 6}


@attack("registry", tries="receipts of a height that the chain has not reached", meets="they are not kept")
async def test_a_receipt_of_a_height_to_come_is_not_kept(tmp_path: Path) -> None:
    """Twelve blocks ahead of our chain another's may be; the chain is read anew before more is called too much."""
    net = shown(101)
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        await until(lambda: _checked_at(net.node(1), 101))
        for ahead, word in ((12, "accept"), (13, "ignore")):
            told = paid(4, 3, 3, cid=bytes([ahead]) * 32, height=101 + ahead)
            assert await gossip(net.node(1), TOPIC_RECEIPT.name, told) == word
        net.chain.up = False
        assert await gossip(net.node(1), TOPIC_RECEIPT.name, paid(4, 3, 3, cid=CID_2, height=2_000)) == "accept"
        net.chain.up = True
        await until(lambda: _has(one, {"pending": 1, "refused": 1}))


async def _has(client: LocalClient, counts: dict[str, int]) -> bool:
    return (await client.call(registry.REGISTRY_STATUS, Empty())).receipts == counts


@attack(
    "registry",
    tries="a payment of next to nothing under a stranger's contract id, with its own keys",
    meets="another contract, also where the stranger told without a key",
)
async def test_a_key_of_another_lot_voids_no_receipt_without(tmp_path: Path) -> None:
    """The owners without a key and the thief's dust both count: each has paid its tax."""
    net = shown()
    net.chain.settle("ce" * 32, 100, 1, spend(OTHER_LOT))
    dust = {"txid": "ce" * 32, "price_florins": Florins(20), "gross_florins": Florins(20), "tax_florins": Florins(1)}
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        for signer in (1, 5):
            assert await submit(one, paid(5, 1, signer), f"owner {signer}") is ReceiptState.SETTLED
        assert await submit(one, under_key(4, 3, 3, OTHER_LOT, **dust), "thief") is ReceiptState.SETTLED
        await until(lambda: _scored(one, 1, 0.9))
        assert (await one.call(registry.REGISTRY_STATUS, Empty())).receipts == {"settled": 2}


@attack(
    "registry",
    tries="a stranger's payment as one's own, by two of the network's arbiters who name themselves the parties",
    meets="two names like any others: they give way to the seller's key",
)
async def test_arbiters_do_not_judge_their_own_contract(tmp_path: Path) -> None:
    """Nodes 7 and 8 are the network's arbiters; as parties they are parties."""
    net = shown()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, under_key(5, 1, 1), "seller") is ReceiptState.SETTLED
        for signer in (7, 8):
            assert await submit(one, paid(7, 8, signer), f"thief {signer}") is ReceiptState.REFUSED
        await until(lambda: _scored(one, 1, 0.9))
        assert await score(one, 8) == 0.5


async def test_a_key_may_come_before_its_payment_and_after_its_word(tmp_path: Path) -> None:
    """Told before the chain shows the spend it waits, and weighs nothing till then; a word gets its key later, once."""
    net = FakeNet()
    net.chain.height = 101
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, paid(5, 1, 1), "word") is ReceiptState.PENDING
        assert await submit(one, under_key(5, 1, 1), "key") is ReceiptState.PENDING
        net.chain.settle(TXID, 100, TAX, spend(LOT))
        net.chain.height = 102
        await until(lambda: _scored(one, 1, 0.9))
        assert await submit(one, paid(4, 3, 3, cid=b"\x02" * 32), "thief") is ReceiptState.REFUSED
        assert await submit(one, paid(4, 3, 4, cid=b"\x02" * 32), "friend") is ReceiptState.REFUSED
        sound = keyed(receipt(buyer=did_number(5), seller=did_number(1), signer=did_number(5)))
        forged = canonical(attest(5, Purpose.SETTLED_RECEIPT, changed(sound, lot_signature=b"")))
        with pytest.raises(BadReceipt, match="not signed by the key"):
            await submit(one, forged, "forged")
        found = await one.call(registry.RECEIPT_SHOW, ContractName(cid=Hash32(receipt().cid)))
        assert [receipt_in(attested(data)) for data in found.signed] == [
            keyed(receipt(buyer=did_number(5), seller=did_number(1), signer=did_number(1)))
        ]


async def test_a_key_that_comes_by_gossip_to_a_settled_receipt_is_looked_for(tmp_path: Path) -> None:
    """What the chain has not shown weighs nothing; it is looked for at once, and then nothing displaces it."""
    net = shown()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, paid(5, 1, 1), "word") is ReceiptState.SETTLED
        net.chain.up = False
        word = under_key(5, 1, 1)
        assert [await gossip(net.node(1), TOPIC_RECEIPT.name, word) for _ in range(2)] == ["accept", "ignore"]
        book = Book(net.node(1).daemons["registryd"].parts.table.store)
        told = receipt_in(attested(word))

        def heard() -> tuple[SettledReceipt, ...]:
            claim = book.claim(facts_id(told))
            assert claim is not None
            return claim.told

        assert heard() == (without_key(told),)
        net.chain.up, net.chain.height = True, 102
        await until(lambda: heard() == (told,))


@attack(
    "registry",
    tries="a buyer's receipt alone, to lower a seller",
    meets="counts nothing without the seller's or two arbiters'",
)
async def test_a_buyer_alone_cannot_slander_but_two_arbiters_can_testify(tmp_path: Path) -> None:
    """A job taken back lowers the seller only with the seller's own or two arbiters' receipts."""
    net = FakeNet()
    net.chain.settle(TXID, 100, 0)
    net.chain.height = 101
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, taken_back(5, 3, 5), "a") is ReceiptState.PENDING
        assert await submit(one, taken_back(5, 3, 7), "b") is ReceiptState.PENDING
        assert await score(one, 3) == 0.5
        assert await submit(one, taken_back(5, 3, 8), "c") is ReceiptState.SETTLED
        assert await score(one, 3) < 0.1


@attack(
    "registry",
    tries="a seller takes back what it admitted, by the same word under a key of no lot",
    meets="the key is not heard, the word without it stands; so it does when it is told after the strange one",
)
@pytest.mark.parametrize("strange_first", [False, True])
async def test_a_strange_key_takes_no_word_back(tmp_path: Path, *, strange_first: bool) -> None:
    """Buyer and seller have told of a job that was taken back; under strange keys each is still heard without."""
    net = FakeNet()
    net.chain.settle(TXID, 100, 0, spend(LOT, branch=BRANCH_ARBITERS))
    net.chain.height = 101
    buyers, sellers = taken_back(5, 3, 5), taken_back(5, 3, 3)
    made = lost(buyer=did_number(5), seller=did_number(3), signer=did_number(3))
    strange = canonical(attest(3, Purpose.SETTLED_RECEIPT, keyed(made, OTHER_LOT)))
    words = [buyers, strange, sellers] if strange_first else [buyers, sellers, strange]
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        found = [await submit(one, word, f"word {number}") for number, word in enumerate(words)]
        assert found[-1] is ReceiptState.SETTLED
        assert await score(one, 3) < 0.1
        claim = Book(net.node(1).daemons["registryd"].parts.table.store).claim(facts_id(made))
        assert claim is not None
        assert {told.signer for told in claim.told} == {did_number(3), did_number(5)}
        assert set(claim.words) == set(words)
        assert [await gossip(net.node(1), TOPIC_RECEIPT.name, word) for word in words] == ["ignore"] * 3


async def test_a_reorganisation_takes_a_reputation_back(tmp_path: Path) -> None:
    """When the payment leaves the chain its receipt is pending again and the score falls; back in, it rises."""
    net = FakeNet()
    net.chain.settle(TXID, 100, TAX)
    net.chain.height = 105
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        assert await submit(one, paid(5, 1, 1)) is ReceiptState.SETTLED
        await until(lambda: _scored(one, 1, 0.9))
        await until(lambda: _checked_at(net.node(1), 105))
        net.chain.branch, net.chain.txs = 1, {}
        net.chain.height = 106
        await until(lambda: _fallen(one))
        net.chain.settle(TXID, 100, TAX)
        net.chain.height = 107
        await until(lambda: _scored(one, 1, 0.9))


@attack(
    "registry",
    tries="an own payment under a stranger's contract id, told first, whose block a reorganisation takes away",
    meets="the stranger's receipt, refused for it, is looked at again and counts",
)
async def test_a_claim_comes_back_when_its_winner_leaves_the_chain(tmp_path: Path) -> None:
    """Its own payment lies deep below the reorganisation; the thief's is given up a day later."""
    net = FakeNet()
    net.chain.settle(TXID, 100, TAX)
    net.chain.settle("ce" * 32, 1_000, TAX)
    net.chain.height = 1_005
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        thief = {"txid": "ce" * 32, "height": BlockHeight(1_000)}
        for signer in (3, 4):
            assert await submit(one, paid(4, 3, signer, **thief), f"thief {signer}") is ReceiptState.SETTLED
        for signer in (1, 5):
            assert await submit(one, paid(5, 1, signer), f"owner {signer}") is ReceiptState.REFUSED
        await until(lambda: _checked_at(net.node(1), 1_005))
        net.chain.branch, net.chain.height = 1, 1_006
        del net.chain.txs["ce" * 32]
        await until(lambda: _has(one, {"pending": 1, "refused": 1}))
        net.chain.height = 1_000 + 1_441
        await until(lambda: _has(one, {"settled": 1, "refused": 1}))
        await until(lambda: _scored(one, 1, 0.9))


@attack(
    "registry",
    tries="a stolen payment under a stranger's contract id, told first, to keep out both the contract and the payment",
    meets="it gives way to the payment's own keys, and with that the contract's receipt counts again",
)
async def test_a_claim_comes_back_when_its_winner_gives_way(tmp_path: Path) -> None:
    """The thief holds one contract's id and another's payment; who tells of the payment under its keys frees both."""
    net = shown()
    net.chain.settle("ce" * 32, 100, TAX)
    mine = {"txid": "ce" * 32, "cid": CID_2}
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        for signer in (3, 4):
            assert await submit(one, paid(4, 3, signer, cid=CID_2), f"thief {signer}") is ReceiptState.SETTLED
        for signer in (6, 2):
            assert await submit(one, paid(2, 6, signer, **mine), f"contract {signer}") is ReceiptState.REFUSED
        assert await submit(one, under_key(5, 1, 1), "payment") is ReceiptState.SETTLED
        await until(lambda: _has(one, {"settled": 2, "refused": 1}))
        await until(lambda: _scored(one, 6, 0.9))
        assert await score(one, 3) == 0.5


async def _fallen(client: LocalClient) -> bool:
    return await score(client, 1) == 0.5


def _checked_at(node_: FakeNode, height: int) -> bool:
    store = node_.daemons["registryd"].parts.table.store
    row = store.row("SELECT height FROM chain") if store else None
    return row is not None and row["height"] == height


@attack(
    "registry",
    tries="receipts of strangers, forged, for another purpose or network",
    meets="refused with the reason",
)
@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: b"junk", "Attested"),
        (lambda: paid(5, 1, 2), "signer"),
        (lambda: canonical(attest(2, Purpose.SETTLED_RECEIPT, plain(1))), "signed by another"),
        (lambda: canonical(attest(1, Purpose.WORK_RECEIPT, plain(1))), "does not verify"),
        (lambda: canonical(attest(1, Purpose.SETTLED_RECEIPT, heartbeat())), "SettledReceipt"),
        (lambda: paid(5, 1, 1, network="00" * 32), "another network"),
    ],
)
async def test_a_wrong_receipt_is_refused_with_the_reason(tmp_path: Path, make: Any, word: str) -> None:
    """Junk, a stranger's word, a foreign signature, another purpose, another thing, another network."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        with pytest.raises(BadReceipt, match=word):
            await submit(one, make())


def plain(seller: int) -> SettledReceipt:
    """A receipt between node 5 and a seller, signed (in words) by the seller."""
    return receipt(buyer=did_number(5), seller=did_number(seller), signer=did_number(seller))


@attack(
    "registry",
    tries="forged and mixed-up descriptions, receipts, heartbeats by gossip",
    meets="rejected, none is kept",
)
async def test_gossip_that_lies_is_rejected(tmp_path: Path) -> None:
    """Forged or mixed-up descriptions and receipts are rejected; heartbeats of nobody are ignored; none is kept."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        target = net.node(1)
        good = node(did=did_number(2), wallet_address=WALLET)
        forged = attest(3, Purpose.REGISTRATION, good)
        mixed = attest(2, Purpose.HEARTBEAT, good)
        assert await gossip(target, TOPIC_NODE.name, canonical(forged)) == "reject"
        assert await gossip(target, TOPIC_NODE.name, canonical(mixed)) == "reject"
        beat = attest(2, Purpose.HEARTBEAT, heartbeat(did=did_number(2)))
        assert await gossip(target, TOPIC_HEARTBEAT.name, canonical(beat)) == "ignore"
        assert await gossip(target, TOPIC_NODE.name, canonical(attest(2, Purpose.REGISTRATION, good))) == "accept"
        for wrong in (
            attest(3, Purpose.HEARTBEAT, heartbeat(did=did_number(2))),
            attest(2, Purpose.REGISTRATION, heartbeat(did=did_number(2))),
            attest(2, Purpose.HEARTBEAT, good),
        ):
            assert await gossip(target, TOPIC_HEARTBEAT.name, canonical(wrong)) == "reject"
        assert await gossip(target, TOPIC_HEARTBEAT.name, canonical(beat)) == "accept"
        assert await gossip(target, TOPIC_RECEIPT.name, paid(5, 1, 2)) == "reject"
        assert (await one.call(registry.NODE_LIST, ListNodes())).total == 1


async def test_evidence_is_what_was_witnessed(tmp_path: Path) -> None:
    """The window holds signed heartbeats on our chain, settled receipts and the nodes' descriptions."""
    net = FakeNet()
    net.chain.settle(TXID, 100, TAX)
    net.chain.height = 101
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        airdropd = LocalClient(one._table, "airdropd")
        target, good = net.node(1), node(did=did_number(2), wallet_address=WALLET)
        await until(lambda: _checked_at(target, 101))
        await gossip(target, TOPIC_NODE.name, canonical(attest(2, Purpose.REGISTRATION, good)))
        for block_hash, verdict in (("ee" * 32, "accept"), (net.chain.hash_at(101), "accept")):
            beat = heartbeat(
                did=did_number(2), height=BlockHeight(101), block_hash=block_hash, at_ms=net.clock.unix_ms()
            )
            assert await gossip(target, TOPIC_HEARTBEAT.name, canonical(attest(2, Purpose.HEARTBEAT, beat))) == verdict
            net.clock.advance(1)
        await submit(one, paid(5, 2, 2))
        found = await airdropd.call(registry.EVIDENCE_WINDOW, EvidenceWindow(from_height=50, to_height=101))
        beats = [body_of(attested(data), Heartbeat, 512) for data in found.heartbeats]
        assert [(beat.did, beat.block_hash) for beat in beats] == [(did_number(2), net.chain.hash_at(101))]
        assert [described(attested(data)).info.did for data in found.nodes] == [did_number(2)]
        assert [body_of(attested(data), SettledReceipt, 1024).txid for data in found.receipts] == [TXID]
        nothing = await airdropd.call(registry.EVIDENCE_WINDOW, EvidenceWindow(from_height=102, to_height=200))
        assert (nothing.heartbeats, nothing.receipts, nothing.nodes) == ((), (), ())


async def test_another_nodes_opinion_comes_with_its_evidence(tmp_path: Path) -> None:
    """The score told there, and its receipts taken and checked here."""
    net = FakeNet()
    quiet = QUICK | {"sync_s": 60.0}
    net.chain.settle(TXID, 100, TAX)
    net.chain.height = 101
    async with running(net.node(2), RegistryDaemon, tmp_path, **quiet) as two:
        await submit(two, paid(5, 3, 3))
        async with running(net.node(1), RegistryDaemon, tmp_path, **quiet) as one:
            told = await one.call(registry.REPUTATION_OPINION, AskOpinion(of=did_number(3), peer=did_number(2)))
            assert (told.score, told.receipts) == (0.916666, 1)
            await until(lambda: _scored(one, 3, 0.9))


async def test_a_node_with_a_wallet_in_its_settings_registers_itself(tmp_path: Path) -> None:
    """No set-up: at its first start it is registered with what the machine has; deregistered it stays so."""
    net = FakeNet()
    settings = QUICK | {"wallet_address": WALLET, "region": "eu"}
    async with running(net.node(1), RegistryDaemon, tmp_path, **settings) as one:
        view = await until(lambda: _self(one))
        assert (view.region, view.wallet_address, view.ip_address) == ("eu", WALLET, "127.1.1.1")
        assert view.cpu_cores >= 1
        assert view.memory_gb > 0


@pytest.mark.parametrize(("held", "does"), [(None, "register"), ("aa" * 32, "announce"), ("bb" * 32, "register")])
async def test_a_node_that_changes_its_network_registers_there(held: str | None, does: str) -> None:
    """Its owner names another profile: what it told the old network is worth nothing in the new one."""
    done: list[str] = []

    async def own_did() -> str:
        return "did:dux:own"

    async def register(wish: RegisterNode, _ctx: object) -> None:
        done.append("register")
        assert wish.wallet_address == WALLET

    async def announce_again(_own: str) -> None:
        done.append("announce")

    entry = None if held is None else SimpleNamespace(info=SimpleNamespace(network=held))
    methods = SimpleNamespace(announce_again=announce_again, register=register)
    settings = RegistrydSettings(network_profile="", data_dir="", run_dir="", wallet_address=WALLET)
    book, outside = SimpleNamespace(node=lambda _own: entry), SimpleNamespace(own_did=own_did)
    await Announcer(methods, book, outside, LOG, settings, "aa" * 32).once()
    assert done == [does]


def test_where_nothing_is_set_the_node_is_paid_where_key_making_says(tmp_path: Path) -> None:
    """A first boot writes no settings: a script beside the store tells where, in the text of the network it is in."""
    script = pay_to_key(b"\x02" * 33)
    (tmp_path / Path(PAYOUT_FILE).name).write_text(script.hex())

    def asked(address: str, folder: Path, chain: str = "embedded") -> str:
        settings = RegistrydSettings(network_profile="", data_dir="", run_dir="", wallet_address=address)
        network = SimpleNamespace(chain=chain)
        parts = SimpleNamespace(settings=settings, network=network, data_dir=folder, store_in_memory=False)
        return paid_at(parts).wallet_address

    assert asked("", tmp_path) == script_to_address(script, EMBEDDED)
    assert asked("", tmp_path, "flopcoin-test") == script_to_address(script, FLOPCOIN_TEST) != asked("", tmp_path)
    assert asked("another", tmp_path) == "another"
    assert asked("", tmp_path / "none") == ""


def test_a_kernel_that_does_not_tell_its_memory_stops_nothing(tmp_path: Path) -> None:
    """In a unit that sees processes only, memory counts as nothing offered; the rest is told."""
    machine = Machine(tmp_path, tmp_path / "none")
    assert machine.hardware().memory_mb == machine.load(1).memory_available_mb == 0
    assert machine.hardware().cpu_cores >= 1


async def _self(client: LocalClient) -> Any:
    try:
        return await client.call(registry.NODE_SELF, Empty())
    except NotRegistered:
        return None


async def test_a_capability_is_found_by_the_index_of_the_network(tmp_path: Path) -> None:
    """Nodes that nobody told us of are found by what they offer, and taken in; a false pointer finds nobody."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, **QUICK) as one:
        await one.call(registry.NODE_REGISTER, register(capabilities=("rendering", "api")))
        await until(lambda: ("capability", "rendering") in net.dht and ("registered", did_number(1)) in net.dht)
    pointer = net.dht["capability", "rendering"][did_number(1)]
    net.dht["capability", "rendering"][did_number(4)] = msgspec.structs.replace(pointer, did=did_number(4))
    async with running(net.node(2), RegistryDaemon, tmp_path, **QUICK | {"sync_s": 60.0}) as two:
        found = await two.call(registry.NODE_FIND, FindNodes(capabilities=("Rendering",)))
        assert [view.node_id for view in found.nodes] == [did_number(1)]
        assert (await two.call(registry.NODE_FIND, FindNodes(capabilities=("--",)))).total == 0
        both = await two.call(registry.NODE_FIND, FindNodes(capabilities=("api", "rendering")))
        assert [view.node_id for view in both.nodes] == [did_number(1)]
        assert (await two.call(registry.NODE_FIND, FindNodes(capabilities=("api", "tpu")))).total == 0
        asked = [get for get in net.dht_asked if get.ns == "capability"]
        assert {get.max_age_s for get in asked} == {INDEX_AGE_S}, "an answer serves a searcher for a while"
        net.node(2).cut = True
        assert (await two.call(registry.NODE_FIND, FindNodes(capabilities=("rendering",)))).total == 1


async def test_who_comes_and_goes_is_told(tmp_path: Path) -> None:
    """Registered, withdrawn and forgotten nodes are events; a node silent for longer than is kept is forgotten."""
    net = FakeNet()
    async with running(net.node(1), RegistryDaemon, tmp_path, forget_after_s=3_600.0, **QUICK) as one:
        target = net.node(1)
        for number in (2, 3):
            told = attest(number, Purpose.REGISTRATION, node(did=did_number(number), wallet_address=WALLET))
            assert await gossip(target, TOPIC_NODE.name, canonical(told)) == "accept"
        gone = node(did=did_number(2), wallet_address=WALLET, withdrawn=True, at_ms=net.clock.unix_ms() + 1)
        assert await gossip(target, TOPIC_NODE.name, canonical(attest(2, Purpose.REGISTRATION, gone))) == "accept"
        store = target.daemons["registryd"].parts.table.store
        with store.transaction() as tx:
            for number in (1, 3):
                tx.execute("INSERT INTO presence VALUES (?, 1)", did_number(number))
                tx.execute("INSERT INTO days VALUES (?, 1, 1)", did_number(number))
        net.clock.advance(3_700)
        await until(lambda: _kinds(one, {"NodeRegistered", "NodeWithdrawn", "NodeForgotten"}))
        for table in ("presence", "days"):
            assert [row["did"] for row in store.rows(f"SELECT did FROM {table}")] == [did_number(1)], (
                "and what was seen"
            )
        assert (await one.call(registry.NODE_LIST, ListNodes())).total == 0
        gauges = target.daemons["registryd"].parts.gauges
        assert (gauges["taken_in_accept"](), gauges["nodes_active"](), gauges["nodes"]()) == (3.0, 0.0, 0.0)


async def _kinds(client: LocalClient, wanted: set[str]) -> bool:
    page = await client.call(registry.REGISTRY_EVENTS, EventsSince())
    return wanted <= {event.kind for event in page.events}
