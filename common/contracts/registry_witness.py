"""What registryd promises about what nodes have witnessed of each other: presence and latencies.

Signed sightings are served with every figure, so that who doubts it can count again. Source: mechanisms.md §2.4.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.rpc.method import Method, callers_of
from common.units import Did

SLOTS_SHOWN_MAX = 1_152  # eight days of ten minutes
NODES_DRAWN_MAX = 2_000  # in one picture
LINKS_MAX = 5_000

_DID = Did("did:dux:" + "a" * 52)
_OTHER = Did("did:dux:" + "b" * 52)


class PresenceAsked(Wire, frozen=True):
    """Whose presence, over how many slots back; with `evidence` the signed sightings held here or at the node."""

    node_id: str
    slots: Annotated[int, Meta(ge=1, le=SLOTS_SHOWN_MAX)] = 144
    evidence: bool = False


class SlotShown(Wire, frozen=True):
    """One slot as judged here: how many challengers' seats there were, and how many of them saw the node."""

    slot: int
    from_height: int
    drawn: int
    seen: int
    up: bool
    net: str  # the /24 or /48 that most of them saw it in; empty: they reached it through relays


class PresenceView(Wire, frozen=True):
    """What others saw of a node; nothing in it is what the node says of itself."""

    node_id: Did
    uptime: float | None  # part of the last seven days' slots that were up, 0 to 1; None: never judged
    days_known: int
    days_good: int  # of the last 60
    probing: float | None  # part of the looks owed, going by chance, that it made, 0 to 1; None: it owed none
    slots: tuple[SlotShown, ...]  # the newest first; a slot in which nobody saw it is not listed
    evidence: tuple[bytes, ...]  # `Attested` bytes of `Sighting`


class TopologyAsked(Wire, frozen=True):
    """Which nodes: all that are heard of, or one region's."""

    region: str = ""


class PlacedNode(Wire, frozen=True):
    """A node in the picture."""

    node_id: Did
    hostname: str
    region: str
    tier: int
    status: str
    uptime: float | None
    own: bool
    sanction: str  # `banned`, `suspended`, `relieved`, `frozen`; empty: nothing is kept from it
    verified: tuple[str, ...]  # parts of its machine that others measured


class LinkView(Wire, frozen=True):
    """How long answers of `target` take to reach `prober`, smoothed, as `prober` has signed."""

    prober: Did
    target: Did
    rtt_ms: int
    least_ms: int
    samples: int


class RegionLink(Wire, frozen=True):
    """The median latency between two regions (or within one), over so many links."""

    one: str
    other: str
    rtt_ms: int
    links: int


class Topology(Wire, frozen=True):
    """Nodes, latencies between them, regions, and to whom this node is connected now."""

    nodes: tuple[PlacedNode, ...]
    links: tuple[LinkView, ...]
    regions: tuple[RegionLink, ...]
    connected: tuple[Did, ...]


PRESENCE_SHOW = Method(
    name="presence.show",
    params=PresenceAsked,
    result=PresenceView,
    summary="What drawn challengers saw of a node, slot by slot, with their signatures if wanted.",
    callers=callers_of("registryd"),
    example=(
        PresenceAsked(node_id=_DID),
        PresenceView(
            node_id=_DID,
            uptime=0.98,
            days_known=12,
            days_good=12,
            probing=0.97,
            slots=(SlotShown(slot=82, from_height=820, drawn=7, seen=6, up=True, net="203.0.113.0/24"),),
            evidence=(),
        ),
    ),
)
TOPOLOGY_SHOW = Method(
    name="topology.show",
    params=TopologyAsked,
    result=Topology,
    summary="The network's nodes, the latencies that they measured between them, and its regions.",
    callers=callers_of("registryd"),
    example=(
        TopologyAsked(),
        Topology(
            nodes=(
                PlacedNode(
                    node_id=_DID,
                    hostname="my-node",
                    region="eu",
                    tier=1,
                    status="active",
                    uptime=0.98,
                    own=True,
                    sanction="",
                    verified=("cpu",),
                ),
            ),
            links=(LinkView(prober=_OTHER, target=_DID, rtt_ms=23, least_ms=19, samples=140),),
            regions=(RegionLink(one="eu", other="us", rtt_ms=92, links=12),),
            connected=(_OTHER,),
        ),
    ),
)
