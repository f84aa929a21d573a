"""A metered answer in parts over real sockets: fuel beside it, a reader that leaves, and the repeat that settles."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web

from common.units import Florins
from dux_pay.aiohttp_paid import PAYMENT, SELLER, paid
from dux_pay.asgi import PAYMENT as ASGI_PAYMENT
from dux_pay.asgi import Paid
from dux_pay.buying import Came, Wanted
from dux_pay.calls import Payment
from dux_pay.headers import REQUIRED, RESPONSE, SIGNATURE
from dux_pay.streams import STREAM, Parts, had_of, rest_of
from tests.attacks.registry import attack
from tests.pay.kit import World
from tests.pay.test_asgi import running

OID = "streamed-call-0001"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    yield made
    made.ledger.close()


class Shop:
    """One handler that delivers `parts` parts, each for 0.1, and may fail after them; under either kind of server."""

    def __init__(self, world: World) -> None:
        self.runs = 0
        self.app = web.Application()
        self.app[SELLER] = world.seller
        self.app.add_routes([web.get("/parts", paid(price="0.1", pricing="metered")(self.aiohttp))])
        self.wrapped = Paid(self.asgi, price="0.1", pricing="metered", seller=world.seller)

    async def aiohttp(self, request: web.Request) -> web.Response:
        await self.parts(request[PAYMENT], request.query)
        return web.Response(body=b"end")

    async def asgi(self, scope, _receive, send) -> None:
        if scope["type"] == "http":
            await self.parts(scope[ASGI_PAYMENT], dict(parse_qsl(scope["query_string"].decode())))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"end"})

    async def parts(self, payment: Payment, query: Mapping[str, str]) -> None:
        self.runs += 1
        for number in range(int(query["parts"])):
            await payment.send(b"part%d " % number, "0.1", wait_s=float(query["wait"]))
        if "fail" in query:
            raise ZeroDivisionError


class Buyer:
    """A program that pays by the purse and speaks plain HTTP."""

    def __init__(self, world: World, session: aiohttp.ClientSession, url: str) -> None:
        self.purse, self.session, self.url, self.header = world.purse, session, url, ""

    async def pay(self) -> None:
        async with self.session.get(self.url) as first:
            required = first.headers[REQUIRED]
        digest = sha256(b"").hexdigest()
        wanted = Wanted(required=required, method="GET", url=self.url, body_sha256=digest, oid=OID)
        self.header = (await self.purse.pay(wanted)).header

    def ask(self, had: int):
        return self.session.get(self.url, headers={SIGNATURE: self.header, STREAM: str(had)})

    async def fuel(self, florins: int) -> tuple[int, str]:
        self.header = (await self.purse.fuel(OID, Florins(florins))).header
        async with self.session.get(self.url, headers={SIGNATURE: self.header}) as beside:
            return beside.status, (await beside.json())["errorReason"]

    async def settle(self, had: bytes) -> tuple[bytes, int]:
        async with self.ask(len(had)) as last:
            assert last.headers[STREAM] == str(len(had))
            whole = had + await last.read()
            came = Came(
                oid=OID, response=last.headers[RESPONSE], status=last.status, headers=tuple(last.headers.items()),
                body_sha256=sha256(whole).hexdigest(),
            )  # fmt: skip
        return whole, int((await self.purse.settled(came)).charged_florins)


async def listening(app: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@asynccontextmanager
async def served(shop: Shop, server: str) -> AsyncIterator[str]:
    if server == "uvicorn":
        async with running(shop.wrapped) as url:
            yield url
        return
    runner, url = await listening(shop.app)
    yield url
    await runner.cleanup()


@pytest.fixture(params=["aiohttp", "uvicorn"])
async def bought(world: World, request: pytest.FixtureRequest):
    """Opens a call with this query; gives its buyer."""
    shop = Shop(world)
    async with served(shop, request.param) as url, aiohttp.ClientSession() as session:

        async def open_call(query: str) -> tuple[Buyer, Shop]:
            buyer = Buyer(world, session, f"{url}/parts?{query}")
            await buyer.pay()
            return buyer, shop

        yield open_call


async def test_parts_leave_as_they_are_covered_and_a_reader_may_come_back(world: World, bought) -> None:
    """Two parts are covered at first; fuel beside the stream lets the rest go; a new reader goes on at its byte."""
    buyer, shop = await bought("parts=4&wait=25")
    async with buyer.ask(0) as stream:
        assert (stream.status, stream.headers[STREAM], RESPONSE in stream.headers) == (200, "0", False)
        had = await stream.content.readexactly(12)
    assert (had, world.escrow.owed) == (b"part0 part1 ", 20_000_000)  # the third is not covered: it did not leave
    following = asyncio.ensure_future(read(buyer.ask(len(had))))
    assert await buyer.fuel(40_000_000) == (503, "running")
    rest = await following
    assert (had + rest)[:24] == b"part0 part1 part2 part3 "
    whole, charged = await buyer.settle(had + rest)
    assert (whole, charged, shop.runs) == (b"part0 part1 part2 part3 end", 40_000_000, 1)
    assert await buyer.settle(whole[:5]) == (whole, 40_000_000)


async def read(asking) -> bytes:
    async with asking as stream:
        return await stream.read()


@attack(
    "payment",
    tries="reading a metered answer without sending the fuel for it",
    meets="only covered parts leave; the answer ends there and what left is charged",
)
async def test_an_answer_that_is_not_fed_ends_and_is_charged_so_far(world: World, bought) -> None:
    """No fuel in the handler's time: no part more, a signed end, 0.2 charged."""
    buyer, shop = await bought("parts=9&wait=0")
    had = await read(buyer.ask(0))
    assert had == b"part0 part1 "
    assert (await buyer.settle(had), shop.runs, world.escrow.owed) == ((had, 20_000_000), 1, 20_000_000)


async def test_a_handler_that_fails_is_paid_for_what_it_delivered(bought) -> None:
    """After the first part a failure ends the answer; before it the call failed and costs nothing."""
    buyer, _ = await bought("parts=1&wait=0&fail=1")
    had = await read(buyer.ask(0))
    assert await buyer.settle(had) == (b"part0 ", 10_000_000)


async def test_a_server_that_ends_the_callers_task_does_not_end_the_call(world: World) -> None:
    """Some ASGI servers cancel what serves a caller who is gone: the application goes on, and the caller comes back."""
    shop = Shop(world)
    async with running(shop.wrapped) as url, aiohttp.ClientSession() as session:
        buyer = Buyer(world, session, f"{url}/parts?parts=2&wait=5")
        await buyer.pay()
        sending = asyncio.Event()

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_message: object) -> None:
            sending.set()
            await asyncio.Event().wait()

        headers = {"host": url.removeprefix("http://"), SIGNATURE: buyer.header, STREAM: "0"}
        scope = {
            "type": "http", "method": "GET", "path": "/parts", "raw_path": b"/parts", "scheme": "http",
            "query_string": b"parts=2&wait=5",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        serving = asyncio.ensure_future(shop.wrapped(scope, receive, send))
        await sending.wait()
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled()
        assert await buyer.settle(await read(buyer.ask(0))) == (b"part0 part1 end", 20_000_000)
        assert shop.runs == 1


async def test_a_failure_before_the_first_part_costs_nothing(world: World, bought) -> None:
    """Nothing was sent: an ordinary failed call, although a stream was asked for."""
    buyer, _ = await bought("parts=0&wait=0&fail=1")
    async with buyer.ask(0) as answer:
        assert (answer.status, RESPONSE in answer.headers) == (500, True)
    assert world.escrow.owed == 0


async def test_a_part_that_cannot_be_kept_is_not_metered(monkeypatch: pytest.MonkeyPatch, world: World, bought) -> None:
    """The answer's limit is looked at before its price."""
    monkeypatch.setattr("dux_pay.streams.BODY_BYTES_MAX", 8)
    buyer, _ = await bought("parts=2&wait=0")
    assert await buyer.settle(await read(buyer.ask(0))) == (b"part0 ", 10_000_000)
    assert world.escrow.owed == 10_000_000


@pytest.mark.parametrize(
    ("text", "had"), [(None, None), ("0", 0), ("12", 12), ("-1", None), ("1.0", None), ("٣", None), ("1" * 10, None)]
)
def test_what_the_caller_says_it_has(text: str | None, had: int | None) -> None:
    """A number of bytes in plain digits; everything else means the whole answer."""
    assert had_of(text) == had


def test_the_rest_of_an_answer() -> None:
    """Cut only where the answer is settled and the caller has no more than there is."""
    settled = ((RESPONSE.lower(), "x"),)
    assert rest_of(200, settled, b"abc", 2) == ((*settled, (STREAM.lower(), "2")), b"c")
    assert rest_of(200, settled, b"abc", 4) == (settled, b"abc")
    assert rest_of(200, settled, b"abc", None) == (settled, b"abc")
    assert rest_of(200, (), b"abc", 2) == ((), b"abc")
    assert rest_of(500, settled, b"abc", 2) == (settled, b"abc")


async def test_an_empty_answer_has_not_begun() -> None:
    """An end without a part is told as such."""
    parts = Parts()
    await parts.end()
    assert not await parts.begun()
    assert [part async for part in parts.read(0)] == []
