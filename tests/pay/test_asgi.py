"""The ASGI wrapper under a real ASGI server: uvicorn over a loopback socket, bought by the node's purse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvicorn

from dux_pay.asgi import PAYMENT, Paid
from dux_pay.headers import REQUIRED, SIGNATURE, decode_required
from tests.pay.kit import World
from tests.pay.test_exchange import buy


class Application:
    """A small ASGI application that sees its request whole and answers in parts."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.life: list[str] = []

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.seen.append((scope["path"], body))
        if scope["path"] == "/broken":
            raise ZeroDivisionError
        if scope["path"] == "/cheap":
            scope[PAYMENT].charge("0.1")
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"got ", "more_body": True})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive, send) -> None:
        for _ in range(2):
            kind = (await receive())["type"]
            self.life.append(kind)
            await send({"type": f"{kind}.complete"})


@asynccontextmanager
async def running(app) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    yield made
    made.ledger.close()


async def test_an_asgi_application_is_sold(world: World) -> None:
    """402 first, then the application's own answer; a repeat runs nothing; free paths and start and end go through."""
    app = Application()
    paid = Paid(app, price="0.5", prices={"/cheap": "0.4"}, pricing="upto", free=("/docs",), seller=world.seller)
    async with running(paid) as url, aiohttp.ClientSession() as session:
        async with session.post(f"{url}/docs", data=b"free") as free:
            assert (free.status, await free.text()) == (201, "got free")
        async with session.post(f"{url}/buy", data=b"unpaid") as unpaid:
            assert unpaid.status == 402
            assert decode_required(unpaid.headers[REQUIRED]).accepts[0].amount == "50000000"
        got = await buy(world, f"{url}/buy/%C3%BC?x=%20", method="POST", body=b"hello")
        assert (got.status, got.body, int(got.ended.charged_florins)) == (201, b"got hello", 50_000_000)
        header = {SIGNATURE: world.ledger.known(got.oid).header}
        async with session.post(f"{url}/buy/%C3%BC?x=%20", data=b"hello", headers=header) as again:
            assert (again.status, await again.text()) == (201, "got hello")
        cheap = await buy(world, f"{url}/cheap")
        assert int(cheap.ended.charged_florins) == 10_000_000
        broken = await buy(world, f"{url}/broken")
        assert (broken.status, int(broken.ended.charged_florins)) == (500, 0)
    assert [path for path, _ in app.seen] == ["/docs", "/buy/ü", "/cheap", "/broken"]
    assert app.life == ["lifespan.startup", "lifespan.shutdown"]


async def test_bodies_have_their_limit_and_websockets_are_not_sold(tmp_path: Path) -> None:
    """413 with nothing charged; a WebSocket is closed with the reason."""
    world = World(tmp_path, body_bytes_max=100)
    app = Application()
    paid = Paid(app, price="0.1", seller=world.seller)
    async with running(paid) as url, aiohttp.ClientSession() as session:
        got = await buy(world, f"{url}/buy", method="POST", body=b"x" * 100)
        header = {SIGNATURE: world.ledger.known(got.oid).header}
        async with session.post(f"{url}/buy", data=b"x" * 101, headers=header) as refused:
            assert refused.status == 413
    sent = []

    async def send(message) -> None:
        sent.append(message)

    await paid({"type": "websocket", "path": "/"}, None, send)
    assert sent[0]["type"] == "websocket.close"
    assert len(app.seen) == 1
    world.ledger.close()
