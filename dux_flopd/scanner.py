"""Follows the node's best chain and its waiting transactions, block by block, and back again when it reorganises.

Promises that the view is never ahead of the node, and that `is_synced` is true only when it stood at the node's tip a
moment ago. A node that is away is waited for, for ever. Source: settled.md 18, money.md law 5.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from common.chain.tx import BadTransaction, parse, serialize
from common.contracts.wallet_errors import ChainUnavailable, WrongChain
from common.errors import DuxError
from dux_flopd.blocks import Block, BlockTx
from dux_flopd.source import ChainSource, ChainTip, Refused
from dux_flopd.view import ChainView

RETRY_S = 1.0
READS_MAX = 64  # of one block, each because more scripts are followed since
WAITING_PER_ROUND = 500  # transactions fetched from the mempool in one round; the rest follows in the next


class Scanner:
    """Keeps a view at the node's tip."""

    def __init__(
        self,
        node: ChainSource,
        view: ChainView,
        *,
        genesis: str,
        from_height: int,
        poll_ms: int,
        log: FilteringBoundLogger,
    ) -> None:
        self._node = node
        self._view = view
        self._genesis = genesis
        self._from_height = from_height
        self._poll_ms = poll_ms
        self._log = log
        self._looked_at: set[str] = set()
        self._is_our_chain = False
        self.problem = "the coin node has not been asked yet"
        self.is_synced = False
        self.changed = asyncio.Condition()

    @property
    def source(self) -> str:
        """Which kind of source is followed."""
        return self._node.name

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            WrongChain: the node is on another network; nothing was read from it.
        """
        while True:
            try:
                await self.catch_up()
                await self._node.wait_for_change(self._poll_ms)
            except (ChainUnavailable, Refused) as error:
                await self._note_problem(error)
                await asyncio.sleep(RETRY_S)

    async def catch_up(self) -> None:
        """One round: blocks, newly followed scripts, waiting transactions."""
        if not self._is_our_chain:
            await self._check_genesis()
        tip = await self._node.tip()
        moved = await self._follow(tip)
        await self._read_unread()
        await self._read_waiting()
        if moved or not self.is_synced:
            self._view.tell_tip()
        self.is_synced, self.problem = self._view.hash == tip.hash, ""
        async with self.changed:
            self.changed.notify_all()

    def look_again(self) -> None:
        """Waiting transactions are looked at anew: a script that is followed from now on may be in them."""
        self._looked_at.clear()

    async def _note_problem(self, error: Exception) -> None:
        text = error.message if isinstance(error, DuxError) else str(error)
        if text != self.problem:
            self._log.warning("coin node away", reason=text)
        self.is_synced, self.problem = False, text

    async def _check_genesis(self) -> None:
        found = await self._node.genesis()
        if found != self._genesis:
            raise WrongChain(found=found, expected=self._genesis)
        self._is_our_chain = True

    async def _follow(self, tip: ChainTip) -> bool:
        moved = False
        while self._view.hash != tip.hash:
            fork = await self._fork(tip)
            if fork < self._view.height:
                self._log.warning("chain reorganised", from_height=self._view.height, to_height=fork)
                self._view.roll_back(fork)
                self.look_again()
            moved = True
            if not await self._read_up_to(tip):
                tip = await self._node.tip()
        return moved

    async def _fork(self, tip: ChainTip) -> int:
        """The height of the last block that view and node share; below the first one read when none is known."""
        if self._view.height < 0:
            return self._view.height
        height = min(self._view.height, tip.height)
        while height >= self._from_height and (ours := self._view.store.block_hash(height)):
            if ours == await self._node.block_hash(height):
                return height
            height -= 1
        return self._from_height - 1

    async def _read_up_to(self, tip: ChainTip) -> bool:
        """Read blocks to the tip; false when the chain changed under way."""
        start = self._view.height + 1 if self._view.height >= 0 else self._from_height
        for height in range(start, tip.height + 1):
            block_hash = await self._node.block_hash(height)
            if block_hash is None:
                return False
            block = await self._read(block_hash)
            if self._view.hash and block.previous != self._view.hash:
                return False
            self._view.take_block(height, block)
        return self._view.hash == tip.hash

    async def _read(self, block_hash: str) -> Block:
        """A block, as it is for every script that is followed when it has come: a light wallet asks by its scripts."""
        for _ in range(READS_MAX):
            version = self._view.scripts_version
            block = await self._node.read(block_hash)
            if version == self._view.scripts_version:
                return block
        raise ChainUnavailable(endpoint=self._node.endpoint, detail="scripts to follow come faster than blocks")

    async def _read_unread(self) -> None:
        """Blocks that were read before some script was followed; one followed meanwhile has its own turn next."""
        scripts = self._view.store.unread()
        if not scripts:
            return
        for height in range(max(min(scripts.values()), self._from_height), self._view.height + 1):
            block_hash = self._view.store.block_hash(height) or await self._node.block_hash(height)
            if block_hash is None:
                return
            self._view.read_again(height, await self._node.read(block_hash))
        with self._view.store.store.transaction() as tx:
            self._view.store.mark_read(tx, scripts)
        self.look_again()

    async def _read_waiting(self) -> None:
        waiting = await self._node.waiting()
        fresh = [txid for txid in waiting if txid not in self._looked_at][:WAITING_PER_ROUND]
        for txid in fresh:
            await self._look_at(txid)
        self._looked_at.intersection_update(waiting)  # one that goes and comes back is looked at again
        gone = set(self._view.store.waiting()) - set(waiting)
        if gone and (await self._node.tip()).hash == self._view.hash:  # else one that was just mined would look gone
            self._view.forget(gone)

    async def _look_at(self, txid: str) -> None:
        raw = await self._node.waiting_tx(txid)
        if raw is None:
            return
        try:
            tx = parse(raw)
        except BadTransaction as error:
            self._log.warning("unreadable transaction", txid=txid, reason=error.message)
        else:
            self._view.take_waiting(BlockTx(txid=txid, tx=tx, raw=serialize(tx), position=0))
        self._looked_at.add(txid)
