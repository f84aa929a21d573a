"""kill -9 at any moment: a decided payment arrives exactly once, an undecided one not at all."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web

from common.codec import to_plain
from common.contracts.wallet import WALLET_BALANCE, WALLET_SEND, WALLET_STATUS, Send
from common.errors import DuxError, Internal
from common.network import save_profile
from common.node_ports import rpc_port
from common.rpc.client import HttpClient
from common.rpc.method import Empty
from common.units import FLOP, Florins
from tests.flopd.coin_node import CoinBench
from tests.flopd.test_payments import bank_address, funded
from tests.flopd.wallets import WalletNode
from tests.ports import free_ports

pytestmark = pytest.mark.patient


@dataclass
class Gate:
    """Stands before the coin node; can hold back transactions, and counts them."""

    target: str
    port: int
    is_shut: bool = True
    is_broken: bool = False
    refusal: str = ""
    hides_waiting: bool = False
    held: int = 0
    handed_over: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        """Pass a call on, or hold a transaction back for ever."""
        if self.is_broken:
            return web.Response(status=503, text="overloaded")
        body = await request.read()
        call = json.loads(body)
        if call["method"] == "sendrawtransaction":
            if self.is_shut:
                self.held += 1
                await asyncio.sleep(3600)
            self.handed_over.append(call["params"][0])
            if self.refusal:
                error = {"code": -26, "message": self.refusal}
                return web.json_response({"result": None, "error": error, "id": call["id"]}, status=500)
        if call["method"] == "getrawmempool" and self.hides_waiting:
            return web.json_response({"result": [], "error": None, "id": call["id"]})
        headers = {"Authorization": request.headers["Authorization"]}
        async with ClientSession() as session, session.post(self.target, data=body, headers=headers) as answer:
            return web.Response(body=await answer.read(), status=answer.status)


@asynccontextmanager
async def gate(bench: CoinBench) -> AsyncIterator[Gate]:
    """A gate before the node's RPC. A light wallet asks peers instead; its counterparts are in test_spv_peers.py."""
    assert bench.source == "core", "mark the test with node_rpc"
    passage = Gate(bench.url, free_ports())
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_post("/", passage.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", passage.port).start()
    try:
        yield passage
    finally:
        await runner.cleanup()


class FlopProcess:
    """flopd as a process of its own, as `duxnet up` runs it."""

    def __init__(self, wallet: WalletNode, passage: Gate) -> None:
        self._wallet = wallet
        self.gate = passage
        self._config = wallet.folder / "config"
        self._config.mkdir(exist_ok=True)
        settings = wallet.settings()
        self._base = settings.port_base
        save_profile(wallet.network, self._config / "network.yaml")
        common = {"network_profile": "network.yaml", "data_dir": settings.data_dir, "run_dir": settings.run_dir}
        common |= {"port_base": self._base, "backup_interval": 0}
        own = {
            "source": "core",
            "node_url": f"http://127.0.0.1:{passage.port}/",
            "node_user": settings.node_user,
            "egress": False,
            "poll_ms": 50,
            "waiting_ms": 50,
        }
        own |= {"node_password_file": settings.node_password_file}
        (self._config / "common.yaml").write_text(yaml.safe_dump(common))
        (self._config / "flopd.yaml").write_text(yaml.safe_dump(own))
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start it and wait until it is synced."""
        command = [sys.executable, "-m", "dux_flopd", "--config", str(self._config)]
        self.log = (self._wallet.folder / "log").open("ab")
        self.process = await asyncio.create_subprocess_exec(*command, stdout=self.log, stderr=self.log)
        await self._wallet.until(self._is_synced, "flopd is up and synced")

    async def kill(self) -> None:
        """Kill -9."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return await self.process.wait()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[HttpClient]:
        """A client as the command line has it."""
        run_dir = Path(self._wallet.settings().run_dir)
        url = f"http://127.0.0.1:{rpc_port('flopd', self._base)}/"
        client = HttpClient("flopd", url, run_dir / "flopd" / "cli.token")
        try:
            yield client
        finally:
            await client.close()

    async def _is_synced(self) -> bool:
        assert self.process.returncode is None, (self._wallet.folder / "log").read_text()[-2000:]
        try:
            async with self.client() as client:
                return (await client.call(WALLET_STATUS, Empty(), deadline_s=2)).synced
        except DuxError:
            return False


@pytest.fixture
async def flop(wallet: WalletNode) -> AsyncIterator[FlopProcess]:
    """A funded wallet whose daemon is a process behind a shut gate."""
    async with wallet.running():
        await funded(wallet, 5 * FLOP, 5 * FLOP)
    async with gate(wallet.bench) as passage:
        process = FlopProcess(wallet, passage)
        await process.start()
        try:
            yield process
        finally:
            if process.process.returncode is None:
                await process.kill()
            process.log.close()


@pytest.mark.node_rpc
async def test_killed_between_decision_and_broadcast(flop: FlopProcess, wallet: WalletNode) -> None:
    """The answer was given, the node never heard of it: after kill -9 and restart the payment arrives, once."""
    passage = flop.gate
    wish = Send(request_id="pay", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
    async with flop.client() as client:
        sent = await client.call(WALLET_SEND, wish)
    await wallet.until(lambda: passage.held >= 1, "the transaction is on its way to the node")
    await flop.kill()
    assert sent.txid not in wallet.bench.rpc("getrawmempool")
    passage.is_shut = False
    await flop.start()
    await wallet.in_node(sent.txid)
    async with flop.client() as client:
        assert await client.call(WALLET_SEND, wish) == sent
        wallet.bench.mine()
        await wallet.until(lambda: total_is(client, 9 * FLOP - int(sent.fee_florins)))
    assert len(set(passage.handed_over)) == 1
    assert await flop.stop() == 0


@pytest.mark.node_rpc
async def test_killed_at_any_moment_of_a_payment(flop: FlopProcess, wallet: WalletNode) -> None:
    """Killed after ever longer moments, repeated with the same request_id until answered: each wish is paid once."""
    passage = flop.gate
    passage.is_shut = False
    wish = Send(request_id="any-moment", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
    for pause_ms in (0, 6, 20):
        async with flop.client() as client:
            call = asyncio.ensure_future(client.call(WALLET_SEND, wish, deadline_s=3))
            await asyncio.sleep(pause_ms / 1000)
            await flop.kill()
            await asyncio.wait((call,))
            call.exception()
        await flop.start()
    async with flop.client() as client:
        sent = await client.call(WALLET_SEND, wish)
        await wallet.in_node(sent.txid)
        wallet.bench.mine()
        await wallet.until(lambda: total_is(client, 9 * FLOP - int(sent.fee_florins)))
    assert len(set(passage.handed_over)) == 1


@pytest.mark.node_rpc
async def test_a_stranger_without_a_token_pays_nothing(flop: FlopProcess, wallet: WalletNode) -> None:
    """Another process of the machine that has no token is refused before its call is read."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "wallet.send"}
    wish = Send(request_id="steal", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
    raw = json.dumps(body | {"params": to_plain(wish)}).encode()
    url = f"http://127.0.0.1:{rpc_port('flopd', flop._base)}/"

    def ask() -> Any:
        request = urllib.request.Request(url, raw, {"Content-Type": "application/json"})
        try:
            return urllib.request.urlopen(request, timeout=5).status  # noqa: S310
        except urllib.error.HTTPError as error:
            return error.code

    assert await asyncio.to_thread(ask) == 401


async def total_is(client: HttpClient, florins: int) -> bool:
    """Whether the wallet's total is this, all of it spendable."""
    balance = await client.call(WALLET_BALANCE, Empty())
    return balance.total_florins == balance.spendable_florins == florins


async def test_killed_right_after_the_decision(wallet: WalletNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision and answer are one write: nothing comes between, so the repetition hears of the first payment."""

    def killed(*_: object) -> None:
        raise RuntimeError("killed here")

    async with wallet.running():
        await funded(wallet, 5 * FLOP, 5 * FLOP)
        wish = Send(request_id="between", address=bank_address(wallet.bench), amount_florins=Florins(FLOP))
        with monkeypatch.context() as patch:
            patch.setattr(wallet.daemon.parts.table, "_keep", killed)
            with pytest.raises(Internal):
                await wallet.call(WALLET_SEND, wish)
        sent = await wallet.call(WALLET_SEND, wish)
        await wallet.in_node(sent.txid)
        assert wallet.bench.rpc("getrawmempool") == [sent.txid]
        wallet.bench.mine()
