"""`duxos-node-registry audit request|verdict|list|show` and `services`: audits by hand, and services to the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dux_cli.command import DuxCommand, DuxGroup, Session, new_request_id, pass_session
from dux_cli.did_param import NodeDid
from dux_cli.output import each, short

if TYPE_CHECKING:
    from common.contracts.registry_audit import AuditView


@click.group(cls=DuxGroup)
def audit() -> None:
    """Have a node looked at by a panel that the chain draws from higher tiers; serve on such a panel."""


def _print(session: Session, view: AuditView) -> None:
    session.out.record(view, audit_lines(view), name=view.audit_id)


def audit_lines(view: AuditView) -> list[tuple[str, str]]:
    """An audit for a person."""
    panel = ", ".join(short(did) for did in view.panel) or f"drawn by block {view.panel_at}"
    return [
        ("audit", view.audit_id),
        ("about", view.about),
        ("asked by", f"{view.asker} at block {view.height}"),
        ("reason", view.reason),
        ("evidence", view.evidence),
        ("appeals", view.appeals),
        ("state", f"{view.state}; verdicts until block {view.ends_at}"),
        ("panel", panel),
        *(("passed" if one.passed else "failed", f"{one.auditor}: {one.reason}") for one in view.verdicts),
        ("your verdict", "duxos-node-registry audit verdict … --pass|--fail --reason …" if view.mine else ""),
    ]


@audit.command()
@click.argument("node_id", type=NodeDid(), required=False, default="")
@click.option("--reason", required=True, help="What the panel is to look at.")
@click.option("--evidence", default="", help="Where it can be seen.")
@click.option("--appeals", default="", help="The audit that this one appeals against.")
@pass_session
def request(session: Session, node_id: str, *, reason: str, evidence: str, appeals: str) -> None:
    """Ask for an audit: of NODE_ID, or without it of this node.

    \b
    duxos-node-registry audit request did:dux:… --reason "keeps nothing that it is paid to keep"
    """
    from common.contracts.registry_audit import AUDIT_REQUEST, RequestAudit

    wish = RequestAudit(
        request_id=new_request_id("audit"), node_id=node_id, reason=reason, evidence=evidence, appeals=appeals
    )
    _print(session, session.ask(AUDIT_REQUEST, wish))


@audit.command()
@click.argument("audit_id")
@click.option("--pass/--fail", "passed", required=True, default=None, help="What you found.")
@click.option("--reason", required=True, help="What you looked at, and what you saw.")
@pass_session
def verdict(session: Session, audit_id: str, *, passed: bool, reason: str) -> None:
    """Give this node's verdict as one of the panel. The first one stands: another one would be a proven fault."""
    from common.contracts.registry_audit import AUDIT_VERDICT, GiveVerdict

    wish = GiveVerdict(request_id=new_request_id("verdict"), audit_id=audit_id, passed=passed, reason=reason)
    _print(session, session.ask(AUDIT_VERDICT, wish))


@audit.command(name="list")
@click.argument("node_id", type=NodeDid(), required=False, default="")
@click.option("--mine", is_flag=True, help="Only those that wait for this node's verdict.")
@pass_session
def list_audits(session: Session, node_id: str, *, mine: bool) -> None:
    """Audits: of NODE_ID, or of all nodes."""
    from common.contracts.registry_audit import AUDIT_LIST, AuditsAsked

    found = session.ask(AUDIT_LIST, AuditsAsked(node_id=node_id, mine=mine))
    rows = each(
        found.audits,
        lambda a: (a.audit_id, a.state, a.about, a.reason, f"{len(a.verdicts)} of {len(a.panel)}", str(a.ends_at)),
    )
    headings = ("audit", "state", "about", "reason", "verdicts", "until block")
    session.out.table(found, headings, rows, empty="no audits")


@audit.command()
@click.argument("audit_id")
@pass_session
def show(session: Session, audit_id: str) -> None:
    """One audit with its panel and verdicts."""
    from common.contracts.registry_audit import AUDIT_SHOW, AuditName

    _print(session, session.ask(AUDIT_SHOW, AuditName(audit_id=audit_id)))


@click.command(cls=DuxCommand)
@click.argument("node_id", type=NodeDid(), required=False, default="")
@pass_session
def services(session: Session, node_id: str) -> None:
    """What a node did for the network in sixty days, as those signed whom it served. Without NODE_ID this node."""
    from common.contracts.p2p import P2P_INFO
    from common.contracts.registry_service import SERVICE_LIST, Services, ServicesAsked
    from common.rpc.method import Empty

    async def ask() -> Services:
        name = node_id or (await session.call(P2P_INFO, Empty())).did
        return await session.call(SERVICE_LIST, ServicesAsked(node_id=name))

    found = session.run(ask())
    rows = each(found.services, lambda one: (one.service, str(one.count), one.told))
    session.out.table(found, ("service", "times", "counted by"), rows)
