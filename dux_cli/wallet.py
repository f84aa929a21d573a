"""`duxnet wallet …`: what this node's wallet holds, and payments from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from common.errors import BadParams
from common.units import Florins, parse_flop
from dux_cli.chain_words import in_words
from dux_cli.command import EXIT_FAILED, DuxGroup, Session, new_request_id, pass_session
from dux_cli.output import each, flop, short

if TYPE_CHECKING:
    from common.chain.tx import Outpoint
    from common.contracts.wallet import Send
    from common.contracts.wallet_chain import ChainStatus
    from common.contracts.wallet_preview import Previewed

TXID_CHARS = 64


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
    """{amount_florins} are more than --max-amount allows: {max_florins}."""

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
@pass_session
def chain(session: Session) -> None:
    """Where the wallet's view of the chain comes from, and what about it looks wrong.

    \b
    duxnet wallet chain
    duxnet wallet chain --json | jq .warnings
    """
    from common.contracts.wallet import CHAIN_STATUS, CHAIN_TIP
    from common.rpc.method import Empty

    status, tip = session.ask(CHAIN_STATUS, Empty()), session.ask(CHAIN_TIP, Empty())
    session.out.record(
        status,
        [
            ("source", f"{status.source}: {status.endpoint}" + _wanted(status)),
            ("headers", f"{status.header_height} {short(status.header_hash)}"),
            ("read up to", f"{tip.height}" + ("" if tip.synced else ", not synced")),
            *[("peer", f"{peer.address} at {peer.height} {peer.agent}") for peer in status.peers],
            *[("banned", f"{ban.address}: {ban.reason}") for ban in status.bans],
            *[("warning", in_words(word)) for word in status.warnings],
        ],
        name=status.header_hash,
    )


def _wanted(status: ChainStatus) -> str:
    """How many coin nodes a light wallet would like to have."""
    return f" of {status.peers_wanted} wanted" if status.source == "spv" else ""


@wallet.command()
@click.option("--label", default="", help="What the address is for, in your own books.")
@click.option("--account", default=0, help="Of which account; `duxnet wallet accounts` lists them.")
@pass_session
def address(session: Session, label: str, account: int) -> None:
    """A fresh address to be paid at.

    \b
    duxnet wallet address --label "from Anna"
    """
    from common.contracts.wallet import WALLET_NEW_ADDRESS, NewAddress

    asked = NewAddress(request_id=new_request_id("address"), label=label, account=account)
    made = session.ask(WALLET_NEW_ADDRESS, asked)
    session.out.record(made, [("address", made.address), ("label", made.label)], name=made.address)


@wallet.command()
@click.argument("to_address")
@click.argument("amount", type=FLOP_AMOUNT)
@click.option("--label", default="", help="What it is for, in your own books.")
@click.option("--coin", "chosen", multiple=True, metavar="TXID:N", help="Spend this coin; may be repeated.")
@click.option("--account", default=0, help="From which account.")
@click.option("--yes", is_flag=True, help="Do not ask; only together with --max-amount.")
@click.option("--max-amount", type=FLOP_AMOUNT, help="Refuse to pay more than this, fee not counted.")
@click.option("--dry-run", is_flag=True, help="Say what it would cost and of which coins, pay nothing.")
@click.option(
    "--request-id", default="", help="Repeat an earlier payment's id: it is paid once, the answer is the same."
)
@pass_session
def send(
    session: Session, *, to_address: str, amount: Florins, label: str, chosen: tuple[str, ...], account: int,
    yes: bool, max_amount: Florins | None, dry_run: bool, request_id: str,
) -> None:  # fmt: skip
    """Pay an address. Says fee and total, and asks before it pays.

    \b
    duxnet wallet send F… 10.5
    duxnet wallet send F… 10.5 --yes --max-amount 11 --json
    """
    from common.contracts.wallet import WALLET_SEND, Send

    check_spend(amount, yes=yes, max_amount=max_amount)
    wish = Send(
        request_id=request_id or new_request_id("send"), address=to_address, amount_florins=amount, label=label,
        coins=tuple(_outpoint(text) for text in chosen), account=account,
    )  # fmt: skip
    if dry_run:
        _preview(session, wish)
        return
    if not yes and (session.out.as_json or session.out.quiet):
        raise BadParams(detail="nobody can be asked here: add --yes and --max-amount FLOP")
    if not yes:
        cost = _looked_at(session, wish)
        total = f"{flop(cost.amount_florins)} and {flop(cost.fee_florins)} fee"
        click.confirm(f"Pay {total} to {to_address}?", abort=True, err=True)
    paid = session.ask(WALLET_SEND, wish)
    session.out.record(
        paid,
        [("transaction", paid.txid), ("paid", flop(paid.amount_florins)), ("fee", flop(paid.fee_florins))],
        name=paid.txid,
    )


def _looked_at(session: Session, wish: Send) -> Previewed:
    """The payment as it would be: what is wrong with address, amount, coins or limits is told now."""
    from common.contracts.wallet_preview import WALLET_PREVIEW, Preview

    return session.ask(WALLET_PREVIEW, Preview(wish.address, wish.amount_florins, wish.coins, wish.account))


def _preview(session: Session, wish: Send) -> None:
    """What the payment would be, coin by coin."""
    told = _looked_at(session, wish)
    facts = [
        ("would pay", flop(told.amount_florins)),
        ("to", wish.address),
        ("fee", f"{flop(told.fee_florins)} for at most {told.size_bytes} bytes"),
        *[("from", f"{coin.outpoint} {flop(coin.value_florins)}") for coin in told.coins],
        ("change", flop(told.change_florins) if told.change_florins else "none"),
    ]
    session.out.record(told, facts, name=str(int(told.fee_florins)))


def _outpoint(text: str) -> Outpoint:
    """A coin as `duxnet wallet coins` names it.

    Raises:
        BadParams: it is no such name.
    """
    from common.chain.tx import Outpoint

    txid, _, number = text.partition(":")
    if len(txid) != TXID_CHARS or not number.isdecimal():
        raise BadParams(detail=f"{text!r} is no coin: write TXID:N as `duxnet wallet coins` shows them")
    return Outpoint(txid, int(number))


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
@click.option("--csv", "csv_file", type=click.File("w"), help="Write all of them there as CSV; - is the terminal.")
@pass_session
def history(session: Session, limit: int, offset: int, csv_file: TextIO | None) -> None:
    """Transactions that moved this wallet's coins, newest first.

    \b
    duxnet wallet history --limit 5
    duxnet wallet history --csv payments.csv
    """
    from common.contracts.wallet import WALLET_HISTORY, HistoryAsked

    if csv_file is not None:
        _write_csv(session, csv_file)
        return
    told = session.ask(WALLET_HISTORY, HistoryAsked(limit=limit, offset=offset))
    rows = each(
        told.entries,
        lambda e: (e.txid, e.kind, e.state, str(e.height or ""), flop(e.change_florins), e.counterparty, e.label),
    )
    headings = ("transaction", "kind", "state", "height", "change", "with", "label")
    session.out.table(told, headings, rows, empty="no payments yet")


def _write_csv(session: Session, file: TextIO) -> None:
    """Everything, newest first: amounts in FLOP, times in UTC."""
    import csv
    from datetime import UTC, datetime

    from common.contracts.wallet import HISTORY_MAX, WALLET_HISTORY, HistoryAsked
    from common.units import format_flop

    writer, offset = csv.writer(file), 0
    writer.writerow(["time", "height", "kind", "state", "change", "fee", "with", "label", "transaction", "request"])
    while True:
        page = session.ask(WALLET_HISTORY, HistoryAsked(limit=HISTORY_MAX, offset=offset))
        for e in page.entries:
            time = datetime.fromtimestamp(e.at_ms / 1000, tz=UTC).isoformat(timespec="seconds")
            fee = "" if e.fee_florins is None else format_flop(e.fee_florins)
            amounts = (format_flop(e.change_florins), fee)
            writer.writerow([time, e.height, e.kind, e.state, *amounts, e.counterparty, e.label, e.txid, e.request_id])
        offset += len(page.entries)
        if not page.entries or offset >= page.total:
            return


@wallet.command()
@click.argument("name")
@click.argument("text")
@pass_session
def label(session: Session, name: str, text: str) -> None:
    """Name an own address or a transaction in your books; an empty text takes the name away.

    \b
    duxnet wallet label F… "rent of May"
    """
    from common.contracts.wallet import WALLET_LABEL
    from common.contracts.wallet_tools import Label

    session.ask(WALLET_LABEL, Label(name=name, label=text))
    session.out.record(Label(name=name, label=text), [("name", name), ("label", text)], name=name)


@wallet.command("sign")
@click.argument("own_address")
@click.argument("message")
@pass_session
def sign_message(session: Session, own_address: str, message: str) -> None:
    """Sign a message with the key of an own address: whoever knows the address can check it.

    \b
    duxnet wallet sign F… "It is me."
    """
    from common.contracts.wallet import WALLET_SIGN_MESSAGE
    from common.contracts.wallet_tools import SignMessage

    made = session.ask(WALLET_SIGN_MESSAGE, SignMessage(address=own_address, message=message))
    session.out.record(made, [("address", made.address), ("signature", made.signature)], name=made.signature)


@wallet.command("verify")
@click.argument("their_address")
@click.argument("signature")
@click.argument("message")
@pass_session
def verify_message(session: Session, their_address: str, signature: str, message: str) -> None:
    """Did the holder of an address sign a message? Exit code 1 when not.

    \b
    duxnet wallet verify F… H… "It is me."
    """
    from common.contracts.wallet import WALLET_VERIFY_MESSAGE
    from common.contracts.wallet_tools import VerifyMessage

    asked = VerifyMessage(address=their_address, message=message, signature=signature)
    told = session.ask(WALLET_VERIFY_MESSAGE, asked)
    session.out.record(told, [("valid", "yes" if told.valid else f"no: {told.reason}")], name=str(told.valid).lower())
    if not told.valid:
        raise SystemExit(EXIT_FAILED)


@wallet.command()
@click.option("--for", "for_s", default=0, help="Seconds until it locks itself; 0: until `duxnet wallet lock`.")
@click.option(
    "--passphrase-file",
    type=click.Path(exists=True, path_type=Path),
    help="A file with the passphrase; else you are asked.",
)
@click.option("--unattended", is_flag=True, help="By the node's own unlock file or credential alone; nobody is asked.")
@pass_session
def unlock(session: Session, for_s: int, passphrase_file: Path | None, *, unattended: bool) -> None:
    """Open the sealed keys, so that the node can sign: by the node's own unlock file, or by your passphrase.

    \b
    duxnet wallet unlock --for 600
    """
    from common.contracts.wallet import WALLET_UNLOCK
    from common.contracts.wallet_errors import DoesNotOpen, WalletLocked
    from common.contracts.wallet_tools import Unlock

    words = passphrase_file.read_text().strip() if passphrase_file else ""
    try:
        told = session.ask(WALLET_UNLOCK, Unlock(passphrase=words, for_s=for_s), deadline_s=60.0)
    except (WalletLocked, DoesNotOpen):  # nothing opens them unattended: a person has to
        if words or unattended:
            raise
        words = click.prompt("Passphrase", hide_input=True, err=True)
        told = session.ask(WALLET_UNLOCK, Unlock(passphrase=words, for_s=for_s), deadline_s=60.0)
    until = f"for {for_s} s" if told.until_ms else "until `duxnet wallet lock`"
    by = "" if words else ", by the node's own unlock file or credential"
    session.out.record(told, [("unlocked", until + by)], name="unlocked")


@wallet.command()
@pass_session
def lock(session: Session) -> None:
    """Let go of the keys: the node sees and serves, but signs no coin away."""
    from common.contracts.wallet import WALLET_LOCK
    from common.rpc.method import Empty

    session.out.record(
        session.ask(WALLET_LOCK, Empty()), [("locked", "`duxnet wallet unlock` opens it")], name="locked"
    )


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
