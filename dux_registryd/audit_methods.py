"""RPC of audits: ask, judge, look."""

from __future__ import annotations

from common.contracts.registry_audit import (
    LISTED_MAX,
    AuditName,
    AuditNotNow,
    AuditRefused,
    Audits,
    AuditsAsked,
    AuditView,
    GiveVerdict,
    NotYourAudit,
    RequestAudit,
    VerdictView,
)
from common.errors import NotFound
from common.rpc.table import Ctx
from common.units import Did
from dux_registryd import audits as parts
from dux_registryd.audit_rules import Audit, AuditState
from dux_registryd.effects import Outside
from dux_registryd.store import Book

ID_BYTES = 32


class AuditMethods:
    """What callers may do about audits."""

    def __init__(self, book: Book, outside: Outside, audits: parts.Audits) -> None:
        self._book = book
        self._outside = outside
        self._audits = audits

    async def request(self, params: RequestAudit, ctx: Ctx) -> AuditView:
        """Ask for an audit, keep it, have the network told."""
        own = await self._outside.own_did()
        if await self._outside.tip() is None:
            raise AuditNotNow
        about = Did(params.node_id or own)
        appeals = _id(params.appeals) if params.appeals else b""
        if self._book.node(about) is None or appeals is None:
            raise AuditRefused(reason="the node is not registered here" if appeals is not None else "no such audit")
        taken = await self._audits.ask(about, params.reason, params.evidence, appeals)
        if taken.word != "accept":
            raise AuditRefused(reason=taken.reason)
        view = await self._view_of(taken.facts)
        with self._book.store.transaction() as tx:
            ctx.remember(tx, view)
        return view

    async def verdict(self, params: GiveVerdict, ctx: Ctx) -> AuditView:
        """Judge as one of the panel."""
        own = await self._outside.own_did()
        if await self._outside.tip() is None:
            raise AuditNotNow
        audit = await self._found(params.audit_id)
        if own not in audit.panel:
            raise NotYourAudit(audit_id=params.audit_id, reason="it is not on its panel")
        if own in {one.auditor for one in audit.verdicts}:
            raise NotYourAudit(audit_id=params.audit_id, reason="it has given its verdict, and a second is a fault")
        taken = await self._audits.judge(audit, passed=params.passed, reason=params.reason)
        if taken.word != "accept":
            raise NotYourAudit(audit_id=params.audit_id, reason=taken.reason)
        view = await self._view_of(audit.audit_id)
        with self._book.store.transaction() as tx:
            ctx.remember(tx, view)
        return view

    async def show(self, params: AuditName, _ctx: Ctx) -> AuditView:
        """One audit."""
        return _view(await self._found(params.audit_id), await self._outside.own_did())

    async def list_audits(self, params: AuditsAsked, _ctx: Ctx) -> Audits:
        """Audits known here."""
        own = await self._outside.own_did()
        await self._outside.tip()
        found = []
        for known in self._audits.known(params.node_id)[:LISTED_MAX]:
            audit = await self._audits.audit(known.audit_id)
            found.append(_view(audit or known, own))
        return Audits(audits=tuple(view for view in found if view.mine or not params.mine))

    async def _found(self, audit_id: str) -> Audit:
        name = _id(audit_id)
        audit = await self._audits.audit(name) if name else None
        if audit is None:
            raise NotFound(what="audit", name=audit_id[:64])
        return audit

    async def _view_of(self, audit_id: bytes) -> AuditView:
        return _view(await self._found(audit_id.hex()), await self._outside.own_did())


def _id(text: str) -> bytes | None:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if len(found) == ID_BYTES else None


def _view(audit: Audit, own: Did) -> AuditView:
    request = audit.request
    is_due = audit.state in (AuditState.OPEN, AuditState.PASSED, AuditState.FAILED)
    return AuditView(
        audit_id=audit.audit_id.hex(),
        about=request.about,
        asker=request.asker,
        reason=request.reason,
        evidence=request.evidence,
        appeals=request.appeals.hex(),
        state=audit.state.value,
        height=request.height,
        panel_at=audit.drawn_at,
        ends_at=audit.ends_at,
        panel=audit.panel,
        verdicts=tuple(
            VerdictView(auditor=one.auditor, passed=one.passed, reason=one.reason, height=one.height)
            for one in audit.verdicts
        ),
        mine=own in audit.panel and is_due and own not in {one.auditor for one in audit.verdicts},
    )
