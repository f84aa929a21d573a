"""Ordinary clients pay through the node's gateway: requests, httpx, curl, and x402's own JavaScript client from npm."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests

from common.randomness import SeededRandomness
from common.rpc.server import Tokens
from dux_pay.fetching import Fetcher
from dux_pay.gateway import Gateway
from dux_pay.gateway_client import GatewayAt, NotPaid
from dux_pay.httpx_auth import PayAuth as HttpxAuth
from dux_pay.requests_auth import PayAuth as RequestsAuth
from tests.attacks.registry import attack
from tests.pay.kit import World
from tests.pay.test_exchange import Shop, served

pytestmark = pytest.mark.patient

EXAMPLE = Path(__file__).parents[2] / "examples" / "pay_http"
JS = """
import { x402Client, wrapFetchWithPayment, decodePaymentResponseHeader } from "@x402/fetch";
import { payingFetch } from "./flopcoin_channel.mjs";
const [url, gateway, token, most] = process.argv.slice(2);
const pay = payingFetch({ x402Client, wrapFetchWithPayment }, { url: gateway, token }, { mostFlorins: Number(most) });
try {
  const answer = await pay(url, { method: "POST", body: "hello" });
  const settled = decodePaymentResponseHeader(answer.headers.get("PAYMENT-RESPONSE"));
  const header = settled.extensions["offer-receipt"].info.receipt.format;
  console.log(JSON.stringify({ status: answer.status, body: await answer.text(), dux: answer.dux, settled, header }));
} catch (error) {
  console.log(JSON.stringify({ error: String(error) }));
}
"""


@dataclass
class Market:
    """A shop, a gateway, and where they are."""

    world: World
    shop: Shop
    url: str
    at: GatewayAt
    token_file: Path


@asynccontextmanager
async def market_in(folder: Path) -> AsyncIterator[Market]:
    world = World(folder)
    tokens = Tokens(folder / "tokens", ["module"], SeededRandomness(3))
    file = folder / "tokens" / "module.token"
    gateway = Gateway(world.purse, Fetcher(world.purse), tokens)
    shop = Shop(world)
    async with served(shop.app) as url, gateway.listening("127.0.0.1", 0) as port:
        at = GatewayAt(f"http://127.0.0.1:{port}", file.read_text().strip())
        yield Market(world, shop, url, at, file)
    world.ledger.close()


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with market_in(tmp_path) as made:
        yield made


async def run(market: Market, *command: str, folder: Path | None = None, **more: str) -> tuple[int, bytes, str]:
    """A program beside this one; its exit code and what it said."""
    environment = os.environ | more
    environment |= {"DUXNET_GATEWAY": market.at.url, "DUXNET_GATEWAY_TOKEN": str(market.token_file)}
    started = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=folder
    )
    async with asyncio.timeout(60):
        out, err = await started.communicate()
    return started.returncode or 0, out, err.decode()


async def test_requests_pays_with_a_hook(market: Market) -> None:
    """`auth=PayAuth()`: the caller sees the paid answer, and what it cost."""

    def buy() -> requests.Response:
        with requests.Session() as session:
            session.auth = RequestsAuth(market.at)
            return session.post(f"{market.url}/fixed", data=b"hello", params={"q": "a b"}, timeout=10)

    answer = await asyncio.to_thread(buy)
    assert (answer.status_code, answer.json()) == (200, {"got": 5})
    assert answer.dux["charged_florins"] == "50000000"
    assert market.shop.ran == [b"hello"]


async def test_requests_is_told_why_nothing_was_paid(market: Market) -> None:
    """A call's own limit: the gateway's reason comes as an error, and nothing was promised."""

    def buy() -> requests.Response:
        auth = RequestsAuth(market.at, most_florins=10)
        return requests.post(f"{market.url}/fixed", data=b"hello", auth=auth, timeout=10)

    with pytest.raises(NotPaid, match=r"at most 0\.0000001 FLOP were allowed"):
        await asyncio.to_thread(buy)
    assert market.world.ledger.spent_today() == 0


@pytest.mark.parametrize("way", ["async", "sync"])
async def test_httpx_pays_with_a_hook(market: Market, way: str) -> None:
    """The same for both of httpx's clients; a busy seller is asked again with the same header."""
    market.world.escrow.refuse = ["busy"]

    def buy() -> httpx.Response:
        with httpx.Client(auth=HttpxAuth(market.at)) as client:
            return client.post(f"{market.url}/fixed?q=1", content=b"hello")

    if way == "sync":
        answer = await asyncio.to_thread(buy)
    else:
        async with httpx.AsyncClient(auth=HttpxAuth(market.at)) as client:
            answer = await client.post(f"{market.url}/fixed?q=1", content=b"hello")
    assert (answer.status_code, answer.json()) == (200, {"got": 5})
    assert answer.extensions["dux"]["charged_florins"] == "50000000"
    assert market.shop.ran == [b"hello"]


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl (apt-get install curl)")
async def test_curl_pays_with_the_hook(market: Market, tmp_path: Path) -> None:
    """examples/pay_http/pay-curl turns the 402 into the second request; PAY_OID repeats a call for nothing more."""
    asked = ("--json", '{"n": 1}', f"{market.url}/fixed?q=1")
    for _ in range(2):
        code, out, said = await run(market, str(EXAMPLE / "pay-curl"), *asked, PAY_OID="my-own-order-0001")
        assert (code, out) == (0, b'{"got": 8}'), said
        assert '"charged_florins":"50000000"' in said
    assert market.shop.ran == [b'{"n": 1}']
    sent = tmp_path / "sent"
    sent.write_bytes(b"\x00bytes\n")
    code, out, said = await run(
        market, str(EXAMPLE / "pay-curl"), "-X", "POST", "--data-binary", f"@{sent}", f"{market.url}/fixed"
    )
    assert (code, out) == (0, b'{"got": 7}'), said
    code, out, said = await run(market, str(EXAMPLE / "pay-curl"), f"{market.url}/upto", PAY_MOST_FLORINS="7")
    assert code == 4
    assert "at most 0.00000007 FLOP were allowed" in said


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl (apt-get install curl)")
async def test_curl_alone_pays_through_fetch(market: Market) -> None:
    """One request to the gateway, which does the rest; `Dux-Paid` says what it cost."""
    url = f"{market.at.url}/fetch/{market.url}/fixed?q=1"
    token = f"Dux-Token: {market.at.token}"
    code, out, _ = await run(market, "curl", "-sS", "-i", "-H", token, "-d", "hello", url)
    assert code == 0
    assert b"200 OK" in out
    assert out.endswith(b'{"got": 5}')
    assert b"Dux-Paid: 50000000" in out


@attack(
    "payment",
    tries="spending the owner's coins through the gateway: no token, a web page, a rebound name",
    meets="401, 403; nothing is paid",
)
async def test_the_gateway_is_for_this_machines_programs_alone(market: Market) -> None:
    """No token 401, a browser's page 403, nonsense 400 with what is wrong."""
    async with aiohttp.ClientSession() as session:

        async def post(**headers: str) -> int:
            async with session.post(f"{market.at.url}/pay", data=b"{}", headers=headers) as answer:
                return answer.status

        assert await post() == 401
        async with session.get(f"{market.at.url}/spent", headers={"Dux-Token": "guessed"}) as refused:
            assert "send `Dux-Token`" in (await refused.json())["error"]
        assert await post(**{"Dux-Token": market.at.token, "Origin": "https://evil.example"}) == 403
        assert await post(**{"Dux-Token": market.at.token, "Host": "evil.example"}) == 403
        assert await post(**{"Dux-Token": market.at.token}) == 400
        async with session.get(f"{market.at.url}/spent", headers={"Dux-Token": market.at.token}) as spent:
            assert await spent.json() == {
                "today_florins": "0", "per_call_florins": "100000000", "per_day_florins": "500000000",
            }  # fmt: skip


def npm_missing(folder: Path) -> str:
    """Why x402's JavaScript client cannot be had here, or an empty string after it was fetched into the folder."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "no node and npm (apt-get install nodejs npm)"
    for name in ("package.json", "package-lock.json", "flopcoin_channel.mjs"):
        shutil.copy(EXAMPLE / name, folder / name)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    return "" if done.returncode == 0 else f"npm ci failed: {done.stderr[-300:]}"


async def test_a_javascript_client_of_x402_pays(tmp_path: Path) -> None:
    """@x402/fetch reads our 402, chooses our scheme, pays with a voucher of the gateway, and reads PAYMENT-RESPONSE."""
    folder = tmp_path / "js"
    folder.mkdir()
    missing = await asyncio.to_thread(npm_missing, folder)
    if missing:
        pytest.skip(missing)
    (folder / "buy.mjs").write_text(JS)
    async with market_in(tmp_path) as market:
        asked = ("node", "buy.mjs", f"{market.url}/fixed?q=1", market.at.url, market.at.token)
        code, out, said = await run(market, *asked, "60000000", folder=folder)
        assert code == 0, said
        told = json.loads(out)
        assert (told["status"], told["body"], told["header"]) == (200, '{"got": 5}', "jws"), told
        assert told["dux"]["charged_florins"] == told["settled"]["amount"] == "50000000"
        assert market.shop.ran == [b"hello"]
        _, out, _ = await run(market, *asked, "100", folder=folder)
        assert "spendControls" in json.loads(out)["error"]
        assert market.shop.ran == [b"hello"]
