"""A paying reverse proxy: an existing HTTP endpoint, sold without touching it.

Promises: a request reaches the endpoint once per admitted call and never unpaid (but for paths that are free); what is
passed on carries no payment header and none that concerns one hop alone; the endpoint's answer is bounded, and in the
books before it is sent on, or sent on in parts of which each was covered before. An endpoint is read no faster than its
reader takes. Listens on this machine alone: before the world stands the operator's own server.
Source: channel_protocol.md §7, settled.md 24.
"""

from __future__ import annotations

import asyncio
from asyncio import Timeout
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import aiohttp
import structlog
from aiohttp import web
from multidict import CIMultiDict
from structlog.typing import FilteringBoundLogger
from yarl import URL

from common.errors import CallerMistake
from common.settings import is_loopback
from dux_pay.aiohttp_paid import PAYMENT, SELLER, serve, take_message
from dux_pay.answers import BODY_BYTES_MAX as ANSWER_BYTES_MAX
from dux_pay.answers import TYPE_DEFAULT
from dux_pay.calls import Payment
from dux_pay.delivering import OK, deliver, is_metered
from dux_pay.doors import served
from dux_pay.headers import REQUIRED, RESPONSE, SIGNATURE
from dux_pay.messages import PATH
from dux_pay.price import Prices, Rate
from dux_pay.reaper import Reaper
from dux_pay.seller import CHARGED_BELOW, Seller
from dux_pay.streams import STREAM, had_of

UPSTREAM_S = 60.0
UPSTREAM_CONNECTIONS_MAX = 64
STREAM_S_MAX = 3_600.0  # for the whole of an answer that comes in parts; `upstream_s` for its head and between parts
PART_BYTES_MAX = 64 * 1024
SHUTDOWN_S = 2.0  # calls in progress get so long to end
LINGER_S = 1.0  # for the rest of a body that was refused
TOO_SLOW, BAD_GATEWAY, TOO_LONG = 408, 502, 504
ONE_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "content-length", "expect", "accept-encoding",
}  # fmt: skip
PAYMENT_HEADERS = {REQUIRED.lower(), SIGNATURE.lower(), RESPONSE.lower()}

ENDS = {"text/event-stream": b"\n\n", "application/x-ndjson": b"\n"}  # of a part, where a format has parts
TROUBLES = (TimeoutError, aiohttp.ClientError, ValueError)


class NotLoopback(CallerMistake):
    """{host} is not an address of this machine: listen on 127.0.0.1 and put your own TLS server in front."""

    code = 3158
    key = "sell-not-loopback"


class BadUpstream(CallerMistake):
    """{url!r} is no endpoint to sell: write http://HOST:PORT or https://HOST."""

    code = 3159
    key = "bad-upstream"


def upstream_of(text: str) -> URL:
    """The endpoint's address.

    Raises:
        BadUpstream: it is none.
    """
    try:
        url = URL(text)
    except ValueError as error:
        raise BadUpstream(url=text) from error
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.user:
        raise BadUpstream(url=text)
    return url


class Proxy:
    """One endpoint behind one price list. `rate`: of a metered one, whose prices are what a call begins with."""

    def __init__(
        self,
        seller: Seller,
        upstream: URL,
        prices: Prices,
        *,
        reaper: Reaper,
        rate: Rate | None = None,
        upstream_s: float = UPSTREAM_S,
    ) -> None:
        self._seller = seller
        self._upstream = upstream
        self._prices = prices
        self._reaper = reaper
        self._rate = rate
        self._upstream_s = upstream_s
        self._log: FilteringBoundLogger = structlog.get_logger("sell-http")
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve there; gives the port.

        Raises:
            NotLoopback: the address is not this machine's. PlaceTaken: somebody else listens there.
        """
        if not is_loopback(host):
            raise NotLoopback(host=host)
        app = web.Application(client_max_size=self._seller.body_bytes_max, middlewares=[self._reaper.middleware])
        app[SELLER] = self._seller
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S, lingering_time=LINGER_S
        )
        async with self._client(), served(runner, host, port, self._reaper) as found:
            yield found

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self._upstream_s),
            connector=aiohttp.TCPConnector(limit=UPSTREAM_CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        ) as session:
            self._session = session
            yield

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request: a channel message, free, or paid."""
        if request.method == "POST" and request.path == PATH:
            return await take_message(request)
        price = self._prices.of(request.path)
        if price is None:
            return await self._free(request)
        return await serve(request, self._sold, price, f"http {self._prices.prefix_of(request.path)}")

    # --- the endpoint's answers ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _asking(self, request: web.Request, body: bytes) -> AsyncIterator[tuple[aiohttp.ClientResponse, Timeout]]:
        """The endpoint's answer, and the time that is left for it."""
        if self._session is None:
            raise RuntimeError("`listening` was not entered")
        url = URL(str(self._upstream).rstrip("/") + request.raw_path, encoded=True)
        async with (
            asyncio.timeout(self._upstream_s) as limit,
            self._session.request(
                request.method, url, headers=passed_on(request), data=body or None, allow_redirects=False
            ) as answer,
        ):
            yield answer, limit

    async def _free(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self._seller.body_s_max):
                sent = await request.read()
        except TimeoutError:
            return web.Response(status=TOO_SLOW, text="the body came too slowly")
        stream: web.StreamResponse | None = None
        try:
            async with self._asking(request, sent) as (answer, limit):
                stream = web.StreamResponse(status=answer.status, headers=_kept(answer))
                await stream.prepare(request)
                limit.reschedule(asyncio.get_running_loop().time() + STREAM_S_MAX)
                async for part in answer.content.iter_any():
                    await stream.write(part)
                await stream.write_eof()
        except (*TROUBLES, ConnectionError) as error:
            if stream is None or not stream.prepared:
                return self._failed(error)
            if request.transport is not None:  # a broken answer must not look whole
                request.transport.abort()
        return stream

    async def _sold(self, request: web.Request) -> web.Response:
        """The answer to a paid request, in parts where its caller reads it so or it is metered; else in one piece."""
        payment, in_parts = request[PAYMENT], had_of(request.headers.get(STREAM)) is not None
        try:
            async with self._asking(request, payment.body) as (answer, limit):
                if answer.status == OK and (in_parts or is_metered(payment)):
                    limit.reschedule(asyncio.get_running_loop().time() + STREAM_S_MAX)
                    return await self._in_parts(answer, payment, is_read=in_parts)
                whole = web.Response(status=answer.status, headers=_kept(answer), body=await _bounded(answer))
        except TROUBLES as error:
            whole = self._failed(error)
        event = "call sold" if whole.status < CHARGED_BELOW else "call answered and not charged"
        self._log.info(event, path=request.path, status=whole.status, payer=payment.payer, oid=payment.oid)
        return whole

    async def _in_parts(self, answer: aiohttp.ClientResponse, payment: Payment, *, is_read: bool) -> web.Response:
        """Part by part: a meter's parts are charged as they left; for a fixed price only what came whole."""
        payment.parts.kind = answer.headers.get("Content-Type", TYPE_DEFAULT)
        rate = self._rate if is_metered(payment) else None
        try:
            async with aclosing(parts_of(answer)) as source:
                whole = await deliver(payment, source, rate=rate, clock=self._seller.clock, is_read=is_read)
        except TROUBLES as error:
            if not payment.parts.data:
                return self._failed(error)
            whole = False
        if not whole and rate is None:
            payment.charge("0")
        size = len(payment.parts.data)
        self._log.info("call sold in parts", payer=payment.payer, oid=payment.oid, bytes=size, whole=whole)
        return web.Response(headers=_kept(answer))

    def _failed(self, error: Exception) -> web.Response:
        if isinstance(error, TimeoutError):
            return web.Response(status=TOO_LONG, body=b"the endpoint did not answer in time; nothing was charged")
        self._log.warning("endpoint failed", reason=str(error))
        text = b"the endpoint cannot be reached, or its answer is too large; nothing was charged"
        return web.Response(status=BAD_GATEWAY, body=text)


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_chunked(PART_BYTES_MAX):
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise ValueError("answer too large")
        parts.append(part)
    return b"".join(parts)


async def parts_of(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """What is one part: an event of a stream of events, a line of JSON lines, else what came at once; never more."""
    end = ENDS.get(answer.content_type)
    held = b""
    async for came in answer.content.iter_any():
        held += came
        while held:
            at = PART_BYTES_MAX if end is None else held.find(end, 0, PART_BYTES_MAX) + len(end)
            if end is not None and at < len(end):  # no end in it yet
                if len(held) < PART_BYTES_MAX:
                    break
                at = PART_BYTES_MAX
            yield held[:at]
            held = held[at:]
    if held:
        yield held


def _kept(answer: aiohttp.ClientResponse) -> CIMultiDict[str]:
    """What goes on; a body that came compressed has been opened."""
    dropped = ONE_HOP | {"content-encoding"}
    return CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in dropped)


def passed_on(request: web.Request) -> CIMultiDict[str]:
    """The headers for the endpoint. It shall not compress: what is hashed is what the caller reads."""
    named = {name.strip().lower() for name in request.headers.get("Connection", "").split(",")}
    dropped = ONE_HOP | PAYMENT_HEADERS | named
    headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in dropped)
    headers["Accept-Encoding"] = "identity"
    headers["X-Forwarded-Host"] = request.host
    return headers
