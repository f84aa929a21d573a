"""Ends connections that send their request too slowly, or nothing: a server of aiohttp's has no such limit of its own.

Promises: a connection that has had no request in a handler for HEAD_S seconds is cut, so that a few slow senders cannot
hold all places; a request in a handler is never cut here (bodies have their own deadline, handlers their own).
Source: channel_protocol.md §10 attack 16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

HEAD_S = 10.0
LOOK_EVERY_S = 1.0
CONNECTIONS_MAX = 512
AT_WORK_MAX = 256

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Reaper:
    """The middleware tells it which connections are at work; `run` cuts the others when their time is over."""

    def __init__(self, *, head_s: float = HEAD_S, look_every_s: float = LOOK_EVERY_S) -> None:
        self._head_s = head_s
        self._look_every_s = look_every_s
        self._at_work: set[object] = set()
        self._quiet_since: dict[object, float] = {}
        self.cut = 0

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A request has come whole as far as its head."""
        if len(self._at_work) >= AT_WORK_MAX:
            return web.Response(status=503, headers={"Retry-After": "1"}, text="too many requests at once")
        connection = request.protocol
        self._at_work.add(connection)
        self._quiet_since.pop(connection, None)
        try:
            return await handler(request)
        finally:
            self._at_work.discard(connection)

    async def run(self, runner: web.AppRunner) -> None:
        """Look at the connections for as long as the server lives."""
        loop = asyncio.get_running_loop()
        while runner.server is not None:
            self.look(runner.server, loop.time())
            await asyncio.sleep(self._look_every_s)

    def look(self, server: web.Server, now: float) -> None:
        """Cut those that have been quiet too long, and the longest quiet when there are too many."""
        quiet = [one for one in server.connections if one not in self._at_work]
        self._quiet_since = {one: self._quiet_since.get(one, now) for one in quiet}
        oldest_first = sorted(quiet, key=lambda one: self._quiet_since[one])
        surplus = max(0, len(server.connections) - CONNECTIONS_MAX)
        for at, one in enumerate(oldest_first):
            if at < surplus or now - self._quiet_since[one] >= self._head_s:
                one.force_close()
                if one.transport is not None:
                    one.transport.abort()
                self.cut += 1
