"""Real escrowds and real wallets of several nodes in one process, on a real chain; only the wire is faked.

The relay hands peer calls from node to node as two p2pds would, loses what a test wants lost, and wraps errors as p2pd
does. A daemon that is killed is started again from its files.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from common.clock import SystemClock
from common.contracts import escrow, p2p, peer
from common.contracts.base import GOSSIP_HANDLE, PEER_HANDLE, EventsSince, GossipIn, PeerCallIn
from common.contracts.escrow_views import ContractView, EscrowEvent, read_event
from common.contracts.p2p_errors import PeerAnswered, PeerUnreachable
from common.contracts.registry import REPUTATION_GET, NodeName, Reputation
from common.contracts.wallet import WALLET_NEW_ADDRESS, NewAddress
from common.errors import DuxError, Ending, NotFound, may_repeat
from common.identity.did import did_of
from common.identity.keys import SigningKey, is_signed
from common.identity.purposes import OWNER, Purpose
from common.identity.tagged import tagged_hash
from common.network import NetworkProfile
from common.outbox import Perform, Refused
from common.parts import Parts
from common.randomness import SystemRandomness
from common.rpc.client import Client, LocalClient
from common.rpc.method import Empty, Method, P, R
from common.rpc.table import Ctx, MethodTable
from common.store import Effect, Store
from common.units import FLOP, Did, Florins, UnixMs
from dux_escrowd.book import Book
from dux_escrowd.daemon import EscrowDaemon
from dux_escrowd.follower import Follower
from dux_escrowd.model import Lot
from dux_escrowd.settings import EscrowSettings
from dux_escrowd.store import Shelf
from tests.flopd.coin_node import CoinBench
from tests.flopd.wallets import WalletNode, network_of
from tests.ports import free_base

LOG = structlog.wrap_logger(
    structlog.PrintLogger(sys.__stderr__), wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
)
REQUESTS = itertools.count()
WAIT_S = 90.0  # outbox pauses grow to 30 s: two of them fit, and a loaded machine
IDLE_WAIT_S = 5.0  # on a busy machine daemons take seconds for what a block asks of them
TRIES = 4  # of an effect, before a block is likelier to help it than waiting
LOST = ("lost by the test", "dead")  # why a peer is not reached
JOB = b"\x93job"


class Killed(BaseException):  # a death, not an error: nobody handles it
    """The process dies here."""


class MortalDaemon(EscrowDaemon):
    """The real daemon, which dies right before or right after an effect when its node wants it to."""

    node: Node

    async def assemble(self, parts: Parts[EscrowSettings]) -> None:
        """The real assembly with a mortal outbox."""
        plain = parts.outbox

        def mortal(store: Store, perform: Perform, refused: Refused | None = None) -> None:
            async def once(effect: Effect) -> None:
                self.node.perhaps_die(effect.kind, "before")
                await perform(effect)
                self.node.perhaps_die(effect.kind, "after")

            plain(store, once, refused)

        parts.outbox = mortal  # type: ignore[method-assign]
        await super().assemble(parts)
        parts.background("death", self.node.dies)
        for name, loop in parts.loops:
            if name == "follower":
                self._watch(loop.__self__)  # type: ignore[attr-defined]

    def _watch(self, follower: Follower) -> None:
        """Note up to which height the follower has looked."""
        plain = follower.look

        async def look() -> None:
            height = self.node.net.height
            await plain()
            self.node.looked_at = height

        follower.look = look  # type: ignore[method-assign]


class Net:
    """All nodes of a test and the wire between them."""

    def __init__(self, bench: CoinBench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        self.height = bench.height
        self.pace_s = 0.0  # between blocks, where daemons' own timers have to come round as they do between real ones
        self.nodes: dict[Did, Node] = {}
        self.lost: Callable[[Node, Did, str], bool] = lambda _sender, _to, _method: False
        self.calls: list[tuple[str, str, str]] = []  # sender, receiver, method
        self.spread: list[GossipIn] = []
        self.records: dict[tuple[str, str], dict[Did, bytes]] = {}  # of the DHT: (namespace, name) -> by whom

    def profile(self) -> NetworkProfile:
        """The network that all nodes are on."""
        return network_of(self.bench)

    async def mine(self, count: int = 1) -> None:
        """Blocks, and every wallet that runs has read them."""
        self.bench.mine(count)
        await self._read()

    async def mine_empty(self) -> None:
        """A block whose miner leaves out all that waits, and every wallet that runs has read it."""
        self.bench.craft()
        await self._read()

    async def _read(self) -> None:
        self.height = self.bench.height
        for node in self.nodes.values():
            await node.wallet.synced()

    async def is_idle(self) -> bool:
        """Every escrowd that runs has read the tip and has nothing to do that was not tried before."""
        return all(node.looked_at == self.height and not node.has_work() for node in self.nodes.values())

    async def mine_to(self, height: int) -> None:
        """Blocks up to this height, and every wallet has read them."""
        await self.mine(max(1, height - self.bench.height))

    async def mine_until(self, predicate: Callable[[], Any], what: str, blocks: int = 150) -> None:
        """Block after block until the predicate is true, each time after the daemons have done what they can."""
        for _ in range(blocks):
            if await holds_soon(self.is_idle, IDLE_WAIT_S) and await asked(predicate):
                return
            await asyncio.sleep(self.pace_s)
            await self.mine()
        raise AssertionError(
            f"not within {blocks} blocks: {what}; at {self.height}: " + "; ".join(map(open_work, self.nodes.values()))
        )


def waits(table: MethodTable) -> bool:
    """Whether an effect may come through without a block: not tried yet, or held up, and not by the test."""
    heads = "SELECT min(position) FROM outbox WHERE done_ms IS NULL GROUP BY lane"
    open_now = f"SELECT attempts, error FROM outbox WHERE attempts < {TRIES} AND position IN ({heads})"
    try:
        found = table.store.rows(open_now) if table.store else []
    except Ending:
        return True
    return any(not row["attempts"] or all(word not in row["error"] for word in LOST) for row in found)


def open_work(node: Node) -> str:
    """What a node still has to do, for the words of a test that failed."""
    tables = [node.wallet.daemon.parts.table] + ([node.daemon.parts.table] if node.daemon else [])
    words = "SELECT kind, attempts, error FROM outbox WHERE done_ms IS NULL"
    rows = [tuple(row) for table in tables if table.store for row in table.store.rows(words)]
    return f"{node.name}, read to {node.looked_at}: {rows or 'nothing open'}"


async def asked(predicate: Callable[[], Any]) -> Any:
    """The predicate's value, sync or async."""
    found = predicate()
    return await found if asyncio.iscoroutine(found) else found


async def holds_soon(predicate: Callable[[], Any], within_s: float) -> bool:
    """Whether the predicate comes true in a moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while not await asked(predicate):
                await asyncio.sleep(0.02)
            return True
    return False


async def until(predicate: Callable[[], Any], what: str) -> None:
    """Wait for the predicate."""
    assert await holds_soon(predicate, WAIT_S), what


class Node:
    """One node: wallet, escrowd, and its end of the wire."""

    def __init__(self, net: Net, name: str, *, restored: Node | None = None) -> None:
        """`restored`: the node whose phrase this one is made from again, with nothing else of it."""
        self.net = net
        self.name = name
        self.key = restored.key if restored else SigningKey(tagged_hash(Purpose.JOB, name.encode()))
        self.did = did_of(self.key.public)
        self.keys = [self.key]  # of its event log; the last one signs
        self.recovered_from = 0  # keys before this one a recovery has stopped
        self.off = False
        phrase, birth = (restored.wallet.made.phrase, 0) if restored else ("", None)
        self.wallet = WalletNode(net.folder / name, net.bench, network=net.profile(), phrase=phrase, birth_height=birth)
        self.port_base = free_base()
        self.mortal = False
        self.looked_at = 0
        self.settings: dict[str, Any] = {}  # of its escrowd, besides where it lives
        self.held_against: dict[Did, dict[str, bool]] = {}  # what its p2pd knows against others' names
        self.deaths: list[tuple[str, str]] = []  # effect kind, before or after it
        self.daemon: EscrowDaemon | None = None
        self.weights: dict[Did, int] = {}  # of candidates, as its registry knows them
        self.registryd = MethodTable(log=LOG, clock=SystemClock(), randomness=SystemRandomness())
        self.registryd.serve(REPUTATION_GET, self._reputation)
        self.p2pd = MethodTable(log=LOG, clock=SystemClock(), randomness=SystemRandomness())
        self._serve_p2pd()
        net.nodes[self.did] = self

    @property
    def key_seq(self) -> int:
        """Of the key that signs now."""
        return len(self.keys) - 1

    def changes_key(self, *, recovers: bool = False) -> None:
        """Another key signs from now on: after a rotation long ago, or a recovery."""
        self.keys.append(SigningKey(tagged_hash(Purpose.JOB, f"{self.name} {len(self.keys)}".encode())))
        self.recovered_from = self.key_seq if recovers else self.recovered_from

    # --- the wire -------------------------------------------------------------------------------------------------

    def _serve_p2pd(self) -> None:
        self.p2pd.serve(p2p.P2P_INFO, self._info)
        self.p2pd.serve(p2p.PEER_CALL, self._peer_call)
        self.p2pd.serve(p2p.GOSSIP_PUBLISH, self._publish)
        self.p2pd.serve(p2p.IDENTITY_SIGN, self._sign)
        self.p2pd.serve(p2p.IDENTITY_VERIFY, self._verify)
        self.p2pd.serve(p2p.DID_RESOLVE, self._resolve)
        self.p2pd.serve(p2p.DHT_PUT, self._put)
        self.p2pd.serve(p2p.DHT_GET, self._get)

    async def _put(self, params: p2p.DhtPut, _ctx: Ctx) -> p2p.DhtStored:
        self.net.records.setdefault((params.ns, params.name), {})[self.did] = params.payload
        return p2p.DhtStored(stored_at=1, seq_ms=UnixMs(0))

    async def _get(self, params: p2p.DhtGet, _ctx: Ctx) -> p2p.Records:
        held = self.net.records.get((params.ns, params.name), {})
        return p2p.Records(
            records=[
                p2p.RecordView(did=did, key_seq=0, seq_ms=UnixMs(0), expires_ms=UnixMs(0), payload=payload)
                for did, payload in held.items()
            ]
        )

    async def _resolve(self, params: p2p.Resolve, _ctx: Ctx) -> p2p.Resolved:
        told = p2p.DID_RESOLVE.example[1]
        return msgspec.structs.replace(told, did=params.did, **self.held_against.get(params.did, {}))

    async def _info(self, _params: Empty, _ctx: Ctx) -> p2p.Info:
        return p2p.Info(
            did=self.did, key_seq=self.key_seq, network=self.net.bench.genesis, endpoints=[], sessions=0, contacts=0,
            records=0, blobs=0, blob_bytes=0, egress="",
        )  # fmt: skip

    async def _peer_call(self, params: p2p.PeerCall, _ctx: Ctx) -> p2p.PeerAnswer:
        await asyncio.sleep(0)
        target = self.net.nodes.get(params.did)
        self.net.calls.append((self.name, target.name if target else "?", params.method))
        if target is None or target.off or self.off or self.net.lost(self, params.did, params.method):
            raise PeerUnreachable(address=params.did, detail=LOST[0])
        if target.daemon is None:
            raise PeerUnreachable(address=params.did, detail=LOST[1])
        assert peer.peer_methods()[params.method].owner == "escrowd"
        call = PeerCallIn(method=params.method, params=params.params, sender=self.did)
        try:
            answer = await LocalClient(target.daemon.parts.table, "p2pd").call(PEER_HANDLE, call)
        except DuxError as error:
            raise PeerAnswered(
                did=params.did,
                method=params.method,
                peer_code=error.code,
                peer_key=error.key,
                detail=error.message,
                retry=may_repeat(error),
            ) from error
        return p2p.PeerAnswer(result=answer.result)

    async def _publish(self, params: p2p.Publish, _ctx: Ctx) -> p2p.Published:
        message = GossipIn(topic=params.topic, payload=params.payload, sender=self.did, key_seq=0, seq_ms=UnixMs(0))
        self.net.spread.append(message)
        for node in self.net.nodes.values():
            if node is not self and node.daemon is not None and not node.off:
                await LocalClient(node.daemon.parts.table, "p2pd").call(GOSSIP_HANDLE, message)
        return p2p.Published(message_id="00" * 32, sent_to=len(self.net.nodes) - 1)

    async def _sign(self, params: p2p.Sign, ctx: Ctx) -> p2p.Signature:
        assert OWNER[Purpose(params.purpose)] == ctx.caller
        signature = self.keys[-1].sign(Purpose(params.purpose), params.body)
        return p2p.Signature(did=self.did, key_seq=self.key_seq, signature=signature)

    async def _verify(self, params: p2p.Verify, _ctx: Ctx) -> p2p.Verdict:
        """A key that is not the last one was rotated away more than a day ago."""
        signer = self.net.nodes[params.did]
        key = signer.keys[params.key_seq].public
        right = is_signed(key, Purpose(params.purpose), params.body, params.signature)
        valid = right and (params.ever or params.key_seq == signer.key_seq)
        stopped = params.key_seq < signer.recovered_from
        return p2p.Verdict(valid=valid, reason="" if valid else "it does not verify", stopped=stopped)

    def neighbours(self, daemon: str) -> Client:
        """Escrowd's clients of its neighbours."""
        tables = {"p2pd": self.p2pd, "registryd": self.registryd}
        return LocalClient(tables.get(daemon, self.wallet.daemon.parts.table), "escrowd")

    async def _reputation(self, params: NodeName, _ctx: Ctx) -> Reputation:
        if params.node_id not in self.weights:
            raise NotFound(what="node", name=params.node_id)
        weight = Florins(self.weights[Did(params.node_id)])
        return msgspec.structs.replace(REPUTATION_GET.example[1], weight_florins=weight, sanctions=())

    # --- the daemon -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        """Wallet and escrowd, the latter started again whenever it dies of `Killed`."""
        async with self.wallet.running():
            task = asyncio.ensure_future(self._alive())
            try:
                await until(lambda: self.daemon is not None or task.done(), f"{self.name} starts")
                yield self
            finally:
                task.cancel()
                await asyncio.wait((task,))
                if not task.cancelled() and (error := task.exception()):
                    raise error

    async def _alive(self) -> None:
        while True:
            daemon = self._made()
            ready = asyncio.Event()
            work = asyncio.ensure_future(daemon.run(ready))
            try:
                waiting = asyncio.ensure_future(ready.wait())
                await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                self.daemon = daemon
                await work
            except BaseExceptionGroup as group:
                if group.subgroup(Killed) is None:
                    raise
            finally:
                self.daemon = None
                work.cancel()
                await asyncio.wait((work,))

    def _made(self) -> EscrowDaemon:
        settings = EscrowSettings(
            network_profile="unused.yaml", data_dir=str(self.net.folder / self.name / "data"),
            run_dir=str(self.net.folder / self.name / "run"), port_base=self.port_base, **self.settings,
        )  # fmt: skip
        daemon = MortalDaemon(settings, self.net.profile(), log=LOG, neighbours=self.neighbours)
        daemon.node = self
        return daemon

    def has_work(self) -> bool:
        """Dead, or its escrowd or its wallet has something to do before the next block."""
        if self.daemon is None or self.daemon.parts.table.store is None:
            return True
        return waits(self.daemon.parts.table) or waits(self.wallet.daemon.parts.table)

    async def dies(self) -> None:
        """Wait for what a test may order."""
        self.death = asyncio.Event()
        await self.death.wait()
        raise Killed(f"{self.name} is killed")

    def perhaps_die(self, kind: str, moment: str) -> None:
        """Once for each kind of effect and each moment, where the test wants it."""
        if self.mortal and (kind, moment) not in self.deaths:
            self.deaths.append((kind, moment))
            raise Killed(f"{self.name} dies {moment} {kind}")

    # --- what a taskd does ------------------------------------------------------------------------------------------

    async def call(self, method: Method[P, R], params: P) -> R:
        """Call escrowd as taskd does: again, when the call met its end, and wait while it is being started again."""
        caller = "taskd" if "taskd" in method.callers else method.callers[0]
        while True:
            await until(lambda: self.daemon is not None, f"{self.name} is up")
            assert self.daemon is not None
            try:
                return await LocalClient(self.daemon.parts.table, caller).call(method, params)
            except Ending:
                await asyncio.sleep(0.02)

    async def events(self) -> list[EscrowEvent]:
        """All events so far."""
        page = await self.call(escrow.EVENTS, EventsSince(cursor=0, limit=500))
        return [read_event(view) for view in page.events]

    async def event(self, kind: type[Any]) -> Any:
        """Wait for an event of a kind; the newest."""
        found: list[Any] = []

        async def is_there() -> bool:
            found[:] = [event for event in await self.events() if isinstance(event, kind)]
            return bool(found)

        await until(is_there, f"{self.name} is told {kind.__name__}")
        return found[-1]

    async def told(self, kind: type[Any]) -> bool:
        """Whether an event of a kind was told."""
        return any(isinstance(event, kind) for event in await self.events())

    async def show(self, contract_id: str) -> ContractView:
        """escrow.show."""
        return await self.call(escrow.SHOW, escrow.ContractRef(contract_id=contract_id))

    async def state(self, contract_id: str) -> str:
        """The protocol's name of the state."""
        return (await self.show(contract_id)).state

    def lot(self, contract_id: str) -> Lot:
        """The lot as it is stored."""
        lot = self.shelf().lot(contract_id)
        assert lot is not None
        return lot

    def shelf(self) -> Shelf:
        """All that its escrowd holds."""
        assert self.daemon is not None
        assert self.daemon.parts.table.store is not None
        return Book(self.daemon.parts.table.store).shelf


def request_id() -> str:
    """A new one."""
    return f"test-{next(REQUESTS)}"


@asynccontextmanager
async def market(net: Net, *names: str) -> AsyncIterator[list[Node]]:
    """These nodes, running; the first has coins."""
    nodes = [Node(net, name) for name in names]
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.running())
        await give(net, nodes[0], 40 * FLOP)
        yield nodes


async def give(net: Net, node: Node, florins: int) -> None:
    """Coins from the bank."""
    address = await node.wallet.call(WALLET_NEW_ADDRESS, NewAddress(request_id=request_id()))
    net.bench.pay((address.script, florins))
    await net.mine(2)


async def propose(buyer: Node, seller: Node, arbiters: list[Node], **changes: Any) -> str:
    """The buyer proposes, the seller accepts; the contract's id."""
    fields: dict[str, Any] = {
        "request_id": request_id(), "seller": seller.did, "service_id": "upscale", "job": JOB,
        "job_hash": bytes(tagged_hash(Purpose.JOB, JOB)), "price_florins": Florins(10 * FLOP),
        "arbiters": tuple(node.did for node in arbiters), "deliver_blocks": 12,
    }  # fmt: skip
    ref = await buyer.call(escrow.PROPOSE, escrow.Propose(**fields | changes))

    async def offered() -> bool:
        found = await seller.call(escrow.LIST, escrow.ListContracts())
        return any(view.contract_id == ref.contract_id for view in found.contracts)

    await until(offered, "the seller has the offer")
    accept = escrow.Quote(request_id=request_id(), contract_id=ref.contract_id, accept=True, reason="")
    await seller.call(escrow.QUOTE, accept)
    return ref.contract_id


async def deliver(seller: Node, contract_id: str) -> None:
    """The seller delivers."""
    said = escrow.Deliver(
        request_id=request_id(), contract_id=contract_id, ciphertext_blob="bb" * 32, output_commitment=b"o" * 32,
        receipts=(), holders=(seller.did,), work_receipt=b"work",
    )  # fmt: skip
    await seller.call(escrow.DELIVER, said)


async def judge(buyer: Node, contract_id: str, *, good: bool, reason: str = "") -> None:
    """The buyer judges."""
    said = escrow.Judge(request_id=request_id(), contract_id=contract_id, good=good, reason=reason, evidence=b"seen")
    await buyer.call(escrow.JUDGE, said)


def in_state(node: Node, contract_id: str, *states: str) -> Callable[[], Coroutine[Any, Any, bool]]:
    """A predicate: the node sees the contract in one of these states."""

    async def check() -> bool:
        return await node.state(contract_id) in states

    return check
