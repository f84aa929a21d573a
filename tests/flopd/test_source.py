"""A chain in the same process instead of a node: the seam that a simulator uses, without any socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

from common.chain.address import address_to_script, script_to_address
from common.chain.params import EMBEDDED, ChainFamily
from common.contracts.wallet import WALLET_SEND, Send
from common.units import FLOP, Florins
from dux_flopd.blocks import Block, parse_block
from dux_flopd.daemon import FlopDaemon
from dux_flopd.source import ChainSource, ChainTip, Refused, SourceStatus
from dux_sim.chain.args import RpcError
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile, Premine, genesis_hash
from dux_sim.chain.rpc import RpcTable
from tests.flopd.coin_node import BANK_SCRIPT, CoinBench
from tests.flopd.wallets import WalletNode


class InProcess:
    """The embedded chain as a source, by direct calls."""

    def __init__(self, node: Node) -> None:
        self._table = RpcTable(node)
        self.endpoint = "in this process"
        self.name = "core"

    def _call(self, method: str, *params: object) -> object:
        try:
            return self._table.call(method, list(params))
        except RpcError as error:
            raise Refused(error.code, error.message) from error

    async def close(self) -> None:
        """Nothing to close."""

    async def genesis(self) -> str:
        return str(self._call("getblockhash", 0))

    async def tip(self) -> ChainTip:
        height = int(str(self._call("getblockcount")))
        return ChainTip(height, str(self._call("getblockhash", height)))

    async def wait_for_change(self, wait_ms: int) -> None:
        await asyncio.sleep(wait_ms / 1000)

    async def block_hash(self, height: int) -> str | None:
        try:
            return str(self._call("getblockhash", height))
        except Refused:
            return None

    async def read(self, block_hash: str) -> Block:
        return parse_block(await self.block(block_hash))

    def status(self) -> SourceStatus:
        return SourceStatus(self.name, self.endpoint, 0, "")

    async def block(self, block_hash: str) -> bytes:
        return bytes.fromhex(str(self._call("getblock", block_hash, 0)))

    async def waiting(self) -> list[str]:
        found = self._call("getrawmempool")
        assert isinstance(found, list)
        return found

    async def waiting_tx(self, txid: str) -> bytes | None:
        return bytes.fromhex(str(self._call("getrawtransaction", txid)))

    async def broadcast(self, raw: bytes) -> None:
        self._call("sendrawtransaction", raw.hex())


class SimulatedDaemon(FlopDaemon):
    """flopd on a chain of this process."""

    source: ChainSource

    def chain_source(self, family: ChainFamily) -> ChainSource:
        """The chain that the test made."""
        assert family is EMBEDDED
        return self.source


class Bench(CoinBench):
    """The bank's view of a node in this process."""

    table: RpcTable

    def rpc(self, method: str, *params: object) -> object:
        """A direct call."""
        return self.table.call(method, list(params))


async def test_a_wallet_on_a_chain_without_sockets(tmp_path: Path) -> None:
    """The same daemon on a source that is passed in: premined coins are found, a payment is taken and mined."""
    password = tmp_path / "password"
    password.write_text("unused")
    bench = Bench("in process", EMBEDDED, "http://unused.invalid", "", "", password)
    bench.table = RpcTable(Node(ChainProfile(name="before the profile")))
    bench.genesis = "00" * 32
    address = WalletNode(tmp_path / "draft", bench).made
    profile = ChainProfile(name="in process", premine=(Premine(address.address, str(7 * FLOP)),))
    node = Node(profile)
    bench.table, bench.genesis = RpcTable(node), genesis_hash(profile)
    wallet = WalletNode(tmp_path / "real", bench, phrase=address.phrase, birth_height=0)
    wallet.daemon_type = SimulatedDaemon
    SimulatedDaemon.source = InProcess(node)
    async with wallet.running():
        assert (await wallet.balance()).spendable_florins == 7 * FLOP
        to = script_to_address(BANK_SCRIPT, EMBEDDED) or ""
        assert address_to_script(to, EMBEDDED) == BANK_SCRIPT
        sent = await wallet.call(WALLET_SEND, Send(request_id="s", address=to, amount_florins=Florins(5 * FLOP)))
        await wallet.in_node(sent.txid)
        bench.mine()
        await wallet.synced()
        assert (await wallet.balance()).total_florins == 2 * FLOP - int(sent.fee_florins)
