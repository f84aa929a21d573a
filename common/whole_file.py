"""A file that is there whole, or as it was before: also after a crash in the middle, and on a full disk."""

from __future__ import annotations

import os
from pathlib import Path

UNFINISHED = ".part"
USUAL_MODE = 0o666  # less what the process's umask takes away


def write_whole(path: Path, data: bytes, *, mode: int = USUAL_MODE) -> None:
    """Write a neighbour with these rights, have it on the disk, and put it in the file's place."""
    unfinished = path.with_name(path.name + UNFINISHED)
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
