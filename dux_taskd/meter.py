"""Asks workers how far they are, for tasks that run now. Only shown, never decided by."""

from __future__ import annotations

import asyncio

from common.contracts.peer_task import PROGRESS, AskProgress
from common.errors import DuxError
from common.peers import Peers
from dux_taskd import rules_buyer
from dux_taskd.model import LegState, Task
from dux_taskd.store import TaskStore

PAUSE_S = 2.0
ASK_S = 2.0
ASKED_MAX = 16  # tasks asked about in one round


class Meter:
    """What the workers said last."""

    def __init__(self, peers: Peers, store: TaskStore) -> None:
        self._peers, self._store = peers, store
        self._permille: dict[str, int] = {}

    def of(self, task: Task) -> int:
        """Thousandths of this task's job, as its worker said last."""
        main = rules_buyer.main_leg(task)
        return self._permille.get(main.contract_id, 0) if main else 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S)
            running = self._store.running_tasks(ASKED_MAX)
            mains = [leg for task in running if (leg := rules_buyer.main_leg(task)) is not None]
            asked = [leg for leg in mains if leg.state is LegState.RUNNING]
            self._permille = {leg.contract_id: self._permille.get(leg.contract_id, 0) for leg in asked}
            for leg in asked:
                try:
                    ask = AskProgress(contract_id=bytes.fromhex(leg.contract_id))
                    answer = await self._peers.call(leg.plan.worker, PROGRESS, ask, deadline_s=ASK_S)
                except DuxError:
                    continue  # a worker that does not say keeps its last word
                self._permille[leg.contract_id] = answer.permille
