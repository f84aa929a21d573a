"""A paying reverse proxy: an existing HTTP endpoint, sold without touching it.

Promises: a request reaches the endpoint once per admitted call and never unpaid (but for paths that are free); what is
passed on carries no payment header and none that concerns one hop alone; the endpoint's answer is bounded and put into
the books before it is sent on. Listens on this machine alone: before the world stands the operator's own server.
Source: channel_protocol.md §7, settled.md 24.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import structlog
from aiohttp import web
from multidict import CIMultiDict
from structlog.typing import FilteringBoundLogger
from yarl import URL

from common.errors import CallerMistake
from common.settings import is_loopback
from dux_pay.aiohttp_paid import SELLER, asked_of, response_of, take_message
from dux_pay.answers import BODY_BYTES_MAX as ANSWER_BYTES_MAX
from dux_pay.calls import Payment, Reply
from dux_pay.headers import REQUIRED, RESPONSE, SIGNATURE
from dux_pay.messages import PATH
from dux_pay.price import Prices
from dux_pay.reaper import Reaper
from dux_pay.seller import Seller

UPSTREAM_S = 60.0
UPSTREAM_CONNECTIONS_MAX = 64
SHUTDOWN_S = 2.0  # calls in progress get so long to end
LINGER_S = 1.0  # for the rest of a body that was refused
TOO_SLOW, BAD_GATEWAY, TOO_LONG = 408, 502, 504
ONE_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "content-length", "expect", "accept-encoding",
}  # fmt: skip
PAYMENT_HEADERS = {REQUIRED.lower(), SIGNATURE.lower(), RESPONSE.lower()}

Answer = tuple[int, tuple[tuple[str, str], ...], bytes]


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
    """One endpoint behind one price list."""

    def __init__(
        self, seller: Seller, upstream: URL, prices: Prices, *, reaper: Reaper, upstream_s: float = UPSTREAM_S
    ) -> None:
        self._seller = seller
        self._upstream = upstream
        self._prices = prices
        self._reaper = reaper
        self._upstream_s = upstream_s
        self._log: FilteringBoundLogger = structlog.get_logger("sell-http")
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve there; gives the port.

        Raises:
            NotLoopback: the address is not this machine's.
        """
        if not is_loopback(host):
            raise NotLoopback(host=host)
        app = web.Application(client_max_size=self._seller.body_bytes_max, middlewares=[self._reaper.middleware])
        app[SELLER] = self._seller
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S, lingering_time=LINGER_S
        )
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=256)
        async with self._client(), asyncio.TaskGroup() as tasks:
            await site.start()
            watching = tasks.create_task(self._reaper.run(runner))
            try:
                yield int(runner.addresses[0][1])
            finally:
                watching.cancel()
                await runner.cleanup()

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._upstream_s, sock_connect=10),
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
        what = f"http {self._prices.prefix_of(request.path)}"
        entered = await self._seller.enter(asked_of(request, PATH), what, price)
        if isinstance(entered, Reply):
            return response_of(entered)
        return response_of(await self._paid(request, entered))

    async def _free(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(self._seller.body_s_max):
                sent = await request.read()
        except TimeoutError:
            return web.Response(status=TOO_SLOW, text="the body came too slowly")
        status, headers, body = await self._ask(request, sent)
        return response_of(Reply(status, tuple(pair for pair in headers if pair[0].lower() not in ONE_HOP), body))

    async def _paid(self, request: web.Request, payment: Payment) -> Reply:
        status, headers, body = await self._ask(request, payment.body)
        self._log.info("call sold", path=request.path, status=status, payer=payment.payer, oid=payment.oid)
        return await self._seller.leave(payment, status, headers, body)

    async def _ask(self, request: web.Request, body: bytes) -> Answer:
        """The endpoint's answer, or the proxy's own when there is none."""
        if self._session is None:
            raise RuntimeError("`listening` was not entered")
        url = URL(str(self._upstream).rstrip("/") + request.raw_path, encoded=True)
        try:
            async with self._session.request(
                request.method, url, headers=passed_on(request), data=body or None, allow_redirects=False
            ) as answer:
                return answer.status, tuple(answer.headers.items()), await _bounded(answer)
        except TimeoutError:
            return TOO_LONG, (), b"the endpoint did not answer in time; nothing was charged"
        except (aiohttp.ClientError, ValueError) as error:
            self._log.warning("endpoint failed", reason=str(error))
            return BAD_GATEWAY, (), b"the endpoint cannot be reached, or its answer is too large; nothing was charged"


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_chunked(64 * 1024):
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise ValueError("answer too large")
        parts.append(part)
    return b"".join(parts)


def passed_on(request: web.Request) -> CIMultiDict[str]:
    """The headers for the endpoint. It shall not compress: what is hashed is what the caller reads."""
    named = {name.strip().lower() for name in request.headers.get("Connection", "").split(",")}
    dropped = ONE_HOP | PAYMENT_HEADERS | named
    headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in dropped)
    headers["Accept-Encoding"] = "identity"
    headers["X-Forwarded-Host"] = request.host
    return headers
