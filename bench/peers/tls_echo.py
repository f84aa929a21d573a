"""A bare TLS echo on asyncio's own streams: what a small call over TLS costs when there is nothing but framing.

Mutual TLS 1.3 with the same kind of certificates as between nodes. A message is its length (u32) and its bytes, and
comes back as it was; an empty one is followed by a length, of which so many bytes come back.
`python -m bench.peers.tls_echo` prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.randomness import SystemRandomness
from dux_cli.supervisor import child_environment
from dux_p2pd.tls_contexts import TlsContexts
from dux_p2pd.tls_keys import contexts_of_seed

ALPN = "bench/1"
SLICE_BYTES = 64 * 1024
HEAD_BYTES = 4


def contexts() -> TlsContexts:
    """Contexts with a fresh key."""
    return contexts_of_seed(SystemRandomness().bytes(32), ALPN)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo until the other side leaves."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            body = await read_message(reader)
            if body:
                writer.write(len(body).to_bytes(HEAD_BYTES) + body)
            else:
                await send_bulk(writer, int.from_bytes(await reader.readexactly(HEAD_BYTES)))
            await writer.drain()
    writer.close()


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """The next message."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(HEAD_BYTES)))


async def send_bulk(writer: asyncio.StreamWriter, size: int) -> None:
    """So many bytes, never more in memory than the writer's buffer takes."""
    slice_bytes = bytes(SLICE_BYTES)
    for sent in range(0, size, SLICE_BYTES):
        writer.write(slice_bytes[: size - sent])
        await writer.drain()


class EchoClient:
    """One connection; calls on it wait for one another, as on any stream without multiplexing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def echo(self, body: bytes) -> bytes:
        """The same bytes."""
        self._writer.write(len(body).to_bytes(HEAD_BYTES) + body)
        return await read_message(self._reader)

    async def bulk(self, size: int) -> None:
        """Receive so many bytes."""
        self._writer.write(bytes(HEAD_BYTES) + size.to_bytes(HEAD_BYTES))
        while size > 0:
            size -= len(await self._reader.read(min(size, SLICE_BYTES)))


@asynccontextmanager
async def echo_connections(count: int) -> AsyncIterator[list[EchoClient]]:
    """So many connections to an echo process of its own, which ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env=child_environment(), process_group=0,
    )  # fmt: skip
    try:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("started with pipes")
        port, mine = int(await process.stdout.readline()), contexts().client
        ends = [await asyncio.open_connection("127.0.0.1", port, ssl=mine) for _ in range(count)]
        yield [EchoClient(reader, writer) for reader, writer in ends]
        for _, writer in ends:
            writer.close()
    finally:
        process.kill()
        await process.wait()


async def serve() -> None:
    """The process: tell the port, serve, end with whoever started it."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=contexts().server)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
