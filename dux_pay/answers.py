"""What a paid handler answered, as it is hashed, stored and repeated; and where the large ones lie.

Promises: what is kept comes back byte for byte, or not at all. Only the headers named here belong to the answer that
was paid for: servers and proxies on the way add and change the others. Source: channel_protocol.md §5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from common.channel_messages import response_hash
from common.codec import Canon, canonical, from_canonical
from common.errors import DuxError
from common.whole_file import write_whole

KEPT_HEADERS = ("content-disposition", "content-language", "content-type", "location")
TYPE_DEFAULT = "application/octet-stream"
BODY_BYTES_MAX = 16 * 1024 * 1024
STORED_BYTES_MAX = BODY_BYTES_MAX + 64 * 1024
SHELF_BYTES_MAX = 256 * 1024 * 1024
SHELF_FILES_MAX = 4_096

Headers = tuple[tuple[str, str], ...]


class Answered(Canon, frozen=True):
    """A handler's answer, and when it was given (seconds since 1970)."""

    status: Annotated[int, Meta(ge=100, le=999)]
    headers: Headers
    body: bytes
    at_s: int

    @property
    def resp(self) -> bytes:
        """Its hash."""
        return response_hash(status=self.status, headers=self.headers, body_hash=hashlib.sha256(self.body).digest())


def kept_of(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers that belong to the answer, in one order."""
    kept = ((name.lower(), value.strip()) for name, value in headers)
    return tuple(sorted(pair for pair in kept if pair[0] in KEPT_HEADERS))


def typed(headers: Headers) -> Headers:
    """The kept headers with a content type: a server would put one in where there is none, unsigned."""
    named = any(name == "content-type" for name, _ in headers)
    return headers if named else tuple(sorted((*headers, ("content-type", TYPE_DEFAULT))))


def packed(answered: Answered) -> bytes:
    """The answer as it is stored."""
    return canonical(answered)


def unpacked(data: bytes) -> Answered:
    """The stored answer.

    Raises:
        BadParams: these are no stored answer's bytes.
    """
    return from_canonical(data, Answered, max_bytes=STORED_BYTES_MAX)


class Shelf:
    """Answers too large for the node's own books, by their hash; the oldest make room for new ones."""

    def __init__(self, folder: Path, bytes_max: int = SHELF_BYTES_MAX) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._bytes_max = bytes_max

    def put(self, answered: Answered) -> None:
        """Keep an answer: on the disk before this returns, so before its call counts as done."""
        data = packed(answered)
        self._make_room(len(data))
        write_whole(self._folder / answered.resp.hex(), data)

    def get(self, resp: bytes) -> Answered | None:
        """The answer of this hash, if it is still here and whole."""
        with suppress(OSError, DuxError):
            found = unpacked((self._folder / resp.hex()).read_bytes())
            return found if found.resp == resp else None
        return None

    def _make_room(self, size: int) -> None:
        files = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        held = sum(path.stat().st_size for path in files)
        while files and (held + size > self._bytes_max or len(files) >= SHELF_FILES_MAX):
            oldest = files.pop(0)
            held -= oldest.stat().st_size
            oldest.unlink()
