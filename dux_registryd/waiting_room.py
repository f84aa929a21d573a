"""The places of claims that wait: so many, and whose claim leaves for one more (`queue_rules`).

Shares are read from the file at most once a second and kept up by what is let in and out here meanwhile, so that a
flood costs no more than its messages; what the chain has settled since then counts as waiting for that second.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from common.clock import Clock
from common.nets import UNSEEN
from common.store import Tx
from common.units import Did
from dux_registryd.queue_rules import Leaves, who_leaves
from dux_registryd.store import Book

READ_AGAIN_S = 1.0  # reading ten thousand shares takes tens of milliseconds


class WaitingRoom:
    """Lets claims in; where all places are taken, one leaves, or none may come."""

    def __init__(self, book: Book, clock: Clock, places: int) -> None:
        self._book = book
        self._clock = clock
        self._places = places
        self.net_of: Callable[[Did], str] = lambda _did: UNSEEN  # where others see a node; set at assembly
        self._read_at: float | None = None
        self._taken = 0
        self._shares: dict[bool, defaultdict[str, Counter[str]]] = {}  # idle, or not

    def is_shut_to(self, teller: Did) -> bool:
        """Whether one more claim of a name may not wait."""
        return self._is_full() and self._leaver(teller) is None

    def let_in(self, tx: Tx, teller: Did) -> None:
        """Count one more claim of a name; somebody's leaves for it where all places are taken."""
        leaver = self._leaver(teller) if self._is_full() else None
        if leaver is not None:
            self._book.forget_waiting(tx, leaver.teller, idle=leaver.idle)
            names = self._shares[leaver.idle][leaver.net]
            names[leaver.teller] -= 1
            self._taken -= 1
            if not names[leaver.teller]:
                del names[leaver.teller]
            if not names:
                del self._shares[leaver.idle][leaver.net]
        self._shares[False][self.net_of(teller)][teller] += 1
        self._taken += 1

    def _leaver(self, teller: Did) -> Leaves | None:
        return who_leaves(self._shares[True], self._shares[False], teller, self.net_of(teller))

    def _is_full(self) -> bool:
        now = self._clock.monotonic()
        if self._read_at is None or now - self._read_at >= READ_AGAIN_S:
            self._read_at = now
            self._read()
        return self._taken >= self._places

    def _read(self) -> None:
        self._taken, self._shares = 0, {True: defaultdict(Counter), False: defaultdict(Counter)}
        for teller, count, idle in self._book.waiting():
            self._shares[idle][self.net_of(teller)][teller] += count
            self._taken += count
