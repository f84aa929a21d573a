"""yamux v0 frames as bytes: a 12-byte header, and a payload only for DATA.

Promise: any split of the same bytes gives the same frames, and a frame that could not be meant raises before its
payload is waited for. Knows no streams: what a frame does is mux's business.

Source: the yamux specification (header, types, flags), transport_identity.md §1.5 (DATA <= 16 KiB).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

import msgspec

from dux_p2pd.wire_errors import FramingBroken
from dux_p2pd.wire_limits import FRAME_BYTES

SYN, ACK, FIN, RST = 1, 2, 4, 8
_ALL_FLAGS = SYN | ACK | FIN | RST
_PLAIN_FLAGS = SYN | ACK | FIN  # DATA with bytes and no more than these is as it should be
_HEADER = struct.Struct(">BBHII")
HEADER_BYTES = _HEADER.size
_VERSION = 0


class Kind(IntEnum):
    """The four types of frame."""

    DATA = 0
    CREDIT = 1  # yamux: WINDOW_UPDATE
    PING = 2
    GO_AWAY = 3


DATA, CREDIT, PING, GO_AWAY = _KINDS = tuple(Kind)  # looking one up in the enum costs more than the rest of a frame


class Frame(msgspec.Struct, frozen=True):
    """`value` is the payload's length (DATA), the credit, the ping's number or the reason code."""

    kind: Kind
    flags: int
    stream: int
    value: int
    payload: bytes = b""


def encode(kind: Kind, flags: int, stream: int, value: int, payload: bytes | memoryview = b"") -> bytes:
    """The frame's bytes."""
    return header(kind, flags, stream, value) + payload


def header(kind: Kind, flags: int, stream: int, value: int) -> bytes:
    """The first twelve of them."""
    return _HEADER.pack(_VERSION, kind, flags, stream, value)


class FrameReader:
    """Turns the byte stream of a connection into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now; keeps at most one incomplete frame.

        Raises:
            FramingBroken: at the first header that cannot be meant.
        """
        data = self._rest + data if self._rest else data
        at, whole = 0, len(data)
        try:
            while whole - at >= HEADER_BYTES:
                version, kind, flags, stream, value = _HEADER.unpack_from(data, at)
                if version or kind or flags > _PLAIN_FLAGS or not stream or not 0 < value <= FRAME_BYTES:
                    _check_header(version, kind, flags, stream, value)
                end = body = at + HEADER_BYTES
                if not kind:  # DATA
                    end += value
                    if end > whole:
                        break
                at = end
                yield Frame(_KINDS[kind], flags, stream, value, data[body:end])
        finally:
            self._rest = data[at:]


def _check_header(version: int, kind: int, flags: int, stream: int, value: int) -> None:
    """What can be judged without knowing the streams.

    Raises:
        FramingBroken: with what is wrong.
    """
    if version != _VERSION or kind > GO_AWAY or flags & ~_ALL_FLAGS:
        raise FramingBroken(reason=f"unknown frame: version {version}, type {kind}, flags {flags:#x}")
    if (stream == 0) != (kind in (PING, GO_AWAY)):
        raise FramingBroken(reason=f"type {kind} on stream {stream}")
    if kind == DATA:
        _check_data(flags, value)
    elif kind == CREDIT:
        _check_credit(flags, value)
    elif flags not in ((SYN, ACK) if kind == PING else (0,)):
        raise FramingBroken(reason=f"type {kind} with flags {flags:#x}")


def _check_data(flags: int, length: int) -> None:
    if length > FRAME_BYTES:
        raise FramingBroken(reason=f"DATA of {length} bytes, {FRAME_BYTES} are allowed")
    if length == 0 and not flags:
        raise FramingBroken(reason="empty DATA")
    _check_reset(flags, length)


def _check_credit(flags: int, credit: int) -> None:
    if credit == 0 and not flags:
        raise FramingBroken(reason="empty credit")
    _check_reset(flags, credit)


def _check_reset(flags: int, value: int) -> None:
    if flags & RST and (value or flags & (SYN | FIN)):
        raise FramingBroken(reason="a reset with other content")
