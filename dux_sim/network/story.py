"""The hours of a network: a block about every minute, jobs between random pairs, faults; then healing and judgement."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from common.randomness import Randomness
from common.units import FLOP
from dux_sim.money.laws import Books, Violation
from dux_sim.money.plan import DRAWS
from dux_sim.network.fund_laws import fund_violations, is_settled
from dux_sim.network.people import Owner
from dux_sim.telling import judged
from dux_sim.world.daemons import ALL
from dux_sim.world.daemons import make as make_plain
from dux_sim.world.faults import Fate, Fault, FaultKind
from dux_sim.world.history import History
from dux_sim.world.node import MakeDaemon
from dux_sim.world.world import World, profile_for

BLOCKS_PER_HOUR = 60
BLOCK_S_LEAST, BLOCK_S_SPREAD = 40.0, 40.0  # 60 s on average
JOB_EVERY_BLOCKS = 12
FAULT_EVERY_BLOCKS = 15
SILENCE_BLOCKS = 40
HEALING_BLOCKS_MAX = 260  # the slowest way out of a contract, and an airdrop after it
CALM_BLOCKS = 4
FUND_FLORINS = 99 * FLOP
NODES_MIN, NODES_MAX = 4, 64  # a panel of three beside buyer and seller fits from five on; with four one serves twice


class Everybody:
    """The cast of a network: whoever lies does so in taskd only, so every node's money follows the protocol."""

    def honest(self, node: int) -> bool:
        """All are."""
        del node
        return True


class NetworkBooks(Books):
    """All laws of a network."""

    def __init__(self, world: World, owners: Sequence[Owner]) -> None:
        super().__init__(world, Everybody())
        self._owners = owners

    def judge(self) -> list[Violation]:
        """The laws of money, of the fund, and that every wish got an answer."""
        return [*super().judge(), *fund_violations(self.world), *self._wishes()]

    def _wishes(self) -> Iterator[Violation]:
        for owner in self._owners:
            for task_id, state in owner.tasks.items():
                if not owner.is_done:
                    yield Violation("2 no dead state", f"{owner.node.name}: task {task_id} is {state}")
            for name in owner.given_up:
                yield Violation("2 no dead state", f"{owner.node.name}: {name} was never answered")


class NetworkStory:
    """Runs one network."""

    def __init__(
        self, *, nodes: int, seed: int, hours: float, kinds: Sequence[FaultKind],
        faults: Sequence[Fault] | None = None, trace: bool = False, until: int | None = None,
        fund_florins: int = FUND_FLORINS, make: MakeDaemon = make_plain, **profile: Any,
    ) -> None:  # fmt: skip
        network = profile_for(nodes, fund_florins=fund_florins, **profile)
        self.world = World(seed, network, trace=trace, until=until)
        self._nodes, self._blocks = nodes, max(1, round(hours * BLOCKS_PER_HOUR))
        self._random = self.world.stream("people")
        drawn = self.schedule(self.world.stream("faults"), kinds)
        self.faults = tuple(drawn if faults is None else faults)
        for number in range(nodes):
            node = self.world.add_node(ALL, make)
            node.lies = "liar" in kinds and number == nodes - 1
        self.owners = [
            Owner(node, [one for one in self.world.nodes if one is not node], self._random, self.world.history)
            for node in self.world.nodes
        ]
        self.fate = Fate(self.world, self.faults)
        self.books = NetworkBooks(self.world, self.owners)

    @property
    def history(self) -> History:
        """What happened so far."""
        return self.world.history

    def schedule(self, random: Randomness, kinds: Sequence[FaultKind]) -> list[Fault]:
        """A fault every so many blocks, each kind in turn at first, then as they are drawn."""
        drawable = [kind for kind in kinds if kind in DRAWS or kind == "silence"]
        found: list[Fault] = []
        for turn, block in enumerate(range(5, max(6, self._blocks - 5), FAULT_EVERY_BLOCKS)):
            if not drawable:
                break
            in_turn = turn < 2 * len(drawable)
            kind = drawable[turn % len(drawable)] if in_turn else drawable[random.below(len(drawable))]
            found.append(self._one(random, kind, block))
        return found

    def _one(self, random: Randomness, kind: FaultKind, block: int) -> Fault:
        node = random.below(self._nodes)
        if kind == "silence":
            return Fault(kind="silence", block=block, blocks=SILENCE_BLOCKS, node=node)
        fault = DRAWS[kind](random, block)
        daemon = ALL[random.below(len(ALL))] if kind == "crash" else fault.daemon
        apart = 1 + random.below(2**self._nodes - 2)
        return msgspec.structs.replace(fault, node=node, daemon=daemon, apart=apart)

    def run(self) -> list[Violation]:
        """The hours, the healing, the judgement."""
        return judged(self.world, self._play(), self.books.judge)

    async def _play(self) -> None:
        for node in self.world.nodes:
            for daemon in ALL:
                node.start(daemon)
            if node.lies:
                self.world.history.fault("liar", f"{node.name} sells wrong results")
        await asyncio.sleep(10)
        for owner in self.owners:
            owner.open_shop()
        for number in range(self._blocks):
            await self._block(number)
        self.fate.heal()
        await self._heal()

    async def _block(self, number: int) -> None:
        seconds = BLOCK_S_LEAST + self._random.uniform() * BLOCK_S_SPREAD
        self.fate.block(number, block_s=seconds)
        if number % JOB_EVERY_BLOCKS == 0 and number:
            self.owners[self._random.below(len(self.owners))].buy(number)
        await self._turn(seconds)

    async def _turn(self, seconds: float) -> None:
        self.world.coin.mine()
        await asyncio.sleep(seconds)
        for owner in self.owners:
            await owner.turn()

    async def _heal(self) -> None:
        """Blocks without faults, until everybody is out for a while."""
        calm = 0
        for _ in range(HEALING_BLOCKS_MAX):
            await self._turn(BLOCK_S_LEAST)
            done = self.books.all_out() and all(owner.is_done for owner in self.owners) and is_settled(self.world)
            calm = calm + 1 if done else 0
            if calm > CALM_BLOCKS:
                return
