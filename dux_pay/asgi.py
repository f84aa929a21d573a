"""An ASGI application that is paid for each call: for Starlette, FastAPI, Quart, Django and whatever speaks ASGI.

    app = Paid(app, price="0.5")                     everything below it
    app = Paid(app, price="0.5", free=("/docs",))    but for some paths

The wrapped application sees the request as it came, with a `dux.payment` in its scope; its answer is collected, put
into the books and then sent. What leaves earlier is what it delivers in parts (`await scope["dux.payment"].send(part,
"0.1")`); a call goes on when its caller is gone. WebSockets cannot be kept for repeats, so they are not sold here.
Source: channel_protocol.md §6, §7; ASGI 3.0.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dux_pay.answers import BODY_BYTES_MAX as ANSWER_BYTES_MAX
from dux_pay.answers import Headers
from dux_pay.calls import Asked, BodyTooLarge, Payment, Reply
from dux_pay.delivering import OK, worked
from dux_pay.headers import SIGNATURE
from dux_pay.messages import PATH
from dux_pay.node import Node
from dux_pay.price import prices_of
from dux_pay.seller import BODY_BYTES_MAX, BODY_S_MAX, Seller
from dux_pay.streams import STREAM, Parts, rest_of, streamed_headers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FAILED = 500
PAYMENT = "dux.payment"
_LOG = logging.getLogger(__name__)


class Paid:
    """The wrapper. `seller` is for tests and special assemblies; else the node of DUXNET_NODE or `node` is used."""

    def __init__(
        self,
        app: App,
        *,
        price: str,
        pricing: str = "fixed",
        prices: Mapping[str, str] | None = None,
        free: tuple[str, ...] = (),
        node: Path | str | None = None,
        seller: Seller | None = None,
    ) -> None:
        """Sell what `app` answers.

        Raises:
            BadPrice: a price is none. NoNodeNamed: there is no such node.
        """
        self._app = app
        self._prices = prices_of(price, pricing, prices or {}, free)
        self._node = None if seller else Node(node)
        self._seller = seller
        self._working: set[asyncio.Future[Reply]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's scope."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, self._closing(send))
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "not sold here"})

    def _closing(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown") and self._node:
                await self._node.close()
            await send(message)

        return sent

    def _sells(self) -> Seller:
        """Made in the loop that uses it."""
        if self._seller is None and self._node is not None:
            self._seller = self._node.seller(body_bytes_max=BODY_BYTES_MAX, body_s_max=BODY_S_MAX)
        if self._seller is None:
            raise TypeError("a seller or a node was given")
        return self._seller

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and scope["path"] == messages_at(scope):
            await send_reply(await self._sells().door.take(reader_of(receive)), send)
            return
        price = self._prices.of(scope["path"])
        if price is None:
            await self._app(scope, receive, send)
            return
        what, asked = f"http {self._prices.prefix_of(scope['path'])}", asked_of(scope, receive)
        entered = await self._sells().enter(asked, what, price)
        if not isinstance(entered, Reply):
            await self._serve(scope, entered, asked.had, send)
        elif asked.had is not None and entered.at_work is not None:
            await send_parts(entered.at_work, asked.had, send)
        else:
            await send_reply(entered, send, asked.had)

    async def _serve(self, scope: Scope, payment: Payment, had: int | None, send: Send) -> None:
        """Run the application in a task of its own: a server may end the caller's when the caller goes away."""
        working = asyncio.ensure_future(worked(self._sells(), payment, partial(self._run, scope, payment)))
        self._working.add(working)
        working.add_done_callback(self._working.discard)
        if had is not None and await payment.parts.begun():
            await send_parts(payment.parts, had, send)
            await asyncio.shield(working)
        else:
            await send_reply(await asyncio.shield(working), send, had)

    async def _run(self, scope: Scope, payment: Payment) -> tuple[int, Headers, bytes]:
        kept = Collected()
        try:
            await self._app({**scope, PAYMENT: payment}, once(payment.body), kept.take)
        except Exception:  # noqa: BLE001 - an application may raise anything; it is logged and costs nothing
            _LOG.exception("paid application failed")
            kept = Collected(status=FAILED)
        if kept.size > ANSWER_BYTES_MAX - len(payment.parts.data):
            kept = Collected(status=FAILED, parts=[b"the answer is too large to be sold; nothing was charged"])
        return kept.status, tuple(kept.headers), b"".join(kept.parts)


@dataclass
class Collected:
    """An application's answer, held back."""

    status: int = FAILED
    headers: list[tuple[str, str]] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    async def take(self, message: Message) -> None:
        """A message of the application; beyond the limit parts are counted, not kept."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
        elif message["type"] == "http.response.body":
            part = message.get("body", b"")
            self.size += len(part)
            if self.size <= ANSWER_BYTES_MAX:
                self.parts.append(part)


def once(body: bytes) -> Receive:
    """The body that was read already, and then that the caller has gone quiet."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return left.pop() if left else {"type": "http.disconnect"}

    return receive


def messages_at(scope: Scope) -> str:
    """The path for channel messages, below where this application is mounted."""
    return f"{scope.get('root_path', '').rstrip('/')}{PATH}"


def reader_of(receive: Receive) -> Callable[[int], Awaitable[bytes]]:
    """The body, up to a limit."""

    async def read_body(limit_bytes: int) -> bytes:
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionResetError("the caller is gone")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit_bytes:
                raise BodyTooLarge(limit_bytes=limit_bytes)
            more = message.get("more_body", False)
        return b"".join(parts)

    return read_body


def asked_of(scope: Scope, receive: Receive) -> Asked:
    """The request as its caller wrote it."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    raw = scope.get("raw_path") or scope["path"].encode()
    path = raw.decode("latin-1").partition("?")[0]
    return Asked(
        method=scope["method"],
        path=path,
        query=scope["query_string"].decode("latin-1"),
        url=f"{scope.get('scheme', 'http')}://{headers.get('host', '')}{path}",
        payment=headers.get(SIGNATURE.lower()),
        read_body=reader_of(receive),
        stream=headers.get(STREAM.lower()),
        messages_at=messages_at(scope),
    )


async def send_reply(reply: Reply, send: Send, had: int | None = None) -> None:
    """The answer over ASGI, without what its caller has."""
    kept, body = rest_of(reply.status, reply.headers, reply.body, had)
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_parts(parts: Parts, had: int, send: Send) -> None:
    """The parts over ASGI as they are covered. A caller that goes away may come back for the rest."""
    headers = [(name.lower().encode(), value.encode()) for name, value in streamed_headers(parts, had)]
    with suppress(OSError):  # how a server says that nobody listens any more
        await send({"type": "http.response.start", "status": OK, "headers": headers})
        async for part in parts.read(had):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
