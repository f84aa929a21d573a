"""What a light wallet looks for on the chain, as its view knows it: scripts, outputs, and the rivals of what waits.

Promise: whoever loads a filter made of `elements()` finds every payment to a followed script, every spend of a known
output, and every transaction that contradicts one that waits.
"""

from __future__ import annotations

from common.chain.bloom import outpoint_bytes, pushed
from common.chain.tx import Outpoint, Tx, parse
from common.chain.wire import unshown
from dux_flopd.spv_pool import Pool
from dux_flopd.view import ChainView


class Watch:
    """The wallet's interest."""

    def __init__(self, view: ChainView, pool: Pool) -> None:
        self._view = view
        self._pool = pool
        self._taken_back = -1

    @property
    def scripts_version(self) -> int:
        """Grows when a script is added: what was read without it says nothing about it."""
        return self._view.scripts_version

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever a filter made before would miss something."""
        return self._view.scripts_version, self._view.points_version + self._pool.version

    def spender_in_block(self, outpoint: Outpoint) -> str | None:
        """Which transaction in a block spends a known output."""
        spend = self._view.store.spend_of(outpoint)
        return spend.spender if spend is not None and spend.height is not None else None

    def take_back(self, now_s: float) -> None:
        """What the view calls waiting is in the pool: after a restart, and when blocks left the best chain."""
        if self._taken_back == self._view.roll_backs:
            return
        self._taken_back = self._view.roll_backs
        self._pool.on_roll_back()
        for name in self._view.store.waiting():
            kept = self._view.store.raw_tx(name)
            if kept is not None:
                self._pool.give_back(name, parse(kept[0]), kept[0], now_s)

    def elements(self) -> list[bytes]:
        """What goes into a filter."""
        found = [item for script in self._view.followed() for item in (pushed(script) or [script])]
        points = {**self._view.points(), **dict.fromkeys(self._pool.spent)}
        return found + [outpoint_bytes(unshown(point.txid), point.vout) for point in points]

    def concerns(self, tx: Tx) -> bool:
        """Whether the view, or the pool of what waits, has to see this transaction."""
        if any(self._view.follows(output.script) for output in tx.outputs):
            return True
        points, spent = self._view.points(), self._pool.spent
        return any(item.outpoint in points or item.outpoint in spent for item in tx.inputs)
