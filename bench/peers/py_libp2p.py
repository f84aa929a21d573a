"""py-libp2p as it is shipped: calls and bulk between two hosts, in an environment of its own.

This file is run by that environment's Python, so it imports nothing of the project. `serve` prints its address and
serves; `call ADDRESS` reads a figure that is wanted per line (`p50 COUNT`, `flood AT_ONCE SECONDS`, `bulk BYTES`) and
prints it. A call is a stream of its own, as the library's own request helper does it.
"""

import secrets
import sys
import time
from statistics import median

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr

ECHO, BULK = TProtocol("/bench/echo/1"), TProtocol("/bench/bulk/1")
BODY = b"a small call of a daemon, some sixty bytes, canonical msgpack"
SLICE_BYTES = 32 * 1024


def host():
    """A host with its defaults."""
    return new_host(key_pair=create_new_key_pair(secrets.token_bytes(32)))


async def echo(stream):
    """One message back."""
    await stream.write(await stream.read(len(BODY)))
    await stream.close()


async def bulk(stream):
    """As many bytes as the first eight say."""
    size = int.from_bytes(await stream.read(8), "big")
    piece = bytes(SLICE_BYTES)
    for sent in range(0, size, SLICE_BYTES):
        await stream.write(piece[: size - sent])
    await stream.close()


async def serve():
    """The far side."""
    far = host()
    async with far.run(listen_addrs=[multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        far.set_stream_handler(ECHO, echo)
        far.set_stream_handler(BULK, bulk)
        address = str(far.get_addrs()[0])
        print(address if "/p2p/" in address else f"{address}/p2p/{far.get_id()}", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


async def call(near, peer):
    """One small call."""
    stream = await near.new_stream(peer, [ECHO])
    await stream.write(BODY)
    if await stream.read(len(BODY)) != BODY:
        raise ValueError("no echo")
    await stream.close()


async def p50(near, peer, count):
    """Microseconds."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await call(near, peer)
        taken.append(time.perf_counter() - began)
    return median(taken) * 1e6


async def flood(near, peer, at_once, seconds):
    """Calls per second."""
    done, began = 0, time.perf_counter()

    async def work():
        nonlocal done
        while time.perf_counter() - began < seconds:
            await call(near, peer)
            done += 1

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(work)
    return done / (time.perf_counter() - began)


async def receive(near, peer, size):
    """Megabytes per second."""
    began = time.perf_counter()
    stream = await near.new_stream(peer, [BULK])
    await stream.write(size.to_bytes(8, "big"))
    left = size
    while left > 0:
        left -= len(await stream.read(min(left, SLICE_BYTES)))
    return size / (time.perf_counter() - began) / 1e6


async def client(address):
    """The near side: a figure per line."""
    near = host()
    async with near.run(listen_addrs=[]):
        info = info_from_p2p_addr(multiaddr.Multiaddr(address))
        await near.connect(info)
        print("ready", flush=True)
        while line := (await trio.to_thread.run_sync(sys.stdin.readline)).split():
            what, values = line[0], line[1:]
            if what == "p50":
                found = await p50(near, info.peer_id, int(values[0]))
            elif what == "flood":
                found = await flood(near, info.peer_id, int(values[0]), float(values[1]))
            else:
                found = await receive(near, info.peer_id, int(values[0]))
            print(found, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        trio.run(serve)
    else:
        trio.run(client, sys.argv[2])
