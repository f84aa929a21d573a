"""What a light wallet looks for on the chain, as its view knows it: scripts, outputs, and the rivals of what waits.

Promise: whoever loads a filter made of `elements()` finds every payment to a followed script, every spend of a known
output, and every transaction that contradicts one that waits.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.chain.bloom import outpoint_bytes, pushed
from common.chain.tx import Outpoint, Tx
from common.chain.wire import unshown
from dux_flopd.view import ChainView


class Watch:
    """The wallet's interest."""

    def __init__(self, view: ChainView) -> None:
        self._view = view
        self._rivals: dict[Outpoint, None] = {}
        self._rivals_version = 0

    @property
    def scripts_version(self) -> int:
        """Grows when a script is added: what was read without it says nothing about it."""
        return self._view.scripts_version

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever a filter made before would miss something."""
        return self._view.scripts_version, self._view.points_version + self._rivals_version

    def spender_in_block(self, outpoint: Outpoint) -> str | None:
        """Which transaction in a block spends a known output."""
        spend = self._view.store.spend_of(outpoint)
        return spend.spender if spend is not None and spend.height is not None else None

    def in_the_books(self) -> list[tuple[str, bytes]]:
        """Transactions that the view calls waiting, with their bytes."""
        found = [(name, self._view.store.raw_tx(name)) for name in self._view.store.waiting()]
        return [(name, kept[0]) for name, kept in found if kept is not None]

    def watch_rivals(self, inputs: Mapping[Outpoint, None]) -> None:
        """Also look for spends of these: the inputs of what waits."""
        if inputs.keys() != self._rivals.keys():
            self._rivals = dict(inputs)
            self._rivals_version += 1

    def elements(self) -> list[bytes]:
        """What goes into a filter."""
        found = [item for script in self._view.followed() for item in (pushed(script) or [script])]
        points = {**self._view.points(), **self._rivals}
        return found + [outpoint_bytes(unshown(point.txid), point.vout) for point in points]

    def concerns(self, tx: Tx) -> bool:
        """Whether the view, or the pool of what waits, has to see this transaction."""
        if any(self._view.follows(output.script) for output in tx.outputs):
            return True
        points = self._view.points()
        return any(item.outpoint in points or item.outpoint in self._rivals for item in tx.inputs)
