"""`duxnet airdrop …`: what the community fund hands back, to whom, when, and the proof of it."""

from __future__ import annotations

from pathlib import Path

import click

from dux_cli.command import EXIT_FAILED, DuxGroup, Session, pass_session
from dux_cli.out_files import OutFile, write_out
from dux_cli.output import each, flop


@click.group(cls=DuxGroup)
def airdrop() -> None:
    """What the community fund hands back to the nodes."""


@airdrop.command("status")
@pass_session
def airdrop_status(session: Session) -> None:
    """How far the fund is from the next airdrop, or how far the one in progress has got."""
    from common.contracts.airdrop import AIRDROP_STATUS
    from common.rpc.method import Empty

    told = session.ask(AIRDROP_STATUS, Empty())
    lines = [
        ("next airdrop", f"number {told.number}, {told.phase}"),
        ("fund", f"{flop(told.balance_florins)} of {flop(told.threshold_florins)}"),
        ("owed from before", flop(told.reserved_florins)),
        ("signatures", f"{told.signatures} of {told.signatures_needed} needed, {told.custodians} custodians"),
        ("rule", told.rule),
        ("cut-off block", str(told.cutoff_height or "")),
        ("refusals", "; ".join(told.refusals)),
        ("problem", told.problem),
    ]
    session.out.record(told, lines, name=str(told.number))


@airdrop.command()
@click.option("--limit", default=20, show_default=True)
@pass_session
def history(session: Session, limit: int) -> None:
    """Airdrops so far, newest first."""
    from common.contracts.airdrop import AIRDROP_HISTORY, HistoryAsked

    told = session.ask(AIRDROP_HISTORY, HistoryAsked(limit=limit))
    rows = each(
        told.airdrops,
        lambda a: (str(a.number), str(a.phase), flop(a.paid_florins), str(a.eligible), flop(a.share_florins), a.txid),
    )
    headings = ("number", "phase", "handed back", "nodes", "share", "transaction")
    session.out.table(told, headings, rows, empty="none yet; `duxnet airdrop status` tells what is missing")


@airdrop.command()
@click.argument("number", type=int)
@pass_session
def show(session: Session, number: int) -> None:
    """One airdrop with every share."""
    from common.contracts.airdrop import AIRDROP_SHOW, NumberAsked

    told = session.ask(AIRDROP_SHOW, NumberAsked(number=number))
    rows = each(told.shares, lambda s: (s.did, flop(s.share_florins), flop(s.paid_florins), s.address))
    session.out.table(told, ("node", "share", "paid", "to"), rows, empty="nobody was eligible")


@airdrop.command()
@pass_session
def eligible(session: Session) -> None:
    """Who would get a share now, and why the others would not."""
    from common.contracts.airdrop import AIRDROP_ELIGIBLE
    from common.rpc.method import Empty

    told = session.ask(AIRDROP_ELIGIBLE, Empty(), deadline_s=60.0)
    rows = each(told.candidates, lambda c: (c.did, "yes" if c.eligible else "no", c.reason))
    session.out.table(told, ("node", "share", "why not"), rows, empty="no node is known")


@airdrop.command()
@click.argument("number", type=int)
@click.argument("file", type=OutFile())
@pass_session
def proof(session: Session, number: int, file: Path) -> None:
    """Write the proof of a paid airdrop to FILE: any node can recompute it (`duxnet airdrop verify FILE`)."""
    from common.contracts.airdrop import AIRDROP_PROOF, NumberAsked

    told = session.ask(AIRDROP_PROOF, NumberAsked(number=number))
    write_out(file, told.proof)
    session.out.record(told, [("written", f"{file} ({len(told.proof)} bytes)")], name=str(file))


@airdrop.command()
@click.argument("number", type=int)
@click.argument("file", type=OutFile())
@pass_session
def publish(session: Session, number: int, file: Path) -> None:
    """Write the public proof file of a paid airdrop: `duxnet verify airdrop FILE` needs no node."""
    from common.contracts.airdrop_fund import AIRDROP_FILE, AirdropFileAsked

    told = session.ask(AIRDROP_FILE, AirdropFileAsked(number=number), deadline_s=120.0)
    write_out(file, told.file)
    session.out.record({"bytes": len(told.file)}, [("written", f"{file} ({len(told.file)} bytes)")], name=str(file))


@airdrop.command()
@pass_session
def ledger(session: Session) -> None:
    """What nodes are owed from shares that were too small to pay."""
    from common.contracts.airdrop import AIRDROP_LEDGER
    from common.rpc.method import Empty

    told = session.ask(AIRDROP_LEDGER, Empty())
    rows = [(did, flop(florins)) for did, florins in told.owed_florins.items()]
    session.out.table(told, ("node", "owed"), rows, empty="nobody is owed anything")


@airdrop.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@pass_session
def verify(session: Session, file: Path) -> None:
    """Recompute a proof from its evidence and this node's own chain. Exit code 1 when it does not hold."""
    from common.contracts.airdrop import AIRDROP_VERIFY, VerifyProof

    told = session.ask(AIRDROP_VERIFY, VerifyProof(proof=file.read_bytes()), deadline_s=60.0)
    verdict = "holds" if told.valid else "does not hold"
    lines = [("proof", verdict), ("problems", "; ".join(told.problems)), ("transaction", told.txid)]
    session.out.record(told, lines, name=verdict)
    if not told.valid:
        raise SystemExit(EXIT_FAILED)
