"""What stages mean for each other: when the next one begins, and when none does any more.

Pure. A stage is a task of its own; this module only says which to begin and which to end, from what is seen of them.
The next one begins when the one before was judged good and paid in whole; anything less ends the rest.

Source: escrow_protocol.md §1 (lots: exposure is one lot), `common/contracts/task_stages.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from common.codec import Wire
from common.contracts.escrow import SeriesWish
from common.contracts.task import FINAL, TaskState
from common.contracts.task_stages import StagesState, SubmitStages


class Stages(Wire, frozen=True):
    """A purchase in stages."""

    stages_id: str
    wish: SubmitStages
    series: bytes  # what the lots of one series have in common; used together only
    created_ms: int
    begun: tuple[str, ...] = ()  # tasks, in the order of stages
    asked: int = 0  # stages that were ordered to begin
    stopped: str = ""  # why none begins any more


class BeginStage(Wire, frozen=True, tag=True):
    """Buyer: plan this stage and propose its contract."""

    stages_id: str
    number: int


class Seen(NamedTuple):
    """How a stage's task stands."""

    state: TaskState
    good: bool | None
    paid_whole: bool
    reason: str


class Turn(NamedTuple):
    """What a look at the stages leaves: the row as it is now, stages to begin, stages to end."""

    stages: Stages
    orders: tuple[BeginStage, ...]
    cancel: tuple[int, ...]


def stages_problem(wish: SubmitStages) -> str:
    """Why the wish cannot be done, or an empty string."""
    if len(wish.inputs) not in (1, wish.count):
        return f"give one input, or one for each of the {wish.count} stages; {len(wish.inputs)} were given"
    if wish.together and len(wish.inputs) != wish.count:
        return "stages that are funded together need an input each: results are not known yet when all is agreed"
    if wish.together and wish.check != "none":
        return "stages that are funded together take no second worker; buy them one by one, or with check none"
    return "a bond is locked for stages that are funded together" if wish.bonded and not wish.together else ""


def is_chained(wish: SubmitStages) -> bool:
    """Whether a stage's result is the next one's input."""
    return len(wish.inputs) < wish.count


def accepted(seen: Seen) -> bool:
    """The stage was judged good and its whole price is paid for good."""
    return seen.state is TaskState.PAID and seen.good is True and seen.paid_whole


def look(stages: Stages, seen: Sequence[Seen]) -> Turn:
    """Decide by what is seen of the stages that have begun, in their order."""
    failed = next((at for at, one in enumerate(seen) if one.state in FINAL and not accepted(one)), None)
    if failed is not None and not stages.stopped:
        stages = stop(stages, f"stage {failed + 1} ended as {seen[failed].state}: {seen[failed].reason or 'no reason'}")
    if stages.stopped:
        return Turn(stages, (), tuple(at for at, one in enumerate(seen) if one.state not in FINAL))
    due = min(stages.wish.count, _due(stages, seen))
    orders = tuple(BeginStage(stages.stages_id, number) for number in range(stages.asked, due))
    return Turn(replace(stages, asked=max(stages.asked, due)), orders, ())


def _due(stages: Stages, seen: Sequence[Seen]) -> int:
    """How many stages may have begun by now."""
    return stages.wish.count if stages.wish.together else sum(map(accepted, seen)) + 1


def stop(stages: Stages, reason: str) -> Stages:
    """None begins any more; the first reason stays."""
    return stages if stages.stopped else replace(stages, stopped=reason)


def begun(stages: Stages, task_id: str) -> Stages:
    """The next stage has begun."""
    return replace(stages, begun=(*stages.begun, task_id), asked=max(stages.asked, len(stages.begun) + 1))


def state_of(stages: Stages, seen: Sequence[Seen]) -> StagesState:
    """The one word that callers see."""
    if stages.stopped:
        open_ones = any(one.state not in FINAL for one in seen)
        return StagesState.STOPPING if open_ones else StagesState.STOPPED
    done = sum(map(accepted, seen)) == stages.wish.count
    return StagesState.ACCEPTED if done else StagesState.GOING_ON


def place_of(stages: Stages, number: int) -> SeriesWish | None:
    """The stage's place among the lots of one series; stages bought one by one have none."""
    wish = stages.wish
    if not wish.together:
        return None
    begins = wish.deliver_blocks * number
    return SeriesWish(series=stages.series, number=number, count=wish.count, begins_blocks=begins, bonded=wish.bonded)


def deliver_blocks_of(stages: Stages, number: int) -> int:
    """Blocks to a stage's delivery: funded together, they count from one funding for all."""
    return stages.wish.deliver_blocks * (number + 1 if stages.wish.together else 1)
