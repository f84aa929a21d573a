"""What the owners of the nodes do: publish, buy, rate. Each wish is repeated, under one id, until it is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from common.contracts.escrow import SHOW, ContractRef
from common.contracts.store import SERVICE_PUBLISH, SERVICE_RATE, PublishService, RateService
from common.contracts.task import FINAL, SERVE, STATUS, SUBMIT, Serve, Submit, TaskRef, TaskState
from common.errors import CallerMistake, DuxError
from common.randomness import Randomness
from common.receipts import service_id_of
from common.units import FLOP, Florins, Hash32
from dux_sim.world.history import History
from dux_sim.world.node import SimNode

SLUG, CHECK_SLUG = "work", "check"
PRICE, CHECK_PRICE = Florins(10 * FLOP), Florins(FLOP)
DELIVER_BLOCKS = 12
TRIES_MAX = 240  # blocks over which a wish is repeated

Act = Callable[[], Awaitable[bool]]


class Owner:
    """One node's owner."""

    def __init__(self, node: SimNode, others: list[SimNode], random: Randomness, history: History) -> None:
        self.node = node
        self.tasks: dict[str, TaskState] = {}
        self.given_up: list[str] = []
        self.rated = 0
        self._others = others
        self._random = random
        self._history = history
        self._wishes: dict[str, Act] = {}
        self._tries: dict[str, int] = {}

    def wish(self, name: str, act: Act) -> None:
        """Do this until it is done."""
        self._wishes[name] = act
        self._tries[name] = 0

    @property
    def is_done(self) -> bool:
        """Nothing is wished, and every task has ended."""
        return not self._wishes and all(state in FINAL for state in self.tasks.values())

    async def turn(self) -> None:
        """Try what is wished, then look at the tasks."""
        for name in list(self._wishes):
            await self._try(name)
        for task_id, state in list(self.tasks.items()):
            if state not in FINAL:
                await self._look(task_id)

    async def _try(self, name: str) -> None:
        self._tries[name] += 1
        try:
            done = await self._wishes[name]()
        except CallerMistake as error:
            self._history.note("refusal", f"{self.node.name} {name}: {error.message}")
            done = True
        except DuxError:
            done = False
        if self._tries[name] > TRIES_MAX and not done:
            self.given_up.append(name)
            done = True
        if done:
            del self._wishes[name]

    async def _look(self, task_id: str) -> None:
        try:
            view = await self.node.call("taskd", STATUS, TaskRef(task_id=task_id))
        except DuxError:
            return
        self.tasks[task_id] = view.state
        if view.state is TaskState.PAID and view.contract_id is not None:
            contract_id = view.contract_id
            self.wish(f"rate/{task_id}", lambda: self._rate(task_id, contract_id))

    # --- wishes -------------------------------------------------------------------------------------------------------

    def open_shop(self) -> None:
        """Offer work, and second runs of others' work."""
        self.wish("publish/work", lambda: self._publish(SLUG, "wasm", PRICE))
        self.wish("publish/check", lambda: self._publish(CHECK_SLUG, "check", CHECK_PRICE))

    async def _publish(self, slug: str, kind: Literal["wasm", "check"], price: Florins) -> bool:
        package = ""
        if kind == "wasm":
            package = (
                await self.node.door("cli", "p2pd").transfer("PUT", "/blob", b"module of " + slug.encode())
            ).decode()
        wanted = PublishService(
            request_id=f"publish/{slug}", slug=slug, name=f"{kind} by {self.node.name}", price_florins=price, kind=kind,
            package=package, entry="dux-wasm/1", tags=(kind,),
        )  # fmt: skip
        view = await self.node.call("stored", SERVICE_PUBLISH, wanted)
        await self.node.call("taskd", SERVE, Serve(request_id=f"serve/{slug}", service_id=view.id))
        return True

    def buy(self, number: int) -> None:
        """One call of somebody's work; every third with a second worker."""
        seller = self._others[self._random.below(len(self._others))]
        check = "auto" if self._random.below(3) == 0 else "none"
        data = self._random.bytes(64)
        self.wish(f"buy/{number}", lambda: self._buy(number, seller, check, data))

    async def _buy(self, number: int, seller: SimNode, check: str, data: bytes) -> bool:
        blob = (await self.node.door("cli", "p2pd").transfer("PUT", "/blob", data)).decode()
        wanted = Submit(
            request_id=f"buy/{number}", service_id=service_id_of(seller.did, SLUG), input_blob=blob, check=check,
            price_limit_florins=PRICE, deliver_blocks=DELIVER_BLOCKS,
        )  # fmt: skip
        task = await self.node.call("taskd", SUBMIT, wanted)
        self.tasks[task.task_id] = TaskState.WAITING
        return True

    async def _rate(self, task_id: str, contract_id: str) -> bool:
        cid = (await self.node.call("escrowd", SHOW, ContractRef(contract_id=contract_id))).cid
        if cid is None:
            return True
        stars = 1 + self._random.below(5)
        wanted = RateService(request_id=f"rate/{task_id}", cid=Hash32(bytes.fromhex(cid)), stars=stars)
        await self.node.call("stored", SERVICE_RATE, wanted)
        self.rated += 1
        return True
