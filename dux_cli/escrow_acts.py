"""What a person does about a contract: judge, pay or take a part, look at evidence, vote; and what waits for them.

Every command says what comes next. Source: escrow_protocol.md §8, §9.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dux_cli.command import EXIT_FAILED, DuxCommand, Session, new_request_id, pass_session
from dux_cli.out_files import write_out
from dux_cli.output import counted, each, flop, note, short
from dux_cli.short_ids import the_contract
from dux_cli.wallet import FLOP_AMOUNT, check_spend

if TYPE_CHECKING:
    from common.contracts.escrow import ContractRef
    from common.contracts.escrow_cases import CaseItem, EvidenceView
    from common.contracts.escrow_restore import Restored
    from common.units import Florins


def _next(session: Session, done: ContractRef, what: str) -> None:
    session.out.record(done, [(what, done.contract_id), ("next", f"duxnet why contract {done.contract_id}")])


@click.command(cls=DuxCommand)
@click.argument("contract_id")
@click.option("--good/--bad", required=True, help="Good pays the whole price, bad asks the arbiters.")
@click.option("--reason", default="", help="What is wrong, for the arbiters.")
@click.option("--evidence", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file of up to 8 KiB.")
@pass_session
def judge(session: Session, contract_id: str, *, good: bool, reason: str, evidence: Path | None) -> None:
    """Buyer: the result was looked at."""
    from common.contracts.escrow import JUDGE, Judge

    contract_id = the_contract(session, contract_id)
    shown = evidence.read_bytes() if evidence else b""
    wish = Judge(request_id=new_request_id("judge"), contract_id=contract_id, good=good, reason=reason, evidence=shown)
    _next(session, session.ask(JUDGE, wish), "paid" if good else "disputed")


@click.command("pay-part", cls=DuxCommand)
@click.argument("contract_id")
@click.argument("amount", type=FLOP_AMOUNT)
@pass_session
def pay_part(session: Session, contract_id: str, amount: Florins) -> None:
    """Buyer: offer to end with a part of the price; it binds you, and pays when the seller takes it.

    \b
    duxnet escrow pay-part CONTRACT 4
    """
    from common.contracts.escrow import PAY_PART, PayPart

    contract_id = the_contract(session, contract_id)
    wish = PayPart(request_id=new_request_id("part"), contract_id=contract_id, gross_florins=amount)
    _next(session, session.ask(PAY_PART, wish), "offered")


@click.command("late-ok", cls=DuxCommand)
@click.argument("contract_id")
@pass_session
def late_ok(session: Session, contract_id: str) -> None:
    """Buyer: let a coin that came too late count after all; the seller agrees by itself while all windows fit."""
    from common.contracts.escrow_late import LATE_OK, LateOk

    contract_id = the_contract(session, contract_id)
    wish = LateOk(request_id=new_request_id("late"), contract_id=contract_id)
    _next(session, session.ask(LATE_OK, wish), "asked")


@click.command("take-part", cls=DuxCommand)
@click.argument("contract_id")
@click.argument("amount", type=FLOP_AMOUNT)
@pass_session
def take_part(session: Session, contract_id: str, amount: Florins) -> None:
    """Seller: take exactly the part that the buyer has offered."""
    from common.contracts.escrow import TAKE_PART, TakePart

    contract_id = the_contract(session, contract_id)
    wish = TakePart(request_id=new_request_id("take"), contract_id=contract_id, gross_florins=amount)
    _next(session, session.ask(TAKE_PART, wish), "taken")


@click.command(cls=DuxCommand)
@click.argument("contract_id")
@click.argument("amount", type=FLOP_AMOUNT)
@click.option("--reason", default="decided by the owner", show_default=True, help="Public, with the vote.")
@pass_session
def vote(session: Session, contract_id: str, amount: Florins, reason: str) -> None:
    """Arbiter: what the seller has earned, from 0 to the price; committed now, revealed by itself.

    \b
    duxnet escrow vote CONTRACT 0 --reason "not the picture that was asked for"
    """
    from common.contracts.escrow import VOTE, Vote

    contract_id = the_contract(session, contract_id)
    wish = Vote(request_id=new_request_id("vote"), contract_id=contract_id, gross_florins=amount, reason=reason)
    _next(session, session.ask(VOTE, wish), "voted")


@click.command(cls=DuxCommand)
@click.argument("contract_id")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write all of it here.")
@pass_session
def evidence(session: Session, contract_id: str, out: Path | None) -> None:
    """Arbiter: what both sides have shown, and where the result lies."""
    from common.contracts.escrow import ContractRef
    from common.contracts.escrow_cases import EVIDENCE

    contract_id = the_contract(session, contract_id)
    told = session.ask(EVIDENCE, ContractRef(contract_id=contract_id))
    lines = [
        ("disputed by", told.disputed_by or ""),
        ("reason", told.reason),
        ("result (encrypted)", told.ciphertext_blob or "nothing was delivered"),
        ("held by", ", ".join(told.holders)),
        ("storage receipts", _receipts(told)),
        ("key", "shown" if told.content_key else "not shown: vote by the statements alone"),
        ("buyer offers", flop(told.offered_florins)),
    ]
    lines += [(f"shown by {short(did)}", counted(len(items), "piece")) for did, items in told.shown.items()]
    if out is not None:
        lines.append(("written to", str(_written(out, {"job": told.job}, told.shown))))
    session.out.record(told, lines, name=contract_id)


def _receipts(told: EvidenceView) -> str:
    """How many count of how many that are wanted, and what is wrong with the others."""
    good = sum(not item.fault for item in told.storage_receipts)
    faults = [f"{short(item.holder)}: {item.fault}" for item in told.storage_receipts if item.fault]
    return "; ".join([f"{good} count, at least {told.receipts_wanted} are wanted", *faults])


def _written(folder: Path, single: dict[str, bytes], shown: dict[str, tuple[bytes, ...]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pieces = single | {f"{did[-12:]}-{at}": item for did, items in shown.items() for at, item in enumerate(items)}
    for name, body in pieces.items():
        write_out(folder / name, body)
    return folder


@click.command(cls=DuxCommand)
@pass_session
def restore(session: Session) -> None:
    """After a restore from the phrase: find the encrypted copies of open contracts, and take them back.

    \b
    duxnet escrow restore
    """
    from common.contracts.escrow_restore import RESTORE
    from common.rpc.method import Empty

    _tell_restored(session, session.ask(RESTORE, Empty(), deadline_s=300.0))


@click.command(cls=DuxCommand)
@click.option("--from", "holder", required=True, help="The name of a node that a contract was with.")
@pass_session
def recover(session: Session, holder: str) -> None:
    """As `restore`, and the node that you name is asked, too: a buyer, seller or arbiter that may keep copies.

    \b
    duxnet escrow recover --from did:dux:…
    """
    from common.contracts.escrow_restore import RECOVER, RecoverContracts
    from common.units import Did

    _tell_restored(session, session.ask(RECOVER, RecoverContracts(holder=Did(holder)), deadline_s=300.0))


def _tell_restored(session: Session, told: Restored) -> None:
    lines = [("restored", name) for name in told.restored] + [("here already", name) for name in told.known]
    lines += [("cannot be taken back", why) for why in told.problems]
    session.out.record(told, lines or [("restored", "no copy of a contract was found")])
    if told.problems:
        raise SystemExit(EXIT_FAILED)


@click.command(cls=DuxCommand)
@click.argument("contract_id")
@pass_session
def confirm(session: Session, contract_id: str) -> None:
    """Buyer: other workers have found the same output, so paying a larger lot before seeing it is safe."""
    from common.contracts.escrow import CONFIRM, Confirm

    contract_id = the_contract(session, contract_id)
    _next(
        session,
        session.ask(CONFIRM, Confirm(request_id=new_request_id("confirm"), contract_id=contract_id)),
        "confirmed",
    )


@click.command(cls=DuxCommand)
@pass_session
def cases(session: Session) -> None:
    """What waits for you as buyer, seller, arbiter or custodian, until which block, and how to answer.

    \b
    duxnet cases
    """
    from msgspec.structs import replace

    from common.contracts.escrow_cases import CASES
    from common.rpc.method import Empty
    from dux_cli.staged_cases import with_stages

    found = session.ask(CASES, Empty())
    found = replace(found, cases=(*with_stages(session, found.cases), *_of_the_fund(session)))
    rows = each(
        found.cases,
        lambda c: (c.contract_id, c.role, _what(c), f"{c.due} ({c.blocks_left} left)", c.otherwise, c.commands[0]),
    )
    headings = ("contract", "you are", "what waits", "until block", "otherwise", "command")
    session.out.table(found, headings, rows, empty=f"nothing waits for you at height {found.height}")


def _what(item: CaseItem) -> str:
    return f"stage {item.stage} of {item.stages}: {item.what}" if item.stage else item.what


def _of_the_fund(session: Session) -> tuple[CaseItem, ...]:
    """What waits for a custodian: a payout that lacks signatures, or a round that something is wrong with."""
    from common.contracts.airdrop import AIRDROP_STATUS, Phase
    from common.contracts.escrow_cases import CaseItem
    from common.errors import DuxError
    from common.rpc.method import Empty
    from common.units import Florins

    try:
        told = session.ask(AIRDROP_STATUS, Empty())
    except DuxError as error:
        note(f"the fund's rounds cannot be asked for now: {error.message}")
        return ()
    lacks = told.phase is Phase.SIGNING and told.signatures < told.signatures_needed
    if not told.is_custodian or not (lacks or told.problem):
        return ()
    what = told.problem or f"payout {told.number} has {told.signatures} of {told.signatures_needed} signatures"
    due = int(told.proposal_after or told.tip)
    item = CaseItem(
        contract_id="", role="custodian", service_id="community fund", price_florins=Florins(0), what=what, due=due,
        blocks_left=due - int(told.tip), otherwise="a later cut-off decides", commands=("duxnet airdrop status",),
    )  # fmt: skip
    return (item,)


@click.command(cls=DuxCommand)
@pass_session
def royalties(session: Session) -> None:
    """What developers of this node's services were paid by its finished work, and what is owed to them.

    A royalty below 0.01 FLOP makes no output of its own: it stays with this node and is owed until enough has come
    together; `duxnet escrow pay-royalties` pays it.

    \b
    duxnet escrow royalties
    """
    from common.contracts.escrow_royalties import ROYALTIES
    from common.rpc.method import Empty

    told = session.ask(ROYALTIES, Empty())
    rows = each(
        told.accounts,
        lambda one: (
            one.address, one.deals, flop(one.paid_florins), flop(one.owed_florins), flop(one.sent_florins),
        ),
    )  # fmt: skip
    heads = ("developer", "deals", "paid with the work", "owed", "in payments")
    session.out.table(told, heads, rows, empty="no finished work bears a royalty")


@click.command("pay-royalties", cls=DuxCommand)
@click.option("--yes", is_flag=True, help="Do not ask; only together with --max-amount.")
@click.option("--max-amount", type=FLOP_AMOUNT, help="Refuse to pay more than this in all, fees not counted.")
@click.option(
    "--every",
    type=click.FloatRange(0.01, 24 * 31),
    metavar="HOURS",
    help="Go on: one round after the other, each at most --max-amount.",
)
@pass_session
def pay_royalties(session: Session, *, yes: bool, max_amount: Florins | None, every: float | None) -> None:
    """Pay developers what is owed to them, where it is 0.01 FLOP or more. Asks before it pays.

    Each payment has a name of its own: a command that was interrupted is given again and pays nobody twice. The
    wallet's spending limits hold; who cannot be paid today is paid another day.

    \b
    duxnet escrow pay-royalties
    duxnet escrow pay-royalties --yes --max-amount 1 --json
    duxnet escrow pay-royalties --yes --max-amount 0.5 --every 24     by itself, until it is stopped
    """
    from common.errors import BadParams
    from common.units import Florins
    from dux_cli.royalties import keep_paying, named_payments, pay_each

    if every is not None:
        if not yes or max_amount is None:
            raise BadParams(detail="--every asks nobody: add --yes and --max-amount FLOP, the most of one round")
        keep_paying(session, limit_florins=int(max_amount), pause=partial(time.sleep, every * 3600))
    payments = named_payments(session)
    total = Florins(sum(payment.amount_florins for payment in payments))
    check_spend(total, yes=yes, max_amount=max_amount)
    if payments and not yes and (session.out.as_json or session.out.quiet):
        raise BadParams(detail="nobody can be asked here: add --yes and --max-amount FLOP")
    if payments and not yes:
        click.confirm(f"Pay {flop(total)} to {counted(len(payments), 'developer')}?", abort=True, err=True)
    if not pay_each(session, payments):
        raise SystemExit(EXIT_FAILED)


ACTS = (judge, confirm, pay_part, take_part, late_ok, vote, evidence, restore, recover, royalties, pay_royalties)
