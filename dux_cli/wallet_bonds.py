"""`duxnet wallet bond …`: coins locked until a height, as a sign that this node means to stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from common.errors import BadParams
from dux_cli.command import DuxGroup, Session, new_request_id, pass_session
from dux_cli.output import each, flop
from dux_cli.wallet import FLOP_AMOUNT, check_spend

if TYPE_CHECKING:
    from common.units import Florins


@click.group(cls=DuxGroup)
def bond() -> None:
    """Fidelity bonds: nobody, not even you, moves them before their height."""


@bond.command()
@click.argument("amount", type=FLOP_AMOUNT)
@click.option("--days", type=click.IntRange(min=1), help="Lock for at least so many days of 1440 blocks.")
@click.option("--until", type=click.IntRange(min=1), help="Or until at least this height.")
@click.option("--yes", is_flag=True, help="Do not ask; only together with --max-amount.")
@click.option("--max-amount", type=FLOP_AMOUNT, help="Refuse to lock more than this.")
@click.option("--request-id", default="", help="Repeat an earlier bond's id: it is made once.")
@pass_session
def make(
    session: Session, *, amount: Florins, days: int | None, until: int | None, yes: bool,
    max_amount: Florins | None, request_id: str,
) -> None:  # fmt: skip
    """Lock coins. Asks before it does.

    \b
    duxnet wallet bond make 100 --days 180
    """
    from common.contracts.wallet import CHAIN_TIP, WALLET_BOND_MAKE
    from common.contracts.wallet_bonds import MakeBond
    from common.quality import DAY_BLOCKS
    from common.rpc.method import Empty

    check_spend(amount, yes=yes, max_amount=max_amount)
    if (days is None) == (until is None):
        raise BadParams(detail="say how long: --days N or --until HEIGHT")
    height = until or int(session.ask(CHAIN_TIP, Empty()).height) + (days or 0) * DAY_BLOCKS
    if not yes:
        click.confirm(f"Lock {flop(amount)} until height {height}? There is no way back before.", abort=True, err=True)
    wish = MakeBond(request_id=request_id or new_request_id("bond"), amount_florins=amount, until=height)
    made = session.ask(WALLET_BOND_MAKE, wish)
    session.out.record(
        made,
        [
            ("bond", str(made.number)),
            ("locked", f"{flop(made.amount_florins)} until height {made.until}"),
            ("address", made.address),
            ("transaction", made.txid),
            ("fee", flop(made.fee_florins)),
            ("next", f"duxnet wallet bond register {made.number}"),
        ],
        name=str(made.number),
    )


@bond.command("list")
@pass_session
def list_bonds(session: Session) -> None:
    """The bonds that hold coins, the earliest to end first."""
    from common.contracts.wallet import WALLET_BONDS
    from common.rpc.method import Empty

    told = session.ask(WALLET_BONDS, Empty())
    rows = each(
        told.bonds,
        lambda b: (
            str(b.number),
            flop(b.locked_florins),
            str(b.until),
            "over" if told.tip >= b.until else f"{b.until - told.tip} blocks left",
            "yes" if b.registered else "no",
        ),
    )
    session.out.table(told, ("bond", "locked", "until", "state", "registered"), rows, empty="no bonds")


@bond.command()
@click.argument("number", type=int)
@click.option("--request-id", default="", help="Repeat an earlier call's id.")
@pass_session
def register(session: Session, number: int, request_id: str) -> None:
    """Bind the bond to this node's name by signed proofs, which the node then shows to others."""
    from common.contracts.wallet import WALLET_BOND_REGISTER
    from common.contracts.wallet_bonds import BondName

    name = BondName(request_id=request_id or new_request_id("register"), number=number)
    view = session.ask(WALLET_BOND_REGISTER, name)
    lines = [("bond", str(view.number)), ("locked", f"{flop(view.locked_florins)} until {view.until}")]
    lines += [("proof", f"{coin.outpoint}: {coin.proof.hex()}") for coin in view.coins]
    session.out.record(view, lines, name=str(view.number))


@bond.command()
@click.argument("number", type=int)
@click.option("--request-id", default="", help="Repeat an earlier call's id.")
@pass_session
def reclaim(session: Session, number: int, request_id: str) -> None:
    """Take a bond back once its height is reached."""
    from common.contracts.wallet import WALLET_BOND_RECLAIM
    from common.contracts.wallet_bonds import BondName

    name = BondName(request_id=request_id or new_request_id("reclaim"), number=number)
    taken = session.ask(WALLET_BOND_RECLAIM, name)
    lines = [("transaction", taken.txid), ("back", flop(taken.amount_florins)), ("fee", flop(taken.fee_florins))]
    session.out.record(taken, lines, name=taken.txid)
