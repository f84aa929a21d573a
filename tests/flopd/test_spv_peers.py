"""A light wallet among peers that lie, leave out, fall silent or disagree: embedded chains in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common.chain import messages, partial_merkle
from common.chain.address import script_to_address
from common.chain.messages import Reject
from common.chain.params import EMBEDDED
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, serialize
from common.chain.wire import Block, decode_tx, encode_header
from common.contracts.wallet import CHAIN_STATUS, WALLET_HISTORY, WALLET_SEND, HistoryAsked, Send, Sent
from common.randomness import SeededRandomness
from common.rpc.method import Empty
from common.units import FLOP, Florins
from dux_flopd import spv_net
from dux_sim.chain import p2p
from dux_sim.chain.node import Node
from dux_sim.chain.p2p import P2pServer
from dux_sim.chain.profile import ChainProfile, Premine, genesis_hash
from dux_sim.chain.rpc import RpcTable
from tests.attacks.registry import attack
from tests.flopd.coin_node import BANK_SCRIPT, CoinBench
from tests.flopd.wallets import WalletNode

HOSTS = [f"127.{at}.0.1" for at in range(1, 7)]  # as many address blocks


class Honest(p2p.Remote):
    """As the embedded chain's own."""


class Omits(p2p.Remote):
    """Proves every block, and shows no transaction in it."""

    def _filtered(self, block: Block, _wanted: object) -> None:
        part = partial_merkle.prove([t.txid for t in block.txs], [False] * len(block.txs), block.header.raw)
        head = encode_header(block.header, block.auxpow)
        self.send("merkleblock", partial_merkle.encode_merkle_block(head, part))


class Forges(p2p.Remote):
    """Its proofs lead nowhere."""

    def _filtered(self, block: Block, _wanted: object) -> None:
        part = partial_merkle.prove([bytes(32)], [True], block.header.raw)
        head = encode_header(block.header, block.auxpow)
        self.send("merkleblock", partial_merkle.encode_merkle_block(head, part))


class Workless(p2p.Remote):
    """Its headers have no work."""

    def _send_headers(self, blocks: list[Block]) -> None:
        bent = [block.header.raw[:76] + b"\xff\xff\xff\xff" for block in blocks]
        plain = [(int.from_bytes(raw[:4], "little") & ~0x100).to_bytes(4, "little") + raw[4:] for raw in bent]
        self.send("headers", messages.encode_headers(plain))


class Refuses(p2p.Remote):
    """Refuses every transaction."""

    def _tx(self, payload: bytes) -> None:
        about = decode_tx(payload).txid
        self.send("reject", messages.encode_reject(Reject(message="tx", code=16, reason="dust", about=about)))


class Invents(p2p.Remote):
    """Announces a payment that was never made, to whoever loads a filter."""

    forged = b""

    def _load(self, payload: bytes) -> None:
        super()._load(payload)
        self.send("tx", self.forged)


class Boasts(p2p.Remote):
    """Claims a height and shows no headers."""

    def send(self, command: str, payload: bytes) -> None:
        if command == "version":
            said = messages.decode_version(payload)
            fields = {name: getattr(said, name) for name in said.__struct_fields__}
            payload = messages.encode_version(messages.Version(**fields | {"height": 1_000}))
        super().send(command, payload)


class Silent(p2p.Remote):
    """Takes connections and says nothing."""

    def _take(self, command: str, payload: bytes) -> None:
        pass


class Town:
    """Peers of several kinds over one chain, and a bank that pays."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        password = tmp_path / "password"
        password.write_text("unused")
        address = script_to_address(BANK_SCRIPT, EMBEDDED) or ""
        profile = ChainProfile(name="town", premine=tuple(Premine(address, str(100 * FLOP)) for _ in range(20)))
        self.node = Node(profile)
        self.table = RpcTable(self.node)
        self.bench = _Bench("town", EMBEDDED, "http://unused.invalid", "", "", password, genesis_hash(profile))
        self.bench.table = self.table
        self.bench.source = "spv"
        premine = self.node.chain.active[0].block.txs[1]
        self.bench.coins = [(Outpoint(premine.txid[::-1].hex(), at), 100 * FLOP) for at in range(20)]
        self._monkeypatch = monkeypatch
        self.servers: list[P2pServer] = []

    @asynccontextmanager
    async def of(self, *kinds: type[p2p.Remote]) -> AsyncIterator[list[str]]:
        """So many peers, one for each kind; their addresses."""
        addresses = []
        for host, kind in zip(HOSTS, kinds, strict=False):
            server = _Server(self.node, SeededRandomness(len(addresses)), kind)
            addresses.append(f"{host}:{await server.start(host, 0)}")
            self.servers.append(server)
        try:
            yield addresses
        finally:
            for server in self.servers:
                await server.stop()

    def wallet(self, folder: Path, peers: list[str], **changes: Any) -> WalletNode:
        """A wallet that knows these peers and wants them all, in different address blocks."""
        network = spv_parts_network(len(peers))
        self._monkeypatch.setattr("dux_flopd.daemon.coin_network", lambda _name: network)
        wallet = WalletNode(folder, self.bench, birth_height=0)
        wallet.changes = {"peers": tuple(peers)} | changes
        return wallet


class _Bench(CoinBench):
    table: RpcTable

    def rpc(self, method: str, *params: object) -> Any:
        return self.table.call(method, list(params))


class _Server(P2pServer):
    def __init__(self, node: Node, random: SeededRandomness, kind: type[p2p.Remote]) -> None:
        super().__init__(node, random)
        self.remote = kind


def spv_parts_network(wanted: int) -> Any:
    """The embedded network with as many peers as the test has, apart."""
    from common.chain.coin_network import CoinNetwork, coin_network  # noqa: PLC0415 - beside its only use

    found = coin_network("embedded")
    fields = {name: getattr(found, name) for name in found.__struct_fields__}
    return CoinNetwork(**fields | {"peers_wanted": wanted, "apart": True})


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Town:
    monkeypatch.setattr(spv_net, "LOOK_S", 0.05)
    return Town(tmp_path, monkeypatch)


def own(wallet: WalletNode) -> bytes:
    from common.chain.address import address_to_script  # noqa: PLC0415

    return address_to_script(wallet.made.address, EMBEDDED)


async def warned(wallet: WalletNode, word: str) -> bool:
    return word in (await wallet.call(CHAIN_STATUS, Empty())).warnings


async def banned(wallet: WalletNode, address: str) -> bool:
    return any(ban.address == address for ban in (await wallet.call(CHAIN_STATUS, Empty())).bans)


async def holds(wallet: WalletNode, florins: int) -> bool:
    return (await wallet.balance()).spendable_florins == florins


@attack(
    "coin network",
    tries="a coin node leaves a payment out of its answers",
    meets="found by the other; the liar is out for a day, the owner is told",
)
async def test_a_payment_that_one_peer_leaves_out_is_found_by_the_other(town: Town, tmp_path: Path) -> None:
    """Two are asked: the coin is there, the one that hid it is gone for a day, and the owner is told."""
    async with town.of(Honest, Omits) as peers:
        wallet = town.wallet(tmp_path / "w", peers)
        async with wallet.running():
            await wallet.until(lambda: _count(wallet, 2), "both peers are ready")
            town.bench.pay((own(wallet), 3 * FLOP))
            town.bench.mine()
            await wallet.until(lambda: holds(wallet, 3 * FLOP))
            await wallet.until(lambda: banned(wallet, peers[1]))
            assert await warned(wallet, "withheld-transactions")
            assert await warned(wallet, "few-peers")


async def _ready(wallet: WalletNode, *addresses: str) -> bool:
    return {peer.address for peer in (await wallet.call(CHAIN_STATUS, Empty())).peers} >= set(addresses)


async def _count(wallet: WalletNode, wanted: int) -> bool:
    return len((await wallet.call(CHAIN_STATUS, Empty())).peers) == wanted


@attack("coin network", tries="forged proofs, headers without work", meets="only their sender is gone")
@pytest.mark.parametrize("kind", [Forges, Workless])
async def test_a_peer_that_lies_is_left_and_the_others_are_believed(
    kind: type[p2p.Remote], town: Town, tmp_path: Path
) -> None:
    """Wrong proofs and workless headers change nothing but that their sender is banned."""
    town.node.mine(b"\x51", 3)
    async with town.of(Honest, kind, Honest) as peers:
        wallet = town.wallet(tmp_path / "w", peers)
        async with wallet.running():
            await wallet.until(lambda: _ready(wallet, peers[0], peers[2]), "the honest ones are ready")
            for florins in (FLOP, 2 * FLOP, 3 * FLOP, 4 * FLOP):
                town.bench.pay((own(wallet), FLOP))
                town.bench.mine()
                await wallet.until(lambda florins=florins: holds(wallet, florins))
            await wallet.until(lambda: banned(wallet, peers[1]))


@attack("coin network", tries="one coin node refuses an own payment", meets="no verdict; two are")
async def test_one_peer_cannot_end_a_payment_and_two_can(town: Town, tmp_path: Path) -> None:
    """A single refusal is no verdict; two are."""
    async with town.of(Honest, Refuses, Honest) as peers:
        wallet = town.wallet(tmp_path / "one", peers)
        async with wallet.running():
            await wallet.until(lambda: _count(wallet, 3), "three peers are ready")
            await wallet.in_node((await _sent(wallet, town)).txid)
    async with town.of(Refuses, Refuses) as peers:
        wallet = town.wallet(tmp_path / "two", peers)
        async with wallet.running():
            await wallet.until(lambda: _count(wallet, 2), "two peers are ready")
            await _sent(wallet, town)
            await wallet.until(lambda: _is_refused(wallet), "the payment is refused")
            assert await holds(wallet, 3 * FLOP)


async def _is_refused(wallet: WalletNode) -> bool:
    return (await wallet.call(WALLET_HISTORY, HistoryAsked())).entries[0].state == "refused"


async def _sent(wallet: WalletNode, town: Town) -> Sent:
    town.bench.pay((own(wallet), 3 * FLOP))
    town.bench.mine()
    await wallet.until(lambda: holds(wallet, 3 * FLOP))
    to = script_to_address(BANK_SCRIPT, EMBEDDED) or ""
    return await wallet.call(WALLET_SEND, Send(request_id="s", address=to, amount_florins=Florins(FLOP)))


@attack("coin network", tries="announces a coin that nobody else knows", meets="never counts, not even as pending")
async def test_an_invented_payment_is_not_shown(town: Town, tmp_path: Path) -> None:
    """One peer of two announces a coin that no other knows: it never counts, not even as pending."""
    async with town.of(Honest, Invents) as peers:
        wallet = town.wallet(tmp_path / "w", peers)
        forged = Tx((TxInput(Outpoint("ab" * 32, 0), b"\x51"),), (TxOutput(Florins(50 * FLOP), own(wallet)),))
        Invents.forged = serialize(forged)
        async with wallet.running():
            await wallet.until(lambda: _count(wallet, 2), "both peers are ready")
            town.bench.pay((own(wallet), FLOP))
            await wallet.until(lambda: _pending(wallet, FLOP), "the true one is shown")
            assert await _pending(wallet, FLOP)


async def _pending(wallet: WalletNode, florins: int) -> bool:
    return (await wallet.balance()).pending_florins == florins


async def test_a_peer_that_claims_more_than_it_shows_is_told_of(town: Town, tmp_path: Path) -> None:
    """It may hide a longer chain, or lie: the owner hears of it, the wallet goes on."""
    async with town.of(Honest, Boasts) as peers:
        wallet = town.wallet(tmp_path / "w", peers)
        async with wallet.running():
            await wallet.until(lambda: warned(wallet, "behind-peers"))


async def test_silent_peers_and_none_are_said_to_be_so(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon runs, tells what is missing, and goes on as soon as one peer answers."""
    monkeypatch.setattr("dux_flopd.spv_peer.HANDSHAKE_S", 0.2)
    async with town.of(Silent, Honest) as peers:
        await town.servers[1].stop()
        wallet = town.wallet(tmp_path / "w", peers)
        wallet.daemon = wallet.daemon_type(wallet.settings(), wallet.network, log=wallet.log)
        ready = asyncio.Event()
        task = asyncio.ensure_future(wallet.daemon.run(ready))
        await ready.wait()
        await wallet.until(lambda: _says(wallet, "no peer is ready"), "it says so")
        host, _, port = peers[1].rpartition(":")
        back = _Server(town.node, SeededRandomness(9), Honest)
        await back.start(host, int(port))
        await wallet.synced()
        wallet.daemon.stopping.set()
        await task
        await back.stop()


async def _says(wallet: WalletNode, words: str) -> bool:
    return words in " ".join((await wallet.status()).problems)


async def test_whole_blocks_need_no_filter_and_hide_nothing(town: Town, tmp_path: Path) -> None:
    """With `whole_blocks` even a peer that omits is enough, for it cannot; and it is told no script."""
    async with town.of(Omits) as peers:
        wallet = town.wallet(tmp_path / "w", peers, whole_blocks=True)
        async with wallet.running():
            town.bench.pay((own(wallet), 3 * FLOP))
            await wallet.until(lambda: _pending(wallet, 3 * FLOP), "it waits")
            town.bench.mine()
            await wallet.until(lambda: holds(wallet, 3 * FLOP))
            assert all(remote._filter is None for remote in town.servers[0]._peers)


@attack(
    "coin network",
    tries="all but one coin node hide the newest blocks together",
    meets="one honest peer's branch has more work",
)
async def test_a_longer_branch_at_one_peer_is_enough(town: Town, tmp_path: Path) -> None:
    """Whoever hides blocks together loses against one honest peer: its branch has more work."""
    town.node.mine(b"\x51", 3)
    other = Node(town.node.profile)
    for entry in town.node.chain.active[1:]:
        other.submit_block(entry.block)
    other.mine(b"\x52", 4)
    async with town.of(Honest, Honest) as peers:
        honest = _Server(other, SeededRandomness(5), Honest)
        town.bench.table = RpcTable(other)
        address = f"{HOSTS[5]}:{await honest.start(HOSTS[5], 0)}"
        wallet = town.wallet(tmp_path / "w", [*peers, address])
        async with wallet.running():
            await wallet.until(lambda: _at(wallet, other), "the wallet is on the branch with more work")
            await wallet.until(lambda: warned(wallet, "tips-disagree"))
        await honest.stop()


async def _at(wallet: WalletNode, node: Node) -> bool:
    return (await wallet.call(CHAIN_STATUS, Empty())).header_hash == node.chain.tip.hash[::-1].hex()
