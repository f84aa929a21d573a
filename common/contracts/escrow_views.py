"""What escrowd shows of a contract and tells about it: views and events, shared by all who read them.

Promise: an event says what happened, once, in the order in which it was decided; a view is the state at the moment of
asking. Amounts are gross unless the name says otherwise. This module knows shapes only; escrowd decides.

Source: settled.md 10 and 30; escrow_protocol.md §8.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import field

from common.codec import Wire, from_plain
from common.contracts.base import EventView
from common.errors import BadParams
from common.receipts import Outcome
from common.units import Did, Florins


class Status(StrEnum):
    """The names that callers see; each is a view on the protocol's states (`STATUS_OF`)."""

    CREATED = "CREATED"
    FUNDED = "FUNDED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    DISPUTED = "DISPUTED"
    RELEASED = "RELEASED"
    REFUNDED = "REFUNDED"
    CANCELLED = "CANCELLED"


STATUS_OF: dict[str, Status] = {
    "DRAFT": Status.CREATED,
    "DRAWING": Status.CREATED,
    "AGREED": Status.CREATED,
    "FUNDED_SEEN": Status.CREATED,
    "FUNDED": Status.FUNDED,  # IN_PROGRESS once the seller has said START
    "DELIVERED": Status.COMPLETED,
    "REVEALED": Status.COMPLETED,
    "RELEASE_SENT": Status.COMPLETED,
    "RELEASE_SIGNED": Status.COMPLETED,
    "CANCEL_SIGNED": Status.CANCELLED,
    "DISPUTED": Status.DISPUTED,
    "ANSWERED": Status.DISPUTED,
    "AWARD_SIGNED": Status.DISPUTED,
    "REFUND_SENT": Status.REFUNDED,
    "RELEASE_SEEN": Status.RELEASED,
    "AWARD_SEEN": Status.RELEASED,  # REFUNDED when the award pays the seller nothing
    "CANCEL_SEEN": Status.CANCELLED,
    "REFUND_SEEN": Status.REFUNDED,
    "STRAY": Status.CREATED,
    "VOID": Status.CANCELLED,
}
STATUS_OF_OUTCOME: dict[Outcome, Status] = {
    Outcome.RELEASED: Status.RELEASED,
    Outcome.AWARDED: Status.RELEASED,
    Outcome.REFUNDED: Status.REFUNDED,
    Outcome.CANCELLED: Status.CANCELLED,
}


def status_of(state: str, *, started: bool, outcome: Outcome | None, gross_florins: int) -> Status:
    """The one name a caller sees for a state; what was paid decides how an award reads."""
    if outcome is Outcome.AWARDED and gross_florins == 0:
        return Status.REFUNDED
    if outcome is not None:
        return STATUS_OF_OUTCOME[outcome]
    if state == "FUNDED" and started:
        return Status.IN_PROGRESS
    return STATUS_OF[state]


class Settlement(Wire, frozen=True):
    """How a lot's coin was spent; `height` is None while unconfirmed. Amounts are read from the chain's outputs."""

    outcome: Outcome
    gross_florins: Florins
    provider_florins: Florins
    fund_florins: Florins
    fee_florins: Florins
    txid: str
    height: int | None


class HeightsView(Wire, frozen=True):
    """The contract's heights; `timeout` is T, from which the buyer alone may take what is left."""

    start: int
    fund_by: int
    deliver_by: int
    dispute_by: int
    answer_by: int
    commit_by: int
    reveal_by: int
    vote_by: int
    timeout: int


class ContractView(Wire, frozen=True):
    """One contract as this node sees it."""

    contract_id: str
    cid: str | None  # hash of the full contract, hex; None before all keys are known
    role: str  # buyer, seller or arbiter
    status: Status
    state: str  # the protocol's own name
    buyer: Did
    seller: Did
    arbiters: tuple[Did, ...]
    arbiters_needed: int
    service_id: str
    job_hash: bytes
    price_florins: Florins
    locked_florins: Florins  # price and the arbiters' reserve
    policy: str
    heights: HeightsView | None
    address: str | None
    outpoint: str | None
    settlement: Settlement | None
    disputed_by: Did | None
    reason: str
    created_ms: int
    series: str = ""  # hex; empty: one lot alone
    stage: int = 0  # from 0
    stages: int = 1
    bond: bool = False  # the seller's bond lot: its «buyer» sells the work
    developer: str = ""  # DID of who is paid a royalty; empty: nobody
    royalty_bps: int = 0
    part_florins: Florins | None = None  # seller: what the buyer offers to end with
    result_lock: bool = True  # the result's key is bought; False: the buyer reads the result before it pays
    swap_limit_florins: Florins = field(default_factory=Florins)  # policy swap: most that is paid before it is seen
    struck: tuple[Did, ...] = ()  # arbiters that the seller did not want, at buyer and seller
    copies_kept: int | None = None  # how many nodes keep its newest encrypted copy; None: none was sent since the start
    copies_wanted: int = 0  # how many are to keep it


class OfferReceived(Wire, frozen=True):
    """Seller: a buyer asks for a quote; answer with escrow.quote."""

    contract_id: str
    buyer: Did
    service_id: str
    job: bytes
    job_hash: bytes
    price_florins: Florins
    deliver_blocks: int


class JobReturned(Wire, frozen=True):
    """Seller: a contract came back from its copies with work that is not delivered; taskd's own disk is gone, too.

    `begun`: to be worked at now; else it waits for Funded. `blocks_left`: until the last height at which a delivery
    counts.
    """

    contract_id: str
    buyer: Did
    service_id: str
    job: bytes
    job_hash: bytes
    price_florins: Florins
    deliver_blocks: int
    begun: bool
    blocks_left: int


class QuoteRefused(Wire, frozen=True):
    """Buyer: there will be no contract; nothing was locked."""

    contract_id: str
    reason: str


class Agreed(Wire, frozen=True):
    """All have signed READY; the buyer's wallet funds the contract next."""

    contract_id: str
    cid: str
    address: str


class Funded(Wire, frozen=True):
    """The coin lies deep enough; seller: run the job now (START has been said for you)."""

    contract_id: str
    cid: str
    buyer: Did
    service_id: str
    job: bytes
    outpoint: str
    deliver_by: int


class FundingFailed(Wire, frozen=True):
    """Buyer: the wallet refused to fund the contract; it ends by itself at fund_by."""

    contract_id: str
    reason: str


class Started(Wire, frozen=True):
    """The seller has said START."""

    contract_id: str


class Paused(Wire, frozen=True):
    """The funding left the chain (a reorganisation); work waits until it is back."""

    contract_id: str


class Delivered(Wire, frozen=True):
    """The encrypted result is there; its key comes with KeyRevealed."""

    contract_id: str
    ciphertext_blob: str
    output_commitment: bytes
    work_receipt: bytes
    holders: tuple[Did, ...]


class KeyRevealed(Wire, frozen=True):
    """Buyer: the content key of the result; check it, then escrow.judge."""

    contract_id: str
    content_key: bytes


class CancelAsked(Wire, frozen=True):
    """Seller: the buyer would rather end before delivery; escrow.cancel agrees, silence goes on."""

    contract_id: str


class ArbitersSilent(Wire, frozen=True):
    """Seller: at START fewer than k arbiters gave a sign of life; escrow.cancel gives all back, silence goes on."""

    contract_id: str


class PartOffered(Wire, frozen=True):
    """Seller: the buyer would end with this part of the price; escrow.take_part takes it, silence goes on."""

    contract_id: str
    gross_florins: Florins


class Disputed(Wire, frozen=True):
    """One side asked the arbiters; the other side's answer is given by escrowd itself.

    `too_late`: the time to deliver was over, and nothing had been delivered.
    """

    contract_id: str
    by: Did
    reason: str
    too_late: bool = False


class CaseOpened(Wire, frozen=True):
    """Arbiter: decide what the seller has earned, then escrow.vote. `content_key` is None if no key was shown.

    `receipts`: what the seller says was promised, to keep the ciphertext until `keep_until`; not verified here.
    """

    contract_id: str
    buyer: Did
    seller: Did
    service_id: str
    job: bytes
    price_florins: Florins
    reason: str
    ciphertext_blob: str | None
    output_commitment: bytes
    content_key: bytes | None
    work_receipt: bytes
    holders: tuple[Did, ...]
    evidence: tuple[bytes, ...]
    vote_before_height: int
    receipts: tuple[bytes, ...] = ()
    keep_until: int = 0
    arbiters: tuple[Did, ...] = ()


class CaseDue(Wire, frozen=True):
    """A reminder: something waits for this node's person, and few blocks are left (`duxnet cases`)."""

    contract_id: str
    what: str
    due: int
    otherwise: str
    commands: tuple[str, ...]


class Voided(Wire, frozen=True):
    """The contract was not funded in time, or not agreed; nothing is locked."""

    contract_id: str


class Settled(Wire, frozen=True):
    """A spend of the coin was seen (`settlement.height` None: not yet in a block)."""

    contract_id: str
    settlement: Settlement


class Closed(Wire, frozen=True):
    """The spend lies deep enough to rest on: receipts and books may follow."""

    contract_id: str
    cid: str
    role: str
    buyer: Did
    seller: Did
    service_id: str
    price_florins: Florins
    settlement: Settlement
    output_commitment: bytes
    voted: tuple[Did, ...] = ()  # the arbiters whose opened votes made the award, if that was the way out


class Reopened(Wire, frozen=True):
    """A reorganisation took the spend back; what was booked on it is void until the next Closed."""

    contract_id: str


class FaultProven(Wire, frozen=True):
    """Somebody signed two statements with one number; the two together are the proof."""

    contract_id: str
    signer: Did
    first: bytes
    second: bytes


EscrowEvent = (
    OfferReceived
    | JobReturned
    | QuoteRefused
    | Agreed
    | Funded
    | FundingFailed
    | Started
    | Paused
    | Delivered
    | KeyRevealed
    | CancelAsked
    | ArbitersSilent
    | PartOffered
    | Disputed
    | CaseOpened
    | CaseDue
    | Voided
    | Settled
    | Closed
    | Reopened
    | FaultProven
)


EVENTS: dict[str, type[Wire]] = {kind.__name__: kind for kind in EscrowEvent.__args__}


def read_event(event: EventView) -> EscrowEvent:
    """The typed event in one line of `escrow.events`.

    Raises:
        BadParams: a kind that this version does not know, or fields that do not fit.
    """
    if event.kind not in EVENTS:
        raise BadParams(detail=f"escrow event {event.kind!r} is not known to this version")
    body: EscrowEvent = from_plain(event.body, EVENTS[event.kind])  # type: ignore[assignment]
    return body


class AuditLine(Wire, frozen=True):
    """One line of the hash-chained log."""

    number: int
    at_ms: int
    kind: str
    body: bytes
    hash: bytes


class FundMovement(Wire, frozen=True):
    """A coin that came to the fund or left it."""

    outpoint: str
    value_florins: Florins
    height: int | None
    spent_by: str | None
    spent_height: int | None
