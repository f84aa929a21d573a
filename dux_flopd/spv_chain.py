"""The headers of the best chain, as a light wallet knows it: judged, linked, chosen by work.

Pure. Promises: above the last checkpoint every header was judged by all rules of the network, its work included; below
it each links to the next and the checkpoints' hashes are met, or nothing of it counts. The tip is the end of the
branch with most work, the first seen among equals. What a branch may cost in memory is limited, and so is how deep one
may start; a refused header changes nothing but the loss of what no checkpoint has confirmed yet.

Source: facts §1 and §4 (a), (f).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from common.chain import auxpow, difficulty, header_rules
from common.chain.coin_network import CoinNetwork
from common.chain.invalid import Invalid
from common.chain.messages import RawHeader
from common.chain.wire import HEADER_BYTES, AuxPow, DecodeError, Reader, read_auxpow, read_header, sha256d

FORK_DEPTH_MAX = 2_000  # as many blocks as the view can go back
SIDE_HEADERS_MAX = 4_000  # off the best chain: two whole branches of that depth
LOCATOR_DENSE = 10  # the newest blocks are all named, the older ones at doubling distances
TIME, TIME_AND_BITS = struct.Struct("<I"), struct.Struct("<II")
TIME_AT, PREV_AT = 68, 4

_work_of = lru_cache(maxsize=4096)(difficulty.work_of)


class Unconnected(Exception):
    """The headers do not link to any that are known: ask from further back."""


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain of headers starts: consecutive headers that are believed, and the work up to the last of them."""

    height: int  # of the first
    headers: tuple[bytes, ...]
    work: int


class Entry(msgspec.Struct, frozen=True):
    """A header above the last checkpoint."""

    hash: bytes
    prev: bytes
    raw: bytes
    height: int
    work: int
    time_s: int
    bits: int


def genesis_base(raw: bytes) -> Base:
    """A chain from its first block on."""
    return Base(height=0, headers=(raw,), work=difficulty.work_of(TIME_AND_BITS.unpack_from(raw, TIME_AT)[1]))


class HeaderChain:
    """The best chain and the branches beside it."""

    def __init__(self, network: CoinNetwork, base: Base) -> None:
        self._network = network
        self._base = base
        self._raws = bytearray(b"".join(base.headers))  # of the best chain, from the base's first on
        self._marks = {item.height: bytes.fromhex(item.hash)[::-1] for item in network.checkpoints}
        self.linked_to = max([height for height in self._marks if height >= base.height], default=-1)
        self._passed = base.height + len(base.headers) - 1  # the highest block that a checkpoint or the base confirms
        self._entries: dict[bytes, Entry] = {}
        self._work_min = int(network.work_min, 16)
        self.deepest_fork = 0  # blocks that left the best chain at once
        self.same_up_to = self._passed  # nothing at or below has changed since its owner last set this
        self._start_from(base.headers, base.work)

    def _start_from(self, headers: Sequence[bytes], work: int) -> None:
        """Entries for the base, so that the next ones link to it. All but the last are there for their times only."""
        self._entries.clear()
        height = self._base.height + len(self._raws) // HEADER_BYTES
        for raw in reversed(headers):
            height -= 1
            entry = _entry(raw, sha256d(raw), height, work)
            self._entries[entry.hash] = entry
            work -= _work_of(entry.bits)
        self.tip: Entry = self._entries[sha256d(headers[-1])]

    @property
    def is_proven(self) -> bool:
        """Whether every checkpoint is passed and there is as much work as the network is known to have."""
        return self.tip.height >= self.linked_to and self.tip.work >= self._work_min

    def hash_at(self, height: int) -> bytes | None:
        """The hash on the best chain; None above the tip and below the base."""
        if height == self.tip.height:
            return self.tip.hash
        if not self._base.height <= height < self.tip.height:
            return None
        at = (height + 1 - self._base.height) * HEADER_BYTES + PREV_AT
        return bytes(self._raws[at : at + 32])

    @property
    def base_height(self) -> int:
        """The lowest height that is known."""
        return self._base.height

    def bits_at(self, height: int) -> int:
        """The bits of a header between base and tip."""
        return int.from_bytes(self.raw_at(height)[72:76], "little")

    def height_of(self, block_hash: bytes) -> int | None:
        """The height of a block above the last checkpoint, on whatever branch."""
        entry = self._entries.get(block_hash)
        return entry.height if entry else None

    def raw_at(self, height: int) -> bytes:
        """The 80 bytes of a header between base and tip."""
        at = (height - self._base.height) * HEADER_BYTES
        return bytes(self._raws[at : at + HEADER_BYTES])

    def raws_above(self, height: int) -> bytes:
        """The headers of the best chain above a height, side by side."""
        return bytes(self._raws[(height + 1 - self._base.height) * HEADER_BYTES :])

    def knows(self, block_hash: bytes) -> bool:
        """Whether this is a block above the last checkpoint, or one of a branch."""
        return block_hash in self._entries

    def locator(self) -> list[bytes]:
        """Known blocks from the tip down, at growing distances, so that any peer finds where it left us."""
        found, height, step = [], self.tip.height, 1
        while height > self._base.height:
            found.append(self.hash_at(height) or b"")
            step = step * 2 if len(found) >= LOCATOR_DENSE else 1
            height -= step
        return [*found, self.hash_at(self._base.height) or b""]

    # headers come in

    def add(self, headers: Sequence[RawHeader], now_s: int) -> int:
        """Take in headers in the order of their chain, up to the first that is wrong; returns how many were new.

        Raises:
            Invalid: one of them breaks a rule; those before it are taken.
            Unconnected: the first is not known to follow anything.
        """
        added = taken = self._link(headers) if self.tip.height < self.linked_to else 0
        for item in headers[taken:]:
            name = sha256d(item.raw)
            if name in self._entries:
                continue
            entry = self._judge(item, name, now_s)
            self._keep(entry)
            added += 1
            if entry.work > self.tip.work:
                self._activate(entry)
        return added

    def _judge(self, item: RawHeader, name: bytes, now_s: int) -> Entry:
        header = read_header(Reader(item.raw))
        parent = self._entries.get(header.prev)
        if parent is None:
            raise Unconnected
        height = parent.height + 1
        if height <= self._passed:
            raise Invalid("bad-fork-prior-to-checkpoint", detail=f"height {height}")
        header_rules.check_place(
            self._network,
            height,
            header,
            times_s=self._times_up_to(parent),
            ancestor=lambda wanted: self._ancestor(parent, wanted),
            now_s=now_s,
        )
        auxpow.check_work(self._network, height, header, _proof_of(item))
        return _entry(item.raw, name, height, parent.work + _work_of(header.bits))

    def _times_up_to(self, parent: Entry) -> list[int]:
        first = max(self._base.height, parent.height - header_rules.MEDIAN_TIME_BLOCKS + 1)
        if not self._is_active(parent):
            return [self._ancestor(parent, height)[0] for height in range(first, parent.height + 1)]
        start, end = ((height - self._base.height) * HEADER_BYTES for height in (first, parent.height + 1))
        return [TIME.unpack_from(self._raws, at + TIME_AT)[0] for at in range(start, end, HEADER_BYTES)]

    def _ancestor(self, entry: Entry, height: int) -> tuple[int, int]:
        """Time and bits at a height at or below an entry, on its branch."""
        while entry.height > height and not self._is_active(entry):
            entry = self._entries[entry.prev]
        if entry.height == height:
            return entry.time_s, entry.bits
        if height < self._base.height:
            raise Invalid("bad-base", detail=f"height {height} is below the base and needed")
        at = (height - self._base.height) * HEADER_BYTES + TIME_AT
        time_s, bits = TIME_AND_BITS.unpack_from(self._raws, at)
        return time_s, bits

    def _is_active(self, entry: Entry) -> bool:
        return entry is self.tip or self.hash_at(entry.height) == entry.hash

    def _keep(self, entry: Entry) -> None:
        self._entries[entry.hash] = entry
        active = min(self.tip.height - self._base.height + 1, FORK_DEPTH_MAX)
        if len(self._entries) > active + SIDE_HEADERS_MAX:
            self._forget_sides(self.tip.height - FORK_DEPTH_MAX)
            if not self.knows(entry.prev):
                raise Invalid("too-many-side-headers", detail=f"more than {SIDE_HEADERS_MAX} off the best chain")
            self._entries[entry.hash] = entry

    def _forget_sides(self, floor: int) -> None:
        """Keep what is on the best chain and not too deep."""
        self._entries = {
            name: entry for name, entry in self._entries.items() if entry.height > floor and self._is_active(entry)
        }

    def _activate(self, entry: Entry) -> None:
        """Make a branch the best chain."""
        path = [entry]
        while not self._is_active(parent := self._entries[path[-1].prev]):
            path.append(parent)
        self.same_up_to = min(self.same_up_to, parent.height)
        self.deepest_fork = max(self.deepest_fork, self.tip.height - parent.height)
        del self._raws[(parent.height + 1 - self._base.height) * HEADER_BYTES :]
        for step in reversed(path):
            self._raws += step.raw
        self.tip = entry
        too_deep = self.hash_at(entry.height - FORK_DEPTH_MAX)
        if too_deep is not None:
            self._entries.pop(too_deep, None)

    # below the last checkpoint

    def _link(self, headers: Sequence[RawHeader]) -> int:
        """Take headers by their links alone, up to the last checkpoint; returns how many."""
        last, height, work, raws = self.tip.hash, self.tip.height, self.tip.work, []
        for item in headers[: self.linked_to - height]:
            raw = item.raw
            if raw[4:36] != last:
                if height == self.tip.height:
                    raise Unconnected
                raise Invalid("bad-link", detail=f"after height {height}")
            last, height = sha256d(raw), height + 1
            work += _work_of(int.from_bytes(raw[72:76], "little"))
            raws.append(raw)
            if self._marks.get(height, last) != last:
                self.forget_unproven()
                raise Invalid("checkpoint-mismatch", detail=f"height {height}")
        self._raws += b"".join(raws)
        self.tip = _entry(raws[-1], last, height, work) if raws else self.tip
        self._entries = {self.tip.hash: self.tip}
        self._passed = max([mark for mark in self._marks if mark <= height], default=self._passed)
        return len(raws)

    def forget_unproven(self) -> None:
        """Go back to the last checkpoint that was met: what came after it may be anything."""
        if self.tip.height >= self.linked_to:
            return
        kept = bytes(self._raws[: (self._passed + 1 - self._base.height) * HEADER_BYTES])
        self.same_up_to = min(self.same_up_to, self._passed)
        self._raws = bytearray(b"".join(self._base.headers))
        self._passed = self._base.height + len(self._base.headers) - 1
        self._start_from(self._base.headers, self._base.work)
        self.restore(kept[len(self._raws) :])

    def restore(self, raws: bytes) -> int:
        """Take headers that were judged before and kept since, up to the first broken link; returns how many.

        They are this wallet's own file: work and difficulty are not judged anew, links and checkpoints are.
        """
        last, height, work = self.tip.hash, self.tip.height, self.tip.work
        start, met = height, self._passed
        for at in range(0, len(raws) - HEADER_BYTES + 1, HEADER_BYTES):
            raw = raws[at : at + HEADER_BYTES]
            name = sha256d(raw)
            if raw[4:36] != last or self._marks.get(height + 1, name) != name:
                break
            last, height = name, height + 1
            work += _work_of(int.from_bytes(raw[72:76], "little"))
            met = height if height in self._marks else met
        count = height - start
        self._raws += raws[: count * HEADER_BYTES]
        self._passed = met
        recent = [self.raw_at(at) for at in range(max(self._base.height, height - FORK_DEPTH_MAX + 1), height + 1)]
        self._start_from(recent, work)
        return count


def _entry(raw: bytes, name: bytes, height: int, work: int) -> Entry:
    time_s, bits = TIME_AND_BITS.unpack_from(raw, TIME_AT)
    return Entry(name, raw[PREV_AT : PREV_AT + 32], raw, height, work, time_s, bits)


def _proof_of(item: RawHeader) -> AuxPow | None:
    if not item.proof:
        return None
    reader = Reader(item.proof)
    try:
        proof = read_auxpow(reader)
        reader.finish()
    except DecodeError as error:
        raise Invalid("bad-auxpow", detail=str(error)) from error
    return proof
