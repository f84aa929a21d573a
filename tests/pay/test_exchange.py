"""The 402 exchange end to end over real sockets: @paid handlers and the paying proxy, bought by the node's purse."""

import asyncio
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from common.units import Florins
from dux_pay.aiohttp_paid import PAYMENT, SELLER, paid
from dux_pay.buying import BadAnswer, BadOffer, Came, Wanted
from dux_pay.calls import NotCovered
from dux_pay.fetching import Fetcher, Fetching
from dux_pay.headers import RECEIPTS, REQUIRED, RESPONSE, SIGNATURE, decode_required, decode_settlement, encode
from dux_pay.ledger import Limits, OverCallLimit, OverDayLimit, UnknownCall
from dux_pay.price import prices_of
from dux_pay.proxy import NotLoopback, Proxy, upstream_of
from dux_pay.reaper import Reaper
from dux_pay.statuses import Reason, status_of
from tests.attacks.registry import attack
from tests.pay.kit import World

pytestmark = pytest.mark.patient


class Shop:
    """A seller's application with one handler of each kind."""

    def __init__(self, world: World) -> None:
        self.ran: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.app = web.Application()
        self.app[SELLER] = world.seller
        self.app.add_routes([
            web.post("/fixed", paid(price="0.5")(self.fixed)),
            web.get("/upto", paid(price="0.5", pricing="upto")(self.upto)),
            web.get("/metered", paid(price="0.1", pricing="metered")(self.metered)),
            web.get("/broken", paid(price="0.1")(self.broken)),
            web.get("/large", paid(price="0.1")(self.large)),
        ])  # fmt: skip

    async def fixed(self, request: web.Request) -> web.Response:
        self.ran.append(await request.read())
        await self.gate.wait()
        return web.json_response({"got": len(self.ran[-1])})

    async def upto(self, request: web.Request) -> web.Response:
        request[PAYMENT].charge("0.2")
        return web.Response(text="cheaper")

    async def metered(self, request: web.Request) -> web.Response:
        meter, told = request[PAYMENT], 0
        try:
            for _ in range(int(request.query.get("parts", "3"))):
                await meter.meter("0.1", wait_s=float(request.query.get("wait", "0")))
                told += 1
        except NotCovered:
            pass
        return web.Response(text="part " * told)

    async def broken(self, _request: web.Request) -> web.Response:
        raise ZeroDivisionError

    async def large(self, _request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1_200_000)


@asynccontextmanager
async def served(app: web.Application):
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    yield made
    made.ledger.close()


async def buy(world: World, url: str, *, method: str = "GET", body: bytes = b"", oid: str | None = None):
    async with Fetcher(world.purse) as fetcher:
        return await fetcher.fetch(Fetching(method=method, url=url, body=body, oid=oid))


async def test_a_call_is_paid_run_once_and_its_repeat_is_the_stored_answer(world: World) -> None:
    """200 + PAYMENT-RESPONSE; the same header again gets the same bytes, header included, and runs nothing."""
    shop = Shop(world)
    async with served(shop.app) as url, aiohttp.ClientSession() as session:
        got = await buy(world, f"{url}/fixed?a=1&b=%20x", method="POST", body=b"hello")
        assert (got.status, got.body, int(got.ended.charged_florins)) == (200, b'{"got": 5}', 50_000_000)
        assert shop.ran == [b"hello"]
        assert got.ended.receipt.count(".") == 2
        header = world.ledger.known(got.oid).header
        answers = []
        for _ in range(2):
            async with session.post(f"{url}/fixed?a=1&b=%20x", data=b"hello", headers={SIGNATURE: header}) as again:
                answers.append((again.status, await again.read(), again.headers[RESPONSE]))
        assert answers[0] == answers[1]
        assert answers[0][2] == {name.upper(): value for name, value in got.headers}[RESPONSE]
        assert shop.ran == [b"hello"]
        assert world.escrow.owed == 50_000_000
        assert world.escrow.spent == 50_000_000


@attack(
    "payment",
    tries="a paid header for another body, a broken header, a body beyond the limit",
    meets="409, 400 and 413; the handler does not run, nothing is charged",
)
async def test_the_table_of_statuses(world: World) -> None:
    """Without a voucher 402, other payload under one id 409, unreadable 400, too large 413, node down 503."""
    shop = Shop(world)
    async with served(shop.app) as url, aiohttp.ClientSession() as session:
        got = await buy(world, f"{url}/fixed", method="POST", body=b"hello")
        header = world.ledger.known(got.oid).header

        async def post(body: bytes, payment: str | None):
            headers = {SIGNATURE: payment} if payment is not None else {}
            async with session.post(f"{url}/fixed", data=body, headers=headers) as answer:
                return answer.status, answer.headers, await answer.json()

        status, headers, told = await post(b"hello", None)
        assert (status, told["errorReason"]) == (402, "no_voucher")
        assert decode_required(headers[REQUIRED]).accepts[0].amount == "50000000"
        status, _, told = await post(b"other", header)
        assert (status, told["errorReason"]) == (409, "conflict")
        assert (await post(b"hello", "***"))[0] == 400
        assert (await post(b"hello", header[:-40]))[0] == 400
        status, _, told = await post(b"x" * (world.seller.body_bytes_max + 1), header)
        assert (status, told["errorReason"]) == (413, "too_large")
        world.escrow.down = 1
        status, headers, told = await post(b"hello", header)
        assert (status, headers["Retry-After"], told["errorReason"]) == (503, "1", "node_down")
        assert told["error"] == status_of(Reason.NODE_DOWN).text  # what ails the node is nobody's business
    assert shop.ran == [b"hello"]


@pytest.mark.parametrize("reason", ["offer_expired", "resync", "closing", "depth"])
async def test_a_refusal_is_402_with_its_reason(world: World, reason: str) -> None:
    """`errorReason` says which, PAYMENT-REQUIRED says what is wanted; after a hello the same call goes through."""
    shop = Shop(world)
    world.escrow.refuse = [reason]
    async with served(shop.app) as url:
        got = await buy(world, f"{url}/fixed", method="POST", body=b"hello")
    assert got.status == 200
    assert world.escrow.refused == [reason]
    assert len(shop.ran) == 1


@attack(
    "payment",
    tries="one payment sent twice at once",
    meets="one run, one charge; the second sender waits for the first one's answer",
)
async def test_a_running_call_is_asked_again_and_charged_once(world: World) -> None:
    """503 + Retry-After while the handler works; two callers with one header, one run, one charge."""
    shop = Shop(world)
    async with served(shop.app) as url, aiohttp.ClientSession() as session:
        async with session.post(f"{url}/fixed", data=b"a") as first:
            required = first.headers[REQUIRED]
        shop.gate.clear()
        asked = Wanted(required=required, method="POST", url=f"{url}/fixed", body_sha256=sha256(b"a").hexdigest())
        header = (await world.purse.pay(asked)).header

        async def post():
            async with session.post(f"{url}/fixed", data=b"a", headers={SIGNATURE: header}) as answer:
                return answer.status, answer.headers.get("Retry-After"), await answer.read()

        running = asyncio.ensure_future(post())
        while not shop.ran:
            await asyncio.sleep(0.01)
        assert (await post())[:2] == (503, "1")
        shop.gate.set()
        done = await running
        assert done[0] == 200
        assert await post() == done
    assert len(shop.ran) == 1


async def test_what_fails_costs_nothing(world: World) -> None:
    """5xx with PAYMENT-RESPONSE, outcome failed, charged 0; the surplus pays the next call."""
    async with served(Shop(world).app) as url:
        got = await buy(world, f"{url}/broken")
        assert (got.status, got.ended.outcome, int(got.ended.charged_florins)) == (500, "failed", 0)
        assert (await buy(world, f"{url}/upto")).status == 200
    assert world.escrow.owed == 20_000_000
    assert world.ledger.spent_today() == 20_000_000


async def test_upto_charges_less_and_metered_charges_what_was_covered(world: World) -> None:
    """`charge` below the price; a meter delivers as far as the voucher covers, and no part more."""
    async with served(Shop(world).app) as url:
        upto = await buy(world, f"{url}/upto")
        assert int(upto.ended.charged_florins) == 20_000_000
        metered = await buy(world, f"{url}/metered?parts=9")
        covered = world.escrow.held - 20_000_000
        assert int(metered.ended.charged_florins) == covered // 10_000_000 * 10_000_000
        assert metered.body == b"part " * (covered // 10_000_000)


async def test_a_meter_waits_for_fuel(world: World) -> None:
    """The same call's next voucher, sent beside it (and answered 503), lets the handler go on."""
    async with served(Shop(world).app) as url, aiohttp.ClientSession() as session:
        asked = f"{url}/metered?parts=6&wait=5"
        buying = asyncio.ensure_future(buy(world, asked, oid="metered-call-0001"))
        while not any(call["price"] == 20_000_000 for call in world.escrow.calls.values()):
            await asyncio.sleep(0.01)
        header = (await world.purse.fuel("metered-call-0001", Florins(60_000_000))).header
        async with session.get(asked, headers={SIGNATURE: header}) as fuel:
            assert (fuel.status, (await fuel.json())["errorReason"]) == (503, "running")
        got = await buying
        assert (got.body, int(got.ended.charged_florins)) == (b"part " * 6, 60_000_000)
        with pytest.raises(OverCallLimit):
            await world.purse.fuel("metered-call-0001", Florins(10**9))


async def test_a_metered_call_may_promise_more_at_once(world: World) -> None:
    """A caller's own limit is what a meter may reach; the rest is charged to nobody."""
    async with served(Shop(world).app) as url, Fetcher(world.purse) as fetcher:
        asked = Fetching(method="GET", url=f"{url}/metered?parts=4", most_florins=Florins(70_000_000))
        got = await fetcher.fetch(asked)
    assert int(got.ended.charged_florins) == 40_000_000
    assert world.ledger.spent_today() == 40_000_000


async def test_a_large_answer_is_kept_by_the_seller(world: World, tmp_path: Path) -> None:
    """Beyond what the node's books keep, the answer lies on the shelf; when it is gone there: 410 with the receipt."""
    async with served(Shop(world).app) as url, aiohttp.ClientSession() as session:
        got = await buy(world, f"{url}/large")
        header = world.ledger.known(got.oid).header
        assert len(got.body) == 1_200_000
        async with session.get(f"{url}/large", headers={SIGNATURE: header}) as again:
            assert (again.status, await again.read()) == (200, got.body)
        for file in (tmp_path / "shelf").iterdir():
            file.unlink()
        async with session.get(f"{url}/large", headers={SIGNATURE: header}) as gone:
            assert gone.status == 410
            assert decode_settlement(gone.headers[RESPONSE]).amount == "10000000"


async def test_the_node_is_waited_for_when_it_starts_anew(world: World) -> None:
    """The work is done and paid: the answer is put into the books once the node is back."""
    shop = Shop(world)
    async with served(shop.app) as url:
        shop.gate.clear()
        buying = asyncio.ensure_future(buy(world, f"{url}/fixed", method="POST", body=b"hello"))
        while not shop.ran:
            await asyncio.sleep(0.01)
        world.escrow.down = 2
        shop.gate.set()
        assert (await buying).status == 200
    assert len(shop.ran) == 1


async def test_limits_hold_before_anything_is_signed(tmp_path: Path) -> None:
    """Per call and per day; what is promised counts; a refused call leaves nothing behind."""
    limits = Limits(per_call_florins=Florins(50_000_000), per_day_florins=Florins(60_000_000), open_florins=Florins(1))
    world = World(tmp_path, limits=limits)
    async with served(Shop(world).app) as url:
        await buy(world, f"{url}/fixed", method="POST")
        with pytest.raises(OverDayLimit):
            await buy(world, f"{url}/fixed", method="POST")
        world.clock.advance(86_400)
        await buy(world, f"{url}/fixed", method="POST")
        world.ledger.limits = msgspec.structs.replace(limits, per_call_florins=Florins(1))
        with pytest.raises(OverCallLimit):
            await buy(world, f"{url}/fixed", method="POST")
    assert len(world.escrow.paid) == 2
    world.ledger.close()


async def test_a_channel_is_opened_when_none_is(world: World) -> None:
    """The node answers NotNow until the funding has its first block: the purse waits and the call goes through."""
    world.escrow.openings = 1
    async with served(Shop(world).app) as url:
        assert (await buy(world, f"{url}/upto")).status == 200


@attack(
    "payment",
    tries="a 402 whose entry, signed offer and JWS differ: another price, key, network, height or resource",
    meets="nothing is promised and nothing signed",
)
async def test_a_lying_offer_is_not_paid(world: World) -> None:
    """Entry, envelope and JWS have to say the same: a dearer entry, another key or another resource is refused."""
    async with (
        served(Shop(world).app) as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/upto") as first,
    ):
        honest = decode_required(first.headers[REQUIRED])
    entry = honest.accepts[0]
    replace = msgspec.structs.replace
    lies = [
        replace(honest, accepts=(replace(entry, amount="1"),)),
        replace(honest, accepts=(replace(entry, pay_to="02" * 33),)),
        replace(honest, accepts=(replace(entry, network="bip122:" + "0" * 32),)),
        replace(honest, accepts=(replace(entry, extra=replace(entry.extra, offer_valid_to=9)),)),
        replace(honest, extensions={}),
        replace(honest, extensions={RECEIPTS: {"info": {"offers": [{"signature": 5}]}}}),
        replace(honest, accepts=(replace(entry, extra=replace(entry.extra, offer="ö" * 8)),)),
        replace(honest, accepts=(replace(entry, extra=replace(entry.extra, offer="AAAA")),)),
    ]
    for lie in lies:
        asked = Wanted(required=encode(lie), method="GET", url=f"{url}/upto", body_sha256=sha256(b"").hexdigest())
        with pytest.raises(BadOffer):
            await world.purse.pay(asked)
    asked = Wanted(required=encode(honest), method="GET", url=f"{url}/elsewhere", body_sha256=sha256(b"").hexdigest())
    with pytest.raises(BadOffer, match="another resource"):
        await world.purse.pay(asked)
    assert not world.escrow.paid
    assert world.ledger.spent_today() == 0


@attack(
    "payment",
    tries="an answer changed on the way, another call's answer, a receipt of another amount, no paid call at all",
    meets="refused, each with its reason; the honest answer settles the call afterwards",
)
async def test_an_answer_belongs_to_its_call_and_its_bytes(world: World) -> None:
    """What was signed is what came, or the call does not count as ended."""
    async with served(Shop(world).app) as url, aiohttp.ClientSession() as session:
        paid = []
        for body in (b"one", b"two"):
            first = await session.post(f"{url}/fixed", data=body)
            digest = sha256(body).hexdigest()
            asked = Wanted(required=first.headers[REQUIRED], method="POST", url=f"{url}/fixed", body_sha256=digest)
            header = await world.purse.pay(asked)
            answer = await session.post(f"{url}/fixed", data=body, headers={SIGNATURE: header.header})
            came = Came(
                oid=header.oid,
                response=answer.headers[RESPONSE],
                status=answer.status,
                headers=tuple(answer.headers.items()),
                body_sha256=sha256(await answer.read()).hexdigest(),
            )
            paid.append(came)
    honest, other = paid
    replace = msgspec.structs.replace
    settlement = decode_settlement(honest.response)
    dearer = settlement.extensions | {
        "offer-receipt": decode_settlement(other.response).extensions["offer-receipt"],
    }
    lies = {
        "not the one that was signed": replace(honest, body_sha256="00" * 32),
        "the one that was signed": replace(honest, status=201),
        "another call": replace(honest, response=other.response),
        "other than its answer": replace(honest, response=encode(replace(settlement, extensions=dearer))),
    }
    for reason, lie in lies.items():
        with pytest.raises(BadAnswer, match=reason):
            await world.purse.settled(lie)
    with pytest.raises(UnknownCall):
        await world.purse.settled(replace(honest, oid="never-paid-here-01"))
    assert world.escrow.spent == 0
    for came in paid:
        assert int((await world.purse.settled(came)).charged_florins) == 50_000_000


# --- the paying proxy -------------------------------------------------------------------------------------------------


class Upstream:
    """An endpoint that knows nothing of payments."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes, dict[str, str]]] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self.any)

    async def any(self, request: web.Request) -> web.Response:
        self.seen.append((request.raw_path, await request.read(), dict(request.headers)))
        if request.path == "/v1/slow":
            await asyncio.sleep(0.8)
        if request.path == "/v1/missing":
            raise web.HTTPNotFound
        return web.Response(text=f"{request.method} {request.raw_path}", headers={"X-Kept": "no", "Location": "/x"})


@asynccontextmanager
async def selling(world: World, upstream: str, reaper: Reaper | None = None):
    prices = prices_of("0.1", "fixed", {"/v1/dear": "0.4"}, ("/health",))
    proxy = Proxy(world.seller, upstream_of(upstream), prices, reaper=reaper or Reaper(), upstream_s=0.5)
    async with proxy.listening("127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}", port


async def test_the_proxy_sells_an_endpoint_that_knows_nothing_of_it(world: World) -> None:
    """Paid paths cost what the list says, free ones nothing; no payment header reaches the endpoint."""
    upstream = Upstream()
    async with served(upstream.app) as behind, selling(world, behind) as (url, _), aiohttp.ClientSession() as session:
        async with session.get(f"{url}/health") as free:
            assert (free.status, await free.text()) == (200, "GET /health")
        async with session.get(f"{url}/v1/dear") as unpaid:
            assert unpaid.status == 402
        got = await buy(world, f"{url}/v1/dear/er?q=%2F", method="POST", body=b"in")
        assert (got.status, got.body, int(got.ended.charged_florins)) == (200, b"POST /v1/dear/er?q=%2F", 40_000_000)
        assert int((await buy(world, f"{url}/other")).ended.charged_florins) == 10_000_000
    paths = [path for path, _, _ in upstream.seen]
    assert paths == ["/health", "/v1/dear/er?q=%2F", "/other"]
    assert not any(name.upper().startswith("PAYMENT") for _, _, headers in upstream.seen for name in headers)


async def test_an_endpoint_that_fails_costs_nothing(world: World) -> None:
    """No answer in time 504, no endpoint 502, not found 404: all with PAYMENT-RESPONSE and nothing charged."""
    upstream = Upstream()
    async with served(upstream.app) as behind, selling(world, behind) as (url, _):
        with capture_logs() as told:
            for path, status in (("/v1/slow", 504), ("/v1/missing", 404)):
                got = await buy(world, f"{url}{path}")
                assert (got.status, int(got.ended.charged_florins)) == (status, 0)
        assert [line["event"] for line in told if "path" in line] == 2 * ["call answered and not charged"]
    async with selling(world, "http://127.0.0.1:1") as (url, _):
        assert (await buy(world, f"{url}/any")).status == 502
    assert world.escrow.owed == 0


@attack(
    "payment",
    tries="a head that trickles, a body that trickles, before anything was paid",
    meets="cut after its time, 408; others are served meanwhile",
)
async def test_slow_senders_are_cut(tmp_path: Path) -> None:
    """A head that trickles is cut after its time; a body that trickles gets 408; others are served meanwhile."""
    world = World(tmp_path, body_s_max=0.3)
    reaper = Reaper(head_s=0.3, look_every_s=0.05)
    upstream = Upstream()
    async with served(upstream.app) as behind, selling(world, behind, reaper) as (url, port):
        got = await buy(world, f"{url}/any", method="POST", body=b"b")
        header = world.ledger.known(got.oid).header
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow")
        async with asyncio.timeout(3):
            assert await reader.read() == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /any HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n{SIGNATURE}: {header}\r\n\r\nsome"
        writer.write(head.encode())
        async with asyncio.timeout(3):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()
        assert reaper.cut >= 1
    world.ledger.close()


async def test_the_proxy_listens_on_this_machine_alone(world: World) -> None:
    """Settled 24: the world is met by the operator's own server."""
    proxy = Proxy(world.seller, upstream_of("http://127.0.0.1:1"), prices_of("1", "fixed", {}, ()), reaper=Reaper())
    with pytest.raises(NotLoopback):
        async with proxy.listening("0.0.0.0", 0):  # noqa: S104 - refused
            pass
