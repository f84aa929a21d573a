"""Calls and bulk between two p2pds over their real transport, beside a bare TLS echo on asyncio's streams.

How it is fair: both servers are processes of their own and so is each client, both use mutual TLS 1.3 of the same
OpenSSL over loopback, and they take turns. The p2pds have their own loop, the echo has asyncio's; the echo knows no
identities, deadlines, streams or credit; those differences are what the ratio shows. Calls per second: ours has 32
streams under way on one session; the echo, which has no streams, has 32 connections.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from bench.far_end import BODY
from bench.measure import Run, in_turns, p50_us, per_second
from bench.peers.commanded import Commanded, commanded
from bench.peers.tls_echo import EchoClient, echo_connections
from bench.rows import Finding, Goal
from bench.scene import Scene, running, scene_without_chain
from common.node_ports import OUTSIDE_OFFSET, outside_address
from dux_cli.demo.network import NAMES

ROUNDS = 7
CALLS = 1000
AT_ONCE = 32
SECONDS = 1.0
BULK_BYTES = 64 << 20
PEER = "bare asyncio TLS echo"


async def measure(run: Run) -> list[Finding]:
    """Small calls one after another, many at once, and bulk."""
    calls, seconds, size = (200, 0.2, 4 << 20) if run.quick else (CALLS, SECONDS, BULK_BYTES)
    rounds = run.rounds(ROUNDS)
    run.tell("two p2pds in two processes, and a TLS echo in a third")
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(asked_p2pd(scene_without_chain(run.folder), run.folder / "near.log"))
        echoes = await stack.enter_async_context(echo_connections(AT_ONCE))
        theirs = partial(echoes[0].echo, BODY)
        trips = await in_turns(rounds, partial(ours.figure, "p50", calls), partial(p50_us, theirs, calls))
        floods = await in_turns(
            rounds, partial(ours.figure, "flood", AT_ONCE, seconds), partial(_flood_echo, echoes, seconds)
        )
        bulks = await in_turns(rounds, partial(ours.figure, "bulk", size), partial(_their_bulk, echoes[0], size))
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
async def asked_p2pd(stage: Scene, log: Path) -> AsyncIterator[Commanded]:
    """A p2pd with a session to another one, each in a process of its own; the first takes orders."""
    near, far = stage.nodes["buyer"], stage.nodes["seller"]
    far.run_instead("p2pd", "bench.far_end")
    near.folder.run.mkdir(exist_ok=True)
    host, port = outside_address(NAMES.index("seller")), far.folder.port_base + OUTSIDE_OFFSET
    words = "-P", "-m", "bench.near_end", near.folder.config, stage.dids["seller"], host, str(port)
    async with running(far, ["p2pd"]), commanded("p2pd", (sys.executable, *words), log) as asked:
        await asked.line()
        yield asked


async def _flood_echo(echoes: list[EchoClient], seconds: float) -> float:
    """Calls per second over all connections, one under way on each."""
    return sum(
        await asyncio.gather(*(per_second(partial(echo.echo, BODY), at_once=1, seconds=seconds) for echo in echoes))
    )


async def _their_bulk(echo: EchoClient, size: int) -> float:
    """Megabytes per second on one connection."""
    began = time.perf_counter()
    await echo.bulk(size)
    return size / (time.perf_counter() - began) / 1e6
