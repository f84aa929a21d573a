"""What the peer did on a connection, as the mux tells it."""

from __future__ import annotations

import msgspec


class Asked(msgspec.Struct, frozen=True):
    """The peer opened a stream, filled it and ended its half, in one frame: a small call. Its bytes count as unread."""

    stream: int
    data: bytes


class Answered(msgspec.Struct, frozen=True):
    """The last frame, and mostly the only one, on a stream of ours of which we had said all: it is gone."""

    stream: int
    data: bytes


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


Event = Asked | Answered | Opened | Received | Finished | Dropped | Writable | GoingAway
