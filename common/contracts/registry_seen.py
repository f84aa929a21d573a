"""What this node's registry has witnessed of each node, in figures that a custodian puts its name to."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.rpc.method import Method
from common.units import Did


class SeenAsked(Wire, frozen=True):
    """At a height, over so many days of so many blocks before it."""

    height: Annotated[int, Meta(ge=0)]
    days: Annotated[int, Meta(ge=1, le=7)]
    day_blocks: Annotated[int, Meta(ge=1)]


class SeenNode(Wire, frozen=True):
    """One registered node. Heights are those of blocks; -1: never."""

    did: Did
    since_height: int  # the start of the day on which it was first witnessed
    up_bps: int  # of the slots of these days, as drawn challengers saw them
    up_last: bool  # up in the last finished slot, or in the one before
    standing_milli: int
    fault_height: int  # of its last proven fault, about
    net: str  # the /24 or /48 that others saw it in; `private`: one of those that are nobody's; empty: not known


class SeenNodes(Wire, frozen=True):
    """All registered nodes, in the order of DIDs."""

    nodes: tuple[SeenNode, ...]


EVIDENCE_SEEN = Method(
    name="evidence.seen",
    params=SeenAsked,
    result=SeenNodes,
    summary="What was witnessed of each node: presence, age, standing, faults, and the network it is in.",
    callers=("airdropd", "cli", "module"),
    deadline_max_s=60.0,
    example=(
        SeenAsked(height=20_000, days=7, day_blocks=1_440),
        SeenNodes(
            nodes=(
                SeenNode(
                    did=Did("did:dux:" + "a" * 52), since_height=1_440, up_bps=9_800, up_last=True,
                    standing_milli=2_300, fault_height=-1, net="192.0.2.0/24",
                ),
            )
        ),
    ),
)  # fmt: skip
