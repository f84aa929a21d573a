"""One history of money: agree, fund, work, pay or quarrel, under the plan's faults; then heal and judge.

Promises that every history ends: the world is healed after its last fault, and it then has as many blocks as the
protocol says that the slowest way out takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from common.randomness import SeededRandomness
from dux_sim.money.bounds import PlannedBooks
from dux_sim.money.junk import junk_signer
from dux_sim.money.laws import Violation
from dux_sim.money.plan import ARBITERS, BUYER, NODES, SELLER, Plan, draw
from dux_sim.money.players import Player
from dux_sim.telling import judged
from dux_sim.world.daemons import MONEY, make
from dux_sim.world.faults import Fate, Fault, FaultKind
from dux_sim.world.history import History
from dux_sim.world.world import World, profile_for, stream_seed

BLOCK_S = 6.0
CALM_BLOCK_S = 3.0  # when nothing is wrong and nobody has work
START_S = 3.0
BLOCKS_MAX = 400
AFTER_TIMEOUT_BLOCKS = 24  # REFUND after T, its depth, and a pause of the outbox
WATCHED_BLOCKS = 16  # a history that is over goes on so long for the faults that are still to come
CALM_BLOCKS = 2  # seen closed for so long before a history ends


class MoneyStory:
    """Runs the plan of a seed; `schedule` gives other faults than the seed does."""

    def __init__(
        self, seed: int, kinds: Sequence[FaultKind], *, schedule: Sequence[Fault] | None = None,
        trace: bool = False, until: int | None = None,
    ) -> None:  # fmt: skip
        plan = plan_of(seed, kinds)
        self.plan = plan if schedule is None else msgspec.structs.replace(plan, faults=tuple(schedule))
        self.faults = self.plan.faults
        self.world = World(seed, profile_for(NODES), trace=trace, until=until)
        for _ in range(NODES):
            self.world.add_node(MONEY, make)
        self.players = [Player(node, self.plan) for node in self.world.nodes]
        self.fate = Fate(self.world, self.faults, forever=True)
        self.books = PlannedBooks(self.world, self.plan)
        self._gone: list[int] = []
        if plan.buyer == "junk":
            self.world.nodes[BUYER].bend = junk_signer
        self._count_characters()

    @property
    def history(self) -> History:
        """What happened so far."""
        return self.world.history

    def _count_characters(self) -> None:
        for node in range(NODES):
            kind = self.plan.kind_of(node)
            if kind in ("denies", "junk", "bad-work", "liar"):
                self.world.history.fault("liar", f"n{node} {kind}")
            elif kind in ("idle", "silent", "lazy"):
                self.world.history.fault("silence", f"n{node} {kind}")

    def run(self) -> list[Violation]:
        """The history, from the start to the judgement."""
        return judged(self.world, self._play(), self.books.judge)

    async def _play(self) -> None:
        for node in self.world.nodes:
            for daemon in MONEY:
                node.start(daemon)
        await asyncio.sleep(START_S)
        nodes = self.world.nodes
        for number in range(self.plan.contracts):
            self.players[BUYER].propose(number, nodes[SELLER], [nodes[at] for at in ARBITERS])
        await self._blocks()

    async def _blocks(self) -> None:
        calm, healed = 0, False
        for number in range(BLOCKS_MAX):
            self.fate.block(number, block_s=BLOCK_S)
            if not healed and number >= self.fate.last_block:
                self.fate.heal()
                self.world.history.calm_from = self.world.coin.height
                healed = True
            self.world.coin.mine()
            await self._act(CALM_BLOCK_S if healed and calm else BLOCK_S)
            self._silence_after()
            calm = calm + 1 if self.books.all_out() else 0
            if calm > CALM_BLOCKS and number >= min(self.fate.last_block, WATCHED_BLOCKS):
                break
            if healed and self.world.coin.height > self.books.last_height() + AFTER_TIMEOUT_BLOCKS:
                break
        self.fate.heal()
        await asyncio.sleep(BLOCK_S)

    async def _act(self, seconds: float) -> None:
        half = seconds / 2
        for _ in range(2):
            await asyncio.sleep(half)
            for player in self.players:
                await player.turn()

    # --- who is silent ------------------------------------------------------------------------------------------------

    def _silence_after(self) -> None:
        """Whoever is silent goes once its contract is funded."""
        for player in self.players:
            number = player.node.number
            if player.kind == "silent" and number not in self._gone and self.books.is_funded(number):
                self._gone.append(number)
                self.world.history.note("silence", player.node.name)
                for daemon, house in player.node.houses.items():
                    house.wanted = False
                    player.node.crash(daemon)


def plan_of(seed: int, kinds: Sequence[FaultKind]) -> Plan:
    """The plan of a seed."""
    return draw(seed, SeededRandomness(stream_seed(seed, "plan")), kinds)
