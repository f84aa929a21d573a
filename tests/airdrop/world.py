"""A small world for airdropd: real chain, real signatures, real daemons; p2pd, flopd and registryd are thin fakes.

The chain is the embedded one, so every payout is judged by mainnet's rules. Nodes can be down, lie, and be killed in
the middle of any call; a killed daemon starts again from its file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import structlog
from coincurve import PrivateKey

from common.ceremony import CeremonyPlan, FundClaim, FundWord, claim_digest, plan_id
from common.chain.address import pay_to_key, pay_to_script, script_to_address
from common.chain.beacon import beacon_heights, beacon_of, work_hash
from common.chain.bond import Bond, BondProof, bond_digest, bond_output_script
from common.chain.fund import FundInput, FundPayout, assemble_payout, fund_output_script, payout_digests
from common.chain.invalid import Invalid
from common.chain.merkle import branch_of as branch_to_root
from common.chain.params import EMBEDDED
from common.chain.script import award_sig, coop_sig
from common.chain.tx import HASH_TYPE_ALL, Outpoint, TxInput, TxOutput, parse, serialize, sighash
from common.chain.tx import Tx as FundTx
from common.chain.tx import txid as txid_of
from common.chain.wire import Tx, decode_tx, shown
from common.clock import ManualClock
from common.codec import canonical, from_canonical
from common.community_fund import fund_script_of
from common.contracts import p2p
from common.contracts import wallet_chain as wc
from common.contracts.airdrop import AIRDROP_STATUS, AirdropStatus
from common.contracts.base import PEER_HANDLE, PeerCallIn
from common.contracts.p2p_errors import BlobMissing, PeerAnswered, PeerUnknown, TooFewSources
from common.contracts.registry import EVIDENCE_WINDOW, Evidence, EvidenceWindow
from common.contracts.registry_seen import EVIDENCE_SEEN, SeenAsked, SeenNode, SeenNodes
from common.contracts.wallet_bonds import WALLET_BONDS, BondCoin, Bonds, BondView
from common.contracts.wallet_chain_proof import (
    CHAIN_HEADERS,
    CHAIN_TX_PROOF,
    Headers,
    HeadersAsked,
    TxProof,
    TxProofAsked,
)
from common.contracts.wallet_contract import (
    FUND_PROVE,
    FUND_SETTLE,
    FUND_SIGN,
    KeyProven,
    PayoutSent,
    PayoutSignatures,
    ProveKey,
    SettlePayout,
    SignPayout,
)
from common.errors import DuxError, NotFound, NotNow, Unavailable, may_repeat
from common.identity.branch import OperationalBranch, did_of_branch, inception_of, make_branch, operational_key
from common.identity.keys import is_signed
from common.identity.log import encode_log, read_log
from common.identity.purposes import Purpose
from common.network import Custodian, FundParameters, NetworkProfile, Quorum
from common.outbox import OutboxWorker
from common.parameters import AirdropParameters
from common.peers import MONEY_MAX_AGE_S
from common.randomness import SeededRandomness
from common.receipts import Attested, Heartbeat, NodeInfo, SettledReceipt
from common.rpc.client import LocalClient
from common.rpc.method import Done, Empty, Method, P, R
from common.rpc.table import Ctx, MethodTable
from common.store import Store
from common.units import FLOP, BlockHeight, Did, Florins, UnixMs
from dux_airdropd.daemon import AirdropDaemon
from dux_airdropd.settings import AirdropdSettings
from dux_sim.chain.node import Node as ChainNode
from dux_sim.chain.profile import ChainProfile, Premine, genesis_hash
from tests.embedded_chain.coin_bench import Coin, raw, spend
from tests.market import keyed as lots
from tests.market import makers

NOW_MS = 1_790_000_000_000
CHANGE = FLOP // 50
RIVAL_CAME_FIRST = ("txn-mempool-conflict", "insufficient fee", "bad-txns-inputs-missingorspent", "txn-already-known")


QUIET = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class Killed(BaseException):
    """The process is gone in the middle of a call."""


class FusedClient:
    """A client of one fake neighbour that counts calls and can kill its daemon before or after one of them."""

    def __init__(self, world: World, node: Node, inner: LocalClient) -> None:
        self._world, self._node, self._inner = world, node, inner

    async def call(self, method: Method[P, R], params: P, *, deadline_s: float = 15.0) -> R:
        self._world.burn(self._node)
        answer = await self._inner.call(method, params, deadline_s=deadline_s)
        self._world.burn(self._node)
        return answer

    async def transfer(self, verb: str, path: str, body: bytes | None) -> bytes:
        self._world.burn(self._node)
        if verb == "PUT" and body is not None:
            name = sha256(body).hexdigest()
            self._node.blobs[name] = body
            return name.encode()
        return self._node.blobs[path.removeprefix("/blob/")]


class Node:
    """One node: its keys, what its registry has witnessed, its fakes, and its airdropd."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.did, self.key = did_of(number), operational_key(branch_of(number), 0)
        self.coin_key = fund_key(number)
        self.fund_keys = [fund_key(number, offset) for offset in (0, 40, 80)]
        self.payout_script = pay_to_key(PrivateKey(bytes([number + 101]) * 32).public_key.format())
        self.address = script_to_address(self.payout_script, EMBEDDED) or ""
        self.blobs: dict[str, bytes] = {}
        self.heartbeats: list[bytes] = []
        self.nodes: list[bytes] = []
        self.receipts: list[bytes] = []
        self.bonds: list[BondCoin] = []
        self.confirmed: set[Did] = set()  # of whom its p2pd has asked the network
        self.up = True
        self.calls = 0
        self.clients: dict[str, FusedClient] = {}
        self.daemon: AirdropDaemon
        self.stack: AsyncExitStack

    # life

    async def start(self) -> None:
        """Start, or start again from the file."""
        self.up = True
        self.clients = {name: self._client(name) for name in ("p2pd", "flopd", "registryd")}
        settings = AirdropdSettings(
            network_profile="", data_dir=str(self.world.folder / str(self.number)), run_dir=str(self.world.folder)
        )
        self.daemon = AirdropDaemon(
            settings,
            self.world.network,
            log=QUIET,
            clock=self.world.clock,
            randomness=SeededRandomness(self.number),
            neighbours=lambda name: self.clients[name],
            store_in_memory=not self.world.durable,
        )
        self.stack = AsyncExitStack()
        parts = self.daemon._make_parts(self.stack)
        self.daemon.parts = parts
        await self.daemon.assemble(parts)
        self.table = parts.table
        store = parts.table.store
        assert store is not None
        self.store = store
        self.worker = OutboxWorker(store, self.daemon.perform, clock=self.world.clock, log=QUIET)

    async def stop(self) -> None:
        """Gone; what was not committed is lost."""
        self.up = False
        await self.stack.aclose()

    async def look(self) -> None:
        """One look and whatever the outbox wants; killed when the fuse burns through."""
        try:
            with suppress(NotNow, Unavailable):
                await self.daemon.look()
            for effect in self.worker._look()[0]:
                await self.worker._try(effect)
        except Killed:
            await self.stop()
            await self.start()

    async def ask(self, method: Method[P, R], params: P) -> R:
        """What a person would hear from this node's airdropd."""
        return await LocalClient(self.table, "cli").call(method, params)

    async def status(self) -> AirdropStatus:
        return await self.ask(AIRDROP_STATUS, Empty())

    # fakes

    def _table(self) -> MethodTable:
        table = MethodTable(log=QUIET, clock=self.world.clock, randomness=SeededRandomness(1))
        table.store = Store.open(None, [], self.world.clock)
        return table

    def _client(self, name: str) -> FusedClient:
        table = self._table()
        {"p2pd": self._serve_p2pd, "flopd": self._serve_flopd, "registryd": self._serve_registryd}[name](table)
        return FusedClient(self.world, self, LocalClient(table, "airdropd"))

    def _serve_registryd(self, table: MethodTable) -> None:
        async def window(_params: EvidenceWindow, _ctx: Ctx) -> Evidence:
            return Evidence(heartbeats=tuple(self.heartbeats), receipts=tuple(self.receipts), nodes=tuple(self.nodes))

        async def seen(params: SeenAsked, _ctx: Ctx) -> SeenNodes:
            return SeenNodes(nodes=tuple(self.world.seen_by(self, params)))

        table.serve(EVIDENCE_WINDOW, window)
        table.serve(EVIDENCE_SEEN, seen)

    def _serve_p2pd(self, table: MethodTable) -> None:
        async def info(_params: Empty, _ctx: Ctx) -> p2p.Info:
            return p2p.Info(
                did=self.did, key_seq=0, network=self.world.network.genesis, endpoints=[], sessions=0, contacts=0,
                records=0, blobs=0, blob_bytes=0, egress="",
            )  # fmt: skip

        async def verify(params: p2p.Verify, _ctx: Ctx) -> p2p.Verdict:
            signer = self.world.by_did.get(params.did)
            is_stopped = params.did in self.world.recovered & self.confirmed  # its p2pd has heard of it
            good = (
                signer is not None
                and not is_stopped
                and is_signed(signer.key.public, Purpose(params.purpose), params.body, params.signature)
            )
            return p2p.Verdict(valid=good, reason="")

        async def peer_call(params: p2p.PeerCall, _ctx: Ctx) -> p2p.PeerAnswer:
            return await self.world.carry(self.did, params)

        async def fetch(params: p2p.BlobFetch, _ctx: Ctx) -> p2p.BlobStat:
            for did in params.providers:
                data = self.world.by_did[did].blobs.get(params.id)
                if data is not None and self.world.by_did[did].up:
                    self.blobs[params.id] = data
                    return p2p.BlobStat(
                        id=params.id, known=True, complete=True, size_bytes=len(data), chunks_here=1, keep_until_ms=None
                    )
            raise BlobMissing(blob=params.id, providers=len(params.providers))

        async def sign(params: p2p.Sign, _ctx: Ctx) -> p2p.Signature:
            made = self.key.sign(Purpose(params.purpose), params.body)
            return p2p.Signature(did=self.did, key_seq=0, signature=made)

        table.serve(p2p.DID_RESOLVE, self._resolve)
        table.serve(p2p.DHT_PUT, self._put)
        table.serve(p2p.DHT_GET, self._get)
        table.serve(p2p.P2P_INFO, info)
        table.serve(p2p.IDENTITY_SIGN, sign)
        table.serve(p2p.IDENTITY_VERIFY, verify)
        table.serve(p2p.PEER_CALL, peer_call)
        table.serve(p2p.BLOB_FETCH, fetch)

    async def _put(self, params: p2p.DhtPut, _ctx: Ctx) -> p2p.DhtStored:
        now_ms = self.world.clock.unix_ms()
        expires_ms = UnixMs(now_ms + params.ttl_s * 1000)
        view = p2p.RecordView(did=self.did, key_seq=0, seq_ms=now_ms, expires_ms=expires_ms, payload=params.payload)
        self.world.dht.setdefault(params.name, {})[self.did] = view
        return p2p.DhtStored(stored_at=len(self.world.nodes), seq_ms=now_ms)

    async def _get(self, params: p2p.DhtGet, _ctx: Ctx) -> p2p.Records:
        return p2p.Records(records=list(self.world.dht.get(params.name, {}).values()))

    async def _resolve(self, params: p2p.Resolve, _ctx: Ctx) -> p2p.Resolved:
        if params.min_sources and params.max_age_s <= MONEY_MAX_AGE_S:
            if params.did in self.world.unconfirmed:
                raise TooFewSources(did=params.did, found=1, wanted=params.min_sources)
            self.confirmed.add(params.did)
        return p2p.Resolved(
            did=params.did, key_seq=0, key=b"", disputed=False, frozen=False, ended=False, age_s=0, sources=1,
            log=log_of(params.did), node_record=None, proof=None, document="",
        )  # fmt: skip

    def _serve_flopd(self, table: MethodTable) -> None:
        chain, world = self.world.chain, self.world

        async def tip(_params: Empty, _ctx: Ctx) -> wc.Tip:
            top = chain.chain.tip
            return wc.Tip(height=BlockHeight(top.height), hash=shown(top.hash), time_s=0, synced=True, source="core")

        async def block_hash(params: wc.HeightAsked, _ctx: Ctx) -> wc.BlockHash:
            if params.height > chain.chain.tip.height:
                raise NotFound(what="block", name=str(params.height))
            return wc.BlockHash(height=params.height, hash=shown(chain.chain.active[params.height].hash))

        async def watch(_params: wc.WatchScripts, _ctx: Ctx) -> Done:
            return Done()

        async def coins(params: wc.ScriptAsked, _ctx: Ctx) -> wc.Coins:
            return wc.Coins(coins=world.coins_on(params.script), tip=BlockHeight(chain.chain.tip.height))

        async def tx(params: wc.TxAsked, _ctx: Ctx) -> wc.TxView:
            return world.tx_view(params.txid)

        async def sign(params: SignPayout, _ctx: Ctx) -> PayoutSignatures:
            payout = from_canonical(params.payout, FundPayout, max_bytes=10**6)
            world.signed.append((self.did, payout))
            key = next(one for one in self.fund_keys if one.public_key.format() in payout.pubkeys)
            signatures = [key.sign(digest, hasher=None) + b"\x01" for digest in payout_digests(payout)]
            return PayoutSignatures(pubkey=key.public_key.format(), signatures=signatures)

        async def settle(params: SettlePayout, _ctx: Ctx) -> PayoutSent:
            payout = from_canonical(params.payout, FundPayout, max_bytes=10**6)
            full = assemble_payout(payout, {item.pubkey: tuple(item.signatures) for item in params.signatures})
            world.broadcast(serialize(full))
            return PayoutSent(txid=txid_of(full), fee_florins=Florins(0))

        table.serve(wc.CHAIN_TIP, tip)
        table.serve(wc.CHAIN_BLOCK_HASH, block_hash)
        table.serve(wc.CHAIN_WATCH, watch)
        table.serve(wc.CHAIN_COINS, coins)
        table.serve(wc.CHAIN_TX, tx)
        self._serve_ceremony(table)
        table.serve(FUND_SIGN, sign)
        table.serve(FUND_SETTLE, settle)

    def _serve_ceremony(self, table: MethodTable) -> None:
        async def prove(params: ProveKey, _ctx: Ctx) -> KeyProven:
            plan = from_canonical(params.plan, CeremonyPlan, max_bytes=10**4)
            key = fund_key(self.number, 40 * plan.key_number)
            claim = FundClaim(plan_id(plan), params.did, key.public_key.format(), params.script)
            word = FundWord(claim, key.sign(claim_digest(claim), hasher=None) + b"\x01")
            return KeyProven(word=canonical(word))

        async def beacon(params: wc.HeightAsked, _ctx: Ctx) -> wc.Beacon:
            works = [
                work_hash(self.world.chain.chain.active[at].block.header.raw) for at in beacon_heights(params.height)
            ]
            return wc.Beacon(height=params.height, beacon=beacon_of(params.height, works))

        async def headers(params: HeadersAsked, _ctx: Ctx) -> Headers:
            blocks = self.world.chain.chain.active[params.from_height : params.from_height + params.count]
            return Headers(headers=b"".join(entry.block.header.raw for entry in blocks))

        async def tx_proof(params: TxProofAsked, _ctx: Ctx) -> TxProof:
            entry = self.world.chain.chain.active[params.height]
            leaves = [tx.txid for tx in entry.block.txs]
            at = leaves.index(bytes.fromhex(params.txid)[::-1])
            branch = list(branch_to_root(leaves, at))
            return TxProof(raw=entry.block.txs[at].raw, index=at, branch=branch, block_hash=shown(entry.hash))

        async def bonds(_params: Empty, _ctx: Ctx) -> Bonds:
            view = BondView(
                number=1, address="", until=BlockHeight(1), locked_florins=Florins(0), registered=True, coins=self.bonds
            )
            return Bonds(bonds=[view], tip=BlockHeight(self.world.chain.chain.tip.height))

        table.serve(WALLET_BONDS, bonds)
        table.serve(CHAIN_HEADERS, headers)
        table.serve(CHAIN_TX_PROOF, tx_proof)
        table.serve(wc.CHAIN_BEACON, beacon)
        table.serve(FUND_PROVE, prove)


def sign_all(payout: FundPayout, signers: list[Node]) -> FundTx:
    """The payout with these custodians' signatures."""
    digests = payout_digests(payout)
    return assemble_payout(
        payout,
        {
            node.coin_key.public_key.format(): tuple(node.coin_key.sign(d, hasher=None) + b"\x01" for d in digests)
            for node in signers
        },
    )


@cache
def branch_of(number: int) -> OperationalBranch:
    """A node's identity keys."""
    return make_branch(bytes([number + 1]) * 64, net=1, account=0, made_ms=NOW_MS - 86_400_000, inception_bits=0)


@cache
def did_of(number: int) -> Did:
    """A node's name."""
    return did_of_branch(branch_of(number), 0)


@cache
def log_of(did: Did) -> bytes:
    """The event log of one of the first nodes."""
    number = next(n for n in range(64) if did_of(n) == did)
    return encode_log(read_log([inception_of(branch_of(number), 0)], now_ms=NOW_MS, inception_bits=0))


def fund_key(number: int, offset: int = 0) -> PrivateKey:
    """A node's key in the fund's script, or (with an offset) in another script."""
    return PrivateKey(bytes([number + 1 + offset]) * 32)


def quorum_of(needed: int, keepers: int, offset: int) -> Quorum:
    """The first nodes keep another script, each with another key."""
    return Quorum(
        threshold=needed,
        custodians=tuple(
            Custodian(did=did_of(n), pubkey=fund_key(n, offset).public_key.format().hex()) for n in range(keepers)
        ),
    )


class World:
    """Nodes 0 to custodians-1 keep the fund, the others only take part."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 5,
        custodians: int = 3,
        needed: int = 2,
        fund: int = 99 * FLOP,
        durable: bool = False,
        collector: tuple[int, int] | None = None,
        before: tuple[int, int] | None = None,
        **rule: Any,
    ) -> None:
        self.folder, self.durable = folder, durable
        self.clock = ManualClock(NOW_MS)
        bank = script_to_address(pay_to_key(PrivateKey(sha256(b"bench funder").digest()).public_key.format()), EMBEDDED)
        self.nodes: list[Node] = []
        keys = [PrivateKey(bytes([n + 1]) * 32).public_key.format() for n in range(custodians)]
        self.fund_script = fund_output_script(needed, tuple(sorted(keys)))
        premine = (
            Premine(script_to_address(self.fund_script, EMBEDDED) or "", str(fund)),
            *(Premine(bank or "", str(1_000 * FLOP)) for _ in range(20)),
        )
        profile = ChainProfile(name="airdrop", premine=premine, mine_to=bank)
        self.chain = ChainNode(profile)
        self._bank = list(range(1, 21))
        dids = [did_of(n) for n in range(custodians)]
        self.collector = quorum_of(*collector, 40) if collector else None
        self.before = quorum_of(*before, 80) if before else None
        self.network = NetworkProfile(
            name="airdrop",
            chain="embedded",
            genesis=genesis_hash(profile),
            heights="demo",
            council=tuple(dids),
            fund=FundParameters(
                threshold=needed,
                custodians=tuple(Custodian(did=d, pubkey=k.hex()) for d, k in zip(dids, keys, strict=True)),
                collectors=(self.collector,) if self.collector else (),
                before=(self.before,) if self.before else (),
            ),
            airdrop=AirdropParameters(evidence_blocks=2, **rule),
        )
        self.nodes = [Node(self, number) for number in range(nodes)]
        self.by_did = {node.did: node for node in self.nodes}
        self.signed: list[tuple[Did, FundPayout]] = []
        self.recovered: set[Did] = set()  # whose keys of before no longer count, as the network knows
        self.dht: dict[str, dict[Did, p2p.RecordView]] = {}  # by name: this daemon has one namespace
        self.unconfirmed: set[Did] = set()  # of whom too few can tell
        self.fuse: tuple[int, int] | None = None  # node number, calls until it is killed
        self.tamper: Callable[[Did, p2p.PeerCall], p2p.PeerCall] = lambda _sender, call: call

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()

    async def stop(self) -> None:
        for node in self.nodes:
            if node.up:
                await node.stop()

    async def run(self, blocks: int) -> None:
        """So many blocks, with looks of all nodes after each."""
        for _ in range(blocks):
            self.chain.mine(b"\x51")
            self.clock.advance(60)
            for _ in range(2):
                for node in self.nodes:
                    if node.up:
                        await node.look()

    @property
    def nobody_left_to_kill(self) -> bool:
        """Whether the fuse has burnt through."""
        return self.fuse is None

    def burn(self, node: Node) -> None:
        """Count a call of a daemon; when its fuse has burnt through, the daemon is killed there."""
        node.calls += 1
        if self.fuse is not None and self.fuse[0] == node.number:
            self.fuse = (self.fuse[0], self.fuse[1] - 1)
            if self.fuse[1] == 0:
                self.fuse = None
                raise Killed

    async def carry(self, sender: Did, call: p2p.PeerCall) -> p2p.PeerAnswer:
        """What two p2pds do: relay to the daemon that owns the method, name the sender, hide the rest."""
        target = self.by_did[call.did]
        if not target.up:
            raise PeerUnknown(did=call.did)
        call = self.tamper(sender, call)
        inward = PeerCallIn(method=call.method, params=call.params, sender=sender)
        try:
            answer = await LocalClient(target.table, "p2pd").call(PEER_HANDLE, inward)
        except DuxError as error:
            raise PeerAnswered(
                did=call.did,
                method=call.method,
                peer_code=error.code,
                peer_key=error.key,
                detail=error.message,
                retry=may_repeat(error),
            ) from error
        return p2p.PeerAnswer(result=answer.result)

    # the chain

    def coins_on(self, script: bytes) -> list[wc.CoinView]:
        """Every output on a script in blocks, with its spend."""
        found: dict[tuple[bytes, int], wc.CoinView] = {}
        for entry in self.chain.chain.active:
            for position, tx in enumerate(entry.block.txs):
                for txin in tx.inputs:
                    key = (txin.prevout.txid, txin.prevout.vout)
                    if key in found:
                        spend_view = wc.SpendView(
                            txid=shown(tx.txid), height=BlockHeight(entry.height), raw=tx.raw, script_sig=b""
                        )
                        found[key] = msgspec.structs.replace(found[key], spend=spend_view)
                for vout, out in enumerate(tx.outputs):
                    if out.script == script:
                        found[(tx.txid, vout)] = wc.CoinView(
                            outpoint=Outpoint(shown(tx.txid), vout),
                            value_florins=Florins(out.value_florins),
                            height=BlockHeight(entry.height),
                            position=position,
                            spend=None,
                        )
        return list(found.values())

    def tx_view(self, name: str) -> wc.TxView:
        place = self.chain.chain.tx_places.get(bytes.fromhex(name)[::-1])
        if place is None:
            raise NotFound(what="transaction", name=name)
        entry, position = place
        raw_tx = entry.block.txs[position].raw
        outputs: list[TxOutput] = list(parse(raw_tx).outputs)
        return wc.TxView(txid=name, height=BlockHeight(entry.height), raw=raw_tx, spent=[], outputs=outputs)

    def broadcast(self, raw_tx: bytes) -> None:
        """As flopd's outbox: handed to the chain; a rival that came first is no error."""
        try:
            self.chain.submit_tx(decode_tx(raw_tx))
        except Invalid as refused:
            if refused.reason not in RIVAL_CAME_FIRST:
                raise

    def pay_fund(self, florins: int, script: bytes = b"") -> Tx:
        """A payment to the script of the tax (or another one), mined in the next block."""
        origin = self.chain.chain.active[0].block.txs[1]
        coin = Coin(shown(origin.txid), self._bank.pop(), origin.outputs[1].script, 1_000 * FLOP)
        made = spend(
            coin, [(florins, script or fund_script_of(self.network.fund)), (coin.value - florins - CHANGE, coin.lock)]
        )
        tx = decode_tx(bytes.fromhex(raw(made)))
        self.chain.submit_tx(tx)
        self.chain.mine(b"\x51")
        return tx

    def bond(self, number: int, florins: int, until: int) -> None:
        """A node locks coins, and its wallet has the proof."""
        node = self.nodes[number]
        owner = node.coin_key.public_key.format()
        tx = self.pay_fund(florins, bond_output_script(owner, until))
        point = Outpoint(shown(tx.txid), 0)
        made = Bond(self.network.genesis, node.did, owner, until, point)
        proof = canonical(BondProof(made, node.coin_key.sign(bond_digest(made), hasher=None) + b"\x01"))
        height = BlockHeight(self.chain.chain.tip.height)
        node.bonds.append(BondCoin(outpoint=point, value_florins=Florins(florins), height=height, proof=proof))

    def spend_fund(self) -> str:
        """Two custodians spend the fund's largest coin for something else; returns the transaction's name."""
        view = max(self.coins_on(self.fund_script), key=lambda coin: int(coin.value_florins))
        left = Florins(int(view.value_florins) - 1_200_000)
        keys = tuple(bytes.fromhex(item.pubkey) for item in self.network.fund.custodians)
        payout = FundPayout(
            network=self.network.genesis,
            purpose="something else",
            needed=self.network.fund.threshold,
            pubkeys=tuple(sorted(keys)),
            inputs=(FundInput(view.outpoint, view.value_florins),),
            outputs=(TxOutput(left, self.nodes[4].payout_script),),
        )
        spent = sign_all(payout, self.nodes[:2])
        self.broadcast(serialize(spent))
        return txid_of(spent)

    def seen_by(self, witness: Node, asked: SeenAsked) -> list[SeenNode]:
        """What a registry says of every node: there all the time, for as long as the chain is."""
        return [
            SeenNode(
                did=node.did, since_height=0, up_bps=9_900, up_last=True, standing_milli=2_000, fault_height=-1,
                net=f"10.0.{node.number}.0/24",
            )
            for node in sorted(self.nodes, key=lambda one: one.did)
            if asked.height >= 0 and witness.up
        ]  # fmt: skip

    def balance(self, script: bytes) -> int:
        """What lies unspent on a script, in florins."""
        return sum(coin.out.value_florins for coin in self.chain.chain.coins.values() if coin.out.script == script)

    # evidence

    def attest(self, node: Node, purpose: Purpose, body: Heartbeat | NodeInfo | SettledReceipt) -> bytes:
        data = canonical(body)
        return canonical(Attested(data, node.did, 0, node.key.sign(purpose, data)))

    def announce(self, *numbers: int, seen_by: list[int] | None = None) -> None:
        """Nodes register and send a heartbeat, witnessed by all custodians or by some nodes."""
        top = self.chain.chain.tip
        for number in numbers:
            node = self.nodes[number]
            beat = makers.heartbeat(
                network=self.network.genesis,
                did=node.did,
                height=BlockHeight(top.height),
                block_hash=shown(top.hash),
                at_ms=UnixMs(NOW_MS + top.height),
            )
            info = makers.node(network=self.network.genesis, did=node.did, wallet_address=node.address)
            for witness in self._witnesses(seen_by):
                witness.heartbeats.append(self.attest(node, Purpose.HEARTBEAT, beat))
                witness.nodes.append(self.attest(node, Purpose.REGISTRATION, info))

    def trade(self, buyer: int, seller: int, gross: int = 10 * FLOP, *, seen_by: list[int] | None = None) -> None:
        """A paid job: its tax goes to the fund, its receipt to the custodians' registries."""
        tx = self.pay_fund(gross // 20)
        sold = self.nodes[seller]
        receipt = makers.receipt(
            network=self.network.genesis,
            cid=tx.txid,
            buyer=self.nodes[buyer].did,
            seller=sold.did,
            signer=sold.did,
            price_florins=Florins(gross),
            gross_florins=Florins(gross),
            tax_florins=Florins(gross // 20),
            txid=shown(tx.txid),
            height=BlockHeight(self.chain.chain.tip.height),
        )
        for witness in self._witnesses(seen_by):
            witness.receipts.append(self.attest(sold, Purpose.SETTLED_RECEIPT, receipt))

    def trade_by_contract(
        self, buyer: int, seller: int, thieves: tuple[int, int], gross: int = 10 * FLOP, *, awarded: bool = False
    ) -> None:
        """A job paid out of a lot: both parties' receipts under their keys, and two thieves' about the same payment.

        All tell of a release; `awarded`: the lot was taken by the seller with two arbiters.
        """
        lot, fee = lots.script(), 1_200_000
        funded = self.pay_fund(gross + fee, pay_to_script(lot))
        fund = fund_script_of(self.network.fund)
        rest = TxOutput(Florins(gross - gross // 20), pay_to_key(lots.public("seller")))
        outputs = (TxOutput(Florins(gross // 20), fund), rest)
        bare = FundTx((TxInput(Outpoint(shown(funded.txid), 0)),), outputs)
        digest = sighash(bare, 0, lot)
        signed = [
            lots.coin_key(name).sign(digest, hasher=None) + HASH_TYPE_ALL
            for name in ("buyer", "seller", "arbiter 0", "arbiter 1")
        ]
        taken = award_sig(lot, signed[2:], signed[1]) if awarded else coop_sig(lot, signed[0], signed[1], None)
        tx = decode_tx(serialize(bare.signed([taken])))
        self.chain.submit_tx(tx)
        self.chain.mine(b"\x51")
        for names, cid in (((buyer, seller), tx.txid), (thieves, b"\x00" * 32)):
            for signer in names:
                receipt = makers.receipt(
                    network=self.network.genesis,
                    cid=cid,
                    buyer=self.nodes[names[0]].did,
                    seller=self.nodes[names[1]].did,
                    signer=self.nodes[signer].did,
                    price_florins=Florins(gross),
                    gross_florins=Florins(gross),
                    tax_florins=Florins(gross // 20),
                    txid=shown(tx.txid),
                    height=BlockHeight(self.chain.chain.tip.height),
                )
                told = receipt if names == thieves else lots.keyed(receipt)
                for witness in self._witnesses(None):
                    witness.receipts.append(self.attest(self.nodes[signer], Purpose.SETTLED_RECEIPT, told))

    def _witnesses(self, seen_by: list[int] | None) -> list[Node]:
        return [self.nodes[n] for n in (range(len(self.nodes)) if seen_by is None else seen_by)]

    def paid(self, number: int) -> int:
        """What a node's wallet received, in florins."""
        return self.balance(self.nodes[number].payout_script)
