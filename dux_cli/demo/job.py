"""The main job, played as its people would: publish, search, call with a check, rate, and the fund's airdrop.

Every step is a call that the command line makes, too; nothing here reaches into a daemon.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from common.contracts.escrow import SHOW, ContractRef
from common.contracts.registry import REPUTATION_GET, NodeName
from common.contracts.store import SERVICE_SEARCH, SERVICE_SHOW, SearchServices, ServiceName, ServiceView
from common.contracts.task import FINAL, STATUS, SUBMIT, Submit, TaskRef, TaskView
from common.units import FLOP, Florins, format_flop
from dux_cli.command import Session
from dux_cli.demo.stage import Stage
from dux_cli.demo.teller import Teller
from dux_cli.job_files import read_input, write_output
from dux_cli.market import publish_service, rate_contract, read_service
from dux_cli.output import Output
from dux_cli.pictures import make_test_picture, picture_from_raw
from dux_cli.supervisor import CHECKOUT

SERVICE_FILE = CHECKOUT / "examples" / "image_upscaler" / "service.yaml"
CHECK_FILE = CHECKOUT / "examples" / "image_upscaler" / "check.yaml"
PRICE = Florins(10 * FLOP)
CHECK_PRICE = Florins(FLOP)
SCALE = 2
FIVE_STARS = 5.0
SIGNED_BY_ALL = frozenset({"AGREED", "FUNDED_SEEN", "FUNDED", "DELIVERED", "REVEALED"})
TASK_WITHIN_S = 180.0


@dataclass(frozen=True)
class Offers:
    """What is for sale: the seller's service, and the second worker's checks."""

    service_id: str
    check_id: str


def session_of(stage: Stage, name: str) -> Session:
    """The command line's view of a node."""
    return Session(stage.node(name).folder, Output(quiet=True))


async def publish(stage: Stage, teller: Teller) -> Offers:
    """The seller and the second worker publish; the buyer finds both."""
    await _publish(stage, "seller", SERVICE_FILE, PRICE)
    await _publish(stage, "worker", CHECK_FILE, CHECK_PRICE)
    teller.say("the seller publishes an image-upscaling service for 10 FLOP, a second worker offers checks for 1 FLOP")
    service = await find(stage, "upscale", "wasm")
    teller.say(f"the buyer searches «upscale» and finds {service.name!r} for {format_flop(service.price_florins)} FLOP")
    check = await find(stage, "check", "check")
    return Offers(service.id, check.id)


async def _publish(stage: Stage, name: str, file: Path, price: Florins) -> ServiceView:
    session = session_of(stage, name)
    try:
        return await publish_service(session, read_service(file), file.parent, price=price, name="")
    finally:
        await session.close()


async def find(stage: Stage, words: str, kind: str) -> ServiceView:
    """The best service that the buyer's node finds for these words, once it has heard of one."""
    found: list[ServiceView] = []

    async def seen() -> bool:
        result = await stage.node("buyer").call(SERVICE_SEARCH, SearchServices(text=words, kind=kind))
        found[:] = result.services
        return bool(found)

    await stage.pace.until(f"a service found by {words!r}", seen)
    return found[0]


def input_picture(stage: Stage, given: Path | None, *, fast: bool) -> Path:
    """The picture to enlarge: the person's own, or one that the demo draws."""
    if given is not None:
        return given
    path = stage.folder / "pond.png"
    make_test_picture(*((96, 64) if fast else (384, 256))).save(path)
    return path


async def submit(
    stage: Stage, offers: Offers, picture: Path, *, request_id: str, check: str = "none", price: Florins = PRICE,
    service_id: str = "", deliver_blocks: int = 30,
) -> str:  # fmt: skip
    """The buyer asks for one call; the task's id."""
    node = stage.node("buyer")
    blob = (await node.client("p2pd").transfer("PUT", "/blob", read_input(picture))).decode()
    wish = Submit(
        request_id=request_id,
        service_id=service_id or offers.service_id,
        input_blob=blob,
        args=(f"scale={SCALE}",),
        price_limit_florins=price,
        check=check,
        deliver_blocks=deliver_blocks,
    )
    return (await node.call(SUBMIT, wish, deadline_s=60)).task_id


async def agreed(stage: Stage, task_id: str, *, contracts: int = 1) -> None:
    """Return when a task's contracts are signed by all. The chain waits: offers run out by height, not by seconds."""

    async def signed() -> bool:
        view = await stage.node("buyer").call(STATUS, TaskRef(task_id=task_id))
        ids = [name for name in (view.contract_id, view.check_contract_id) if name is not None]
        seen = [await stage.node("buyer").call(SHOW, ContractRef(contract_id=name)) for name in ids]
        return len([one for one in seen if one.state in SIGNED_BY_ALL]) >= contracts or view.state in FINAL

    async with stage.pace.paused():
        await stage.pace.until(f"task {task_id} to be agreed by all", signed)


async def follow(stage: Stage, task_id: str, teller: Teller | None, *, within_s: float = TASK_WITHIN_S) -> TaskView:
    """Tell what happens to the buyer's task until it has ended."""
    view: list[TaskView] = []
    told = 0

    async def ended() -> bool:
        nonlocal told
        view[:] = [await stage.node("buyer").call(STATUS, TaskRef(task_id=task_id))]
        for line in view[0].lines[told:]:
            if teller:
                teller.say(line.text)
        told = len(view[0].lines)
        return view[0].state in FINAL

    await stage.pace.until(f"task {task_id} to end", ended, within_s=within_s)
    return view[0]


async def fetch(stage: Stage, view: TaskView, picture: Path, output: Path) -> tuple[bool, str]:
    """Write the result; (is it exactly what an independent enlargement gives, what was written)."""
    if view.output_blob is None:
        return False, "no result"
    raw = await stage.node("buyer").client("p2pd").transfer("GET", f"/blob/{view.output_blob}", None)
    written = await asyncio.to_thread(write_output, raw, output)
    return await asyncio.to_thread(is_right, raw, picture), written


def is_right(raw: bytes, picture: Path) -> bool:
    """Pillow's own Lanczos gives the same picture: no pixel differs by more than one step."""
    ours = picture_from_raw(raw)
    before = picture_from_raw(read_input(picture))
    theirs = before.resize((before.width * SCALE, before.height * SCALE), Image.Resampling.LANCZOS)
    steps = (abs(a - b) for a, b in zip(ours.tobytes(), theirs.tobytes(), strict=True))
    return ours.size == theirs.size and max(steps) <= 1


async def rate(stage: Stage, view: TaskView, teller: Teller) -> None:
    """The buyer gives five stars, citing the contract it paid."""
    session = session_of(stage, "buyer")
    try:
        service = await rate_contract(session, view.contract_id or "", 5, "sharp, and the same on two machines")
    finally:
        await session.close()
    teller.say(f"the buyer rates the call: {service.reputation:.1f} stars by {service.ratings} buyer")


async def rating_is_seen(stage: Stage, service_id: str, node: str = "arbiter-1") -> bool:
    """A third node shows one rating of five stars for the service, from the buyer's receipt that it checked itself."""

    async def seen() -> bool:
        service = (await stage.node(node).call(SERVICE_SHOW, ServiceName(service_id=service_id))).service
        return service.ratings == 1 and service.reputation == FIVE_STARS and service.total_calls >= 1

    await stage.pace.until("a third node to show the rating", seen)
    return True


async def reputations(stage: Stage, judge: str = "arbiter-1") -> dict[str, int]:
    """What a third node thinks of seller and worker: standing in thousandths, from receipts it has checked itself."""
    found = {}
    for name in ("seller", "worker"):
        asked = NodeName(node_id=stage.did(name))
        found[name] = (await stage.node(judge).call(REPUTATION_GET, asked)).standing_milli
    return found
