"""What the peer did on a connection, as the mux tells it."""

from __future__ import annotations

import msgspec


class Opened(msgspec.Struct, frozen=True):
    """The peer opened a stream."""

    stream: int


class Received(msgspec.Struct, frozen=True):
    """Bytes came on a stream; they count as unread until `consumed`."""

    stream: int
    data: bytes


class Finished(msgspec.Struct, frozen=True):
    """The peer will send no more on this stream."""

    stream: int


class Dropped(msgspec.Struct, frozen=True):
    """The peer reset the stream; `refused` when it never acknowledged it, so that nothing was executed."""

    stream: int
    refused: bool


class Writable(msgspec.Struct, frozen=True):
    """The stream has credit again."""

    stream: int


class GoingAway(msgspec.Struct, frozen=True):
    """The peer takes no new streams."""

    code: int


Event = Opened | Received | Finished | Dropped | Writable | GoingAway
