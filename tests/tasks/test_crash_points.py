"""kill -9 at every commit: before it lands (what was asked of neighbours is done, and forgotten here) and after it.

Laws, after a restart on the same files: the task ends as without the crash; one contract of each kind, each settled
once; every party's receipt exists; nothing was asked of a neighbour twice under different names.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from common.contracts.task import FINAL, STATUS, TaskRef, TaskState, TaskView
from common.errors import DuxError
from common.store import Store, Tx
from common.units import FLOP
from tests.tasks.fake_market import ARBITERS, Market, did
from tests.tasks.task_daemons import Player, QuickRunner, playing, sell, submit

pytestmark = pytest.mark.patient

BUYER, SELLER, CHECKER = 1, 2, 3
NEVER = 10**6


class Crash(BaseException):
    """The process is gone."""


class Plan:
    """Crash at one commit, before or after it lands."""

    def __init__(self, nth: int, *, lands: bool) -> None:
        self.nth, self.lands = nth, lands
        self.commits = 0
        self.dead = asyncio.Event()

    def plant(self, store: Store) -> None:
        """Count this store's commits, and die at the planned one; a dead process writes nothing more."""
        real = store.transaction

        @contextmanager
        def transaction() -> Iterator[Tx]:
            if self.dead.is_set():
                raise Crash
            self.commits += 1
            dying = self.commits == self.nth
            if dying:
                self.dead.set()
            with real() as tx:
                yield tx
                if dying and not self.lands:
                    raise Crash
            if dying:
                raise Crash

        store.transaction = transaction  # type: ignore[method-assign]


@asynccontextmanager
async def living(market: Market, number: int, plan: Plan, runner: QuickRunner) -> AsyncIterator[list[Player]]:
    """A node that dies as planned and is started again on its files; the list holds the player that lives now."""
    holder: list[Player] = []
    ended = asyncio.Event()

    async def lives() -> None:
        async with playing(market, number, runner, keep=True) as player:
            store = player.daemon.parts.table.store
            assert store is not None
            plan.plant(store)
            holder[:] = [player]
            waits = [asyncio.ensure_future(plan.dead.wait()), asyncio.ensure_future(ended.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            player.node.alive = False
        player.node.alive = True
        if not ended.is_set():
            async with playing(market, number, runner, keep=True) as player:
                holder[:] = [player]
                await ended.wait()

    task = asyncio.ensure_future(lives())
    async with asyncio.timeout(10):
        while not holder:
            await asyncio.sleep(0.005)
    try:
        yield holder
    finally:
        ended.set()
        await task


async def insist(holder: list[Player], act: object) -> object:
    """Ask again, under the same request_id, until somebody answers: what a caller does."""
    while True:
        with contextlib.suppress(Crash, DuxError):
            return await act(holder[0])  # type: ignore[operator]
        await asyncio.sleep(0.01)


async def final_view(holder: list[Player], task_id: str) -> TaskView:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(Crash, DuxError):
                view: TaskView = await holder[0].ask(STATUS, TaskRef(task_id=task_id))
                if view.state in FINAL:
                    return view
            await asyncio.sleep(0.01)


async def play(market: Market, victim: int, plan: Plan, *, lying: bool = False) -> TaskView:
    """The main job with a check while one node dies; `lying`: the seller's result is wrong, arbiters decide."""
    async with contextlib.AsyncExitStack() as stack:
        holders: dict[int, list[Player]] = {}
        numbers = (BUYER, SELLER, CHECKER, *ARBITERS) if lying else (BUYER, SELLER, CHECKER)
        for number in ARBITERS:
            market.node(number)
        for number in numbers:
            runner = QuickRunner(b" altered" if lying and number == SELLER else b"")
            if number == victim:
                holders[number] = await stack.enter_async_context(living(market, number, plan, runner))
            else:
                holders[number] = [await stack.enter_async_context(playing(market, number, runner))]
        service = await insist(holders[SELLER], sell)
        await insist(holders[CHECKER], lambda player: sell(player, "check", FLOP))
        task_id = str(await insist(holders[BUYER], lambda player: submit(player, str(service), check="auto")))
        view = await final_view(holders[BUYER], task_id)
        wanted = {(deal.contract_id, did(n)) for deal in market.deals.values() for n in (BUYER,)}
        async with asyncio.timeout(20):
            while not wanted <= {(r.cid.hex(), r.signer) for r in market.receipts}:
                await asyncio.sleep(0.01)
    return view


@pytest.fixture
def memory_disk() -> Iterator[Path]:
    """A folder in memory where there is one: these tests end the process, not the machine. Swept afterwards."""
    shm = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        yield Path(folder)
    gc.collect()  # bury the dead processes' coroutines here, not in the middle of somebody else's work


async def commits_of(folder: Path, victim: int, *, lying: bool = False) -> int:
    plan = Plan(NEVER, lands=True)
    await play(Market(folder), victim, plan, lying=lying)
    return plan.commits


@pytest.mark.parametrize("lands", [False, True])
@pytest.mark.parametrize("victim", [BUYER, SELLER, CHECKER])
async def test_the_paid_job_survives_a_crash_at_every_commit(memory_disk: Path, victim: int, *, lands: bool) -> None:
    """Wherever buyer, seller or checker dies, the job is bought once, run, checked and paid once."""
    commits = await commits_of(memory_disk / "count", victim)
    assert commits >= 8
    for nth in range(1, commits + 1):
        market = Market(memory_disk / str(nth))
        view = await play(market, victim, Plan(nth, lands=lands))
        assert (view.state, view.check_state) == (TaskState.PAID, "agreed"), (nth, view)
        assert sorted(d.settlement.gross_florins for d in market.deals.values() if d.settlement) == [FLOP, 10 * FLOP]
        assert len(market.deals) == 2, f"bought twice after commit {nth}"


@pytest.mark.parametrize("lands", [False, True])
async def test_a_dispute_survives_a_crash_of_an_arbiter_at_every_commit(memory_disk: Path, *, lands: bool) -> None:
    """The vote is cast once and alike, wherever the arbiter dies; the buyer gets its coins back."""
    victim = ARBITERS[0]
    commits = await commits_of(memory_disk / "count", victim, lying=True)
    assert commits >= 2
    for nth in range(1, commits + 1):
        market = Market(memory_disk / str(nth))
        view = await play(market, victim, Plan(nth, lands=lands), lying=True)
        assert view.state is TaskState.REFUNDED, (nth, view)
