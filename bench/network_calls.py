"""Small calls, many at once, and bulk between two nodes: ours, hivemind's Go p2pd, py-libp2p.

How it is fair: on each side one process asks and times, over loopback and TLS 1.3 to another host's process; ours and
Go's askers run on the same loop, and all take turns. What differs is how a program uses the thing. Ours *is* the
daemon: a p2pd's own calls (DHT, gossip, heartbeats) begin in its process, so a call crosses two processes; HELLO,
frames, credit, deadlines and the limits per stream are all there, and only the budget of calls per second and peer,
which would be what is measured, is opened. The call is answered at once, as p2pd answers what it is asked most
(look-ups, gets and stores of the DHT), and in rows of their own by a handler in a task, as it answers what may have to
wait; both stand beside the same figures of Go's. Go's daemon is made to be used over its control socket, so a call
crosses four: asker, daemon, daemon, answerer; its asker is the leanest there can be. py-libp2p is a library, as it is
shipped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from bench.measure import Contender, Run, in_turns
from bench.peer import asked_p2pd
from bench.peers.commanded import Commanded, commanded
from bench.peers.fetched import Missing, cache_dir, python_with
from bench.peers.go_p2pd import asked_go
from bench.rows import Finding, Goal, Samples
from bench.scene import scene_without_chain

ROUNDS = 5
CALLS, CALLS_QUICK = 1000, 100
AT_ONCE = 64
SECONDS, SECONDS_QUICK = 1.0, 0.3
BULK_BYTES, BULK_BYTES_QUICK = 32 << 20, 2 << 20
SLOWER = 5  # py-libp2p is asked for so much less
GO, PY = "hivemind's Go p2pd", "py-libp2p"
NOT_ASKED = "not asked: --peers"
IN_TASK = ", handler in a task"
SCRIPTS = Path(__file__).parent / "peers"
NOTE = "between two daemons; the Go daemon is asked over its control socket, as it is made to be used"


async def measure_calls(run: Run) -> list[Finding]:
    """The rows about one session."""
    async with AsyncExitStack() as stack:
        run.tell("calls and bulk between two p2pds" + (", and beside others" if run.peers else ""))
        stage = scene_without_chain(run.folder)
        ours = await stack.enter_async_context(asked_p2pd(stage, run.folder / "near.log"))
        go, go_named = await _or_why(stack, run, GO, asked_go(cache_dir(), run.folder / "go"))
        py, py_named = await _or_why(stack, run, PY, _py(run))
        count, seconds = (CALLS_QUICK, SECONDS_QUICK) if run.quick else (CALLS, SECONDS)
        size, rounds = BULK_BYTES_QUICK if run.quick else BULK_BYTES, run.rounds(ROUNDS)
        askers = ours, go, py
        *trips, trips_in_task = await in_turns(
            rounds,
            *_asked(askers, "p50", count, count, count // SLOWER),
            partial(ours.figure, "in-task p50", count),
        )
        *floods, floods_in_task = await in_turns(
            rounds,
            *_asked(askers, f"flood {AT_ONCE}", seconds, seconds, seconds),
            partial(ours.figure, f"in-task flood {AT_ONCE}", seconds),
        )
        bulks = await in_turns(rounds, *_asked(askers, "bulk", size, size, size // SLOWER))
    quick, many = Goal("ratio", "<=", 0.25), Goal("ratio", ">=", 4)
    return [
        *_rows("network call p50", "us", trips, quick, (go_named, py_named)),
        _row(f"network call p50{IN_TASK}", "us", trips_in_task, quick, go_named, trips[1]),
        *_rows("network calls, 64 at once", "calls/s", floods, many, (go_named, py_named)),
        _row(f"network calls, 64 at once{IN_TASK}", "calls/s", floods_in_task, many, go_named, floods[1]),
        *_rows("network bulk", "MB/s", bulks, Goal("ratio", ">=", 1), (go_named, py_named)),
    ]


def _asked(askers: tuple[Commanded | None, ...], what: str, *amounts: float) -> list[Contender | None]:
    return [
        partial(asker.figure, what, amount) if asker else None for asker, amount in zip(askers, amounts, strict=True)
    ]


def _rows(name: str, unit: str, samples: list[Samples | None], goal: Goal, named: tuple[str, str]) -> list[Finding]:
    """One row beside each peer; the goal is about the Go p2pd."""
    ours, go, py = samples
    first = _row(name, unit, ours, goal, named[0], go)
    return [first, Finding(name=f"{name} (py-libp2p)", unit=unit, ours=ours, peer=named[1], theirs=py)]


def _row(name: str, unit: str, ours: Samples | None, goal: Goal, named: str, theirs: Samples | None) -> Finding:
    return Finding(name=name, unit=unit, ours=ours, goal=goal, peer=named, theirs=theirs, note=NOTE)


@asynccontextmanager
async def _py(run: Run) -> AsyncIterator[Commanded]:
    python, script, log = await python_with("libp2p", cache_dir()), SCRIPTS / "py_libp2p.py", run.folder / "py.log"
    async with commanded(PY, (python, script, "serve"), log) as far:
        address = await far.line()
        async with commanded(PY, (python, script, "call", address), log) as near:
            await near.line()
            yield near


async def _or_why(
    stack: AsyncExitStack, run: Run, name: str, peer: AbstractAsyncContextManager[Commanded]
) -> tuple[Commanded | None, str]:
    """The peer and its name, or why there is none."""
    if not run.peers:
        return None, f"{name} ({NOT_ASKED})"
    try:
        return await stack.enter_async_context(peer), name
    except Missing as error:
        run.tell(error.message)
        return None, error.message
