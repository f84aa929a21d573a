"""Six nodes and a coin node in containers: the main job across them, and what happens to containers in mid-job.

Each misfortune strikes a job that is under way; it ends as the protocol promises, and after each of them the auditor
walks the chain and finds an owner for every coin.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import cast

import pytest
import pytest_asyncio

from common.contracts.escrow import SHOW, ContractRef
from common.contracts.escrow_views import Status
from common.contracts.task import FINAL, STATUS, TaskRef, TaskState, TaskView
from common.contracts.wallet import CHAIN_TIP
from common.errors import DuxError
from common.rpc.method import Empty
from common.units import FLOP
from dux_cli.compose_files import CHAIN
from dux_cli.demo import accounts, job
from dux_cli.demo.pace import WaitedTooLong
from dux_cli.demo.stage import Stage, in_step
from dux_cli.pictures import make_test_picture
from tests.containers.container_stage import ContainerNode, staged
from tests.containers.engine import ROOT, Engine, engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

BASE = "duxnet-base:bookworm"
CUT_S = 20.0  # above the 15 s after which p2pd gives a silent connection up
DELIVER_BLOCKS = 40
PICTURE = (1200, 900)  # pixels: a job that is still running when its seller is struck
SMALL = (96, 64)
TOLD: list[str] = []


def tell(text: str) -> None:
    """Shown by `pytest -s`, and once more at the end."""
    TOLD.append(text)


@pytest.fixture(scope="module")
def running() -> Iterator[Engine]:
    """The network of docker-compose.yml, up; `down` at the end, whatever happened."""
    with engine(f"duxtest{os.getpid()}") as found:
        build(found)
        try:
            began = time.monotonic()
            found.compose("up", "--detach", within_s=180)
            tell(f"up: {time.monotonic() - began:.1f} s")
            yield found
        finally:
            found.compose("down", "--volumes", "--timeout", "3", check=False)
            found.docker("rmi", f"duxnet:{found.project}", check=False)
            print("\n" + "\n".join(TOLD))  # noqa: T201 - for whoever reads the log


def build(found: Engine) -> None:
    """The image, on a base that this machine's own apt made, unless DUX_BASE names one."""
    began = time.monotonic()
    if "DUX_BASE" not in os.environ:
        subprocess.run([ROOT / "build_script" / "offline_base"], env=found.environment, check=True, timeout=300)
        found.environment["DUX_BASE"] = BASE
    found.compose("build", within_s=300)
    size = found.docker("image", "inspect", "-f", "{{.Size}}", f"duxnet:{found.project}").decode()
    tell(f"image: {int(size) / 1e6:.0f} MB, built in {time.monotonic() - began:.1f} s")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(running: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Every node healthy, in step with the chain, and reached through `docker exec`."""
    folder = tmp_path_factory.mktemp("stage")
    began = time.monotonic()
    async with staged(running, folder) as found:
        tell(f"all healthy and in step: {time.monotonic() - began:.1f} s later")
        tell(running.compose("ps"))
        yield found


def container(stage: Stage, name: str) -> ContainerNode:
    return cast("ContainerNode", stage.node(name))


def typed(running: Engine, service: str, *words: str, within_s: float = 150.0) -> str:
    """What a tester types: `docker-compose exec SERVICE duxnet WORDS`."""
    return running.compose("exec", "-T", service, "duxnet", *words, within_s=within_s)


async def every_coin_has_an_owner(stage: Stage) -> None:
    """Read again for a while: books follow the chain by a moment."""
    found: list[accounts.Audit] = []

    async def conserved() -> bool:
        found[:] = [await accounts.audit(stage)]
        return found[0].conserved

    try:
        await stage.pace.until("every coin to have an owner", conserved, within_s=120)
    except WaitedTooLong:
        pytest.fail(f"coins and books do not agree: {found}")
    tell(f"  audit at height {found[0].height}: {found[0].unspent_florins} florins, each with an owner")


# what a tester sees


async def test_nodes_are_apart_and_only_p2pd_is_reached_from_outside(running: Engine, stage: Stage) -> None:
    """A node sees its own volume alone; its RPC is refused off its loopback, its p2pd is not; the image has no key."""
    assert (
        await container(stage, "buyer").docker("exec", container(stage, "buyer").container, "ls", "/duxnet")
        == "buyer\n"
    )
    knock = "import socket,sys; socket.create_connection(('buyer', int(sys.argv[1])), 3).close()"
    worker = container(stage, "worker").container
    running.docker("exec", worker, "python3", "-c", knock, "32570")
    refused = running.docker("exec", worker, "sh", "-c", f'python3 -c "{knock}" 32561 2>&1 || true').decode()
    assert "ConnectionRefusedError" in refused
    image = f"duxnet:{running.project}"
    listed = running.docker(
        "run", "--rm", "--network=none", image, "sh", "-c", "ls /duxnet /opt/duxnet 2>&1; true"
    ).decode()
    assert "docker-compose.yml" not in listed
    assert "cannot access '/duxnet'" in listed
    log = running.docker("exec", container(stage, "buyer").container, "cat", "/duxnet/buyer/log/p2pd.log").decode()
    assert "chain:28601" in log  # flopd's way to the coin node leads through p2pd's egress


async def test_the_main_job_runs_across_containers(running: Engine, stage: Stage) -> None:
    """Published, found, called, checked by a second worker, released 95/5, read back from the chain."""
    typed(running, "seller", "publish", "examples/image_upscaler", "--price", "10")
    typed(running, "worker", "publish", "examples/image_upscaler/check.yaml", "--price", "1")
    service = (await job.find(stage, "upscale", "wasm")).id
    await job.find(stage, "check", "check")
    assert service in typed(running, "buyer", "search", "upscale", "--quiet").split()
    picture = stage.folder / "small.png"
    make_test_picture(*SMALL).save(picture)
    running.docker("cp", str(picture), f"{running.container('buyer')}:/duxnet/buyer/small.png")
    began = time.monotonic()
    files = ["--input", "/duxnet/buyer/small.png", "--output", "/duxnet/buyer/large.png"]
    answer = json.loads(
        typed(running, "buyer", "call", service, *files, "--arg", "scale=2", "--max-price", "10", "--json")
    )
    assert answer["state"] == "paid"
    assert answer["good"] is True
    raw = await stage.node("buyer").client("p2pd").transfer("GET", f"/blob/{answer['output_blob']}", None)
    assert job.is_right(raw, picture)
    running.docker("cp", f"{running.container('buyer')}:/duxnet/buyer/large.png", str(stage.folder / "large.png"))
    assert (stage.folder / "large.png").stat().st_size > 1000
    ledger = await accounts.read_chain(stage.chain)
    paid = accounts.read_release(stage, ledger, answer["settlement"]["txid"])
    checked = accounts.read_release(stage, ledger, answer["check_settlement"]["txid"])
    assert (paid.gross_florins, paid.fund_florins) == (10 * FLOP, FLOP // 2)
    assert paid.provider_florins == paid.gross_florins - paid.fund_florins - paid.fees_florins
    assert (checked.gross_florins, checked.fund_florins) == (FLOP, FLOP // 20)
    tell(f"main job: {time.monotonic() - began:.1f} s, {paid}")
    await every_coin_has_an_owner(stage)


# misfortunes in mid-job

Misfortune = Callable[[], Awaitable[None]]


async def struck(stage: Stage, name: str, misfortune: Misfortune) -> accounts.Paid:
    """One job that is struck while it runs; what was paid for it in the end, and its result is right."""
    began = time.monotonic()
    offers = job.Offers((await job.find(stage, "upscale", "wasm")).id, "")
    picture = stage.folder / "large-input.png"
    if not picture.exists():
        make_test_picture(*PICTURE).save(picture)
    task = await job.submit(stage, offers, picture, request_id=name, deliver_blocks=DELIVER_BLOCKS)
    before = await work_has_begun(stage, task)
    await misfortune()
    after = await state_of(stage, task)
    healed = time.monotonic()
    view = await job.follow(stage, task, None)
    tell(f"{name}: {before} when struck, {after} when healed, {view.state} {time.monotonic() - healed:.1f} s later")
    assert before not in FINAL
    assert view.state is TaskState.PAID, await story(stage, view)
    right, _ = await job.fetch(stage, view, picture, stage.folder / f"{name}.png")
    assert right
    assert view.settlement
    ledger = await accounts.read_chain(stage.chain)
    paid = accounts.read_release(stage, ledger, view.settlement.txid)
    tell(f"  {view.settlement.outcome}, {time.monotonic() - began:.1f} s in all, {paid}")
    return paid


async def story(stage: Stage, view: TaskView) -> str:
    """Why it ended otherwise, as both sides tell it."""
    words = {"buyer": ("task", view.task_id), "seller": ("contract", view.contract_id or "")}
    told = [f"{name}:\n" + typed(container(stage, name).engine, name, "why", *of) for name, of in words.items()]
    for daemon in ("p2pd", "flopd", "escrowd", "taskd"):
        told += [
            f"seller's {daemon}:\n" + typed(container(stage, "seller").engine, "seller", "logs", daemon, "-n", "30")
        ]
    return "\n".join(told)


async def state_of(stage: Stage, task: str) -> TaskState | None:
    """The buyer's view of a task; None while the buyer does not answer."""
    try:
        return (await stage.node("buyer").call(STATUS, TaskRef(task_id=task), deadline_s=5)).state
    except DuxError:
        return None


async def work_has_begun(stage: Stage, task: str) -> TaskState:
    """The task's state once the buyer has the seller's START: from then on the seller has time to deliver.

    A seller that is struck before has not begun within its few blocks, and the arbiters rightly give everything back.
    """
    found: list[TaskState] = []

    async def begun() -> bool:
        view = await stage.node("buyer").call(STATUS, TaskRef(task_id=task))
        found[:] = [view.state]
        if view.contract_id is None:
            return False
        contract = await stage.node("buyer").call(SHOW, ContractRef(contract_id=view.contract_id))
        return contract.status is Status.IN_PROGRESS or view.state in FINAL

    await stage.pace.until(f"work on task {task} to begin", begun)
    return found[0]


def whole(paid: accounts.Paid) -> bool:
    """10 FLOP, 5 % of it to the fund."""
    return (paid.gross_florins, paid.fund_florins) == (10 * FLOP, FLOP // 2)


@pytest.mark.parametrize("name", ["seller", "buyer"])
async def test_a_killed_container_goes_on_from_its_volume(stage: Stage, name: str) -> None:
    """SIGKILL of all processes of a node at once, and a new start."""
    node = container(stage, name)

    async def killed() -> None:
        await node.docker("kill", "--signal", "KILL", node.container)
        await node.docker("start", node.container)
        await node.wait_ready(deadline_s=60)

    assert whole(await struck(stage, f"{name}-killed", killed))
    await every_coin_has_an_owner(stage)


async def test_a_paused_container_is_missed_and_comes_back(stage: Stage) -> None:
    """All of the seller's processes stand still for longer than its connections are believed to live."""
    node = container(stage, "seller")

    async def paused() -> None:
        await node.docker("pause", node.container)
        await asyncio.sleep(CUT_S)
        await node.docker("unpause", node.container)

    assert whole(await struck(stage, "seller-paused", paused))
    await every_coin_has_an_owner(stage)


async def test_a_node_that_was_cut_off_comes_back_at_another_address(stage: Stage) -> None:
    """No network at all for the seller, not even the chain; connected again, the engine gives it another address."""
    node = container(stage, "seller")
    mesh, before = f"{node.engine.project}_mesh", await node.address()
    after: list[str] = []

    async def cut_off() -> None:
        await node.docker("network", "disconnect", mesh, node.container)
        await asyncio.sleep(CUT_S)
        await node.docker("network", "connect", "--alias", "seller", mesh, node.container)
        after.append(await node.address())

    assert whole(await struck(stage, "seller-cut-off", cut_off))
    tell(f"  its address was {before}, now {after[0]}")
    assert after[0] != before
    await stage.pace.until("all to be connected with the node at its new address", lambda: in_step(stage))
    await every_coin_has_an_owner(stage)


async def test_a_coin_node_that_stands_still_holds_everybody_up_and_costs_nobody_a_coin(stage: Stage) -> None:
    """No block, no answer, for all nodes at once; they say so in their health and go on afterwards."""
    name = container(stage, "buyer").engine.container(CHAIN)
    node = container(stage, "buyer")

    async def paused() -> None:
        await node.docker("pause", name)
        await asyncio.sleep(CUT_S)
        tip = await node.call(CHAIN_TIP, Empty(), deadline_s=10)
        await node.docker("unpause", name)
        tell(f"  with the coin node paused, the buyer's flopd says synced={tip.synced} at height {tip.height}")

    assert whole(await struck(stage, "coin-node-paused", paused))
    await every_coin_has_an_owner(stage)
