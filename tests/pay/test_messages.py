"""Where channel messages go over HTTP: what a 402 names, which address a buyer takes, what strangers get."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from common.contracts.channel_carried import BROUGHT, CARRIED, ERRANDS, AskErrands, Brought, Errand, Errands
from common.errors import NeighbourDown
from common.rpc.method import Done
from dux_pay.aiohttp_paid import add_seller, paid
from dux_pay.asgi import Paid
from dux_pay.headers import REQUIRED, decode_required
from dux_pay.messages import AT_ONCE_MAX, CONTENT_TYPE, PATH, Courier, Door, place_of
from tests.attacks.registry import attack
from tests.pay.kit import World
from tests.pay.test_asgi import running
from tests.pay.test_exchange import served


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    yield made
    made.ledger.close()


@pytest.mark.parametrize(
    ("open_url", "hello_url", "asked", "place"),
    [
        (PATH, PATH, "https://api.example/v1/x?q=1", f"https://api.example{PATH}"),
        (f"/shop{PATH}", f"/shop{PATH}", "http://127.0.0.1:8402/shop/a", f"http://127.0.0.1:8402/shop{PATH}"),
        ("dux:did:dux:b/channel.open", "dux:did:dux:b/channel.hello", "https://api.example/", ""),
        (PATH, "/elsewhere", "https://api.example/", ""),
        ("//evil.example/x", "//evil.example/x", "https://api.example/", ""),
        ("http://127.0.0.1:8545/", "http://127.0.0.1:8545/", "https://api.example/", ""),
        (PATH, PATH, "ftp://api.example/", ""),
        (PATH, PATH, "https://[", ""),
    ],
)
@attack(
    "payment",
    tries="a 402 that names another host, or this machine, as the place for the buyer's messages",
    meets="messages go to the origin that the buyer asked itself, or not over HTTP",
)
def test_messages_go_to_the_origin_that_was_asked(open_url: str, hello_url: str, asked: str, place: str) -> None:
    """A seller cannot send a buyer's program anywhere else."""
    assert place_of(open_url, hello_url, asked) == place


async def sold(_request: web.Request) -> web.Response:
    return web.Response(text="sold")


async def application(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"sold"})


@asynccontextmanager
async def shop(world: World, kind: str):
    """Something sold under either kind of server."""
    if kind == "asgi":
        async with running(Paid(application, price="0.5", seller=world.seller)) as url:
            yield url
        return
    app = web.Application()
    add_seller(app, world.seller)
    app.add_routes([web.get("/x", paid(price="0.5")(sold)), web.route("*", "/{path:.*}", sold)])
    async with served(app) as url:
        yield url


@pytest.mark.parametrize("kind", ["aiohttp", "asgi"])
async def test_every_server_names_and_takes_messages(world: World, kind: str) -> None:
    """The 402's place takes what the node answers to; a node that is away is 503, too much is 413."""
    taken: list[bytes] = []

    async def carried(asked: Any, _ctx: Any) -> Any:
        taken.append(asked.message)
        if len(taken) > 1:
            raise NeighbourDown(daemon="escrowd", address="", detail="")
        return CARRIED.example[1]

    world.client._table.serve(CARRIED, carried)
    async with shop(world, kind) as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}/x") as asked:
            extra = decode_required(asked.headers[REQUIRED]).accepts[0].extra
        assert extra.open_url == extra.hello_url == PATH
        place = place_of(extra.open_url, extra.hello_url, f"{url}/x")
        async with session.post(place, data=b"message") as answer:
            assert (answer.status, await answer.read()) == (200, CARRIED.example[1].answer)
            assert answer.content_type == CONTENT_TYPE
        async with session.post(place, data=b"again") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        async with session.post(place, data=b"x" * 5_000) as answer:
            assert answer.status == 413
    assert taken == [b"message", b"again"]


@attack(
    "payment",
    tries="many messages for the node at once, and one whose body never ends",
    meets="eight at work, the others 503; a slow body is cut off",
)
async def test_a_door_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many at once and no longer."""
    gate = asyncio.Event()

    async def slowly(_limit: int) -> bytes:
        await gate.wait()
        return b"x"

    class Node:
        async def call(self, *_asked: Any, **_more: Any) -> Any:
            return CARRIED.example[1]

    door = Door(Node())
    many = [asyncio.ensure_future(door.take(slowly)) for _ in range(AT_ONCE_MAX)]
    await asyncio.sleep(0)
    assert (await door.take(slowly)).status == 503
    gate.set()
    assert {reply.status for reply in await asyncio.gather(*many)} == {200}
    monkeypatch.setattr("dux_pay.messages.BODY_S_MAX", 0.01)
    gate.clear()
    assert (await door.take(slowly)).status == 408


class Post:
    """A node with errands."""

    def __init__(self, *urls: str) -> None:
        self.left = [Errand(name=str(at), url=url, message=b"message") for at, url in enumerate(urls)]
        self.brought: dict[str, Brought] = {}
        self.down = 1
        self.all = asyncio.Event()

    async def call(self, method: Any, params: Any, **_more: Any) -> Any:
        if method is ERRANDS:
            assert isinstance(params, AskErrands)
            if self.down:
                self.down -= 1
                raise NeighbourDown(daemon="escrowd", address="", detail="")
            given, self.left = self.left, []
            if not given:
                await asyncio.sleep(0.05)
            return Errands(errands=tuple(given))
        assert method is BROUGHT
        self.brought[params.name] = params
        if len(self.brought) == 1:
            self.all.set()
            raise NeighbourDown(daemon="escrowd", address="", detail="")
        self.all.set()
        return Done()


@attack(
    "payment",
    tries="a seller's door that redirects, floods, or answers with a page",
    meets="no redirect followed, no more read than the limit, nothing handed in as an answer",
)
async def test_a_courier_tells_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer, refusal, not now, and what is lost: a redirect, a page, a flood, nobody there."""
    monkeypatch.setattr("dux_pay.messages.ANSWER_BYTES_MAX", 1_000)

    async def door(request: web.Request) -> web.Response:
        case = request.path[1:]
        if case == "redirect":
            raise web.HTTPFound("/good")
        said = {"good": (200, b"yes"), "refused": (400, b"no"), "later": (503, b"soon"), "page": (200, b"<html>"),
                "flood": (200, b"x" * 2_000)}[case]  # fmt: skip
        kind = "text/html" if case == "page" else CONTENT_TYPE
        return web.Response(status=said[0], body=said[1], content_type=kind)

    app = web.Application()
    app.router.add_post("/{case}", door)
    cases = ("good", "refused", "later", "redirect", "page", "flood")
    async with served(app) as url:
        node = Post(*(f"{url}/{case}" for case in cases), "http://127.0.0.1:9/")
        async with Courier(node).running(), asyncio.timeout(10):
            while len(node.brought) < 7:
                node.all.clear()
                await node.all.wait()
    told = [node.brought[str(at)] for at in range(7)]
    assert [one.outcome for one in told] == ["answered", "refused", "not_now", "lost", "lost", "lost", "lost"]
    assert (told[0].answer, told[1].problem, told[3].answer) == (b"yes", "400: no", b"")
