"""A metered answer that leaves in parts while it is made: who reads it, from which byte on, and what a repeat gets.

Promises: a part is seen only after its price was covered; a reader that is gone stops nobody, and the same header with
`PAYMENT-STREAM: N` goes on after the N bytes that its caller has. A streamed answer bears no PAYMENT-RESPONSE, for what
it costs is not known yet: the repeat after its end brings that, with the bytes that are missing. Source:
channel_protocol.md §6, docs/selling-http.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from dux_pay.answers import BODY_BYTES_MAX, TYPE_DEFAULT, Headers
from dux_pay.headers import RESPONSE

STREAM = "PAYMENT-STREAM"
HAD_CHARS_MAX = 9
ERRORS_FROM = 400


@dataclass
class Parts:
    """What of an answer was covered and may leave. `ended`: no more will come."""

    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    kind: str = TYPE_DEFAULT  # content type of the whole
    read_to: int = 0  # so many bytes have gone to a reader
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def has_room(self, part: bytes) -> bool:
        """Whether the answer can still be kept with this part."""
        return len(self.data) + len(part) <= BODY_BYTES_MAX

    async def put(self, part: bytes) -> None:
        """One more part."""
        async with self._changed:
            self.data += part
            self._changed.notify_all()

    async def end(self) -> None:
        """No more."""
        async with self._changed:
            self.ended = True
            self._changed.notify_all()

    async def begun(self) -> bool:
        """Wait for the first part or the end; whether there is any part."""
        await self._beyond(0)
        return bool(self.data)

    async def taken(self, within_s: float) -> bool:
        """Wait until a reader has all of it; whether one has."""
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self.read_to >= len(self.data))
        except TimeoutError:
            return False
        return True

    async def _beyond(self, had: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.data) > had or self.ended)

    async def read(self, had: int) -> AsyncIterator[bytes]:
        """Everything after so many bytes, as it comes."""
        while True:
            await self._beyond(had)
            if len(self.data) <= had:
                return
            part = bytes(self.data[had:])
            had += len(part)
            yield part
            async with self._changed:
                self.read_to = max(self.read_to, had)
                self._changed.notify_all()


def had_of(text: str | None) -> int | None:
    """How many bytes the caller says it has; None: it wants the answer in one piece."""
    if text is None or len(text) > HAD_CHARS_MAX or not (text.isascii() and text.isdecimal()):
        return None
    return int(text)


def streamed_headers(parts: Parts, had: int) -> Headers:
    """Of an answer that leaves in parts, from this byte on."""
    return (STREAM, str(had)), ("Cache-Control", "no-store, no-transform"), ("Content-Type", parts.kind)


def rest_of(status: int, headers: Headers, body: bytes, had: int | None) -> tuple[Headers, bytes]:
    """A settled answer without the bytes that its caller has; whole where that cannot be.

    An error is always whole: the parts of a call whose program died are credited, and belong to no answer.
    """
    settled = any(name == RESPONSE.lower() for name, _ in headers)
    if had is None or not settled or had > len(body) or status >= ERRORS_FROM:
        return headers, body
    return (*headers, (STREAM.lower(), str(had))), body[had:]
