"""What every daemon answers, and what p2pd says inward to the daemon that owns a peer method or a topic."""

from __future__ import annotations

from typing import Any, Literal

from common.codec import Wire
from common.rpc.method import ANYONE, Empty, Method
from common.units import Did, UnixMs


class EventsSince(Wire, frozen=True):
    """Where a reader stands. `wait_s` ≤ 25: how long to wait when there is nothing new."""

    cursor: int = 0
    wait_s: float = 0.0
    limit: int = 100


class EventView(Wire, frozen=True):
    """One event: `body` has the fields that its kind has in the contract file."""

    cursor: int
    at_ms: UnixMs
    kind: str
    body: dict[str, Any]


class EventsPage(Wire, frozen=True):
    """Events in order, and the cursor to go on from."""

    events: list[EventView]
    cursor: int


EVENTS_EXAMPLE = (
    EventsSince(cursor=41, wait_s=20.0, limit=50),
    EventsPage(
        events=[EventView(cursor=42, at_ms=UnixMs(1_790_000_000_000), kind="Something", body={"id": "x"})], cursor=42
    ),
)


def events_method(domain: str, callers: tuple[str, ...]) -> Method[EventsSince, EventsPage]:
    """The `<domain>.events` method of a daemon that others follow."""
    return Method(
        name=f"{domain}.events",
        params=EventsSince,
        result=EventsPage,
        summary="What happened since a cursor, oldest first; waits for something new when asked to.",
        callers=callers,
        example=EVENTS_EXAMPLE,
    )


class DaemonInfo(Wire, frozen=True):
    """Which daemon this is and how it fares."""

    name: str
    version: str
    pid: int
    uptime_s: float
    healthy: bool
    problems: list[str]


class Discovery(Wire, frozen=True):
    """The OpenRPC document of what this daemon serves."""

    document: dict[str, Any]


INFO: Method[Empty, DaemonInfo] = Method(
    name="daemon.info",
    params=Empty,
    result=DaemonInfo,
    summary="Name, version, uptime and health of the daemon.",
    callers=ANYONE,
    example=(
        Empty(),
        DaemonInfo(name="escrowd", version="0.1.0", pid=4711, uptime_s=12.5, healthy=True, problems=[]),
    ),
)

DISCOVER: Method[Empty, Discovery] = Method(
    name="rpc.discover",
    params=Empty,
    result=Discovery,
    summary="Every method served here, as an OpenRPC document.",
    callers=ANYONE,
    example=(Empty(), Discovery(document={"openrpc": "1.2.6"})),
)


class PeerCallIn(Wire, frozen=True):
    """A call of another node, its sender proven by p2pd: `params` are canonical bytes."""

    method: str
    params: bytes
    sender: Did


class PeerAnswer(Wire, frozen=True):
    """The canonical bytes of the result."""

    result: bytes


class GossipIn(Wire, frozen=True):
    """A gossip message whose signature p2pd has verified."""

    topic: str
    payload: bytes
    sender: Did
    key_seq: int
    seq_ms: int


class Verdict(Wire, frozen=True):
    """accept: forward it; ignore: do not, and hold nothing against the sender; reject: do not, and score the sender."""

    verdict: Literal["accept", "ignore", "reject"]


class GossipBatch(Wire, frozen=True):
    """Messages that came together."""

    messages: list[GossipIn]


class Verdicts(Wire, frozen=True):
    """One word for each message of a batch, in its order."""

    verdicts: list[Literal["accept", "ignore", "reject"]]


PEER_HANDLE: Method[PeerCallIn, PeerAnswer] = Method(
    name="peer.handle",
    params=PeerCallIn,
    result=PeerAnswer,
    summary="p2pd relays a peer's call to the daemon that owns the peer method.",
    callers=("p2pd",),
    example=(
        PeerCallIn(method="escrow.offer", params=b"\x90", sender=Did("did:dux:example")),
        PeerAnswer(result=b"\x90"),
    ),
)

GOSSIP_HANDLE: Method[GossipIn, Verdict] = Method(
    name="gossip.handle",
    params=GossipIn,
    result=Verdict,
    summary="p2pd asks the owner of a topic whether a message may be forwarded, and hands it over.",
    callers=("p2pd",),
    example=(
        GossipIn(topic="service", payload=b"\x90", sender=Did("did:dux:example"), key_seq=0, seq_ms=1),
        Verdict(verdict="accept"),
    ),
)

GOSSIP_HANDLE_ALL: Method[GossipBatch, Verdicts] = Method(
    name="gossip.handle_all",
    params=GossipBatch,
    result=Verdicts,
    summary="The same for messages that came together; one that the owner cannot judge is ignored.",
    callers=("p2pd",),
    example=(
        GossipBatch(
            messages=[GossipIn(topic="service", payload=b"\x90", sender=Did("did:dux:example"), key_seq=0, seq_ms=1)]
        ),
        Verdicts(verdicts=["accept"]),
    ),
)
