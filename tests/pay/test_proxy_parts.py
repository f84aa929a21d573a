"""The paying proxy hands answers on in parts, by a meter or for a fixed price, and a buyer pays them part by part."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.units import Florins
from dux_pay import reading
from dux_pay.fetching import Fetched, Fetcher, Fetching, SellerUnreachable
from dux_pay.ledger import Limits
from dux_pay.price import BadPrice, Rate, Unit, prices_of, rate_of
from dux_pay.proxy import Proxy, upstream_of
from dux_pay.reaper import Reaper
from tests.attacks.registry import attack
from tests.pay.kit import World
from tests.pay.test_exchange import served
from tests.pay.test_streams import Buyer

STEP = 10_000_000
AHEAD = Florins(2 * STEP)  # the toy lets a channel's first 0.2 cover more than was promised


class Upstream:
    """An endpoint that streams: events one by one behind a gate, bytes without end, or a line that breaks."""

    def __init__(self) -> None:
        self.sent = 0
        self.steps = asyncio.Semaphore(100)  # events that may leave
        self.gone = asyncio.Event()
        self.app = web.Application()
        self.app.add_routes([
            web.get("/events", self.events), web.get("/flood", self.flood), web.get("/breaks", self.breaks),
            web.get("/lines", self.lines), web.get("/wrong", self.wrong), web.get("/nothing", self.nothing),
        ])  # fmt: skip

    @asynccontextmanager
    async def answering(self, request: web.Request, kind: str):
        answer = web.StreamResponse(headers={"Content-Type": kind})
        await answer.prepare(request)
        yield answer
        await answer.write_eof()

    async def events(self, request: web.Request) -> web.StreamResponse:
        async with self.answering(request, "text/event-stream") as answer:
            for number in range(int(request.query["parts"])):
                await self.steps.acquire()
                await answer.write(b"data: %d\n" % number)
                await answer.write(b"\n")
                self.sent += 1
        return answer

    async def flood(self, request: web.Request) -> web.StreamResponse:
        try:
            async with self.answering(request, "application/octet-stream") as answer:
                for _ in range(4_000):
                    await answer.write(b"x" * 65_536)
                    self.sent += 65_536
        except ConnectionError:
            self.gone.set()
            raise
        return answer

    async def breaks(self, request: web.Request) -> web.StreamResponse:
        async with self.answering(request, "text/event-stream") as answer:
            await answer.write(b"data: 0\n\n")
            request.transport.abort()
            await asyncio.sleep(0)
        return answer

    async def lines(self, request: web.Request) -> web.StreamResponse:
        async with self.answering(request, "application/x-ndjson") as answer:
            await answer.write(b'{"a": 1}\n{"a"')
            await answer.write(b": 2}\n[3]")
        return answer

    async def wrong(self, _request: web.Request) -> web.Response:
        return web.Response(status=500, text="broken")

    async def nothing(self, _request: web.Request) -> web.Response:
        return web.Response(body=b"")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    yield made
    made.ledger.close()


@asynccontextmanager
async def selling(world: World, rate: Rate | None, free: tuple[str, ...] = ()):
    upstream = Upstream()
    async with served(upstream.app) as behind:
        prices = prices_of("0.1", "metered" if rate else "fixed", {}, free)
        proxy = Proxy(world.seller, upstream_of(behind), prices, reaper=Reaper(), rate=rate, upstream_s=5)
        async with proxy.listening("127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}", upstream


@asynccontextmanager
async def opened(world: World, url: str):
    """A paid call and its buyer."""
    async with aiohttp.ClientSession() as session:
        buyer = Buyer(world, session, url)
        await buyer.pay()
        yield buyer


async def streamed(world: World, url: str, ahead_florins: Florins = AHEAD) -> tuple[Fetched, list[bytes]]:
    """Bought part by part by this package's own client."""
    came: list[bytes] = []
    async with Fetcher(world.purse) as fetcher:
        return await fetcher.stream(Fetching(method="GET", url=url), came.append, ahead_florins=ahead_florins), came


PART = Rate(Florins(STEP), Unit.PART)


async def test_events_leave_one_by_one_each_covered_before(world: World) -> None:
    """0.1 per event: the buyer's fuel is one step ahead, the content type is the endpoint's, the sum is the events'."""
    async with selling(world, PART) as (url, upstream):
        got, came = await streamed(world, f"{url}/events?parts=4")
    assert b"".join(came) == b"".join(b"data: %d\n\n" % number for number in range(4))
    assert (len(came), int(got.ended.charged_florins), upstream.sent) == (4, 4 * STEP, 4)
    assert {name.lower(): value for name, value in got.headers}["content-type"] == "text/event-stream"
    assert world.escrow.owed == world.escrow.spent == 4 * STEP


async def test_an_event_is_seen_before_the_next_is_made(world: World) -> None:
    """Parts pass through while the endpoint still works: nothing is collected first."""
    async with selling(world, None) as (url, upstream), opened(world, f"{url}/events?parts=2") as buyer:
        upstream.steps = asyncio.Semaphore(1)
        async with buyer.ask(0) as stream:
            first = await stream.content.readuntil(b"\n\n")
            assert (first, stream.headers["Content-Type"]) == (b"data: 0\n\n", "text/event-stream")
            upstream.steps.release()
            rest = await stream.content.read()
        assert await buyer.settle(first + rest) == (b"data: 0\n\ndata: 1\n\n", STEP)


@attack(
    "payment",
    tries="reading a metered stream and going away after a part",
    meets="the next part is not metered before its reader has this one: one part is at risk; it may be fetched again",
)
async def test_a_reader_that_goes_away_leaves_one_part_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything was promised, nobody reads: the answer ends after what sockets hold, far from what was promised."""
    monkeypatch.setattr("dux_pay.delivering.READER_AWAY_S", 0.3)
    world.ledger.limits = Limits(
        per_call_florins=Florins(10**9), per_day_florins=Florins(10**9), open_florins=Florins(10**9)
    )
    rate = Rate(Florins(1_000), Unit.PART)
    async with selling(world, rate) as (url, upstream), opened(world, f"{url}/flood") as buyer:
        await buyer.purse.fuel("streamed-call-0001", Florins(500_000_000))
        buyer.header = world.ledger.known("streamed-call-0001").header
        async with buyer.ask(0) as stream:
            await stream.content.readexactly(10)
        await asyncio.wait_for(upstream.gone.wait(), 10)
        (call,) = world.escrow.calls.values()
        while call["state"] == "running":
            await asyncio.sleep(0.02)
        whole, charged = await buyer.settle(b"")
        parts = -(-len(whole) // 65_536)
        assert charged == call["price"] >= parts * 1_000
        assert len(whole) < 8 * 2**20, "the endpoint was held back, not read to its end"
        assert upstream.sent < 16 * 2**20


async def test_an_endpoint_that_breaks_is_paid_for_what_left(world: World) -> None:
    """By a meter: the part that came. For a fixed price: nothing, for it is the whole that has the price."""
    for rate, charged in ((PART, STEP), (None, 0)):
        async with selling(world, rate) as (url, _):
            got, came = await streamed(world, f"{url}/breaks")
        assert (b"".join(came), int(got.ended.charged_florins), got.status) == (b"data: 0\n\n", charged, 200)


async def test_an_error_of_the_endpoint_costs_nothing(world: World) -> None:
    """A status from 400 on is no answer to be paid, in parts or not; no answer at all is 502."""
    async with selling(world, PART) as (url, _):
        got, came = await streamed(world, f"{url}/wrong")
        assert (got.status, int(got.ended.charged_florins), came) == (500, 0, [b"broken"])
        got, came = await streamed(world, f"{url}/nothing")
        assert (got.status, came) == (200, [])
    assert world.escrow.owed == STEP  # an empty answer costs what a call begins with


@pytest.mark.parametrize(("rate", "charged"), [(PART, 3 * STEP), (Rate(Florins(2_000), Unit.KIB), 42)])
async def test_a_metered_answer_may_be_bought_in_one_piece(world: World, rate: Rate, charged: int) -> None:
    """Without PAYMENT-STREAM the parts are counted all the same, and the whole comes with its price."""
    async with selling(world, rate) as (url, _), Fetcher(world.purse) as fetcher:
        asked = Fetching(method="GET", url=f"{url}/lines", most_florins=Florins(5 * STEP))
        got = await fetcher.fetch(asked)
    assert (got.body, int(got.ended.charged_florins)) == (b'{"a": 1}\n{"a": 2}\n[3]', charged)


async def test_free_answers_pass_through(world: World) -> None:
    """Nothing is collected of what is free: its first event is there while the second is not made."""
    async with selling(world, None, free=("/events",)) as (url, upstream), aiohttp.ClientSession() as session:
        async with session.get(f"{url}/events?parts=2") as stream:
            first = await stream.content.readuntil(b"\n\n")
            assert (first, stream.headers["Content-Type"]) == (b"data: 0\n\n", "text/event-stream")
            assert await stream.content.read() == b"data: 1\n\n"
        assert upstream.sent == 2


async def test_a_free_answer_that_breaks_does_not_look_whole(world: World) -> None:
    """The line to the caller breaks, as the endpoint's did."""
    async with (
        selling(world, None, free=("/breaks",)) as (url, _),
        aiohttp.ClientSession() as session,
        session.get(f"{url}/breaks") as stream,
    ):
        with pytest.raises(aiohttp.ClientError):
            await stream.content.read()


@attack(
    "payment",
    tries="a seller that holds its parts back and waits for ever more fuel",
    meets="no more is promised than one step beyond what has come",
)
async def test_a_seller_that_delivers_nothing_gets_one_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes bounds what is promised, whatever the owner's limit; the reader gives up after its time."""
    monkeypatch.setattr(reading, "SILENT_S", 1.5)
    monkeypatch.setattr(reading, "TRIES", 1)
    async with selling(world, PART) as (url, upstream):
        upstream.steps = asyncio.Semaphore(1)
        with pytest.raises(SellerUnreachable):
            await streamed(world, f"{url}/events?parts=3", ahead_florins=Florins(STEP))
        assert list(world.escrow.in_flight.values()) == [2 * STEP]
        for _ in range(3):
            upstream.steps.release()


async def test_an_owners_limit_ends_an_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 0.2 for a call: two parts come, the third is not covered, and that is the signed end."""
    monkeypatch.setattr("dux_pay.delivering.FUEL_WAIT_S", 0.5)
    world.ledger.limits = Limits(
        per_call_florins=Florins(2 * STEP), per_day_florins=Florins(10**9), open_florins=Florins(10**9)
    )
    async with selling(world, PART) as (url, _):
        got, came = await streamed(world, f"{url}/events?parts=9")
    assert (len(came), int(got.ended.charged_florins)) == (2, 2 * STEP)


async def test_a_broken_line_is_taken_up_where_it_broke(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The buyer's line is cut after the first event: nothing is paid or made twice."""
    cut = {"left": 1}
    plain = reading.Reading._read

    async def once(self, answer):
        if cut["left"]:
            cut["left"] -= 1
            self._take(await answer.content.readany())
            answer.close()
            raise aiohttp.ClientConnectionError("cut by the test")
        await plain(self, answer)

    monkeypatch.setattr(reading.Reading, "_read", once)
    async with selling(world, PART) as (url, upstream):
        got, came = await streamed(world, f"{url}/events?parts=3")
    assert (b"".join(came).count(b"data"), int(got.ended.charged_florins), upstream.sent) == (3, 3 * STEP, 3)


async def test_what_is_not_sold_is_read_plainly(world: World) -> None:
    """A free answer goes to the sink whole, and nothing is promised."""
    async with selling(world, None, free=("/lines",)) as (url, _):
        got, came = await streamed(world, f"{url}/lines")
    assert (got.ended, got.status, came) == (None, 200, [b'{"a": 1}\n{"a": 2}\n[3]'])
    assert world.ledger.spent_today() == 0


@pytest.mark.parametrize(
    ("text", "rate"),
    [("0.01/part", Rate(Florins(1_000_000), Unit.PART)), ("0.00000001/KiB", Rate(Florins(1), Unit.KIB)),
     ("1/s", Rate(Florins(100_000_000), Unit.SECOND))],
)  # fmt: skip
def test_rates(text: str, rate: Rate) -> None:
    """FLOP for a unit."""
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "1", "1/byte", "0/part", "x/s", "1/KiB/s"])
def test_what_is_no_rate(text: str) -> None:
    """Told with what to write."""
    with pytest.raises(BadPrice):
        rate_of(text)


def test_what_a_meter_counts() -> None:
    """A florin that has begun counts; nothing costs nothing."""
    counted = {"parts": 3, "sent_bytes": 1_025, "elapsed_ms": 1_001}
    assert Rate(Florins(7), Unit.PART).cost(**counted) == 21
    assert Rate(Florins(2), Unit.KIB).cost(**counted) == 3
    assert Rate(Florins(10), Unit.SECOND).cost(**counted) == 11
    assert Rate(Florins(10), Unit.SECOND).cost(parts=0, sent_bytes=0, elapsed_ms=0) == 0
