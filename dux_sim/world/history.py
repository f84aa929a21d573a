"""What happened, as a running hash, as counts, and, when somebody wants to read it, as lines.

The hash covers every message between daemons and between nodes, every committed row and every block (settled.md 27).
A history that is traced has the same hash as one that is not.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

TRACE_LINES_MAX = 2_000_000  # about 300 MB; a longer trace is read with --until
DETAIL_CHARS_MAX = 160


class Digest(Protocol):
    """A running hash."""

    def update(self, data: bytes, /) -> None:
        """Take more in."""
        ...


class Until(Exception):
    """An end, not an error: the history stops in front of what somebody wants to look at."""


class History:
    """One history. `now_s` tells virtual seconds."""

    def __init__(self, now_s: Callable[[], float], *, trace: bool = False, until: int | None = None) -> None:
        self.watch: Callable[[str], bool] | None = None  # asked after each event: stop here?
        self.on_stop: Callable[[], None] = lambda: None
        self.stopped = False
        self._now_s = now_s
        self._digest = hashlib.sha256()
        self._trace = trace
        self._until = until
        self.events = 0
        self.counts: Counter[str] = Counter()  # messages, commits, blocks, steps of the story
        self.faults: Counter[str] = Counter()  # by kind
        self.exits: Counter[str] = Counter()
        self.calm_from: int | None = None  # height of the tip when the last fault was over
        self.lines: deque[str] = deque(maxlen=TRACE_LINES_MAX)

    def note(self, kind: str, what: str, data: bytes = b"", *, of: str = "") -> None:
        """One event: hashed with its time. In front of the one to stop at, the history stops.

        `of`: the node or daemon whose event it is, for those who keep a hash for each node.
        """
        if self.stopped:
            return
        if self._until is not None and self.events >= self._until:
            self._stop()
            return
        self.events += 1
        self.counts[kind] += 1
        self._digest_of(of).update(f"{self._now_s():.6f}\0{kind}\0{what}\0{len(data)}\0".encode() + data)
        if self._trace:
            self.tell(kind, what if not data else f"{what}  {shown(data)}")
        if self.watch is not None and self.watch(kind):
            self._stop()

    def _digest_of(self, _of: str) -> Digest:
        return self._digest

    def _stop(self) -> None:
        self.stopped = True
        self.on_stop()

    def fault(self, kind: str, what: str, *, of: str = "") -> None:
        """Something that the weather, a liar or a crash did."""
        self.faults[kind] += 1
        self.note("fault", f"{kind}: {what}", of=of)

    def tell(self, kind: str, text: str) -> None:
        """A line for readers only."""
        if self._trace and not self.stopped:
            self.lines.append(f"{self.events:>7} {self._now_s():>10.3f}s {kind:<8} {text}")

    @property
    def is_traced(self) -> bool:
        """Whether somebody reads."""
        return self._trace

    @property
    def messages(self) -> int:
        """Calls and answers between daemons, bulk bytes, and what nodes sent each other."""
        return sum(self.counts[kind] for kind in ("call", "answer", "bulk", "frame"))

    def hash(self) -> str:
        """The hash so far, hex."""
        return self._digest.hexdigest()


def added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of counts, by name."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def shown(data: bytes) -> str:
    """The beginning of some bytes, for people."""
    text = data[:DETAIL_CHARS_MAX].decode(errors="replace")
    return "".join(sign if sign.isprintable() else "." for sign in text) + ("…" if len(data) > DETAIL_CHARS_MAX else "")
