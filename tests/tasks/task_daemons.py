"""taskd under test on the small market: real daemon, real store, fake neighbours, and a quick stand-in as runner."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from common.codec import Wire
from common.contracts import task as contract
from common.parts import Parts
from common.randomness import SeededRandomness
from common.rpc.client import LocalClient
from common.rpc.method import Method
from common.units import FLOP, Florins
from common.work import JobKind
from dux_taskd.daemon import TaskDaemon
from dux_taskd.executor import Capacity, Executor
from dux_taskd.sandbox.model import Ended, Offer, Outcome, Probe, Progress, Run
from dux_taskd.settings import TaskSettings
from tests.tasks.fake_market import LOG, NETWORK, FakeNode, Market

PACKAGE = b"a package that shouts"


class QuickRunner:
    """Stands in for the wasm sandbox: the output is the input in capitals, and whatever a test wants besides."""

    kind = JobKind.WASM
    engine = "quick/1"

    def __init__(self, lie: bytes = b"") -> None:
        self.lie = lie
        self.ends: list[Ended] = []  # taken one after another; then DONE
        self.gate: asyncio.Event | None = None
        self.runs = 0
        self.killed = 0

    async def run(self, run: Run, *, deadline_s: float, progress: Progress) -> Outcome:
        assert deadline_s > 0
        self.runs += 1
        progress(500)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.killed += 1
                raise
        ended = self.ends.pop(0) if self.ends else Ended.DONE
        output = run.input.upper() + self.lie if ended is Ended.DONE else b""
        return Outcome(ended=ended, engine=self.engine, output=output, fuel_used=7, detail=f"planted {ended.value}")

    async def probe(self) -> Offer:
        return Offer(kind=self.kind, engine=self.engine, probes=(Probe(name="stand-in", holds=True, detail=""),))


class QuickTaskDaemon(TaskDaemon):
    """The real daemon with another runner."""

    runner: QuickRunner

    async def _listen(self, parts: Parts[TaskSettings]) -> None:
        """No port: tests call the table."""

    def make_executor(self, parts: Parts[TaskSettings]) -> Executor:
        return Executor((self.runner,), Capacity(parts.settings.jobs_at_once, 1 << 31))


@dataclass
class Player:
    """One node's running taskd."""

    node: FakeNode
    daemon: TaskDaemon
    runner: QuickRunner

    async def ask(self, method: Method[Any, Any], params: Wire, caller: str = "cli") -> Any:
        return await LocalClient(self.daemon.parts.table, caller).call(method, params, deadline_s=30)

    async def view(self, task_id: str) -> contract.TaskView:
        found: contract.TaskView = await self.ask(contract.STATUS, contract.TaskRef(task_id=task_id))
        return found

    async def until(self, task_id: str, *states: contract.TaskState) -> contract.TaskView:
        """The view, once the task is in one of the states (any final one when none is named)."""
        wanted = states or tuple(contract.FINAL)
        async with asyncio.timeout(20):
            while True:
                found = await self.view(task_id)
                if found.state in wanted:
                    return found
                await asyncio.sleep(0.01)


@asynccontextmanager
async def playing(
    market: Market,
    number: int,
    runner: QuickRunner | None = None,
    *,
    keep: bool = False,
    kind: type[TaskDaemon] | None = None,
) -> AsyncIterator[Player]:
    """Taskd of node `number`, until the block ends; `keep` writes its store to disk."""
    node = market.node(number)
    folder = market.folder / str(number)
    settings = TaskSettings(network_profile="", data_dir=str(folder / "data"), run_dir=str(folder / "run"), port_base=0)
    daemon = (kind or QuickTaskDaemon)(
        settings,
        NETWORK,
        log=LOG,
        randomness=SeededRandomness(number),
        neighbours=node.neighbour,
        store_in_memory=not keep,
    )
    runner = runner or QuickRunner()
    if isinstance(daemon, QuickTaskDaemon):
        daemon.runner = runner
    ready = asyncio.Event()
    task = asyncio.ensure_future(daemon.run(ready))
    try:
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            await task
        node.taskd = daemon.parts.table
        yield Player(node, daemon, runner)
    finally:
        node.taskd = None
        task.cancel()
        with contextlib.suppress(BaseException):
            await task


async def submit(player: Player, service_id: str, data: bytes = b"duck", **changes: Any) -> str:
    """Buy one call; the task's id."""
    fields: dict[str, Any] = {
        "request_id": "r1", "service_id": service_id, "input_blob": player.node.put(data),
        "price_limit_florins": Florins(10 * FLOP),
    }  # fmt: skip
    ref = await player.ask(contract.SUBMIT, contract.Submit(**(fields | changes)))
    return str(ref.task_id)


async def sell(player: Player, kind: str = "wasm", price: int = 10 * FLOP, **changes: Any) -> str:
    """Publish and serve a service."""
    package = player.node.put(PACKAGE) if kind != "check" else ""
    service_id = player.node.market.publish(player.node.number, kind, price, package, **changes)
    await player.ask(contract.SERVE, contract.Serve(request_id=f"serve-{service_id}", service_id=service_id))
    return service_id
