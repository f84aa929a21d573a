"""`duxnet wallet shared …` and `partial …`: addresses of several wallets, and payments that they sign in turn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.errors import BadParams
from dux_cli.command import DuxGroup, Session, new_request_id, pass_session
from dux_cli.out_files import OutFile, write_out
from dux_cli.output import each, flop
from dux_cli.wallet_coins import ask_patiently

if TYPE_CHECKING:
    from common.contracts.wallet_shared import PartialView, Payee, SharedView


@click.group(cls=DuxGroup)
def shared() -> None:
    """Addresses from which several wallets spend together (multi-signature)."""


@shared.command()
@click.option("--label", default="", help="What it is for, in your own books.")
@click.option("--request-id", default="", help="Repeat an earlier call's id.")
@pass_session
def key(session: Session, label: str, request_id: str) -> None:
    """A fresh key of this wallet's, to give to the others.

    \b
    duxnet wallet shared key --label till
    """
    from common.contracts.wallet import WALLET_SHARED_KEY
    from common.contracts.wallet_shared import NewSharedKey

    made = session.ask(WALLET_SHARED_KEY, NewSharedKey(request_id=request_id or new_request_id("key"), label=label))
    session.out.record(made, [("public key", made.public_key.hex())], name=made.public_key.hex())


@shared.command("make")
@click.argument("needed", type=int)
@click.argument("public_keys", nargs=-1, required=True)
@click.option("--label", default="", help="What it is for, in your own books.")
@click.option("--from-height", default=0, help="Read blocks from here on; 0: it is new.")
@click.option("--request-id", default="", help="Repeat an earlier call's id.")
@pass_session
def make_shared(
    session: Session, needed: int, public_keys: tuple[str, ...], *, label: str, from_height: int, request_id: str
) -> None:
    """The address from which NEEDED of these keys spend. Each holder gets the same one.

    \b
    duxnet wallet shared make 2 02ab… 03cd… 02ef… --label till
    """
    from common.contracts.wallet import WALLET_SHARED_MAKE
    from common.contracts.wallet_shared import MakeShared

    asked = MakeShared(
        request_id=request_id or new_request_id("shared"), needed=needed, label=label, from_height=from_height,
        public_keys=tuple(_hex(text) for text in public_keys),
    )  # fmt: skip
    made = ask_patiently(session, WALLET_SHARED_MAKE, asked)
    session.out.record(made, shared_lines(made), name=made.address)


def shared_lines(view: SharedView) -> list[tuple[str, str]]:
    """A shared address for people."""
    return [
        ("address", view.address),
        ("label", view.label),
        ("signatures", f"{view.needed} of {len(view.public_keys)}"),
        ("confirmed", flop(view.confirmed_florins)),
        ("waiting", flop(view.pending_florins)),
        ("script", view.redeem_script.hex()),
    ]


@shared.command("list")
@pass_session
def list_shared(session: Session) -> None:
    """All of them, with their coins."""
    from common.contracts.wallet import WALLET_SHARED
    from common.rpc.method import Empty

    told = session.ask(WALLET_SHARED, Empty())
    rows = each(
        told.shared,
        lambda s: (s.address, s.label, f"{s.needed} of {len(s.public_keys)}", flop(s.confirmed_florins)),
    )
    session.out.table(told, ("address", "label", "signatures", "confirmed"), rows, empty="no shared addresses")


@click.group(cls=DuxGroup)
def partial() -> None:
    """Payments that several wallets sign one after the other (PSBT files)."""


@partial.command("make")
@click.argument("source")
@click.argument("payees", nargs=-1, required=True, metavar="ADDRESS=FLOP…")
@click.option("--output", type=OutFile(), help="Write it there; else to the terminal.")
@pass_session
def make_partial(session: Session, source: str, payees: tuple[str, ...], output: Path | None) -> None:
    """The coordinator's part: an unsigned payment from a shared or watched address, or a watched account.

    \b
    duxnet wallet partial make A… F…=10.5 --output rent.psbt
    """
    from common.contracts.wallet import WALLET_PARTIAL_MAKE
    from common.contracts.wallet_shared import MakePartial

    wish = MakePartial(source=source, payees=tuple(_payee(text) for text in payees))
    tell_partial(session, session.ask(WALLET_PARTIAL_MAKE, wish), output)


@partial.command("show")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@pass_session
def show_partial(session: Session, file: Path) -> None:
    """What it does, in words: coins, payees, fee, what leaves this wallet, and what is unusual about it."""
    from common.contracts.wallet import WALLET_PARTIAL_SHOW
    from common.contracts.wallet_shared import ShowPartial

    shown = session.ask(WALLET_PARTIAL_SHOW, ShowPartial(psbt=file.read_text().strip()))
    session.out.record(shown, partial_lines(shown), name=shown.txid)


@partial.command("sign")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=OutFile(), help="Where the signed copy goes; else to the terminal.")
@click.option("--yes", "agreed", default="", metavar="TRANSACTION", help="Sign without asking, if it is this one.")
@click.option("--request-id", default="", help="Repeat an earlier call's id.")
@pass_session
def sign_partial(session: Session, file: Path, output: Path | None, agreed: str, request_id: str) -> None:
    """Review it, then sign it with this wallet's keys.

    \b
    duxnet wallet partial sign rent.psbt --output rent-anna.psbt
    """
    from common.contracts.wallet import WALLET_PARTIAL_SHOW, WALLET_PARTIAL_SIGN
    from common.contracts.wallet_shared import ShowPartial, SignPartial

    text = file.read_text().strip()
    if not agreed:
        shown = session.ask(WALLET_PARTIAL_SHOW, ShowPartial(psbt=text))
        if session.out.as_json or session.out.quiet:
            raise BadParams(detail="nobody can be asked here: review it with `show`, then add --yes TRANSACTION")
        for label, fact in partial_lines(shown):
            sys.stderr.write(f"{label:<12}  {fact}\n")
        click.confirm("Sign this?", abort=True, err=True)
        agreed = shown.txid
    asked = SignPartial(request_id=request_id or new_request_id("sign"), psbt=text, txid=agreed)
    tell_partial(session, session.ask(WALLET_PARTIAL_SIGN, asked), output)


@partial.command("finish")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--request-id", default="", help="Repeat an earlier call's id.")
@pass_session
def finish_partial(session: Session, files: tuple[Path, ...], request_id: str) -> None:
    """Put the signers' copies together and send the payment.

    \b
    duxnet wallet partial finish rent-anna.psbt rent-bert.psbt
    """
    from common.contracts.wallet import WALLET_PARTIAL_FINISH
    from common.contracts.wallet_shared import FinishPartial

    texts = tuple(file.read_text().strip() for file in files)
    sent = session.ask(
        WALLET_PARTIAL_FINISH, FinishPartial(request_id=request_id or new_request_id("finish"), psbts=texts)
    )
    session.out.record(sent, [("transaction", sent.txid), ("fee", flop(sent.fee_florins))], name=sent.txid)


def tell_partial(session: Session, view: PartialView, output: Path | None) -> None:
    """The review, and the file or its text."""
    if output is not None:
        write_out(output, view.psbt.encode() + b"\n")
    where = ("psbt", view.psbt) if output is None else ("written", str(output))
    session.out.record(view, [*partial_lines(view), where], name=view.txid)


def partial_lines(view: PartialView) -> list[tuple[str, str]]:
    """What is signed, in words."""
    return [
        ("transaction", view.txid),
        *[
            (
                "spends",
                f"{flop(i.value_florins)} of {i.address}{' (ours)' if i.ours else ''}, signed {i.signed} of {i.needed}",
            )
            for i in view.inputs
        ],
        *[("pays", f"{flop(o.value_florins)} to {o.address}{' (ours)' if o.ours else ''}") for o in view.outputs],
        ("fee", flop(view.fee_florins)),
        ("leaves us", flop(view.leaves_us_florins)),
        *[("take care", text) for text in view.warnings],
        ("next", "`duxnet wallet partial finish`" if view.complete else "the others sign"),
    ]


def _payee(text: str) -> Payee:
    from common.contracts.wallet_shared import Payee
    from common.units import parse_flop

    address, _, amount = text.partition("=")
    try:
        return Payee(address=address, amount_florins=parse_flop(amount))
    except ValueError as error:
        raise BadParams(detail=f"{text!r}: write ADDRESS=FLOP, such as F…=10.5") from error


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadParams(detail=f"{text!r} is no public key in hex") from error
