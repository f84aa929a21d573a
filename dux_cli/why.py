"""`duxnet why …`: the reasons behind a task, a contract or a node's standing, from the daemons that decided."""

from __future__ import annotations

import click

from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.output import counted, flop


@click.group(cls=DuxGroup)
def why() -> None:
    """Why something stands where it stands, and what happens next."""


@why.command()
@click.argument("task_id")
@pass_session
def task(session: Session, task_id: str) -> None:
    """Why a task is in its state."""
    from common.contracts.task import EXPLAIN, TaskRef

    told = session.ask(EXPLAIN, TaskRef(task_id=task_id))
    session.out.record(told, [("", line) for line in told.lines], name=told.task_id)


@why.command()
@click.argument("contract_id")
@pass_session
def contract(session: Session, contract_id: str) -> None:
    """Why a contract is in its state, and who must act by which block."""
    from common.contracts.escrow import EXPLAIN, ContractRef

    told = session.ask(EXPLAIN, ContractRef(contract_id=contract_id))
    session.out.record(told, [("", line) for line in told.lines], name=told.contract_id)


@why.command()
@click.argument("node_id")
@pass_session
def node(session: Session, node_id: str) -> None:
    """Why a node has the reputation it has: every receipt that counts, and for how much."""
    from common.contracts.registry import REPUTATION_GET, NodeName

    told = session.ask(REPUTATION_GET, NodeName(node_id=node_id))
    days = counted(told.days_witnessed, "day")
    facts = [
        ("reputation", f"{told.score:.3f} (0.5 = nothing known)"),
        (
            "tier",
            f"{told.tier}: trade {told.trade_tier}, duty {told.duty_tier} ({days} witnessed)",
        ),
        ("for it", f"{flop(told.good_florins)} of tax on {counted(told.jobs_done, 'job')} done well, aged"),
        ("against it", f"{flop(told.bad_florins)} of tax on {counted(told.jobs_failed, 'job')} that failed, aged"),
        ("as of block", str(told.at_height)),
    ]
    for line in told.evidence:
        weight = f"+{flop(line.good_florins)}" if line.good_florins else f"-{flop(line.bad_florins)}"
        facts.append((f"contract {line.cid.hex()[:16]}", f"{line.outcome} at block {line.height}: {weight}"))
    session.out.record(told, facts, name=str(told.score))


@why.command()
@click.argument("did", default="")
@pass_session
def airdrop(session: Session, did: str) -> None:
    """What the next airdrop waits for; with a DID, why that node would get a share or not."""
    from common.contracts.airdrop import AIRDROP_EXPLAIN, ExplainAsked

    told = session.ask(AIRDROP_EXPLAIN, ExplainAsked(did=did), deadline_s=60.0)
    session.out.record(told, [("", line) for line in told.lines], name=did)
