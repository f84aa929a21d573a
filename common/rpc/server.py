"""The HTTP door of a daemon: who may come in, and how much at once.

Localhost is shared by every process and every web page of the machine, so it is not trusted: a call wants the token
that only its caller can read, a Host header that names this machine, and no sign of a browser. Probes (`/health`,
`/metrics`) want a token too, except over the UNIX socket beside the tokens.
Source: architecture.md §5, settled.md 4 and 35.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from aiohttp import web
from structlog.typing import FilteringBoundLogger

from common.codec import json_bytes
from common.errors import BadRequest, BrowserCall, DuxError, NoToken, TooBusy, TooLarge
from common.randomness import Randomness
from common.rpc.client import DEADLINE_HEADER
from common.rpc.table import MethodTable, error_answer

BODY_BYTES_MAX = 2 * 1024 * 1024  # a peer call's 1 MiB in base64 and its envelope; larger things are blobs
CALLS_AT_ONCE_MAX = 256  # in progress in one daemon, long polls included
CALLS_PER_CALLER_MAX = 96  # of them by one caller
DEADLINE_DEFAULT_MS = 15_000
DEADLINE_MAX_MS = 600_000
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")

CALLER = web.RequestKey("caller", str)  # whose token it was, for handlers of extra routes
Probe = Callable[[], Awaitable[tuple[int, str, str]]]  # (status, content type, text)


class Tokens:
    """The callers' tokens of one daemon: files that only the caller (by group) and this daemon can read."""

    def __init__(self, folder: Path, callers: list[str], randomness: Randomness) -> None:
        self._by_hash: dict[bytes, str] = {}  # looked up in one step, whose time tells nothing of a token
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        for caller in callers:
            self._by_hash[_hash(self._load(folder / f"{caller}.token", randomness))] = caller

    @staticmethod
    def _load(path: Path, randomness: Randomness) -> str:
        if path.exists() and (text := path.read_text().strip()):
            return text
        text = randomness.bytes(32).hex()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
        return text

    def caller_of(self, header: str | None) -> str:
        """Who holds this token.

        Raises:
            NoToken: missing, malformed or unknown.
        """
        given = (header or "").removeprefix("Bearer ").strip()
        caller = self._by_hash.get(_hash(given))
        if caller is None:
            raise NoToken(token_file=str(self._folder / "<caller>.token"))
        return caller


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def check_host(request: web.Request, allowed: tuple[str, ...]) -> None:
    """Refuse what a page in a browser could send.

    Raises:
        BrowserCall: foreign Host (DNS rebinding), any Origin, any cross-site fetch.
    """
    host = request.headers.get("Host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name.lower() not in allowed:
        raise BrowserCall(header="Host", value=host[:100])
    for header in ("Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode"):
        if header in request.headers:
            raise BrowserCall(header=header, value=request.headers[header][:100])


class RpcServer:
    """Serves one table on one port, plus the probes and whatever extra routes the daemon has (p2pd's blobs)."""

    def __init__(
        self, table: MethodTable, tokens: Tokens, *, health: Probe, metrics: Probe, log: FilteringBoundLogger
    ) -> None:
        self._table = table
        self._tokens = tokens
        self._log = log
        self._health = health
        self._metrics = metrics
        self._in_progress: dict[str, int] = {}
        self._hosts: tuple[str, ...] = LOCAL_HOSTS
        self._runners: list[web.AppRunner] = []
        self.extra_routes: list[web.RouteDef] = []
        self.refused = 0

    async def start(self, host: str, port: int, probe_socket: Path) -> int:
        """Listen; returns the port (the one asked for, or the one found for 0)."""
        self._hosts = (*LOCAL_HOSTS, host)
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._guard])
        app.add_routes([web.post("/", self._call), *self.extra_routes])
        app.add_routes([web.get("/health", self._answer_health), web.get("/metrics", self._answer_metrics)])
        runner = await self._run(app)
        site = web.TCPSite(runner, host, port, backlog=256)
        await site.start()
        await self._start_probes(probe_socket)
        server = site._server  # noqa: SLF001 - aiohttp has no public way to learn the port found for 0
        sockets = getattr(server, "sockets", None) or ()
        return int(sockets[0].getsockname()[1]) if sockets else port

    async def _run(self, app: web.Application) -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def _start_probes(self, path: Path) -> None:
        app = web.Application()
        app.add_routes([web.get("/health", self._answer_health), web.get("/metrics", self._answer_metrics)])
        runner = await self._run(app)
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at start
        if len(str(path).encode()) < 104:  # noqa: PLR2004 - the kernel's limit on a UNIX socket's path is 108 bytes
            await web.UnixSite(runner, str(path)).start()

    async def stop(self) -> None:
        """Stop listening; calls in progress get a second to end."""
        for runner in self._runners:
            await runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        structlog.contextvars.clear_contextvars()
        try:
            check_host(request, self._hosts)
            caller = self._tokens.caller_of(request.headers.get("Authorization"))
            request[CALLER] = caller
            with _Place(self._in_progress, caller):
                return await handler(request)
        except DuxError as error:
            return self._refuse(error)
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(TooLarge(limit_bytes=BODY_BYTES_MAX))
        except web.HTTPException as error:
            return self._refuse(
                BadRequest(detail=f"{request.method} {request.path[:100]}: {error.reason}"), error.status
            )

    def _refuse(self, error: DuxError, status: int | None = None) -> web.Response:
        self.refused += 1
        self._log.info("request refused", reason=error.message, key=error.key)
        body = json_bytes(error_answer(error, None))
        return web.Response(body=body, status=status or error.http_status, content_type="application/json")

    async def _call(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            raise BadRequest(detail="send Content-Type: application/json")
        answer = await self._table.dispatch(
            await request.read(), caller=request[CALLER], deadline_s=_deadline_s(request)
        )
        return web.Response(body=answer, content_type="application/json")

    async def _answer_health(self, _request: web.Request) -> web.Response:
        status, content_type, text = await self._health()
        return web.Response(text=text, status=status, content_type=content_type)

    async def _answer_metrics(self, _request: web.Request) -> web.Response:
        status, content_type, text = await self._metrics()
        return web.Response(text=text, status=status, content_type=content_type)


class _Place:
    """A place among the calls in progress."""

    def __init__(self, in_progress: dict[str, int], caller: str) -> None:
        self._in_progress = in_progress
        self._caller = caller

    def __enter__(self) -> None:
        if sum(self._in_progress.values()) >= CALLS_AT_ONCE_MAX:
            raise TooBusy(limit=CALLS_AT_ONCE_MAX)
        if self._in_progress.get(self._caller, 0) >= CALLS_PER_CALLER_MAX:
            raise TooBusy(limit=CALLS_PER_CALLER_MAX)
        self._in_progress[self._caller] = self._in_progress.get(self._caller, 0) + 1

    def __exit__(self, *_: object) -> None:
        self._in_progress[self._caller] -= 1


def _deadline_s(request: web.Request) -> float:
    text = request.headers.get(DEADLINE_HEADER, str(DEADLINE_DEFAULT_MS))
    if not text.isascii() or not text.isdigit():
        raise BadRequest(detail=f"{DEADLINE_HEADER} is a whole number of milliseconds")
    return min(int(text), DEADLINE_MAX_MS) / 1000
