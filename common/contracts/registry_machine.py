"""What registryd promises about machines: which declared figures were measured, by whom, when; attestations of a TPM.

Source: the specification's verification of resources; mechanisms.md §2.4 (draws).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.rpc.method import Done, Method, callers_of
from common.units import Did

BUSY_S_MAX = 3_600.0
_DID = Did("did:dux:" + "a" * 52)
_OTHER = Did("did:dux:" + "b" * 52)


class MeasuredBy(Wire, frozen=True):
    """One challenger's newest result, signed."""

    prober: Did
    at: str
    failed: str  # parts that were answered wrongly; those that end in `-slow` rightly and too late to tell
    signed: bytes  # `Attested` bytes of a `BenchmarkResult`


class QuoteView(Wire, frozen=True):
    """A TPM quote of a node that a verifier checked."""

    verifier: Did
    at: str
    key_name: str  # hex of the attestation key's TPM name
    pcr_digest: str
    firmware: int
    resets: int


class MachineAsked(Wire, frozen=True):
    """Whose machine."""

    node_id: str


class MachineView(Wire, frozen=True):
    """What was measured of a machine beside what is declared; 0: never measured, or answered wrongly."""

    node_id: Did
    verified: tuple[str, ...]  # of `cpu`, `memory`, `storage`, `bandwidth`, `tpm`
    declared_cores: int
    declared_memory_mb: int
    declared_storage_gb: int
    cores_seen: int  # whose work was done side by side
    cpu_single: int  # thousand hashes per second
    cpu_all: int
    memory_mb: int  # held at once
    memory_asked_mb: int  # as the network asks of such a declaration
    disk_mb: int
    disk_asked_mb: int
    up_kbps: int
    down_kbps: int
    failed: tuple[str, ...]  # answered wrongly
    slow: tuple[str, ...]  # answered rightly and too late to verify anything; held against nobody
    results: tuple[MeasuredBy, ...]
    quotes: tuple[QuoteView, ...]


class Busy(Wire, frozen=True):
    """A paid job runs here for at most so long; 0: it has ended."""

    seconds: Annotated[float, Meta(ge=0, le=BUSY_S_MAX)]


MACHINE_SHOW = Method(
    name="machine.show",
    params=MachineAsked,
    result=MachineView,
    summary="Which declared figures of a machine were measured, with the signed results.",
    callers=callers_of("registryd"),
    example=(
        MachineAsked(node_id=_DID),
        MachineView(
            node_id=_DID,
            verified=("cpu", "memory"),
            declared_cores=8,
            declared_memory_mb=16_384,
            declared_storage_gb=500,
            cores_seen=8,
            cpu_single=1_900,
            cpu_all=15_000,
            memory_mb=256,
            memory_asked_mb=256,
            disk_mb=0,
            disk_asked_mb=256,
            up_kbps=94_000,
            down_kbps=91_000,
            failed=("storage",),
            slow=(),
            results=(MeasuredBy(prober=_OTHER, at="2026-11-20T12:30:00Z", failed="storage", signed=b"\x94"),),
            quotes=(),
        ),
    ),
)
MACHINE_BUSY = Method(
    name="machine.busy",
    params=Busy,
    result=Done,
    summary="Let nobody measure this machine while a paid job runs.",
    callers=("taskd", "cli", "module"),
    example=(Busy(seconds=60.0), Done()),
)
