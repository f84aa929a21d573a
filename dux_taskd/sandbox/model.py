"""The nouns of the sandbox: a run, how it ended, what was measured. No logic beyond reading them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from common.work import JobKind, Limits

Progress = Callable[[int], None]  # thousandths of the job done, never falling


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one package on one input, everything as bytes."""

    package: bytes
    entry: str
    args: tuple[str, ...]
    input: bytes
    limits: Limits
    owner: str = ""  # whose call it is: its process may serve his next one; empty: it serves nobody after this run


class Ended(StrEnum):
    """How a run ended. Only DONE is a result; the others say who could do what about it."""

    DONE = "done"
    REFUSED = "refused"  # the package itself said no to these arguments or this input
    FAILED = "failed"  # the package crashed, or broke its interface
    OUT_OF_FUEL = "out-of-fuel"
    OUT_OF_MEMORY = "out-of-memory"
    OUTPUT_TOO_LARGE = "output-too-large"
    DEADLINE = "deadline"  # wall clock: never comparable between machines
    BROKEN = "broken"  # our sandbox, not the package: may be tried again


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run. `output` is empty unless it is DONE."""

    ended: Ended
    engine: str
    output: bytes = b""
    detail: str = ""
    fuel_used: int = 0
    wall_ms: int = 0
    memory_peak_bytes: int = 0
    log: bytes = b""  # what the job printed, cut; native only


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried on this machine: `holds` only if it went as a safe machine goes."""

    name: str
    holds: bool
    detail: str


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this machine offers a kind, and every probe that says why."""

    kind: JobKind
    engine: str
    probes: tuple[Probe, ...]

    @property
    def offered(self) -> bool:
        """True when something was probed and every probe holds."""
        return bool(self.probes) and all(probe.holds for probe in self.probes)

    @property
    def reason(self) -> str:
        """Why the kind is not offered; empty when it is."""
        return "; ".join(f"{probe.name}: {probe.detail}" for probe in self.probes if not probe.holds)


class Runner(Protocol):
    """Runs packages of one kind. Cancelling the task that awaits `run` kills the job before anything else goes on."""

    kind: JobKind
    engine: str

    async def run(self, run: Run, *, deadline_s: float, progress: Progress) -> Outcome:
        """Run to an end. `deadline_s` is the shorter of the job's own wall limit and what its contract leaves."""
        ...

    async def probe(self) -> Offer:
        """Try every limit, with a control that must pass and one that must be stopped."""
        ...
