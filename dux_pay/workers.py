"""Which of a node's selling programs still live: each holds a lock on a file of its own for as long as it lives.

Promise: a program that lives is never taken for dead, whatever container it is in; one that shares this folder and
died is seen as dead at once, for the kernel lets go of its lock. A name that has no file here says nothing. Programs
forked after the lock was taken share it: they are dead when the last of them is.
"""

from __future__ import annotations

import fcntl
import re
from contextlib import suppress
from pathlib import Path

from common.randomness import Randomness

FILES_MAX = 256
NAME = re.compile(r"[0-9a-f]{32}")


class Worker:
    """This program."""

    def __init__(self, folder: Path, randomness: Randomness) -> None:
        """Take a name and its lock; the oldest files of the dead make room."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)[: -FILES_MAX + 1]:
            if self.is_dead(path.name):
                path.unlink(missing_ok=True)
        self.name = randomness.bytes(16).hex()
        self._file = (folder / self.name).open("wb")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_dead(self, name: str) -> bool:
        """The program of this name has ended."""
        if not NAME.fullmatch(name):
            return False
        with suppress(OSError), (self._folder / name).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
        return False

    def close(self) -> None:
        """Let go: this program sells no more."""
        self._file.close()
