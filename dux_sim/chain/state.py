"""The blocks known, the chain with the most work among them, and its unspent outputs.

Promises: the active chain is always the one with most work whose every block is valid and not excluded by hand (the
first seen among equals); the unspent outputs are exactly those of the active chain; a refused block changes nothing.
Knows no mempool and no clock; what a change did is returned as a `Change`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from common.chain import difficulty, header_rules
from common.chain.invalid import REJECT_DUPLICATE, Invalid
from common.chain.wire import Block, Header, OutPoint, Tx
from dux_sim.chain import block_rules, consensus, scripts, tx_rules
from dux_sim.chain.tx_rules import Coin


class Change(msgspec.Struct, frozen=True):
    """What moved when the tip moved: blocks that left (newest first) and blocks that came (oldest first)."""

    disconnected: tuple[Block, ...] = ()
    connected: tuple[Block, ...] = ()


@dataclass
class Entry:
    """A known block. `work` adds up from the genesis; `order` is the order of arrival."""

    block: Block
    height: int
    work: int
    order: int
    parent: Entry | None
    broken: str | None = None  # the rule that its transactions broke
    excluded: bool = False  # by invalidateblock
    spent: list[tuple[OutPoint, Coin]] = field(default_factory=list)  # for the way back

    @property
    def hash(self) -> bytes:
        """The block's name."""
        return self.block.hash

    @property
    def median_time_s(self) -> int:
        """The median time of the eleven blocks that end here."""
        return block_rules.median_time(self.ancestor_headers(header_rules.MEDIAN_TIME_BLOCKS))

    def ancestor_headers(self, count: int) -> list[Header]:
        """The last `count` headers that end here, oldest first; fewer near the genesis."""
        headers: list[Header] = []
        entry: Entry | None = self
        while entry is not None and len(headers) < count:
            headers.append(entry.block.header)
            entry = entry.parent
        return headers[::-1]

    def usable(self) -> bool:
        """Whether neither this block nor one below it is broken or excluded."""
        entry: Entry | None = self
        while entry is not None:
            if entry.broken is not None or entry.excluded:
                return False
            entry = entry.parent
        return True


class ChainState:
    """Blocks, the active chain, the unspent outputs."""

    def __init__(self, genesis: Block) -> None:
        """The genesis block is given, not judged; its coinbase is not spendable, its other outputs are."""
        root = Entry(genesis, 0, difficulty.work_of(genesis.header.bits), 0, None)
        self.entries: dict[bytes, Entry] = {genesis.hash: root}
        self.active: list[Entry] = [root]
        self.coins: dict[OutPoint, Coin] = {}
        self.tx_places: dict[bytes, tuple[Entry, int]] = {}
        self._tips: set[bytes] = {genesis.hash}
        self._add_outputs(root, genesis.txs[1:])
        self._index(root)

    @property
    def tip(self) -> Entry:
        """The last block of the active chain."""
        return self.active[-1]

    def is_active(self, entry: Entry) -> bool:
        """Whether the block is part of the active chain."""
        return entry.height < len(self.active) and self.active[entry.height] is entry

    def tips(self) -> list[Entry]:
        """Blocks that nothing known stands on."""
        return [self.entries[name] for name in self._tips]

    # blocks come in

    def accept(self, block: Block, now_s: int) -> Change:
        """Take in a block and move to the most work.

        Raises:
            Invalid: it breaks a rule, or its parent is unknown or bad; nothing has changed then (a block whose own
                transactions turn out to be wrong stays known as broken).
        """
        known = self.entries.get(block.hash)
        if known is not None:
            raise Invalid("duplicate-invalid" if known.broken else "duplicate", REJECT_DUPLICATE)
        block_rules.check_block(block)
        parent = self.entries.get(block.header.prev)
        if parent is None:
            raise Invalid("prev-blk-not-found")
        if not parent.usable():
            raise Invalid("bad-prevblk")
        ancestors = parent.ancestor_headers(header_rules.MEDIAN_TIME_BLOCKS)
        block_rules.check_header(block.header, parent.height + 1, ancestors, now_s)
        block_rules.check_in_place(block, parent.height + 1)
        entry = self._remember(block, parent)
        change = self.settle()
        if entry.broken is not None:
            raise Invalid(entry.broken)
        return change

    def _remember(self, block: Block, parent: Entry) -> Entry:
        work = parent.work + difficulty.work_of(block.header.bits)
        entry = Entry(block, parent.height + 1, work, len(self.entries), parent)
        self.entries[entry.hash] = entry
        self._tips.discard(parent.hash)
        self._tips.add(entry.hash)
        return entry

    def exclude(self, entry: Entry) -> Change:
        """Take a block out of consideration, and with it all that stands on it."""
        entry.excluded = True
        left = []
        while self.is_active(entry):
            left.append(self._disconnect())
        return self.settle(left)

    def reconsider(self, entry: Entry) -> Change:
        """Forget that this block, those below and those above it were excluded."""
        for other in self.entries.values():
            if _stands_on(other, entry) or _stands_on(entry, other):
                other.excluded = False
        return self.settle()

    # the active chain moves

    def settle(self, left: list[Block] | None = None) -> Change:
        """Move to the usable block with most work, trying again when the way there turns out to be broken.

        `left` are blocks that have been disconnected already, newest first.
        """
        disconnected, connected = list(left or []), list[Block]()
        while (best := self._best()) is not self.tip:
            path = self._path_to(best)
            while self.tip is not path[0].parent:
                block = self._disconnect()
                if connected and connected[-1] is block:
                    connected.pop()
                else:
                    disconnected.append(block)
            connected += self._follow(path)
        return Change(tuple(disconnected), tuple(connected))

    def _follow(self, path: list[Entry]) -> list[Block]:
        """Connect these blocks up to the first that breaks a rule, which is marked."""
        for done, entry in enumerate(path):
            try:
                self._connect(entry)
            except Invalid as invalid:
                entry.broken = invalid.reason
                return [step.block for step in path[:done]]
        return [step.block for step in path]

    def _best(self) -> Entry:
        """Most work among the usable blocks, the first seen of equals; the active chain is usable always."""
        candidates = {self._usable_below(self.entries[name]).hash for name in self._tips} | {self.tip.hash}
        return max((self.entries[name] for name in candidates), key=lambda entry: (entry.work, -entry.order))

    def _usable_below(self, entry: Entry) -> Entry:
        """The highest block at or below `entry` with nothing broken or excluded on its way to the active chain."""
        usable, step = entry, entry
        while not self.is_active(step) and step.parent is not None:
            if step.broken is not None or step.excluded:
                usable = step.parent
            step = step.parent
        return usable

    def _path_to(self, entry: Entry) -> list[Entry]:
        path = []
        step: Entry | None = entry
        while step is not None and not self.is_active(step):
            path.append(step)
            step = step.parent
        return path[::-1]

    def _connect(self, entry: Entry) -> None:
        """Move the unspent outputs one block forward, or raise and leave them as they were."""
        added: list[OutPoint] = []
        spent: list[tuple[OutPoint, Coin]] = []
        try:
            self._apply(entry, added, spent)
        except Invalid:
            self._undo(added, spent)
            raise
        entry.spent = spent
        self.active.append(entry)
        self._index(entry)

    def _apply(self, entry: Entry, added: list[OutPoint], spent: list[tuple[OutPoint, Coin]]) -> None:
        fees_florins, sigops = 0, 0
        for tx in entry.block.txs:
            sigops += scripts.legacy_sigops(tx)
            if any(OutPoint(tx.txid, vout) in self.coins for vout in range(len(tx.outputs))):
                raise Invalid("bad-txns-BIP30")
            if not tx.is_coinbase:
                coins = tx_rules.spent_coins(tx, self.coins)
                outs = [coin.out for coin in coins]
                fees_florins += tx_rules.fee_of(tx, coins, entry.height)
                sigops += scripts.p2sh_sigops(tx, outs)
                scripts.check_scripts(tx, outs, scripts.CONSENSUS)
                spent += [(txin.prevout, self.coins.pop(txin.prevout)) for txin in tx.inputs]
            added += self._add_outputs(entry, (tx,))
        if sigops > consensus.BLOCK_SIGOPS_MAX:
            raise Invalid("bad-blk-sigops")
        paid = sum(out.value_florins for out in entry.block.txs[0].outputs)
        if paid > consensus.subsidy_at(entry.height) + fees_florins:
            raise Invalid("bad-cb-amount", detail=f"{paid} florins paid")

    def _add_outputs(self, entry: Entry, txs: tuple[Tx, ...]) -> list[OutPoint]:
        added = []
        for tx in txs:
            for vout, out in enumerate(tx.outputs):
                if not scripts.is_unspendable(out.script):
                    outpoint = OutPoint(tx.txid, vout)
                    self.coins[outpoint] = Coin(out, entry.height, tx.is_coinbase)
                    added.append(outpoint)
        return added

    def _undo(self, added: list[OutPoint], spent: list[tuple[OutPoint, Coin]]) -> None:
        for outpoint, coin in spent:
            self.coins[outpoint] = coin
        for outpoint in added:
            self.coins.pop(outpoint, None)

    def _disconnect(self) -> Block:
        """Move the unspent outputs one block back; returns the block that left."""
        entry = self.active.pop()
        added = [OutPoint(tx.txid, vout) for tx in entry.block.txs for vout in range(len(tx.outputs))]
        self._undo(added, entry.spent)
        for tx in entry.block.txs:
            self.tx_places.pop(tx.txid, None)
        return entry.block

    def _index(self, entry: Entry) -> None:
        for position, tx in enumerate(entry.block.txs):
            self.tx_places[tx.txid] = (entry, position)


def _stands_on(upper: Entry, lower: Entry) -> bool:
    step: Entry | None = upper
    while step is not None and step.height > lower.height:
        step = step.parent
    return step is lower
