"""`duxnet call … --stages N`: several calls of one service as stages, followed to their end.

Promises: no more than one stage's price is at stake at any time; each result is written as soon as it is here; Ctrl-C
ends the telling, not the work.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import BadParams, NotNow
from dux_cli.contract_terms import ContractTerms
from dux_cli.output import counted, flop

if TYPE_CHECKING:
    from common.contracts.task_stages import StagesView, StageView
    from common.units import Florins
    from dux_cli.command import Session

LOOK_EVERY_S = 0.3


class StagesStopped(NotNow):
    """The stages ended early: {reason}. {paid} were paid. `duxnet task show {stages_id}` tells of each."""

    code = 7104
    key = "stages-stopped"


@dataclass(frozen=True)
class StagesWish:
    """What the person wants to buy."""

    service_id: str
    inputs: tuple[Path, ...]
    count: int
    output: Path
    args: tuple[str, ...]
    max_price: Florins
    check: str
    together: bool
    request_id: str
    terms: ContractTerms = field(default_factory=ContractTerms)
    bonded: bool = False


def count_of(inputs: tuple[Path, ...], stages: int | None, *, together: bool, bond: bool, pay: str) -> int:
    """How many stages are wanted; 1 is a call like any other, unless its seller has to lock a bond.

    Raises:
        BadParams: the number and the inputs do not fit.
    """
    count = stages or len(inputs)
    if count == 1 and together and not bond:
        raise BadParams(detail="--together is for several stages: give several --input")
    if count > 1 and bond and not together:
        raise BadParams(detail="a bond stands beside stages that are funded together: add --together")
    if (count > 1 or bond) and pay == "channel":
        what = "a bond stands beside a contract" if bond else "stages are contracts"
        raise BadParams(detail=f"{what} in escrow; leave --pay out, or make single calls over the channel")
    if len(inputs) not in (1, count):
        raise BadParams(detail=f"give one --input, or one for each of the {count} stages")
    return count


def output_of(wish_output: Path, number: int, count: int) -> Path:
    """Where a stage's result goes: the output's name with the stage's number; without it where there is only one."""
    return wish_output if count == 1 else wish_output.with_name(f"{wish_output.stem}-{number}{wish_output.suffix}")


async def buy_stages(session: Session, wish: StagesWish, *, wait: bool) -> None:
    """Hand the inputs to the node, submit the stages, follow them, write each result."""
    from common.contracts.task_stages import STAGES_SUBMIT, SubmitStages
    from dux_cli.job_files import read_input

    p2pd = session.client("p2pd")
    blobs = [(await p2pd.transfer("PUT", "/blob", read_input(path))).decode() for path in wish.inputs]
    asked = SubmitStages(
        request_id=wish.request_id,
        service_id=wish.service_id,
        inputs=tuple(blobs),
        count=wish.count,
        args=wish.args,
        price_limit_florins=wish.max_price,
        check=wish.check,
        together=wish.together,
        bonded=wish.bonded,
        policy=wish.terms.policy,
        swap_limit_florins=wish.terms.swap_limit,
        strikes=wish.terms.strikes,
    )
    stages_id = (await session.call(STAGES_SUBMIT, asked, deadline_s=60.0)).stages_id
    session.out.step(f"{counted(wish.count, 'stage')}, {stages_id}; Ctrl-C ends this view, not the work")
    if wait:
        await finish_stages(session, stages_id, wish.output)
        return
    lines = [("stages", stages_id), ("next", f"duxnet fetch {stages_id} --output {wish.output}")]
    session.out.record({"stages_id": stages_id}, lines, name=stages_id)


async def finish_stages(session: Session, stages_id: str, output: Path) -> None:
    """Tell and write until it is over.

    Raises:
        StagesStopped: a stage failed; results of those before are written.
    """
    from common.codec import to_plain
    from common.contracts.task_stages import StagesState

    view, written = await _followed(session, stages_id, output)
    if view.state is StagesState.STOPPED:
        raise StagesStopped(reason=view.reason, paid=flop(view.paid_florins), stages_id=stages_id)
    lines = [*stage_facts(view), *(("written", text) for text in written.values())]
    files = [str(output_of(output, number, len(view.stages))) for number in sorted(written)]
    session.out.record({**to_plain(view), "written": files}, lines, name=stages_id)


async def _followed(session: Session, stages_id: str, output: Path) -> tuple[StagesView, dict[int, str]]:
    from common.contracts.task_stages import STAGES_FINAL, STAGES_SHOW, StagesRef

    told, written = 0, dict[int, str]()
    while True:
        view = await session.call(STAGES_SHOW, StagesRef(stages_id=stages_id))
        for line in view.lines[told:]:
            session.out.step(f"  {line}")
        told = len(view.lines)
        for stage in view.stages:
            if stage.output_blob and stage.number not in written:
                place = output_of(output, stage.number, len(view.stages))
                written[stage.number] = await _write(session, stages_id, stage, place)
                session.out.step(f"  result of stage {stage.number}: {written[stage.number]}")
        if view.state in STAGES_FINAL:
            return view, written
        await asyncio.sleep(LOOK_EVERY_S)


async def _write(session: Session, stages_id: str, stage: StageView, output: Path) -> str:
    from dux_cli.job_files import write_result

    data = await session.client("p2pd").transfer("GET", f"/blob/{stage.output_blob}", None)
    return write_result(data, output, f"duxnet fetch {stages_id} --output FILE")


def stage_facts(view: StagesView) -> list[tuple[str, str]]:
    """What a person wants to know of a purchase in stages."""
    facts = [
        ("stages", view.stages_id),
        ("state", f"{view.state}: {view.reason}" if view.reason else str(view.state)),
        ("service", view.service_id),
        ("funded", "together, by one payment" if view.together else "one by one"),
        ("bond", "the seller locked it first" if view.bonded else ""),
        ("paid", flop(view.paid_florins)),
    ]
    return facts + [(f"stage {stage.number}", _stage_text(stage)) for stage in view.stages]


def _stage_text(stage: StageView) -> str:
    words = [stage.state]
    words += [f"task {stage.task_id}"] if stage.task_id else []
    words += [f"contract {stage.contract_id}"] if stage.contract_id else []
    words += [f"{flop(stage.settlement.gross_florins)} ({stage.settlement.outcome})"] if stage.settlement else []
    words += [f"result {stage.output_blob}"] if stage.output_blob else []
    return ", ".join(words + ([stage.reason] if stage.reason and stage.state not in ("paid", "not-begun") else []))
