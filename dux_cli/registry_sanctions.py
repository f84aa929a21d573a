"""`duxos-node-registry ban|suspend|unban|faults`: who is kept out here, whom the rules sanction, and the proofs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from dux_cli.command import DuxGroup, Session, new_request_id, pass_session
from dux_cli.did_param import NodeDid
from dux_cli.output import each

if TYPE_CHECKING:
    from common.contracts.registry_standing import SanctionView


def add_to(group: DuxGroup) -> None:
    """Hang the commands into the registry's group."""
    for command in (ban, suspend, unban, sanctions, faults):
        group.add_command(command)


@click.group(cls=DuxGroup)
def _verbs() -> None:
    """Never shown: its commands are the registry's."""


def _sanction(
    session: Session,
    node_id: str,
    state: Literal["banned", "suspended"],
    *,
    reason: str,
    evidence: str,
    days: float | None,
) -> None:
    from common.contracts.registry_standing import NODE_BAN, Ban

    wish = Ban(
        request_id=new_request_id("ban"), node_id=node_id, reason=reason, evidence=evidence, state=state, days=days
    )
    view = session.ask(NODE_BAN, wish)
    session.out.record(view, sanction_lines(view), name=view.node_id)


def sanction_lines(view: SanctionView) -> list[tuple[str, str]]:
    """A sanction for a person."""
    end = f"until {view.until}" if view.until else "until it is lifted, or as long as its reason lasts"
    return [
        ("node", view.node_id),
        (view.state, view.reason),
        ("evidence", view.evidence),
        ("set by", f"{view.set_by}, since {view.since}" if view.since else view.set_by),
        ("ends", end),
    ]


@_verbs.command()
@click.argument("node_id", type=NodeDid())
@click.option("--reason", required=True, help="Why; shown with it.")
@click.option("--evidence", default="", help="Where it can be seen: a log, a contract, a fault.")
@click.option(
    "--days", type=click.FloatRange(0.001, 3_650), default=30.0, show_default=True, help="Ends after so many."
)
@click.option("--forever", is_flag=True, help="Until `unban`.")
@pass_session
def ban(session: Session, node_id: str, *, reason: str, evidence: str, days: float, forever: bool) -> None:
    """Have nothing to do with a node: no session, no call, no duty, on no list. It binds this node alone.

    \b
    duxos-node-registry ban did:dux:… --reason "sends junk" --days 7
    """
    _sanction(session, node_id, "banned", reason=reason, evidence=evidence, days=None if forever else days)


@_verbs.command()
@click.argument("node_id", type=NodeDid())
@click.option("--reason", required=True, help="Why; shown with it.")
@click.option("--evidence", default="", help="Where it can be seen.")
@click.option(
    "--days", type=click.FloatRange(0.001, 3_650), default=30.0, show_default=True, help="Ends after so many."
)
@pass_session
def suspend(session: Session, node_id: str, *, reason: str, evidence: str, days: float) -> None:
    """Leave a node off lists and draws for a while; it may still call. It binds this node alone."""
    _sanction(session, node_id, "suspended", reason=reason, evidence=evidence, days=days)


@_verbs.command()
@click.argument("node_id", type=NodeDid())
@pass_session
def unban(session: Session, node_id: str) -> None:
    """Lift your own ban or suspension of a node before it ends."""
    from common.contracts.registry_standing import NODE_UNBAN, Unban

    done = session.ask(NODE_UNBAN, Unban(request_id=new_request_id("unban"), node_id=node_id))
    session.out.record(done, [("welcome again", node_id)], name=node_id)


@_verbs.command()
@click.argument("node_id", type=NodeDid(), required=False, default="")
@pass_session
def sanctions(session: Session, node_id: str) -> None:
    """What is kept from whom: why, by whom, until when. Without NODE_ID of all nodes."""
    from common.contracts.registry_standing import NODE_SANCTIONS, SanctionsAsked

    found = session.ask(NODE_SANCTIONS, SanctionsAsked(node_id=node_id))
    rows = each(found.sanctions, lambda s: (s.node_id, s.state, s.reason, s.set_by, s.until or "-"))
    session.out.table(found, ("node", "state", "reason", "set by", "until"), rows, empty="nothing is kept from anybody")


@_verbs.command()
@click.argument("node_id", type=NodeDid(), required=False, default="")
@pass_session
def faults(session: Session, node_id: str) -> None:
    """Proven faults: two signed statements of one node that contradict each other. --json prints them."""
    from common.contracts.registry_standing import FAULTS, FaultsAsked

    found = session.ask(FAULTS, FaultsAsked(node_id=node_id))
    rows = each(found.faults, lambda f: (f.node_id, f.claim, f.place, f.at))
    session.out.table(found, ("node", "contradicting", "at place", "signed"), rows, empty="no fault is proven")
