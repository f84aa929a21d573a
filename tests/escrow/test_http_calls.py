"""HTTP sold and bought between two real nodes: real sockets, real channel, real wallets on a real chain.

Only the wire between the two p2pds is faked, as in all of this folder; where a program asks p2pd for a coin key, the
key is the one that the seller's wallet names.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp

from common.clock import SystemClock
from common.contracts import channel as c
from common.contracts.wallet_jws import WALLET_SIGN_OFFER
from common.randomness import SystemRandomness
from common.rpc.client import LocalClient
from common.units import FLOP, Did, Florins
from dux_flopd.daemon import FlopDaemon
from dux_pay.answers import Shelf
from dux_pay.buying import Wanted
from dux_pay.fetching import Fetched, Fetcher, Fetching
from dux_pay.headers import REQUIRED, RESPONSE, SIGNATURE, decode_payload, open_shown_voucher
from dux_pay.ledger import Ledger, Limits
from dux_pay.price import prices_of
from dux_pay.proxy import Proxy, upstream_of
from dux_pay.purse import Purse
from dux_pay.reaper import Reaper
from dux_pay.seller import Seller
from dux_pay.workers import Worker
from tests.escrow.channel_kit import view
from tests.escrow.kit import Net, Node, give, request_id
from tests.pay.test_exchange import Upstream, served

PRICE = 300_000


class WalletKey:
    """The seller's coin key, as its wallet names it."""

    def __init__(self, seller: Node) -> None:
        self._seller = seller

    async def of(self, did: Did) -> bytes:
        assert did == self._seller.did
        return (await self._seller.wallet.call(WALLET_SIGN_OFFER, WALLET_SIGN_OFFER.example[0])).coin_key


@asynccontextmanager
async def market(net: Net) -> AsyncIterator[tuple[Node, Node]]:
    """A buyer with coins and a seller, whose wallets ask the same p2pd for the node's name."""
    buyer, seller = Node(net, "http-buyer"), Node(net, "http-seller")
    async with AsyncExitStack() as stack:
        for node in (buyer, seller):
            node.wallet.daemon_type = partial(FlopDaemon, neighbours=node.neighbours)
            await stack.enter_async_context(node.running())
        await give(net, buyer, 40 * FLOP)
        yield buyer, seller


def program(node: Node, daemon: str = "escrowd") -> LocalClient:
    """A daemon of the node, as a program of its owner's calls it."""
    assert node.daemon is not None
    table = node.daemon.parts.table if daemon == "escrowd" else node.wallet.daemon.parts.table
    return LocalClient(table, "module")


@asynccontextmanager
async def sold(net: Net, seller: Node, worker: Worker | None = None) -> AsyncIterator[tuple[str, Upstream]]:
    """An endpoint behind the paying proxy."""
    upstream = Upstream()
    goods = Seller(
        escrowd=program(seller), flopd=program(seller, "flopd"), network=net.profile(), clock=SystemClock(),
        shelf=Shelf(net.folder / "shelf"), worker=worker,
    )  # fmt: skip
    async with served(upstream.app) as behind:
        proxy = Proxy(goods, upstream_of(behind), prices_of("0.003", "fixed", {}, ()), reaper=Reaper(), upstream_s=5)
        async with proxy.listening("127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}", upstream


@asynccontextmanager
async def purse_of(
    net: Net, buyer: Node, seller: Node, file: Path, per_call: int = FLOP // 100
) -> AsyncIterator[Purse]:
    limits = Limits(per_call_florins=Florins(per_call), per_day_florins=Florins(FLOP), open_florins=Florins(5 * FLOP))
    ledger = Ledger(file, SystemClock(), limits)
    yield Purse(
        escrowd=program(buyer), coin_keys=WalletKey(seller), network=net.profile(), ledger=ledger,
        random=SystemRandomness(), open_pause_s=0.2,
    )  # fmt: skip
    ledger.close()


async def buy(purse: Purse, url: str, body: bytes = b"hello", oid: str | None = None) -> Fetched:
    async with Fetcher(purse) as fetcher:
        return await fetcher.fetch(Fetching(method="POST", url=url, body=body, oid=oid))


async def test_http_calls_are_paid_over_a_real_channel(net: Net, tmp_path: Path) -> None:
    """The first call opens the channel, the others reuse it; repeats, many at once: each is charged once."""
    async with (
        market(net) as (buyer, seller),
        sold(net, seller, Worker(tmp_path / "workers", SystemRandomness())) as (url, upstream),
        purse_of(net, buyer, seller, tmp_path / "paid.sqlite") as purse,
    ):
        first = asyncio.ensure_future(buy(purse, f"{url}/v1/x?q=1"))
        await net.mine_until(first.done, "the first call is paid", blocks=20)
        got = await first
        assert (got.status, got.body) == (200, b"POST /v1/x?q=1")
        assert any("opened channel" in line for line in got.said)
        assert int(got.ended.charged_florins) == PRICE
        assert got.ended.receipt

        again = await buy(purse, f"{url}/v1/x?q=1", oid=got.oid)
        assert (again.body, int(again.ended.charged_florins)) == (got.body, PRICE)
        assert len(upstream.seen) == 1
        assert headers_of(again)[RESPONSE] == headers_of(got)[RESPONSE]

        many = await asyncio.gather(*(buy(purse, f"{url}/v1/many", str(i).encode()) for i in range(15)))
        assert {one.status for one in many} == {200}
        assert any("over channel" in line for line in many[0].said)
        assert len(upstream.seen) == 16

        assert (await buy(purse, f"{url}/v1/missing")).status == 404
        await refused_when_wrong(purse, url)
        seen = len(upstream.seen)
        await left_running(purse, url, seller, Worker(tmp_path / "workers", SystemRandomness()))
        assert len(upstream.seen) == seen

        (channel,) = (await buyer.call(c.LIST, c.ListChannels())).channels
        assert int(channel.owed_florins) == 17 * PRICE
        assert int(purse.ledger.spent_today()) == 17 * PRICE
        theirs = await view(seller, channel.chid)
        assert (int(theirs.owed_florins), theirs.role) == (17 * PRICE, "payee")
        await buyer.call(c.CLOSE, c.CloseChannel(request_id=request_id(), chid=channel.chid))
        await net.mine_until(lambda: is_closed(seller, channel.chid), "the channel is closed")


async def is_closed(seller: Node, chid: str) -> bool:
    return (await view(seller, chid)).state == "CLOSED"


def headers_of(got: Fetched) -> dict[str, str]:
    return {name.upper(): value for name, value in got.headers}


async def refused_when_wrong(purse: Purse, url: str) -> None:
    """Another body or path under a paid header 409, no header at all 400; then the call that was paid for, once."""
    async with aiohttp.ClientSession() as session:
        unpaid = await session.post(f"{url}/v1/y", data=b"one")
        assert unpaid.status == 402
        required = unpaid.headers[REQUIRED]
        asked = Wanted(
            required=required, method="POST", url=f"{url}/v1/y", body_sha256=hashlib.sha256(b"one").hexdigest()
        )
        paid = await purse.pay(asked)
        for path, body, text, status in (
            ("/v1/y", b"two", paid.header, 409), ("/v1/z", b"one", paid.header, 409), ("/v1/y", b"one", "x", 400),
        ):  # fmt: skip
            async with session.post(f"{url}{path}", data=body, headers={SIGNATURE: text}) as refused:
                assert refused.status == status, await refused.text()
    assert (await buy(purse, f"{url}/v1/y", b"one", oid=paid.oid)).status == 200


async def left_running(purse: Purse, url: str, seller: Node, other: Worker) -> None:
    """While another program of the seller lives, what it was given is its own; once it has died the call has failed."""
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/left", data=b"one") as unpaid:
            required = unpaid.headers[REQUIRED]
        paid = await purse.pay(
            Wanted(
                required=required, method="POST", url=f"{url}/v1/left", body_sha256=hashlib.sha256(b"one").hexdigest()
            )
        )
        envelope, voucher = open_shown_voucher(decode_payload(paid.header))
        wish = c.Admit(voucher=envelope, req=voucher.req, what="", worker=other.name)
        assert (await program(seller).call(c.ADMIT, wish)).verdict == "admitted"
        async with session.post(f"{url}/v1/left", data=b"one", headers={SIGNATURE: paid.header}) as waits:
            assert waits.status == 503, await waits.text()
        other.close()
    failed = await buy(purse, f"{url}/v1/left", b"one", oid=paid.oid)
    assert (failed.status, int(failed.ended.charged_florins)) == (500, 0)
