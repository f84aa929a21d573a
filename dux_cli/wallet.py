"""`duxnet wallet …`: what this node's wallet holds, and payments from it."""

from __future__ import annotations

import click

from common.errors import BadParams
from common.units import Florins, parse_flop
from dux_cli.command import DuxGroup, Session, new_request_id, pass_session
from dux_cli.output import each, flop, short


class FlopAmount(click.ParamType[Florins]):
    """An amount as a person writes it: FLOP with up to eight decimals."""

    name = "FLOP"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Florins:
        """The amount in florins."""
        if isinstance(value, Florins):
            return value
        try:
            return parse_flop(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


FLOP_AMOUNT = FlopAmount()


class OverMaxAmount(BadParams):
    """{amount_florins} florins are more than --max-amount allows ({max_florins})."""

    code = 1123
    key = "over-max-amount"


@click.group(cls=DuxGroup)
def wallet() -> None:
    """Balance, addresses and payments of this node."""


@wallet.command()
@pass_session
def balance(session: Session) -> None:
    """What the wallet holds, in parts that never overlap.

    \b
    duxnet wallet balance
    duxnet wallet balance --json | jq -r .spendable_florins
    """
    from common.contracts.wallet import WALLET_BALANCE
    from common.rpc.method import Empty

    held = session.ask(WALLET_BALANCE, Empty())
    session.out.record(
        held,
        [
            ("spendable", flop(held.spendable_florins)),
            ("bound by payments", flop(held.locked_florins)),
            ("seen, not in a block", flop(held.pending_florins)),
            ("mined, not ripe", flop(held.immature_florins)),
            ("total", flop(held.total_florins)),
            ("in contracts, beside it", flop(held.in_contracts_florins)),
        ],
        name=str(int(held.spendable_florins)),
    )


@wallet.command()
@click.option("--label", default="", help="What the address is for, in your own books.")
@pass_session
def address(session: Session, label: str) -> None:
    """A fresh address to be paid at.

    \b
    duxnet wallet address --label "from Anna"
    """
    from common.contracts.wallet import WALLET_NEW_ADDRESS, NewAddress

    made = session.ask(WALLET_NEW_ADDRESS, NewAddress(request_id=new_request_id("address"), label=label))
    session.out.record(made, [("address", made.address), ("label", made.label)], name=made.address)


@wallet.command()
@click.argument("to_address")
@click.argument("amount", type=FLOP_AMOUNT)
@click.option("--label", default="", help="What it is for, in your own books.")
@click.option("--yes", is_flag=True, help="Do not ask; only together with --max-amount.")
@click.option("--max-amount", type=FLOP_AMOUNT, help="Refuse to pay more than this, fee not counted.")
@click.option("--dry-run", is_flag=True, help="Say what would be paid, pay nothing.")
@click.option(
    "--request-id", default="", help="Repeat an earlier payment's id: it is paid once, the answer is the same."
)
@pass_session
def send(
    session: Session, *, to_address: str, amount: Florins, label: str, yes: bool, max_amount: Florins | None,
    dry_run: bool, request_id: str,
) -> None:  # fmt: skip
    """Pay an address. Asks before it pays.

    \b
    duxnet wallet send F… 10.5
    duxnet wallet send F… 10.5 --yes --max-amount 11 --json
    """
    from common.contracts.wallet import WALLET_SEND, Send

    check_spend(amount, yes=yes, max_amount=max_amount)
    wish = Send(request_id=request_id or new_request_id("send"), address=to_address, amount_florins=amount, label=label)
    if dry_run:
        session.out.record(wish, [("would pay", flop(amount)), ("to", to_address)], name=wish.request_id)
        return
    if not yes and (session.out.as_json or session.out.quiet):
        raise BadParams(detail="nobody can be asked here: add --yes and --max-amount FLOP")
    if not yes:
        click.confirm(f"Pay {flop(amount)} to {to_address}?", abort=True, err=True)
    paid = session.ask(WALLET_SEND, wish)
    session.out.record(
        paid,
        [("transaction", paid.txid), ("paid", flop(paid.amount_florins)), ("fee", flop(paid.fee_florins))],
        name=paid.txid,
    )


def check_spend(amount: Florins, *, yes: bool, max_amount: Florins | None) -> None:
    """A payment that nobody confirms has a stated limit.

    Raises:
        BadParams, OverMaxAmount: it has none, or is above it.
    """
    if yes and max_amount is None:
        raise BadParams(detail="--yes pays without asking, so it needs a limit: add --max-amount FLOP")
    if max_amount is not None and amount > max_amount:
        raise OverMaxAmount(amount_florins=int(amount), max_florins=int(max_amount))


@wallet.command()
@click.option("--limit", default=20, show_default=True, help="How many, newest first.")
@click.option("--offset", default=0, help="How many to leave out.")
@pass_session
def history(session: Session, limit: int, offset: int) -> None:
    """Transactions that moved this wallet's coins, newest first.

    \b
    duxnet wallet history --limit 5
    """
    from common.contracts.wallet import WALLET_HISTORY, HistoryAsked

    told = session.ask(WALLET_HISTORY, HistoryAsked(limit=limit, offset=offset))
    rows = each(
        told.entries,
        lambda e: (e.txid, e.kind, e.state, str(e.height or ""), flop(e.change_florins), e.counterparty),
    )
    session.out.table(told, ("transaction", "kind", "state", "height", "change", "with"), rows, empty="no payments yet")


@wallet.command()
@pass_session
def coins(session: Session) -> None:
    """The wallet's coins one by one."""
    from common.contracts.wallet import WALLET_UTXOS
    from common.rpc.method import Empty

    held = session.ask(WALLET_UTXOS, Empty())
    rows = each(
        held.coins,
        lambda c: (f"{c.outpoint.txid}:{c.outpoint.vout}", flop(c.value_florins), c.state, str(c.height or "")),
    )
    session.out.table(held, ("coin", "value", "state", "height"), rows, empty="no coins")


@wallet.command("status")
@pass_session
def wallet_status(session: Session) -> None:
    """Which chain the wallet follows, how far it has read, and whether it can pay."""
    from common.contracts.wallet import WALLET_STATUS
    from common.rpc.method import Empty

    told = session.ask(WALLET_STATUS, Empty())
    session.out.record(
        told,
        [
            ("chain", f"{told.family} ({told.source})"),
            ("genesis", told.genesis),
            ("height", str(told.height)),
            ("tip", short(told.hash)),
            ("synced", "yes" if told.synced else "not yet"),
            ("can pay", "yes" if told.unlocked else "no: the wallet is locked"),
            ("problems", "; ".join(told.problems)),
        ],
        name=str(told.height),
    )
