"""What waits for the person behind a node, with what is needed to decide, and a contract as a file to be audited.

Source: escrow_protocol.md §7, §8, §9.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.contracts.escrow_base import ContractRef, NotYours
from common.errors import NotFound
from common.rpc.method import PEOPLE, Empty, Method
from common.units import Did, Florins

READERS = ("taskd", "airdropd", *PEOPLE)
CASES_MAX = 200


class CaseItem(Wire, frozen=True):
    """One thing that waits; `due` is the last height at which it may be done."""

    contract_id: str
    role: str
    service_id: str
    price_florins: Florins
    what: str
    due: int
    blocks_left: int
    otherwise: str  # what follows when nobody acts
    commands: tuple[str, ...]
    stage: int = 0  # among the lots of one series, from 1; 0: a lot alone
    stages: int = 1


class Cases(Wire, frozen=True):
    """What waits, the most urgent first, as of a height."""

    cases: tuple[CaseItem, ...]
    height: int


class CheckedReceipt(Wire, frozen=True, kw_only=True):
    """One storage receipt. `fault`: why it does not count; empty: it does."""

    holder: Did
    until_height: int
    fault: str


class EvidenceView(Wire, frozen=True):
    """Arbiter: all that was shown of a contract. `content_key` is None where no key was shown."""

    contract_id: str
    reason: str
    disputed_by: Did | None
    job: bytes
    ciphertext_blob: str | None
    output_commitment: bytes
    holders: tuple[Did, ...]
    storage_receipts: tuple[CheckedReceipt, ...]
    receipts_wanted: int  # so many have to count: with fewer, that the result cannot be had is the seller's own fault
    work_receipt: bytes
    content_key: bytes | None
    shown: dict[str, tuple[bytes, ...]]  # by the DID that showed it
    offered_florins: Florins  # what the buyer itself has released: no vote is below it


class CaseFileBytes(Wire, frozen=True):
    """A contract as a file: JSON, without secrets."""

    file: Annotated[bytes, Meta(max_length=8_388_608)]


_ID, _DID = "3f" * 32, Did("did:dux:" + "a" * 52)
CASES: Method[Empty, Cases] = Method(
    name="escrow.cases",
    params=Empty,
    result=Cases,
    summary="What waits for this node's person, until which height, and with which commands to answer.",
    callers=READERS,
    example=(
        Empty(),
        Cases(
            cases=(
                CaseItem(
                    contract_id=_ID,
                    role="arbiter",
                    service_id="upscale",
                    price_florins=Florins(1_000_000_000),
                    what="look at the evidence and vote",
                    due=156,
                    blocks_left=6,
                    otherwise="this node is not paid",
                    commands=(f"duxnet escrow vote {_ID} 10",),
                ),
            ),
            height=150,
        ),
    ),
)
EVIDENCE: Method[ContractRef, EvidenceView] = Method(
    name="escrow.evidence",
    params=ContractRef,
    result=EvidenceView,
    summary="Arbiter: what was shown of a contract: job, delivery, storage receipts, key, and what each side adds.",
    callers=READERS,
    raises=(NotYours,),
    example=(
        ContractRef(contract_id=_ID),
        EvidenceView(
            contract_id=_ID,
            reason="not my picture",
            disputed_by=_DID,
            job=b"\x90",
            ciphertext_blob="bb" * 32,
            output_commitment=b"o" * 32,
            holders=(_DID,),
            storage_receipts=(CheckedReceipt(holder=_DID, until_height=1_500, fault=""),),
            receipts_wanted=3,
            work_receipt=b"",
            content_key=b"k" * 32,
            shown={_DID: (b"seen",)},
            offered_florins=Florins(0),
        ),
    ),
)
CASE_FILE: Method[ContractRef, CaseFileBytes] = Method(
    name="escrow.case_file",
    params=ContractRef,
    result=CaseFileBytes,
    summary="A contract as a file: what was signed and every fact, so that anybody can audit it.",
    callers=READERS,
    raises=(NotFound,),
    example=(ContractRef(contract_id=_ID), CaseFileBytes(file=b"{}")),
)
