"""The arbiter's decision on a case, from what it found. Pure.

Laws: nothing delivered, or nothing that opens as committed, earns nothing; a result that the arbiter's own run confirms
earns the whole price, one that it contradicts earns nothing; where this node cannot tell, it does not vote. A
ciphertext that nobody gives earns nothing where its seller had it kept by fewer than three others; where three of the
contract's other nodes had promised to keep it, that they do not is no fault of the seller's, and this node cannot tell.

Source: escrow_protocol.md §9.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from common.units import Did, Florins
from common.work import JobKind
from dux_taskd.model import Case
from dux_taskd.sandbox.model import Ended

ATTEMPTS_MAX = 5  # own runs that broke, before «cannot tell»

SAME_EVERYWHERE = frozenset(
    (Ended.REFUSED, Ended.FAILED, Ended.OUT_OF_FUEL, Ended.OUT_OF_MEMORY, Ended.OUTPUT_TOO_LARGE)
)  # ends of a deterministic run that every machine would see


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What the arbiter found out; a field is empty where it did not get that far."""

    fault: str = ""  # why the delivered bytes are not what was promised
    vanished: str = ""  # why nobody can be blamed that the delivered bytes are not to be had
    missing: str = ""  # what neither side could show: package or input
    ended: Ended | None = None  # of the own run
    agrees: bool = False  # own output and delivered one, by the job's comparator


class Verdict(msgspec.Struct, frozen=True):
    """What the seller has earned, and why."""

    gross_florins: Florins
    reason: str


def verdict(case: Case, kind: JobKind, finding: Finding) -> Verdict | None:
    """The vote, or None while (or because) this node cannot tell."""
    shortfall = delivery_fault(case) or finding.fault or finding.missing
    if shortfall:
        return Verdict(Florins(0), shortfall)
    if finding.ended is Ended.DONE:
        return _by_comparison(case, agrees=finding.agrees)
    if finding.ended in SAME_EVERYWHERE and kind.runtime is JobKind.WASM:
        return Verdict(Florins(0), f"run again, the job ends with «{finding.ended.value}» and has no result")
    return None


def evidence_gone(kept: Sequence[Did], wanted: int) -> Finding:
    """What it means that nobody gives the ciphertext, by whose storage receipts came with the delivery.

    `kept`: those of the contract's other nodes who promised; strangers' receipts are free to make.
    """
    if len(kept) < wanted:
        return Finding(fault=f"nobody gives the result, and {len(kept)} had promised to keep it: {wanted} must")
    return Finding(vanished=f"nobody gives the result, which {', '.join(kept)} had promised to keep")


def _by_comparison(case: Case, *, agrees: bool) -> Verdict:
    if agrees:
        return Verdict(case.price_florins, "run again, the job gives the delivered result")
    return Verdict(Florins(0), "run again, the job gives another result than the delivered one")


def delivery_fault(case: Case) -> str:
    """What is wanting in the delivery itself, or nothing."""
    if not case.ciphertext_blob:
        return "nothing was delivered"
    return "" if case.content_key else "the key of the result was not shown"
