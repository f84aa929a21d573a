"""Calls and bulk between two p2pds over their real transport, beside a bare TLS echo on asyncio's streams.

How it is fair: both servers are processes of their own, both clients live in this process, both use mutual TLS 1.3 of
the same OpenSSL over loopback, and they take turns. The echo knows no identities, deadlines, streams or credit; that
difference is what the ratio shows. Calls per second: ours has 32 streams under way on one session; the echo, which has
no streams, has 32 connections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from bench.far_end import BULK, ECHO, EchoP2pd
from bench.measure import Run, in_turns, p50_us, per_second
from bench.peers.tls_echo import SLICE_BYTES, EchoClient, echo_connections
from bench.rows import Finding, Goal
from bench.scene import Scene, running, scene_without_chain
from common.log import start_logging
from common.node_ports import OUTSIDE_OFFSET, outside_address
from common.settings import load_settings
from common.units import Did
from dux_cli.demo.network import NAMES
from dux_p2pd.session import Session

ROUNDS = 7
CALLS = 1000
AT_ONCE = 32
SECONDS = 1.0
BULK_BYTES = 64 << 20
BODY = b"a small call of a daemon, some sixty bytes, canonical msgpack"
DEADLINE_S = 20.0
PEER = "bare asyncio TLS echo"


async def measure(run: Run) -> list[Finding]:
    """Small calls one after another, many at once, and bulk."""
    calls, seconds, size = (200, 0.2, 4 << 20) if run.quick else (CALLS, SECONDS, BULK_BYTES)
    rounds = run.rounds(ROUNDS)
    run.tell("two p2pds in two processes, and a TLS echo in a third")
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(session_between(scene_without_chain(run.folder)))
        echoes = await stack.enter_async_context(echo_connections(AT_ONCE))
        ours = partial(session.request, ECHO, BODY, deadline_s=DEADLINE_S)
        theirs = partial(echoes[0].echo, BODY)
        trips = await in_turns(rounds, partial(p50_us, ours, calls), partial(p50_us, theirs, calls))
        floods = await in_turns(
            rounds,
            partial(per_second, ours, at_once=AT_ONCE, seconds=seconds),
            partial(_flood_echo, echoes, seconds),
        )
        bulks = await in_turns(rounds, partial(our_bulk, session, size), partial(_their_bulk, echoes[0], size))
    return [
        Finding(
            name="peer call p50", unit="us", ours=trips[0], goal=Goal("ratio", "<=", 4), peer=PEER, theirs=trips[1],
            note="one small call after another on one session",
        ),
        Finding(
            name="peer calls", unit="calls/s", ours=floods[0], peer=PEER, theirs=floods[1],
            note=f"{AT_ONCE} under way, p2pd's budget per peer opened (it is 2000/s); the caller's work is in both",
        ),
        Finding(name="peer bulk", unit="MB/s", ours=bulks[0], peer=PEER, theirs=bulks[1], note="one stream"),
    ]  # fmt: skip


@asynccontextmanager
async def session_between(stage: Scene) -> AsyncIterator[Session]:
    """A session between a p2pd in this process and one in another."""
    near, far = stage.nodes["buyer"], stage.nodes["seller"]
    far.run_instead("p2pd", "bench.far_end")
    near.folder.run.mkdir(exist_ok=True)
    settings = load_settings(near.folder.config, "p2pd", EchoP2pd.settings_type_of(), {})
    daemon = EchoP2pd(settings, stage.profile, log=start_logging("p2pd", "ERROR"))
    address = outside_address(NAMES.index("seller")), far.folder.port_base + OUTSIDE_OFFSET
    async with running(far, ["p2pd"]), daemon.running():
        yield await daemon.net.peers.session_to(Did(stage.dids["seller"]), address)


async def _flood_echo(echoes: list[EchoClient], seconds: float) -> float:
    """Calls per second over all connections, one under way on each."""
    return sum(
        await asyncio.gather(*(per_second(partial(echo.echo, BODY), at_once=1, seconds=seconds) for echo in echoes))
    )


async def our_bulk(session: Session, size: int) -> float:
    """Megabytes per second on one stream of the session."""
    began = time.perf_counter()
    stream = await session.open_stream(BULK, deadline_s=DEADLINE_S)
    await stream.write(size.to_bytes(8))
    await stream.close()
    left = size
    while left > 0:
        left -= len(await stream.read(SLICE_BYTES))
    return size / (time.perf_counter() - began) / 1e6


async def _their_bulk(echo: EchoClient, size: int) -> float:
    """Megabytes per second on one connection."""
    began = time.perf_counter()
    await echo.bulk(size)
    return size / (time.perf_counter() - began) / 1e6
