"""What stands at the head of a stream: what is wanted, and in the other direction how it went.

Each head is a u16 length and a canonical msgpack array of at most 1 KiB; the body follows up to FIN. Pure.
Source: transport_identity.md §1.5 ([method, deadline_ms, headers]); the answer's head is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, TypeVar

from msgspec import Meta

from common.codec import Canon, canonical, from_canonical
from common.errors import (
    CODE_MAX,
    KEY_CHARS_MAX,
    BadParams,
    DuxError,
    FieldValue,
    RemoteFailure,
    RemoteNotNow,
    may_repeat,
)
from dux_p2pd.papers import Headers
from dux_p2pd.wire_errors import FramingBroken, MessageTooLong
from dux_p2pd.wire_limits import HEAD_BYTES

T = TypeVar("T", bound=Canon)

HEADS_KEPT = 256  # heads of at most 1 KiB each; the calls of a node differ little in method and deadline
_LENGTH_BYTES = 2
_DETAIL_CHARS = 200  # of an error's text that travels; at most 4 bytes each


class RequestHead(Canon, frozen=True):
    """First bytes of a stream."""

    method: Annotated[str, Meta(min_length=1, max_length=64)]
    deadline_ms: Annotated[int, Meta(ge=1, le=600_000)]
    headers: Headers


class AnswerHead(Canon, frozen=True):
    """First bytes in return: code 0 and the body follows, or an error and nothing else."""

    code: Annotated[int, Meta(ge=0, le=CODE_MAX)]
    key: Annotated[str, Meta(max_length=KEY_CHARS_MAX)]
    detail: Annotated[str, Meta(max_length=_DETAIL_CHARS)]
    retry: bool  # the same call may go well later; told beside the code, which the other side may not know


@lru_cache(HEADS_KEPT)
def request_head(method: str, deadline_s: float, headers: Headers) -> bytes:
    """The head's bytes.

    Raises:
        MessageTooLong: method and headers pass 1 KiB.
    """
    return _framed(RequestHead(method=method, deadline_ms=max(1, int(deadline_s * 1000)), headers=headers))


@lru_cache(1)
def answer_ok() -> bytes:
    """The head of an answer that went well."""
    return _framed(AnswerHead(code=0, key="", detail="", retry=False))


def answer_error(error: DuxError) -> bytes:
    """The whole answer for an error: its number, its key, the start of its text, whether to repeat the call.

    An error of a daemon that this program does not know goes out as that daemon said it.
    """
    code, key, text = error.code, error.key, error.message
    if isinstance(error, RemoteFailure | RemoteNotNow):
        code, key, text = _as_told(error.fields)
    return _framed(AnswerHead(code=code, key=key, detail=text[:_DETAIL_CHARS], retry=may_repeat(error)))


def _as_told(fields: Mapping[str, FieldValue]) -> tuple[int, str, str]:
    code, key, text = (fields.get(name) for name in ("remote_code", "remote_key", "text"))
    return code if isinstance(code, int) else RemoteFailure.code, str(key), str(text)


def head_in(data: bytes | bytearray, kind: type[T]) -> tuple[T, int] | None:
    """The head at the front of these bytes, and where it ends; None while it is incomplete.

    Raises:
        FramingBroken: longer than 1 KiB, or not such a head.
    """
    if len(data) < _LENGTH_BYTES:
        return None
    end = _LENGTH_BYTES + (data[0] << 8 | data[1])
    if end > _LENGTH_BYTES + HEAD_BYTES:
        raise FramingBroken(reason=f"a head of {end - _LENGTH_BYTES} bytes, {HEAD_BYTES} are allowed")
    if len(data) < end:
        return None
    return _decoded(bytes(data[_LENGTH_BYTES:end]), kind), end


@lru_cache(HEADS_KEPT)
def _decoded(data: bytes, kind: type[T]) -> T:
    """The head in these bytes.

    Raises:
        FramingBroken: not such a head.
    """
    try:
        return from_canonical(data, kind, max_bytes=HEAD_BYTES)
    except BadParams as error:
        raise FramingBroken(reason=f"a head that does not decode: {error.message}") from error


def _framed(head: Canon) -> bytes:
    data = canonical(head)
    if len(data) > HEAD_BYTES:
        raise MessageTooLong(limit_bytes=HEAD_BYTES, found_bytes=len(data))
    return len(data).to_bytes(_LENGTH_BYTES) + data
