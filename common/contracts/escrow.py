"""What escrowd answers: agreement, delivery, judgement, disputes and the fund's books, for taskd, airdropd and people.

Every method that moves state carries a `request_id`; asking again gets the first answer. Nothing here moves coins by
itself: escrowd decides by its table and flopd signs only what it rebuilds.
Source: escrow_protocol.md, settled.md 2, 4, 20 and 30.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from common.chain.heights import DELIVER_BLOCKS_MAX
from common.codec import Wire
from common.contracts.base import events_method
from common.contracts.channel import ADMIT as CHANNEL_ADMIT
from common.contracts.channel import CHUNK as CHANNEL_CHUNK
from common.contracts.channel import CLOSE as CHANNEL_CLOSE
from common.contracts.channel import FINISH as CHANNEL_FINISH
from common.contracts.channel import FUEL as CHANNEL_FUEL
from common.contracts.channel import LIST as CHANNEL_LIST
from common.contracts.channel import MAKE_OFFER as CHANNEL_MAKE_OFFER
from common.contracts.channel import OPEN as CHANNEL_OPEN
from common.contracts.channel import PAY as CHANNEL_PAY
from common.contracts.channel import RECOVER as CHANNEL_RECOVER
from common.contracts.channel import RECOVER_FROM as CHANNEL_RECOVER_FROM
from common.contracts.channel import REFUND as CHANNEL_REFUND
from common.contracts.channel import REFUSED as CHANNEL_REFUSED
from common.contracts.channel import RULES as CHANNEL_RULES
from common.contracts.channel import SETTLED as CHANNEL_SETTLED
from common.contracts.channel import SHOW as CHANNEL_SHOW
from common.contracts.channel import STILL_AT_WORK as CHANNEL_AT_WORK
from common.contracts.channel import TOP_UP as CHANNEL_TOP_UP
from common.contracts.channel_carried import BROUGHT as CHANNEL_BROUGHT
from common.contracts.channel_carried import CARRIED as CHANNEL_CARRIED
from common.contracts.channel_carried import ERRANDS as CHANNEL_ERRANDS
from common.contracts.channel_restore import CHANNEL_RESTORE
from common.contracts.escrow_base import ContractId, ContractRef, IdStart, NotYours, Refused, WrongPhase
from common.contracts.escrow_cases import CASE_FILE, CASES, EVIDENCE
from common.contracts.escrow_late import LATE_OK
from common.contracts.escrow_restore import RECOVER, RESTORE
from common.contracts.escrow_royalties import ROYALTIES, ROYALTY_PAID, ROYALTY_PAY
from common.contracts.escrow_views import AuditLine, ContractView, FundMovement, HeightsView, Settlement, Status
from common.errors import CallerMistake, NotNow, PeerMisbehaved
from common.receipts import Outcome
from common.rpc.method import PEOPLE, Method, callers_of
from common.units import FLOP, Did, Florins

JOB_BYTES_MAX = 32_768  # a job names its package and input by blob ids; bulk data never stands in it
EVIDENCE_BYTES_MAX = 8_192
WORK_RECEIPT_BYTES_MAX = 1_024  # it travels inside the statement DELIVERED
REASON_CHARS_MAX = 500

RequestId = Annotated[str, Meta(min_length=1, max_length=128)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
Blob = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Reason = Annotated[str, Meta(max_length=REASON_CHARS_MAX)]
TASKD = ("taskd", *PEOPLE)
READERS = ("taskd", "airdropd", *PEOPLE)


class BadTerms(CallerMistake):
    """These terms cannot be entered: {reason}."""

    code = 3004
    key = "bad-terms"


class NoKeyYet(NotNow):
    """The seller of contract {contract_id} has not shown the result's key; wait for KeyRevealed."""

    code = 3005
    key = "no-key-yet"


class TooManyOpen(NotNow):
    """{did} has {open_contracts} contracts open and unfunded, {limit} are allowed: fund or wait."""

    code = 3006
    key = "too-many-open"


class NodeFull(NotNow):
    """This node has {limit} contracts of all buyers open and unfunded: ask again later, or another node."""

    code = 3014
    key = "node-full"


class BadStatement(PeerMisbehaved):
    """A statement of contract {contract_id} does not hold: {reason}."""

    code = 3007
    key = "bad-statement"


class BadReceipt(CallerMistake):
    """A storage receipt for contract {contract_id}, of {holder}, does not count: {reason}. Deliver without it."""

    code = 3019
    key = "bad-storage-receipt"


class TermsDiffer(PeerMisbehaved):
    """The other side's terms of contract {contract_id} are not those agreed: {reason}."""

    code = 3009
    key = "terms-differ"


class PeerNotReady(NotNow):
    """{did} cannot take {method} yet ({detail}); it is sent again."""

    code = 3010
    key = "peer-not-ready"


class NotKnownYet(NotNow):
    """This node has not got contract {contract_id} yet; send it again in a moment."""

    code = 3011
    key = "not-known-yet"


class StaleTip(NotNow):
    """The newest block known (height {height}) is too old to decide on; it goes on when the chain view is fresh."""

    code = 3012
    key = "stale-tip"


class OfferOver(CallerMistake):
    """The offer of contract {contract_id} is {state}: it ran out or was answered, nothing is left to quote."""

    code = 3013
    key = "offer-over"
    http_status = 409


class SeriesWish(Wire, frozen=True, kw_only=True):
    """This lot is one of several: all are funded at once, each begins when the one before is paid.

    `series`: 32 bytes that the buyer has drawn, the same for all. `begins_blocks`: from fund_by to where a later stage
    has to begin, which is where the one before has to be delivered; 0 for the first. `bonded`: the seller has to lock a
    bond first, which pays the arbiters if it loses.
    """

    series: Hash
    number: Annotated[int, Meta(ge=0, lt=8)] = 0
    count: Annotated[int, Meta(ge=1, le=8)] = 1
    begins_blocks: Annotated[int, Meta(ge=0, le=100_000)] = 0
    bonded: bool = False


class RoyaltyWish(Wire, frozen=True, kw_only=True):
    """The service's developer is paid this share of the provider's part (settled.md 29)."""

    developer: Did
    payout_script: Annotated[bytes, Meta(max_length=64)]
    bps: Annotated[int, Meta(gt=0, le=5_000)]


class Propose(Wire, frozen=True, kw_only=True):
    """Buyer: ask `seller` for this job at this price. `arbiters`: asked in this order, at least as many as seats."""

    request_id: RequestId
    seller: Did
    service_id: Annotated[str, Meta(max_length=128)]
    job: Annotated[bytes, Meta(max_length=JOB_BYTES_MAX)]
    job_hash: Hash
    price_florins: Florins
    arbiters: tuple[Did, ...]
    arbiters_needed: int = 2
    deliver_blocks: Annotated[int, Meta(ge=1, le=DELIVER_BLOCKS_MAX)]
    result_lock: bool = True  # script E+h: the result's key is bought; False for work whose result cannot be withheld
    policy: Literal["standby", "swap"] = "standby"
    # 2.5 FLOP: most that is paid before the result is seen
    swap_limit_florins: Florins = field(default_factory=lambda: Florins(250_000_000))
    lots: SeriesWish | None = None  # None: one lot alone
    royalty: RoyaltyWish | None = None


class Quote(Wire, frozen=True):
    """Seller: take or leave an offer."""

    request_id: RequestId
    contract_id: ContractId
    accept: bool
    reason: Reason


class Deliver(Wire, frozen=True):
    """Seller: the result, encrypted under the content key, lies at these holders."""

    request_id: RequestId
    contract_id: ContractId
    ciphertext_blob: Blob
    output_commitment: Hash
    receipts: Annotated[tuple[bytes, ...], Meta(max_length=4)]  # signed storage receipts, at most 512 bytes each
    holders: Annotated[tuple[Did, ...], Meta(max_length=8)]
    work_receipt: Annotated[bytes, Meta(max_length=WORK_RECEIPT_BYTES_MAX)]


class ContentKey(Wire, frozen=True):
    """32 bytes: HKDF(K ‖ r)."""

    content_key: bytes


class Judge(Wire, frozen=True):
    """Buyer: the result was checked. Good pays; bad asks the arbiters."""

    request_id: RequestId
    contract_id: ContractId
    good: bool
    reason: Reason
    evidence: Annotated[bytes, Meta(max_length=EVIDENCE_BYTES_MAX)]


class PayPart(Wire, frozen=True):
    """Buyer: sign a release of a part; it pays when the seller takes it, and binds the buyer to no less."""

    request_id: RequestId
    contract_id: ContractId
    gross_florins: Florins


class TakePart(Wire, frozen=True):
    """Seller: take the part that the buyer has offered, named again so that nothing else is taken."""

    request_id: RequestId
    contract_id: ContractId
    gross_florins: Florins


class Confirm(Wire, frozen=True):
    """Buyer: other workers found the same output hash, so paying first is safe."""

    request_id: RequestId
    contract_id: ContractId


class Dispute(Wire, frozen=True):
    """Buyer or seller: ask the arbiters now instead of at the automatic height."""

    request_id: RequestId
    contract_id: ContractId
    reason: Reason


class Cancel(Wire, frozen=True):
    """Buyer: ask to end before the work starts; seller: give everything back, possible before delivery."""

    request_id: RequestId
    contract_id: ContractId


class Vote(Wire, frozen=True):
    """Arbiter: what the seller has earned, from 0 to the price (0, or at least 0.2 FLOP)."""

    request_id: RequestId
    contract_id: ContractId
    gross_florins: Florins
    reason: Reason


class ListContracts(Wire, frozen=True):
    """Newest first; `status` and how the id begins narrow, `before` is the contract_id to go on after."""

    status: Status | None = None
    before: ContractId | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    start: IdStart = ""


class ContractList(Wire, frozen=True):
    """Contracts of this node."""

    contracts: tuple[ContractView, ...]


class AuditRead(Wire, frozen=True):
    """Lines after `number`."""

    after: int = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class AuditPage(Wire, frozen=True):
    """Lines of the log, each following from the one before; `signature` is p2pd's over the last hash of the log."""

    lines: tuple[AuditLine, ...]
    last_number: int
    last_hash: bytes
    replayed: bool  # every contract's state was recomputed from the logged facts and is the stored one
    did: Did
    key_seq: int
    signature: bytes


class Explanation(Wire, frozen=True):
    """Why the contract stands where it stands, and what happens next, in sentences."""

    contract_id: ContractId
    lines: tuple[str, ...]


class FundStatusParams(Wire, frozen=True):
    """How many of the newest movements to show."""

    movements: Annotated[int, Meta(ge=0, le=1000)] = 100


class FundStatus(Wire, frozen=True):
    """The community fund as the chain shows it."""

    address: str
    threshold: int
    custodians: tuple[Did, ...]
    balance_florins: Florins
    received_florins: Florins
    paid_florins: Florins
    movements: tuple[FundMovement, ...]
    height: int


_ID = "3f" * 32
_ALICE, _BOB, _CAROL = (Did("did:dux:" + letter * 52) for letter in "abc")
_SETTLEMENT = Settlement(
    outcome=Outcome.RELEASED,
    gross_florins=Florins(10 * FLOP),
    provider_florins=Florins(949_000_000),
    fund_florins=Florins(50_000_000),
    fee_florins=Florins(1_000_000),
    txid="ab" * 32,
    height=140,
)
_VIEW = ContractView(
    contract_id=_ID,
    cid="c1" * 32,
    role="buyer",
    status=Status.RELEASED,
    state="CLOSED",
    buyer=_ALICE,
    seller=_BOB,
    arbiters=(_CAROL,),
    arbiters_needed=2,
    service_id="upscale",
    job_hash=b"j" * 32,
    price_florins=Florins(10 * FLOP),
    locked_florins=Florins(1_030_000_000),
    policy="standby",
    heights=HeightsView(
        start=100,
        fund_by=112,
        deliver_by=130,
        dispute_by=136,
        answer_by=148,
        commit_by=156,
        reveal_by=168,
        vote_by=180,
        timeout=196,
    ),
    address="2N…",
    outpoint="ab" * 32 + ":0",
    settlement=_SETTLEMENT,
    disputed_by=None,
    reason="",
    created_ms=1_790_000_000_000,
    series="",
    stage=0,
    stages=1,
    bond=False,
    developer="",
    royalty_bps=0,
    part_florins=None,
)

PROPOSE: Method[Propose, ContractRef] = Method(
    name="escrow.propose",
    params=Propose,
    result=ContractRef,
    summary="Ask a seller for a job at a price; the rest of the agreement follows by itself.",
    callers=TASKD,
    example=(
        Propose(
            request_id="task-1/propose",
            seller=_BOB,
            service_id="upscale",
            job=b"\x90",
            job_hash=b"j" * 32,
            price_florins=Florins(10 * FLOP),
            arbiters=(_CAROL,),
            deliver_blocks=20,
        ),
        ContractRef(contract_id=_ID),
    ),
    raises=(BadTerms,),
    once=True,
)
QUOTE: Method[Quote, ContractRef] = Method(
    name="escrow.quote",
    params=Quote,
    result=ContractRef,
    summary="Seller: take or leave the offer of an OfferReceived event.",
    callers=TASKD,
    example=(
        Quote(request_id="q-1", contract_id=_ID, accept=True, reason=""),
        ContractRef(contract_id=_ID),
    ),
    raises=(NotYours, OfferOver),
    once=True,
)
RESULT_KEY: Method[ContractRef, ContentKey] = Method(
    name="escrow.result_key",
    params=ContractRef,
    result=ContentKey,
    summary="The key that the result is encrypted under: the seller's from the start, the buyer's once it was shown.",
    callers=TASKD,
    example=(ContractRef(contract_id=_ID), ContentKey(content_key=b"k" * 32)),
    raises=(NoKeyYet,),
)
DELIVER: Method[Deliver, ContractRef] = Method(
    name="escrow.deliver",
    params=Deliver,
    result=ContractRef,
    summary="Seller: say where the encrypted result lies.",
    callers=TASKD,
    example=(
        Deliver(
            request_id="d-1",
            contract_id=_ID,
            ciphertext_blob="bb" * 32,
            output_commitment=b"o" * 32,
            receipts=(),
            holders=(_BOB,),
            work_receipt=b"",
        ),
        ContractRef(contract_id=_ID),
    ),
    raises=(NotYours, WrongPhase, Refused, BadReceipt),
    once=True,
)
JUDGE: Method[Judge, ContractRef] = Method(
    name="escrow.judge",
    params=Judge,
    result=ContractRef,
    summary="Buyer: the result is good (pay) or bad (ask the arbiters).",
    callers=TASKD,
    example=(
        Judge(request_id="j-1", contract_id=_ID, good=True, reason="", evidence=b""),
        ContractRef(contract_id=_ID),
    ),
    raises=(NotYours, WrongPhase, Refused),
    once=True,
)
PAY_PART: Method[PayPart, ContractRef] = Method(
    name="escrow.pay_part",
    params=PayPart,
    result=ContractRef,
    summary="Buyer: offer to end with a part of the price; signed, and paid when the seller takes it.",
    callers=TASKD,
    example=(
        PayPart(request_id="p-1", contract_id=_ID, gross_florins=Florins(4 * FLOP)),
        ContractRef(contract_id=_ID),
    ),
    raises=(NotYours, WrongPhase, Refused),
    once=True,
)
TAKE_PART: Method[TakePart, ContractRef] = Method(
    name="escrow.take_part",
    params=TakePart,
    result=ContractRef,
    summary="Seller: take the part of a PartOffered event; it goes to the chain at once.",
    callers=TASKD,
    example=(
        TakePart(request_id="t-1", contract_id=_ID, gross_florins=Florins(4 * FLOP)),
        ContractRef(contract_id=_ID),
    ),
    raises=(NotYours, WrongPhase, Refused),
    once=True,
)
CONFIRM: Method[Confirm, ContractRef] = Method(
    name="escrow.confirm",
    params=Confirm,
    result=ContractRef,
    summary="Buyer: the output's hash was confirmed by other workers; paying before seeing it is safe.",
    callers=TASKD,
    example=(Confirm(request_id="c-1", contract_id=_ID), ContractRef(contract_id=_ID)),
    raises=(NotYours, WrongPhase),
    once=True,
)
DISPUTE: Method[Dispute, ContractRef] = Method(
    name="escrow.dispute",
    params=Dispute,
    result=ContractRef,
    summary="Ask the arbiters now; escrowd does so by itself before it is too late.",
    callers=TASKD,
    example=(
        Dispute(request_id="x-1", contract_id=_ID, reason="no answer"),
        ContractRef(contract_id=_ID),
    ),
    raises=(NotYours, WrongPhase, Refused),
    once=True,
)
CANCEL: Method[Cancel, ContractRef] = Method(
    name="escrow.cancel",
    params=Cancel,
    result=ContractRef,
    summary="End the contract with everything back to the buyer: a wish by the buyer, an act by the seller.",
    callers=TASKD,
    example=(Cancel(request_id="n-1", contract_id=_ID), ContractRef(contract_id=_ID)),
    raises=(NotYours, WrongPhase, Refused),
    once=True,
)
VOTE: Method[Vote, ContractRef] = Method(
    name="escrow.vote",
    params=Vote,
    result=ContractRef,
    summary="Arbiter: what the seller has earned; committed now, revealed when all have committed or the height comes.",
    callers=TASKD,
    example=(
        Vote(request_id="v-1", contract_id=_ID, gross_florins=Florins(10 * FLOP), reason="same output"),
        ContractRef(contract_id=_ID),
    ),
    raises=(NotYours, WrongPhase, Refused),
    once=True,
)
EVENTS = events_method("escrow", READERS)
SHOW: Method[ContractRef, ContractView] = Method(
    name="escrow.show",
    params=ContractRef,
    result=ContractView,
    summary="One contract as this node sees it.",
    callers=callers_of("escrowd"),
    example=(ContractRef(contract_id=_ID), _VIEW),
)
LIST: Method[ListContracts, ContractList] = Method(
    name="escrow.list",
    params=ListContracts,
    result=ContractList,
    summary="The contracts of this node, newest first.",
    callers=callers_of("escrowd"),
    example=(ListContracts(limit=10), ContractList(contracts=(_VIEW,))),
)
AUDIT: Method[AuditRead, AuditPage] = Method(
    name="escrow.audit",
    params=AuditRead,
    result=AuditPage,
    summary="The hash-chained log of every decision, its last hash signed by this node, replayed before it is shown.",
    callers=READERS,
    example=(
        AuditRead(after=0, limit=1),
        AuditPage(
            lines=(AuditLine(number=1, at_ms=1_790_000_000_000, kind="fact", body=b"{}", hash=b"h" * 32),),
            last_number=1,
            last_hash=b"h" * 32,
            replayed=True,
            did=_ALICE,
            key_seq=0,
            signature=b"s" * 64,
        ),
    ),
)
EXPLAIN: Method[ContractRef, Explanation] = Method(
    name="escrow.explain",
    params=ContractRef,
    result=Explanation,
    summary="Why a contract stands where it stands and what comes next.",
    callers=callers_of("escrowd"),
    example=(
        ContractRef(contract_id=_ID),
        Explanation(contract_id=_ID, lines=("RELEASED: the buyer and the seller agreed on 10 FLOP.",)),
    ),
)
FUND_STATUS: Method[FundStatusParams, FundStatus] = Method(
    name="fund.status",
    params=FundStatusParams,
    result=FundStatus,
    summary="The community fund's balance and movements, from the chain.",
    callers=callers_of("escrowd"),
    example=(
        FundStatusParams(movements=1),
        FundStatus(
            address="2M…",
            threshold=2,
            custodians=(_ALICE, _BOB, _CAROL),
            balance_florins=Florins(9_960_000_000),
            received_florins=Florins(9_960_000_000),
            paid_florins=Florins(0),
            movements=(
                FundMovement(
                    outpoint="ab" * 32 + ":0",
                    value_florins=Florins(50_000_000),
                    height=140,
                    spent_by=None,
                    spent_height=None,
                ),
            ),
            height=150,
        ),
    ),
)
CHANNEL_METHODS = (  # served by this daemon, declared in a file of their own
    CHANNEL_ADMIT,
    CHANNEL_AT_WORK,
    CHANNEL_CHUNK,
    CHANNEL_CLOSE,
    CHANNEL_FINISH,
    CHANNEL_FUEL,
    CHANNEL_LIST,
    CHANNEL_MAKE_OFFER,
    CHANNEL_OPEN,
    CHANNEL_PAY,
    CHANNEL_RECOVER,
    CHANNEL_RECOVER_FROM,
    CHANNEL_REFUND,
    CHANNEL_REFUSED,
    CHANNEL_RULES,
    CHANNEL_SETTLED,
    CHANNEL_SHOW,
    CHANNEL_TOP_UP,
)

__all__ = [  # those of its parts
    "CASES",
    "CASE_FILE",
    "CHANNEL_BROUGHT",
    "CHANNEL_CARRIED",
    "CHANNEL_ERRANDS",
    "CHANNEL_RESTORE",
    "EVIDENCE",
    "LATE_OK",
    "RECOVER",
    "RESTORE",
    "ROYALTIES",
    "ROYALTY_PAID",
    "ROYALTY_PAY",
    "ContractId",
    "ContractRef",
    "NotYours",
    "Refused",
    "WrongPhase",
]
