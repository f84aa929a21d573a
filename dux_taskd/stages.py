"""Work in stages: what callers ask of it, and what a move of one stage's task leads to.

Promise: a stage begins once, whatever crashes: that it was ordered, that it began, and what a task's end means for the
others are written in one decision with what led to it.
"""

from __future__ import annotations

from msgspec.structs import replace

from common.clock import Clock
from common.contracts import task_stages as contract
from common.contracts.task import Submit
from common.errors import NotFound
from common.randomness import Randomness, new_id
from common.rpc.table import Ctx, MethodTable
from common.store import Tx
from common.units import Florins
from dux_taskd import rules_buyer, stage_rules
from dux_taskd.buying import Bought, Buying
from dux_taskd.desk import Desk
from dux_taskd.model import CancelWanted, Task
from dux_taskd.stage_rules import BeginStage, Seen, Stages
from dux_taskd.store import TaskStore

SERIES_BYTES = 32
OWNER_ENDS = "the owner asked for the end"


class StageDesk:
    """Drives purchases in stages."""

    def __init__(self, store: TaskStore, desk: Desk, buying: Buying, *, clock: Clock, random: Randomness) -> None:
        self._store, self._desk, self._buying = store, desk, buying
        self._clock, self._random = clock, random
        desk.on_moved = self.moved

    def serve(self, table: MethodTable) -> None:
        """Answer callers."""
        table.serve(contract.STAGES_SUBMIT, self.submit)
        table.serve(contract.STAGES_SHOW, self.show)
        table.serve(contract.STAGES_CANCEL, self.cancel)

    async def submit(self, params: contract.SubmitStages, ctx: Ctx) -> contract.StagesRef:
        """Plan the first stage, so that what is wrong is told at once; begin it."""
        problem = stage_rules.stages_problem(params)
        if problem:
            raise contract.BadStages(detail=problem)
        stages = Stages(
            stages_id=new_id(self._random, "stages"),
            wish=params,
            series=self._random.bytes(SERIES_BYTES),
            created_ms=self._clock.unix_ms(),
        )
        bought = await self._plan(stages, 0)
        ref = contract.StagesRef(stages_id=stages.stages_id)
        with self._store.store.transaction() as tx:
            self._begin(tx, stages, bought)
            ctx.remember(tx, ref)
        return ref

    async def perform(self, order: BeginStage) -> None:
        """Begin a later stage.

        Raises:
            DuxError: as planning raised it; what will never work ends the rest by `refused`.
        """
        stages = self._stages(order.stages_id)
        if stages.stopped or len(stages.begun) != order.number:
            return
        bought = await self._plan(stages, order.number)
        with self._store.store.transaction() as tx:
            now = self._stages(order.stages_id)
            if not now.stopped and len(now.begun) == order.number:
                self._begin(tx, now, bought)

    def refused(self, tx: Tx, order: BeginStage, reason: str) -> None:
        """A stage that cannot begin ends the rest."""
        self._look(tx, stage_rules.stop(self._stages(order.stages_id), f"stage {order.number + 1} not begun: {reason}"))

    def moved(self, tx: Tx, task: Task) -> None:
        """A task has another state: if it is a stage, the others hear of it."""
        stages = self._store.stages(task.stages_id) if task.stages_id else None
        if stages is not None and task.task_id in stages.begun:
            self._look(tx, stages)

    def _look(self, tx: Tx, stages: Stages) -> None:
        turn = stage_rules.look(stages, self._seen(stages))
        before = self._store.stages(stages.stages_id)
        self._store.put_stages(tx, turn.stages)
        if turn.stages.stopped and not (before and before.stopped):
            self._store.say(tx, stages.stages_id, f"no further stage: {turn.stages.stopped}")
        for order in turn.orders:
            self._desk.begin_stage(tx, order)
        for number in turn.cancel:
            task = self._store.task(turn.stages.begun[number])
            if task is not None and not task.cancelled:
                self._desk.take(tx, task.task_id, CancelWanted())

    def _begin(self, tx: Tx, stages: Stages, bought: Bought) -> None:
        number = len(stages.begun)
        task = replace(bought.task, stages_id=stages.stages_id, stage=number, lots=stage_rules.place_of(stages, number))
        self._store.put_stages(tx, stage_rules.begun(stages, task.task_id))
        self._store.say(tx, stages.stages_id, f"stage {number + 1} of {stages.wish.count} begins ({task.task_id})")
        if bought.given.key:
            self._store.keep_input_key(tx, bought.given.blob, bought.given.key, bought.audience)
        self._desk.begin(tx, task)
        self._look(tx, self._stages(stages.stages_id))

    async def _plan(self, stages: Stages, number: int) -> Bought:
        wish = stages.wish
        one = Submit(
            request_id=f"{stages.stages_id}/{number}",
            service_id=wish.service_id,
            input_blob=self._input(stages, number),
            args=wish.args,
            price_limit_florins=wish.price_limit_florins,
            check=wish.check,
            check_limit_florins=wish.check_limit_florins,
            deliver_blocks=stage_rules.deliver_blocks_of(stages, number),
            arbiters=wish.arbiters,
            private_input=wish.private_input,
            policy=wish.policy,
            swap_limit_florins=wish.swap_limit_florins,
            strikes=wish.strikes,
        )
        return await self._buying.plan(one, self._clock.unix_ms())

    def _input(self, stages: Stages, number: int) -> str:
        if number == 0 or not stage_rules.is_chained(stages.wish):
            return stages.wish.inputs[number]
        task = self._store.task(stages.begun[number - 1])
        main = rules_buyer.main_leg(task) if task else None
        if main is None or not main.output_blob:
            raise NotFound(what="result of the stage before", name=stages.begun[number - 1])
        return main.output_blob

    # for callers

    async def show(self, params: contract.StagesRef, _ctx: Ctx) -> contract.StagesView:
        """Stage by stage."""
        return self._view(self._stages(params.stages_id))

    async def cancel(self, params: contract.CancelStages, ctx: Ctx) -> contract.StagesView:
        """Begin none any more; end what runs."""
        stages = self._stages(params.stages_id)
        is_over = stage_rules.state_of(stages, self._seen(stages)) in contract.STAGES_FINAL
        with self._store.store.transaction() as tx:
            if not is_over:
                self._look(tx, stage_rules.stop(stages, OWNER_ENDS))
            view = self._view(self._stages(params.stages_id))
            ctx.remember(tx, view)
        return view

    def _view(self, stages: Stages) -> contract.StagesView:
        tasks = [self._store.task(task_id) for task_id in stages.begun]
        views = [_stage_view(at, tasks[at] if at < len(tasks) else None) for at in range(stages.wish.count)]
        paid = sum(int(view.settlement.gross_florins) for view in views if view.settlement)
        return contract.StagesView(
            stages_id=stages.stages_id,
            state=stage_rules.state_of(stages, self._seen(stages)),
            service_id=stages.wish.service_id,
            together=stages.wish.together,
            bonded=stages.wish.bonded,
            paid_florins=Florins(paid),
            reason=stages.stopped,
            stages=tuple(views),
            lines=tuple(line.text for line in self._store.lines(stages.stages_id)),
        )

    def _seen(self, stages: Stages) -> list[Seen]:
        return [_seen(task) for task_id in stages.begun if (task := self._store.task(task_id)) is not None]

    def _stages(self, stages_id: str) -> Stages:
        found = self._store.stages(stages_id)
        if found is None:
            raise NotFound(what="purchase in stages", name=stages_id)
        return found


def _seen(task: Task) -> Seen:
    main = rules_buyer.main_leg(task)
    paid = main.settlement.gross_florins if main and main.settlement else 0
    whole = main is not None and paid == main.plan.price_florins
    return Seen(rules_buyer.state_of(task), main.good if main else None, whole, task.reason)


def _stage_view(at: int, task: Task | None) -> contract.StageView:
    main = rules_buyer.main_leg(task) if task else None
    return contract.StageView(
        number=at + 1,
        task_id=task.task_id if task else "",
        state=rules_buyer.state_of(task).value if task else "not-begun",
        good=main.good if main else None,
        contract_id=(main.contract_id or None) if main else None,
        settlement=main.settlement if main else None,
        output_blob=(main.output_blob or None) if main else None,
        reason=task.reason if task else "",
    )
