"""What p2pd offers to the node's daemons: calls to other nodes, gossip, the DHT, identities, blobs.

Bulk bytes travel by HTTP beside these calls (`PUT /blob`, `GET /blob/<id>`, the same tokens), never inside them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.contracts import p2p_errors as errors
from common.contracts.p2p_mail import MAIL_DROP, MAIL_EVENTS, MAIL_LIST, MAIL_SEND
from common.contracts.p2p_reach import P2P_REACH
from common.errors import NotFound
from common.identity.errors import BadEvent, BadRecord, BadSignature, IdentityUnsure
from common.rpc.method import DAEMONS, Done, Empty, Method, callers_of
from common.units import BlockHeight, Did, UnixMs

_DID = Did("did:dux:" + "a" * 52)
_BLOB = "ab" * 32
_NOW = UnixMs(1_790_000_000_000)
OTHERS = tuple(daemon for daemon in DAEMONS if daemon != "p2pd")

PAYLOAD_BYTES_MAX = 3072  # one DHT record's payload
REFUSED_MAX = 2_000  # nodes refused at once
PROVE_MAX = 32  # bodies in one call: about 20 ms of p2pd's time
PROVE_BYTES_MAX = 512
SIGN_BYTES_MAX = 262_144  # a body to sign; larger things are signed by their hash


class Info(Wire, frozen=True):
    """This node as the network sees it."""

    did: Did
    key_seq: int
    network: str
    endpoints: list[str]
    sessions: int
    contacts: int
    records: int
    blobs: int
    blob_bytes: int
    egress: str


class PeerView(Wire, frozen=True):
    """One node we are connected to."""

    did: Did
    address: str
    dialled: bool
    known: bool
    since_ms: UnixMs
    clock_skew_ms: int
    score: float


class Peers(Wire, frozen=True):
    """The nodes we are connected to."""

    peers: list[PeerView]


class EndpointView(Wire, frozen=True):
    """One endpoint: `verified` by the nodes that dialled it within the last hour, `unreachable`, or `unknown`."""

    endpoint: str
    verdict: str
    verified_by: list[Did]
    told: bool  # whether others read it in the node record


class RelayDuty(Wire, frozen=True):
    """What this node has carried for others since it started; only ciphertext passes."""

    on_duty: bool
    reservations: int
    circuits: int
    bytes: int
    seconds: int
    refused: int


class CarriedFor(Wire, frozen=True):
    """What a relay has carried for this node since it started, as this node counted it: a witness of its duty."""

    relay: Did
    circuits: int
    bytes: int


class KeptFor(Wire, frozen=True):
    """How many records another node has kept for this one since it started: a witness of its duty in the DHT."""

    keeper: Did
    records: int


class Reachability(Wire, frozen=True):
    """How others reach this node: `direct`, `mapped` (by a gateway), `relayed`, `unreachable`, or `unknown` yet."""

    how: str
    endpoints: list[EndpointView]
    relays: list[Did]
    gateway: str  # what maps our port, and until when; empty: nothing
    duty: RelayDuty
    carried: list[CarriedFor]
    kept: list[KeptFor]


class Duties(Wire, frozen=True):
    """The duties of this node's tier, by their names in the network profile; at most sixteen."""

    duties: list[str]


class Connect(Wire, frozen=True):
    """An outside address `host:port`; with a DID nobody else is accepted there."""

    address: str
    did: Did | None = None


class Connected(Wire, frozen=True):
    """Who was there."""

    did: Did


class RefusedNode(Wire, frozen=True):
    """A node that this one has nothing to do with."""

    did: Did
    until_ms: UnixMs  # 0: until told otherwise


class Refuse(Wire, frozen=True):
    """All nodes whose sessions and calls are refused from now on; who is not named is welcome again."""

    nodes: Annotated[tuple[RefusedNode, ...], Meta(max_length=REFUSED_MAX)]


class PeerCall(Wire, frozen=True):
    """A peer method of common/contracts/peer.py at another node; params are canonical bytes."""

    did: Did
    method: str
    params: bytes
    deadline_ms: int


class PeerAnswer(Wire, frozen=True):
    """The canonical bytes of the method's result."""

    result: bytes


class Publish(Wire, frozen=True):
    """A message to everybody on a topic that the caller owns; payload is canonical bytes."""

    topic: str
    payload: bytes


class Published(Wire, frozen=True):
    """The message's id and to how many nodes it went at once."""

    message_id: str
    sent_to: int


class DhtPut(Wire, frozen=True):
    """A record of ours under (ns, name); a newer one replaces it, an empty payload withdraws it."""

    ns: str
    name: str
    payload: bytes
    ttl_s: int


class DhtStored(Wire, frozen=True):
    """How many nodes hold it by now (a put ends with ten and goes on to twenty), and its place among our records."""

    stored_at: int
    seq_ms: UnixMs


class DhtGet(Wire, frozen=True):
    """The records of everybody under (ns, name).

    What was found at most `max_age_s` ago serves again. The search ends when so many `holders` agree on the newest
    records; with 20, all nodes near the name are asked.
    """

    ns: str
    name: str
    max_age_s: int = 0
    holders: int = 4


class RecordView(Wire, frozen=True):
    """One node's record; its signature has verified."""

    did: Did
    key_seq: int
    seq_ms: UnixMs
    expires_ms: UnixMs
    payload: bytes


class Records(Wire, frozen=True):
    """At most one record per node."""

    records: list[RecordView]


class Resolve(Wire, frozen=True):
    """Whom a DID stands for now; what is known already serves when it is at most `max_age_s` old.

    With `min_sources`, so many independent nodes must have confirmed it within that time.
    """

    did: Did
    max_age_s: int = 86_400
    min_sources: int = 0


class Resolved(Wire, frozen=True):
    """The current key, the log (canonical bytes), the node record (signed bytes) and the derived document (JSON).

    `disputed`: two rotations of one event are known; `frozen`: two recoveries of one epoch; `proof` shows either
    (canonical bytes of common.identity.news.LogNews). `sources`: independent nodes that confirmed it within the
    wished time.
    """

    did: Did
    key_seq: int
    key: bytes
    disputed: bool
    frozen: bool
    ended: bool
    age_s: int
    sources: int
    log: bytes
    node_record: bytes | None
    proof: bytes | None
    document: str


class Rotate(Wire, frozen=True):
    """Another signing key; with `transport` another key of the connections too, at once, as after a theft."""

    transport: bool = False


class TakeLog(Wire, frozen=True):
    """A log of this node's own name (canonical bytes), at whose end a recovery or an end stands."""

    log: bytes


class OwnIdentity(Wire, frozen=True):
    """This node's name: the number of its current key, since when, and `sound` or what others hold against it."""

    did: Did
    key_seq: int
    key_since_ms: UnixMs
    standing: str


class Sign(Wire, frozen=True):
    """A body to sign with the node's key for a purpose that the caller owns."""

    purpose: str
    body: bytes


class Signature(Wire, frozen=True):
    """Ed25519 over the tagged body, and by which of our keys."""

    did: Did
    key_seq: int
    signature: bytes


class Prove(Wire, frozen=True):
    """Bodies to draw from with the node's look key, for a purpose that the caller owns; none: the key alone."""

    purpose: str
    bodies: Annotated[tuple[Annotated[bytes, Meta(max_length=PROVE_BYTES_MAX)], ...], Meta(max_length=PROVE_MAX)] = ()


class Proofs(Wire, frozen=True):
    """The key that checks them (32 bytes), and a proof of 80 bytes for each body, in order."""

    key: bytes
    proofs: tuple[bytes, ...]


class Verify(Wire, frozen=True):
    """Is this the DID's signature, and does `at_ms` (default: now) fall into that key's time?

    Whoever held the object already at `seen_ms`, with the log `kept` beside it (canonical bytes), says so: then a key
    that a recovery has since superseded counts for what was seen before. Whoever sees it for the first time, and takes
    it only from a key that is in use, says now (any later time is now). `ever`: whether it was this DID's key at all,
    for words that are bound by something else than their time; `at_ms` and `seen_ms` are then not read.
    """

    did: Did
    key_seq: int
    purpose: str
    body: bytes
    signature: bytes
    at_ms: UnixMs | None = None
    seen_ms: UnixMs | None = None
    kept: bytes | None = None
    ever: bool = False


class Verdict(Wire, frozen=True):
    """Whether it counts; the reason when it does not; and whether new business may be done with the signer's name.

    `stopped`: the signer has since recovered or closed its name; a thief of the key could have written any time.
    """

    valid: bool
    reason: str
    sound: bool = True
    stopped: bool = False


class LinkCoin(Wire, frozen=True):
    """A coin key to name in the node record; its signature over `coin_link_hash` (DER, low S)."""

    coin_pubkey: bytes
    at_ms: UnixMs
    coin_signature: bytes


class BlobRef(Wire, frozen=True):
    """A blob by its id (64 hex digits)."""

    id: str


class BlobStat(Wire, frozen=True):
    """What is here of a blob; `complete` means that GET will give all of it."""

    id: str
    known: bool
    complete: bool
    size_bytes: int
    chunks_here: int
    keep_until_ms: UnixMs | None


class BlobFetch(Wire, frozen=True):
    """Bring a blob here from any of these nodes."""

    id: str
    providers: list[Did]
    max_bytes: int


class BlobHold(Wire, frozen=True):
    """Ask other nodes to keep a blob that is here, for `keep_s` seconds and so until a height of the chain."""

    request_id: str
    id: str
    holders: list[Did]
    until_height: BlockHeight
    keep_s: int


class HeldBy(Wire, frozen=True):
    """One holder's receipt (the signed bytes of common.blobs.StorageReceipt), or why there is none."""

    did: Did
    receipt: bytes | None
    reason: str


class Held(Wire, frozen=True):
    """What the holders answered."""

    holders: list[HeldBy]


P2P_INFO = Method(
    name="p2p.info",
    params=Empty,
    result=Info,
    summary="This node's DID, endpoints and what it holds.",
    callers=callers_of("p2pd"),
    example=(
        Empty(),
        Info(
            did=_DID,
            key_seq=0,
            network="00" * 32,
            endpoints=["127.0.0.1:32570"],
            sessions=5,
            contacts=5,
            records=12,
            blobs=2,
            blob_bytes=524_288,
            egress="127.0.0.1:32568",
        ),
    ),
)

P2P_REACHABILITY = Method(
    name="p2p.reachability",
    params=Empty,
    result=Reachability,
    summary="How others reach this node, who has verified it, and what it carries as a relay.",
    callers=callers_of("p2pd"),
    example=(
        Empty(),
        Reachability(
            how="direct",
            endpoints=[EndpointView(endpoint="127.0.0.1:32570", verdict="verified", verified_by=[_DID], told=True)],
            relays=[],
            gateway="",
            duty=RelayDuty(on_duty=True, reservations=1, circuits=2, bytes=70_000, seconds=31, refused=0),
            carried=[CarriedFor(relay=_DID, circuits=1, bytes=9_000)],
            kept=[KeptFor(keeper=_DID, records=3)],
        ),
    ),
)
P2P_TAKE_DUTIES = Method(
    name="p2p.take_duties",
    params=Duties,
    result=Done,
    summary="From now on p2pd does the duties of this tier that are its own: announce, relay.",
    callers=("registryd",),
    example=(Duties(duties=["announce", "relay"]), Done()),
)
P2P_PEERS = Method(
    name="p2p.peers",
    params=Empty,
    result=Peers,
    summary="The nodes this node is connected to.",
    callers=callers_of("p2pd"),
    example=(
        Empty(),
        Peers(
            peers=[
                PeerView(
                    did=_DID,
                    address="127.0.1.1:32670",
                    dialled=True,
                    known=True,
                    since_ms=_NOW,
                    clock_skew_ms=3,
                    score=0.0,
                )
            ]
        ),
    ),
)

P2P_CONNECT = Method(
    name="p2p.connect",
    params=Connect,
    result=Connected,
    summary="Connect to a node by its outside address.",
    callers=("cli", "module"),
    example=(Connect(address="127.0.1.1:32670"), Connected(did=_DID)),
    raises=(errors.PeerUnreachable, errors.HandshakeFailed, errors.CertificateRefused, errors.HelloRefused),
)

P2P_REFUSE = Method(
    name="p2p.refuse",
    params=Refuse,
    result=Done,
    summary="Have nothing to do with these nodes: end their sessions, accept and open none.",
    callers=("registryd",),
    example=(Refuse(nodes=(RefusedNode(did=_DID, until_ms=UnixMs(1_790_000_000_000)),)), Done()),
)

PEER_CALL = Method(
    name="p2p.peer_call",
    params=PeerCall,
    result=PeerAnswer,
    summary="Call a peer method at another node, connecting to it first where needed.",
    callers=(*OTHERS, "module"),
    example=(
        PeerCall(did=_DID, method="escrow.offer", params=b"\x91\x01", deadline_ms=5000),
        PeerAnswer(result=b"\x90"),
    ),
    raises=(
        errors.NoPeerMethod,
        errors.PeerUnknown,
        errors.PeerUnreachable,
        errors.SessionClosed,
        errors.PeerBusy,
        errors.StreamBroken,
        errors.MessageTooLong,
        errors.PeerAnswered,
        errors.AnswerTooLong,
        errors.NotForStrangers,
        errors.OwnerAway,
        errors.RateLimited,
    ),
)

GOSSIP_PUBLISH = Method(
    name="gossip.publish",
    params=Publish,
    result=Published,
    summary="Tell all nodes, on a topic that the caller owns.",
    callers=OTHERS,
    example=(Publish(topic="heartbeat", payload=b"\x91\x01"), Published(message_id="ab" * 32, sent_to=5)),
    raises=(errors.NotYourTopic, errors.RateLimited),
)

DHT_PUT = Method(
    name="dht.put",
    params=DhtPut,
    result=DhtStored,
    summary="Store a signed record of this node; it is offered again until it expires.",
    callers=OTHERS,
    example=(
        DhtPut(ns="service", name="upscale", payload=b"\x91\x01", ttl_s=86_400),
        DhtStored(stored_at=6, seq_ms=_NOW),
    ),
    raises=(errors.NotYourTopic, errors.RecordRefused, errors.NotStored),
)

DHT_GET = Method(
    name="dht.get",
    params=DhtGet,
    result=Records,
    summary="Everybody's records under a name.",
    callers=callers_of("p2pd"),
    example=(
        DhtGet(ns="service", name="upscale"),
        Records(
            records=[
                RecordView(did=_DID, key_seq=0, seq_ms=_NOW, expires_ms=UnixMs(_NOW + 86_400_000), payload=b"\x91\x01")
            ]
        ),
    ),
    raises=(errors.RecordRefused,),
)

DID_RESOLVE = Method(
    name="did.resolve",
    params=Resolve,
    result=Resolved,
    summary="The current key, log, node record and document of a DID.",
    callers=callers_of("p2pd"),
    example=(
        Resolve(did=_DID),
        Resolved(
            did=_DID,
            key_seq=0,
            key=b"k" * 32,
            disputed=False,
            frozen=False,
            ended=False,
            age_s=12,
            sources=2,
            log=b"\x91\x90",
            node_record=None,
            proof=None,
            document="{}",
        ),
    ),
    raises=(errors.PeerUnknown, errors.TooFewSources),
)

_OWN = OwnIdentity(did=_DID, key_seq=1, key_since_ms=_NOW, standing="sound")

IDENTITY_OWN = Method(
    name="identity.own",
    params=Empty,
    result=OwnIdentity,
    summary="How this node's own name stands.",
    callers=callers_of("p2pd"),
    example=(Empty(), _OWN),
)

IDENTITY_ROTATE = Method(
    name="identity.rotate",
    params=Rotate,
    result=OwnIdentity,
    summary="Bring the next signing key into use, and tell the network.",
    callers=("cli",),
    example=(Rotate(), _OWN),
    raises=(errors.RotationTooSoon, errors.LogFull, IdentityUnsure, NotFound),
    deadline_max_s=60.0,
)

IDENTITY_TAKE_LOG = Method(
    name="identity.take_log",
    params=TakeLog,
    result=OwnIdentity,
    summary="Take in a recovery or an end of this node's own name, made with its recovery key, and tell the network.",
    callers=("cli",),
    example=(TakeLog(log=b"\x91\x90"), _OWN),
    raises=(BadEvent, BadSignature, BadRecord),
    deadline_max_s=60.0,
)

IDENTITY_SIGN = Method(
    name="identity.sign",
    params=Sign,
    result=Signature,
    summary="Sign with the node's key, for a purpose that belongs to the caller.",
    callers=(*OTHERS, "cli"),
    example=(Sign(purpose="heartbeat", body=b"\x91\x01"), Signature(did=_DID, key_seq=0, signature=b"s" * 64)),
    raises=(errors.NotYourPurpose, IdentityUnsure),
)

IDENTITY_PROVE = Method(
    name="identity.prove",
    params=Prove,
    result=Proofs,
    summary="What the node's look key draws from bodies, with proofs (RFC 9381), for a purpose of the caller's.",
    callers=("registryd",),
    example=(Prove(purpose="look", bodies=(b"\x91\x01",)), Proofs(key=b"k" * 32, proofs=(b"p" * 80,))),
    raises=(errors.NotYourPurpose,),
)

IDENTITY_VERIFY = Method(
    name="identity.verify",
    params=Verify,
    result=Verdict,
    summary="Check another node's signature against its event log.",
    callers=callers_of("p2pd"),
    example=(
        Verify(did=_DID, key_seq=0, purpose="heartbeat", body=b"\x91\x01", signature=b"s" * 64),
        Verdict(valid=True, reason=""),
    ),
    raises=(errors.PeerUnknown,),
)

IDENTITY_LINK_COIN = Method(
    name="identity.link_coin",
    params=LinkCoin,
    result=Done,
    summary="Name the node's coin key in its node record.",
    callers=("flopd",),
    example=(LinkCoin(coin_pubkey=b"\x02" + b"p" * 32, at_ms=_NOW, coin_signature=b"0" * 70), Done()),
    raises=(BadSignature,),
)

BLOB_STAT = Method(
    name="blob.stat",
    params=BlobRef,
    result=BlobStat,
    summary="What is here of a blob.",
    callers=callers_of("p2pd"),
    example=(
        BlobRef(id=_BLOB),
        BlobStat(id=_BLOB, known=True, complete=True, size_bytes=300_000, chunks_here=2, keep_until_ms=None),
    ),
)

BLOB_FETCH = Method(
    name="blob.fetch",
    params=BlobFetch,
    result=BlobStat,
    summary="Bring a blob here, chunk by verified chunk, from any of the given nodes; a repetition resumes.",
    callers=callers_of("p2pd"),
    example=(
        BlobFetch(id=_BLOB, providers=[_DID], max_bytes=10_000_000),
        BlobStat(id=_BLOB, known=True, complete=True, size_bytes=300_000, chunks_here=2, keep_until_ms=None),
    ),
    raises=(errors.BlobMissing, errors.BlobTooLarge, errors.BlobsFull),
    deadline_max_s=120.0,
)

BLOB_HOLD = Method(
    name="blob.hold",
    params=BlobHold,
    result=Held,
    summary="Ask other nodes to keep a blob; each gives a signed storage receipt.",
    callers=OTHERS,
    example=(
        BlobHold(request_id="hold-1", id=_BLOB, holders=[_DID], until_height=BlockHeight(1500), keep_s=86_400),
        Held(holders=[HeldBy(did=_DID, receipt=b"\x92", reason="")]),
    ),
    raises=(errors.BlobMissing,),
    once=True,
    deadline_max_s=120.0,
)

MAIL = (MAIL_SEND, MAIL_LIST, MAIL_DROP, MAIL_EVENTS)  # declared in p2p_mail.py, served by p2pd as well
REACHING = (P2P_REACH,)  # declared in p2p_reach.py
