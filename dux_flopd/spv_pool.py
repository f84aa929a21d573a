"""The transactions that wait for a block, as far as a light wallet needs to know them.

Pure: time is handed in. Promises: only what touches the wallet is kept, up to stated numbers and for a day; what a
block confirms or contradicts leaves; a stranger's transaction counts once as many peers announced it as are asked for,
so that one lying peer shows no coins that do not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from common.chain.tx import Outpoint, Tx
from dux_flopd.bump_rules import outbids

POOL_MAX = 2_000
POOL_BYTES_MAX = 20_000_000
KEPT_S = 24 * 3600.0  # nodes forget after that time, too
GONE_MAX = 5_000
NULL_TXID = "00" * 32


@dataclass
class Pooled:
    """One that waits."""

    txid: str
    tx: Tx
    raw: bytes
    since_s: float
    own: bool  # handed over by this wallet, or believed before
    seen_by: set[str] = field(default_factory=set)


class Pool:
    """All that wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, Pooled] = {}
        self._spenders: dict[Outpoint, set[str]] = {}
        self._gone: dict[str, None] = {}  # contradicted or expired: not taken back from the wallet's own books
        self._confirmed: dict[str, None] = {}  # what left for a block of the best chain
        self._bytes = 0
        self.version = 0  # grows when something more waits

    @property
    def spent(self) -> Collection[Outpoint]:
        """What those that wait spend: another spend of it ends them."""
        return self._spenders.keys()

    def get(self, txid: str) -> Pooled | None:
        """One of them."""
        return self._waiting.get(txid)

    def add(self, txid: str, tx: Tx, raw: bytes, now_s: float, *, own: bool, peer: str = "") -> bool:
        """Take one in; false when there is no room, or when it can never be in a block."""
        known = self._waiting.get(txid)
        if known is None:
            if len(self._waiting) >= POOL_MAX or self._bytes + len(raw) > POOL_BYTES_MAX or is_coinbase(tx):
                return False
            known = self._waiting[txid] = Pooled(txid, tx, raw, now_s, own)
            self._bytes += len(raw)
            self.version += 1
            self._gone.pop(txid, None)
            for item in tx.inputs:
                self._spenders.setdefault(item.outpoint, set()).add(txid)
        known.own = known.own or own
        known.seen_by |= {peer} if peer else set()
        return True

    def give_back(self, txid: str, tx: Tx, raw: bytes, now_s: float) -> None:
        """One that the wallet's books call waiting, after a restart or when its block left the chain."""
        if txid not in self._waiting and txid not in self._gone:
            self.add(txid, tx, raw, now_s, own=True)

    def announced(self, txid: str, peer: str) -> bool:
        """A peer says that it has this one; false when it is not known here and should be asked for."""
        if txid in self._waiting:
            self._waiting[txid].seen_by.add(peer)
            return True
        return False

    def believed(self, needed: int) -> list[str]:
        """The ids of those that count: own ones, and what so many peers announced."""
        return [txid for txid, item in self._waiting.items() if item.own or len(item.seen_by) >= needed]

    def on_block(self, txs: Iterable[tuple[str, Tx]]) -> None:
        """A block of the best chain holds these: they wait no more, and what contradicts them never will again."""
        for txid, tx in txs:
            self._gone.pop(txid, None)
            if txid in self._waiting:
                self._drop(txid)
                _remember(self._confirmed, txid)
            for item in tx.inputs:
                for rival in sorted(self._spenders.get(item.outpoint, set())):
                    self._end(rival)

    def expire(self, now_s: float) -> None:
        """Forget what has waited for a day."""
        for txid in [txid for txid, item in self._waiting.items() if now_s - item.since_s > KEPT_S]:
            self._end(txid)

    def _end(self, txid: str) -> None:
        """This one cannot be in a block any more, and neither can what spends its outputs."""
        ended = [txid]
        for name in ended:
            item = self._waiting.get(name)
            points = [Outpoint(name, vout) for vout in range(len(item.tx.outputs))] if item else []
            ended += sorted(child for point in points for child in self._spenders.get(point, set()))
            self._drop(name)
            _remember(self._gone, name)

    def is_gone(self, txid: str) -> bool:
        """Whether one that waited here was contradicted or expired."""
        return txid in self._gone

    def is_confirmed(self, txid: str) -> bool:
        """Whether one that waited here is in a block of the best chain."""
        return txid in self._confirmed

    def on_roll_back(self) -> None:
        """Blocks left the best chain: what they confirmed waits again, what they contradicted may come back."""
        self._confirmed.clear()
        self._gone.clear()

    def outbid_by(self, tx: Tx) -> tuple[list[str], list[str]]:
        """Own waiting ones whose place this one takes, and those that keep theirs; others' are not judged."""
        rivals = {rival for item in tx.inputs for rival in self._spenders.get(item.outpoint, set())}
        own = [rival for rival in sorted(rivals) if self._waiting[rival].own]
        verdicts = {rival: outbids(tx, self._waiting[rival].tx) for rival in own}
        return [name for name in own if verdicts[name]], [name for name in own if verdicts[name] is False]

    def replace(self, txids: Iterable[str]) -> None:
        """These have been outbid: the network has forgotten them, and what spends their outputs."""
        for txid in txids:
            self._end(txid)

    def refuse(self, txid: str) -> None:
        """Peers agree that this one is wrong."""
        self._drop(txid)

    def _drop(self, txid: str) -> None:
        item = self._waiting.pop(txid, None)
        if item is None:
            return
        self._bytes -= len(item.raw)
        for spent in item.tx.inputs:
            spenders = self._spenders.get(spent.outpoint, set())
            spenders.discard(txid)
            if not spenders:
                self._spenders.pop(spent.outpoint, None)


def _remember(names: dict[str, None], txid: str) -> None:
    names[txid] = None
    while len(names) > GONE_MAX:
        names.pop(next(iter(names)))


def is_coinbase(tx: Tx) -> bool:
    """Whether it makes new coins: such a one never waits."""
    return any(item.outpoint.txid == NULL_TXID for item in tx.inputs)
