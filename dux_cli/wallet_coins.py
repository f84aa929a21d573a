"""`duxnet wallet …`: accounts, watching, fee bumps, sweeps, limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.errors import NotNow
from dux_cli.command import DuxCommand, Session, new_request_id, pass_session
from dux_cli.output import each, flop

if TYPE_CHECKING:
    from common.contracts.wallet_accounts import AccountView, WatchedView
    from common.rpc.method import Method, P, R

READS_S = 60.0  # for one call of a wallet that reads blocks
READS_AGAIN_MAX = 120  # calls, for a long chain


def ask_patiently(session: Session, method: Method[P, R], params: P) -> R:
    """Call again, with the same request id, while the wallet is still reading blocks."""

    async def asked() -> R:
        for _ in range(READS_AGAIN_MAX):
            try:
                return await session.call(method, params, deadline_s=READS_S)
            except NotNow as error:
                session.out.step(f"{error.message} …")
        return await session.call(method, params, deadline_s=READS_S)

    return session.run(asked())


@click.command(cls=DuxCommand)
@click.argument("transaction")
@click.option("--how", type=click.Choice(["auto", "replace", "child"]), default="auto", show_default=True)
@click.option("--rate", default=0, help="Florins per 1000 bytes; 0: twice the wallet's.")
@click.option("--request-id", default="", help="Repeat an earlier bump's id: it is done once.")
@pass_session
def bump(session: Session, transaction: str, how: str, rate: int, request_id: str) -> None:
    """Speed up a payment that waits: the same once more with a higher fee, or a child that pays for both.

    \b
    duxnet wallet bump TRANSACTION
    duxnet wallet bump TRANSACTION --how child --rate 5000000
    """
    from common.contracts.wallet import WALLET_BUMP
    from common.contracts.wallet_bump import Bump

    name = request_id or new_request_id("bump")
    made = session.ask(WALLET_BUMP, Bump(request_id=name, txid=transaction, how=how, fee_rate_florins_per_kb=rate))  # type: ignore[arg-type]
    session.out.record(
        made,
        [
            ("transaction", made.txid),
            ("how", "it takes the other's place" if made.how == "replace" else "it spends the other's change"),
            ("fee", flop(made.fee_florins)),
        ],
        name=made.txid,
    )


@click.command(cls=DuxCommand)
@click.option("--key-file", type=click.Path(exists=True, path_type=Path), help="It holds the key; else you are asked.")
@click.option("--from-height", default=0, help="Blocks below are not read: since when the key was paid.")
@click.option("--request-id", default="", help="Repeat an earlier sweep's id: it is done once.")
@pass_session
def sweep(session: Session, key_file: Path | None, from_height: int, request_id: str) -> None:
    """Bring everything on a foreign private key (WIF) to a fresh own address. The key is not kept.

    \b
    duxnet wallet sweep --key-file paper-wallet.txt --from-height 900000
    """
    from common.contracts.wallet import WALLET_SWEEP
    from common.contracts.wallet_bump import Sweep

    key = key_file.read_text().strip() if key_file else click.prompt("Private key (WIF)", hide_input=True, err=True)
    asked = Sweep(request_id=request_id or new_request_id("sweep"), private_key=key, from_height=from_height)
    made = ask_patiently(session, WALLET_SWEEP, asked)
    session.out.record(
        made,
        [
            ("transaction", made.txid),
            ("to", made.address),
            ("amount", flop(made.amount_florins)),
            ("fee", flop(made.fee_florins)),
            ("coins", f"{made.coins}" + (f", {made.coins_left} left: sweep again" if made.coins_left else "")),
        ],
        name=made.txid,
    )


@click.command(cls=DuxCommand)
@pass_session
def limits(session: Session) -> None:
    """What daemons may pay without you, and how much of it the last day has used (flopd.yaml sets it)."""
    from common.contracts.wallet import WALLET_LIMITS
    from common.rpc.method import Empty

    told = session.ask(WALLET_LIMITS, Empty())
    rows = each(told.limits, lambda one: (one.name, flop(one.limit_florins), flop(one.spent_florins)))
    session.out.table(told, ("limit", "at most", "used, of one at most"), rows)


@click.command(cls=DuxCommand)
@click.argument("name")
@click.option("--request-id", default="", help="Repeat an earlier call's id: it is done once.")
@pass_session
def account(session: Session, name: str, request_id: str) -> None:
    """Open one more account of the same phrase: what lies there no daemon spends.

    \b
    duxnet wallet account savings
    duxnet wallet address --account 1
    """
    from common.contracts.wallet import WALLET_ACCOUNT
    from common.contracts.wallet_accounts import OpenAccount

    made = session.ask(WALLET_ACCOUNT, OpenAccount(request_id=request_id or new_request_id("account"), name=name))
    session.out.record(made, [("number", str(made.number)), *account_lines(made)], name=str(made.number))


def account_lines(view: AccountView) -> list[tuple[str, str]]:
    """An account for people."""
    return [
        ("name", view.name),
        ("confirmed", flop(view.confirmed_florins)),
        ("waiting", flop(view.pending_florins)),
        ("public key", view.public_key),
    ]


@click.command(cls=DuxCommand)
@pass_session
def accounts(session: Session) -> None:
    """All accounts of the phrase; the public keys let another wallet watch them."""
    from common.contracts.wallet import WALLET_ACCOUNTS
    from common.rpc.method import Empty

    told = session.ask(WALLET_ACCOUNTS, Empty())
    rows = each(
        told.accounts,
        lambda a: (str(a.number), a.name, flop(a.confirmed_florins), flop(a.pending_florins), a.public_key),
    )
    session.out.table(told, ("number", "name", "confirmed", "waiting", "public key"), rows)


@click.command(cls=DuxCommand)
@click.argument("what")
@click.option("--label", default="", help="Whose it is, in your own books.")
@click.option("--from-height", default=0, help="Blocks below are not read.")
@click.option("--script", "is_script", is_flag=True, help="WHAT is a redeem script in hex.")
@click.option("--request-id", default="", help="Repeat an earlier call's id.")
@pass_session
def watch(session: Session, what: str, *, label: str, from_height: int, is_script: bool, request_id: str) -> None:
    """Watch an address, an account's public key (dgub…, tpub…) or a redeem script; nothing of it can be spent here.

    \b
    duxnet wallet watch F… --label "the shop" --from-height 900000
    duxnet wallet watch dgub… --label savings
    """
    from common.contracts.wallet import WALLET_WATCH
    from common.contracts.wallet_accounts import WatchOnly

    is_account = what[:4] in ("dgub", "tpub")
    asked = WatchOnly(
        request_id=request_id or new_request_id("watch"), label=label, from_height=from_height,
        address="" if is_script or is_account else what, account_key=what if is_account else "",
        redeem_script=bytes.fromhex(what) if is_script else b"",
    )  # fmt: skip
    shown = ask_patiently(session, WALLET_WATCH, asked)
    session.out.record(shown, watched_lines(shown), name=shown.name)


def watched_lines(view: WatchedView) -> list[tuple[str, str]]:
    """Something watched, for people."""
    return [
        ("watched", view.name),
        ("label", view.label),
        ("confirmed", flop(view.confirmed_florins)),
        ("waiting", flop(view.pending_florins)),
    ]


@click.command(cls=DuxCommand)
@pass_session
def watched(session: Session) -> None:
    """What is watched without keys, with its coins."""
    from common.contracts.wallet import WALLET_WATCHED
    from common.rpc.method import Empty

    told = session.ask(WALLET_WATCHED, Empty(), deadline_s=READS_S)
    rows = each(told.watched, lambda w: (w.name, w.label, flop(w.confirmed_florins), flop(w.pending_florins)))
    session.out.table(told, ("watched", "label", "confirmed", "waiting"), rows, empty="nothing is watched")


COMMANDS = (bump, sweep, limits, account, accounts, watch, watched)
