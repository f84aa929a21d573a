"""The chain of a channel's proof: the coin on the script and what a stranger pays it, spends, blocks many at a time.

Time jumps from edge to edge: the heights at which some guard of either table changes its answer, one below each, and
the depths that the caps ask for. What waits is mined in the first block after the edge, unless a miner leaves it out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from common.chain.tx import Outpoint
from common.contracts.wallet_chain import CoinView, SpendView
from common.units import BlockHeight, Florins
from dux_escrowd.channel.model import Spend as SpendTold
from dux_escrowd.channel.model import SpendKind

TOO_LITTLE = Outpoint("dd" * 32, 0)
REMEMBERED = 65_536
ABSENT, THERE, TAKEN_BACK = 0, 1, 2


class Spend(NamedTuple):
    """A transaction that takes the coin: what it is, and what it pays the payee (gross florins)."""

    kind: str  # close, final, refund
    paid_florins: int
    outpoint: str


class Chain(NamedTuple):
    """What all see. A reorganisation changes the coin's number: the same payment under another id."""

    coin: int = 0  # 0: not paid yet
    coin_height: int | None = None
    waiting: tuple[Spend, ...] = ()  # the first is what a miner takes by itself
    spend: Spend | None = None
    spend_height: int | None = None
    beside: int = ABSENT  # an output of a stranger's before the coin, less than a channel rests on

    @property
    def outpoint(self) -> str:
        """The coin's."""
        return f"{self.coin:064x}:0"

    def depth(self, height: int) -> int:
        """Confirmations of the coin."""
        return 0 if self.coin_height is None else height - self.coin_height + 1

    def spend_depth(self, height: int) -> int:
        """Confirmations of its spend."""
        return 0 if self.spend_height is None else height - self.spend_height + 1

    def fund(self) -> Chain:
        """The payer's wallet pays the script."""
        return self if self.coin else self._replace(coin=1)

    def offer(self, spend: Spend) -> Chain:
        """Into the mempool, where it is valid: beside what is there, for miners to choose."""
        valid = self.coin and spend.outpoint == self.outpoint and self.spend is None and self.coin_height is not None
        return self._replace(waiting=(*self.waiting, spend)) if valid and spend not in self.waiting else self

    def block(self, height: int, *, take: int = 0, censor: bool = False) -> Chain:
        """The first block after the last edge, at this height; the blocks after it are empty."""
        if self.coin and self.coin_height is None:
            return self._replace(coin_height=height)
        if not self.waiting or censor:
            return self
        return self._replace(waiting=(), spend=self.waiting[take], spend_height=height)

    def spend_goes(self, *, forgotten: bool) -> Chain:
        """The block of the spend goes; it waits again, or whoever made it must hand it over again."""
        waits = (self.spend,) if self.spend is not None and not forgotten else ()
        return self._replace(waiting=waits, spend=None, spend_height=None)

    def coin_moves(self) -> Chain:
        """The block of the funding goes, and it comes back under another id: nothing signed before spends it."""
        return Chain(coin=self.coin + 1, beside=self.beside)

    def told(self) -> SpendTold | None:
        """What spends the coin, in a block or waiting for one, as both sides read it."""
        there = self.spend or (self.waiting[0] if self.waiting else None)
        if there is None:
            return None
        kind = SpendKind.REFUND if there.kind == "refund" else SpendKind.CLOSE
        txid = f"{there.kind}-{there.paid_florins}-{there.outpoint[60:64]}"
        return SpendTold(kind, txid, there.paid_florins, self.spend_height)


@lru_cache(maxsize=REMEMBERED)
def seen(chain: Chain, value_florins: int, least_florins: int) -> tuple[CoinView, ...]:
    """What the wallet shows of the script, in the chain's order. `least_florins`: of what a channel rests on."""
    found = []
    if chain.beside:
        height = BlockHeight(1)
        spend = SpendView("back", height, b"", b"") if chain.beside == TAKEN_BACK else None
        found.append(CoinView(TOO_LITTLE, Florins(least_florins // 2), height, 0, spend))
    if chain.coin:
        told, at = chain.told(), chain.coin_height
        spend = None if told is None else SpendView(told.txid, _height(told.height), b"", b"")
        outpoint = Outpoint(chain.outpoint.partition(":")[0], 0)
        found.append(CoinView(outpoint, Florins(value_florins), _height(at), 1, spend))
    return tuple(found)


def _height(height: int | None) -> BlockHeight | None:
    return None if height is None else BlockHeight(height)
