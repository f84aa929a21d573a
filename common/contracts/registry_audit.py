"""What registryd promises about audits by hand: asking for one, serving on a panel, and how they ended."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from common.codec import Wire
from common.errors import CallerMistake, NotFound, NotNow
from common.rpc.method import Method, callers_of
from common.units import Did

LISTED_MAX = 500
_DID = Did("did:dux:" + "a" * 52)
_OTHER = Did("did:dux:" + "b" * 52)
_Reason = Annotated[str, Meta(min_length=1, max_length=500)]


class AuditRefused(CallerMistake):
    """The audit is not opened: {reason}."""

    code = 5020
    key = "audit-refused"


class NotYourAudit(CallerMistake):
    """No verdict of this node counts in audit {audit_id}: {reason}. `duxos-node-registry audit list --mine`."""

    code = 5021
    key = "not-your-audit"


class AuditNotNow(NotNow):
    """Audits hang on the chain, and this node has not read it yet: repeat when `duxnet status` shows a height."""

    code = 5022
    key = "audit-not-now"


class RequestAudit(Wire, frozen=True):
    """Have a node looked at; without `node_id` this one. `appeals`: the audit that this one appeals against."""

    request_id: str
    reason: _Reason
    node_id: str = ""
    evidence: Annotated[str, Meta(max_length=500)] = ""
    appeals: str = ""  # hex


class GiveVerdict(Wire, frozen=True):
    """This node's finding as one of the panel; the first one stands, another one is a fault."""

    request_id: str
    audit_id: str
    passed: bool
    reason: _Reason


class VerdictView(Wire, frozen=True):
    """One auditor's finding."""

    auditor: Did
    passed: bool
    reason: str
    height: int


class AuditView(Wire, frozen=True):
    """One audit as this node knows it."""

    audit_id: str
    about: Did
    asker: Did
    reason: str
    evidence: str
    appeals: str
    state: str  # `waiting` for its panel, `open`, `passed`, `failed`, `lapsed`
    height: int
    panel_at: int  # height whose beacon draws the panel
    ends_at: int  # height after which no verdict counts
    panel: tuple[Did, ...]
    verdicts: tuple[VerdictView, ...]
    mine: bool  # this node is on the panel and has not spoken


class AuditsAsked(Wire, frozen=True):
    """Of one node, or of all; with `mine` those that wait for this node's verdict."""

    node_id: str = ""
    mine: bool = False


class Audits(Wire, frozen=True):
    """Audits, the newest first."""

    audits: tuple[AuditView, ...]


class AuditName(Wire, frozen=True):
    """Which audit."""

    audit_id: str


_AUDIT = AuditView(
    audit_id="ab" * 32,
    about=_DID,
    asker=_OTHER,
    reason="says it has 500 GB, keeps nothing",
    evidence="measurement of period 812",
    appeals="",
    state="open",
    height=812,
    panel_at=822,
    ends_at=5_142,
    panel=(_OTHER,),
    verdicts=(VerdictView(auditor=_OTHER, passed=False, reason="nothing was kept", height=830),),
    mine=False,
)

AUDIT_REQUEST = Method(
    name="audit.request",
    params=RequestAudit,
    result=AuditView,
    summary="Have a node audited by a panel that the chain draws; a node may ask for its own audit.",
    callers=callers_of("registryd"),
    example=(
        RequestAudit(request_id="audit-1", node_id=_DID, reason=_AUDIT.reason, evidence=_AUDIT.evidence),
        _AUDIT,
    ),
    raises=(AuditRefused, AuditNotNow),
    once=True,
)
AUDIT_VERDICT = Method(
    name="audit.verdict",
    params=GiveVerdict,
    result=AuditView,
    summary="Give this node's verdict in an audit that it was drawn for.",
    callers=("cli", "module"),
    example=(
        GiveVerdict(request_id="verdict-1", audit_id=_AUDIT.audit_id, passed=False, reason="nothing was kept"),
        _AUDIT,
    ),
    raises=(NotYourAudit, AuditNotNow, NotFound),
    once=True,
)
AUDIT_SHOW = Method(
    name="audit.show",
    params=AuditName,
    result=AuditView,
    summary="One audit with its panel and verdicts.",
    callers=callers_of("registryd"),
    example=(AuditName(audit_id=_AUDIT.audit_id), _AUDIT),
    raises=(NotFound,),
)
AUDIT_LIST = Method(
    name="audit.list",
    params=AuditsAsked,
    result=Audits,
    summary="Audits known here.",
    callers=callers_of("registryd"),
    example=(AuditsAsked(), Audits(audits=(_AUDIT,))),
)
