"""One history of the fund: whole nodes, two jobs that pay the tax, an airdrop by two of three custodians, faults.

The faults fall where the fund's money moves: from the settlement of the jobs to the payout's depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from common.daemon import DuxOSDaemon
from common.parameters import SweepParameters
from common.randomness import Randomness
from common.units import FLOP, Florins
from dux_sim.money.plan import DRAWS, OUTAGE_BLOCKS_MAX
from dux_sim.network.story import BLOCK_S_LEAST, NetworkStory
from dux_sim.world.daemons import make
from dux_sim.world.faults import Fault, FaultKind
from dux_sim.world.node import SimNode

NODES = 5
HOURS = 0.5
CUSTODIANS = 3
FUND_FLORINS = 99 * FLOP + FLOP // 2
FIRST_FAULT_BLOCK, LAST_FAULT_BLOCK = 8, 28
SILENT_BLOCKS = 12
SWEEP = SweepParameters(every_blocks=4, least_florins=Florins(FLOP // 4))
SWEEP_FEES_FLORINS = FLOP // 10  # what several sweeps may cost
DAEMONS = ("airdropd", "airdropd", "airdropd", "flopd", "registryd", "p2pd")  # who may crash, by weight
BUYERS = (3, 4)
TRADE_BLOCK = 6  # by then everybody has heard of everybody
HEARTBEAT_S = 100.0


def make_fund(node: SimNode, daemon: str) -> DuxOSDaemon[Any]:
    """A daemon whose heart beats with the blocks of this story."""
    return make(node, daemon, heartbeat_s=HEARTBEAT_S) if daemon == "registryd" else make(node, daemon)


def fund_of(seed: int) -> dict[str, Any]:
    """Every other history has a collector, which takes the tax and is swept into the fund."""
    if seed % 2:
        return {"fund_florins": FUND_FLORINS}
    return {"fund_florins": FUND_FLORINS + SWEEP_FEES_FLORINS, "collector": True, "sweep": SWEEP}


class FundStory(NetworkStory):
    """A short network whose fund is about to be handed back."""

    def __init__(
        self, seed: int, kinds: Sequence[FaultKind], *, schedule: Sequence[Fault] | None = None,
        trace: bool = False, until: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            nodes=NODES, seed=seed, hours=HOURS, kinds=[kind for kind in kinds if kind != "liar"], faults=schedule,
            trace=trace, until=until, make=make_fund, **fund_of(seed),
        )  # fmt: skip

    def schedule(self, random: Randomness, kinds: Sequence[FaultKind]) -> list[Fault]:
        """One to four faults, at custodians mostly."""
        drawable = [kind for kind in kinds if kind in DRAWS or kind == "silence"]
        if not drawable:
            return []
        return [self._fault(random, drawable[random.below(len(drawable))]) for _ in range(1 + random.below(4))]

    def _fault(self, random: Randomness, kind: FaultKind) -> Fault:
        block = FIRST_FAULT_BLOCK + random.below(LAST_FAULT_BLOCK - FIRST_FAULT_BLOCK)
        node = random.below(CUSTODIANS + 1)
        if kind == "silence":
            return Fault(kind="silence", block=block, blocks=SILENT_BLOCKS, node=node)
        fault = DRAWS[kind](random, block)
        daemon = DAEMONS[random.below(len(DAEMONS))] if kind == "crash" else ""
        blocks = min(fault.blocks, 2 * OUTAGE_BLOCKS_MAX)
        return msgspec.structs.replace(fault, node=node, daemon=daemon, blocks=blocks)

    async def _block(self, number: int) -> None:
        """Two jobs at the beginning, then the fund has its time."""
        self.fate.block(number, block_s=BLOCK_S_LEAST)
        if number == TRADE_BLOCK:
            for buyer in BUYERS:
                self.owners[buyer].buy(number)
        await self._turn(BLOCK_S_LEAST)
