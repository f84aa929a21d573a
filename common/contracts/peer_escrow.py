"""What escrowds say to each other: agreement, statements, the result's key, evidence, and an arbiter's sign of life.

The session names the sender, so these messages carry no signature of their own; what must convince a third party later
(terms, acceptances, statements) travels inside as `Attested` bytes. Secrets (r, K, a job's text) go only through calls
named here, to the one DID they are meant for. Source: escrow_protocol.md §5, §7, §9, §10; settled.md 2 and 11.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.chain.contract import LOTS_MAX, LotKind, Royalty
from common.codec import Canon
from common.rpc.method import Names, Namespace, PeerMethod, Topic
from common.units import Did, Florins

STATEMENT_BYTES_MAX = 4_000  # one signed statement; two of them fit a gossip message as a proof of fault
STATEMENTS_AT_ONCE = 12  # with their limit below 64 KiB, a peer message
ARBITERS_MAX = 16  # candidates in an offer
TAGS_AT_ONCE = 64
COPY_BYTES_MAX = 49_152  # an encrypted copy fits a peer message

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Commitment = Annotated[bytes, Meta(max_length=32)]
SignedStatement = Annotated[bytes, Meta(max_length=STATEMENT_BYTES_MAX)]
Evidence = Annotated[tuple[Annotated[bytes, Meta(max_length=8_192)], ...], Meta(max_length=4)]


class Ack(Canon, frozen=True):
    """Received and on disk."""

    kept: bool


class OfferedStage(Canon, frozen=True):
    """Which lot of a series is offered; `series` empty: one lot alone. `begins_blocks` count from fund_by."""

    series: Annotated[bytes, Meta(max_length=32)]
    number: Annotated[int, Meta(ge=0, lt=LOTS_MAX)]
    count: Annotated[int, Meta(ge=1, le=LOTS_MAX)]
    begins_blocks: Annotated[int, Meta(ge=0, le=100_000)]
    kind: LotKind
    bonded: bool  # the buyer wants the seller's bond lot beside the series


ONE_LOT = OfferedStage(series=b"", number=0, count=1, begins_blocks=0, kind=LotKind.WORK, bonded=False)


class Offer(Canon, frozen=True):
    """OFFER: what the buyer wants, its coin key for this lot, and the network's figures as its own node knows them."""

    contract_id: Bytes32
    network: str
    buyer_nonce: Bytes32
    buyer_key: bytes
    buyer_payout_script: bytes
    seller: Did
    service_id: Annotated[str, Meta(max_length=128)]
    job: Annotated[bytes, Meta(max_length=32_768)]
    job_hash: Bytes32
    price_florins: Florins
    arbiters: Annotated[tuple[Did, ...], Meta(max_length=ARBITERS_MAX)]
    arbiters_needed: int
    deliver_blocks: int
    result_lock: bool
    policy: str
    swap_limit_florins: Florins
    result_salt_hash: Bytes32
    fund_script: bytes
    tax_bps: int
    fee_rate_florins_per_kb: int
    heights_profile: str
    stage: OfferedStage
    royalty: Royalty
    weights: Annotated[tuple[int, ...], Meta(max_length=ARBITERS_MAX)]  # of the arbiters, for the draw
    parameters: int  # version of the parameter set that the offer is made under
    draw_commitment: Commitment = b""  # to the buyer's nonce for the draw, where much is at stake


class Quote(Canon, frozen=True):
    """QUOTE: the seller's answer; with `accept` false only the reason counts."""

    contract_id: Bytes32
    accept: bool
    reason: Annotated[str, Meta(max_length=500)]
    seller_nonce: bytes
    seller_key: bytes
    seller_payout_script: bytes
    result_hash: bytes
    start: int  # t0: the seller's tip
    strikes: Annotated[tuple[Did, ...], Meta(max_length=2)]  # arbiters that the seller does not want
    draw_commitment: Commitment = b""  # to the seller's nonce


class TermsCall(Canon, frozen=True):
    """TERMS signed by the buyer, with r: the salt that only buyer and seller hold until a dispute."""

    terms: bytes
    salt: Bytes32


class TermsAnswer(Canon, frozen=True):
    """The same TERMS signed by the seller."""

    terms: bytes


class RoleCall(Canon, frozen=True):
    """TERMS signed by both, to a candidate arbiter."""

    by_buyer: bytes
    by_seller: bytes


class RoleAnswer(Canon, frozen=True):
    """ROLE_ACCEPT, signed by the arbiter."""

    accept: bytes


class NonceCall(Canon, frozen=True):
    """The buyer's nonce for the draw, shown once the draw block is there; the seller answers with its own."""

    contract_id: Bytes32
    nonce: Bytes32


class NonceAnswer(Canon, frozen=True):
    """The seller's nonce for the draw."""

    nonce: Bytes32


class SealCall(Canon, frozen=True):
    """The full contract with all that was signed for it; whoever gets it rebuilds the script and signs READY."""

    contract: bytes
    by_buyer: bytes
    by_seller: bytes
    accepts: Annotated[tuple[bytes, ...], Meta(max_length=ARBITERS_MAX)]
    nonces: Annotated[tuple[Bytes32, ...], Meta(max_length=2)] = ()  # the buyer's and the seller's, if the draw has any


class StatementsCall(Canon, frozen=True):
    """Statements, each signer's in order; earlier ones may be repeated."""

    contract_id: Bytes32
    statements: Annotated[tuple[SignedStatement, ...], Meta(max_length=STATEMENTS_AT_ONCE)]


class Head(Canon, frozen=True):
    """How far the receiver holds one signer's chain: the next number it wants."""

    signer: Did
    next_seq: int


class StatementsAnswer(Canon, frozen=True):
    """What is held now."""

    heads: tuple[Head, ...]


class AskStatements(Canon, frozen=True):
    """One signer's chain from a number on."""

    contract_id: Bytes32
    signer: Did
    from_seq: int


class KeyCall(Canon, frozen=True):
    """K, shown by the seller, or by an arbiter together with an award."""

    contract_id: Bytes32
    preimage: bytes


class CaseCall(Canon, frozen=True):
    """Evidence for an arbiter: the job's text, r, K where the sender holds it, and what the sender adds."""

    contract_id: Bytes32
    job: Annotated[bytes, Meta(max_length=32_768)]
    salt: Bytes32
    preimage: bytes
    evidence: Evidence


class CaseGet(Canon, frozen=True):
    """Show me the evidence again."""

    contract_id: Bytes32


class StandbyCall(Canon, frozen=True):
    """Are you there, for this contract?"""

    contract_id: Bytes32


class StandbyAnswer(Canon, frozen=True):
    """Here, with my tip."""

    height: int


class ContractGet(Canon, frozen=True):
    """A copy of a contract, for somebody named in it who lost its own."""

    cid: Bytes32


class ContractCopy(Canon, frozen=True):
    """All that was signed for a contract; statements are asked for by escrow.statements_get."""

    contract: bytes
    by_buyer: bytes
    by_seller: bytes
    accepts: tuple[bytes, ...]


class CopyPut(Canon, frozen=True):
    """Keep this encrypted copy of a contract for me; a larger version takes the place of a smaller one."""

    contract_id: Bytes32
    tag: Bytes32
    version: Annotated[int, Meta(ge=0, lt=2**31)]
    sealed: Annotated[bytes, Meta(max_length=COPY_BYTES_MAX)]


class CopyGet(Canon, frozen=True):
    """The copy with this tag."""

    tag: Bytes32


class CopiesAsked(Canon, frozen=True):
    """Which of these tags there is a copy of."""

    tags: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=TAGS_AT_ONCE)]


class CopiesHeld(Canon, frozen=True):
    """Those of them that are kept here."""

    tags: Annotated[tuple[Bytes32, ...], Meta(max_length=TAGS_AT_ONCE)]


class CopyAnswer(Canon, frozen=True):
    """What is kept, opaque to whoever keeps it."""

    version: int
    sealed: Annotated[bytes, Meta(max_length=COPY_BYTES_MAX)]


class FaultProof(Canon, frozen=True):
    """Two statements with one signer, contract and number, and different content."""

    first: SignedStatement
    second: SignedStatement


_BY = ("escrowd",)
OFFER = PeerMethod(
    name="escrow.offer", owner="escrowd", params=Offer, result=Ack, callers=_BY, cost=16,
    summary="A buyer asks for a quote.",
)  # fmt: skip
QUOTE = PeerMethod(
    name="escrow.quote", owner="escrowd", params=Quote, result=Ack, callers=_BY, cost=4, params_bytes_max=4_096,
    summary="The seller takes or leaves an offer.",
)  # fmt: skip
TERMS = PeerMethod(
    name="escrow.terms", owner="escrowd", params=TermsCall, result=TermsAnswer, callers=_BY, cost=8,
    params_bytes_max=8_192, summary="The buyer signed the terms; the seller signs them too.",
)  # fmt: skip
ROLE = PeerMethod(
    name="escrow.role", owner="escrowd", params=RoleCall, result=RoleAnswer, callers=_BY, cost=8,
    params_bytes_max=16_384, summary="Will you be an arbiter under these terms?",
)  # fmt: skip
NONCE = PeerMethod(
    name="escrow.nonce", owner="escrowd", params=NonceCall, result=NonceAnswer, callers=_BY, cost=4,
    params_bytes_max=256, summary="The draw block is there: both show the nonces that they had committed to.",
)  # fmt: skip
SEAL = PeerMethod(
    name="escrow.seal", owner="escrowd", params=SealCall, result=Ack, callers=_BY, cost=8, params_bytes_max=32_768,
    summary="The full contract: rebuild it and sign READY.",
)  # fmt: skip
STATEMENTS = PeerMethod(
    name="escrow.statements", owner="escrowd", params=StatementsCall, result=StatementsAnswer, callers=_BY, cost=4,
    summary="Statements of a contract, handed over.",
)  # fmt: skip
STATEMENTS_GET = PeerMethod(
    name="escrow.statements_get", repeated="read",
    owner="escrowd", params=AskStatements, result=StatementsCall, callers=_BY, cost=4,
    params_bytes_max=1_024, summary="Statements of a contract, asked for by somebody named in it.",
)  # fmt: skip
KEY = PeerMethod(
    name="escrow.key", owner="escrowd", params=KeyCall, result=Ack, callers=_BY, cost=4, params_bytes_max=1_024,
    summary="The buyer is shown the result's key.",
)  # fmt: skip
CASE = PeerMethod(
    name="escrow.case", owner="escrowd", params=CaseCall, result=Ack, callers=_BY, cost=8,
    summary="An arbiter is shown the evidence.",
)  # fmt: skip
CASE_GET = PeerMethod(
    name="escrow.case_get", repeated="read",
    owner="escrowd", params=CaseGet, result=CaseCall, callers=_BY, cost=8, params_bytes_max=256,
    summary="The evidence of a party once more, for an arbiter that came back from its phrase.",
)  # fmt: skip
STANDBY = PeerMethod(
    name="escrow.standby", repeated="read",
    owner="escrowd", params=StandbyCall, result=StandbyAnswer, callers=_BY, cost=1,
    params_bytes_max=256, summary="Is the arbiter there?",
)  # fmt: skip
CONTRACT_GET = PeerMethod(
    name="escrow.contract_get", repeated="read",
    owner="escrowd", params=ContractGet, result=ContractCopy, callers=_BY, cost=8,
    params_bytes_max=256, summary="A copy of a contract for somebody named in it.",
)  # fmt: skip

COPY_PUT = PeerMethod(
    name="escrow.copy_put", owner="escrowd", params=CopyPut, result=Ack, callers=_BY, cost=8,
    summary="Keep an encrypted copy of a contract that names us both.",
)  # fmt: skip
COPY_GET = PeerMethod(
    name="escrow.copy_get", repeated="read",
    owner="escrowd", params=CopyGet, result=CopyAnswer, callers=_BY, cost=8, params_bytes_max=256,
    summary="An encrypted copy, to whoever knows its tag.",
)  # fmt: skip
COPIES_HELD = PeerMethod(
    name="escrow.copies_held", repeated="read",
    owner="escrowd", params=CopiesAsked, result=CopiesHeld, callers=_BY, cost=8, params_bytes_max=4_096,
    summary="Of which of these tags a copy is kept, to whoever knows them.",
)  # fmt: skip

FAULT = Topic(
    name="escrow-fault", owner="escrowd", payload=FaultProof, payload_bytes_max=8_192,
    summary="A proof that somebody signed two statements with one number.",
)  # fmt: skip


class CopyPointer(Canon, frozen=True):
    """Who keeps the copy with this tag; the tag says nothing to anybody without its owner's phrase."""

    holders: Annotated[tuple[Did, ...], Meta(max_length=10)]


COPY_NS = Namespace(
    name="escrow-copy", owner="escrowd", payload=CopyPointer, per_name_max=2, salted=2,
    names=Names(pattern="[0-9a-f]{64}", says="a tag that only the owner's phrase gives", example="cd" * 32),
    summary="Who keeps an encrypted copy of somebody's contract, under a tag from its owner's phrase.",
)  # fmt: skip
