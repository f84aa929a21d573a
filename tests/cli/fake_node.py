"""A node whose seven daemons answer every method of their contracts with the contract's own example.

Real HTTP, real tokens, real decoding of parameters; only the answers are canned. `seen` holds what was asked.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from aiohttp import web

from common.clock import SystemClock
from common.node_ports import rpc_port
from common.randomness import SystemRandomness
from common.rpc.method import DAEMONS, Method
from common.rpc.server import RpcServer, Tokens
from common.rpc.table import Ctx, MethodTable
from common.store import Store
from dux_cli.node_dir import NodeDir, methods_of

SILENT = structlog.wrap_logger(structlog.ReturnLogger(), wrapper_class=structlog.make_filtering_bound_logger(50))


class FakeNode:
    """What was asked, and answers that a test wants instead of the examples."""

    def __init__(self, folder: NodeDir) -> None:
        self.folder = folder
        self.seen: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.blobs: dict[str, bytes] = {}

    def handler(self, method: Method[Any, Any]) -> Any:
        async def answer(params: Any, _ctx: Ctx) -> Any:
            self.seen.append((method.name, params))
            found = self.answers.get(method.name, method.example[1])
            if isinstance(found, Exception):
                raise found
            return found(params) if callable(found) else found

        return answer

    def asked(self, name: str) -> Any:
        return next(params for seen, params in reversed(self.seen) if seen == name)

    async def put(self, request: web.Request) -> web.Response:
        name = f"{len(self.blobs):064x}"
        self.blobs[name] = await request.read()
        return web.Response(text=name)

    async def get(self, request: web.Request) -> web.Response:
        return web.Response(body=self.blobs[request.match_info["id"]])

    async def serve(self, daemon: str) -> RpcServer:
        table = MethodTable(log=SILENT, clock=SystemClock(), randomness=SystemRandomness())
        table.store = Store.open(None, [], SystemClock())
        for method in methods_of(daemon).values():
            table.serve(method, self.handler(method))
        tokens = Tokens(self.folder.run / daemon, ["cli"], SystemRandomness())

        async def well() -> tuple[int, str, str]:
            return 200, "text/plain", "ok\n"

        server = RpcServer(table, tokens, health=well, metrics=well, log=SILENT)
        if daemon == "p2pd":
            server.extra_routes = [web.put("/blob", self.put), web.get("/blob/{id}", self.get)]
        port = rpc_port(daemon, self.folder.port_base)
        await server.start("127.0.0.1", port, self.folder.run / daemon / "probe.sock")
        return server


@contextmanager
def running(folder: NodeDir) -> Iterator[FakeNode]:
    """The fake node on a loop of its own, so that commands can run theirs."""
    folder.run.mkdir(exist_ok=True)
    node, loop = FakeNode(folder), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        servers = [asyncio.run_coroutine_threadsafe(node.serve(daemon), loop).result(10) for daemon in DAEMONS]
        yield node
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
