"""What p2pds ask each other so that every node can be found and reached: dial-back, relays, known nodes, newcomers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.contracts.peer_p2p import Contact, DidText, LogBytes, NodeRecordBytes
from common.rpc.method import PeerMethod
from common.units import UnixMs

EXCHANGED_MAX = 16
HOPS_MAX = 2  # of an announcement: to a higher tier, from there to its own neighbours


class ReachAsk(Canon, frozen=True):
    """Dial this port at the address from which this call comes, and nowhere else."""

    port: Annotated[int, Meta(ge=1024, le=65_535)]


class ReachAnswer(Canon, frozen=True):
    """The address that the call came from, and whether the caller itself answered at the port, by its own key."""

    host: Annotated[str, Meta(max_length=64)]
    reached: bool


class RelayAsk(Canon, frozen=True):
    """Let others reach me through you."""


class RelayGrant(Canon, frozen=True):
    """Until when, unless the session with the relay ends before; ask again after half of that time."""

    until_ms: UnixMs


class NodesAsk(Canon, frozen=True):
    """Nodes that you have reached yourself lately."""

    count: Annotated[int, Meta(ge=1, le=EXCHANGED_MAX)]


class NodesAnswer(Canon, frozen=True):
    """Some of them, in no order."""

    contacts: Annotated[tuple[Contact, ...], Meta(max_length=EXCHANGED_MAX)]


class Newcomer(Canon, frozen=True):
    """A node's event log and its newest record; `hops` is how often it may still be passed on."""

    did: DidText
    log: LogBytes
    node_record: NodeRecordBytes
    hops: Annotated[int, Meta(ge=0, le=HOPS_MAX)]


class PunchHere(Canon, frozen=True):
    """Where the sender's UDP port seems to be from outside, and the id of its path endpoint."""

    endpoint: Annotated[str, Meta(max_length=64)]
    path_id: Annotated[bytes, Meta(min_length=32, max_length=32)]


class Noted(Canon, frozen=True):
    """Whether it was news."""

    new: bool


REACH_CHECK = PeerMethod(
    name="reach.check", repeated="anew",
    owner="p2pd", params=ReachAsk, result=ReachAnswer, callers=(), cost=16, params_bytes_max=16,
    summary="Dial the caller back at the address it calls from.",
)  # fmt: skip
RELAY_RESERVE = PeerMethod(
    name="relay.reserve", owner="p2pd", params=RelayAsk, result=RelayGrant, callers=(), cost=16, params_bytes_max=16,
    strangers=False, summary="Let others reach the caller through this node, for an hour.",
)  # fmt: skip
PEERS_EXCHANGE = PeerMethod(
    name="peers.exchange", repeated="read",
    owner="p2pd", params=NodesAsk, result=NodesAnswer, callers=(), cost=8, params_bytes_max=16,
    summary="Nodes that this node has reached itself lately.",
)  # fmt: skip
NODE_ANNOUNCE = PeerMethod(
    name="node.announce", owner="p2pd", params=Newcomer, result=Noted, callers=(), cost=8, params_bytes_max=65_536,
    summary="A node is new or reached elsewhere; higher tiers tell their neighbours.",
)  # fmt: skip

PUNCH_NOW = PeerMethod(
    name="punch.now", owner="p2pd", params=PunchHere, result=PunchHere, callers=(), cost=16, params_bytes_max=128,
    strangers=False, summary="Dial each other's outside address at the same time, for a path past both NATs.",
)  # fmt: skip
RELAY_CIRCUIT = "relay.circuit"  # a stream to a relay: header `to`; what follows is carried to that DID
RELAY_INCOMING = "relay.incoming"  # a stream from a relay: somebody's end-to-end TLS
RELAY_CIRCUIT_COST = 16
