"""`@paid(price="0.5")`: a handler of aiohttp's web server that is paid for each call.

    app = web.Application()
    app.add_routes([web.post("/upscale", paid(price="0.5")(upscale))])
    sell(app)

`sell` connects the application with the node of DUXNET_NODE. In the handler `request[PAYMENT]` says who pays, takes
what an `upto` call costs (`charge`), meters (`meter`), and delivers in parts (`send`). Source: channel_protocol.md §7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path

from aiohttp import web
from multidict import CIMultiDict

from common.contracts.channel_carried import MESSAGE_BYTES_MAX
from dux_pay.calls import Asked, BodyTooLarge, Payment, Reply
from dux_pay.delivering import worked
from dux_pay.headers import SIGNATURE
from dux_pay.messages import PATH
from dux_pay.node import Node
from dux_pay.price import Price, price_of
from dux_pay.seller import BODY_BYTES_MAX, BODY_S_MAX, Seller
from dux_pay.streams import STREAM, Parts, rest_of, streamed_headers

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SELLER: web.AppKey[Seller] = web.AppKey("dux_seller", Seller)
PAYMENT: web.RequestKey[Payment] = web.RequestKey("dux_payment", Payment)
FAILED = 500


def sell(app: web.Application, node: Path | str | None = None, *, body_bytes_max: int = BODY_BYTES_MAX) -> None:
    """Sell through this node: its clients live as long as the application.

    Raises:
        NoNodeNamed: there is no such node.
    """
    found = Node(node)
    add_seller(app, found.seller(body_bytes_max=body_bytes_max, body_s_max=BODY_S_MAX))

    async def connected(_app: web.Application) -> AsyncIterator[None]:
        yield
        await found.close()

    app.cleanup_ctx.append(connected)


def add_seller(app: web.Application, seller: Seller) -> None:
    """The application sells through this seller, and takes channel messages for its node."""
    app[SELLER] = seller
    app.router.add_post(PATH, take_message)


async def take_message(request: web.Request) -> web.Response:
    """A channel message for the node."""
    bounded = request.clone(client_max_size=MESSAGE_BYTES_MAX)
    return response_of(await request.config_dict[SELLER].door.take(reader_of(bounded)))


def paid(*, price: str | Price, pricing: str = "fixed", what: str = "") -> Callable[[Handler], Handler]:
    """A handler that is run for callers who have paid. `what` names it in offers; else its path.

    Raises:
        BadPrice: the price is none.
    """
    wanted = price_of(price, pricing)

    def decorated(handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: web.Request) -> web.StreamResponse:
            return await serve(request, handler, wanted, what or _name_of(request))

        return guarded

    return decorated


def _name_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return f"http {request.method} {resource.canonical if resource else request.path}"[:256]


async def serve(request: web.Request, handler: Handler, price: Price, what: str) -> web.StreamResponse:
    """Let a paid request through to its handler, and answer the others."""
    seller = request.config_dict[SELLER]
    bounded = request.clone(client_max_size=seller.body_bytes_max)
    asked = asked_of(bounded, PATH)
    entered = await seller.enter(asked, what, price)
    if isinstance(entered, Reply):
        if asked.had is not None and entered.at_work is not None:
            return await _streamed(request, entered.at_work, asked.had)
        return response_of(entered, asked.had)
    bounded[PAYMENT] = entered
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(worked(seller, entered, partial(_run, handler, bounded)))
        if asked.had is not None and await entered.parts.begun():
            return await _streamed(request, entered.parts, asked.had)
    return response_of(working.result(), asked.had)


async def _streamed(request: web.Request, parts: Parts, had: int) -> web.StreamResponse:
    """The parts as they are covered. A caller that goes away may come back for the rest."""
    stream = web.StreamResponse(headers=CIMultiDict(streamed_headers(parts, had)))
    with suppress(ConnectionError):
        await stream.prepare(request)
        async for part in parts.read(had):
            await stream.write(part)
        await stream.write_eof()
    return stream


async def _run(handler: Handler, request: web.Request) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    """What a handler answers, errors included: whoever was paid has to say how it ended."""
    try:
        said = await handler(request)
    except web.HTTPException as error:
        said = error
    except Exception:  # the caller is told that the call failed and costs nothing; the log has the rest
        request.app.logger.exception("paid handler failed")
        return FAILED, (), b"the handler failed; nothing was charged"
    if not isinstance(said, web.Response):
        request.app.logger.error("a paid handler returned a stream, which cannot be kept for repeats")
        return FAILED, (), b"the handler failed; nothing was charged"
    body = said.body if isinstance(said.body, bytes | bytearray) else b""
    return said.status, tuple(said.headers.items()), bytes(body)


def reader_of(request: web.Request) -> Callable[[int], Awaitable[bytes]]:
    """Its body, up to the limit that the request was cloned with."""

    async def read_body(limit_bytes: int) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise BodyTooLarge(limit_bytes=limit_bytes) from error

    return read_body


def asked_of(request: web.Request, messages_at: str) -> Asked:
    """The request as its caller wrote it."""
    path, _, query = request.raw_path.partition("?")
    return Asked(
        method=request.method,
        path=path,
        query=query,
        url=f"{request.scheme}://{request.host}{path}",
        payment=request.headers.get(SIGNATURE),
        read_body=reader_of(request),
        stream=request.headers.get(STREAM),
        messages_at=messages_at,
    )


def response_of(reply: Reply, had: int | None = None) -> web.Response:
    """The answer to send, without what its caller has."""
    headers, body = rest_of(reply.status, reply.headers, reply.body, had)
    return web.Response(status=reply.status, headers=CIMultiDict(headers), body=body)
