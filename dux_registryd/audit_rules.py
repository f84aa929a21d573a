"""Audits by hand: who may ask for one, when its panel is drawn, how it ends, what it costs or gives. Pure.

A request names a node, a reason and evidence. A few blocks later three auditors of a higher tier are drawn by the
beacon (of its own tier while a young network has no higher one); each looks by whatever means and signs a verdict by a
deadline. Two of three decide; without two it lapses and says nothing. A decided audit may be appealed once, by another
panel.

Failed: a bad weight in Q (as a lost contract would), ageing like all others. Passed: a small good weight in Q alone, at
most one in thirty days, so that friends' audits buy neither standing nor draws. A later appeal replaces its audit.

Source: the specification (manual audits); settled.md 31.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.network import AuditParameters
from common.quality import DAY_BLOCKS, decayed
from common.standing import AuditRequest, AuditVerdict
from common.units import Did, Florins

AUDIT = "audit"  # the duty
PASSED_APART_DAYS = 30


class AuditState(StrEnum):
    """Where an audit stands."""

    WAITING = "waiting"  # its panel is not drawn yet
    OPEN = "open"
    PASSED = "passed"
    FAILED = "failed"
    LAPSED = "lapsed"  # too few verdicts in time


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit as this node knows it."""

    audit_id: bytes
    request: AuditRequest
    panel: tuple[Did, ...]
    verdicts: tuple[AuditVerdict, ...]
    state: AuditState
    drawn_at: int  # height whose beacon draws the panel
    ends_at: int  # height after which no verdict counts


@dataclass(frozen=True, slots=True)
class AuditWeight:
    """What audits add to Q today, in florins of tax."""

    good: Florins
    bad: Florins


NO_AUDITS = AuditWeight(good=Florins(0), bad=Florins(0))


def drawn_at(request: AuditRequest, rules: AuditParameters) -> int:
    """The height whose beacon draws the panel: unknown when the request is made."""
    return request.height + rules.draw_after_blocks


def ends_at(request: AuditRequest, rules: AuditParameters) -> int:
    """The height after which no verdict counts."""
    return drawn_at(request, rules) + rules.answer_blocks


def request_fault(
    request: AuditRequest, *, tip: int, earlier: Sequence[AuditRequest], appealed: Audit | None, rules: AuditParameters
) -> str | None:
    """Why a request is not taken, or None. `earlier`: the same asker's, `appealed`: the audit that it names."""
    if not 0 <= tip - request.height <= rules.answer_blocks:
        return "it was not made lately"
    lately = [one for one in earlier if one.height > request.height - rules.per_asker_blocks]
    if len(lately) >= rules.per_asker:
        return f"its asker has asked for {rules.per_asker} lately"
    return _appeal_fault(request, appealed) if request.appeals else None


def _appeal_fault(request: AuditRequest, appealed: Audit | None) -> str | None:
    if appealed is None or appealed.request.about != request.about:
        return "it appeals against an audit that is not known, or of another node"
    if appealed.state not in (AuditState.PASSED, AuditState.FAILED):
        return "it appeals against an audit that has not decided"
    return "an appeal is final" if appealed.request.appeals else None


def verdict_fault(
    verdict: AuditVerdict, request: AuditRequest, panel: Collection[Did], tip: int, rules: AuditParameters
) -> str | None:
    """Why a verdict does not count, or None."""
    if verdict.auditor not in panel:
        return "its auditor was not drawn"
    if not drawn_at(request, rules) <= verdict.height <= ends_at(request, rules):
        return "it was not given in time"
    return "it comes from a later block than ours" if verdict.height > tip + 1 else None


def state_of(verdicts: Sequence[AuditVerdict], panel: Collection[Did], tip: int, ends: int, needed: int) -> AuditState:
    """Where an audit stands at this tip."""
    passed = sum(one.passed for one in verdicts)
    if passed >= needed:
        return AuditState.PASSED
    if len(verdicts) - passed >= needed:
        return AuditState.FAILED
    if tip > ends:
        return AuditState.LAPSED
    return AuditState.OPEN if panel else AuditState.WAITING


def weight_of(audits: Sequence[Audit], tip: int, rules: AuditParameters) -> AuditWeight:
    """What decided audits of one node add to its Q today; an audit that was appealed counts as its appeal says."""
    by_id = {audit.audit_id: audit for audit in audits}
    overruled = {
        audit.request.appeals for audit in audits if audit.state in (AuditState.PASSED, AuditState.FAILED)
    } & set(by_id)
    good = bad = 0
    last_good = -PASSED_APART_DAYS * DAY_BLOCKS
    for audit in sorted(audits, key=lambda one: (one.ends_at, one.audit_id)):
        age = max(0, tip - audit.ends_at) // DAY_BLOCKS
        if audit.audit_id in overruled:
            continue
        if audit.state is AuditState.FAILED:
            bad += decayed(int(rules.failed_florins), age)
        elif audit.state is AuditState.PASSED and audit.ends_at - last_good >= PASSED_APART_DAYS * DAY_BLOCKS:
            good += decayed(int(rules.passed_florins), age)
            last_good = audit.ends_at
    return AuditWeight(Florins(good), Florins(bad))
