"""A coin node without a network: the chain, the mempool, a miner and a clock that the blocks move.

Promises: the same calls in the same order give the same chain, whatever the machine's time; what `journal` was told can
be replayed to the same state. Knows no JSON and no sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from common.chain.invalid import Invalid
from common.chain.wire import Block, Tx
from dux_sim.chain import consensus, miner, policy
from dux_sim.chain.mempool import Mempool
from dux_sim.chain.profile import ChainProfile, genesis_of
from dux_sim.chain.state import ChainState, Change, Entry

LISTENERS_MAX = 100


class Journal(Protocol):
    """Keeps what came in, so that a restart can replay it."""

    def block(self, block: Block, now_s: int) -> None:
        """A block was taken in."""

    def tx(self, tx: Tx, now_s: int) -> None:
        """A transaction was taken in."""

    def excluded(self, block_hash: bytes) -> None:
        """A block was excluded by hand."""

    def reconsidered(self, block_hash: bytes) -> None:
        """A block is considered again."""


class NoJournal:
    """Keeps nothing: for tests and simulated histories."""

    def block(self, block: Block, now_s: int) -> None:
        """Nothing."""

    def tx(self, tx: Tx, now_s: int) -> None:
        """Nothing."""

    def excluded(self, block_hash: bytes) -> None:
        """Nothing."""

    def reconsidered(self, block_hash: bytes) -> None:
        """Nothing."""


class BlockClock:
    """The chain's time, in seconds: one spacing after the tip, however fast blocks are mined; or what was set.

    With it Digishield sees blocks come on time and keeps the easiest target, and `setmocktime` shows it other times.
    """

    def __init__(self) -> None:
        """Follow the tip."""
        self.fixed_s = 0

    def now_s(self, tip: Entry) -> int:
        """The time at which the next block would be mined."""
        return self.fixed_s or tip.block.header.time_s + consensus.SPACING_S


class Node:
    """What RPC calls act on."""

    def __init__(self, profile: ChainProfile, journal: Journal | None = None) -> None:
        """A chain with its genesis block."""
        self.profile = profile
        self.chain = ChainState(genesis_of(profile))
        self.pool = Mempool(self.chain)
        self.clock = BlockClock()
        self.journal: Journal = journal or NoJournal()
        self._listeners: list[Callable[[], None]] = []
        self._tx_listeners: list[Callable[[Tx], None]] = []
        self._mined = 0

    def now_s(self) -> int:
        """The chain's time."""
        return self.clock.now_s(self.chain.tip)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each move of the tip."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise OverflowError(f"at most {LISTENERS_MAX} listeners")
        self._listeners.append(listener)

    def listen_tx(self, listener: Callable[[Tx], None]) -> None:
        """Call `listener` with each transaction that begins to wait."""
        if len(self._tx_listeners) >= LISTENERS_MAX:
            raise OverflowError(f"at most {LISTENERS_MAX} listeners")
        self._tx_listeners.append(listener)

    def submit_block(self, block: Block, now_s: int | None = None) -> None:
        """Take in a block made elsewhere.

        Raises:
            Invalid: it breaks a rule.
        """
        now_s = self.now_s() if now_s is None else now_s
        change = self.chain.accept(block, now_s)
        self.journal.block(block, now_s)
        self._moved(change)

    def submit_tx(self, tx: Tx, now_s: int | None = None, *, any_fee: bool = False) -> None:
        """Take in a transaction as if a peer had sent it; `any_fee` lifts only the guard against a slip of the hand.

        Raises:
            Invalid: consensus or relay refuses it.
        """
        now_s = self.now_s() if now_s is None else now_s
        is_new = tx.txid not in self.pool.waiting
        self.pool.accept(tx, now_s, absurd_fee_florins=None if any_fee else policy.ABSURD_FEE_FLORINS)
        if is_new:
            self.journal.tx(tx, now_s)
            for listener in self._tx_listeners:
                listener(tx)

    def mine(
        self, script: bytes, count: int = 1, *, tries_max: int = miner.TRIES_MAX, merged: bool | None = None
    ) -> list[bytes]:
        """Mine blocks that pay `script`; returns their names. `merged` None: every so many, as the profile says.

        Raises:
            MiningGaveUp: Digishield has raised the difficulty beyond `tries_max`.
        """
        return [self._mine_one(script, tries_max, merged=merged).hash for _ in range(count)]

    def _mine_one(self, script: bytes, tries_max: int, *, merged: bool | None) -> Block:
        tip = self.chain.tip
        height, time_s = tip.height + 1, max(self.now_s(), tip.median_time_s + 1)
        self.pool.expire(time_s)
        chosen, fees = miner.choose(self.pool, height, time_s)
        self._mined += 1
        reward = miner.coinbase_tx(height, consensus.subsidy_at(height) + fees, script, self._mined)
        if merged is None:
            merged = bool(self.profile.auxpow_every) and height % self.profile.auxpow_every == 0
        txs = (reward, *(entry.tx for entry in chosen))
        block = miner.work(miner.assemble(tip, time_s, txs, merged=merged), tries_max)
        self.submit_block(block, time_s)
        return block

    def exclude(self, entry: Entry) -> None:
        """Treat a block, and what stands on it, as if it were invalid.

        Raises:
            Invalid: it is the genesis block.
        """
        if entry.parent is None:
            raise Invalid("the genesis block cannot be invalidated")
        self.journal.excluded(entry.hash)
        self._moved(self.chain.exclude(entry))

    def reconsider(self, entry: Entry) -> None:
        """Undo `exclude` for a block, those below and those above."""
        self.journal.reconsidered(entry.hash)
        self._moved(self.chain.reconsider(entry))

    def _moved(self, change: Change) -> None:
        if not change.connected and not change.disconnected:
            return
        for block in change.connected:
            self.pool.on_block(block.txs)
        if change.disconnected:
            returned = [tx for block in reversed(change.disconnected) for tx in block.txs]
            self.pool.refill(returned, self.now_s())
        self.pool.expire(self.now_s())
        for listener in self._listeners:
            listener()
