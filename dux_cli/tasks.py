"""`duxnet task …`: the paid jobs of this node, and a dry run of a package without any payment."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dux_cli.command import DuxGroup, Session, new_request_id, pass_session
from dux_cli.out_files import OutFile
from dux_cli.output import each, flop

if TYPE_CHECKING:
    from common.contracts.escrow_views import Settlement
    from common.contracts.task import TaskView


@click.group(cls=DuxGroup)
def task() -> None:
    """Paid jobs of this node, as buyer, seller or arbiter; `duxnet call` starts one."""


@task.command("list")
@click.option(
    "--role", type=click.Choice(["buyer", "seller", "arbiter"]), help="Only tasks that this node has as that."
)
@click.option("--open", "open_only", is_flag=True, help="Only tasks that have not ended.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@pass_session
def list_tasks(session: Session, role: str | None, limit: int, *, open_only: bool) -> None:
    """Tasks, newest first."""
    from common.codec import from_plain
    from common.contracts.task import LIST, ListTasks

    asked = from_plain({"role": role or "", "open_only": open_only, "limit": limit}, ListTasks)
    found = session.ask(LIST, asked)
    in_stages = not session.out.for_person or any(one.stages_id for one in found.tasks)  # a program counts columns
    rows = each(found.tasks, lambda t: (
        t.task_id, t.role, str(t.state), flop(t.price_florins), t.service_id, *([stage_word(t)] * in_stages), t.reason
    ))  # fmt: skip
    headings = ("task", "role", "state", "price", "service", *(["stage"] * in_stages), "reason")
    session.out.table(found, headings, rows, empty="no tasks yet")


@task.command()
@click.argument("task_id")
@pass_session
def show(session: Session, task_id: str) -> None:
    """One task and what happened to it, or a purchase in stages, stage by stage."""
    from common.contracts.task import STATUS, TaskRef
    from common.contracts.task_stages import REF_PREFIX, STAGES_SHOW, StagesRef
    from dux_cli.call_stages import stage_facts

    if task_id.startswith(REF_PREFIX):
        stages = session.ask(STAGES_SHOW, StagesRef(stages_id=task_id))
        session.out.record(stages, stage_facts(stages), name=task_id)
        return
    seen = session.ask(STATUS, TaskRef(task_id=task_id))
    session.out.record(seen, facts_of(seen), name=seen.task_id)


def facts_of(seen: TaskView) -> list[tuple[str, str]]:
    """What a person wants to know of a task."""
    facts = [
        ("task", seen.task_id),
        ("state", f"{seen.state}: {seen.reason}" if seen.reason else str(seen.state)),
        ("this node is", seen.role),
        ("service", seen.service_id),
        ("stage", stage_word(seen) if seen.stages_id else ""),
        ("buyer", seen.buyer),
        ("seller", seen.seller),
        ("price", flop(seen.price_florins)),
        ("contract", seen.contract_id or ""),
        ("second worker", f"{seen.checker}: {seen.check_state or 'not asked yet'}" if seen.checker else ""),
        ("paid", settled_text(seen.settlement)),
        ("check paid", settled_text(seen.check_settlement)),
    ]
    return facts + [("", line.text) for line in seen.lines]


def stage_word(seen: TaskView) -> str:
    """Which stage of which purchase a task is."""
    return f"{seen.stage} of {seen.stages_id}" if seen.stages_id else "-"


def settled_text(settlement: Settlement | None) -> str:
    """How a contract's money went, on one line."""
    if settlement is None:
        return ""
    s = settlement
    return (
        f"{flop(s.provider_florins)} to the seller, {flop(s.fund_florins)} to the fund, {flop(s.fee_florins)} chain fee"
        f" ({s.outcome})"
    )


@task.command()
@click.argument("task_id")
@pass_session
def cancel(session: Session, task_id: str) -> None:
    """End a task before its work was delivered, or stages: none begins any more."""
    from common.contracts.task import CANCEL, CancelTask
    from common.contracts.task_stages import REF_PREFIX, STAGES_CANCEL, CancelStages
    from dux_cli.call_stages import stage_facts

    if task_id.startswith(REF_PREFIX):
        wish = CancelStages(request_id=new_request_id("cancel"), stages_id=task_id)
        stages = session.ask(STAGES_CANCEL, wish)
        session.out.record(stages, stage_facts(stages), name=task_id)
        return
    seen = session.ask(CANCEL, CancelTask(request_id=new_request_id("cancel"), task_id=task_id))
    session.out.record(seen, [("task", seen.task_id), ("state", str(seen.state))], name=seen.task_id)


@task.command()
@pass_session
def probe(session: Session) -> None:
    """What this machine can enforce, and so which kinds of jobs it offers."""
    from common.contracts.task import PROBE
    from common.rpc.method import Empty

    found = session.ask(PROBE, Empty())
    rows = [(kind.kind, "offered" if kind.offered else "not offered", kind.engine, kind.reason) for kind in found.kinds]
    session.out.table(found, ("kind", "offered", "engine", "why not"), rows)


@task.command("run")
@click.argument("service", type=click.Path(exists=True, path_type=Path))
@click.option("--input", "input_file", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--output", type=OutFile(), help="Where the result goes; else only its size is told.")
@click.option("--arg", "args", multiple=True, help="Words for the program, such as scale=2.")
@pass_session
def run_here(session: Session, service: Path, input_file: Path, output: Path | None, args: tuple[str, ...]) -> None:
    """Run the package of SERVICE (its folder or YAML file) in this node's sandbox, without any payment.

    \b
    duxnet task run examples/image_upscaler --input a.png --output b.png --arg scale=2
    """
    session.run(try_run(session, service, input_file, output, args))


async def try_run(
    session: Session, service: Path, input_file: Path, output: Path | None, args: tuple[str, ...]
) -> None:
    """Put package and input into the node, run them, fetch the output."""
    from common.codec import from_plain
    from common.contracts.task import TRY_RUN, TryRun
    from dux_cli.job_files import read_input, write_output
    from dux_cli.market import put_package, read_service

    described = read_service(service)
    package = await put_package(session, described, service if service.is_dir() else service.parent)
    blob = (await session.client("p2pd").transfer("PUT", "/blob", read_input(input_file))).decode()
    asked = {"kind": described.kind, "package": package, "entry": described.entry, "input_blob": blob, "args": args}
    wish = from_plain({**asked, "limits": described.limits}, TryRun)
    result = await session.call(TRY_RUN, wish, deadline_s=600.0)
    told = f"{result.ended}: {result.detail}" if result.detail else result.ended
    lines = [("ended", told), ("took", f"{result.wall_ms} ms")]
    if result.output_blob:
        data = await session.client("p2pd").transfer("GET", f"/blob/{result.output_blob}", None)
        lines += [("output", f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")]
        lines += [("written", write_output(data, output))] if output else []
    session.out.record(result, lines, name=result.output_blob or "")
