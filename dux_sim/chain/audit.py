"""Conservation, recomputed from the blocks: all unspent outputs = premine + subsidies - what was burned.

Pure; it reads the chain's blocks and undo data, and compares with the set of unspent outputs that the rules maintain.
"""

from __future__ import annotations

import msgspec

from dux_sim.chain import consensus, scripts
from dux_sim.chain.state import ChainState, Entry


class Supply(msgspec.Struct, frozen=True):
    """Where all coins are, in florins."""

    unspent_florins: int
    premine_florins: int
    subsidies_florins: int
    burned_florins: int

    @property
    def conserved(self) -> bool:
        """Whether nothing was made or lost but by rule."""
        return self.unspent_florins == self.premine_florins + self.subsidies_florins - self.burned_florins


def supply_of(chain: ChainState) -> Supply:
    """The supply of the active chain."""
    return Supply(
        unspent_florins=sum(coin.out.value_florins for coin in chain.coins.values()),
        premine_florins=sum(out.value_florins for tx in chain.active[0].block.txs[1:] for out in tx.outputs),
        subsidies_florins=sum(consensus.subsidy_at(entry.height) for entry in chain.active),
        burned_florins=sum(_burned(entry) for entry in chain.active),
    )


def _burned(entry: Entry) -> int:
    """What a block paid to unspendable outputs, and what its miner left unclaimed."""
    lost = sum(out.value_florins for tx in entry.block.txs for out in tx.outputs if scripts.is_unspendable(out.script))
    if entry.parent is None:
        return lost
    value_in = sum(coin.out.value_florins for _, coin in entry.spent) + consensus.subsidy_at(entry.height)
    value_out = sum(out.value_florins for tx in entry.block.txs for out in tx.outputs)
    return lost + value_in - value_out
