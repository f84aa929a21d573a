"""The bad days: what the other side, the machine and the arbiters can do, and that nobody loses a coin by it.

Each day is one real contract between the same processes. Misfortune is a signal to a process or another program in its
place (dux_sim/liars.py); the outcome is read from the contract's spend on the chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common.contracts.escrow import SHOW, ContractRef
from common.contracts.escrow_views import ContractView, Status
from common.contracts.task import STATUS, TaskRef, TaskView
from common.errors import DuxError
from common.rpc.method import DAEMONS
from dux_cli.demo import job
from dux_cli.demo.network import ARBITERS
from dux_cli.demo.stage import Stage, in_step
from dux_cli.demo.teller import Teller

SHORT_JOB_BLOCKS = 6  # what the bad days' contracts give the seller for its work
DAY_WITHIN_S = 240.0
LIAR = "dux_sim.liars"


@dataclass(frozen=True)
class Day:
    """How one bad day ended."""

    name: str
    outcome: str  # what became of the coins: released, awarded, refunded
    as_expected: bool
    gross_florins: int
    txids: tuple[str, ...]
    told: str
    kills: tuple[str, ...] = field(default=())


Play = Callable[[Stage, Teller, job.Offers, Path], Awaitable[Day]]


async def no_start(stage: Stage, teller: Teller, offers: job.Offers, picture: Path) -> Day:
    """The seller agrees, and vanishes before it begins: the arbiters give everything back."""
    task = await job.submit(stage, offers, picture, request_id="no-start", deliver_blocks=SHORT_JOB_BLOCKS)
    await job.agreed(stage, task)
    async with asleep(stage, "seller"):
        teller.say("kill -9 of all seven daemons of the seller, right after both signed")
        view = await wait_settled(stage, task)
        day = await ended(stage, "seller-vanishes-before-start", view, "awarded", gross=0)
        teller.say(f"no START within the agreed blocks: two of three arbiters award all to the buyer ({day.outcome})")
    return day


async def refund_after_timeout(stage: Stage, teller: Teller, offers: job.Offers, picture: Path) -> Day:
    """The seller vanishes, and two arbiters are silent: after height T the buyer takes its coins back alone."""
    task = await job.submit(stage, offers, picture, request_id="no-arbiters", deliver_blocks=SHORT_JOB_BLOCKS)
    await job.agreed(stage, task)
    async with asleep(stage, "seller", *ARBITERS[1:]):
        teller.say("the seller and two of three arbiters are gone: no quorum is left; the chain passes height T")
        view = await wait_settled(stage, task)
        day = await ended(stage, "no-quorum-refund-after-T", view, "refunded", gross=0)
        teller.say(f"the buyer has refunded itself, alone ({day.outcome})")
    return day


async def wrong_result(stage: Stage, teller: Teller, offers: job.Offers, picture: Path) -> Day:
    """The seller returns a wrong picture: the second worker's hash differs, the arbiters run the job again."""
    async with playing(stage, "seller", "taskd", LIAR):
        teller.say("the seller's taskd is replaced by one that alters its results")
        task = await job.submit(
            stage, offers, picture, request_id="wrong", check=offers.check_id, deliver_blocks=SHORT_JOB_BLOCKS
        )
        await job.agreed(stage, task, contracts=2)
        view = await wait_settled(stage, task)
    day = await ended(stage, "wrong-result", view, "awarded", gross=0)
    teller.say(f"hashes differ, arbiters re-ran the job from the evidence: the buyer is repaid ({day.outcome})")
    return day


async def never_releases(stage: Stage, teller: Teller, offers: job.Offers, picture: Path) -> Day:
    """The buyer has its result and stays silent: the seller's automatic dispute is won."""
    task = await job.submit(stage, offers, picture, request_id="silent", deliver_blocks=SHORT_JOB_BLOCKS)
    await job.agreed(stage, task)
    contract = await contract_of(stage, task)
    await stage.node("buyer").kill("taskd")
    teller.say("the buyer's taskd is killed: the result will arrive, and nobody there will ever say «good»")
    view = await wait_contract(stage, "seller", contract)
    await stage.node("buyer").start("taskd")
    await stage.node("buyer").wait_ready("taskd")
    day = await ended(stage, "buyer-never-releases", view, "awarded", gross=view.price_florins)
    teller.say(f"the seller's node disputed by itself before T, and was awarded its pay ({day.outcome})")
    return day


async def killed_in_turn(stage: Stage, teller: Teller, offers: job.Offers, picture: Path) -> Day:
    """Kill -9 of each of the seller's daemons while a job is under way, then of all at once."""
    task = await job.submit(stage, offers, picture, request_id="kills", deliver_blocks=40)
    kills: list[str] = []
    await job.agreed(stage, task)
    async with stage.pace.paused():  # the chain waits: the job gets no further than to a release that is not mined
        kills += [await kill_and_restart(stage, task, daemon) for daemon in DAEMONS[:2]]
        for _ in range(stage.depth_blocks + 1):
            await stage.pace.step()
        kills += [await kill_and_restart(stage, task, daemon) for daemon in DAEMONS[2:]]
        kills.append(await kill_and_restart(stage, task))
        await begun(stage, task)  # else the blocks of the next second could pass its last height for START
    teller.say(f"killed and restarted: {', '.join(kills)}")
    view = await wait_settled(stage, task)
    day = await ended(stage, "kill-9-of-every-daemon", view, "released", gross=view.price_florins, kills=tuple(kills))
    teller.say(f"the job went on from the stores ({day.outcome})")
    return day


async def kill_and_restart(stage: Stage, task: str, *daemons: str) -> str:
    """Kill -9 of the seller's daemons (all, when none is named) and a new start; `name@state of the task`."""
    seller, state = stage.node("seller"), (await status(stage, task)).state
    await seller.kill(*daemons)
    await seller.start(*daemons)
    await seller.wait_ready(*daemons)
    return f"{daemons[0] if daemons else 'all'}@{state}"


async def begun(stage: Stage, task: str) -> None:
    """Return when the buyer has heard the seller's START for its task."""
    contract = ContractRef(contract_id=await contract_of(stage, task))

    async def heard() -> bool:
        view = await stage.node("buyer").call(SHOW, contract)
        return view.status not in (Status.CREATED, Status.FUNDED)

    await stage.pace.until(f"contract {contract.contract_id[:12]} to be begun", heard)


FULL: tuple[Play, ...] = (no_start, wrong_result, never_releases, killed_in_turn, refund_after_timeout)
FAST: tuple[Play, ...] = (no_start,)


async def status(stage: Stage, task: str) -> TaskView:
    """The buyer's view of a task."""
    return await stage.node("buyer").call(STATUS, TaskRef(task_id=task))


async def wait_settled(stage: Stage, task: str) -> ContractView:
    """The contract of a buyer's task, once its coin's spend lies deep enough."""
    return await wait_contract(stage, "buyer", await contract_of(stage, task))


async def contract_of(stage: Stage, task: str) -> str:
    """The contract that a buyer's task has made."""
    view: list[TaskView] = []

    async def known() -> bool:
        view[:] = [await status(stage, task)]
        return view[0].contract_id is not None

    await stage.pace.until(f"task {task} to have a contract", known)
    return view[0].contract_id or ""


async def wait_contract(stage: Stage, name: str, contract: str) -> ContractView:
    """A contract as a node sees it, once it is closed."""
    found: list[ContractView] = []

    async def closed() -> bool:
        try:
            found[:] = [await stage.node(name).call(SHOW, ContractRef(contract_id=contract))]
        except DuxError:
            return False
        return found[0].state in ("CLOSED", "VOID")  # VOID: no contract came about, nothing was locked

    async with stage.pace.faster():
        await stage.pace.until(f"contract {contract[:12]} to close", closed, within_s=DAY_WITHIN_S)
    return found[0]


async def ended(
    stage: Stage, name: str, view: ContractView, outcome: str, *, gross: int, kills: tuple[str, ...] = ()
) -> Day:
    """What became of the contract's coin, compared with what the protocol promises."""
    settlement = view.settlement
    if settlement is None:
        return Day(name, "unsettled", as_expected=False, gross_florins=0, txids=(), told=view.reason, kills=kills)
    await stage.pace.until("the nodes to be in step again", lambda: _buyer_knows(stage, view.contract_id))
    return Day(
        name=name,
        outcome=str(settlement.outcome),
        as_expected=str(settlement.outcome) == outcome and settlement.gross_florins == gross,
        gross_florins=int(settlement.gross_florins),
        txids=(settlement.txid,),
        told=view.reason,
        kills=kills,
    )


async def _buyer_knows(stage: Stage, contract: str) -> bool:
    view = await stage.node("buyer").call(SHOW, ContractRef(contract_id=contract))
    return view.settlement is not None


@asynccontextmanager
async def asleep(stage: Stage, *names: str) -> AsyncIterator[None]:
    """Kill -9 of whole nodes; they are started again when the block ends."""
    stage.off.update(names)
    await asyncio.gather(*(stage.node(name).kill() for name in names))
    try:
        yield
    finally:
        await asyncio.gather(*(stage.node(name).start() for name in names))
        await asyncio.gather(*(stage.node(name).wait_ready() for name in names))
        await stage.pace.until("the nodes that were away to have read the chain", lambda: in_step(stage))
        stage.off.difference_update(names)


@asynccontextmanager
async def playing(stage: Stage, name: str, daemon: str, module: str) -> AsyncIterator[None]:
    """Another program in a daemon's place, on the same data; the honest one comes back when the block ends."""
    node = stage.node(name)
    await node.stop(daemon)
    node.run_instead(daemon, module)
    await node.start(daemon)
    await node.wait_ready(daemon)
    try:
        yield
    finally:
        await node.stop(daemon)
        node.run_instead(daemon, f"dux_{daemon}")
        await node.start(daemon)
        await node.wait_ready(daemon)
