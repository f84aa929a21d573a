"""`duxnet call`: one paid call of a service, from the file on disk to the file on disk.

Promises: nothing is paid above the stated limit; what happens is told as it happens; Ctrl-C ends the telling, not the
task, which goes on in the node and can be looked at and fetched later.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from common.errors import BadParams, NotNow
from common.units import Florins
from dux_cli.command import EXIT_FAILED, DuxCommand, Session, new_request_id, pass_session
from dux_cli.contract_terms import ContractTerms, check_of, contract_options, terms_of
from dux_cli.out_files import OutFile
from dux_cli.output import flop
from dux_cli.tasks import facts_of
from dux_cli.wallet import FLOP_AMOUNT

if TYPE_CHECKING:
    from common.contracts.task import TaskView

LOOK_EVERY_S = 0.3
NO_REASON = "no reason came with it; a seller gives a job back whose program refuses the input or its words (--arg)"


class CallEndedOtherwise(NotNow):
    """The call ended as {state}, without a result: {reason}. `duxnet why task {task_id}` tells all."""

    code = 7103
    key = "call-ended-otherwise"


@dataclass(frozen=True)
class Wish:
    """What the person wants to buy."""

    service_id: str
    input_file: Path
    output: Path
    args: tuple[str, ...]
    max_price: Florins
    check: str
    request_id: str
    terms: ContractTerms = field(default_factory=ContractTerms)


@click.command(cls=DuxCommand)
@click.argument("service_id")
@click.option("--input", "input_files", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
              multiple=True, help="The job's input; a PNG or JPEG is turned into pixels. Several: a stage for each.",
              )  # fmt: skip
@click.option("--stages", type=click.IntRange(1, 8), help="So many calls in a row, each paid before the next begins; "
              "with one input each goes on with the result of the one before.")  # fmt: skip
@click.option(
    "--together", is_flag=True, help="Fund all stages by one payment; each begins when the one before is paid."
)
@click.option(
    "--bond", is_flag=True, help="The seller locks a bond first: it pays the arbiters where the seller loses."
)
@contract_options
@click.option("--output", type=OutFile(), help="Where the result goes.")
@click.option("--arg", "args", multiple=True, help="Words for the program, such as scale=2.")
@click.option("--max-price", type=FLOP_AMOUNT, help="Refuse to pay more than this; without it you are asked.")
@click.option("--check", default="auto", show_default=True,
              help="Have a second worker find the same: auto, none, or the id of a checking service.")  # fmt: skip
@click.option("--no-wait", is_flag=True, help="Return once the task is in the node; `duxnet fetch` gets its result.")
@click.option("--pay", type=click.Choice(["auto", "channel", "escrow"]), default="auto", show_default=True,
              help="Over a channel, or by a contract of its own.")  # fmt: skip
@click.option("--open", "open_florins", type=FLOP_AMOUNT, help="Size of a channel that has to be opened for it.")
@click.option("--request-id", default="", help="Repeat an earlier call's id: the same task, paid once.")
@pass_session
def call(
    session: Session, *, service_id: str, input_files: tuple[Path, ...], output: Path | None, args: tuple[str, ...],
    max_price: Florins | None, check: str, no_wait: bool, request_id: str, pay: str, open_florins: Florins | None,
    stages: int | None, together: bool, bond: bool, policy: str, swap_limit: Florins | None, strikes: tuple[str, ...],
) -> None:  # fmt: skip
    """Buy one call of a service and wait for its result.

    Small prices, and any price where a channel to the seller is open, are paid over a channel; the rest by a contract
    in escrow. It says which, and why.

    \b
    duxnet call SERVICE --input small.png --output large.png --arg scale=2
    duxnet call SERVICE --input small.png --max-price 10 --check none --json
    duxnet call SERVICE --input small.png --stages 2 --arg scale=2     twice as large, twice
    duxnet call SERVICE --input a.png --input b.png --together --bond
    duxnet call SERVICE --input small.png --policy swap --swap-limit 2.5
    """
    from dux_cli.call_stages import StagesWish, buy_stages, count_of
    from dux_cli.job_files import place_of

    terms, input_file = terms_of(policy, swap_limit, strikes, pay), input_files[0]
    count = count_of(input_files, stages, together=together, bond=bond, pay=pay)
    place = place_of(output, input_file)
    check = check_of(check, terms, together=together or bond)
    limit = max_price if max_price is not None else ask_price(session, service_id, count)
    if count > 1 or bond:
        several = StagesWish(
            service_id=service_id,
            inputs=input_files,
            count=count,
            output=place,
            args=args,
            max_price=limit,
            check=check,
            together=together or bond,
            request_id=request_id or new_request_id("stages"),
            terms=terms,
            bonded=bond,
        )
        session.run(buy_stages(session, several, wait=not no_wait))
        return
    wish = Wish(
        service_id=service_id,
        input_file=input_file,
        output=place,
        args=args,
        max_price=limit,
        check=check,
        request_id=request_id or new_request_id("call"),
        terms=terms,
    )
    session.run(bought(session, wish, pay=pay, open_florins=open_florins, wait=not no_wait))


async def bought(session: Session, wish: Wish, *, pay: str, open_florins: Florins | None, wait: bool) -> None:
    """Over a channel where that fits, by escrow otherwise."""
    from dux_cli.call_channel import choose, over_channel
    from dux_cli.job_files import read_input

    data = read_input(wish.input_file)
    by_channel, why = await choose(session, wish, data, pay)
    session.out.step(f"paid {'over a channel' if by_channel else 'by escrow'}: {why}")
    if by_channel:
        await over_channel(session, wish, data, open_florins)
    else:
        await buy(session, wish, wait=wait)


def ask_price(session: Session, service_id: str, count: int) -> Florins:
    """The service's price, once the person has agreed to it.

    Raises:
        BadParams: nobody can be asked, because a program reads the answer.
    """
    from common.contracts.store import SERVICE_SHOW, ServiceName

    if session.out.as_json or session.out.quiet:
        raise BadParams(detail="say what the call may cost: --max-price FLOP")
    service = session.ask(SERVICE_SHOW, ServiceName(service_id=service_id)).service
    calls = "one call" if count == 1 else f"each of {count} calls"
    click.confirm(f"Pay {flop(service.price_florins)} for {calls} of {service.name}?", abort=True, err=True)
    return service.price_florins


async def buy(session: Session, wish: Wish, *, wait: bool) -> None:
    """Hand the input to the node, submit the task, follow it to its end, write the result."""
    from common.contracts.task import SUBMIT, Submit
    from dux_cli.job_files import read_input

    blob = (await session.client("p2pd").transfer("PUT", "/blob", read_input(wish.input_file))).decode()
    asked = Submit(
        request_id=wish.request_id,
        service_id=wish.service_id,
        input_blob=blob,
        args=wish.args,
        price_limit_florins=wish.max_price,
        check=wish.check,
        policy=wish.terms.policy,
        swap_limit_florins=wish.terms.swap_limit,
        strikes=wish.terms.strikes,
    )
    task_id = (await session.call(SUBMIT, asked, deadline_s=60.0)).task_id
    session.out.step(f"task {task_id}; Ctrl-C ends this view, not the task")
    if not wait:
        session.out.record({"task_id": task_id}, [("task", task_id), ("next", f"duxnet fetch {task_id}")], name=task_id)
        return
    seen = await follow(session, task_id)
    await finish(session, seen, wish.output)


async def follow(session: Session, task_id: str) -> TaskView:
    """Tell what happens to a task until it has ended; how it ended."""
    from common.contracts.task import FINAL, STATUS, TaskRef

    told = 0
    while True:
        seen = await session.call(STATUS, TaskRef(task_id=task_id))
        for line in seen.lines[told:]:
            session.out.step(f"  {line.text}")
        told = len(seen.lines)
        if seen.state in FINAL:
            return seen
        await asyncio.sleep(LOOK_EVERY_S)


async def finish(session: Session, seen: TaskView, output: Path) -> None:
    """Write the result of an ended task; what was paid.

    Raises:
        CallEndedOtherwise: there is none. ResultNotWritten: its place takes none.
    """
    from common.codec import to_plain
    from dux_cli.job_files import write_result

    if seen.output_blob is None:
        raise CallEndedOtherwise(state=str(seen.state), reason=seen.reason or NO_REASON, task_id=seen.task_id)
    data = await session.client("p2pd").transfer("GET", f"/blob/{seen.output_blob}", None)
    written = write_result(data, output, f"duxnet fetch {seen.task_id} --output FILE")
    facts = [("written", written), *(fact for fact in facts_of(seen) if fact[0]), ("next", rating_hint(seen))]
    session.out.record({**to_plain(seen), "written": str(output)}, facts, name=seen.task_id)
    if seen.good is False:
        session.out.step("the result was judged wrong; see `duxnet why task " + seen.task_id + "`")
        raise SystemExit(EXIT_FAILED)


def rating_hint(seen: TaskView) -> str:
    """The command that rates the call."""
    return f"duxnet rate {seen.contract_id} 5" if seen.contract_id else ""


@click.command(cls=DuxCommand)
@click.argument("task_id")
@click.option("--output", type=OutFile(), required=True, help="Where the result goes.")
@pass_session
def fetch(session: Session, task_id: str, output: Path) -> None:
    """Wait for a task (or stages) in the node already and write its result (or theirs, numbered).

    \b
    duxnet fetch TASK --output large.png
    """
    from common.contracts.task_stages import REF_PREFIX
    from dux_cli.call_stages import finish_stages

    async def work() -> None:
        if task_id.startswith(REF_PREFIX):
            await finish_stages(session, task_id, output)
        else:
            await finish(session, await follow(session, task_id), output)

    session.run(work())
