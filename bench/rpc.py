"""A daemon's JSON-RPC beside litecoind's: one small question that needs no disk, over real HTTP with a login.

How it is fair: both are asked by this one process through the same HTTP library (aiohttp) over kept connections, in
turns; both answers are decoded. Ours goes through the typed client that daemons use, with token, deadline and contract
check; litecoind's through a bare client on the same kind of session, the fastest that this library allows. What remains
different: litecoind is C++ with threads of its own, ours is one Python process. With many calls at once the asking
process itself is part of both figures.
"""

from __future__ import annotations

from functools import partial

from bench.measure import Call, Contender, Run, in_turns, p50_us, per_second
from bench.peers.litecoind import MISSING, litecoind
from bench.rows import Finding, Goal
from bench.scene import running, scene_without_chain
from common.contracts.base import INFO
from common.rpc.method import Empty

ROUNDS = 7
CALLS = 300  # one after another, per round and side
AT_ONCE = 16  # litecoind's own default work queue has 16 places
SECONDS = 1.0  # of throughput, per round and side


async def measure(run: Run) -> list[Finding]:
    """Round trip and throughput."""
    calls, seconds = (50, 0.2) if run.quick else (CALLS, SECONDS)
    run.tell("one p2pd as a process" + ", and litecoind")
    buyer = scene_without_chain(run.folder).nodes["buyer"]
    async with running(buyer, ["p2pd"]) as node, litecoind(run.folder / "litecoind") as coin:
        client = node.client("p2pd")
        ours = partial(client.call, INFO, Empty())
        theirs = coin.height if coin else None
        await ours()  # connections are open before the clock runs

        def trip(call: Call | None) -> Contender | None:
            return partial(p50_us, call, calls) if call else None

        def flood(call: Call | None) -> Contender | None:
            return partial(per_second, call, at_once=AT_ONCE, seconds=seconds) if call else None

        our_trip, their_trip = await in_turns(run.rounds(ROUNDS), trip(ours), trip(theirs))
        our_flood, their_flood = await in_turns(run.rounds(ROUNDS), flood(ours), flood(theirs))
    peer = "litecoind getblockcount" if coin else MISSING
    return [
        Finding(
            name="rpc round trip p50", unit="us", ours=our_trip, goal=Goal("ratio", "<=", 1.5), peer=peer,
            theirs=their_trip, note="daemon.info of a p2pd process, one call after another over one connection",
        ),
        Finding(
            name="rpc throughput", unit="calls/s", ours=our_flood, goal=Goal("ratio", ">=", 0.5), peer=peer,
            theirs=their_flood, note=f"{AT_ONCE} calls under way; the caller's own work is part of both figures",
        ),
    ]  # fmt: skip
