"""What airdropds say to each other: the evidence a custodian holds, a proposed payout, signatures of it, proofs.

Bulk travels as blobs (settled.md 11): a message names one, the receiver fetches it from the sender. Nothing said here
is believed: evidence and proposals are verified item by item, signatures against the payout, proofs by being made anew.
Source: settled.md 23, money.md §6.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Canon
from common.rpc.method import Names, Namespace, PeerMethod

PAYOUT_INPUTS_MAX = 87
REASON_CHARS_MAX = 500

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
BlobName = Annotated[str, Meta(max_length=128)]
Number = Annotated[int, Meta(ge=0, lt=2**31)]
DerSignature = Annotated[bytes, Meta(max_length=80)]


class RoundName(Canon, frozen=True):
    """Which airdrop: its number, and the block at its cut-off, so that a reorganised one is not mixed up."""

    number: Number
    cutoff_height: Number
    cutoff_hash: Hash


class EvidenceHeld(Canon, frozen=True):
    """The blob with all evidence the answerer holds for this round; empty while it has not got that far."""

    blob: BlobName
    size_bytes: Number


class ProposalCall(Canon, frozen=True):
    """A payout with the evidence that it was computed from, as a blob."""

    round: RoundName
    proposal_id: Annotated[bytes, Meta(min_length=32, max_length=32)]
    blob: BlobName
    size_bytes: Number


class SignatureCall(Canon, frozen=True):
    """One custodian's answer to a proposal: its signatures, one per input; or none of them and why."""

    round: RoundName
    proposal_id: Annotated[bytes, Meta(min_length=32, max_length=32)]
    signatures: Annotated[tuple[DerSignature, ...], Meta(max_length=PAYOUT_INPUTS_MAX)]
    refusal: Annotated[str, Meta(max_length=REASON_CHARS_MAX)]


class ProofAsk(Canon, frozen=True):
    """The proof of a paid airdrop."""

    number: Number


class ProofHeld(Canon, frozen=True):
    """The proof as a blob; empty when there is none here."""

    blob: BlobName
    size_bytes: Number


class BondCall(Canon, frozen=True):
    """A node's own bond, for the custodians' next cut-off: canonical bytes of the proof and where its output is."""

    shown: Annotated[bytes, Meta(max_length=2_048)]


class SweepCall(Canon, frozen=True):
    """A keeper's signatures of the sweep that it computed: of which script, at which block."""

    script: Annotated[bytes, Meta(max_length=64)]
    height: Number
    block_hash: Hash
    signatures: Annotated[tuple[DerSignature, ...], Meta(max_length=PAYOUT_INPUTS_MAX)]


class CeremonyAsk(Canon, frozen=True):
    """A key ceremony by its plan's name."""

    ceremony_id: Annotated[bytes, Meta(min_length=32, max_length=32)]


class CeremonyWords(Canon, frozen=True):
    """A member's own words in a ceremony: its key with the proof that it holds it, then the script it agrees to."""

    key_word: Annotated[bytes, Meta(max_length=1_024)]
    roster_word: Annotated[bytes, Meta(max_length=1_024)]  # empty while it has not heard of every key


class Kept(Canon, frozen=True):
    """Taken, and on disk; a second time it changes nothing."""

    kept: bool


_BY = ("airdropd",)
EVIDENCE = PeerMethod(
    name="airdrop.evidence", repeated="read",
    owner="airdropd", params=RoundName, result=EvidenceHeld, callers=_BY, cost=4,
    params_bytes_max=256, summary="The evidence a custodian holds for an airdrop's cut-off.",
)  # fmt: skip
PROPOSAL = PeerMethod(
    name="airdrop.proposal", owner="airdropd", params=ProposalCall, result=Kept, callers=_BY, cost=8,
    params_bytes_max=512, summary="A custodian proposes a payout of the community fund.",
)  # fmt: skip
SIGNATURE = PeerMethod(
    name="airdrop.signature", owner="airdropd", params=SignatureCall, result=Kept, callers=_BY, cost=4,
    params_bytes_max=8_192, summary="A custodian's signatures of a proposed payout, or why it refuses.",
)  # fmt: skip
PROOF = PeerMethod(
    name="airdrop.proof", repeated="read",
    owner="airdropd", params=ProofAsk, result=ProofHeld, callers=_BY, cost=4,
    params_bytes_max=64, summary="The proof file of a paid airdrop, for whoever wants to recompute it.",
)  # fmt: skip

BOND = PeerMethod(
    name="airdrop.bond", owner="airdropd", params=BondCall, result=Kept, callers=_BY, cost=4,
    params_bytes_max=2_304, summary="A node shows its bond to a custodian, for the next cut-off.",
)  # fmt: skip
SWEEP = PeerMethod(
    name="airdrop.sweep", owner="airdropd", params=SweepCall, result=Kept, callers=_BY, cost=4,
    params_bytes_max=8_192, summary="A keeper's signatures of the sweep that it computed itself.",
)  # fmt: skip
CEREMONY = PeerMethod(
    name="airdrop.ceremony", repeated="read",
    owner="airdropd", params=CeremonyAsk, result=CeremonyWords, callers=_BY, cost=4,
    params_bytes_max=64, summary="A member's own words in a key ceremony of the fund.",
)  # fmt: skip


class GovernancePointer(Canon, frozen=True):
    """A signed parameter set as a blob, to be fetched from the signer and judged by whoever takes it."""

    blob: BlobName
    size_bytes: Number


GOVERNANCE_NS = Namespace(
    name="governance", owner="airdropd", payload=GovernancePointer,
    names=Names(pattern=r"parameters/[1-9][0-9]{0,3}", says="`parameters/` and a version", example="parameters/2"),
    summary="Where a version of the parameter set is, with the council's signatures; nothing of it is believed.",
)  # fmt: skip
