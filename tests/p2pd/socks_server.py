"""A SOCKS5 proxy as a process of its own: what an upstream is to the egress. Not the project's code on either side.

It prints its port, then one JSON line per request: user, password, address type and target. Names are never looked up:
they lead to the port given for them on the command line (`name=port`), other names to an error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import sys


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: dict[str, int]) -> None:
    _, count = await reader.readexactly(2)
    assert 2 in await reader.readexactly(count), "no user name and password offered"
    writer.write(b"\x05\x02")
    _, length = await reader.readexactly(2)
    user = (await reader.readexactly(length)).decode()
    (length,) = await reader.readexactly(1)
    password = (await reader.readexactly(length)).decode()
    writer.write(b"\x01\x00")
    _, _, _, kind = await reader.readexactly(4)
    if kind == 3:
        (length,) = await reader.readexactly(1)
        host = (await reader.readexactly(length)).decode()
    else:
        host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
    port = int.from_bytes(await reader.readexactly(2), "big")
    tell(json.dumps({"user": user, "password": password, "kind": kind, "host": host, "port": port}))
    where = ("127.0.0.1", names[host]) if host in names else (host, port) if kind != 3 else None
    try:
        assert where is not None
        there_reader, there_writer = await asyncio.open_connection(*where)
    except (OSError, AssertionError):
        writer.write(b"\x05\x04\x00\x01" + bytes(6))
        writer.close()
        return
    writer.write(b"\x05\x00\x00\x01" + bytes(6))
    await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main() -> None:
    names = {name: int(port) for name, port in (word.split("=") for word in sys.argv[1:])}
    server = await asyncio.start_server(lambda r, w: serve(r, w, names), "127.0.0.1", 0)
    tell(str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


asyncio.run(main())
