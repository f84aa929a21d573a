"""What nodes sign about each other's standing, in one envelope: faults, measurements, audits, services rendered.

A note names its kind and carries canonical bytes: an `Attested` statement, or for a fault two of them that contradict
each other. This module knows the shapes; who may say what of whom is judged by registryd, everywhere anew.

Source: mechanisms.md §1.1, §3.3; settled.md 31.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from common.codec import Canon, canonical
from common.identity.ecvrf import PROOF_BYTES
from common.identity.purposes import Purpose
from common.identity.tagged import tagged, tagged_hash
from common.receipts import Bytes32, Count, DidText, Hex64
from common.units import Did, Florins, Hash32, UnixMs
from common.witness import Height, Slot

NOTE_BYTES_MAX = 7_680  # of the gossip's 8 KiB: two envelopes and their heads
STATEMENT_BYTES_MAX = 2_048  # body of one attested statement
REASON_CHARS_MAX = 500

Reason = Annotated[str, Meta(max_length=REASON_CHARS_MAX)]
Proof = Annotated[bytes, Meta(min_length=PROOF_BYTES, max_length=PROOF_BYTES)]


class Kind(StrEnum):
    """What a note is."""

    FAULT = "fault"
    BENCHMARK = "benchmark"
    AUDIT = "audit"
    VERDICT = "verdict"
    SERVICE = "service"
    QUOTE = "quote"
    BOND = "bond"


class Note(Canon, frozen=True):
    """One statement as it travels and as it is kept."""

    kind: Kind
    body: bytes


def note_id(note: Note) -> Hash32:
    """The name of a note."""
    return tagged_hash(Purpose.STANDING_NOTE, canonical(note))


class FaultProof(Canon, frozen=True):
    """Two statements of one signer at one place that cannot both be honest: each is `Attested` bytes."""

    claim: Annotated[str, Meta(max_length=16)]  # what kind of statements: `node`, `heartbeat`, `receipt`, …
    one: bytes
    other: bytes


class Right(Canon, frozen=True):
    """What a look key draws the right to measure a machine from: nothing in it is the challenger's to choose."""

    network: Hex64
    beacon: Bytes32  # of the period
    period: Slot
    target: DidText
    challenger: DidText  # a proof counts in this name alone


def right_body(network: str, beacon: bytes, period: int, target: Did, challenger: Did) -> bytes:
    """The body that is proved over, for p2pd."""
    return canonical(Right(network=network, beacon=beacon, period=period, target=target, challenger=challenger))


def right_input(network: str, beacon: bytes, period: int, target: Did, challenger: Did) -> bytes:
    """The same with its purpose in front: the alpha of RFC 9381."""
    return tagged(Purpose.MEASURE, right_body(network, beacon, period, target, challenger))


class BenchmarkResult(Canon, frozen=True):
    """What a drawn challenger measured of a node's machine; 0: not measured, or the answer was wrong."""

    network: Hex64
    period: Slot  # number of the stretch of chain by whose beacon the challenger drew itself
    beacon: Bytes32
    target: DidText
    prober: DidText
    cpu_single: Count  # thousand hashes per second on one core
    cpu_all: Count  # on all cores side by side
    memory_mb: Count  # held at once
    disk_mb: Count  # kept and read back
    up_kbps: Count  # from the node to the challenger, thousand bits per second
    down_kbps: Count
    rtt_ms: Count
    failed: Annotated[str, Meta(max_length=64)]  # parts answered wrongly, or with `-slow` too late, separated by commas
    at_ms: UnixMs
    proof: Proof  # of the challenger's right to measure


class AuditRequest(Canon, frozen=True):
    """«Look at this node»: by itself, by a node with evidence, or by a challenger whose measurement failed."""

    network: Hex64
    about: DidText
    asker: DidText
    height: Height  # the panel is drawn by a later block
    reason: Reason
    evidence: Reason
    appeals: bytes  # id of the audit that this one appeals against; empty: none
    at_ms: UnixMs


class AuditVerdict(Canon, frozen=True):
    """A drawn auditor's finding."""

    network: Hex64
    audit: Bytes32
    auditor: DidText
    passed: bool
    reason: Reason
    height: Height
    at_ms: UnixMs


class ServiceDone(Canon, frozen=True):
    """«This node served me so much»: signed by who was served, one per server, service and day of blocks."""

    network: Hex64
    service: Annotated[str, Meta(max_length=16)]  # `relay`, `dht`, …
    server: DidText
    served: DidText
    day: Slot
    amount: Count
    at_ms: UnixMs


class QuoteSeen(Canon, frozen=True):
    """A verifier's word that a TPM quoted its nonce for this node: which attestation key, over which boot state."""

    network: Hex64
    target: DidText
    verifier: DidText
    period: Slot
    key_name: Annotated[bytes, Meta(min_length=34, max_length=34)]  # TPM name of the attestation key
    pcr_digest: Bytes32
    firmware: Count
    resets: Count
    at_ms: UnixMs
    proof: Proof  # of the verifier's right to measure


class BondTold(Canon, frozen=True):
    """«These coins are locked, and they are mine»: a registered fidelity bond's output, by the block that holds it."""

    network: Hex64
    did: DidText
    proof: bytes  # canonical `BondProof` (common/chain/bond.py)
    value_florins: Florins
    height: Height
    block_hash: Hex64
    at_ms: UnixMs
