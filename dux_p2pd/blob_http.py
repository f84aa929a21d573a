"""`PUT /blob` and `GET /blob/<id>` for the node's own daemons: bytes stream, nothing is held in memory.

The server's guard has checked host and token before a handler runs. PUT answers the id as text, or an error as
JSON-RPC's errors look; GET answers the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from common.contracts.p2p_errors import BlobMissing
from dux_p2pd.blob_store import BlobStore

READ_BYTES = 262_144
IDLE_S = 30.0  # a caller that neither sends nor takes a byte for so long is cut off


class BlobDoor:
    """The two routes."""

    def __init__(self, store: BlobStore, *, keep_s: int) -> None:
        self._store = store
        self._keep_s = keep_s

    def routes(self) -> list[web.RouteDef]:
        """For the daemon's HTTP server."""
        return [web.put("/blob", self.put), web.get("/blob/{id}", self.get)]

    async def put(self, request: web.Request) -> web.Response:
        """Keep the request's body as a blob."""
        return web.Response(text=await self._store.put(_pieces(request), self._keep_s))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Stream a blob that is all here."""
        blob = request.match_info["id"]
        stat = self._store.stat(blob)
        if not stat.complete:
            raise BlobMissing(blob=blob, providers=0)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = stat.size_bytes
        await response.prepare(request)
        for chunk in self._store.read(blob):
            async with asyncio.timeout(IDLE_S):
                await response.write(chunk)
        await response.write_eof()
        return response


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(IDLE_S):
            piece = await request.content.read(READ_BYTES)
        if not piece:
            return
        yield piece
