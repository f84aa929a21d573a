"""The `duxnet demo` command: the story from the first key to the last coin, and what it proved."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec

from common.contracts.task import TaskView
from common.errors import DuxError
from common.units import format_flop
from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session
from dux_cli.demo import accounts, airdrop, bad_days, job
from dux_cli.demo.network import NAMES
from dux_cli.demo.stage import Stage, staged
from dux_cli.demo.teller import Teller
from dux_cli.output import Output

EXIT_TERMINATED = 143  # as a shell says it of SIGTERM


class Report(msgspec.Struct, kw_only=True):
    """The last line of `--json`. Amounts are integer florins as decimal strings."""

    ok: bool = False
    chain: str
    nodes: dict[str, str] = {}
    result_ok: bool = False
    result_path: str = ""
    result_size: str = ""
    gross_florins: str = "0"
    provider_florins: str = "0"
    fund_florins: str = "0"
    fees_florins: str = "0"
    check: dict[str, str] = {}
    airdrop_paid_florins: str = "0"
    airdrop_verified: bool = False
    reputation_moved: bool = False
    rating_moved: bool = False
    bad_days: dict[str, dict[str, Any]] = {}
    txids: dict[str, str] = {}
    seconds: dict[str, float] = {}
    conserved: bool = False
    error: str = ""


@dataclass
class Wish:
    """What the person asked for."""

    chain: str
    input_file: Path | None
    output: Path
    keep: bool
    fast: bool
    folder: Path
    endpoints: dict[str, str] = field(default_factory=dict)


@click.command(cls=DuxCommand)
@click.option("--chain", type=click.Choice(["embedded", "litecoind", "flopcoind"]), default="embedded",
              show_default=True, help="Which coin chain: the embedded one needs nothing installed.")  # fmt: skip
@click.option("--input", "input_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Your own PNG or JPEG to enlarge; without it the demo draws one.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("duxnet-demo.png"),
              show_default=True, help="Where the enlarged picture goes.")  # fmt: skip
@click.option("--fast", is_flag=True, help="A smaller picture and one bad day; no wait is left out.")
@click.option("--keep", is_flag=True, help="Leave everything running, print the endpoints, end with Ctrl-C.")
@pass_session
def demo(session: Session, *, chain: str, input_file: Path | None, output: Path, fast: bool, keep: bool) -> None:
    """The whole paid job between six nodes on this machine, from nothing, and then the bad days.

    A seller publishes an image-upscaling service, a buyer finds it, pays 10 FLOP into escrow, the job runs in the
    seller's sandbox and a second worker's, the hashes agree, 95 % go to the seller and 5 % to the community fund,
    which is then handed back to the nodes. After that: sellers that vanish or lie, a buyer that never pays, kill -9.

    \b
    duxnet demo                            about a minute and a half
    duxnet demo --fast --json              one JSON object as the last line
    duxnet demo --input cat.jpg --output big-cat.png
    duxnet demo --chain litecoind          on a real coin node (apt-get install litecoind)
    """
    folder = Path(tempfile.mkdtemp(prefix="duxnet-demo-"))
    wish = Wish(chain, input_file, output.absolute(), keep, fast, folder)
    try:
        report = asyncio.run(run(wish, Teller()))
    except asyncio.CancelledError:  # SIGTERM: everything that was started has been ended
        raise SystemExit(EXIT_TERMINATED) from None
    if report.ok and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        sys.stderr.write(f"\nThe nodes' folders and logs are in {folder}\n")
    show(report, session.out)
    if not report.ok:
        raise SystemExit(EXIT_FAILED)


async def run(wish: Wish, teller: Teller) -> Report:
    """Play the story; whatever goes wrong ends up in the report."""
    report = Report(chain=wish.chain, seconds=teller.seconds)
    story = asyncio.current_task()
    if story is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, story.cancel)
    try:
        await play(wish, teller, report)
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the last line still says what was seen
        report.error = f"{type(error).__name__}: {error}" if not isinstance(error, DuxError) else error.message
        teller.say(f"the demo stopped: {report.error}")
    report.ok = not report.error and is_ok(report, fast=wish.fast)
    return report


def is_ok(report: Report, *, fast: bool) -> bool:
    """Did everything end as the protocol promises?"""
    expected = len(bad_days.FAST if fast else bad_days.FULL)
    days = list(report.bad_days.values())
    good_days = len(days) == expected and all(day["as_expected"] for day in days)
    paid = (
        int(report.airdrop_paid_florins) > 0
        and report.airdrop_verified
        and report.reputation_moved
        and report.rating_moved
    )
    return report.result_ok and good_days and paid and report.conserved


async def play(wish: Wish, teller: Teller, report: Report) -> None:
    """The acts in their order."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    teller.head("1. Six nodes and a coin chain, from nothing")
    async with staged(wish.folder, wish.chain, teller.say) as stage:
        teller.seconds["start"] = round(loop.time() - started, 1)
        report.nodes = {name: stage.did(name) for name in NAMES}
        offers, picture = await main_job(stage, wish, teller, report)
        async with teller.part("airdrop", "4. The community fund is handed back"):
            await hand_back(stage, teller, report)
        async with teller.part("bad_days", "5. The bad days"):
            for day in bad_days.FAST if wish.fast else bad_days.FULL:
                await one_day(report, day(stage, teller, offers, picture))
        async with teller.part("audit", "6. Is every coin where the books say?"):
            await check_coins(stage, teller, report)
        if wish.keep:
            await keep_running(stage, teller)


async def main_job(stage: Stage, wish: Wish, teller: Teller, report: Report) -> tuple[job.Offers, Path]:
    """Publish, search, call, check, pay, rate."""
    async with teller.part("market", "2. A service is published and found"):
        await airdrop.register_all(stage)
        offers = await job.publish(stage, teller)
        before = await job.reputations(stage)
    picture = job.input_picture(stage, wish.input_file, fast=wish.fast)
    async with teller.part("job", f"3. The paid job: {picture.name}, twice as large, for 10 FLOP"):
        task = await job.submit(stage, offers, picture, request_id="main", check=offers.check_id)
        await job.agreed(stage, task, contracts=2)
        view = await job.follow(stage, task, teller)
        report.result_ok, written = await job.fetch(stage, view, picture, wish.output)
        report.result_path, report.result_size = str(wish.output), written.rpartition("(")[2].rstrip(")")
        teller.say(f"written: {written}; {'exactly' if report.result_ok else 'NOT'} what an independent program makes")
        await book(stage, view, report, teller)
        await job.rate(stage, view, teller)
        report.rating_moved = await job.rating_is_seen(stage, offers.service_id)
        await reputation_moves(stage, before, report, teller)
    return offers, picture


async def book(stage: Stage, view: TaskView, report: Report, teller: Teller) -> None:
    """Both contracts, read back from the chain's own outputs."""
    ledger = await accounts.read_chain(stage.chain)
    if view.settlement is not None:
        paid = accounts.read_release(stage, ledger, view.settlement.txid)
        for name in ("gross_florins", "provider_florins", "fund_florins", "fees_florins"):
            setattr(report, name, str(int(getattr(paid, name))))
        report.txids["release"] = paid.txid
        teller.say(
            f"on the chain: {format_flop(paid.provider_florins)} FLOP to the seller, "
            f"{format_flop(paid.fund_florins)} to the fund, {format_flop(paid.fees_florins)} chain fee"
        )
    if view.check_settlement is not None:
        paid = accounts.read_release(stage, ledger, view.check_settlement.txid)
        report.check = {
            name: str(int(getattr(paid, name)))
            for name in ("gross_florins", "provider_florins", "fund_florins", "fees_florins")
        }
        report.txids["check_release"] = paid.txid


async def reputation_moves(stage: Stage, before: dict[str, int], report: Report, teller: Teller) -> None:
    """A third node has verified the receipts on the chain and thinks better of both workers."""
    now: dict[str, int] = {}

    async def moved() -> bool:
        now.update(await job.reputations(stage))
        return all(now[name] > before[name] for name in before)

    await stage.pace.until("a third node to think better of seller and worker", moved)
    report.reputation_moved = True
    told = ", ".join(f"{name} {before[name] / 1000:.2f} -> {now[name] / 1000:.2f}" for name in now)
    teller.say(f"standing in a third node's eyes, from receipts that it checked itself: {told}")


async def hand_back(stage: Stage, teller: Teller, report: Report) -> None:
    """The fund passed 100 FLOP with the first job: the custodians pay."""
    detail = await airdrop.wait_paid(stage, teller)
    ledger = await accounts.read_chain(stage.chain)
    paid = sum(1 for share in detail.shares if accounts.has_output(stage, ledger, detail.airdrop.txid, share))
    report.airdrop_paid_florins = str(int(detail.airdrop.paid_florins))
    report.txids["airdrop"] = detail.airdrop.txid
    total = sum(int(share.paid_florins) for share in detail.shares)
    whole = paid == len(detail.shares) > 0 and total == detail.airdrop.paid_florins
    report.airdrop_verified = whole and await airdrop.verified_by(stage, "buyer")
    teller.say(
        f"{paid} of {len(detail.shares)} shares stand on the chain to the last florin; "
        f"the buyer's node recomputed the payout: {'the same' if report.airdrop_verified else 'NOT the same'}"
    )


async def one_day(report: Report, play_day: Awaitable[bad_days.Day]) -> None:
    """One bad day; a failure is told and does not end the story."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    day = await play_day
    seconds = round(loop.time() - started, 1)
    report.bad_days[day.name] = {
        "outcome": day.outcome,
        "as_expected": day.as_expected,
        "gross_florins": str(day.gross_florins),
        "txids": list(day.txids),
        "seconds": seconds,
        **({"kills": list(day.kills)} if day.kills else {}),
    }


async def check_coins(stage: Stage, teller: Teller, report: Report) -> None:
    """Walk the whole chain, then ask every node's books."""
    found: list[accounts.Audit] = []

    async def settled() -> bool:
        found[:] = [await accounts.audit(stage)]
        return found[0].conserved

    try:
        async with stage.pace.paused():  # the chain stands still while it is counted
            await stage.pace.until("every coin to have an owner", settled, within_s=30)
    finally:
        audit = found[0]
        report.conserved = audit.conserved
        teller.say(
            f"{format_flop(audit.unspent_florins)} FLOP unspent at height {audit.height}, "
            f"{format_flop(audit.created_florins)} ever made; {len(audit.orphans)} without an owner"
        )


async def keep_running(stage: Stage, teller: Teller) -> None:
    """`--keep`: print where everything is, and wait for Ctrl-C."""
    teller.head("Everything keeps running; Ctrl-C ends it")
    for name, where in stage.endpoints().items():
        teller.say(f"{name:<10} {where}" + ("" if name == "chain" else f"    duxnet status --node {where}"))
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        teller.say("ending")


def show(report: Report, out: Output) -> None:
    """A table for people, one object for programs."""
    if out.as_json:
        out.json(msgspec.to_builtins(report))
        return
    paid = f"{flop(report.gross_florins)} = {flop(report.provider_florins)} to the seller"
    parts = f"{flop(report.fund_florins)} to the fund + {flop(report.fees_florins)} chain fee"
    rows = [
        ("result", f"{report.result_path} ({report.result_size})", yes(report.result_ok)),
        ("paid", f"{paid} + {parts}", yes("release" in report.txids)),
        ("checked by", "a second worker, paid by a contract of its own", yes(bool(report.check))),
        ("rating", "five stars, as a third node shows them", yes(report.rating_moved)),
        ("reputation", "of seller and worker, in a third node's eyes", yes(report.reputation_moved)),
        ("airdrop", flop(report.airdrop_paid_florins), yes(report.airdrop_verified)),
    ]
    for name, day in report.bad_days.items():
        rows.append((name, f"{day['outcome']}, seller got {flop(day['gross_florins'])} gross", yes(day["as_expected"])))
    rows.append(("coins", "unspent = premine + subsidies, every output owned", yes(report.conserved)))
    rows.append(("time", ", ".join(f"{name} {took:g} s" for name, took in report.seconds.items()), ""))
    out.table(msgspec.to_builtins(report), ("what", "how", "as promised"), rows)
    out.text("\nAll of it as promised." if report.ok else f"\nNot as promised. {report.error}")


def flop(florins: str) -> str:
    """An amount of the report as a person reads it."""
    return f"{format_flop(int(florins))} FLOP"


def yes(holds: bool) -> str:  # noqa: FBT001 - a word for a truth value
    """How a truth value reads."""
    return "yes" if holds else "NO"
