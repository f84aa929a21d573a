"""A port of this machine's loopback that leads to a port on a container's loopback, through `docker exec`.

A node's RPC never listens off its container's loopback; who may `docker exec` may reach it this way, and nobody else.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.containers.engine import Engine

PIPE = """
import os, socket, sys, threading
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def up():
    while data := os.read(0, 65536):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := s.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
"""


class Forward:
    """Listens on a port; each connection is a `docker exec` of its own."""

    def __init__(self, engine: Engine, container: str, inside: int) -> None:
        self._engine, self._container, self._inside = engine, container, inside
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._through(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = ["docker", "exec", "-i", self._container, "python3", "-SEc", PIPE, str(self._inside)]
        there = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._engine.environment,
        )
        assert there.stdin
        assert there.stdout
        try:
            up = asyncio.ensure_future(copy(reader, there.stdin))
            await copy(there.stdout, writer)
            up.cancel()
        finally:
            with suppress(ProcessLookupError):
                there.kill()
            await there.wait()
            writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one end is gone."""
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
