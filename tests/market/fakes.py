"""A small network at the contract: p2pd and flopd of each node served by real tables, with real keys and signatures.

What is left out is only the wire: peer calls, gossip and DHT go from table to table, at once and without loss (unless a
node is `cut` off). A daemon under test cannot tell the difference from its contracts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from common.chain.beacon import beacon_heights, beacon_of
from common.chain.tx import TxOutput
from common.clock import ManualClock
from common.codec import Canon, canonical
from common.community_fund import fund_script_of
from common.contracts import p2p, peer
from common.contracts.base import GOSSIP_HANDLE, PEER_HANDLE, GossipIn, PeerCallIn
from common.contracts.p2p_errors import NotStored, PeerUnreachable, TooFewSources
from common.contracts.wallet_bonds import WALLET_BONDS, Bonds, BondView
from common.contracts.wallet_chain import (
    CHAIN_BEACON,
    CHAIN_BLOCK_HASH,
    CHAIN_TIP,
    CHAIN_TX,
    Beacon,
    BlockHash,
    HeightAsked,
    Tip,
    TxAsked,
    TxView,
)
from common.contracts.wallet_errors import ChainUnavailable
from common.daemon import DuxOSDaemon
from common.errors import DuxError, NeighbourDown, NotFound
from common.identity import ecvrf
from common.identity.did import did_of
from common.identity.keys import SigningKey, is_signed
from common.identity.log import OLD_KEY_GRACE_MS
from common.identity.purposes import OWNER, Purpose
from common.identity.tagged import tagged
from common.network import Custodian, FundParameters, NetworkProfile
from common.randomness import SeededRandomness
from common.receipts import Attested
from common.rpc.client import Client, LocalClient
from common.rpc.method import Done, Empty, Method, P, R
from common.rpc.table import Ctx, MethodTable
from common.units import BlockHeight, Did, Florins, UnixMs
from tests.market.makers import NETWORK
from tests.ports import free_base

LOG = structlog.wrap_logger(
    structlog.PrintLogger(sys.__stderr__), wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
)
FUND_KEYS = tuple(bytes([2 + n % 2]) + bytes([n + 1]) * 32 for n in range(3))


NODES_MAX = 32


def key_of(number: int, seq: int = 0) -> SigningKey:
    """A key of the fake network's node `number`: its first, or the one after so many changes."""
    return SigningKey(bytes([number + NODES_MAX * seq]) * 32)


def look_seed(number: int) -> bytes:
    """Of the look key of the fake network's node `number`."""
    return bytes([255 - number]) * 32


def did_number(number: int) -> Did:
    """The DID of the fake network's node `number`."""
    return did_of(key_of(number).public)


def attest(number: int, purpose: Purpose, value: Canon) -> Attested:
    """The value signed by node `number`, with its first key."""
    body = canonical(value)
    return Attested(body=body, did=did_number(number), key_seq=0, signature=key_of(number).sign(purpose, body))


def network(**changes: Any) -> NetworkProfile:
    """The profile of the fake network: three custodians, nodes 7 to 9 as arbiters."""
    fields: dict[str, Any] = {
        "name": "test",
        "chain": "embedded",
        "genesis": NETWORK,
        "heights": "demo",
        "arbiters": tuple(did_number(number) for number in (7, 8, 9)),
        "fund": FundParameters(
            threshold=2,
            custodians=tuple(Custodian(did=did_number(n + 7), pubkey=key.hex()) for n, key in enumerate(FUND_KEYS)),
        ),
    }
    return NetworkProfile(**fields | changes)


class FakeChain:
    """One chain that every node sees alike: blocks by number, transactions put in by the test."""

    def __init__(self, height: int = 100) -> None:
        self.height = height
        self.up = True
        self.branch = 0
        self.txs: dict[str, tuple[int, list[TxOutput]]] = {}
        self.raws: dict[str, bytes] = {}  # of those whose inputs matter
        self.fund_script = fund_script_of(network().fund)

    def hash_at(self, height: int) -> str:
        """The block's hash; blocks of another branch have others from the fork on."""
        return f"{self.branch if height >= 95 else 0:04x}{height:060x}"

    def settle(self, txid: str, height: int, tax_florins: int, raw: bytes = b"") -> None:
        """Put a transaction into a block that pays the fund."""
        self.raws[txid] = raw
        self.txs[txid] = (height, [TxOutput(Florins(tax_florins), self.fund_script)] if tax_florins else [])

    def serve(self, table: MethodTable) -> None:
        """Answer as flopd does."""

        async def tip(_params: Empty, _ctx: Ctx) -> Tip:
            self._available()
            return Tip(
                height=BlockHeight(self.height), hash=self.hash_at(self.height), time_s=0, synced=True, source="core"
            )

        async def block_hash(params: HeightAsked, _ctx: Ctx) -> BlockHash:
            self._available()
            if params.height > self.height:
                raise NotFound(what="block", name=str(params.height))
            return BlockHash(height=params.height, hash=self.hash_at(params.height))

        async def tx(params: TxAsked, _ctx: Ctx) -> TxView:
            self._available()
            found = self.txs.get(params.txid)
            if found is None or found[0] != params.height:
                raise NotFound(what="transaction", name=params.txid)
            return TxView(
                txid=params.txid,
                height=BlockHeight(found[0]),
                raw=self.raws.get(params.txid, b""),
                spent=[],
                outputs=found[1],
            )

        table.serve(CHAIN_TIP, tip)
        table.serve(CHAIN_BLOCK_HASH, block_hash)

        async def beacon(params: HeightAsked, _ctx: Ctx) -> Beacon:
            self._available()
            works = [bytes.fromhex(self.hash_at(height)) for height in beacon_heights(params.height)]
            return Beacon(height=params.height, beacon=beacon_of(params.height, works))

        table.serve(CHAIN_TX, tx)
        table.serve(CHAIN_BEACON, beacon)

    def _available(self) -> None:
        if not self.up:
            raise ChainUnavailable(endpoint="fake", detail="switched off")


@dataclass
class FakeNet:
    """All nodes of a test."""

    clock: ManualClock = field(default_factory=ManualClock)
    chain: FakeChain = field(default_factory=FakeChain)
    nodes: dict[Did, FakeNode] = field(default_factory=dict)
    dht: dict[tuple[str, str], dict[Did, p2p.RecordView]] = field(default_factory=dict)
    unconfirmed: set[Did] = field(default_factory=set)  # of whom too few can tell
    confirmed: list[Did] = field(default_factory=list)  # whose logs the network was asked for
    dht_asked: list[p2p.DhtGet] = field(default_factory=list)
    dht_waits_s: float = 0.0  # how long a look-up takes
    gossip: list[tuple[str, Did, str]] = field(default_factory=list)  # topic, who took it, verdict

    def node(self, number: int) -> FakeNode:
        """Node `number`, made on first use."""
        did = did_number(number)
        if did not in self.nodes:
            self.nodes[did] = FakeNode(self, number)
        return self.nodes[did]


class FakeNode:
    """One node: its p2pd and flopd, and the daemons under test that run on it."""

    def __init__(self, net: FakeNet, number: int) -> None:
        self.net = net
        self.number = number
        self.did = did_number(number)
        self.cut = False
        self.host = f"127.1.{number}.1"  # where its connections come from and go to
        self.blobs: dict[str, int] = {}
        self.refused: dict[Did, int] = {}
        self.kept: dict[Did, int] = {}  # records that others keep for it
        self.duties: list[str] | None = None
        self.look_seed = look_seed(number)
        self.key_ends_ms: list[int] = []  # until when each key before the one of now counts
        self.stopped = 0  # so many first keys were stopped by a recovery
        self.bonds: list[BondView] = []  # of its wallet
        self.daemons: dict[str, DuxOSDaemon[Any]] = {}
        self.p2pd = self._table()
        self.flopd = self._table()
        net.chain.serve(self.flopd)
        self.flopd.serve(WALLET_BONDS, self._bonds)
        self._serve_p2pd()

    def _table(self) -> MethodTable:
        return MethodTable(log=LOG, clock=self.net.clock, randomness=SeededRandomness(self.number))

    def neighbours(self, caller: str) -> Callable[[str], Client]:
        """What a daemon of this node calls its neighbours by."""

        def client(daemon: str) -> Client:
            fakes = {"p2pd": self.p2pd, "flopd": self.flopd}
            if daemon in fakes:
                return LocalClient(fakes[daemon], caller)
            return Neighbour(self, daemon, caller)

        return client

    def client(self, daemon: str, caller: str = "cli") -> LocalClient:
        """A caller's client of a daemon under test."""
        return LocalClient(self.daemons[daemon].parts.table, caller)

    def others(self) -> list[FakeNode]:
        """The nodes this one is connected to."""
        found = [] if self.cut else [node for node in self.net.nodes.values() if node is not self and not node.cut]
        return [node for node in found if node.did not in self.refused and self.did not in node.refused]

    def change_key(self, *, recovered: bool = False) -> None:
        """It signs with another key from now on; the one before counts for a day longer, none after a recovery."""
        now_ms = self.net.clock.unix_ms()
        self.key_ends_ms.append(now_ms if recovered else now_ms + OLD_KEY_GRACE_MS)
        if recovered:
            self.stopped = len(self.key_ends_ms)
            self.key_ends_ms = [min(end_ms, now_ms) for end_ms in self.key_ends_ms]

    def verdict(self, asked: p2p.Verify) -> p2p.Verdict:
        """What p2pds say of a signature of this node."""
        seq, now_ms = asked.key_seq, self.net.clock.unix_ms()
        at_ms = now_ms if asked.at_ms is None else asked.at_ms
        seen_ms = at_ms if asked.seen_ms is None else min(asked.seen_ms, now_ms)
        ends_ms = [*self.key_ends_ms, now_ms + OLD_KEY_GRACE_MS]
        in_time = 0 <= seq < len(ends_ms) and max(at_ms, seen_ms) <= ends_ms[seq]
        key = key_of(self.number, seq).public
        if not in_time or not is_signed(key, Purpose(asked.purpose), asked.body, asked.signature):
            return p2p.Verdict(valid=False, reason="it does not verify")
        return p2p.Verdict(valid=True, reason="", stopped=seq < self.stopped)

    def _serve_p2pd(self) -> None:
        table = self.p2pd
        table.serve(p2p.P2P_INFO, self._info)
        table.serve(p2p.P2P_PEERS, self._peers)
        table.serve(p2p.P2P_REFUSE, self._refuse)
        table.serve(p2p.P2P_REACHABILITY, self._reachability)
        table.serve(p2p.P2P_TAKE_DUTIES, self._take_duties)
        table.serve(p2p.PEER_CALL, self._call)
        table.serve(p2p.GOSSIP_PUBLISH, self._publish)
        table.serve(p2p.DHT_PUT, self._put)
        table.serve(p2p.DHT_GET, self._get)
        table.serve(p2p.IDENTITY_SIGN, self._sign)
        table.serve(p2p.IDENTITY_PROVE, self._prove)
        table.serve(p2p.IDENTITY_VERIFY, self._verify)
        table.serve(p2p.DID_RESOLVE, self._resolve)
        table.serve(p2p.BLOB_STAT, self._blob)

    async def _info(self, _params: Empty, _ctx: Ctx) -> p2p.Info:
        return p2p.Info(
            did=self.did,
            key_seq=len(self.key_ends_ms),
            network=NETWORK,
            endpoints=[f"{self.host}:32570"],
            sessions=len(self.others()),
            contacts=0,
            records=0,
            blobs=0,
            blob_bytes=0,
            egress="",
        )

    async def _peers(self, _params: Empty, _ctx: Ctx) -> p2p.Peers:
        views = [
            p2p.PeerView(
                did=node.did,
                address=f"{node.host}:32570",
                dialled=True,
                known=True,
                since_ms=UnixMs(0),
                clock_skew_ms=0,
                score=0.0,
            )
            for node in self.others()
        ]
        return p2p.Peers(peers=views)

    async def _refuse(self, params: p2p.Refuse, _ctx: Ctx) -> Done:
        self.refused = {node.did: node.until_ms for node in params.nodes}
        return Done()

    async def _reachability(self, _params: Empty, _ctx: Ctx) -> p2p.Reachability:
        duty = p2p.RelayDuty(on_duty=False, reservations=0, circuits=0, bytes=0, seconds=0, refused=0)
        kept = [p2p.KeptFor(keeper=did, records=count) for did, count in self.kept.items()]
        return p2p.Reachability(how="direct", endpoints=[], relays=[], gateway="", duty=duty, carried=[], kept=kept)

    async def _take_duties(self, params: p2p.Duties, _ctx: Ctx) -> Done:
        self.duties = params.duties
        return Done()

    async def _call(self, params: p2p.PeerCall, _ctx: Ctx) -> p2p.PeerAnswer:
        target = next((node for node in self.others() if node.did == params.did), None)
        owner = peer.peer_methods()[params.method].owner
        if target is None or owner not in target.daemons:
            raise PeerUnreachable(address=params.did, detail="cut off")
        call = PeerCallIn(method=params.method, params=params.params, sender=self.did)
        answer = await target.client(owner, "p2pd").call(PEER_HANDLE, call)
        return p2p.PeerAnswer(result=answer.result)

    async def _publish(self, params: p2p.Publish, ctx: Ctx) -> p2p.Published:
        owner = peer.topics()[params.topic].owner
        assert ctx.caller == owner, "only its owner publishes on a topic"
        message = GossipIn(topic=params.topic, payload=params.payload, sender=self.did, key_seq=0, seq_ms=0)
        reached = [node for node in self.others() if owner in node.daemons]
        for node in reached:
            try:
                verdict = str((await node.client(owner, "p2pd").call(GOSSIP_HANDLE, message)).verdict)
            except DuxError as error:
                verdict = error.key
            self.net.gossip.append((params.topic, node.did, verdict))
        return p2p.Published(message_id="00" * 32, sent_to=len(reached))

    async def _prove(self, params: p2p.Prove, ctx: Ctx) -> p2p.Proofs:
        assert ctx.caller == OWNER[Purpose(params.purpose)], "only its owner draws for a purpose"
        purpose = Purpose(params.purpose)
        proofs = tuple(ecvrf.prove(self.look_seed, tagged(purpose, body)) for body in params.bodies)
        return p2p.Proofs(key=ecvrf.public_of(self.look_seed), proofs=proofs)

    async def _put(self, params: p2p.DhtPut, ctx: Ctx) -> p2p.DhtStored:
        space = peer.namespaces()[params.ns]
        assert ctx.caller == space.owner, "only its owner puts records of a namespace"
        assert 1 <= len(params.name) <= 64
        assert len(params.payload) <= space.payload_bytes_max
        if self.cut:
            raise NotStored(asked=0)
        view = p2p.RecordView(did=self.did, key_seq=0, seq_ms=UnixMs(0), expires_ms=UnixMs(0), payload=params.payload)
        records = self.net.dht.setdefault((params.ns, params.name), {})
        records[self.did] = view
        if not params.payload:
            del records[self.did]
        return p2p.DhtStored(stored_at=1, seq_ms=UnixMs(0))

    async def _get(self, params: p2p.DhtGet, _ctx: Ctx) -> p2p.Records:
        self.net.dht_asked.append(params)
        await asyncio.sleep(self.net.dht_waits_s)
        found = {} if self.cut else self.net.dht.get((params.ns, params.name), {})
        return p2p.Records(records=list(found.values()))

    async def _sign(self, params: p2p.Sign, ctx: Ctx) -> p2p.Signature:
        purpose = Purpose(params.purpose)
        assert OWNER[purpose] == ctx.caller, "a purpose belongs to one daemon"
        seq = len(self.key_ends_ms)
        return p2p.Signature(did=self.did, key_seq=seq, signature=key_of(self.number, seq).sign(purpose, params.body))

    async def _verify(self, params: p2p.Verify, _ctx: Ctx) -> p2p.Verdict:
        numbers = {did_number(number): number for number in range(NODES_MAX)}
        signer = self.net.nodes.get(params.did) or FakeNode(self.net, numbers[params.did])  # it need not be there
        return signer.verdict(params)

    async def _resolve(self, params: p2p.Resolve, _ctx: Ctx) -> p2p.Resolved:
        self.net.confirmed.append(params.did)
        if params.did in self.net.unconfirmed and params.min_sources:
            raise TooFewSources(did=params.did, found=1, wanted=params.min_sources)
        return p2p.Resolved(
            did=params.did, key_seq=0, key=b"", disputed=False, frozen=False, ended=False, age_s=0, sources=2,
            log=b"", node_record=None, proof=None, document="",
        )  # fmt: skip

    async def _bonds(self, _params: Empty, _ctx: Ctx) -> Bonds:
        return Bonds(bonds=self.bonds, tip=BlockHeight(self.net.chain.height))

    async def _blob(self, params: p2p.BlobRef, _ctx: Ctx) -> p2p.BlobStat:
        size = self.blobs.get(params.id)
        return p2p.BlobStat(
            id=params.id,
            known=size is not None,
            complete=size is not None,
            size_bytes=size or 0,
            chunks_here=0,
            keep_until_ms=None,
        )


class Neighbour:
    """A daemon under test as another one reaches it: there or not."""

    def __init__(self, node: FakeNode, daemon: str, caller: str) -> None:
        self._node = node
        self._daemon = daemon
        self._caller = caller

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = 15.0) -> R:
        """The daemon's answer.

        Raises:
            NeighbourDown: it does not run.
        """
        if self._daemon not in self._node.daemons:
            raise NeighbourDown(daemon=self._daemon, address="here", detail="it does not run")
        return await self._node.client(self._daemon, self._caller).call(method, params, deadline_s=deadline_s)

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        """Bulk bytes over the daemon's own HTTP door."""
        return await self._node.client(self._daemon, self._caller).transfer(verb, path, body)


@contextlib.asynccontextmanager
async def running(
    node: FakeNode,
    kind: type[DuxOSDaemon[Any]],
    folder: Path,
    *,
    profile: NetworkProfile | None = None,
    **settings: Any,
) -> AsyncIterator[LocalClient]:
    """A real daemon on a node of the fake network, with its loops, until the block ends."""
    made = kind.settings_type_of()(
        network_profile="network.yaml",
        data_dir=str(folder / str(node.number)),
        port_base=free_base(),
        **{"run_dir": str(folder / f"run{node.number}")} | settings,
    )
    daemon = kind(
        made,
        profile or network(),
        log=LOG,
        clock=node.net.clock,
        randomness=SeededRandomness(node.number),
        neighbours=node.neighbours(kind.name),
        store_in_memory=True,
    )
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(daemon.run(ready))
        waiting = group.create_task(ready.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        node.daemons[kind.name] = daemon
        try:
            yield LocalClient(daemon.parts.table, "cli")
        finally:
            node.daemons.pop(kind.name, None)
            daemon.stopping.set()


async def until(predicate: Callable[[], Any], *, within_s: float = 5.0) -> Any:
    """Wait for a predicate (sync or async) to be true; its value."""
    async with asyncio.timeout(within_s):
        while True:
            found = predicate()
            found = await found if asyncio.iscoroutine(found) else found
            if found:
                return found
            await asyncio.sleep(0.01)
