"""p2p.reach: whom of several nodes to turn to first, declared apart from the rest of p2pd's methods for its length."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.rpc.method import DAEMONS, Method
from common.units import Did

REACH_DIDS_MAX = 256  # as many as one lookup gives records
REACH_WANTED_MAX = 64
REACH_S_MAX = 10.0

_DIDS = [Did("did:dux:" + letter * 52) for letter in "ab"]


class Reach(Wire, frozen=True):
    """Nodes of which `wanted` are to answer, best before the limit."""

    dids: Annotated[list[Did], Meta(max_length=REACH_DIDS_MAX)]
    wanted: Annotated[int, Meta(ge=1, le=REACH_WANTED_MAX)] = 1
    limit_ms: Annotated[int, Meta(ge=1, le=int(REACH_S_MAX * 1000))] = 5000


class Reached(Wire, frozen=True):
    """Those that answered, in the order in which they did; fewer than wanted when the others did not in time."""

    dids: list[Did]


P2P_REACH = Method(
    name="p2p.reach",
    params=Reach,
    result=Reached,
    summary="Ask several nodes, one shortly after the other, which of them are there now.",
    callers=tuple(daemon for daemon in DAEMONS if daemon != "p2pd"),
    example=(Reach(dids=_DIDS, wanted=1), Reached(dids=_DIDS[1:])),
    deadline_max_s=REACH_S_MAX + 2,
)
