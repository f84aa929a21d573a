"""A metered answer in parts between two real nodes: fuel beside it, a reader that comes back, both books alike."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import web

from common.clock import SystemClock
from common.contracts import channel as c
from common.errors import NeighbourDown, NotNow
from common.randomness import SystemRandomness
from common.units import FLOP, Florins
from dux_escrowd.channel.model import Payee
from dux_pay.aiohttp_paid import PAYMENT
from dux_pay.answers import Shelf
from dux_pay.buying import Wanted
from dux_pay.calls import NotCovered, Payment
from dux_pay.fetching import Fetcher, Fetching
from dux_pay.headers import REQUIRED, RESPONSE, SIGNATURE
from dux_pay.messages import Courier
from dux_pay.price import prices_of, rate_of
from dux_pay.proxy import Proxy, upstream_of
from dux_pay.reaper import Reaper
from dux_pay.seller import Seller
from dux_pay.workers import Worker
from tests.escrow.channel_kit import view
from tests.escrow.kit import Net, Node, until
from tests.escrow.test_http_calls import market, program, purse_of
from tests.pay.test_exchange import served
from tests.pay.test_proxy_parts import Upstream as Events
from tests.pay.test_streams import OID, Buyer, Shop, read


class PatientShop(Shop):
    """Its handler waits for fuel as long as it takes: a busy machine brings it late."""

    async def parts(self, payment: Payment, query: Mapping[str, str]) -> None:
        self.runs += 1
        for number in range(int(query["parts"])):
            while True:
                try:
                    await payment.send(b"part%d " % number, "0.1", wait_s=20)
                except NotCovered:
                    continue
                break


class DyingShop(PatientShop):
    """Its program dies after the first part: nothing is said of the call any more, and its line breaks."""

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.died = asyncio.Event()

    async def aiohttp(self, request: web.Request) -> web.Response:
        await request[PAYMENT].send(b"part0 ", "0.1")
        await self.died.wait()
        request.transport.abort()
        raise asyncio.CancelledError


class Living:
    """The seller's escrowd as its selling program sees it: away while it starts anew."""

    def __init__(self, seller: Node) -> None:
        self._seller = seller

    async def call(self, method: Any, params: Any, **kept: Any) -> Any:
        asked = self._seller.daemon
        if asked is not None:
            calling = asyncio.ensure_future(program(self._seller).call(method, params, **kept))
            while self._seller.daemon is asked:
                if (await asyncio.wait((calling,), timeout=0.02))[0]:
                    return calling.result()
            calling.cancel()  # its connection ends with the process
        raise NeighbourDown(daemon="escrowd", address="", detail="it starts anew")


async def fed(caller: Buyer, florins: int) -> None:
    """Fuel, as a program brings it: again when its node says hello just now, under the session that then is live."""
    while True:
        try:
            caller.header = (await caller.purse.fuel(OID, Florins(florins))).header
            break
        except NotNow:
            await asyncio.sleep(0.05)
    while True:
        async with caller.session.get(caller.url, headers={SIGNATURE: caller.header}) as beside:
            if beside.status == 503:
                return
            assert (beside.status, (await beside.json())["errorReason"]) == (402, "resync")
            wanted = Wanted(
                required=beside.headers[REQUIRED], method="GET", url=caller.url,
                body_sha256=hashlib.sha256(b"").hexdigest(), oid=OID,
            )  # fmt: skip
        caller.header = (await caller.purse.pay(wanted)).header


def payee_of(seller: Node, chid: str) -> Payee:
    """The channel's books at the seller; nobody's while its escrowd is away."""
    assert seller.daemon is not None
    run: Any = next(loop for name, loop in seller.daemon.parts.loops if name == "channel calls")
    found: Payee = run.__self__._counter.ledger.payee(chid)
    return found


@asynccontextmanager
async def bought(
    net: Net, buyer: Node, seller: Node, folder: Path, *, escrowd: Any, kind: type[Shop]
) -> AsyncIterator[tuple[Buyer, Shop]]:
    """A call for four parts of this shop, paid over a channel that was opened for it."""
    goods = Seller(
        escrowd=escrowd, flopd=program(seller, "flopd"), network=net.profile(), clock=SystemClock(),
        shelf=Shelf(net.folder / "shelf"),
    )  # fmt: skip
    shop = kind(SimpleNamespace(seller=goods))
    async with (
        purse_of(net, buyer, seller, folder / "paid.sqlite", per_call=FLOP) as purse,
        aiohttp.ClientSession() as session,
        served(shop.app) as url,
    ):
        caller = Buyer(SimpleNamespace(purse=purse), session, f"{url}/parts?parts=4&wait=25")
        paying = asyncio.ensure_future(caller.pay())
        await net.mine_until(paying.done, "the call is paid", blocks=20)
        await paying
        yield caller, shop


async def test_parts_that_left_are_paid_though_the_sellers_escrowd_starts_anew(net: Net, tmp_path: Path) -> None:
    """The answer goes on where it was, is fed under the new session, and costs the same in both books."""
    async with market(net) as (buyer, seller):
        buying = bought(net, buyer, seller, tmp_path, escrowd=Living(seller), kind=PatientShop)
        async with buying as (caller, shop):
            async with caller.ask(0) as stream:
                had = await stream.content.readexactly(6)
            (channel,) = (await buyer.call(c.LIST, c.ListChannels())).channels
            died = seller.daemon
            seller.death.set()
            await until(lambda: seller.daemon not in (None, died), "the seller's escrowd is there again")
            await until(lambda: bool(payee_of(seller, channel.chid).session), "the buyer has said hello")
            assert payee_of(seller, channel.chid).owed_florins == 10_000_000, "what was delivered is not given away"
            following = asyncio.ensure_future(read(caller.ask(len(had))))
            await fed(caller, 40_000_000)
            had += await following
            assert await caller.settle(had) == (b"part0 part1 part2 part3 end", 40_000_000)
        mine, theirs = await view(buyer, channel.chid), await view(seller, channel.chid)
        assert int(mine.owed_florins) == int(theirs.owed_florins) == 40_000_000
        assert shop.runs == 1


async def test_a_metered_answer_is_fed_over_a_real_channel(net: Net, tmp_path: Path) -> None:
    """What was promised at first covers one part; fuel lets three more go; S is the same on both sides."""
    async with market(net) as (buyer, seller):
        async with bought(net, buyer, seller, tmp_path, escrowd=program(seller), kind=Shop) as (caller, shop):
            async with caller.ask(0) as stream:
                assert (stream.status, RESPONSE in stream.headers) == (200, False), await stream.text()
                had = await stream.content.readexactly(6)
            following = asyncio.ensure_future(read(caller.ask(len(had))))
            assert await caller.fuel(40_000_000) == (503, "running")
            had += await following
            assert await caller.settle(had) == (b"part0 part1 part2 part3 end", 40_000_000)
            assert await caller.settle(had[:3]) == (b"part0 part1 part2 part3 end", 40_000_000)
        (channel,) = (await buyer.call(c.LIST, c.ListChannels())).channels
        assert int(channel.owed_florins) == int((await view(seller, channel.chid)).owed_florins) == 40_000_000
        assert shop.runs == 1


async def test_the_proxys_parts_are_paid_one_by_one_over_a_real_channel(net: Net, tmp_path: Path) -> None:
    """0.1 per event: promised one step ahead, charged what came, the same in both books; messages go over HTTP too."""
    upstream = Events()
    async with market(net) as (buyer, seller), served(upstream.app) as behind:
        goods = Seller(
            escrowd=program(seller), flopd=program(seller, "flopd"), network=net.profile(), clock=SystemClock(),
            shelf=Shelf(net.folder / "shelf"),
        )  # fmt: skip
        proxy = Proxy(
            goods, upstream_of(behind), prices_of("0.1", "metered", {}, ()), reaper=Reaper(), rate=rate_of("0.1/part")
        )
        came: list[bytes] = []
        async with (
            proxy.listening("127.0.0.1", 0) as port,
            purse_of(net, buyer, seller, tmp_path / "paid.sqlite", per_call=FLOP) as purse,
            Courier(program(buyer)).running(),
            Fetcher(purse) as fetcher,
        ):
            asked = Fetching(method="GET", url=f"http://127.0.0.1:{port}/events?parts=5")
            reading = asyncio.ensure_future(fetcher.stream(asked, came.append))
            await net.mine_until(lambda: bool(came), "the first part has come", blocks=20)
            got = await reading
            assert b"".join(came) == b"".join(b"data: %d\n\n" % number for number in range(5))
            assert int(got.ended.charged_florins) == int(purse.ledger.spent_today()) == 50_000_000
        (channel,) = (await buyer.call(c.LIST, c.ListChannels())).channels
        mine, theirs = await view(buyer, channel.chid), await view(seller, channel.chid)
        assert int(mine.owed_florins) == int(theirs.owed_florins) == 50_000_000
        assert not any(method == "channel.open" for _, _, method in net.calls)


async def test_parts_of_a_program_that_died_are_credited_in_both_books(net: Net, tmp_path: Path) -> None:
    """The buyer has a part, the program is dead, another one answers: failed, nothing charged, and both sides know."""
    async with market(net) as (buyer, seller):
        workers = [Worker(tmp_path / "workers", SystemRandomness()) for _ in range(2)]
        shops = [
            DyingShop(SimpleNamespace(seller=Seller(
                escrowd=program(seller), flopd=program(seller, "flopd"), network=net.profile(), clock=SystemClock(),
                shelf=Shelf(net.folder / f"shelf{at}"), worker=worker,
            )))
            for at, worker in enumerate(workers)
        ]  # fmt: skip
        async with (
            purse_of(net, buyer, seller, tmp_path / "paid.sqlite", per_call=FLOP) as purse,
            served(shops[0].app) as first,
            served(shops[1].app) as second,
            Fetcher(purse) as fetcher,
        ):
            places, came = [first], list[bytes]()
            asked = Fetching(method="GET", url=f"{first}/parts?parts=4&wait=25", oid=OID)
            plain = fetcher._request

            def moved(_asked: Fetching, more: dict[str, str]) -> Any:
                return plain(replace(asked, url=asked.url.replace(first, places[-1])), more)

            fetcher._request = moved  # type: ignore[method-assign]

            def dies(part: bytes) -> None:
                came.append(part)
                workers[0].close()
                shops[0].died.set()
                places.append(second)

            reading = asyncio.ensure_future(fetcher.stream(asked, dies))
            await net.mine_until(lambda: bool(came), "the first part has come", blocks=20)
            got = await reading
            assert (came, got.status, got.ended.outcome, int(got.ended.charged_florins)) == (
                [b"part0 "],
                500,
                "failed",
                0,
            )
            (channel,) = (await buyer.call(c.LIST, c.ListChannels())).channels
            mine, theirs = await view(buyer, channel.chid), await view(seller, channel.chid)
            assert int(mine.owed_florins) == int(theirs.owed_florins) == int(purse.ledger.spent_today()) == 0
            assert mine.in_flight == theirs.in_flight == 0
