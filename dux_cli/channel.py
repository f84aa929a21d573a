"""`duxnet channel …`: pay-per-call channels of this node: opened, looked at, topped up, closed, taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from common.errors import BadParams
from dux_cli.command import DuxCommand, DuxGroup, Session, new_request_id, pass_session
from dux_cli.did_param import NodeDid
from dux_cli.output import counted, each, flop
from dux_cli.short_ids import the_channel
from dux_cli.wallet import FLOP_AMOUNT

if TYPE_CHECKING:
    from common.contracts.channel import ChannelView
    from common.units import Florins


@click.group(cls=DuxGroup)
def channel() -> None:
    """Channels to sellers, and of buyers to this node: many calls, two transactions."""


@channel.command("list")
@click.option("--role", type=click.Choice(["payer", "payee", "any"]), default="any", show_default=True)
@click.option("--all", "everything", is_flag=True, help="Ended ones too.")
@pass_session
def list_channels(session: Session, role: str, *, everything: bool) -> None:
    """Channels, newest first.

    \b
    duxnet channel list --role payer
    """
    from common.codec import from_plain
    from common.contracts.channel import LIST, ListChannels

    found = session.ask(LIST, from_plain({"role": role, "open_only": not everything}, ListChannels))
    rows = each(
        found.channels,
        lambda c: (c.chid, c.role, c.state, flop(c.cap_florins), flop(c.owed_florins), str(c.exp), c.other),
    )
    heads = ("channel", "role", "state", "size", "spent", "ends at", "with")
    session.out.table(found, heads, rows, empty="no channels; `duxnet channel open DID AMOUNT` opens one")


@channel.command(cls=DuxCommand)
@click.argument("chid")
@pass_session
def show(session: Session, chid: str) -> None:
    """One channel: what it holds, what calls have cost, its newest calls, and what comes next."""
    from common.contracts.channel import SHOW, ChannelRef

    seen = session.ask(SHOW, ChannelRef(chid=the_channel(session, chid)))
    calls = [(f"call {call.j}", f"{call.state}, {flop(call.price_florins)}") for call in seen.calls]
    facts = [*facts_of(seen.channel), *(("next", line) for line in seen.lines), *calls]
    session.out.record(seen, facts, name=seen.channel.chid)


def facts_of(seen: ChannelView) -> list[tuple[str, str]]:
    """What a person wants to know of a channel."""
    spent = "signed to the seller" if seen.role == "payer" else "held in vouchers"
    return [
        ("channel", seen.chid),
        ("state", seen.state),
        ("this node is", seen.role),
        ("with", seen.other),
        ("size", flop(seen.cap_florins)),
        (spent, flop(seen.held_florins)),
        ("calls cost", f"{flop(seen.owed_florins)} for {counted(seen.calls, 'call')}, {seen.in_flight} in flight"),
        ("ends at", f"height {seen.exp}, the tip is {seen.height}"),
        ("address", seen.address),
        ("coin", f"{seen.outpoint}, {seen.depth} deep" if seen.outpoint else "not in a block yet"),
        ("so deep it carries", flop(seen.trusted_florins) if 0 < seen.trusted_florins < seen.usable_florins else ""),
    ]


@channel.command("open", cls=DuxCommand)
@click.argument("payee", type=NodeDid())
@click.argument("amount", type=FLOP_AMOUNT)
@click.option("--blocks", type=int, help="Until it ends by itself; the network's default without it.")
@click.option("--developer", default="", help="Address of a service's developer, who gets a royalty.")
@click.option("--royalty-bps", default=0, help="The royalty, in hundredths of a per cent of the seller's part.")
@pass_session
def open_channel(
    session: Session, *, payee: str, amount: Florins, blocks: int | None, developer: str, royalty_bps: int
) -> None:
    """Put an amount into a channel to a seller; what calls do not use comes back.

    \b
    duxnet channel open did:dux:… 10
    """
    from common.contracts.channel import OPEN, OpenChannel
    from common.units import Did

    must_be_enough(amount)
    wish = OpenChannel(
        request_id=new_request_id("channel"), payee=Did(payee), cap_florins=amount, blocks=blocks,
        developer=developer, royalty_bps=royalty_bps,
    )  # fmt: skip
    _told(session, session.ask(OPEN, wish, deadline_s=30.0).chid)


@channel.command("top-up", cls=DuxCommand)
@click.argument("chid")
@click.argument("amount", type=FLOP_AMOUNT)
@pass_session
def top_up(session: Session, *, chid: str, amount: Florins) -> None:
    """Open one more channel to the same seller; the older one is used up first."""
    from common.contracts.channel import TOP_UP, TopUp

    must_be_enough(amount)
    wish = TopUp(request_id=new_request_id("channel"), chid=the_channel(session, chid), cap_florins=amount)
    _told(session, session.ask(TOP_UP, wish, deadline_s=30.0).chid)


def must_be_enough(amount: Florins) -> None:
    """Say at once what no seller takes.

    Raises:
        BadParams: it is too little.
    """
    from common.chain.channel import CAP_MIN_FLORINS

    if amount <= CAP_MIN_FLORINS:  # what the end costs comes on top
        raise BadParams(detail=f"a channel holds more than {flop(CAP_MIN_FLORINS)}, not {flop(amount)}")


def _told(session: Session, chid: str) -> None:
    facts = [("channel", chid), ("next", "calls can go over it once its coin is in a block"),
             ("look", f"duxnet channel show {chid}")]  # fmt: skip
    session.out.record({"chid": chid}, facts, name=chid)


@channel.command(cls=DuxCommand)
@click.argument("chid")
@click.option("--roll", is_flag=True, help="What is left opens the next channel in the same transaction.")
@pass_session
def close(session: Session, chid: str, *, roll: bool) -> None:
    """End a channel: the seller is paid what calls have cost, the rest comes back."""
    from common.contracts.channel import CLOSE, CloseChannel

    wish = CloseChannel(request_id=new_request_id("channel"), chid=the_channel(session, chid), roll=roll)
    seen = session.ask(CLOSE, wish, deadline_s=30.0)
    session.out.record(seen, facts_of(seen), name=seen.chid)


@channel.command(cls=DuxCommand)
@click.argument("payee", type=NodeDid())
@click.option("--keys", default=20, show_default=True, help="How many of this wallet's channel keys are tried.")
@pass_session
def recover(session: Session, payee: str, keys: int) -> None:
    """Find channels to a seller again after a restore from the phrase."""
    from common.contracts.channel import RECOVER_FROM, RecoverFrom
    from common.units import Did

    wish = RecoverFrom(request_id=new_request_id("channel"), payee=Did(payee), keys=keys)
    found = session.ask(RECOVER_FROM, wish, deadline_s=120.0)
    rows = each(found.channels, lambda c: (c.chid, c.state, flop(c.cap_florins), str(c.exp)))
    session.out.table(found, ("channel", "state", "size", "ends at"), rows, empty="none that this seller knows")


@channel.command(cls=DuxCommand)
@click.argument("chid")
@pass_session
def refund(session: Session, chid: str) -> None:
    """Take everything back: by agreement while nothing was spent, alone once the channel's end is reached."""
    from common.contracts.channel import REFUND, ChannelAct

    wish = ChannelAct(request_id=new_request_id("channel"), chid=the_channel(session, chid))
    seen = session.ask(REFUND, wish, deadline_s=30.0)
    session.out.record(seen, facts_of(seen), name=seen.chid)
