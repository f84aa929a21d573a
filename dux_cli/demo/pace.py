"""The demo's heartbeat: a block every so often, never faster than the living nodes can follow.

Heights decide everything in DuxNet, so a slow machine must slow the chain down and not the other way round: a block is
mined only when every node that is watched has read the chain to within a few blocks of its tip.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from common.contracts.wallet import CHAIN_TIP
from common.errors import DuxError, Unavailable
from common.rpc.method import Empty
from dux_cli.demo.coin_chain import CoinChain
from dux_cli.supervisor import Node

BLOCK_EVERY_S = 0.5
BLOCKS_AHEAD_MAX = 2  # of the slowest living node
LOOK_EVERY_S = 0.1


class WaitedTooLong(Unavailable):
    """Waited {waited_s} s and {blocks} blocks for {what}; the logs in {folder} may tell why."""

    code = 1333
    key = "waited-too-long"


class Pace:
    """Mines in the background, and lets the story wait for what it wants to see."""

    def __init__(self, chain: CoinChain, nodes: Callable[[], list[Node]]) -> None:
        self._chain = chain
        self._nodes = nodes
        self.block_every_s = BLOCK_EVERY_S
        self.height = 0
        self._going = asyncio.Event()
        self._going.set()

    async def run(self) -> None:
        """Mine until cancelled."""
        while True:
            await asyncio.sleep(self.block_every_s)
            await self._going.wait()
            self.height = await self._chain.height()
            if await self._followed():
                await self._chain.mine(1)

    async def _followed(self) -> bool:
        tips = await asyncio.gather(*(self._tip(node) for node in self._nodes()))
        return all(tip is None or tip >= self.height - BLOCKS_AHEAD_MAX for tip in tips)

    async def _tip(self, node: Node) -> int | None:
        """How far the node has read the chain, or None while its flopd is down: the dead are not waited for."""
        if node.pid("flopd") is None:
            return None
        try:
            return int((await node.call(CHAIN_TIP, Empty(), deadline_s=2)).height)
        except DuxError:
            return None

    @asynccontextmanager
    async def faster(self, block_every_s: float = 0.15) -> AsyncIterator[None]:
        """Nothing but time has to pass: mine faster, still no faster than the nodes follow."""
        usual, self.block_every_s = self.block_every_s, block_every_s
        try:
            yield
        finally:
            self.block_every_s = usual

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """No block comes by itself until the block of code ends; `step` mines one."""
        self._going.clear()
        try:
            yield
        finally:
            self._going.set()

    async def step(self) -> None:
        """One block now."""
        await self._chain.mine(1)
        self.height = await self._chain.height()

    async def until(self, what: str, seen: Callable[[], Awaitable[bool]], *, within_s: float = 60.0) -> None:
        """Return when the predicate is true.

        Raises:
            WaitedTooLong: it was not, in time.
        """
        loop = asyncio.get_running_loop()
        started, height = loop.time(), self.height
        while not await seen():
            if loop.time() - started > within_s:
                raise WaitedTooLong(
                    waited_s=within_s, blocks=self.height - height, what=what, folder=str(self._chain.folder.parent)
                )
            await asyncio.sleep(LOOK_EVERY_S)
