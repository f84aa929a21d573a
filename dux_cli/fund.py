"""`duxnet fund …`: the community fund's coins: books to the florin, sweeps, proofs, custodians' key ceremonies."""

from __future__ import annotations

from pathlib import Path

import click

from dux_cli.command import DuxGroup, Session, pass_session
from dux_cli.out_files import OutFile, write_out
from dux_cli.output import each, flop


class FundGroup(DuxGroup):
    """`duxnet fund` alone is `duxnet fund status`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words after `fund`."""
        is_bare = not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)
        return super().parse_args(ctx, ["status", *args] if is_bare else args)


@click.group(cls=FundGroup)
def fund() -> None:
    """The community fund: what came in, what went out, who keeps its keys.

    \b
    duxnet fund --movements 3
    duxnet fund accounts
    duxnet fund sweeps
    duxnet fund ceremony join --name 2027 --needed 2 --member did:dux:… --member did:dux:…
    """


@fund.command()
@click.option("--movements", default=10, show_default=True, help="How many of the newest movements to show.")
@pass_session
def status(session: Session, movements: int) -> None:
    """What the fund holds, and its newest movements."""
    from common.contracts.escrow import FUND_STATUS, FundStatusParams

    told = session.ask(FUND_STATUS, FundStatusParams(movements=movements))
    lines = [
        ("address", told.address),
        ("holds", flop(told.balance_florins)),
        ("received", flop(told.received_florins)),
        ("handed back", flop(told.paid_florins)),
        ("keys", f"{told.threshold} of {len(told.custodians)} custodians"),
        ("as of block", str(told.height)),
    ]
    session.out.record(told, lines, name=told.address)


@fund.command()
@pass_session
def accounts(session: Session) -> None:
    """The books to the florin: all that came in is paid, a chain fee, or still there."""
    from common.contracts.airdrop_fund import FUND_ACCOUNTS
    from common.rpc.method import Empty

    told = session.ask(FUND_ACCOUNTS, Empty())
    lines = [
        ("received", flop(told.received_florins)),
        ("handed back", flop(told.paid_florins)),
        ("fees", f"{flop(told.payout_fees_florins)} of payouts, {flop(told.sweep_fees_florins)} of sweeps"),
        ("swept", flop(told.swept_florins)),
        ("in the fund", flop(told.fund_florins)),
        ("on collectors", flop(told.collectors_florins)),
        ("difference", flop(told.difference_florins)),
        ("parameters", f"version {told.parameters}"),
        *((address, words) for address, words in told.addresses.items()),
    ]
    session.out.record(told, lines, name=str(int(told.difference_florins)))


@fund.command()
@click.option("--limit", default=20, show_default=True)
@pass_session
def sweeps(session: Session, limit: int) -> None:
    """What was swept from collectors and earlier custodians into the fund, newest first."""
    from common.contracts.airdrop_fund import FUND_SWEEPS, SweepsAsked

    told = session.ask(FUND_SWEEPS, SweepsAsked(limit=limit))
    rows = each(
        told.sweeps,
        lambda s: (
            s.sweep_id, str(s.height), str(s.inputs), flop(s.swept_florins), flop(s.fee_florins),
            f"{s.signatures} of {s.needed}", s.txid,
        ),
    )  # fmt: skip
    headings = ("sweep", "height", "coins", "swept", "fee", "signatures", "transaction")
    session.out.table(told, headings, rows, empty=f"none yet; the next is computed at height {told.next_height}")


@fund.command()
@click.argument("sweep")
@click.argument("file", type=OutFile())
@pass_session
def publish(session: Session, sweep: str, file: Path) -> None:
    """Write the public proof file of a sweep: `duxnet verify sweep FILE` needs no node."""
    from common.contracts.airdrop_fund import SWEEP_FILE, SweepAsked

    told = session.ask(SWEEP_FILE, SweepAsked(sweep_id=sweep), deadline_s=120.0)
    write_out(file, told.file)
    session.out.record({"bytes": len(told.file)}, [("written", f"{file} ({len(told.file)} bytes)")], name=str(file))


@fund.group(cls=DuxGroup)
def ceremony() -> None:
    """Make custodians' keys for a new script: each its own, shown to the others, agreed by all."""


@ceremony.command()
@click.option("--name", required=True, help="What the members call it.")
@click.option("--needed", type=click.IntRange(1, 15), required=True, help="How many of them sign.")
@click.option("--member", "members", multiple=True, required=True, help="A member's DID; repeatable, up to 15.")
@click.option("--key", type=click.IntRange(0, 15), default=0, show_default=True, help="Number of each one's key.")
@pass_session
def join(session: Session, *, name: str, needed: int, members: tuple[str, ...], key: int) -> None:
    """Take part: every member types the same words."""
    from common.contracts.airdrop_fund import CEREMONY_JOIN, CeremonyJoin
    from common.units import Did

    wish = CeremonyJoin(
        request_id=f"ceremony-{name}-{key}", name=name, needed=needed, members=[Did(one) for one in members],
        key_number=key,
    )  # fmt: skip
    session.ask(CEREMONY_JOIN, wish)
    session.out.record({"name": name}, [("joined", name), ("next", "duxnet fund ceremony show")], name=name)


@ceremony.command("show")
@click.option("--roster", type=OutFile(), help="Write the finished roster here.")
@pass_session
def show_ceremonies(session: Session, roster: Path | None) -> None:
    """Whom ceremonies wait for; the keys for the profile once all have agreed."""
    from common.contracts.airdrop_fund import CEREMONY_SHOW
    from common.rpc.method import Empty

    told = session.ask(CEREMONY_SHOW, Empty())
    lines: list[tuple[str, str]] = []
    for one in told.ceremonies:
        lines += [(one.name, f"{one.needed} of {len(one.members)}: {one.address or 'not agreed yet'}")]
        lines += [("  key missing", did) for did in one.keys_missing]
        lines += [("  not agreed yet", did) for did in one.agreements_missing]
        lines += [(f"  {did}", key) for did, key in one.pubkeys.items()]
        if roster and one.roster:
            write_out(roster, one.roster)
    session.out.record(told, lines or [("ceremonies", "none")], name=str(len(told.ceremonies)))
