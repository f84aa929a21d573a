"""The chain as it is on followed scripts: takes blocks and waiting transactions, and tells what changed.

Knows no node: bytes are handed in. Each block is one decision, so a crash leaves the view at a whole block. Everything
on the followed scripts that leaves the best chain is told as gone or as waiting again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from common.chain.tx import Outpoint
from common.contracts.wallet_chain import CoinGone, CoinSeen, SpendGone, SpendSeen, TipChanged
from common.store import Tx
from common.units import BlockHeight, Florins
from dux_flopd.blocks import Block, BlockTx, skeleton
from dux_flopd.chain_store import ChainStore
from dux_flopd.model import Coin, FollowedScript, ScriptKind


class ChainView:
    """Height, hash and everything followed."""

    def __init__(self, store: ChainStore) -> None:
        self.store = store
        self._scripts: dict[bytes, FollowedScript] = {item.script: item for item in store.scripts()}
        self._points: dict[Outpoint, bytes] = store.all_points()
        self.on_own_coin: Callable[[Tx, int], None] = lambda _tx, _height: None
        self.height, self.hash, self.time_s = store.top() or (-1, "", 0)
        self.scripts_version, self.points_version = 0, 0  # they grow when something more is looked for
        self.roll_backs = 0

    def follow(self, tx: Tx, item: FollowedScript, from_height: int, *, is_read: bool = False) -> None:
        """Follow a script from a height on; blocks read already are read again unless `is_read`."""
        self.store.follow(tx, item, max(0, from_height), is_read=is_read or from_height > self.height)
        if item.script not in self._scripts:
            self._scripts[item.script] = item
            self.scripts_version += 1

    def follows(self, script: bytes) -> bool:
        """Whether the script is followed."""
        return script in self._scripts

    def followed(self) -> list[bytes]:
        """Every followed script."""
        return list(self._scripts)

    def points(self) -> Mapping[Outpoint, bytes]:
        """Every known output, with its script."""
        return self._points

    def take_block(self, height: int, block: Block) -> None:
        """The next block of the best chain."""
        with self.store.store.transaction() as tx:
            self._take_all(tx, block.txs, height)
            self.store.add_block(tx, height, block.hash, block.time_s)
        self.height, self.hash, self.time_s = height, block.hash, block.time_s

    def read_again(self, height: int, block: Block) -> None:
        """A block that was read before some script was followed."""
        with self.store.store.transaction() as tx:
            self._take_all(tx, block.txs, height)

    def take_waiting(self, item: BlockTx) -> None:
        """A transaction that waits for a block."""
        if self._touches(item):
            with self.store.store.transaction() as tx:
                self._take_all(tx, (item,), None)

    def roll_back(self, fork_height: int) -> None:
        """Blocks above the fork left the best chain."""
        with self.store.store.transaction() as tx:
            self._tell_waiting_again(tx, fork_height)
            self.store.roll_back(tx, fork_height)
            top = self.store.top() or (-1, "", 0)
            self._tell_tip(tx, top[0], top[1], fork_height)
            tx.audit("rolled back", {"from_height": self.height, "to_height": fork_height})
        self.roll_backs += 1
        self.height, self.hash, self.time_s = top

    def tell_tip(self) -> None:
        """Tell that the view has caught up with the node's tip."""
        with self.store.store.transaction() as tx:
            self._tell_tip(tx, self.height, self.hash, None)

    def forget(self, gone: set[str]) -> None:
        """These transactions neither wait any more nor are in a block."""
        with self.store.store.transaction() as tx:
            for txid in sorted(gone):
                self._forget(tx, txid)

    def _touches(self, item: BlockTx) -> bool:
        return any(output.script in self._scripts for output in item.tx.outputs) or any(
            spent.outpoint in self._points for spent in item.tx.inputs
        )

    def _take_all(self, tx: Tx, items: Iterable[BlockTx], height: int | None) -> None:
        for item in items:
            if self._touches(item):
                self._take(tx, item, height)

    def _take(self, tx: Tx, item: BlockTx, height: int | None) -> None:
        self.store.put_tx(tx, item.txid, item.raw, skeleton(item.tx), height)
        for spent in item.tx.inputs:
            if spent.outpoint in self._points:
                self._take_spend(tx, item, spent.outpoint, spent.script_sig, height)
        for vout, output in enumerate(item.tx.outputs):
            if output.script in self._scripts:
                point = Outpoint(item.txid, vout)
                is_coinbase = height is not None and item.position == 0
                value = int(output.value_florins)
                self._take_coin(tx, Coin(point, output.script, value, height, item.position, is_coinbase))

    def _take_coin(self, tx: Tx, coin: Coin) -> None:
        if coin.outpoint not in self._points:
            self._points[coin.outpoint] = coin.script
            self.points_version += 1
        if not self.store.put_coin(tx, coin):
            return
        if self._scripts[coin.script].kind == ScriptKind.OWN:
            self.on_own_coin(tx, self.height)
        tx.emit("CoinSeen", _coin_seen(coin))

    def _take_spend(self, tx: Tx, item: BlockTx, outpoint: Outpoint, script_sig: bytes, height: int | None) -> None:
        if self.store.put_spend(tx, outpoint, item.txid, height, script_sig):
            script = self._points[outpoint]
            tx.emit("SpendSeen", SpendSeen(script=script, outpoint=outpoint, txid=item.txid, height=_height(height)))
        if height is not None:
            for rival in self.store.rivals(tx, outpoint, item.txid):
                self._forget(tx, rival)

    def _forget(self, tx: Tx, txid: str) -> None:
        coins, spends = self.store.forget(tx, txid)
        for outpoint in spends:
            script = self._points.get(outpoint, b"")
            tx.emit("SpendGone", SpendGone(script=script, outpoint=outpoint, txid=txid))
        for coin in coins:
            self._points.pop(coin.outpoint, None)
            tx.emit("CoinGone", CoinGone(script=coin.script, outpoint=coin.outpoint))

    def _tell_waiting_again(self, tx: Tx, fork_height: int) -> None:
        for coin in self.store.coins_above(tx, fork_height):
            tx.emit("CoinSeen", _coin_seen(coin))
        for outpoint, spender in self.store.spends_above(tx, fork_height):
            script = self._points.get(outpoint, b"")
            tx.emit("SpendSeen", SpendSeen(script=script, outpoint=outpoint, txid=spender, height=None))

    def _tell_tip(self, tx: Tx, height: int, block_hash: str, rolled_back_to: int | None) -> None:
        event = TipChanged(height=BlockHeight(height), hash=block_hash, rolled_back_to=_height(rolled_back_to))
        tx.emit("TipChanged", event)


def _height(height: int | None) -> BlockHeight | None:
    return None if height is None else BlockHeight(height)


def _coin_seen(coin: Coin) -> CoinSeen:
    value, height = Florins(coin.value), _height(coin.height)
    return CoinSeen(script=coin.script, outpoint=coin.outpoint, value_florins=value, height=height)
