"""chain.*: what others may ask of the view, and how the node is reached."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import structs

from common.chain import difficulty
from common.chain.address import address_to_script, pay_to_key
from common.chain.beacon import beacon_of, work_hash
from common.chain.channel import chid
from common.chain.channel_close import read_close
from common.chain.params import EMBEDDED
from common.chain.tx import BadTransaction, Outpoint, parse, serialize, txid
from common.chain.verify import SpendRefused
from common.clock import ManualClock
from common.contracts.wallet import (
    CHAIN_BEACON,
    CHAIN_BLOCK_HASH,
    CHAIN_BROADCAST,
    CHAIN_COINS,
    CHAIN_TX,
    CHAIN_WATCH,
    WALLET_HISTORY,
    WALLET_SEND,
    WALLET_UTXOS,
    HistoryAsked,
    Send,
)
from common.contracts.wallet_chain import Broadcast, HeightAsked, ScriptAsked, TxAsked, WatchScripts
from common.contracts.wallet_errors import ChainUnavailable
from common.errors import BadParams, NotFound
from common.rpc.method import Empty
from common.store import Store
from common.units import FLOP, BlockHeight, Florins
from dux_flopd.blocks import work_header
from dux_flopd.model import NewPayment, PaymentKind
from dux_flopd.node_rpc import CoinNode, Proxy
from dux_flopd.schema import MIGRATIONS
from dux_flopd.source import Refused
from dux_flopd.store import WalletStore
from tests.attacks.registry import attack
from tests.chain.contract_kit import public_key
from tests.chain.test_channel import close_of, terms
from tests.flopd.coin_node import CoinBench, _as_hex
from tests.flopd.test_crashes import gate
from tests.flopd.test_payments import bank_address, funded
from tests.flopd.wallets import WalletNode
from tests.ports import free_ports


async def test_a_foreign_transaction_is_broadcast_until_it_is_in_a_block(wallet: WalletNode) -> None:
    """What another made is handed over, once per request, and found by id while it waits and by height afterwards."""
    async with wallet.running():
        bench = wallet.bench
        tx = bench.pay((pay_to_key(public_key("somebody")), FLOP), send=False)
        wish = Broadcast(request_id="b", raw=serialize(tx))
        answer = await wallet.call(CHAIN_BROADCAST, wish)
        assert answer == await wallet.call(CHAIN_BROADCAST, wish)
        assert answer.txid == txid(tx)
        await wallet.in_node(answer.txid)
        assert (await wallet.call(CHAIN_TX, TxAsked(txid=answer.txid))).height is None
        bench.mine()
        await wallet.synced()
        with pytest.raises(NotFound):
            await wallet.call(CHAIN_TX, TxAsked(txid=answer.txid))
        found = await wallet.call(CHAIN_TX, TxAsked(txid=answer.txid, height=BlockHeight(bench.height)))
        assert (found.height, found.raw, found.outputs) == (bench.height, serialize(tx), list(tx.outputs))
        with pytest.raises(NotFound):
            await wallet.call(CHAIN_TX, TxAsked(txid=answer.txid, height=BlockHeight(bench.height - 1)))
        with pytest.raises(BadTransaction):
            await wallet.call(CHAIN_BROADCAST, Broadcast(request_id="c", raw=b"\x01\x02"))


@pytest.mark.one_source
@attack(
    "payment",
    tries="a close of a channel of its own, signed by both, that names the watcher's own coins as the channel's",
    meets="what may not spend a coin known here is refused, and what is handed in binds no other coin",
)
async def test_a_strangers_transaction_locks_no_coin_of_this_wallet(wallet: WalletNode) -> None:
    """A watcher reads such a close as good, and publishes it: no coin may be bound by it, now or when it comes."""
    async with wallet.running():
        await funded(wallet, 3 * FLOP)
        own = (await wallet.call(WALLET_UTXOS, Empty())).coins[0].outpoint
        junk = close_of(terms(), point=own)
        assert read_close(junk, terms().network).chid == chid(terms())
        with pytest.raises(SpendRefused):
            await wallet.call(CHAIN_BROADCAST, Broadcast(request_id="j", raw=junk))
        assert await _spendable(wallet, 3 * FLOP)
        coming = wallet.bench.pay(
            (address_to_script(wallet.made.address, wallet.bench.family), 4 * FLOP), send=False
        )  # its id is known to its payer alone, before it is there
        for vout in range(len(coming.outputs)):
            early = close_of(terms(), point=Outpoint(txid(coming), vout))
            await wallet.call(CHAIN_BROADCAST, Broadcast(request_id=f"e{vout}", raw=early))
        wallet.bench.rpc("sendrawtransaction", serialize(coming).hex())
        wallet.bench.mine()
        await wallet.synced()
        await wallet.until(lambda: _spendable(wallet, 7 * FLOP), "it can be spent")


def test_own_payments_are_handed_over_before_what_was_only_handed_in() -> None:
    """Strangers' transactions may never confirm: however many there are, a round begins with this wallet's own."""
    store = WalletStore(Store.open(None, MIGRATIONS, ManualClock()))
    kinds = (PaymentKind.RELAY, PaymentKind.RELAY, PaymentKind.SEND)
    for number, kind in enumerate(kinds):
        raw = close_of(terms(), point=Outpoint(f"{number:064x}", 0))
        made = NewPayment(
            txid=txid(parse(raw)), raw=raw, kind=kind, request_id=f"{number}", caller="cli", counterparty="", amount=0,
            fee=0, binds=(), contract_id="",
        )  # fmt: skip
        with store.store.transaction() as tx:
            store.add_payment(tx, made)
    assert [one.kind for one in store.open_payments()] == [*kinds[2:], *kinds[:2]]


@pytest.mark.node_rpc
async def test_what_the_node_refuses_for_good_binds_nothing(wallet: WalletNode) -> None:
    """A node that will never take a payment: its coins are free, the history says refused, nothing is repeated."""
    async with gate(wallet.bench) as passage:
        passage.is_shut, passage.refusal = False, "64: dust"
        wallet.changes = {"node_url": f"http://127.0.0.1:{passage.port}/"}
        async with wallet.running():
            await funded(wallet, 3 * FLOP)
            wish = Send(request_id="s", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
            sent = await wallet.call(WALLET_SEND, wish)
            await wallet.until(lambda: _spendable(wallet, 3 * FLOP), "the coin is free again")
            entry = (await wallet.call(WALLET_HISTORY, HistoryAsked())).entries[0]
            assert (entry.txid, entry.state, entry.change_florins) == (sent.txid, "refused", 0)
            wallet.bench.mine()
            await wallet.synced()
            assert len(set(passage.handed_over)) == 1


@pytest.mark.node_rpc
async def test_a_waiting_coin_that_is_dropped_and_comes_back(wallet: WalletNode) -> None:
    """A node forgets a transaction and learns it again: our coin goes with it and comes back with it."""
    async with gate(wallet.bench) as passage:
        passage.is_shut = False
        wallet.changes = {"node_url": f"http://127.0.0.1:{passage.port}/"}
        async with wallet.running():
            wallet.bench.pay((address_to_script(wallet.made.address, wallet.bench.family), FLOP))
            for hides, florins in ((False, FLOP), (True, 0), (False, FLOP)):
                passage.hides_waiting = hides
                await wallet.until(lambda florins=florins: _pending(wallet, florins), f"{florins} florins wait")
            assert len(await wallet.events("CoinGone")) == 1
            wallet.bench.mine()
            await wallet.until(lambda: _spendable(wallet, FLOP))


async def _pending(wallet: WalletNode, florins: int) -> bool:
    return (await wallet.balance()).pending_florins == florins


async def _spendable(wallet: WalletNode, florins: int) -> bool:
    return (await wallet.balance()).spendable_florins == florins


async def test_the_beacon_comes_from_the_work_of_six_blocks(wallet: WalletNode) -> None:
    """Every height has its own; it is made of hashes that met the blocks' targets, merge mined or not."""
    async with wallet.running():
        bench = wallet.bench
        for _ in range(7):
            bench.mine()
        await wallet.synced()
        top = bench.height
        asked = [HeightAsked(height=BlockHeight(height)) for height in range(top - 3, top + 1)]
        found = {ask.height: (await wallet.call(CHAIN_BEACON, ask)).beacon for ask in asked}
        assert len(set(found.values())) == 4
        works = []
        for height in range(top - 5, top + 1):
            block = bytes.fromhex(bench.rpc("getblock", bench.rpc("getblockhash", height), *_as_hex(bench)))
            works.append(work_hash(work_header(block)))
            target = difficulty.target_of(int.from_bytes(block[72:76], "little"))
            assert int.from_bytes(works[-1], "little") <= target
        assert found[top] == beacon_of(top, works)
        for height in (-1, top + 1):
            with pytest.raises(NotFound):
                await wallet.call(CHAIN_BEACON, HeightAsked(height=BlockHeight(height)))


async def test_heights_and_scripts_that_are_not_known(wallet: WalletNode) -> None:
    """Above the tip, before the chain, not watched, too long: each refusal says what is wrong."""
    async with wallet.running():
        for height in (-1, wallet.bench.height + 1):
            with pytest.raises(NotFound):
                await wallet.call(CHAIN_BLOCK_HASH, HeightAsked(height=BlockHeight(height)))
        early = await wallet.call(CHAIN_BLOCK_HASH, HeightAsked(height=BlockHeight(0)))
        assert early.hash == wallet.bench.genesis
        with pytest.raises(NotFound):
            await wallet.call(CHAIN_COINS, ScriptAsked(script=pay_to_key(public_key("nobody"))))
        wrong = WatchScripts(request_id="w", scripts=[bytes(200)], from_height=BlockHeight(0))
        with pytest.raises(BadParams):
            await wallet.call(CHAIN_WATCH, wrong)
        with pytest.raises(BadParams):
            await wallet.call(CHAIN_WATCH, structs.replace(wrong, scripts=[b""] * 1001))


async def test_a_script_is_found_where_it_already_waits(wallet: WalletNode) -> None:
    """Watching a script whose coin waits in the mempool finds it, without a new block."""
    async with wallet.running():
        script = pay_to_key(public_key(f"late {wallet.bench.height} {wallet.bench.source}"))
        wallet.bench.pay((script, FLOP))
        await wallet.synced()
        start = BlockHeight(wallet.bench.height)
        await wallet.call(CHAIN_WATCH, WatchScripts(request_id="w", scripts=[script], from_height=start))

        async def found() -> bool:
            return [coin.height for coin in (await wallet.coins(script)).coins] == [None]

        await wallet.until(found, "the waiting coin is told")


@dataclass
class SocksServer:
    """A SOCKS5 server with user and password, as p2pd's egress is."""

    port: int
    password: str
    users: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RFC 1928 and 1929, as far as a client of ours needs them."""
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        writer.write(b"\x05\x02")
        user = await self._text(reader, skip=1)
        password = await self._text(reader)
        self.users.append(user)
        writer.write(b"\x01\x00" if password == self.password else b"\x01\x01")
        if password == self.password:
            _, _, _, kind = await reader.readexactly(4)
            host = await self._text(reader) if kind == 3 else socket.inet_ntoa(await reader.readexactly(4))
            (port,) = struct.unpack(">H", await reader.readexactly(2))
            far_reader, far_writer = await asyncio.open_connection(host, port)
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        writer.close()

    async def _text(self, reader: asyncio.StreamReader, skip: int = 0) -> str:
        await reader.readexactly(skip)
        (length,) = await reader.readexactly(1)
        return (await reader.readexactly(length)).decode()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def egress(password: str) -> AsyncIterator[SocksServer]:
    """The server, running."""
    proxy = SocksServer(free_ports(), password)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", proxy.port)
    try:
        yield proxy
    finally:
        server.close()


async def test_the_node_is_reached_through_the_egress_alone(bench: CoinBench, tmp_path: Path) -> None:
    """Every call goes through the proxy under flopd's name; a changed token is read again; no token, no way round."""
    token_file = tmp_path / "flopd.token"
    async with egress("token-1") as proxy:
        route = Proxy("127.0.0.1", proxy.port, "flopd", token_file)
        node = CoinNode(bench.url, (bench.user, bench.password), EMBEDDED, route)
        with pytest.raises(ChainUnavailable):
            await node.genesis()
        token_file.write_text("token-1\n")
        assert await node.genesis() == bench.genesis
        assert proxy.users[-1] == "flopd"
        await node.close()
        proxy.password = "token-2"
        with pytest.raises(ChainUnavailable):
            await node.genesis()
        token_file.write_text("token-2\n")
        assert await node.genesis() == bench.genesis
        await node.close()


class Asked(CoinNode):
    """A node that notes what it is asked, and can or cannot tell of a new block."""

    def __init__(self, *, can_wait: bool) -> None:
        super().__init__("http://unused.invalid", ("u", "p"), EMBEDDED, waiting_ms=1_000)
        self.can_wait = can_wait
        self.asked: list[tuple[str, tuple[object, ...]]] = []

    async def call(self, method: str, *params: object, deadline_s: float = 20.0) -> object:
        self.asked.append((method, params))
        assert deadline_s > 1.0
        if not self.can_wait:
            raise Refused(-32601, "Method not found")
        return None


async def test_a_node_that_tells_of_blocks_is_asked_seldom() -> None:
    """Where the node itself tells of a block, looks at waiting transactions are `waiting_ms` apart; else `poll_ms`."""
    node, old = Asked(can_wait=True), Asked(can_wait=False)
    await node.wait_for_change(250)
    await node.wait_for_change(5_000)
    assert node.asked == [("waitfornewblock", (1_000,)), ("waitfornewblock", (5_000,))]
    async with asyncio.timeout(20):
        await old.wait_for_change(1)
        await old.wait_for_change(1)
    assert len(old.asked) == 1


async def test_a_wrong_login_is_told_without_the_password(bench: CoinBench) -> None:
    """The node refuses the login: the error says which file to mend and not what is in it."""
    node = CoinNode(bench.url, ("u", "surely-wrong"), bench.family)
    with pytest.raises(ChainUnavailable, match="node_password_file") as caught:
        await node.genesis()
    assert "surely-wrong" not in str(caught.value)
    await node.close()
