"""The chain of a channel's proof: one coin on the script, its spends, and blocks that come many at a time.

Time jumps from edge to edge: the heights at which some guard of either table changes its answer, one below each, and
the depths that the caps ask for. What waits is mined in the first block after the edge, unless a miner leaves it out.
"""

from __future__ import annotations

from typing import NamedTuple


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
        return Chain(coin=self.coin + 1)
