"""JSON-RPC over HTTP on the loopback interface, as a coin node serves it.

Promises: every request wants the login of the auth file; a refusal is an answer, never a dropped connection; bodies,
batches and waits have limits. Error answers carry HTTP 500 (404 for an unknown method), as Core's do.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from common.chain.wire import shown
from common.randomness import Randomness
from dux_sim.chain.args import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISC_ERROR,
    PARSE_ERROR,
    Args,
    RpcError,
)
from dux_sim.chain.journal import JournalRefused
from dux_sim.chain.node import Node
from dux_sim.chain.rpc import RpcTable

BODY_BYTES_MAX = 4_000_000  # a block in hexadecimal
BATCH_MAX = 100
WAITERS_MAX = 200
WAIT_MAX_S = 600.0
AUTH_BYTES_MAX = 1000

_encode = msgspec.json.Encoder(decimal_format="number").encode


def auth_line(path: Path, randomness: Randomness) -> str:
    """`user:password` from the file; a missing file is made with a new password, readable by its owner alone.

    Raises:
        ValueError: the file holds something else.
    """
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(f"duxnet:{randomness.bytes(24).hex()}\n")
    with path.open() as file:
        line = file.read(AUTH_BYTES_MAX).strip()
    if ":" not in line or "\n" in line:
        raise ValueError(f"{path} must hold one line user:password")
    return line


class RpcServer:
    """Serves one node's RPC table."""

    def __init__(self, node: Node, auth: str) -> None:
        """Serve this node to those who know `user:password`."""
        self._node = node
        self._table = RpcTable(node)
        self._login = "Basic " + base64.b64encode(auth.encode()).decode()
        self._moved = asyncio.Event()
        self._waiters = 0
        self.stopping = asyncio.Event()
        node.listen(self._wake)

    def app(self) -> web.Application:
        """The HTTP application."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/", self._post)
        return app

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _post(self, request: web.Request) -> web.Response:
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), self._login.encode()):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="jsonrpc"'})
        try:
            body = msgspec.json.decode(await request.read())
        except (msgspec.DecodeError, RecursionError) as error:
            return _answer({"result": None, "error": _error(PARSE_ERROR, f"Parse error: {error}"), "id": None}, 500)
        if not isinstance(body, list):
            return _answer(*await self._single(body))
        if not 0 < len(body) <= BATCH_MAX:
            refusal = _error(INVALID_REQUEST, f"a batch holds 1 to {BATCH_MAX} calls")
            return _answer({"result": None, "error": refusal, "id": None}, 500)
        return _answer([(await self._single(item))[0] for item in body], 200)

    async def _single(self, body: object) -> tuple[dict[str, Any], int]:
        """The answer to one call and its HTTP status."""
        if not isinstance(body, dict):
            return {"result": None, "error": _error(INVALID_REQUEST, "Invalid Request object"), "id": None}, 500
        try:
            result = await self._call(body.get("method"), body.get("params"))
        except RpcError as error:
            status = 404 if error.code == METHOD_NOT_FOUND else 500
            return {"result": None, "error": _error(error.code, error.message), "id": body.get("id")}, status
        except JournalRefused as error:
            self.stopping.set()
            return {"result": None, "error": _error(INTERNAL_ERROR, str(error)), "id": body.get("id")}, 500
        return {"result": result, "error": None, "id": body.get("id")}, 200

    async def _call(self, method: object, params: object) -> object:
        if method == "waitfornewblock":
            args = Args(("timeout",), params)
            start = self._node.chain.tip
            return await self._wait(args.whole(0, 0), lambda: self._node.chain.tip is not start)
        if method == "waitforblockheight":
            args = Args(("height", "timeout"), params)
            wanted = args.whole(0)
            return await self._wait(args.whole(1, 0), lambda: self._node.chain.tip.height >= wanted)
        if method == "stop":
            self.stopping.set()
            return "DuxNet chain stopping"
        return self._table.call(method, params)

    async def _wait(self, timeout_ms: int, reached: Callable[[], bool]) -> dict[str, Any]:
        """The tip as soon as `reached()`, or as it is when the time is over (0 ms: the longest wait there is)."""
        if self._waiters >= WAITERS_MAX:
            raise RpcError(MISC_ERROR, f"{WAITERS_MAX} calls wait already; poll getbestblockhash instead")
        self._waiters += 1
        try:
            async with asyncio.timeout(min(timeout_ms / 1000 or WAIT_MAX_S, WAIT_MAX_S)):
                while not reached() and not self.stopping.is_set():
                    await self._moved.wait()
        except TimeoutError:
            pass  # the answer is the present tip, as Core does
        finally:
            self._waiters -= 1
        tip = self._node.chain.tip
        return {"hash": shown(tip.hash), "height": tip.height}

    def stop(self) -> None:
        """Let all waiting calls answer."""
        self.stopping.set()
        self._wake()


def _error(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}


def _answer(body: object, status: int) -> web.Response:
    return web.Response(body=_encode(body) + b"\n", status=status, content_type="application/json")
