"""`duxnet why …`: the reasons behind a task, a contract or a node's standing, from the daemons that decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from common.errors import NotFound
from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.did_param import NodeDid
from dux_cli.output import counted, flop, seen_up, short
from dux_cli.short_ids import the_contract

if TYPE_CHECKING:
    from common.contracts.registry import Opinion, Reputation
    from common.contracts.registry_audit import Audits
    from common.contracts.registry_machine import MachineView
    from common.contracts.registry_service import Services
    from common.contracts.registry_witness import PresenceView, SlotShown

SLOTS_SHOWN = 12  # two hours
ASK_S = 120.0  # 200 receipts, each looked up on the chain, and signers' logs that may have to be fetched


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

    contract_id = the_contract(session, contract_id)
    told = session.ask(EXPLAIN, ContractRef(contract_id=contract_id))
    session.out.record(told, [("", line) for line in told.lines], name=told.contract_id)


@why.command()
@click.argument("node_id", type=NodeDid())
@click.option("--ask", "peer", type=NodeDid(), default="", help="First ask this node for its score and evidence.")
@pass_session
def node(session: Session, node_id: str, *, peer: str) -> None:
    """Why a node stands where it stands: receipts that count, what drawn challengers saw of it, and the evidence.

    The evidence of a node that is asked is checked here as any other, and counts from then on; its score does not.

    \b
    duxnet why node did:dux:…
    duxnet why node did:dux:… --ask did:dux:…
    """
    from common.contracts.registry import (
        AUDIT_LIST,
        MACHINE_SHOW,
        PRESENCE_SHOW,
        REPUTATION_GET,
        REPUTATION_OPINION,
        SERVICE_LIST,
        AskOpinion,
        NodeName,
    )
    from common.contracts.registry_audit import AuditsAsked
    from common.contracts.registry_machine import MachineAsked
    from common.contracts.registry_service import ServicesAsked
    from common.contracts.registry_witness import PresenceAsked

    async def ask() -> tuple[Opinion | None, Reputation, PresenceView, Audits, Services, MachineView | None]:
        wish = AskOpinion(of=node_id, peer=peer)
        opinion = await session.call(REPUTATION_OPINION, wish, deadline_s=ASK_S) if peer else None
        presence = PresenceAsked(node_id=node_id, slots=SLOTS_SHOWN, evidence=True)
        try:
            machine = await session.call(MACHINE_SHOW, MachineAsked(node_id=node_id))
        except NotFound:
            machine = None  # it is not registered here, and may have a reputation all the same
        return (
            opinion,
            await session.call(REPUTATION_GET, NodeName(node_id=node_id)),
            await session.call(PRESENCE_SHOW, presence),
            await session.call(AUDIT_LIST, AuditsAsked(node_id=node_id)),
            await session.call(SERVICE_LIST, ServicesAsked(node_id=node_id)),
            machine,
        )

    opinion, told, presence, audits, services, machine = session.run(ask())
    days = f"{counted(told.days_witnessed, 'day')} witnessed, {told.days_good} good"
    facts = [
        ("", "" if machine else "no such node is registered here: what follows is what is assumed of anybody"),
        *(_asked(peer, opinion) if opinion else ()),
        ("reputation", f"{told.score:.3f} (0.5 = nothing known)"),
        (
            "tier",
            f"{told.tier}: trade {told.trade_tier}, duty {told.duty_tier} ({days})",
        ),
        ("duties", ", ".join(told.duties)),
        *((one.state, f"{one.reason} (set by {one.set_by}, {_end(one.until)})") for one in told.sanctions),
        ("uptime", seen_up(told.uptime)),
        (
            "looks at others",
            "owed none" if told.probing is None else f"{told.probing:.0%} of the times that fell to it",
        ),
        ("services", ", ".join(f"{one.service} {one.count}" for one in services.services if one.count) or "none yet"),
        ("machine", _machine(machine)),
        *((f"audit {one.audit_id[:16]}", f"{one.state}: {one.reason}") for one in audits.audits),
        ("for it", _weight(told.good_florins, f"{counted(told.jobs_done, 'job')} done well")),
        ("against it", _weight(told.bad_florins, f"{counted(told.jobs_failed, 'job')} that failed")),
        ("as of block", str(told.at_height)),
    ]
    for line in told.evidence:
        weight = f"+{flop(line.good_florins)}" if line.good_florins else f"-{flop(line.bad_florins)}"
        facts.append((f"contract {line.cid.hex()[:16]}", f"{line.outcome} at block {line.height}: {weight}"))
    facts += [
        (f"slot from {slot.from_height}", f"seen by {slot.seen} of {slot.drawn} seats{_where(slot.net)}: {_up(slot)}")
        for slot in presence.slots
    ]
    facts.append(("signed", f"{counted(len(presence.evidence), 'sighting')} held here; --json prints them"))
    whole = {
        "reputation": told, "presence": presence, "audits": audits.audits, "services": services.services,
        "machine": machine, "opinion": opinion,
    }  # fmt: skip
    session.out.record(whole, facts, name=str(told.score))


def _asked(peer: str, opinion: Opinion) -> list[tuple[str, str]]:
    """What another node says, and whether this one comes to the same."""
    notes = counted(opinion.notes, "statement")
    shown = f"{counted(opinion.receipts, 'receipt')} ({opinion.new_receipts} new here) and {notes} shown"
    agrees = "this node comes to the same" if opinion.agrees else f"this node does not come to that: {opinion.reason}"
    return [(f"{short(peer)} says", f"{opinion.score:.3f} at block {opinion.at_height}; {shown}; {agrees}")]


def _weight(florins: int, what: str) -> str:
    """What counts for or against it."""
    return f"{flop(florins)} of tax on {what}, aged" if florins else "nothing"


def _machine(view: MachineView | None) -> str:
    if view is None:
        return "not registered here"
    found = f"verified by others: {', '.join(view.verified) or 'nothing'}; all else is only declared"
    return f"{found}; answered wrongly: {', '.join(view.failed)}" if view.failed else found


def _where(net: str) -> str:
    return f" in {net}" if net else ""


def _up(slot: SlotShown) -> str:
    return "up" if slot.up else "not up"


def _end(until: str) -> str:
    return f"until {until}" if until else "until its reason is gone or it is lifted"


@why.command()
@click.argument("did", default="")
@pass_session
def airdrop(session: Session, did: str) -> None:
    """What the next airdrop waits for; with a DID, why that node would get a share or not."""
    from common.contracts.airdrop import AIRDROP_EXPLAIN, ExplainAsked

    told = session.ask(AIRDROP_EXPLAIN, ExplainAsked(did=did), deadline_s=60.0)
    session.out.record(told, [("", line) for line in told.lines], name=did)
