"""What p2pds ask each other: the DHT, event logs, blobs. Answered by p2pd itself, never relayed."""

from __future__ import annotations

from common.codec import Canon
from common.rpc.method import Namespace, PeerMethod
from common.units import BlockHeight, Did

CONTACTS_MAX = 20  # in one find answer; k of the DHT
RECORDS_BYTES_MAX = 65_536  # in one get answer


class Contact(Canon, frozen=True):
    """A node and where it listens."""

    did: Did
    host: str
    port: int


class FindNode(Canon, frozen=True):
    """The nodes nearest to a place in the DHT (32 bytes)."""

    key: bytes


class Contacts(Canon, frozen=True):
    """At most 20, nearest first."""

    contacts: tuple[Contact, ...]


class FindValue(Canon, frozen=True):
    """The records at a place."""

    key: bytes


class Values(Canon, frozen=True):
    """Records (signed bytes) at the place, and the nodes nearest to it."""

    records: tuple[bytes, ...]
    contacts: tuple[Contact, ...]


class Store(Canon, frozen=True):
    """A record (signed bytes) with its signer's event log, so that the storer can judge it alone."""

    record: bytes
    log: bytes


class Stored(Canon, frozen=True):
    """Whether it is kept now; the reason when not."""

    kept: bool
    reason: str


class AskLog(Canon, frozen=True):
    """Whatever is known of a DID."""

    did: Did


class LogAnswer(Canon, frozen=True):
    """Event log and node record in their bytes; empty when unknown."""

    log: bytes
    node_record: bytes


class Gossip(Canon, frozen=True):
    """One gossip envelope; who lacks its signer's event log asks the sender for it."""

    envelope: bytes


class Heard(Canon, frozen=True):
    """Whether the message was new here."""

    new: bool


class AskManifest(Canon, frozen=True):
    """The manifest of a blob (32 bytes)."""

    blob: bytes


class ManifestAnswer(Canon, frozen=True):
    """The manifest's bytes and which chunks are here, one bit each, first chunk in the lowest bit of the first byte."""

    manifest: bytes
    have: bytes


class HoldBlob(Canon, frozen=True):
    """Keep a blob of mine, to be fetched from me, for so long."""

    blob: bytes
    size_bytes: int
    until_height: BlockHeight
    keep_s: int


class HoldAnswer(Canon, frozen=True):
    """The signed bytes of a StorageReceipt."""

    receipt: bytes


DHT_FIND = PeerMethod(
    name="dht.find", owner="p2pd", params=FindNode, result=Contacts, callers=(), cost=1, params_bytes_max=64,
    summary="The nodes nearest to a place.",
)  # fmt: skip
DHT_GET_AT = PeerMethod(
    name="dht.get_at", owner="p2pd", params=FindValue, result=Values, callers=(), cost=4, params_bytes_max=64,
    summary="The records at a place, and the nodes nearest to it.",
)  # fmt: skip
DHT_STORE = PeerMethod(
    name="dht.store", owner="p2pd", params=Store, result=Stored, callers=(), cost=8, params_bytes_max=65_536,
    summary="Keep a signed record.",
)  # fmt: skip
DID_LOG = PeerMethod(
    name="did.log", owner="p2pd", params=AskLog, result=LogAnswer, callers=(), cost=4, params_bytes_max=128,
    summary="The event log and node record of a DID, where known.",
)  # fmt: skip
GOSSIP_SEND = PeerMethod(
    name="gossip.send", owner="p2pd", params=Gossip, result=Heard, callers=(), cost=1, params_bytes_max=65_536,
    summary="Pass a gossip message on.",
)  # fmt: skip
BLOB_MANIFEST = PeerMethod(
    name="blob.manifest", owner="p2pd", params=AskManifest, result=ManifestAnswer, callers=(), cost=4,
    params_bytes_max=64, summary="A blob's manifest and which chunks are here.",
)  # fmt: skip
BLOB_KEEP = PeerMethod(
    name="blob.keep", owner="p2pd", params=HoldBlob, result=HoldAnswer, callers=(), cost=16, params_bytes_max=128,
    strangers=False, summary="Keep a blob and sign a receipt for it.",
)  # fmt: skip

BLOB_CHUNKS_STREAM = "blob.chunks"  # a stream: headers name blob and chunk numbers; the chunks follow one another
BLOB_CHUNKS_COST = 8


NODE_NS = Namespace(
    name="node", owner="p2pd", own_name=True, summary="Node records; the log travels with the store. Name = the DID."
)
