"""What stands against a name, and what it weighs in a draw: asked of this node's own p2pd and registryd.

Promise: a name whose identity is disputed, frozen or closed, or that is banned or suspended, is told with the reason;
one of which nothing can be learnt now is neither better nor worse than an unknown one. Decides nothing by itself.

Source: escrow_protocol.md §5.3 (weights); mechanisms.md §1.1.
"""

from __future__ import annotations

import asyncio

from common.contracts.registry import REPUTATION_GET, NodeName
from common.errors import DuxError
from common.units import Did
from dux_escrowd.desk import Desk
from dux_escrowd.draw import weights_problem

DEADLINE_S = 5.0
KEPT_OUT = ("banned", "suspended", "relieved")


async def faults_of(desk: Desk, dids: tuple[Did, ...]) -> dict[Did, str]:
    """Those of the names that no new business is done with, and why."""
    told = await asyncio.gather(*(_fault(desk, did) for did in dids))
    return {did: why for did, why in zip(dids, told, strict=True) if why}


async def weights_of(desk: Desk, dids: tuple[Did, ...]) -> tuple[int, ...]:
    """What each weighs by bonds and trade, in florins; 0 for one of which nothing is known."""
    return tuple(await asyncio.gather(*(_weight(desk, did) for did in dids)))


async def weights_fault(desk: Desk, dids: tuple[Did, ...], told: tuple[int, ...], seats: int) -> str | None:
    """Why a draw among these by these weights is not one, by this node's own registry, or None."""
    return weights_problem(told, await weights_of(desk, dids)) if len(dids) > seats else None


async def _fault(desk: Desk, did: Did) -> str:
    try:
        fault = await desk.peers.fault_of(did)
    except DuxError as error:
        desk.log.info("an arbiter's name cannot be looked up now", did=did, reason=error.message)
        fault = ""
    return fault or await _sanction(desk, did)


async def _sanction(desk: Desk, did: Did) -> str:
    try:
        found = await desk.registryd.call(REPUTATION_GET, NodeName(node_id=did), deadline_s=DEADLINE_S)
    except DuxError:
        return ""
    return next((f"{did} is {one.state}: {one.reason}" for one in found.sanctions if one.state in KEPT_OUT), "")


async def _weight(desk: Desk, did: Did) -> int:
    try:
        found = await desk.registryd.call(REPUTATION_GET, NodeName(node_id=did), deadline_s=DEADLINE_S)
    except DuxError:
        return 0
    return int(found.weight_florins)
