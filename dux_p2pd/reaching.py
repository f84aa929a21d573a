"""Who of several nodes answers now: asked with a short stagger, those first that are likeliest to be there.

Promise: a node that is gone costs a quarter of a second and not a whole time-out, because the next one is asked while
it is waited for; whoever is connected is asked first, whoever was silent or not to be reached a moment ago last; at
most AT_ONCE are asked at a time, and all of it ends in time. What it finds is worth no more than the moment: a daemon
that wants one of several nodes (a worker for a job) asks here whom to turn to first.

Source: network.md §4; the stagger is that of RFC 8305.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from common.contracts.peer_p2p import DHT_FIND, FindNode
from common.errors import DuxError
from common.identity.did import node_id_of
from common.units import Did
from dux_p2pd.peers import PeerBook

STAGGER_S = 0.25
AT_ONCE = 32  # the stagger makes that eight seconds: behind a cut most are gone, and must not stand before the others


async def reach(peers: PeerBook, dids: Iterable[Did], *, wanted: int, limit_s: float) -> list[Did]:
    """Those of these nodes that answered, in the order in which they did; no more are asked once `wanted` have."""
    waiting = sorted(dict.fromkeys(dids), key=lambda did: _rank(peers, did))
    asked: dict[asyncio.Task[bool], Did] = {}
    found: list[Did] = []
    ends_s = asyncio.get_running_loop().time() + limit_s
    async with asyncio.TaskGroup() as group:
        while (waiting or asked) and len(found) < wanted:
            if waiting and len(asked) < AT_ONCE:
                did = waiting.pop(0)
                asked[group.create_task(_answers(peers, did))] = did
            left_s = ends_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            pause_s = STAGGER_S if waiting and len(asked) < AT_ONCE else left_s
            done, _ = await asyncio.wait(asked, timeout=min(pause_s, left_s), return_when=asyncio.FIRST_COMPLETED)
            found += [asked[task] for task in asked if task in done and task.result()]
            asked = {task: did for task, did in asked.items() if task not in done}
        for task in asked:
            task.cancel()
    return found[:wanted]


def _rank(peers: PeerBook, did: Did) -> int:
    """Connected ones first, those that did not answer a moment ago last."""
    if peers.patience.is_silent(did) or peers.is_resting(did):
        return 2
    return 0 if peers.is_connected(did) else 1


async def _answers(peers: PeerBook, did: Did) -> bool:
    """Whether the node answers a small question now."""
    try:
        await peers.call(did, DHT_FIND, FindNode(key=node_id_of(did)))
    except DuxError:
        return False
    return True
