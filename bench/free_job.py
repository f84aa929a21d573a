"""Jobs between two nodes without escrow: signed, carried, verified, run, answered likewise (free_worker)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import yaml

from bench.free_worker import FAMILY, RUN, Answer, FreeSettings, FreeWorker, Order, SignedOrder, Times, check
from bench.measure import Run, per_second
from bench.rows import Finding, Samples, one
from bench.scene import READY_WITHIN_S, Scene, running, scene
from common.contracts.p2p import P2P_INFO
from common.contracts.task import PROBE
from common.identity.purposes import Purpose
from common.log import start_logging
from common.peers import Peers
from common.rpc.client import HttpClient
from common.rpc.method import Empty
from common.units import Did
from dux_cli.demo.network import ARBITERS
from dux_cli.node_files import write_yaml
from dux_cli.supervisor import Node
from dux_taskd.sandbox.wasm_probe import BYTES, ECHO

ROUNDS, SECONDS, AT_ONCE = 5, 3.0, 4
ALONE = 30  # jobs one after another, for the shares
DEADLINE_S = 30.0
LOOK_EVERY_S = 0.1
NEIGHBOURS = ("seller", ARBITERS[0])


class Buyer:
    """Orders jobs from the free worker; `times` has the steps of both ends."""

    def __init__(self, signer: Peers, door: Peers, seller: Did, order: tuple[str, str], times: Times) -> None:
        self._signer, self._door, self._seller = signer, door, seller
        self._package, self._input = order
        self._numbers = itertools.count()
        self.times = times

    async def job(self) -> None:
        """One job, from the order to the answer whose signature holds."""
        order = Order(package=self._package, input_blob=self._input, nonce=next(self._numbers))
        with self.times.of("signed here"):
            by = await self._signer.sign(Purpose.JOB, order)
        signed = SignedOrder(order=order, did=by.did, key_seq=by.key_seq, signature=by.signature)
        with self.times.of("call"):
            answer = await self._door.call(self._seller, RUN, signed, deadline_s=DEADLINE_S)
        with self.times.of("verified here"):
            await check(self._signer, Purpose.WORK_RECEIPT, answer.answer, answer, self._seller)
        if answer.answer != Answer(output_blob=self._input, nonce=order.nonce):
            raise ValueError("an echo that is another blob")

    def shares(self) -> dict[str, float]:
        """Seconds by part."""
        took = self.times.seconds
        there = took["verified there"] + took["run"] + took["signed there"]
        return {
            "signing": took["signed here"] + took["signed there"],
            "carrying": took["call"] - there,
            "verifying": took["verified here"] + took["verified there"],
            "sandbox": took["run"],
        }


async def measure_free(run: Run) -> list[Finding]:
    """Jobs per second, and where the time of a lone job goes."""
    folder = run.folder / "free"
    folder.mkdir()
    run.tell("two nodes, and a worker that wants nothing")
    async with scene(folder) as stage, _market(stage) as buyer:
        await buyer.job()
        buyer.times.seconds.clear()
        count = 5 if run.quick else ALONE
        began = time.perf_counter()
        for _ in range(count):
            await buyer.job()
        alone_s = time.perf_counter() - began
        shares = buyer.shares()
        seconds = 1.0 if run.quick else SECONDS
        rates = [await per_second(buyer.job, at_once=AT_ONCE, seconds=seconds) for _ in range(run.rounds(ROUNDS))]
    return [
        Finding(
            name="jobs without escrow", unit="jobs/s", ours=Samples(tuple(rates)),
            note=f"{AT_ONCE} under way, two nodes on one machine; alone, one takes {alone_s / count * 1000:.1f} ms",
        ),
        *(
            Finding(name=f"job without escrow: {part}", unit="% of its time", ours=one(part_s / alone_s * 100))
            for part, part_s in shares.items()
        ),
    ]  # fmt: skip


@asynccontextmanager
async def _market(stage: Scene) -> AsyncIterator[Buyer]:
    """Buyer and seller up and connected; the seller's p2pd hands the family's calls to the free worker."""
    buyer, seller = stage.nodes["buyer"], stage.nodes["seller"]
    async with AsyncExitStack() as stack:
        worker = _worker(stage, seller)
        await stack.enter_async_context(worker.running())
        for node in (buyer, seller):
            _let_relay(node, worker, seller)
        for node in (stage.nodes[ARBITERS[0]], buyer, seller):
            await stack.enter_async_context(running(node))
        worker.times, worker.runner = Times(), seller.client("taskd")
        worker.signer = Peers(_client(stack, seller, "taskd"))
        await _ready(buyer, seller)
        blobs = [await seller_blob(seller, data) for data in (BYTES[ECHO], b"duck")]
        signer, door = Peers(_client(stack, buyer, "taskd")), Peers(_client(stack, buyer, "module"))
        yield Buyer(signer, door, Did(stage.dids["seller"]), (blobs[0], blobs[1]), worker.times)


def _worker(stage: Scene, seller: Node) -> FreeWorker:
    folder = seller.folder
    settings = FreeSettings(
        network_profile="unused", data_dir=str(folder.data), run_dir=str(folder.run), backup_interval=0
    )
    return FreeWorker(settings, stage.profile, log=start_logging(FAMILY, "ERROR"))


def _let_relay(node: Node, worker: FreeWorker, seller: Node) -> None:
    """Name the family in p2pd's settings: who serves it, or, at the buyer, that it may be called."""
    file = node.folder.config / "p2pd.yaml"
    token = seller.folder.run / FAMILY / "p2pd.token"
    relay = {FAMILY: {"url": f"http://127.0.0.1:{worker.port}/", "token_file": str(token)}}
    write_yaml(node.folder, "p2pd", yaml.safe_load(file.read_text()) | {"relay": relay})


def _client(stack: AsyncExitStack, node: Node, caller: str) -> HttpClient:
    """A client of the node's p2pd under another name than ours."""
    client = node.folder.client("p2pd", caller)
    stack.push_async_callback(client.close)
    return client


async def seller_blob(seller: Node, data: bytes) -> str:
    """A blob that the seller's node has."""
    return (await seller.client("p2pd").transfer("PUT", "/blob", data)).decode()


async def _ready(buyer: Node, seller: Node) -> None:
    """The nodes know each other, and the seller's sandbox has been probed."""
    async with asyncio.timeout(READY_WITHIN_S):
        while not await _is_ready(buyer, seller):
            await asyncio.sleep(LOOK_EVERY_S)


async def _is_ready(buyer: Node, seller: Node) -> bool:
    sessions = (await buyer.call(P2P_INFO, Empty())).sessions
    kinds = (await seller.call(PROBE, Empty())).kinds
    return sessions >= len(NEIGHBOURS) and any(kind.kind == "wasm" and kind.offered for kind in kinds)
