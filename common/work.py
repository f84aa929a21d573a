"""What is asked of a worker and what the worker answers for: the nouns of work.

Buyers, sellers, second workers and arbiters all read the same `JobSpec`; its hash stands in the escrow contract. A
worker signs a `WorkReceipt`, which fixes its output by a salted commitment and does not show it. This module knows
shapes, hashes and the comparison of two outputs; it runs nothing and knows no price.

Source: work.md §4, facts/sandboxes.md §7, settled.md 2 and 20, mechanisms.md §4.1.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from common.codec import Canon, canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.units import Did, Hash32, UnixMs

JOB_BYTES_MAX = 8_192  # fits an escrow offer
WORK_RECEIPT_BYTES_MAX = 1_024
ARGS_MAX = 16
AUDIENCE_MAX = 16
SALT_BYTES = 32

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
DidText = Annotated[Did, Meta(pattern="^did:dux:[a-z2-7]{52}$")]
ContractId = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class JobKind(StrEnum):
    """How a job is run and what is delivered."""

    WASM = "wasm"  # a module, deterministic; the output is delivered
    NATIVE = "native"  # a script in the hardened sandbox; the output is delivered
    CHECK = "check"  # as wasm, but only the output's salted hash is delivered

    @property
    def runtime(self) -> JobKind:
        """The runner that executes it."""
        return JobKind.WASM if self is JobKind.CHECK else self


class Limits(Canon, frozen=True):
    """What one run may use; part of the job and of its price."""

    fuel: Annotated[int, Meta(ge=0, le=10**15)]  # wasm instructions, roughly; 0 for native
    memory_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 36)]
    wall_s: Annotated[int, Meta(ge=1, le=86_400)]  # passing it means «no result», never a result
    output_bytes: Annotated[int, Meta(ge=1, le=1 << 30)]


class ComparatorKind(StrEnum):
    """How two outputs of one job are compared."""

    EQUAL = "equal"  # byte for byte; the only one a salted hash can serve
    TOLERANCE = "tolerance"  # bytes as samples: each within `step`, at most `share_ppm` of them different
    CUSTOM = "custom"  # reserved: a module that judges; no node offers it yet


class Comparator(Canon, frozen=True):
    """A comparator with its figures (zero unless `tolerance`)."""

    kind: ComparatorKind
    step: Annotated[int, Meta(ge=0, le=255)]
    share_ppm: Annotated[int, Meta(ge=0, le=1_000_000)]


EQUAL = Comparator(kind=ComparatorKind.EQUAL, step=0, share_ppm=0)


class JobSpec(Canon, frozen=True):
    """One job, whole: two honest workers with equal specs and equal engines give equal outputs (wasm)."""

    v: Annotated[int, Meta(ge=1, le=1)]
    kind: JobKind
    package: Bytes32  # blob id of the module or script
    entry: Annotated[str, Meta(max_length=128)]  # wasm: the interface, `dux-wasm/1`; native: the command
    args: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=ARGS_MAX)]
    input_blob: Bytes32  # blob id of what is fetched: the input, or its ciphertext
    input_hash: Bytes32  # of the input in the clear
    input_private: bool  # the blob is a ciphertext; its key is given to the audience only
    limits: Limits
    comparator: Comparator
    audience: Annotated[tuple[DidText, ...], Meta(max_length=AUDIENCE_MAX)]  # who may learn a private input


class WorkReceipt(Canon, frozen=True):
    """A worker's signed word that it ran exactly this, with these meter readings, and got what it committed to."""

    contract_id: ContractId
    worker: DidText
    job_hash: Bytes32
    package: Bytes32
    input_hash: Bytes32
    limits_hash: Bytes32
    engine: Annotated[str, Meta(max_length=64)]
    output_commitment: Bytes32
    fuel_used: Annotated[int, Meta(ge=0, le=10**15)]
    at_ms: UnixMs


class Opening(Canon, frozen=True):
    """What opens a commitment: the hash of an output, and the salt that hid it."""

    output_hash: Bytes32
    salt: Bytes32


def job_hash(job: JobSpec) -> Hash32:
    """The name of a job; stands in the escrow contract."""
    return tagged_hash(Purpose.JOB, canonical(job))


def limits_hash(limits: Limits) -> Hash32:
    """The limits, as a receipt cites them."""
    return tagged_hash(Purpose.LIMITS, canonical(limits))


def input_hash_of(data: bytes) -> Hash32:
    """The hash of an input in the clear."""
    return tagged_hash(Purpose.JOB_INPUT, data)


def output_hash_of(data: bytes) -> Hash32:
    """The hash of an output; two workers agree when theirs are equal."""
    return tagged_hash(Purpose.JOB_OUTPUT, data)


def commitment_of(opening: Opening) -> Hash32:
    """What a worker may publish before it is paid: it fixes the output and tells nothing about it."""
    return tagged_hash(Purpose.OUTPUT_COMMITMENT, canonical(opening))


def check_of(job: JobSpec) -> JobSpec:
    """The same work for a second worker, who delivers a hash only."""
    return msgspec.structs.replace(job, kind=JobKind.CHECK)


def receipt_fault(receipt: WorkReceipt, job: JobSpec, contract_id: str, worker: str) -> str | None:
    """Why this receipt cannot belong to this job of this worker, or None. The signature is checked elsewhere."""
    claims = (
        (receipt.contract_id == contract_id, "it names another contract"),
        (receipt.worker == worker, "it names another worker"),
        (receipt.job_hash == job_hash(job), "it names another job"),
        (receipt.package == job.package, "it names another package"),
        (receipt.input_hash == job.input_hash, "it names another input"),
        (receipt.limits_hash == limits_hash(job.limits), "it names other limits"),
        (receipt.fuel_used <= job.limits.fuel or job.kind is JobKind.NATIVE, "it used more fuel than the job allows"),
    )
    return next((fault for holds, fault in claims if not holds), None)


def outputs_agree(comparator: Comparator, ours: bytes, theirs: bytes) -> bool:
    """Whether two outputs of one job count as the same. Symmetric; equal bytes always agree.

    Raises:
        ValueError: `custom`, which no node may accept yet.
    """
    if comparator.kind is ComparatorKind.CUSTOM:
        raise ValueError("the custom comparator is reserved")
    if comparator.kind is ComparatorKind.EQUAL or len(ours) != len(theirs):
        return ours == theirs
    steps = [abs(a - b) for a, b in zip(ours, theirs, strict=True) if a != b]
    share_fits = len(steps) * 1_000_000 <= comparator.share_ppm * len(ours)
    return share_fits and max(steps, default=0) <= comparator.step
