"""`duxnet escrow …` and `duxnet fund`: contracts, their disputes, and the community fund."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dux_cli.command import DuxGroup, Session, new_request_id, pass_session
from dux_cli.escrow_acts import ACTS
from dux_cli.out_files import OutFile
from dux_cli.output import each, flop, short
from dux_cli.short_ids import the_contract
from dux_cli.url_param import HttpUrl

if TYPE_CHECKING:
    from common.contracts.escrow_views import ContractView

STATUSES = ("CREATED", "FUNDED", "IN_PROGRESS", "COMPLETED", "DISPUTED", "RELEASED", "REFUNDED", "CANCELLED")


@click.group(cls=DuxGroup)
def escrow() -> None:
    """Contracts of this node, as buyer, seller or arbiter."""


@escrow.command("list")
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only contracts that stand so.")
@click.option("--limit", default=50, show_default=True)
@pass_session
def list_contracts(session: Session, status: str | None, limit: int) -> None:
    """Contracts, newest first.

    \b
    duxnet escrow list --status DISPUTED
    """
    from common.contracts.escrow import LIST, ListContracts
    from common.contracts.escrow_views import Status

    wanted = Status(status.upper()) if status else None
    found = session.ask(LIST, ListContracts(status=wanted, limit=limit))
    rows = each(
        found.contracts, lambda c: (c.contract_id, _role(c), str(c.status), flop(c.price_florins), c.service_id)
    )
    session.out.table(found, ("contract", "role", "status", "price", "service"), rows, empty="no contracts yet")


@escrow.command()
@click.argument("contract_id")
@pass_session
def show(session: Session, contract_id: str) -> None:
    """One contract: parties, amounts, who must act by which block, and how it ended."""
    from common.contracts.escrow import SHOW, ContractRef

    contract_id = the_contract(session, contract_id)
    seen = session.ask(SHOW, ContractRef(contract_id=contract_id))
    session.out.record(seen, facts_of(seen), name=seen.contract_id)


def facts_of(seen: ContractView) -> list[tuple[str, str]]:
    """What a person wants to know of a contract."""
    facts = [
        ("contract", seen.contract_id),
        ("status", f"{seen.status} ({seen.state})"),
        ("this node is", _role(seen)),
        ("buyer", seen.buyer),
        ("seller", seen.seller),
        ("arbiters", f"{', '.join(seen.arbiters)} ({seen.arbiters_needed} decide)"),
        ("service", seen.service_id),
        ("stage", _stage(seen)),
        ("who goes first", _first(seen)),
        ("struck by the seller", ", ".join(seen.struck)),
        ("price", flop(seen.price_florins)),
        ("locked", flop(seen.locked_florins)),
        ("disputed by", seen.disputed_by or ""),
        ("reason", seen.reason),
        ("coin", seen.outpoint or ""),
        ("copy kept by", "" if seen.copies_kept is None else f"{seen.copies_kept} of {seen.copies_wanted} nodes"),
    ]
    return facts + heights_of(seen) + settlement_of(seen)


def _role(seen: ContractView) -> str:
    """Who this node is; in a bond lot the roles are swapped, so the work's seller is told from a buyer."""
    return f"{seen.role}, of the bond" if seen.bond else seen.role


def _stage(seen: ContractView) -> str:
    """Its place among the lots of one series."""
    if not seen.series:
        return ""
    place = "the seller's bond" if seen.bond else f"{seen.stage + 1} of {seen.stages}"
    return f"{place}, series {seen.series[:16]}"


def _first(seen: ContractView) -> str:
    """Whether the money or the result comes first; nothing of a bond, which buys none."""
    if seen.bond or not seen.policy:
        return ""
    if not seen.result_lock:
        return "the seller: the result is open to the buyer before it is paid"
    if seen.policy == "swap":
        return f"the buyer, up to {flop(seen.swap_limit_florins)}: the result's key comes with the payment (swap)"
    return "the seller: it shows the result's key while arbiters stand by (standby)"


def heights_of(seen: ContractView) -> list[tuple[str, str]]:
    """Until which block who may do what."""
    if seen.heights is None:
        return []
    h = seen.heights
    return [
        ("blocks", f"start {h.start}, fund by {h.fund_by}, deliver by {h.deliver_by}, dispute by {h.dispute_by}"),
        ("", f"answer by {h.answer_by}, vote by {h.vote_by}, back to the buyer from {h.timeout}"),
    ]


def settlement_of(seen: ContractView) -> list[tuple[str, str]]:
    """How the money went, once it went."""
    if seen.settlement is None:
        return []
    s = seen.settlement
    where = f"block {s.height}" if s.height is not None else "not in a block yet"
    return [
        ("outcome", f"{s.outcome}, {where}"),
        ("provider", flop(s.provider_florins)),
        ("community fund", flop(s.fund_florins)),
        ("chain fee", flop(s.fee_florins)),
        ("transaction", s.txid),
    ]


@escrow.command()
@click.argument("contract_id")
@click.option("--reason", default="asked by the owner", show_default=True, help="What is wrong, for the arbiters.")
@pass_session
def dispute(session: Session, contract_id: str, reason: str) -> None:
    """Call the arbiters: they run the job again and decide who is paid."""
    from common.contracts.escrow import DISPUTE, Dispute

    contract_id = the_contract(session, contract_id)
    wish = Dispute(request_id=new_request_id("dispute"), contract_id=contract_id, reason=reason)
    done = session.ask(DISPUTE, wish)
    session.out.record(done, [("disputed", contract_id), ("next", f"duxnet why contract {contract_id}")])


@escrow.command()
@click.argument("contract_id")
@pass_session
def cancel(session: Session, contract_id: str) -> None:
    """Ask the other side to end the contract and give the coins back."""
    from common.contracts.escrow import CANCEL, Cancel

    contract_id = the_contract(session, contract_id)
    done = session.ask(CANCEL, Cancel(request_id=new_request_id("cancel"), contract_id=contract_id))
    session.out.record(done, [("cancelling", contract_id), ("next", f"duxnet escrow show {contract_id}")])


@escrow.command()
@click.argument("contract_id", required=False)
@click.option("--file", "source", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Audit this file.")
@click.option("--out", type=OutFile(), help="Keep the contract as a file for others.")
@click.option("--coin-node", type=HttpUrl(), default="", help="A coin node's RPC, to read the chain where no node is.")
@click.option("--login", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with user:password.")
@click.option("--after", default=0, help="Lines after this number.")
@click.option("--limit", default=200, show_default=True)
@pass_session
def audit(
    session: Session, *, contract_id: str | None, source: Path | None, out: Path | None, coin_node: str,
    login: Path | None, after: int, limit: int,
) -> None:  # fmt: skip
    """The log of every decision about money; with a CONTRACT or a file: whether its state follows from what was signed.

    \b
    duxnet escrow audit                              the hash-chained log
    duxnet escrow audit CONTRACT --out contract.json audit one contract, and keep it for others
    duxnet escrow audit --file contract.json         audit what somebody else has kept; no node is needed
    duxnet escrow audit --file contract.json --coin-node http://127.0.0.1:32551/ --login rpc.auth
    """
    if contract_id is not None or source is not None:
        from dux_cli.case_audit import AuditWish, audit_contract

        name = the_contract(session, contract_id) if contract_id is not None and source is None else ""
        wish = AuditWish(contract_id=name, source=source, out=out, coin_node=coin_node, login=login)
        audit_contract(session, wish)
        return
    from common.contracts.escrow import AUDIT, AuditRead

    page = session.ask(AUDIT, AuditRead(after=after, limit=limit))
    rows = each(page.lines, lambda line: (str(line.number), line.kind, short(line.hash.hex())))
    session.out.table(page, ("line", "what", "hash"), rows, empty="no decisions yet")


for act in ACTS:
    escrow.add_command(act)
