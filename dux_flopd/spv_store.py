"""Keeps the headers of the best chain on the disk: 80 bytes each, in one file per starting point.

Promises: after a crash the file holds a chain that was whole once; a torn end is cut off when it is read; a file that
another starting point wrote is not touched. Knows no rule: what comes back is linked anew by its reader.
"""

from __future__ import annotations

import os
from pathlib import Path

from common.chain.wire import HEADER_BYTES
from common.errors import NotNow
from dux_flopd.spv_chain import Base, HeaderChain

FILE_BYTES_MAX = 1 << 30  # thirteen million headers: 25 years of main


class HeadersFull(NotNow):
    """The file of headers {path} is full: start from a newer checkpoint bundle."""

    code = 2130
    key = "headers-full"


class HeaderFile:
    """The headers above a base."""

    def __init__(self, folder: Path, base: Base, name: str) -> None:
        """`name`: of the starting block, so that another start has another file."""
        self._path = folder / f"headers-{name[:16]}.dat"
        self._first = base.height + len(base.headers)

    def load(self, chain: HeaderChain) -> int:
        """Give the chain what was kept, and cut off what does not link; returns how many headers that were."""
        if not self._path.exists():
            return 0
        if self._path.stat().st_size > FILE_BYTES_MAX:
            raise HeadersFull(path=str(self._path))
        count = chain.restore(self._path.read_bytes())
        os.truncate(self._path, count * HEADER_BYTES)
        chain.same_up_to = chain.tip.height
        return count

    def save(self, chain: HeaderChain) -> None:
        """Write what changed since the last time; nothing that no checkpoint has confirmed yet."""
        if not chain.is_proven:
            return
        keep_bytes = (chain.same_up_to + 1 - self._first) * HEADER_BYTES
        fresh = chain.raws_above(chain.same_up_to)
        if keep_bytes + len(fresh) > FILE_BYTES_MAX:
            raise HeadersFull(path=str(self._path))
        self._path.touch(mode=0o600)
        with self._path.open("r+b") as file:
            file.truncate(keep_bytes)
            file.seek(keep_bytes)
            file.write(fresh)
            file.flush()
            os.fsync(file.fileno())
        chain.same_up_to = chain.tip.height
