"""What p2pds ask each other: the DHT, event logs, blobs. Answered by p2pd itself, never relayed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.blobs import BLOB_BYTES_MAX, MANIFEST_BYTES_MAX
from common.codec import Canon, from_canonical
from common.identity.news import NEWS_BYTES_MAX, LogNews
from common.identity.node_record import ENDPOINT_CHARS_MAX, NodeRecord
from common.identity.node_record import RECORD_BYTES_MAX as NODE_RECORD_BYTES_MAX
from common.identity.signed import Signed
from common.rpc.method import OWN_DID, Names, Namespace, PeerMethod
from common.units import BlockHeight, Did

CONTACT_ENDPOINTS_MAX = 4  # of the eight that a node record may name
CONTACTS_MAX = 20  # in one find answer; k of the DHT
RECORDS_BYTES_MAX = 65_536  # in one get answer
RECORDS_MAX = 256  # in one get answer, however small
SALTS_MAX = 2

Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
DidText = Annotated[Did, Meta(max_length=64)]
LogBytes = Annotated[bytes, Meta(max_length=57_344)]  # an event log; a peer message of 64 KiB holds one and a record
NodeRecordBytes = Annotated[bytes, Meta(max_length=1280)]
RecordBytes = Annotated[bytes, Meta(max_length=3700)]


class Contact(Canon, frozen=True):
    """A node and where it listens, as the teller met it and as its own signed record says; best for the asker first.

    `endpoints`: `host:port` with an IP address each, IPv6 in brackets; the asker takes those that it has a way to.
    """

    did: DidText
    endpoints: Annotated[
        tuple[Annotated[str, Meta(max_length=ENDPOINT_CHARS_MAX)], ...],
        Meta(min_length=1, max_length=CONTACT_ENDPOINTS_MAX),
    ]


class FindNode(Canon, frozen=True):
    """The nodes nearest to a place in the DHT (32 bytes)."""

    key: Hash


class Contacts(Canon, frozen=True):
    """At most 20, nearest first."""

    contacts: Annotated[tuple[Contact, ...], Meta(max_length=CONTACTS_MAX)]


class FindValue(Canon, frozen=True):
    """The records at a place."""

    key: Hash


class Values(Canon, frozen=True):
    """Records (signed bytes) at the place, and the nodes nearest to it."""

    records: Annotated[tuple[RecordBytes, ...], Meta(max_length=RECORDS_MAX)]
    contacts: Annotated[tuple[Contact, ...], Meta(max_length=CONTACTS_MAX)]


class Store(Canon, frozen=True):
    """A record (signed bytes) with its signer's event log, so that the storer can judge it alone.

    `salt`: at which of the namespace's keys, 0 is the plain one. `stamp`: the work that a stranger's record needs.
    """

    record: RecordBytes
    log: LogBytes
    salt: Annotated[int, Meta(ge=0, le=SALTS_MAX)]
    stamp: Annotated[int, Meta(ge=0, le=1 << 53)]


class Stored(Canon, frozen=True):
    """Whether it is kept now; the reason when not."""

    kept: bool
    reason: Annotated[str, Meta(max_length=200)]


class AskLog(Canon, frozen=True):
    """Whatever is known of a DID."""

    did: DidText


class LogAnswer(Canon, frozen=True):
    """Event log, node record and the proof of a fault (LogNews) in their bytes; empty: unknown, or there is none."""

    log: LogBytes
    node_record: NodeRecordBytes
    proof: Annotated[bytes, Meta(max_length=NEWS_BYTES_MAX)]


TopicName = Annotated[str, Meta(min_length=1, max_length=32)]
GOSSIP_TOPICS_MAX = 64
GOSSIP_IDS_MAX = 1000  # in one offer, or asked for at once


class Offer(Canon, frozen=True):
    """IHAVE: ids of messages on a topic that the sender has and will give when asked."""

    topic: TopicName
    ids: Annotated[tuple[Hash, ...], Meta(max_length=GOSSIP_IDS_MAX)]


class Parting(Canon, frozen=True):
    """PRUNE: you are not in my mesh of this topic (any more); do not graft for so many seconds."""

    topic: TopicName
    backoff_s: Annotated[int, Meta(ge=0, le=3600)]


class GossipFrame(Canon, frozen=True):
    """What one node tells a neighbour at once on the stream `gossip.flow`: a u32 length and this, at most 64 KiB.

    `topics` stands in the first frame of a stream and names all that the sender carries. Who lacks the event log of a
    message's signer asks the neighbour for it.
    """

    topics: Annotated[tuple[TopicName, ...], Meta(max_length=GOSSIP_TOPICS_MAX)]
    messages: Annotated[tuple[Annotated[bytes, Meta(max_length=8800)], ...], Meta(max_length=1024)]
    offers: Annotated[tuple[Offer, ...], Meta(max_length=GOSSIP_TOPICS_MAX)]
    wants: Annotated[tuple[Hash, ...], Meta(max_length=GOSSIP_IDS_MAX)]
    grafts: Annotated[tuple[TopicName, ...], Meta(max_length=GOSSIP_TOPICS_MAX)]
    prunes: Annotated[tuple[Parting, ...], Meta(max_length=GOSSIP_TOPICS_MAX)]


class Heard(Canon, frozen=True):
    """Whether the news was new here."""

    new: bool


class AskManifest(Canon, frozen=True):
    """The manifest of a blob (32 bytes)."""

    blob: Hash


class ManifestAnswer(Canon, frozen=True):
    """The manifest's bytes and which chunks are here, one bit each, first chunk in the lowest bit of the first byte."""

    manifest: Annotated[bytes, Meta(max_length=MANIFEST_BYTES_MAX)]
    have: Annotated[bytes, Meta(max_length=512)]


class HoldBlob(Canon, frozen=True):
    """Keep a blob of mine, to be fetched from me, for so long."""

    blob: Hash
    size_bytes: Annotated[int, Meta(ge=0, le=BLOB_BYTES_MAX)]
    until_height: Annotated[BlockHeight, Meta(ge=0, le=1 << 31)]
    keep_s: Annotated[int, Meta(ge=1, le=1 << 31)]


class BlobOffer(Canon, frozen=True):
    """A blob is kept here; its size."""

    size_bytes: Annotated[int, Meta(ge=0, le=BLOB_BYTES_MAX)]


class HoldAnswer(Canon, frozen=True):
    """The signed bytes of a StorageReceipt."""

    receipt: Annotated[bytes, Meta(max_length=1024)]


DHT_FIND = PeerMethod(
    name="dht.find", repeated="read",
    owner="p2pd", params=FindNode, result=Contacts, callers=(), cost=1, params_bytes_max=64,
    summary="The nodes nearest to a place.",
)  # fmt: skip
DHT_GET_AT = PeerMethod(
    name="dht.get_at", repeated="read",
    owner="p2pd", params=FindValue, result=Values, callers=(), cost=4, params_bytes_max=64,
    summary="The records at a place, and the nodes nearest to it.",
)  # fmt: skip
DHT_STORE = PeerMethod(
    name="dht.store", owner="p2pd", params=Store, result=Stored, callers=(), cost=8, params_bytes_max=65_536,
    summary="Keep a signed record.",
)  # fmt: skip
DID_LOG = PeerMethod(
    name="did.log", repeated="read",
    owner="p2pd", params=AskLog, result=LogAnswer, callers=(), cost=4, params_bytes_max=128,
    summary="The event log and node record of a DID, where known.",
)  # fmt: skip
DID_TELL = PeerMethod(
    name="did.tell", owner="p2pd", params=LogNews, result=Heard, callers=(), cost=4, params_bytes_max=NEWS_BYTES_MAX,
    summary="An event log has changed, or has two branches; it proves itself and is passed on by whom it was news to.",
)  # fmt: skip
BLOB_MANIFEST = PeerMethod(
    name="blob.manifest", repeated="read",
    owner="p2pd", params=AskManifest, result=ManifestAnswer, callers=(), cost=4,
    params_bytes_max=64, summary="A blob's manifest and which chunks are here.",
)  # fmt: skip
BLOB_KEEP = PeerMethod(
    name="blob.keep", owner="p2pd", params=HoldBlob, result=HoldAnswer, callers=(), cost=16, params_bytes_max=128,
    strangers=False, summary="Keep a blob and sign a receipt for it.",
)  # fmt: skip

GOSSIP_FLOW = "gossip.flow"  # a stream: GossipFrames one after another, for at most five minutes
GOSSIP_FLOW_COST = 8
GOSSIP_FLOW_S = 300.0
BLOB_CHUNKS_STREAM = "blob.chunks"  # a stream: headers name blob and chunk numbers; the chunks follow one another
BLOB_CHUNKS_COST = 8


LOG_CHUNK_EVENTS = 12
LOG_CHUNKS_MAX = 22  # 256 events
LOG_TTL_S = 604_800


class LogChunk(Canon, frozen=True):
    """Events of a log, in order; chunk n holds those after chunk n - 1."""

    number: Annotated[int, Meta(ge=0, lt=LOG_CHUNKS_MAX)]
    events: Annotated[tuple[Signed, ...], Meta(min_length=1, max_length=LOG_CHUNK_EVENTS)]


def chunk_name(did: str, number: int) -> str:
    """The name of a chunk of a log."""
    return f"{did}/{number}"


def _is_named_chunk(did: str, name: str, chunk: LogChunk) -> str | None:
    return None if name == chunk_name(did, chunk.number) else "the chunk has another number"


def _is_own_record(did: str, _name: str, record: Signed) -> str | None:
    named = from_canonical(record.body, NodeRecord, max_bytes=NODE_RECORD_BYTES_MAX).did
    return None if named == did else "the node record is another's"


NODE_NS = Namespace(
    name="node", owner="p2pd", payload=Signed, names=OWN_DID, per_name_max=1, belongs=_is_own_record,
    summary="A node record, under the DID; the log travels with every store.",
)  # fmt: skip
LOG_NS = Namespace(
    name="did", owner="p2pd", payload=LogChunk, ttl_s_max=LOG_TTL_S, per_signer_max=LOG_CHUNKS_MAX, per_name_max=1,
    salted=2, belongs=_is_named_chunk,
    names=Names(
        pattern=OWN_DID.pattern + r"/(1?[0-9]|2[01])", says="the signer's DID, `/` and the chunk's number",
        example=OWN_DID.example + "/0", of_signer=True,
    ),
    summary="A chunk of at most 12 events of the signer's log.",
)  # fmt: skip
BLOB_NS = Namespace(
    name="blob", owner="p2pd", payload=BlobOffer, payload_bytes_max=64,
    names=Names(pattern=r"[0-9a-f]{64}", says="a blob's id: 64 hex digits", example="ab" * 32),
    summary="A node that has promised to keep a blob and gives it to who asks.",
)  # fmt: skip
