"""The network beside others: small calls, many at once and bulk, memory, the DHT, gossip, and the way back.

How it is fair: each side is two processes on loopback, asked in turns. Ours: two p2pds over mutual TLS 1.3 with HELLO,
frames, credit, deadlines and the limits per stream; only the budget of calls per second and peer, which would be what
is measured, is opened. Theirs, with `--peers`: hivemind's Go p2pd over TLS, asked over its control socket by the
leanest client there can be, since that daemon is how it is used; py-libp2p and the `kademlia` package as they are
shipped.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.far_end import ECHO
from bench.measure import Call, Contender, Run, in_turns, p50_us, per_second
from bench.network_dht import measure_dht
from bench.network_gossip import measure_gossip
from bench.network_memory import measure_memory
from bench.network_return import measure_return
from bench.peer import BODY, DEADLINE_S, our_bulk, session_between
from bench.peers.commanded import Commanded, commanded
from bench.peers.fetched import Missing, cache_dir, python_with
from bench.peers.go_p2pd import GoPeer, go_pair
from bench.rows import Finding, Goal, Samples
from bench.scene import scene_without_chain
from dux_p2pd.wire_errors import PeerBusy

T = TypeVar("T")

ROUNDS = 5
CALLS, CALLS_QUICK = 500, 100
AT_ONCE = 64
SECONDS, SECONDS_QUICK = 1.0, 0.3
BULK_BYTES, BULK_BYTES_QUICK = 32 << 20, 2 << 20
GO, PY = "hivemind's Go p2pd", "py-libp2p"
NOT_ASKED = "not asked: --peers"
SCRIPTS = Path(__file__).parent / "peers"


async def measure(run: Run) -> list[Finding]:
    """Every row of the network's table."""
    found = await _calls(run)
    for part in (measure_memory, measure_dht, measure_gossip, measure_return):
        found += await part(run)
    return found


async def _calls(run: Run) -> list[Finding]:
    async with AsyncExitStack() as stack:
        run.tell("calls and bulk between two p2pds" + (", and beside others" if run.peers else ""))
        ours = await stack.enter_async_context(session_between(scene_without_chain(run.folder)))
        go, go_named = await _or_why(stack, run, GO, _go(run))
        py, py_named = await _or_why(stack, run, PY, _py(run))
        call = partial(ours.request, ECHO, BODY, deadline_s=DEADLINE_S)
        count, seconds = (CALLS_QUICK, SECONDS_QUICK) if run.quick else (CALLS, SECONDS)
        size, rounds = BULK_BYTES_QUICK if run.quick else BULK_BYTES, run.rounds(ROUNDS)
        trips = await in_turns(
            rounds,
            partial(p50_us, call, count),
            _trip(go, count),
            partial(py.figure, "p50", count // 5) if py else None,
        )
        floods = await in_turns(
            rounds,
            partial(per_second, partial(_patient, call), at_once=AT_ONCE, seconds=seconds),
            _flood(go, seconds),
            partial(py.figure, "flood", AT_ONCE, seconds) if py else None,
        )
        bulks = await in_turns(
            rounds,
            partial(our_bulk, ours, size),
            _bulk(go, size),
            partial(py.figure, "bulk", size // 4) if py else None,
        )
    return [
        *_rows("network call p50", "us", trips, Goal("ratio", "<=", 0.25), (go_named, py_named)),
        *_rows("network calls, 64 at once", "calls/s", floods, Goal("ratio", ">=", 4), (go_named, py_named)),
        *_rows("network bulk", "MB/s", bulks, Goal("ratio", ">=", 1), (go_named, py_named)),
    ]


def _rows(name: str, unit: str, samples: list[Samples | None], goal: Goal, named: tuple[str, str]) -> list[Finding]:
    """One row beside each peer; the goal is about the Go p2pd."""
    ours, go, py = samples
    first = Finding(name=name, unit=unit, ours=ours, goal=goal, peer=named[0], theirs=go)
    return [first, Finding(name=f"{name} (py-libp2p)", unit=unit, ours=ours, peer=named[1], theirs=py)]


Pair = tuple[GoPeer, bytes]


@asynccontextmanager
async def _go(run: Run) -> AsyncIterator[Pair]:
    folder = run.folder / "go"
    folder.mkdir()
    async with go_pair(cache_dir(), folder) as pair:
        yield pair


@asynccontextmanager
async def _py(run: Run) -> AsyncIterator[Commanded]:
    python, script, log = await python_with("libp2p", cache_dir()), SCRIPTS / "py_libp2p.py", run.folder / "py.log"
    async with commanded(PY, python, script, ["serve"], log) as far:
        address = await far.line()
        async with commanded(PY, python, script, ["call", address], log) as near:
            await near.line()
            yield near


async def _or_why(
    stack: AsyncExitStack, run: Run, name: str, peer: AbstractAsyncContextManager[T]
) -> tuple[T | None, str]:
    """The peer and its name, or why there is none."""
    if not run.peers:
        return None, f"{name} ({NOT_ASKED})"
    try:
        return await stack.enter_async_context(peer), name
    except Missing as error:
        run.tell(error.message)
        return None, error.message


async def _patient(call: Call) -> None:
    """Repeat what the far side had no room for: 64 is its limit, and one that has answered may not have ended yet."""
    while True:
        try:
            await call()
        except PeerBusy:
            continue
        return


def _trip(go: Pair | None, count: int) -> Contender | None:
    return None if go is None else partial(p50_us, partial(go[0].echo, go[1], BODY), count)


def _flood(go: Pair | None, seconds: float) -> Contender | None:
    return (
        None if go is None else partial(per_second, partial(go[0].echo, go[1], BODY), at_once=AT_ONCE, seconds=seconds)
    )


def _bulk(go: Pair | None, size: int) -> Contender | None:
    return None if go is None else partial(_their_bulk, go, size)


async def _their_bulk(go: Pair, size: int) -> float:
    """Megabytes per second on one stream."""
    began = time.perf_counter()
    await go[0].bulk(go[1], size)
    return size / (time.perf_counter() - began) / 1e6
