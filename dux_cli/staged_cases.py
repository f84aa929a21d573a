"""Names the stage of what waits for a buyer of stages one by one: each is a contract of its own, and taskd knows which.

A lot of a series says itself which it is; a seller of stages one by one knows of no later ones. Without taskd, or
beyond its newest tasks, what waits is shown all the same, without its stage. Source: docs/protocol/work.md §6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from common.contracts.task import LIST, ListTasks, TaskView
from common.contracts.task_stages import STAGES_SHOW, StagesRef
from common.errors import DuxError
from dux_cli.output import note

if TYPE_CHECKING:
    from common.contracts.escrow_cases import CaseItem
    from dux_cli.command import Session

TASKS_LOOKED_AT = 200


def with_stages(session: Session, found: tuple[CaseItem, ...]) -> tuple[CaseItem, ...]:
    """The items, those of stages with their place."""
    if not any(_may_be_staged(item) for item in found):
        return found
    try:
        tasks = session.ask(LIST, ListTasks(role="buyer", limit=TASKS_LOOKED_AT)).tasks
        staged = {task.contract_id: task for task in tasks if task.stages_id and task.contract_id}
        wanted = sorted({staged[one.contract_id].stages_id for one in found if one.contract_id in staged})
        counts = {name: len(session.ask(STAGES_SHOW, StagesRef(stages_id=name)).stages) for name in wanted}
    except DuxError as error:
        note(f"which stages these are cannot be told now: {error.message}")
        return found
    return tuple(_placed(item, staged.get(item.contract_id), counts) for item in found)


def _may_be_staged(item: CaseItem) -> bool:
    return item.role == "buyer" and not item.stage


def _placed(item: CaseItem, task: TaskView | None, counts: dict[str, int]) -> CaseItem:
    if task is None or not _may_be_staged(item):
        return item
    return replace(item, stage=task.stage, stages=counts[task.stages_id])
