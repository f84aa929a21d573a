"""Transactions that wait for a block: relay's rules applied, families limited, replacements paid for.

Promises: everything in here could be in the next block (all at once); no two spend the same output; nothing stays
longer than 24 hours. Time is handed in.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping

import msgspec

from common.chain.invalid import REJECT_DUPLICATE, REJECT_INSUFFICIENT_FEE, REJECT_NONSTANDARD, Invalid
from common.chain.wire import OutPoint, Tx
from dux_sim.chain import policy, scripts, tx_rules
from dux_sim.chain.errors import AlreadyInChain
from dux_sim.chain.state import ChainState
from dux_sim.chain.tx_rules import Coin

UNCONFIRMED_HEIGHT = 0x7FFFFFFF  # as Core: an unconfirmed output has no age


class Waiting(msgspec.Struct, frozen=True):
    """A transaction in the mempool."""

    tx: Tx
    fee_florins: int
    size_bytes: int
    entered_s: int
    parents: frozenset[bytes]  # those of its inputs that wait here too


class Mempool:
    """The waiting transactions, in the order in which they came."""

    def __init__(self, chain: ChainState) -> None:
        """Empty, above this chain."""
        self._chain = chain
        self.waiting: dict[bytes, Waiting] = {}
        self._spenders: dict[OutPoint, bytes] = {}
        self._outputs: dict[OutPoint, Coin] = {}

    @property
    def coins(self) -> Mapping[OutPoint, Coin]:
        """Unspent outputs of the chain and outputs of waiting transactions; those that are spent here are still in."""
        return ChainMap(self._outputs, self._chain.coins)

    def spender(self, outpoint: OutPoint) -> bytes | None:
        """Which waiting transaction spends it."""
        return self._spenders.get(outpoint)

    def accept(self, tx: Tx, now_s: int, *, absurd_fee_florins: int | None = policy.ABSURD_FEE_FLORINS) -> None:
        """Take in a transaction; one that waits already changes nothing.

        Raises:
            Invalid: consensus or relay refuses it; nothing has changed.
        """
        if tx.txid in self.waiting:
            return
        self._check_alone(tx)
        spent = self._spent(tx)
        fee = tx_rules.fee_of(tx, spent, self._chain.tip.height + 1)
        self._check_ages(tx, spent, now_s)
        sigops = scripts.legacy_sigops(tx) + scripts.p2sh_sigops(tx, [coin.out for coin in spent])
        policy.check_inputs_standard(tx, spent)
        policy.check_sigops(sigops)
        entry = Waiting(tx, fee, policy.relay_size(tx, sigops), now_s, self._parents(tx))
        policy.check_fee(tx, entry.size_bytes, fee, absurd_fee_florins=absurd_fee_florins)
        self._check_family(entry)
        replaced = self._check_replacement(entry)
        scripts.check_scripts(tx, [coin.out for coin in spent], scripts.RELAY)
        for txid in replaced:
            self._remove(txid)
        self._add(entry)

    def _check_alone(self, tx: Tx) -> None:
        tx_rules.check_tx(tx)
        if tx.is_coinbase:
            raise Invalid("coinbase")
        policy.check_standard(tx)
        if not tx_rules.is_final(tx, self._chain.tip.height + 1, self._chain.tip.median_time_s):
            raise Invalid("non-final", REJECT_NONSTANDARD)
        if len(self.waiting) >= policy.MEMPOOL_TXS_MAX:
            raise Invalid("mempool full", REJECT_INSUFFICIENT_FEE)
        if any(OutPoint(tx.txid, vout) in self._chain.coins for vout in range(len(tx.outputs))):
            raise AlreadyInChain

    def _spent(self, tx: Tx) -> list[Coin]:
        conflicts = self._conflicts(tx)
        if conflicts and not all(policy.signals_replacement(self.waiting[txid].tx) for txid in conflicts):
            raise Invalid("txn-mempool-conflict", REJECT_DUPLICATE)
        return tx_rules.spent_coins(tx, self.coins)

    def _check_ages(self, tx: Tx, spent: list[Coin], now_s: int) -> None:
        tip = self._chain.tip
        blocks = [max(0, tip.height + 1 - coin.height) for coin in spent]
        seconds = [
            tip.median_time_s - self._chain.active[max(coin.height - 1, 0)].median_time_s
            if coin.height <= tip.height
            else 0
            for coin in spent
        ]
        if not policy.sequence_locks_hold(tx, blocks, seconds):
            raise Invalid("non-BIP68-final", REJECT_NONSTANDARD, f"at {now_s}")

    # families

    def _parents(self, tx: Tx) -> frozenset[bytes]:
        return frozenset(txin.prevout.txid for txin in tx.inputs if txin.prevout.txid in self.waiting)

    def ancestors(self, entry: Waiting) -> set[bytes]:
        """Waiting transactions that this one needs, itself not among them."""
        found: set[bytes] = set()
        queue = list(entry.parents)
        while queue:
            txid = queue.pop()
            if txid not in found:
                found.add(txid)
                queue += self.waiting[txid].parents
        return found

    def descendants(self, txid: bytes) -> set[bytes]:
        """Waiting transactions that need this one, and itself."""
        found: set[bytes] = set()
        queue = [txid]
        while queue:
            current = queue.pop()
            if current not in found:
                found.add(current)
                tx = self.waiting[current].tx
                spenders = (self._spenders.get(OutPoint(current, vout)) for vout in range(len(tx.outputs)))
                queue += [spender for spender in spenders if spender is not None]
        return found

    def _check_family(self, entry: Waiting) -> None:
        ancestors = self.ancestors(entry)
        families = [ancestors | {entry.tx.txid}, *(self.descendants(txid) | {entry.tx.txid} for txid in ancestors)]
        for family in families:
            size = entry.size_bytes + sum(self.waiting[txid].size_bytes for txid in family if txid in self.waiting)
            if len(family) > policy.ANCESTORS_MAX or size > policy.FAMILY_BYTES_MAX:
                raise Invalid("too-long-mempool-chain", REJECT_NONSTANDARD)

    # replacement by BIP125

    def _conflicts(self, tx: Tx) -> set[bytes]:
        spenders = (self._spenders.get(txin.prevout) for txin in tx.inputs)
        return {spender for spender in spenders if spender is not None}

    def _check_replacement(self, entry: Waiting) -> set[bytes]:
        """All that leaves when `entry` comes; it pays for their fees and for its own relay.

        Raises:
            Invalid: it does not, or it is no replacement in the sense of BIP125.
        """
        direct = self._conflicts(entry.tx)
        if direct & self.ancestors(entry):
            raise Invalid("bad-txns-spends-conflicting-tx")
        leaving = set().union(*(self.descendants(txid) for txid in direct)) if direct else set()
        if len(leaving) > policy.REPLACED_MAX:
            raise Invalid("too many potential replacements", REJECT_NONSTANDARD)
        for txid in direct:
            old = self.waiting[txid]
            if entry.fee_florins * old.size_bytes <= old.fee_florins * entry.size_bytes:
                raise Invalid("insufficient fee", REJECT_INSUFFICIENT_FEE, "the rate of the replaced is not exceeded")
        if direct and entry.parents - set().union(*(self.waiting[txid].parents for txid in direct)):
            raise Invalid("replacement-adds-unconfirmed", REJECT_NONSTANDARD)
        paid_before = sum(self.waiting[txid].fee_florins for txid in leaving)
        own = policy.fee_at(policy.INCREMENTAL_FEE_FLORINS_PER_KB, entry.size_bytes)
        if leaving and entry.fee_florins < paid_before + own:
            raise Invalid("insufficient fee", REJECT_INSUFFICIENT_FEE, "less than what is replaced and its own relay")
        return leaving

    # in and out

    def _add(self, entry: Waiting) -> None:
        self.waiting[entry.tx.txid] = entry
        for txin in entry.tx.inputs:
            self._spenders[txin.prevout] = entry.tx.txid
        for vout, out in enumerate(entry.tx.outputs):
            self._outputs[OutPoint(entry.tx.txid, vout)] = Coin(out, UNCONFIRMED_HEIGHT, is_coinbase=False)

    def _remove(self, txid: bytes) -> None:
        entry = self.waiting.pop(txid)
        for txin in entry.tx.inputs:
            del self._spenders[txin.prevout]
        for vout in range(len(entry.tx.outputs)):
            del self._outputs[OutPoint(txid, vout)]

    def drop_with_descendants(self, txid: bytes) -> None:
        """Take out a transaction and all that need it."""
        for leaving in self.descendants(txid):
            self._remove(leaving)

    def on_block(self, txs: Iterable[Tx]) -> None:
        """These transactions are in a block now: they leave, and so does whatever conflicts with them."""
        mined = list(txs)
        for tx in mined:
            if tx.txid in self.waiting:
                self._remove(tx.txid)
            for txid in self._conflicts(tx):
                if txid in self.waiting:
                    self.drop_with_descendants(txid)
        self._forget_parents({tx.txid for tx in mined})

    def _forget_parents(self, mined: set[bytes]) -> None:
        for txid, entry in self.waiting.items():
            if entry.parents & mined:
                self.waiting[txid] = msgspec.structs.replace(entry, parents=entry.parents - mined)

    def refill(self, returned: Iterable[Tx], now_s: int) -> None:
        """After a reorganisation: what left the chain waits again, and all that waits is judged anew."""
        before = list(self.waiting.values())
        self.waiting.clear()
        self._spenders.clear()
        self._outputs.clear()
        candidates = [(tx, now_s) for tx in returned if not tx.is_coinbase]
        for tx, entered_s in candidates + [(entry.tx, entry.entered_s) for entry in before]:
            try:
                self.accept(tx, entered_s, absurd_fee_florins=None)
            except Invalid:
                continue  # it rested on what has gone: its owner sees it missing and sends it again

    def expire(self, now_s: int) -> None:
        """What has waited for 24 hours leaves, with all that need it; wallets send theirs again."""
        old = [txid for txid, entry in self.waiting.items() if now_s - entry.entered_s > policy.EXPIRY_S]
        for txid in old:
            if txid in self.waiting:
                self.drop_with_descendants(txid)
