"""`duxnet why …`: the reasons behind a task, a contract or a node's standing, from the daemons that decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from common.errors import NotFound
from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.did_param import NodeDid
from dux_cli.output import counted, flop, seen_up, short
from dux_cli.short_ids import the_contract

if TYPE_CHECKING:
    from common.contracts.registry import Opinion, Reputation, ScoreLine
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
    known = session.run(_known(session, node_id, peer))
    slot_blocks = session.node.profile().presence.slot_blocks
    whole = {
        "reputation": known.reputation, "presence": known.presence, "audits": known.audits.audits,
        "services": known.services.services, "machine": known.machine, "opinion": known.opinion,
    }  # fmt: skip
    facts = [*_opinion_facts(peer, known), *_standing_facts(known), *_evidence_facts(known, slot_blocks)]
    session.out.record(whole, facts, name=str(known.reputation.score))


@dataclass(frozen=True)
class Known:
    """What this node's registry knows of a node."""

    opinion: Opinion | None  # another node's; None: nobody was asked
    reputation: Reputation
    presence: PresenceView
    audits: Audits
    services: Services
    machine: MachineView | None  # None: it is not registered here, and may have a reputation all the same


async def _known(session: Session, node_id: str, peer: str) -> Known:
    """Everything of a node; what another one shows of it is asked for first, because it counts from then on."""
    from common.contracts import registry as c
    from common.contracts.registry_audit import AuditsAsked
    from common.contracts.registry_machine import MachineAsked
    from common.contracts.registry_service import ServicesAsked
    from common.contracts.registry_witness import PresenceAsked

    wish, presence = (
        c.AskOpinion(of=node_id, peer=peer),
        PresenceAsked(node_id=node_id, slots=SLOTS_SHOWN, evidence=True),
    )
    opinion = await session.call(c.REPUTATION_OPINION, wish, deadline_s=ASK_S) if peer else None
    try:
        machine = await session.call(c.MACHINE_SHOW, MachineAsked(node_id=node_id))
    except NotFound:
        machine = None
    return Known(
        opinion=opinion,
        reputation=await session.call(c.REPUTATION_GET, c.NodeName(node_id=node_id)),
        presence=await session.call(c.PRESENCE_SHOW, presence),
        audits=await session.call(c.AUDIT_LIST, AuditsAsked(node_id=node_id)),
        services=await session.call(c.SERVICE_LIST, ServicesAsked(node_id=node_id)),
        machine=machine,
    )


def _opinion_facts(peer: str, known: Known) -> list[tuple[str, str]]:
    strange = "no such node is registered here: what follows is what is assumed of anybody"
    facts = [] if known.machine else [("", strange)]
    return facts + (_asked(peer, known.opinion) if known.opinion else [])


def _standing_facts(known: Known) -> list[tuple[str, str]]:
    """How it stands."""
    told = known.reputation
    days = f"{counted(told.days_witnessed, 'day')} witnessed, {told.days_good} good"
    looks = "owed none" if told.probing is None else f"{told.probing:.0%} of the times that fell to it"
    served = ", ".join(f"{one.service} {one.count}" for one in known.services.services if one.count)
    return [
        ("reputation", f"{told.score:.3f} (0.5 = nothing known)"),
        ("tier", f"{told.tier}: trade {told.trade_tier}, duty {told.duty_tier} ({days})"),
        ("duties", ", ".join(told.duties)),
        *((one.state, f"{one.reason} (set by {one.set_by}, {_end(one.until)})") for one in told.sanctions),
        ("uptime", seen_up(told.uptime)),
        ("looks at others", looks),
        ("services", served or "none yet"),
        ("machine", _machine(known.machine)),
        *((f"audit {one.audit_id[:16]}", f"{one.state}: {one.reason}") for one in known.audits.audits),
    ]


def _evidence_facts(known: Known, slot_blocks: int) -> list[tuple[str, str]]:
    """What that rests on: payments, and what others saw slot by slot."""
    told, signed = known.reputation, counted(len(known.presence.evidence), "sighting")
    return [
        ("for it", _weight(told.good_florins, f"{counted(told.jobs_done, 'job')} done well")),
        ("against it", _weight(told.bad_florins, f"{counted(told.jobs_failed, 'job')} that failed")),
        ("as of block", str(told.at_height)),
        *((f"contract {one.cid.hex()[:16]}", _receipt(one)) for one in told.evidence),
        *((f"slot from {one.from_height}", _slot(one, told.at_height, slot_blocks)) for one in known.presence.slots),
        ("signed", f"{signed} held here; --json prints them"),
    ]


def _receipt(line: ScoreLine) -> str:
    """What a finished contract weighs."""
    weight = f"+{flop(line.good_florins)}" if line.good_florins else f"-{flop(line.bad_florins)}"
    counts = weight if line.good_florins or line.bad_florins else "counts for nothing"
    return f"{line.outcome} at block {line.height}: {counts}"


def _slot(slot: SlotShown, at_height: int, slot_blocks: int) -> str:
    """How many looked and saw it; a slot that has not ended may still become one in which it was up."""
    under_way = at_height < slot.from_height + slot_blocks
    verdict = "up" if slot.up else "under way" if under_way else "not up"
    where = f" in {slot.net}" if slot.net else ""
    return f"seen by {slot.seen} of {slot.drawn} seats{where}: {verdict}"


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


def _end(until: str) -> str:
    return f"until {until}" if until else "until its reason is gone or it is lifted"


@why.command()
@click.argument("did", type=NodeDid(), default="")
@pass_session
def airdrop(session: Session, did: str) -> None:
    """What the next airdrop waits for; with a DID, why that node would get a share or not."""
    from common.contracts.airdrop import AIRDROP_EXPLAIN, ExplainAsked

    told = session.ask(AIRDROP_EXPLAIN, ExplainAsked(did=did), deadline_s=60.0)
    session.out.record(told, [("", line) for line in told.lines], name=did)
