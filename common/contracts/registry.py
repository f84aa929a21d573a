"""What registryd promises to its callers: nodes, health, receipts, reputation.

Field names of `NodeView` are the specification's node schema; `reputation_score` is Q of mechanisms.md §1.1 (0 to 1).
What nodes sign is in `common/receipts.py`. Source: settled.md 10, 25, 31; architecture.md §1.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from common.codec import Wire
from common.contracts.base import events_method
from common.contracts.registry_audit import AUDIT_LIST, AUDIT_REQUEST, AUDIT_SHOW, AUDIT_VERDICT
from common.contracts.registry_claims import CLAIMS_ATTEST, CLAIMS_DISCLOSE, CLAIMS_ISSUERS, CLAIMS_LIST, CLAIMS_VERIFY
from common.contracts.registry_machine import MACHINE_BUSY, MACHINE_SHOW
from common.contracts.registry_seen import EVIDENCE_SEEN
from common.contracts.registry_service import SERVICE_HAD, SERVICE_LIST
from common.contracts.registry_standing import FAULT_REPORT, FAULTS, NODE_BAN, NODE_SANCTIONS, NODE_UNBAN, SanctionView
from common.contracts.registry_witness import PRESENCE_SHOW, TOPOLOGY_SHOW
from common.errors import CallerMistake, NotFound, NotNow
from common.receipts import Count
from common.rpc.method import Done, Empty, Method, callers_of
from common.units import BlockHeight, Did, Florins, Hash32

FIND_MAX = 50  # nodes asked for in the DHT by one search
CAPABILITIES_MAX = 32  # that one node offers, and that one asks for
LIST_MAX = 500  # nodes or receipts in one answer
PEOPLE_AND_UP = ("cli", "module", "taskd", "airdropd", "escrowd", "stored")


class NotOwnNode(CallerMistake):
    """{node_id} is not this node: only its own operator may do that. Leave it out to mean this node, {own}."""

    code = 5001
    key = "not-own-node"
    http_status = 403


class NotRegistered(NotNow):
    """This node is not registered yet: `duxos-node-registry register --wallet-address …` does it."""

    code = 5002
    key = "not-registered"


class BadNode(CallerMistake):
    """The node's description is refused: {detail}."""

    code = 5003
    key = "bad-node"


class NotPaidAnywhere(CallerMistake):
    """Nobody said where this node is paid, nor do its settings: give `--wallet-address`."""

    code = 5016
    key = "not-paid-anywhere"


class BadReceipt(CallerMistake):
    """The receipt is refused: {detail}."""

    code = 5004
    key = "bad-receipt"


class NoTip(NotNow):
    """The wallet has not read the chain yet, and a heartbeat names a block: repeat when it has a height."""

    code = 5005
    key = "no-tip"


class ReceiptNotTaken(NotNow):
    """The receipt cannot be taken now: {reason}. Hand it in again later, with the same request_id."""

    code = 5006
    key = "receipt-not-taken"


class NodeStatus(StrEnum):
    """How lately a node was heard of."""

    ACTIVE = "active"  # within three heartbeats
    STALE = "stale"  # within the hour that the airdrop asks for
    OFFLINE = "offline"  # longer ago, or never


class ReceiptState(StrEnum):
    """What this node knows of a receipt's payment."""

    PENDING = "pending"  # the chain does not show it deep enough yet
    SETTLED = "settled"
    REFUSED = "refused"  # the chain says otherwise


class RegisterNode(Wire, frozen=True):
    """Register or re-register this node; what is left out stays as it was told, or is measured on this machine."""

    request_id: str
    wallet_address: str = ""  # empty: as told before, else the settings'
    node_id: str = ""  # this node's own DID, or empty
    ip_address: str = ""
    port: Annotated[int, Meta(ge=0, lt=65_536)] = 0
    hostname: str = ""
    os_version: str = ""
    duxos_version: str = ""
    cpu_cores: Annotated[int, Meta(ge=0, le=65_536)] = 0
    memory_mb: Count = 0
    storage_gb: Count = 0
    gpu_enabled: bool | None = None  # None: as told before
    gpu_model: str = ""
    region: str = ""
    capabilities: tuple[str, ...] = ()  # none: as told before, else the settings'
    measure: bool = False  # machine and place anew, whatever was told before


class NodeView(Wire, frozen=True):
    """One node as this node knows it."""

    node_id: Did
    wallet_address: str
    ip_address: str
    port: int
    capabilities: tuple[str, ...]
    reputation_score: float
    tier: int
    total_tasks_completed: int
    success_rate: float
    last_heartbeat: str  # ISO 8601, UTC; empty: never
    uptime: int  # seconds
    load_average: tuple[float, float, float]
    available_memory: int  # MB
    available_cpu: int
    memory_usage: float  # percent
    disk_usage: float  # percent
    hostname: str
    os_version: str
    duxos_version: str
    cpu_cores: int
    memory_gb: float
    storage_gb: int
    gpu_enabled: bool
    gpu_model: str
    gpu_seen: bool  # the node's own look at its machine shows one; else by its operator's word; nobody measures GPUs
    region: str
    cpu_model: str
    cpu_arch: str
    cpu_mhz: int
    kernel: str
    gpu_memory: int  # MB
    tpm: str  # `2.0`, `1.2`; empty: none
    status: NodeStatus
    own: bool
    witnessed_uptime: float | None  # part of the last seven days in which drawn challengers saw it; None: never judged
    verified: tuple[str, ...]  # of `cpu`, `memory`, `storage`, `bandwidth`, `tpm`; all else it only declares
    bonded_florins: Florins  # locked in fidelity bonds that the chain shows
    sanction: str  # `banned`, `suspended`, `relieved` or `frozen`; empty: nothing is kept from it


class NodeName(Wire, frozen=True):
    """Which node."""

    node_id: str


class ListNodes(Wire, frozen=True):
    """Only nodes that meet every filter; 0, empty and None filter nothing."""

    start: Annotated[str, Meta(max_length=60)] = ""  # of the node's id
    min_cpu: int = 0
    min_memory_mb: int = 0
    min_storage_gb: int = 0
    min_reputation: Annotated[float, Meta(ge=0, le=1)] = 0.0
    min_tier: int = 0
    capabilities: Annotated[tuple[str, ...], Meta(max_length=CAPABILITIES_MAX)] = ()  # offers all of these
    region: str = ""
    gpu: bool = False  # offers one, seen or declared; `gpu` and `gpu_declared` of `capabilities` tell them apart
    gpu_model: str = ""  # a part of it
    hostname: str = ""  # a part of it
    wallet_address: str = ""
    os_version: str = ""
    duxos_version: str = ""
    cpu_arch: str = ""
    min_free_cpu: int = 0
    min_free_memory_mb: int = 0
    min_uptime_s: int = 0
    max_load: Annotated[float, Meta(ge=0)] | None = None  # over one minute
    min_tasks: int = 0
    min_success_rate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    min_witnessed_uptime: Annotated[float, Meta(ge=0, le=1)] = 0.0
    min_bond_florins: Florins | None = None
    status: NodeStatus | None = None
    verified: tuple[Literal["cpu", "memory", "storage", "bandwidth", "tpm"], ...] = ()  # these were measured
    sanctioned: Literal["hidden", "only", "shown"] = "hidden"  # banned and suspended nodes
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = 100


class NodeList(Wire, frozen=True):
    """Matching nodes, best reputation first; `total` counts also those beyond the limit."""

    nodes: tuple[NodeView, ...]
    total: int


class UpdateHealth(Wire, frozen=True):
    """This node's load as the operator measured it; what is None is measured on this machine."""

    request_id: str
    node_id: str = ""
    load_average: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    memory_usage: Annotated[float, Meta(ge=0, le=100)] | None = None  # percent
    disk_usage: Annotated[float, Meta(ge=0, le=100)] | None = None  # percent


class FindNodes(Wire, frozen=True):
    """Who offers all of these capabilities, here or anywhere in the network."""

    capabilities: Annotated[tuple[str, ...], Meta(min_length=1, max_length=CAPABILITIES_MAX)]
    limit: Annotated[int, Meta(ge=1, le=FIND_MAX)] = 20


class Deregister(Wire, frozen=True):
    """Take this node off the list; its receipts and reputation stay."""

    request_id: str
    node_id: str = ""


class Capabilities(Wire, frozen=True):
    """Which active nodes offer what."""

    capabilities: dict[str, tuple[Did, ...]]


class RegistryStatus(Wire, frozen=True):
    """What this registry holds."""

    own_node_id: Did
    registered: bool
    tip_height: BlockHeight | None  # None: the wallet does not answer
    nodes: dict[str, int]  # status -> how many
    receipts: dict[str, int]  # state -> how many


class ReceiptView(Wire, frozen=True):
    """One contract's end, as receipts say and as far as this node has checked the chain."""

    cid: Hash32
    buyer: Did
    seller: Did
    service_id: str
    price_florins: Florins
    gross_florins: Florins
    tax_florins: Florins
    txid: str
    height: BlockHeight
    outcome: str
    state: ReceiptState
    reason: str  # why it is pending or refused
    signed_by: tuple[Did, ...]
    cursor: int
    signed: tuple[bytes, ...]  # the receipts themselves, for who wants to check


class ScoreLine(Wire, frozen=True):
    """What one receipt adds to a score today."""

    cid: Hash32
    other: Did
    outcome: str
    height: BlockHeight
    age_days: int
    good_florins: Florins  # decayed tax that counts for the seller
    bad_florins: Florins  # decayed tax that counts against it


class Reputation(Wire, frozen=True):
    """A node's standing, every figure recomputable from `evidence`."""

    node_id: Did
    score: float  # Q, 0 to 1; 0.5 is a node of which nothing is known
    score_ppm: int
    standing_milli: int  # s, thousandths; shown and used for tiers, never for draws
    weight_florins: Florins  # ω = Q · E, linear: what draws use
    good_florins: Florins  # E
    bad_florins: Florins  # N
    tier: int
    trade_tier: int
    duty_tier: int
    duties: tuple[str, ...]  # what the network asks of a node of this tier
    sanctions: tuple[SanctionView, ...]  # what is kept from it, and why
    days_witnessed: int
    days_good: int  # of the last 60: drawn challengers saw most of it
    uptime: float | None  # part of the last seven days' slots that were up; None: never judged
    probing: float | None  # part of the looks at others that it owed, going by chance; None: it owed none
    jobs_done: int
    jobs_failed: int
    activity_florins: Florins  # half of the tax of all its receipts, as buyer or seller, undecayed
    at_height: BlockHeight
    evidence: tuple[ScoreLine, ...]


class SubmitReceipt(Wire, frozen=True):
    """A party's signed receipt (`Attested` bytes of a `SettledReceipt`)."""

    request_id: str
    receipt: bytes


class ReceiptVerdict(Wire, frozen=True):
    """What became of a receipt: pending ones are checked again with every new block."""

    cid: Hash32
    state: ReceiptState
    reason: str


class AskOpinion(Wire, frozen=True):
    """What another node thinks of a node."""

    of: str  # about whom
    peer: str  # whom to ask


class Opinion(Wire, frozen=True):
    """Another node's score, the evidence it showed (checked and counted here), and what follows from it here."""

    score: float
    standing_milli: int
    at_height: BlockHeight
    receipts: int  # shown
    new_receipts: int  # of them, new here
    notes: int  # faults, audits and verdicts shown
    own_score: float  # by this node's books, with that evidence in them
    own_standing_milli: int
    agrees: bool
    reason: str  # where they differ, what may be why


class ContractName(Wire, frozen=True):
    """Which contract."""

    cid: Hash32


class ReceiptsSince(Wire, frozen=True):
    """Receipts at or above a height, in the order this node settled them."""

    from_height: int = 0
    after_cursor: int = 0
    settled_only: bool = True
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = LIST_MAX


class ReceiptList(Wire, frozen=True):
    """Receipts and where to go on; `next_cursor` is the last one's, or what was asked when there are none."""

    receipts: tuple[ReceiptView, ...]
    next_cursor: int


class EvidenceWindow(Wire, frozen=True):
    """What was witnessed in a window of heights, both ends included."""

    from_height: int
    to_height: int


class Evidence(Wire, frozen=True):
    """Signed heartbeats (newest per node) and settled receipts whose heights lie in the window."""

    heartbeats: tuple[bytes, ...]  # `Attested` bytes of a `Heartbeat`
    receipts: tuple[bytes, ...]  # `Attested` bytes of a `SettledReceipt`, every signature held
    nodes: tuple[bytes, ...]  # `Attested` bytes of the `NodeInfo` of each node that has a heartbeat here


_DID = Did("did:dux:" + "a" * 52)
_OTHER = Did("did:dux:" + "b" * 52)
_CID = Hash32(b"\x01" * 32)
_VIEW = NodeView(
    node_id=_DID,
    wallet_address="FQnpM8DGSvHNSL6Q3iUaF6GkmCZsnyGRDm",
    ip_address="192.168.1.100",
    port=32570,
    capabilities=("api_hosting", "task_execution"),
    reputation_score=0.85,
    tier=1,
    total_tasks_completed=1250,
    success_rate=0.98,
    last_heartbeat="2026-11-20T12:30:00Z",
    uptime=86400,
    load_average=(0.5, 0.3, 0.2),
    available_memory=4096,
    available_cpu=4,
    memory_usage=65.5,
    disk_usage=45.2,
    hostname="my-node",
    os_version="12",
    duxos_version="1.0.0",
    cpu_cores=8,
    memory_gb=16.0,
    storage_gb=500,
    gpu_enabled=False,
    gpu_model="",
    gpu_seen=False,
    region="",
    cpu_model="AMD EPYC 7763",
    cpu_arch="x86_64",
    cpu_mhz=2450,
    kernel="6.1.0-18-amd64",
    gpu_memory=0,
    tpm="2.0",
    status=NodeStatus.ACTIVE,
    own=True,
    witnessed_uptime=0.98,
    bonded_florins=Florins(10_000_000_000),
    sanction="",
    verified=("cpu", "memory"),
)
_RECEIPT = ReceiptView(
    cid=_CID,
    buyer=_OTHER,
    seller=_DID,
    service_id="mzxw6ytboi4dcmrtgq2tmnzyhe3dqojx",
    price_florins=Florins(1_000_000_000),
    gross_florins=Florins(1_000_000_000),
    tax_florins=Florins(50_000_000),
    txid="ab" * 32,
    height=BlockHeight(812),
    outcome="released",
    state=ReceiptState.SETTLED,
    reason="",
    signed_by=(_DID, _OTHER),
    cursor=7,
    signed=(),
)
_REPUTATION = Reputation(
    node_id=_DID,
    score=0.916666,
    score_ppm=916_666,
    standing_milli=3_171,
    weight_florins=Florins(45_833_300),
    good_florins=Florins(50_000_000),
    bad_florins=Florins(0),
    tier=1,
    trade_tier=1,
    duty_tier=1,
    duties=("probe",),
    sanctions=(),
    days_witnessed=3,
    days_good=2,
    uptime=0.98,
    probing=0.95,
    jobs_done=1,
    jobs_failed=0,
    activity_florins=Florins(25_000_000),
    at_height=BlockHeight(820),
    evidence=(
        ScoreLine(
            cid=_CID,
            other=_OTHER,
            outcome="released",
            height=BlockHeight(812),
            age_days=0,
            good_florins=Florins(50_000_000),
            bad_florins=Florins(0),
        ),
    ),
)

NODE_REGISTER = Method(
    name="node.register",
    params=RegisterNode,
    result=NodeView,
    summary="Register this node and announce it to the network.",
    callers=("cli", "module"),
    example=(
        RegisterNode(request_id="reg-1", wallet_address=_VIEW.wallet_address, cpu_cores=8, memory_mb=16384),
        _VIEW,
    ),
    raises=(NotOwnNode, BadNode, NotPaidAnywhere),
    once=True,
)
NODE_SELF = Method(
    name="node.self",
    params=Empty,
    result=NodeView,
    summary="This node as others see it.",
    callers=callers_of("registryd"),
    example=(Empty(), _VIEW),
    raises=(NotRegistered,),
)
NODE_SHOW = Method(
    name="node.show",
    params=NodeName,
    result=NodeView,
    summary="One node; asked for in the DHT when it is not known here.",
    callers=callers_of("registryd"),
    example=(NodeName(node_id=_DID), _VIEW),
    raises=(NotFound,),
)
NODE_LIST = Method(
    name="node.list",
    params=ListNodes,
    result=NodeList,
    summary="Known nodes that meet every filter, best reputation first.",
    callers=callers_of("registryd"),
    example=(ListNodes(min_cpu=4, min_memory_mb=8192, min_reputation=0.7), NodeList(nodes=(_VIEW,), total=1)),
)
NODE_UPDATE_HEALTH = Method(
    name="node.update_health",
    params=UpdateHealth,
    result=NodeView,
    summary="Put this node's load into a heartbeat now.",
    callers=("cli", "module"),
    example=(UpdateHealth(request_id="health-1", load_average=0.5, memory_usage=65.5, disk_usage=45.2), _VIEW),
    raises=(NotOwnNode, NotRegistered, NoTip),
    once=True,
)
NODE_DEREGISTER = Method(
    name="node.deregister",
    params=Deregister,
    result=Done,
    summary="Take this node off the list, here and in the network.",
    callers=("cli", "module"),
    example=(Deregister(request_id="dereg-1"), Done()),
    raises=(NotOwnNode, NotRegistered),
    once=True,
)
NODE_CAPABILITIES = Method(
    name="node.capabilities",
    params=Empty,
    result=Capabilities,
    summary="Which active nodes offer what.",
    callers=callers_of("registryd"),
    example=(Empty(), Capabilities(capabilities={"task_execution": (_DID,)})),
)
NODE_FIND = Method(
    name="node.find",
    params=FindNodes,
    result=NodeList,
    summary="Nodes that offer all of these capabilities: active ones known here, and those in the index of the DHT.",
    callers=callers_of("registryd"),
    example=(FindNodes(capabilities=("task_execution",)), NodeList(nodes=(_VIEW,), total=1)),
)
REGISTRY_STATUS = Method(
    name="registry.status",
    params=Empty,
    result=RegistryStatus,
    summary="How many nodes and receipts this registry holds, and in which state.",
    callers=callers_of("registryd"),
    example=(
        Empty(),
        RegistryStatus(
            own_node_id=_DID,
            registered=True,
            tip_height=BlockHeight(820),
            nodes={"active": 3},
            receipts={"settled": 1},
        ),
    ),
)
REPUTATION_GET = Method(
    name="reputation.get",
    params=NodeName,
    result=Reputation,
    summary="A node's standing, with the receipts that it comes from.",
    callers=callers_of("registryd"),
    example=(NodeName(node_id=_DID), _REPUTATION),
)
REPUTATION_OPINION = Method(
    name="reputation.opinion",
    params=AskOpinion,
    result=Opinion,
    summary="Ask another node for its score of a node; the evidence it shows is checked here like any other.",
    callers=("cli", "module", "taskd"),
    deadline_max_s=120.0,
    example=(
        AskOpinion(of=_DID, peer=_OTHER),
        Opinion(
            score=0.9,
            standing_milli=3_100,
            at_height=BlockHeight(820),
            receipts=4,
            new_receipts=1,
            notes=0,
            own_score=0.9,
            own_standing_milli=3_100,
            agrees=True,
            reason="",
        ),
    ),
)
REPUTATION_SUBMIT = Method(
    name="reputation.submit",
    params=SubmitReceipt,
    result=ReceiptVerdict,
    summary="Hand in a signed receipt: it is checked on the chain, counted, and told to the network.",
    callers=PEOPLE_AND_UP,
    example=(
        SubmitReceipt(request_id="receipt-1", receipt=b"\x94"),
        ReceiptVerdict(cid=_CID, state=ReceiptState.SETTLED, reason=""),
    ),
    raises=(BadReceipt, ReceiptNotTaken),
    once=True,
)
RECEIPT_SHOW = Method(
    name="receipt.show",
    params=ContractName,
    result=ReceiptView,
    summary="What is known of one contract's end.",
    callers=callers_of("registryd"),
    example=(ContractName(cid=_CID), _RECEIPT),
    raises=(NotFound,),
)
RECEIPTS_SINCE = Method(
    name="receipts.since",
    params=ReceiptsSince,
    result=ReceiptList,
    summary="Receipts in the order this node settled them.",
    callers=callers_of("registryd"),
    example=(ReceiptsSince(from_height=800), ReceiptList(receipts=(_RECEIPT,), next_cursor=7)),
)
EVIDENCE_WINDOW = Method(
    name="evidence.window",
    params=EvidenceWindow,
    result=Evidence,
    summary="Signed heartbeats and settled receipts of a window of heights.",
    callers=("airdropd", "cli", "module"),
    example=(EvidenceWindow(from_height=700, to_height=820), Evidence(heartbeats=(), receipts=(), nodes=())),
)
REGISTRY_EVENTS = events_method("registry", callers_of("registryd"))
# NodeRegistered {node_id}, NodeChanged {node_id, status}, NodeWithdrawn {node_id}, NodeForgotten {node_id}
# NodeSanctioned {node_id, state, reason, set_by}, NodeFreed {node_id}, FaultProven {node_id, claim}

__all__ = [  # of the files beside this one
    "AUDIT_LIST",
    "AUDIT_REQUEST",
    "AUDIT_SHOW",
    "AUDIT_VERDICT",
    "CLAIMS_ATTEST",
    "CLAIMS_DISCLOSE",
    "CLAIMS_ISSUERS",
    "CLAIMS_LIST",
    "CLAIMS_VERIFY",
    "EVIDENCE_SEEN",
    "FAULTS",
    "FAULT_REPORT",
    "MACHINE_BUSY",
    "MACHINE_SHOW",
    "NODE_BAN",
    "NODE_SANCTIONS",
    "NODE_UNBAN",
    "PRESENCE_SHOW",
    "SERVICE_HAD",
    "SERVICE_LIST",
    "TOPOLOGY_SHOW",
]
