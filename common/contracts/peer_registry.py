"""What registryds tell each other: nodes, heartbeats and receipts by gossip, and what was missed by asking.

All of it is signed by who it is about or by a party of it; the node that passes it on vouches for nothing.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon, from_canonical
from common.identity.disclosure import ClaimRoot
from common.identity.signed import Signed
from common.receipts import Attested, Bytes32, Count, DidText
from common.rpc.method import OWN_DID, RECORD_PAYLOAD_BYTES_MAX, Names, Namespace, PeerMethod, Topic
from common.standing import Note
from common.witness import Slot, SlotEvidence

SYNC_ITEMS_MAX = 200  # of at most 3 KiB each: below a peer message of 1 MiB
NOTES_MAX = 100  # of at most 8 KiB each


class NodesAsk(Canon, frozen=True):
    """Node descriptions that changed here after a cursor."""

    after: Count
    limit: Annotated[int, Meta(ge=1, le=SYNC_ITEMS_MAX)]


class ReceiptsAsk(Canon, frozen=True):
    """Receipts that arrived here after a cursor, at or above a height."""

    after: Count
    from_height: Count
    limit: Annotated[int, Meta(ge=1, le=SYNC_ITEMS_MAX)]


class SyncAnswer(Canon, frozen=True):
    """`Attested` bytes, and the cursor to go on from; with fewer items than asked for there is no more."""

    items: tuple[bytes, ...]
    next_after: Count


class NotesAsk(Canon, frozen=True):
    """Notes about standing that arrived here after a cursor."""

    after: Count
    limit: Annotated[int, Meta(ge=1, le=NOTES_MAX)]


class ClaimsAsk(Canon, frozen=True):
    """Attest what is known there of the caller."""


class ClaimsIssued(Canon, frozen=True):
    """`Attested` bytes of a `ClaimRoot`, and the sixteen leaves under it."""

    root: Annotated[bytes, Meta(max_length=1_024)]
    claims: Annotated[tuple[Annotated[bytes, Meta(max_length=256)], ...], Meta(max_length=16)]


class ReputationAsk(Canon, frozen=True):
    """What is known there of a node."""

    did: DidText


class ReputationAnswer(Canon, frozen=True):
    """The score there and the signed receipts behind it, the newest first, as many as fit."""

    score_ppm: int
    standing_milli: int
    good_florins: int
    bad_florins: int
    at_height: int
    settled: int  # contracts that the score is made of; more than are shown, if they do not fit
    receipts: tuple[bytes, ...]
    notes: tuple[bytes, ...]  # faults, audits and verdicts about it, as many as fit


class ProbeAsk(Canon, frozen=True):
    """A challenger's call: «I was drawn to see you in this slot»."""

    slot: Slot
    nonce: Bytes32


class ProbeAnswer(Canon, frozen=True):
    """The nonce back: whoever answers within the session holds the node's key now."""

    nonce: Bytes32


class SightingTold(Canon, frozen=True):
    """A challenger's signed sighting, handed to the node that it saw (`Attested` bytes)."""

    signed: bytes


class SightingTaken(Canon, frozen=True):
    """Whether it counts there or enough do, and why not."""

    taken: bool
    reason: Annotated[str, Meta(max_length=200)]


class PresenceAsk(Canon, frozen=True):
    """The signed sightings that a node can show of itself, in slots from one to another."""

    from_slot: Slot
    to_slot: Slot


class PresenceShown(Canon, frozen=True):
    """`Attested` bytes of `Sighting`s, the newest slot first and in it one of each seat, as many as fit."""

    sightings: tuple[bytes, ...]


class CapabilityPointer(Canon, frozen=True):
    """The signer offers the capability that the record is named after; who it is says its node record."""

    at_ms: int


_BY = ("registryd",)
TOPIC_NODE = Topic(
    name="node", owner="registryd", payload=Attested, summary="A node's signed description of itself."
)  # fmt: skip
TOPIC_HEARTBEAT = Topic(
    name="heartbeat", owner="registryd", payload=Attested, summary="A node's signed heartbeat."
)  # fmt: skip
TOPIC_RECEIPT = Topic(
    name="receipt", owner="registryd", payload=Attested, summary="A party's signed receipt of a settled contract."
)  # fmt: skip

NODES_SYNC = PeerMethod(
    name="registry.nodes", repeated="read",
    owner="registryd", params=NodesAsk, result=SyncAnswer, callers=_BY, cost=4,
    params_bytes_max=128, summary="Node descriptions that a node which was away has missed.",
)  # fmt: skip
RECEIPTS_SYNC = PeerMethod(
    name="registry.receipts", repeated="read",
    owner="registryd", params=ReceiptsAsk, result=SyncAnswer, callers=_BY, cost=4,
    params_bytes_max=128, summary="Receipts that a node which was away has missed.",
)  # fmt: skip
CLAIMS_ISSUE = PeerMethod(
    name="claims.issue", owner="registryd", params=ClaimsAsk, result=ClaimsIssued, callers=_BY, cost=8,
    params_bytes_max=16, summary="Signed properties of the caller as known there, for it to show one by one.",
)  # fmt: skip
TOPIC_STANDING = Topic(
    name="standing", owner="registryd", payload=Note,
    summary="Signed statements about a node's standing: faults, measurements, audits, services rendered.",
)  # fmt: skip
STANDING_SYNC = PeerMethod(
    name="registry.standing", repeated="read",
    owner="registryd", params=NotesAsk, result=SyncAnswer, callers=_BY, cost=4,
    params_bytes_max=128, summary="Statements about standing that a node which was away has missed.",
)  # fmt: skip
REPUTATION_ASK = PeerMethod(
    name="reputation.ask", repeated="read",
    owner="registryd", params=ReputationAsk, result=ReputationAnswer, callers=_BY, cost=4,
    params_bytes_max=128, summary="A node's score as known there, with the signed receipts behind it.",
)  # fmt: skip

TOPIC_PRESENCE = Topic(
    name="presence", owner="registryd", payload=SlotEvidence, summary="Who saw a node in one slot, signed by each."
)  # fmt: skip
PRESENCE_PROBE = PeerMethod(
    name="presence.probe", repeated="anew",
    owner="registryd", params=ProbeAsk, result=ProbeAnswer, callers=_BY, cost=1,
    params_bytes_max=64, deadline_max_s=10.0, summary="Are you there? Asked by who was drawn to look.",
)  # fmt: skip
PRESENCE_TELL = PeerMethod(
    name="presence.tell", owner="registryd", params=SightingTold, result=SightingTaken, callers=_BY, cost=2,
    params_bytes_max=1_024, summary="A drawn challenger's signed sighting, for the node that it saw.",
)  # fmt: skip
PRESENCE_SHOW_PEER = PeerMethod(
    name="presence.show", repeated="read",
    owner="registryd", params=PresenceAsk, result=PresenceShown, callers=_BY, cost=4,
    params_bytes_max=64, summary="The signed sightings that a node keeps of itself.",
)  # fmt: skip


def _is_own(did: str, _name: str, description: Attested) -> str | None:
    return None if description.did == did else "the description is another node's"


def _is_about(_did: str, name: str, root: Signed) -> str | None:
    subject = from_canonical(root.body, ClaimRoot, max_bytes=RECORD_PAYLOAD_BYTES_MAX).subject
    return None if subject == name else "the claims are about another node"


REGISTERED_NS = Namespace(
    name="registered", owner="registryd", payload=Attested, names=OWN_DID, per_name_max=1, belongs=_is_own,
    summary="A node's signed description of itself, under its DID.",
)  # fmt: skip
CAPABILITY_NS = Namespace(
    name="capability", owner="registryd", payload=CapabilityPointer,
    names=Names(
        pattern=r"[a-z0-9][a-z0-9_.:+/-]{0,63}", says="a capability: lower case letters, digits, - and _", example="gpu"
    ),
    summary="Who offers a capability, under its name.",
)  # fmt: skip
ATTESTATION_NS = Namespace(
    name="attestation", owner="registryd", payload=Signed, belongs=_is_about,
    names=Names(pattern=OWN_DID.pattern, says="the DID of the node it is about", example=OWN_DID.example),
    summary="The root of an issuer's claims about a node (`ClaimRoot`), under the node's DID; signed by the issuer.",
)  # fmt: skip
