"""The node's local gateway: a small HTTP door through which programs of this machine pay for HTTP calls.

    POST /pay      a request that met 402                 -> the PAYMENT-SIGNATURE to send it again with
    POST /settled  the answer of a paid request           -> what it cost, checked
    POST /fuel     a metered call may cost more           -> its next PAYMENT-SIGNATURE
    ANY  /fetch/URL  the whole exchange, done here        -> the answer, with what was paid in `Dux-Paid`
    GET  /spent    what was spent today, and the limits

Every call wants the token of DIR/run/gateway/module.token in `Dux-Token`, and no sign of a browser. The gateway is the
owner's program, not a daemon: only `/fetch` talks to the world, as any client of the owner's would.
Source: channel_protocol.md §7, settled.md 4, 24.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from structlog.typing import FilteringBoundLogger

from common.codec import Wire, from_json, json_bytes
from common.errors import BadRequest, CallerMistake, DuxError, NoToken
from common.rpc.server import LOCAL_HOSTS, Tokens, check_host
from common.settings import is_loopback
from common.units import Florins
from dux_pay.buying import Came, Header, Wanted
from dux_pay.doors import served
from dux_pay.fetching import Fetcher, Fetching
from dux_pay.headers import SIGNATURE, Oid
from dux_pay.proxy import NotLoopback
from dux_pay.purse import Purse
from dux_pay.reaper import Reaper

TOKEN_HEADER, OID_HEADER, PAID_HEADER, SAID_HEADER = "Dux-Token", "Dux-Oid", "Dux-Paid", "Dux-Said"
JSON_BYTES_MAX = 64 * 1024
FETCH_BYTES_MAX = 1024 * 1024
SAID_CHARS_MAX = 500
OWN_HEADERS = {name.lower() for name in (TOKEN_HEADER, OID_HEADER)}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NoGatewayToken(CallerMistake):
    """No or unknown token: send `Dux-Token` with the text of run/gateway/module.token in the node's folder."""

    code = 3174
    key = "no-gateway-token"
    http_status = 401


class MoreFuel(Wire, frozen=True, kw_only=True):
    """A metered call may cost so much."""

    oid: Oid
    most_florins: Florins


class Spent(Wire, frozen=True, kw_only=True):
    """Today's sum, what was promised and has not ended among it, and the limits."""

    today_florins: Florins
    per_call_florins: Florins
    per_day_florins: Florins


class Gateway:
    """The door."""

    def __init__(self, purse: Purse, fetcher: Fetcher, tokens: Tokens) -> None:
        self._purse = purse
        self._fetcher = fetcher
        self._tokens = tokens
        self._log: FilteringBoundLogger = structlog.get_logger("gateway")

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve there; gives the port.

        Raises:
            NotLoopback: the address is not this machine's. PlaceTaken: somebody else listens there.
        """
        if not is_loopback(host):
            raise NotLoopback(host=host)
        reaper = Reaper()
        app = web.Application(client_max_size=FETCH_BYTES_MAX, middlewares=[reaper.middleware, self._guard])
        app.add_routes([
            web.post("/pay", self.pay),
            web.post("/settled", self.settled),
            web.post("/fuel", self.fuel),
            web.get("/spent", self.spent),
            web.route("*", "/fetch/{url:.+}", self.fetch),
        ])  # fmt: skip
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        async with self._fetcher, served(runner, host, port, reaper) as found:
            yield found

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check_host(request, LOCAL_HOSTS)
            self._check_token(request)
            return await handler(request)
        except DuxError as error:
            self._log.info("payment refused", key=error.key, reason=error.message)
            told = {"error": error.message, "code": error.code, "key": error.key}
            return web.Response(status=error.http_status, body=json_bytes(told), content_type="application/json")

    def _check_token(self, request: web.Request) -> None:
        try:
            self._tokens.caller_of(request.headers.get(TOKEN_HEADER))
        except NoToken as error:
            raise NoGatewayToken from error

    async def pay(self, request: web.Request) -> web.Response:
        """The header for a request; in a header too, for hooks that read no bodies."""
        header = await self._purse.pay(from_json(await request.read(), Wanted))
        return self._header(header)

    async def fuel(self, request: web.Request) -> web.Response:
        """The next header of a metered call."""
        more = from_json(await request.read(), MoreFuel)
        return self._header(await self._purse.fuel(more.oid, more.most_florins))

    def _header(self, header: Header) -> web.Response:
        self._log.info("call paid", oid=header.oid, most_florins=int(header.most_florins), said=header.said)
        headers = {SIGNATURE: header.header, OID_HEADER: header.oid, SAID_HEADER: _line(header.said)}
        return web.Response(body=json_bytes(header), content_type="application/json", headers=headers)

    async def settled(self, request: web.Request) -> web.Response:
        """What a call cost."""
        ended = await self._purse.settled(from_json(await request.read(), Came))
        self._log.info("call ended", oid=ended.oid, outcome=ended.outcome, charged_florins=int(ended.charged_florins))
        return web.Response(body=json_bytes(ended), content_type="application/json")

    async def spent(self, _request: web.Request) -> web.Response:
        """What was spent today."""
        limits = self._purse.ledger.limits
        spent = Spent(
            today_florins=self._purse.ledger.spent_today(),
            per_call_florins=limits.per_call_florins,
            per_day_florins=limits.per_day_florins,
        )
        return web.Response(body=json_bytes(spent), content_type="application/json")

    async def fetch(self, request: web.Request) -> web.Response:
        """The whole exchange, for programs that can only make one request."""
        url = request.raw_path.removeprefix("/fetch/")
        if not url.startswith(("http://", "https://")):
            raise BadRequest(detail="write /fetch/https://HOST/PATH")
        asked = Fetching(
            method=request.method,
            url=url,
            headers=tuple((name, value) for name, value in request.headers.items() if name.lower() not in OWN_HEADERS),
            body=await request.read(),
            oid=request.headers.get(OID_HEADER),
        )
        got = await self._fetcher.fetch(asked)
        headers = dict(got.headers) | {OID_HEADER: got.oid, SAID_HEADER: _line(got.said)}
        if got.ended is not None:
            headers[PAID_HEADER] = str(int(got.ended.charged_florins))
        return web.Response(status=got.status, headers=headers, body=got.body)


def _line(said: tuple[str, ...]) -> str:
    """What was done, in one header line of plain characters."""
    text = "; ".join(said).encode("ascii", "replace").decode()
    return "".join(char for char in text if char.isprintable())[:SAID_CHARS_MAX]
