"""Audits as they come in: requests and verdicts by the door of all statements, panels by this node's own draw.

A panel is drawn once this node's chain has reached its height, and kept: later changes of the list of nodes do not
change who sits on it.
"""

from __future__ import annotations

from common.clock import Clock
from common.identity.purposes import Purpose
from common.network import NetworkProfile
from common.receipts import attested, body_of
from common.standing import (
    STATEMENT_BYTES_MAX,
    AuditRequest,
    AuditVerdict,
    BenchmarkResult,
    Kind,
    note_id,
)
from common.units import BlockHeight, Did, UnixMs
from dux_registryd.audit_rules import (
    AUDIT,
    NO_AUDITS,
    Audit,
    AuditState,
    AuditWeight,
    drawn_at,
    ends_at,
    request_fault,
    state_of,
    verdict_fault,
    weight_of,
)
from dux_registryd.benchmark_rules import wrong_parts
from dux_registryd.challengers import Challengers
from dux_registryd.effects import Outside
from dux_registryd.intake import Taken
from dux_registryd.statements import Heading, Rule, Statements
from dux_registryd.store import Book
from dux_registryd.store_standing import Kept

AUDITS_MAX = 200  # looked at of one node


class Audits:
    """What is audited, by whom, and how it ended."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        challengers: Challengers,
        statements: Statements,
        *,
        network: NetworkProfile,
        clock: Clock,
    ) -> None:
        self._book = book
        self._outside = outside
        self._challengers = challengers
        self._statements = statements
        self._network = network
        self._rules = network.audit
        self._clock = clock
        statements.judge(Kind.AUDIT, Rule(Purpose.AUDIT_REQUEST, AuditRequest, _request_heading, self._request_fault))
        statements.judge(Kind.VERDICT, Rule(Purpose.AUDIT_VERDICT, AuditVerdict, _verdict_heading, self._verdict_fault))

    # what comes in

    async def _request_fault(self, request: AuditRequest) -> str | None:
        tip = await self._tip()
        if tip is None:
            return "this node's chain is not there yet"
        earlier = [_request(kept) for kept in self._book.statements_by(Kind.AUDIT, request.asker)]
        appealed = await self.audit(request.appeals) if request.appeals else None
        return request_fault(request, tip=tip, earlier=earlier, appealed=appealed, rules=self._rules)

    async def _verdict_fault(self, verdict: AuditVerdict) -> str | None:
        tip, kept = await self._tip(), self._book.statement(verdict.audit)
        if tip is None or kept is None or kept.kind is not Kind.AUDIT:
            return "its audit is not known here"
        request = _request(kept)
        panel = await self.panel(verdict.audit, request)
        return verdict_fault(verdict, request, panel, tip, self._rules)

    async def _tip(self) -> int | None:
        tip = await self._outside.tip()
        return tip.height if tip else None

    # panels

    async def panel(self, audit_id: bytes, request: AuditRequest) -> tuple[Did, ...]:
        """Who was drawn; empty before its block. Neither the asker nor anybody of the audited one's network."""
        held = self._book.panel(audit_id)
        tip = self._outside.tip_seen
        if held is not None or tip is None or tip.height < drawn_at(request, self._rules):
            return held or ()
        beacon = await self._outside.beacon(drawn_at(request, self._rules))
        if beacon is None:
            return ()
        await self._challengers.look_round()
        barred = {request.asker, *(self._book.panel(request.appeals) or ())}
        size = self._rules.panel
        drawn = self._challengers.drawn_for(
            f"{AUDIT}/{audit_id.hex()}",
            drawn_at(request, self._rules),
            beacon,
            request.about,
            size + len(barred),
            least_tier=self._rules.least_tier,
            enough=size,
        )
        chosen = tuple(did for did in drawn if did not in barred)[:size]
        with self._book.store.transaction() as tx:
            self._book.put_panel(tx, audit_id, chosen)
        return chosen

    # what is known

    async def audit(self, audit_id: bytes) -> Audit | None:
        """One audit."""
        kept = self._book.statement(audit_id)
        if kept is None or kept.kind is not Kind.AUDIT:
            return None
        request = _request(kept)
        panel = await self.panel(audit_id, request)
        return self._known(kept, panel)

    def known(self, did: str = "") -> list[Audit]:
        """Audits of a node, or of all, as far as panels are drawn; the newest first."""
        kept = (
            self._book.statements_about(Kind.AUDIT, did, limit=AUDITS_MAX)
            if did
            else self._book.statements_of(Kind.AUDIT, AUDITS_MAX)
        )
        return [self._known(one, self._book.panel(note_id(one.note)) or ()) for one in kept]

    def _known(self, kept: Kept, panel: tuple[Did, ...]) -> Audit:
        audit_id, request = note_id(kept.note), _request(kept)
        said = [
            body_of(attested(one.note.body), AuditVerdict, STATEMENT_BYTES_MAX)
            for one in self._book.statements_about(Kind.VERDICT, audit_id.hex())
        ]
        verdicts = tuple(sorted(said, key=lambda one: one.auditor))
        tip, end = self._outside.tip_seen, ends_at(request, self._rules)
        height = tip.height if tip else request.height
        return Audit(
            audit_id=audit_id,
            request=request,
            panel=panel,
            verdicts=verdicts,
            state=state_of(verdicts, panel, height, end, self._rules.needed),
            drawn_at=drawn_at(request, self._rules),
            ends_at=end,
        )

    def weight(self, did: Did, tip: int) -> AuditWeight:
        """What audits add to a node's Q."""
        found = self.known(did)
        return weight_of(found, tip, self._rules) if found else NO_AUDITS

    def served(self, did: Did) -> int:
        """In how many audits a node has given its verdict."""
        return self._book.count_statements_by(Kind.VERDICT, did)

    # what this node says

    async def ask(self, about: Did, reason: str, evidence: str, appeals: bytes) -> Taken:
        """Ask for an audit."""
        tip = self._outside.tip_seen
        request = AuditRequest(
            network=self._network.genesis,
            about=about,
            asker=await self._outside.own_did(),
            height=BlockHeight(tip.height if tip else 0),
            reason=reason,
            evidence=evidence,
            appeals=appeals,
            at_ms=UnixMs(self._clock.unix_ms()),
        )
        return await self._statements.say(Kind.AUDIT, request)

    async def judge(self, audit: Audit, *, passed: bool, reason: str) -> Taken:
        """Give this node's verdict."""
        tip = self._outside.tip_seen
        verdict = AuditVerdict(
            network=self._network.genesis,
            audit=audit.audit_id,
            auditor=await self._outside.own_did(),
            passed=passed,
            reason=reason,
            height=BlockHeight(tip.height if tip else 0),
            at_ms=UnixMs(self._clock.unix_ms()),
        )
        return await self._statements.say(Kind.VERDICT, verdict)

    async def on_failure(self, result: BenchmarkResult) -> None:
        """The rules ask by themselves when a machine answered a measurement wrongly and no audit of it is open."""
        still = (AuditState.WAITING, AuditState.OPEN)
        if not any(audit.state in still for audit in self.known(result.target)):
            wrong = ", ".join(wrong_parts(result.failed.split(",")))
            reason = f"it answered a measurement wrongly: {wrong}"
            await self.ask(result.target, reason, f"benchmark {result.period} by {result.prober}", b"")


def _request(kept: Kept) -> AuditRequest:
    return body_of(attested(kept.note.body), AuditRequest, STATEMENT_BYTES_MAX)


def _request_heading(request: AuditRequest) -> Heading:
    place = f"{request.about}/{request.height}/{request.appeals.hex()}"
    return Heading(request.about, request.asker, place, request.at_ms)


def _verdict_heading(verdict: AuditVerdict) -> Heading:
    """A verdict is found by its audit."""
    return Heading(Did(verdict.audit.hex()), verdict.auditor, verdict.audit.hex(), verdict.at_ms)
