"""What airdropd promises to its callers: what the community fund hands back, to whom, when, and how anyone checks it.

Everybody may read; nobody but the m-of-n custodians, each on its own recomputation, can make a payout, and no method
here starts one: the chain does, when the fund reaches the threshold. Source: money.md §6, settled.md 23, 32.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.contracts.airdrop_errors import NoSuchAirdrop, ProofNotReady
from common.contracts.airdrop_fund import (
    AIRDROP_FILE,
    CEREMONY_JOIN,
    CEREMONY_SHOW,
    FUND_ACCOUNTS,
    FUND_SWEEPS,
    HISTORY_MAX,
    READERS,
    SWEEP_FILE,
)
from common.contracts.airdrop_parameters import PARAMETERS_FIND, PARAMETERS_PUBLISH
from common.contracts.base import events_method
from common.errors import CallerMistake, NotNow
from common.rpc.method import Empty, Method
from common.units import BlockHeight, Did, Florins

PROOF_BYTES_MAX = 8 * 1024 * 1024  # 1000 nodes with a heartbeat, a description and some receipts each


class BadProof(CallerMistake):
    """These bytes are no proof of an airdrop: {detail}."""

    code = 4003
    key = "bad-proof"


class RuleRefused(CallerMistake):
    """The airdrop rule {rule!r} cannot run on network {network!r}: {reason}."""

    code = 4004
    key = "rule-refused"


class NotACustodian(CallerMistake):
    """{did} is no custodian of the community fund: only those named in the network profile take part in a payout."""

    code = 4005
    key = "not-a-custodian"
    http_status = 403


class OtherRound(NotNow):
    """This node stands at airdrop {number} with cut-off {cutoff_height}: repeat when both have read the same chain."""

    code = 4006
    key = "other-round"


class Phase(StrEnum):
    """Where an airdrop stands."""

    WATCHING = "watching"  # the fund is below the threshold, or its cut-off block is not deep enough yet
    GATHERING = "gathering"  # custodians exchange the evidence they hold
    SIGNING = "signing"  # a payout is proposed, signatures are collected
    PAYING = "paying"  # the transaction is seen, not deep enough
    PAID = "paid"
    ABANDONED = (
        "abandoned"  # no payout came in time, or a fund coin was spent for something else: a later cut-off decides
    )


class AirdropStatus(Wire, frozen=True):
    """What happens next, and what is missing for it."""

    rule: str
    is_custodian: bool
    custodians: int
    signatures_needed: int
    number: int  # of the airdrop that comes next, from 0
    phase: Phase
    tip: BlockHeight
    threshold_florins: Florins
    balance_florins: Florins  # of the fund, confirmed at the depth that counts
    reserved_florins: Florins  # owed to nodes whose shares were too small to pay (carry-over ledger)
    cutoff_height: BlockHeight | None
    proposal_after: BlockHeight | None  # height from which a payout is proposed
    signatures: int
    refusals: list[str]
    problem: str  # empty when nothing is wrong


class Share(Wire, frozen=True):
    """One node's part of an airdrop."""

    did: Did
    address: str
    quality_ppm: int  # Q of the cut-off's evidence, millionths
    share_florins: Florins  # the equal part
    carried_before_florins: Florins
    paid_florins: Florins
    carried_after_florins: Florins


class AirdropView(Wire, frozen=True):
    """One airdrop in figures; `spent = paid + change + fee`."""

    number: int
    phase: Phase
    cutoff_height: BlockHeight
    cutoff_hash: str
    txid: str  # empty until it is seen on the chain
    paid_height: BlockHeight | None
    eligible: int
    share_florins: Florins
    spent_florins: Florins
    paid_florins: Florins
    change_florins: Florins
    fee_florins: Florins


class AirdropDetail(Wire, frozen=True):
    """One airdrop with every share."""

    airdrop: AirdropView
    shares: list[Share]


class HistoryAsked(Wire, frozen=True):
    """Newest first."""

    limit: Annotated[int, Meta(ge=1, le=HISTORY_MAX)] = 50


class History(Wire, frozen=True):
    """Airdrops, newest first."""

    airdrops: list[AirdropView]


class NumberAsked(Wire, frozen=True):
    """Which airdrop."""

    number: Annotated[int, Meta(ge=0)]


class Candidate(Wire, frozen=True):
    """A node that the evidence knows; `reason` says why it would get nothing, and is empty when it gets a share."""

    did: Did
    address: str
    quality_ppm: int
    eligible: bool
    reason: str


class Eligible(Wire, frozen=True):
    """Who would get a share if the cut-off were at `height`, as this node's own evidence stands now."""

    from_height: BlockHeight
    height: BlockHeight
    candidates: list[Candidate]


class ExplainAsked(Wire, frozen=True):
    """About the whole, or about one node."""

    did: str = ""


class Explanation(Wire, frozen=True):
    """Sentences for a person, the most important first."""

    lines: list[str]


class Ledger(Wire, frozen=True):
    """What nodes are owed from shares too small to pay, by DID."""

    owed_florins: dict[str, Florins]


class ProofFile(Wire, frozen=True):
    """The proof of a paid airdrop: `proof` is what `airdrop.verify` takes, on any node of the network."""

    number: int
    txid: str
    proof: bytes


class VerifyProof(Wire, frozen=True):
    """A proof from anywhere."""

    proof: bytes


class ProofVerdict(Wire, frozen=True):
    """Whether recomputing it from its evidence and from this node's own chain gives the same payout."""

    valid: bool
    problems: list[str]
    number: int
    cutoff_height: BlockHeight
    txid: str


_DID = Did("did:dux:" + "a" * 52)
_ADDRESS = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"
_VIEW = AirdropView(
    number=0,
    phase=Phase.PAID,
    cutoff_height=BlockHeight(815),
    cutoff_hash="0c" * 32,
    txid="ab" * 32,
    paid_height=BlockHeight(824),
    eligible=3,
    share_florins=Florins(3_336_266_666),
    spent_florins=Florins(10_010_000_000),
    paid_florins=Florins(10_008_799_998),
    change_florins=Florins(0),
    fee_florins=Florins(1_200_002),
)
_SHARE = Share(
    did=_DID,
    address=_ADDRESS,
    quality_ppm=916_666,
    share_florins=Florins(3_336_266_666),
    carried_before_florins=Florins(0),
    paid_florins=Florins(3_336_266_666),
    carried_after_florins=Florins(0),
)

AIRDROP_STATUS: Method[Empty, AirdropStatus] = Method(
    name="airdrop.status",
    params=Empty,
    result=AirdropStatus,
    summary="How far the fund is from the next airdrop, or how far the one in progress has got.",
    callers=READERS,
    example=(
        Empty(),
        AirdropStatus(
            rule="full",
            is_custodian=True,
            custodians=3,
            signatures_needed=2,
            number=1,
            phase=Phase.WATCHING,
            tip=BlockHeight(830),
            threshold_florins=Florins(10_000_000_000),
            balance_florins=Florins(50_000_000),
            reserved_florins=Florins(0),
            cutoff_height=None,
            proposal_after=None,
            signatures=0,
            refusals=[],
            problem="",
        ),
    ),
)
AIRDROP_HISTORY: Method[HistoryAsked, History] = Method(
    name="airdrop.history",
    params=HistoryAsked,
    result=History,
    summary="Airdrops in figures, newest first.",
    callers=READERS,
    example=(HistoryAsked(limit=1), History(airdrops=[_VIEW])),
)
AIRDROP_SHOW: Method[NumberAsked, AirdropDetail] = Method(
    name="airdrop.show",
    params=NumberAsked,
    result=AirdropDetail,
    summary="One airdrop with every share.",
    callers=READERS,
    raises=(NoSuchAirdrop,),
    example=(NumberAsked(number=0), AirdropDetail(airdrop=_VIEW, shares=[_SHARE])),
)
AIRDROP_ELIGIBLE: Method[Empty, Eligible] = Method(
    name="airdrop.eligible",
    params=Empty,
    result=Eligible,
    summary="Who would get a share now, and why the others would not.",
    callers=READERS,
    deadline_max_s=60.0,
    example=(
        Empty(),
        Eligible(
            from_height=BlockHeight(816),
            height=BlockHeight(830),
            candidates=[
                Candidate(did=_DID, address=_ADDRESS, quality_ppm=500_000, eligible=False, reason="no settled receipt")
            ],
        ),
    ),
)
AIRDROP_EXPLAIN: Method[ExplainAsked, Explanation] = Method(
    name="airdrop.explain",
    params=ExplainAsked,
    result=Explanation,
    summary="What the airdrop waits for, or why a node would get a share or not.",
    callers=READERS,
    deadline_max_s=60.0,
    example=(
        ExplainAsked(),
        Explanation(lines=["The fund holds 0.5 FLOP of the 100 FLOP at which it is handed back."]),
    ),
)
AIRDROP_LEDGER: Method[Empty, Ledger] = Method(
    name="airdrop.ledger",
    params=Empty,
    result=Ledger,
    summary="The carry-over ledger: shares below the smallest payment, kept in the fund for their nodes.",
    callers=READERS,
    example=(Empty(), Ledger(owed_florins={_DID: Florins(4_000_000)})),
)
AIRDROP_PROOF: Method[NumberAsked, ProofFile] = Method(
    name="airdrop.proof",
    params=NumberAsked,
    result=ProofFile,
    summary="The proof file of a paid airdrop: its evidence, its rule's figures and its payout.",
    callers=READERS,
    raises=(NoSuchAirdrop, ProofNotReady),
    example=(NumberAsked(number=0), ProofFile(number=0, txid="ab" * 32, proof=b"\x99")),
)
AIRDROP_VERIFY: Method[VerifyProof, ProofVerdict] = Method(
    name="airdrop.verify",
    params=VerifyProof,
    result=ProofVerdict,
    summary="Recompute an airdrop from its proof file and this node's own view of the chain.",
    callers=READERS,
    raises=(BadProof,),
    deadline_max_s=120.0,
    example=(
        VerifyProof(proof=b"\x99"),
        ProofVerdict(valid=True, problems=[], number=0, cutoff_height=BlockHeight(815), txid="ab" * 32),
    ),
)
AIRDROP_EVENTS = events_method("airdrop", READERS)

# Events of airdrop.events: kind = the class's name, body = its fields.


class CutoffReached(Wire, frozen=True):
    """The fund has reached the threshold at this height."""

    number: int
    cutoff_height: BlockHeight


class PayoutProposed(Wire, frozen=True):
    """A payout was proposed; `own_verdict` is empty when this node signed it, else why not."""

    number: int
    proposal_id: str
    eligible: int
    paid_florins: Florins
    own_verdict: str


class ParametersFound(Wire, frozen=True):
    """The network has a later parameter set, signed by the council: `duxnet parameters fetch` brings it."""

    version: int
    from_height: BlockHeight


class AirdropPaid(Wire, frozen=True):
    """The payout lies deep enough in the chain."""

    number: int
    txid: str
    height: BlockHeight
    paid_florins: Florins
    eligible: int


class AirdropReopened(Wire, frozen=True):
    """A deep fork took the payout `txid` away; the airdrop is paid again when it, or its like, lies deep enough."""

    number: int
    txid: str


class AirdropAbandoned(Wire, frozen=True):
    """The round ended without a payout; the next cut-off decides anew."""

    number: int
    reason: str


__all__ = [  # of the files beside this one
    "AIRDROP_FILE",
    "CEREMONY_JOIN",
    "CEREMONY_SHOW",
    "FUND_ACCOUNTS",
    "FUND_SWEEPS",
    "HISTORY_MAX",
    "PARAMETERS_FIND",
    "PARAMETERS_PUBLISH",
    "READERS",
    "SWEEP_FILE",
    "NoSuchAirdrop",
    "ProofNotReady",
]
