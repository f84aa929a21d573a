"""The nouns of taskd: tasks and their contracts (buyer), assignments (seller), cases (arbiter); facts and orders.

Frozen, no logic beyond reading. A `Leg` is one contract of a task: the job itself or a second worker's check of it.
Facts are past tense, orders imperative; both are written to the store as they stand.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from common.codec import Wire
from common.contracts.escrow import SeriesWish
from common.contracts.escrow_views import Settlement
from common.units import Did, Florins


class LegKind(StrEnum):
    """What a contract of a task is for."""

    MAIN = "main"
    CHECK = "check"


class LegState(StrEnum):
    """Where one contract stands, as far as the buyer's taskd cares."""

    NEW = "new"  # to be proposed; perhaps proposed already (did the answer get here?)
    PROPOSED = "proposed"
    AGREED = "agreed"
    RUNNING = "running"  # funded: the worker works
    DELIVERED = "delivered"  # the commitment is fixed, the key not shown yet
    REVEALED = "revealed"  # the key is here: fetch, open, check
    OPENED = "opened"  # decrypted, commitment and receipt hold
    FAULTY = "faulty"  # the key is here and what it opens is not what was promised
    CLOSED = "closed"  # the coin is spent for good
    DEAD = "dead"  # no contract came about; nothing was locked


class Plan(Wire, frozen=True):
    """A contract that may be proposed."""

    kind: LegKind
    service_id: str
    worker: Did
    price_florins: Florins
    job: bytes  # canonical JobSpec
    developer: str = ""  # who is paid a royalty of the provider's part
    royalty_bps: int = 0
    result_lock: bool = True  # the service's: its results are sold by their keys


class Leg(Wire, frozen=True):
    """One contract of a task."""

    number: int
    plan: Plan
    state: LegState = LegState.NEW
    contract_id: str = ""
    ciphertext_blob: str = ""
    commitment: bytes = b""
    work_receipt: bytes = b""
    holders: tuple[Did, ...] = ()
    content_key: bytes = b""
    output_hash: bytes = b""
    output_blob: str = ""
    good: bool | None = None  # the judgement given
    disputed: bool = False
    cancel_asked: bool = False
    open_asked: bool = False
    faulty: bool = False
    settlement: Settlement | None = None
    reason: str = ""


class ReRun(Wire, frozen=True):
    """What this node itself got for the job; an empty hash: it could not run it."""

    output_hash: bytes
    reason: str


class Task(Wire, frozen=True):
    """One thing bought."""

    task_id: str
    buyer: Did
    arbiters: tuple[Did, ...]
    deliver_blocks: int
    created_ms: int
    legs: tuple[Leg, ...] = ()
    spare: tuple[Plan, ...] = ()  # tried next, in order, main and check apart
    rerun_asked: bool = False
    rerun: ReRun | None = None
    cancelled: bool = False  # the owner asked for the end
    stages_id: str = ""  # of the purchase in stages that it is one of
    stage: int = 0
    lots: SeriesWish | None = None  # its place among stages that are funded together
    policy: Literal["standby", "swap"] = "standby"  # of the contract for the job; a check's is standby
    swap_limit_florins: Florins = Florins(0)  # most that is paid before the result is seen
    reason: str = ""  # of the last turn worth telling


# Facts of a buyer's task.


class Proposed(Wire, frozen=True, tag=True):
    """escrowd took the proposal."""

    leg: int
    contract_id: str


class Refused(Wire, frozen=True, tag=True):
    """No contract: escrowd or the worker said no, or it was not funded in time."""

    leg: int
    reason: str


class Advanced(Wire, frozen=True, tag=True):
    """The contract went on to AGREED or RUNNING (or back to AGREED, when a reorganisation took the funding)."""

    leg: int
    state: LegState


class Delivered(Wire, frozen=True, tag=True):
    """The worker is bound to its output."""

    leg: int
    ciphertext_blob: str
    commitment: bytes
    work_receipt: bytes
    holders: tuple[Did, ...]


class KeyShown(Wire, frozen=True, tag=True):
    """The key of the result is here."""

    leg: int
    content_key: bytes


class Opened(Wire, frozen=True, tag=True):
    """The result was fetched and decrypted; commitment and receipt hold."""

    leg: int
    output_hash: bytes
    output_blob: str


class FoundFaulty(Wire, frozen=True, tag=True):
    """What the key opens is not what was promised."""

    leg: int
    reason: str


class RanAgain(Wire, frozen=True, tag=True):
    """This node ran the job itself, or could not."""

    rerun: ReRun


class DisputeSeen(Wire, frozen=True, tag=True):
    """The arbiters were asked, by either side."""

    leg: int
    reason: str


class SpendSeen(Wire, frozen=True, tag=True):
    """How the coin is being spent; `closed`: for good. None: a reorganisation took the spend back."""

    leg: int
    settlement: Settlement | None
    closed: bool


class CancelWanted(Wire, frozen=True, tag=True):
    """The owner would rather end."""


Fact = (
    Proposed
    | Refused
    | Advanced
    | Delivered
    | KeyShown
    | Opened
    | FoundFaulty
    | RanAgain
    | DisputeSeen
    | SpendSeen
    | CancelWanted
)


# Orders of all roles. Each names what it is about; everything else is looked up when it is performed.


class Propose(Wire, frozen=True, tag=True):
    """Buyer: propose this leg's contract."""

    task_id: str
    leg: int


class OpenResult(Wire, frozen=True, tag=True):
    """Buyer: fetch, decrypt and verify this leg's result."""

    task_id: str
    leg: int


class RunAgain(Wire, frozen=True, tag=True):
    """Buyer: run the job here, to know who is right."""

    task_id: str


class JudgeLeg(Wire, frozen=True, tag=True):
    """Buyer: tell escrowd good or bad."""

    task_id: str
    leg: int
    good: bool
    reason: str
    evidence: bytes


class CancelLeg(Wire, frozen=True, tag=True):
    """Buyer: ask to end this contract before delivery."""

    task_id: str
    leg: int


class Consider(Wire, frozen=True, tag=True):
    """Seller: decide on an offer."""

    contract_id: str


class GiveQuote(Wire, frozen=True, tag=True):
    """Seller: say what was decided."""

    contract_id: str
    accept: bool
    reason: str


class HandOver(Wire, frozen=True, tag=True):
    """Seller: have copies kept, then deliver."""

    contract_id: str


class GiveBack(Wire, frozen=True, tag=True):
    """Seller: end the contract, all coins to the buyer."""

    contract_id: str


class CastVote(Wire, frozen=True, tag=True):
    """Arbiter: say what was decided."""

    contract_id: str
    gross_florins: Florins
    reason: str


class SignReceipt(Wire, frozen=True, tag=True):
    """Any role: sign how the contract ended and hand it to the registry."""

    contract_id: str
    cid: str
    buyer: Did
    seller: Did
    service_id: str
    price_florins: Florins
    settlement: Settlement
    output_hash: bytes
    at_ms: int
    role: str
    voted: tuple[Did, ...] = ()  # arbiters whose votes made the award: they have served this party


BuyerOrder = Propose | OpenResult | RunAgain | JudgeLeg | CancelLeg
Order = BuyerOrder | Consider | GiveQuote | HandOver | GiveBack | CastVote | SignReceipt


class JobState(StrEnum):
    """Where a seller's assignment stands."""

    OFFERED = "offered"  # not decided yet
    QUOTED = "quoted"
    REFUSED = "refused"
    WORKING = "working"  # funded: to be run, or running
    PAUSED = "paused"  # the funding left the chain
    SEALED = "sealed"  # the result is encrypted and kept; to be handed over, or handed over
    GIVEN_BACK = "given-back"
    CLOSED = "closed"


class Assignment(Wire, frozen=True):
    """One job of a buyer, at its seller or checker."""

    contract_id: str
    buyer: Did
    service_id: str
    job: bytes
    job_hash: bytes
    price_florins: Florins
    deliver_blocks: int
    created_ms: int
    state: JobState = JobState.OFFERED
    attempts: int = 0
    progress_permille: int = 0
    ciphertext_blob: str = ""
    commitment: bytes = b""
    work_receipt: bytes = b""
    output_hash: bytes = b""
    settlement: Settlement | None = None
    reason: str = ""


class CaseState(StrEnum):
    """Where an arbiter's case stands."""

    OPEN = "open"  # to be decided
    VOTED = "voted"
    CLOSED = "closed"  # settled before a vote, or after it


class Case(Wire, frozen=True):
    """One dispute that this node decides."""

    contract_id: str
    buyer: Did
    seller: Did
    service_id: str
    job: bytes
    price_florins: Florins
    ciphertext_blob: str
    commitment: bytes
    content_key: bytes
    work_receipt: bytes
    holders: tuple[Did, ...]
    created_ms: int
    vote_before: int = 0  # height by which the vote must be committed
    receipts: tuple[bytes, ...] = ()  # storage receipts that came with the delivery, as they were said
    keep_until: int = 0  # height until which they have to hold
    stores: tuple[Did, ...] = ()  # whose receipts count: the contract's other nodes
    state: CaseState = CaseState.OPEN
    attempts: int = 0  # own runs that broke
    gross_florins: Florins = Florins(0)
    settlement: Settlement | None = None
    reason: str = ""
