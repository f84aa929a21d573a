"""The chain as a process and as RPC: shapes, refusals, waits, restarts after a kill."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from common.chain.address import script_to_address
from common.chain.params import EMBEDDED
from common.chain.wire import decode_tx, shown, unshown
from common.network import NetworkProfile, save_profile
from common.randomness import SeededRandomness
from common.units import FLOP, Florins
from dux_sim import chaind
from dux_sim.chain.journal import FileJournal, JournalRefused, replay
from dux_sim.chain.node import Node
from dux_sim.chain.profile import ChainProfile, Premine, chain_of, genesis_hash, genesis_of, load_profile
from dux_sim.chain.server import RpcServer, auth_line
from tests.embedded_chain.coin_bench import FEE, Coin, pay, raw, spend, txid
from tests.ports import free_ports

pytestmark = pytest.mark.patient

ADDRESS = script_to_address(pay("funder"), EMBEDDED) or ""
PROFILE = ChainProfile(name="process", premine=(Premine(ADDRESS, str(50 * FLOP)),) * 3, mine_to=ADDRESS)


def payment(fee: int = FEE, to: str = "a", vout: int = 0) -> str:
    origin = genesis_of(PROFILE).txs[1]
    coin = Coin(shown(origin.txid), vout, pay("funder"), 50 * FLOP)
    return raw(spend(coin, [(coin.value - fee, pay(to))]))


class Client:
    """A plain JSON-RPC client."""

    def __init__(self, session: aiohttp.ClientSession, url: str, auth: str) -> None:
        self._session, self._url = session, url
        self.headers = {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()}

    async def post(self, body: bytes) -> tuple[int, Any]:
        async with self._session.post(self._url, data=body, headers=self.headers) as answer:
            data = await answer.read()
            return answer.status, msgspec.json.decode(data) if data else None

    async def call(self, method: str, *params: object) -> Any:
        status, answer = await self.post(msgspec.json.encode({"id": 7, "method": method, "params": params}))
        assert answer["id"] == 7
        assert (status == 200) == (answer["error"] is None)
        return answer["error"] or answer["result"]


class Served:
    """A node behind its real HTTP server."""

    def __init__(self, node: Node, client: Client, server: RpcServer) -> None:
        self.node, self.client, self.server = node, client, server
        self.call = client.call


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    node = Node(PROFILE)
    server = RpcServer(node, "duxnet:secret")
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        yield Served(node, Client(session, f"http://{host}:{port}/", "duxnet:secret"), server)
    server.stop()
    await runner.cleanup()


async def test_blocks_and_transactions_have_cores_shape(served: Served) -> None:
    """The premine is spent, mined and read back by every method that shows it, the same everywhere."""
    made = payment()
    name = await served.call("sendrawtransaction", made)
    assert await served.call("getrawmempool") == [name]
    assert (await served.call("getrawmempool", True))[name]["fee"] == float(Decimal(FEE) / FLOP)
    assert await served.call("gettxout", genesis_name(), 0) is None, "spent by what waits"
    assert (await served.call("gettxout", genesis_name(), 0, False))["coinbase"] is False
    [block_name] = await served.call("generate", 1)
    block = await served.call("getblock", block_name, 2)
    assert block["height"] == 1 == await served.call("getblockcount")
    assert [tx["txid"] for tx in block["tx"]][1] == name
    assert (await served.call("getblock", block_name))["tx"][1] == name
    assert await served.call("getblock", block_name, 0) == served.node.chain.tip.block.raw.hex()
    shown_tx = await served.call("getrawtransaction", name, True)
    assert shown_tx["confirmations"] == 1
    assert shown_tx["hex"] == made == await served.call("getrawtransaction", name)
    assert shown_tx["vout"][0]["scriptPubKey"]["addresses"] == [script_to_address(pay("a"), EMBEDDED)]
    out = await served.call("gettxout", name, 0)
    assert (out["confirmations"], out["value"]) == (1, 49.98)
    header = await served.call("getblockheader", block_name)
    assert header["previousblockhash"] == await served.call("getblockhash", 0)
    assert header["time"] == PROFILE.genesis_time_s + 60


def genesis_name() -> str:
    return shown(genesis_of(PROFILE).txs[1].txid)


async def test_totals_are_the_premine_and_the_subsidies(served: Served) -> None:
    """`gettxoutsetinfo` recomputes conservation from the blocks, fees and burned coins included."""
    await served.call("sendrawtransaction", payment())
    await served.call("generatetoaddress", 5, ADDRESS)
    totals = await served.call("gettxoutsetinfo")
    assert totals["conserved"] is True
    assert totals["total_amount"] == totals["premine_amount"] + totals["subsidies_amount"]
    assert (totals["premine_amount"], totals["subsidies_amount"], totals["burned_amount"]) == (150, 50_000, 0)


REFUSALS = [
    ("getblockhash", [5], -8, "out of range"),
    ("getblockhash", ["5"], -3, "height"),
    ("getblockhash", [-1], -3, "not negative"),
    ("getblockhash", [True], -3, "whole number"),
    ("getblockhash", [1, 2], -1, "at most 1"),
    ("getblock", ["00" * 32], -5, "Block not found"),
    ("getblock", ["zz"], -8, "hexadecimal"),
    ("getblockheader", ["00"], -8, "64 hexadecimal digits"),
    ("getrawtransaction", ["11" * 32], -5, "No such"),
    ("getblock", [], -3, "must be a string"),
    ("sendrawtransaction", ["0100"], -22, "TX decode failed"),
    ("sendrawtransaction", ["xyz"], -22, "hexadecimal"),
    ("sendrawtransaction", ["01000000" + "0001" + "01" + "11" * 60], -22, "no SegWit"),
    ("decoderawtransaction", ["00"], -22, "TX decode failed"),
    ("submitblock", ["00"], -22, "Block decode failed"),
    ("generate", [100_000], -8, "at most"),
    ("generatetoaddress", [1, "0x52908400098527886E0F7030069857D2E4169EE7"], -5, "0x addresses"),
    ("reconsiderblock", ["00" * 32], -5, "not found"),
    ("waitforblockheight", ["x"], -3, "height"),
    ("getblock", {"hash": "00"}, -8, "Unknown named parameter hash"),
    ("getblock", "00", -32600, "array or object"),
    ("make_me_rich", [], -32601, "known: decoderawtransaction"),
    (5, [], -32600, "Missing method"),
]


@pytest.mark.parametrize(("method", "params", "code", "words"), REFUSALS)
async def test_refusals_have_cores_code_and_say_why(
    method: object, params: object, code: int, words: str, served: Served
) -> None:
    """Each wrong call gets its own answer, with HTTP 500 or 404, and the node goes on."""
    status, answer = await served.client.post(msgspec.json.encode({"id": 1, "method": method, "params": params}))
    assert status == (404 if code == -32601 else 500)
    assert answer["error"]["code"] == code
    assert words in answer["error"]["message"]
    assert await served.call("getblockcount") == 0


async def test_transactions_are_refused_with_25_26_27(served: Served) -> None:
    """Missing inputs, a broken rule and a mined transaction are told apart by Core's codes."""
    lost = spend(Coin("11" * 32, 0, pay("funder"), FLOP), [(FLOP // 2, pay("a"))])
    assert (await served.call("sendrawtransaction", raw(lost))) == {"code": -25, "message": "Missing inputs"}
    dust = payment(fee=50 * FLOP - 5)
    assert (await served.call("sendrawtransaction", dust)) == {"code": -26, "message": "64: dust"}
    good = payment()
    await served.call("sendrawtransaction", good)
    await served.call("generate", 1)
    assert (await served.call("sendrawtransaction", good))["code"] == -27


async def test_a_slip_of_the_hand_is_caught(served: Served) -> None:
    """A fee above 100 FLOP needs the caller to say that it is meant."""
    await served.call("generate", 241)
    coinbase = served.node.chain.active[1].block.txs[0]
    coin = Coin(shown(coinbase.txid), 0, pay("funder"), coinbase.outputs[0].value_florins)
    rich = raw(spend(coin, [(FLOP, pay("a"))]))
    assert "absurdly-high-fee" in (await served.call("sendrawtransaction", rich))["message"]
    assert (await served.call("sendrawtransaction", rich, False))["code"] == -26
    assert isinstance(await served.call("sendrawtransaction", rich, True), str)


async def test_named_parameters_and_batches(served: Served) -> None:
    """Parameters may be named; a batch answers each call in its place; empty and long ones are refused."""
    assert await served.call("getblockhash", 0) == genesis_hash(PROFILE)
    status, answer = await served.client.post(b'{"id":1,"method":"getblockhash","params":{"height":0}}')
    assert (status, answer["result"]) == (200, genesis_hash(PROFILE))
    batch = [{"id": n, "method": "getblockhash", "params": [n]} for n in range(2)] + [5]
    status, answers = await served.client.post(msgspec.json.encode(batch))
    assert status == 200
    assert [item["error"] and item["error"]["code"] for item in answers] == [None, -8, -32600]
    for bad in ([], [{"id": 1}] * 101):
        status, answer = await served.client.post(msgspec.json.encode(bad))
        assert (status, answer["error"]["code"]) == (500, -32600)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"method":"getblockcount"'])
async def test_noise_is_answered(body: bytes, served: Served) -> None:
    """What is no JSON gets a parse error, and the server stays up."""
    status, answer = await served.client.post(body)
    assert (status, answer["error"]["code"]) == (500, -32700)
    assert await served.call("getblockcount") == 0


async def test_login_is_wanted(served: Served) -> None:
    """A wrong password or none gets 401 and nothing else."""
    served.client.headers = {"Authorization": "Basic " + base64.b64encode(b"duxnet:wrong").decode()}
    assert await served.client.post(b"{}") == (401, None)
    served.client.headers = {}
    assert await served.client.post(b"{}") == (401, None)


async def test_waits_end_with_the_block_the_time_or_the_server(served: Served) -> None:
    """A wait for the next block or a height answers as soon as it is there, at its time-out, or when the node stops."""
    new, high = (
        asyncio.ensure_future(served.call(*call)) for call in (("waitfornewblock", 60_000), ("waitforblockheight", 3))
    )
    while served.server._waiters < 2:
        await asyncio.sleep(0)
    await served.call("generate", 1)
    assert (await new)["height"] == 1
    assert not high.done()
    await served.call("generate", 2)
    assert (await high) == {"hash": await served.call("getbestblockhash"), "height": 3}
    assert (await served.call("waitforblockheight", 2, 60_000))["height"] == 3
    assert (await served.call("waitfornewblock", 1))["height"] == 3
    last = asyncio.ensure_future(served.call("waitfornewblock", 60_000))
    while not served.server._waiters:
        await asyncio.sleep(0)
    await served.call("stop")
    served.server.stop()
    assert (await last)["height"] == 3


async def test_submitblock_answers_like_core(served: Served) -> None:
    """Nothing for a good block, the reason for another, also for the same one twice."""
    other = Node(PROFILE)
    other.mine(pay("x"), 2)
    first, second = (entry.block.raw.hex() for entry in other.chain.active[1:])
    assert await served.call("submitblock", second) == "prev-blk-not-found"
    assert await served.call("submitblock", first) is None
    assert await served.call("submitblock", first) == "duplicate"
    assert await served.call("submitblock", second) is None
    tips = await served.call("getchaintips")
    assert [(tip["height"], tip["status"]) for tip in tips] == [(2, "active")]


async def test_mock_time_is_the_chains_time(served: Served) -> None:
    """Blocks carry the time that was set; zero lets it follow the blocks again."""
    later = PROFILE.genesis_time_s + 5_000
    await served.call("setmocktime", later)
    await served.call("generate", 1)
    assert (await served.call("getmininginfo"))["time"] == later
    assert served.node.chain.tip.block.header.time_s == later
    await served.call("setmocktime", 0)
    await served.call("generate", 1)
    assert served.node.chain.tip.block.header.time_s == later + 60


# the block file


def journalled(path: Path) -> tuple[Node, FileJournal]:
    journal = FileJournal(path, genesis_of(PROFILE).hash)
    node = Node(PROFILE)
    replay(journal, node)
    node.journal = journal
    return node, journal


def test_restart_gives_the_same_chain_and_mempool(tmp_path: Path) -> None:
    """Blocks, an excluded branch, a replacement and what waits are there again; the excluded comes back on request."""
    node, journal = journalled(tmp_path / "blocks.dat")
    node.mine(pay("x"), 3)
    node.exclude(node.chain.active[2])
    node.mine(pay("y"), 1)
    for made in (payment(), payment(vout=1)):
        node.submit_tx(decode_tx(bytes.fromhex(made)))
    before = (node.chain.tip.hash, node.chain.coins, set(node.pool.waiting), len(node.chain.entries))
    journal.close()
    again, journal = journalled(tmp_path / "blocks.dat")
    assert (again.chain.tip.hash, again.chain.coins, set(again.pool.waiting), len(again.chain.entries)) == before
    again.reconsider(max(again.chain.entries.values(), key=lambda entry: entry.height))
    assert again.chain.tip.height == 3
    journal.close()
    assert journalled(tmp_path / "blocks.dat")[0].chain.tip.hash == again.chain.tip.hash


@pytest.mark.parametrize("cut_bytes", [1, 5, 9, 40])
def test_torn_last_record_is_cut_off(cut_bytes: int, tmp_path: Path) -> None:
    """A crash in mid-write loses that record alone, and the file can be written again."""
    node, journal = journalled(tmp_path / "blocks.dat")
    node.mine(pay("x"), 3)
    journal.close()
    os.truncate(tmp_path / "blocks.dat", (tmp_path / "blocks.dat").stat().st_size - cut_bytes)
    node, journal = journalled(tmp_path / "blocks.dat")
    assert node.chain.tip.height == 2
    node.mine(pay("x"), 1)
    journal.close()
    assert journalled(tmp_path / "blocks.dat")[0].chain.tip.height == 3


def test_foreign_or_held_files_are_refused(tmp_path: Path) -> None:
    """Another chain's file, and one that a running process holds, are refused with what to do."""
    journal = FileJournal(tmp_path / "a", genesis_of(PROFILE).hash)
    with pytest.raises(JournalRefused, match="held by another process"):
        FileJournal(tmp_path / "a", genesis_of(PROFILE).hash)
    journal.close()
    with pytest.raises(JournalRefused, match="another chain profile"):
        FileJournal(tmp_path / "a", bytes(32))


# the command


def network_file(path: Path, **change: Any) -> Path:
    network = NetworkProfile(
        name="net", chain="embedded", genesis="00" * 32, heights="demo", premine=((ADDRESS, Florins(5 * FLOP)),)
    )
    network = msgspec.structs.replace(network, genesis=genesis_hash(chain_of(network)))
    save_profile(msgspec.structs.replace(network, **change), path)
    return path


def test_profile_may_be_the_networks(tmp_path: Path) -> None:
    """A network profile gives its chain; one whose genesis is another one's is refused."""
    profile = load_profile(network_file(tmp_path / "net.yaml"))
    assert profile.premine == (Premine(ADDRESS, str(5 * FLOP)),)
    with pytest.raises(ValueError, match="the profile says 1111"):
        load_profile(network_file(tmp_path / "bad.yaml", genesis="11" * 32))


COMMANDS = [
    ([], "--listen 127.0.0.1:PORT is needed"),
    (["--listen", "0.0.0.0:1", "--data", "d"], "loopback"),
    (["--listen", "127.0.0.1:x", "--data", "d"], "loopback"),
    (["--listen", "0.0.0.0:x", "--data", "d", "--in-container"], "loopback"),
    (["--listen", "127.0.0.1:1"], "--auth FILE or --data DIR"),
    (["--listen", "127.0.0.1:1", "--data", "d", "--mine-every", "0.001"], "at least"),
]


@pytest.mark.parametrize(("arguments", "words"), COMMANDS)
def test_wrong_command_lines_are_explained(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and what to write instead."""
    assert chaind.main(["--profile", str(network_file(tmp_path / "p.yaml")), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_unreadable_profile_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file and an unknown key name the file."""
    assert chaind.main(["--profile", str(tmp_path / "none")]) == 2
    (tmp_path / "odd.yaml").write_text("name: x\nprofit: 5\n")
    assert chaind.main(["--profile", str(tmp_path / "odd.yaml")]) == 2
    assert "profit" in capsys.readouterr().err


def test_login_file_is_made_once_and_private(tmp_path: Path) -> None:
    """The password is random, kept, and readable by its owner alone; a strange file is refused."""
    line = auth_line(tmp_path / "auth", SeededRandomness(1))
    assert auth_line(tmp_path / "auth", SeededRandomness(2)) == line
    assert (tmp_path / "auth").stat().st_mode & 0o777 == 0o600
    (tmp_path / "odd").write_text("nothing")
    with pytest.raises(ValueError, match="user:password"):
        auth_line(tmp_path / "odd", SeededRandomness(1))


class Process:
    """A chaind of its own."""

    def __init__(self, directory: Path, *more: str) -> None:
        network_file(directory / "net.yaml")
        listen = f"127.0.0.1:{free_ports()}"
        command = [sys.executable, "-m", "dux_sim.chaind", "--profile", str(directory / "net.yaml")]
        command += ["--listen", listen, "--data", str(directory / "data"), *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        ready = re.fullmatch(rb"READY (\S+) ([0-9a-f]{64})\n", self.process.stdout.readline())
        assert ready, self.process.stderr and self.process.stderr.read()
        self.url, self.auth = ready[1].decode(), (directory / "data" / "rpc.auth").read_text().strip()

    def end(self, number: int | None) -> int:
        """The exit code after this signal, or after nothing more than what was said before."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return code


async def test_process_mines_on_its_timer_and_survives_a_kill(tmp_path: Path) -> None:
    """After `kill -9` the chain goes on at the block it had answered for; SIGTERM and `stop` end it in order."""
    async with aiohttp.ClientSession() as session:
        first = Process(tmp_path, "--mine-every", "0.1")
        client = Client(session, first.url, first.auth)
        tip = await client.call("waitforblockheight", 3, 20_000)
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        second = Process(tmp_path)
        client = Client(session, second.url, second.auth)
        assert await client.call("getblockhash", 3) == tip["hash"] or tip["height"] > 3
        assert await client.call("getblockhash", tip["height"]) == tip["hash"]
        assert (await client.call("gettxoutsetinfo"))["conserved"] is True
        assert await client.call("stop") == "DuxNet chain stopping"
        assert second.end(None) == 0
        third = Process(tmp_path)
        assert third.end(signal.SIGTERM) == 0


def test_names_are_reversed_hashes() -> None:
    """People's order of a hash is the wire's backwards, both ways."""
    assert unshown(shown(bytes(range(32)))) == bytes(range(32))
    assert txid(spend(Coin("11" * 32, 0, pay("a"), FLOP), [(1, pay("a"))], "a")) != "11" * 32
