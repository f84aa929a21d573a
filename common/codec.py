"""One encoding for what is signed, one for what is read by people and programs.

Signed things are canonical msgpack: structs as arrays, no defaults, no floats, no maps with free keys; bytes are
accepted only if encoding what they decode to gives the same bytes. JSON-RPC and settings are JSON or YAML with named
fields. Both refuse unknown fields and wrong types with the path of the field.

Source: transport_identity.md §2.1, settled.md 8 and 10.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from common.errors import BadParams
from common.units import Florins, parse_florins

T = TypeVar("T")

HEX64 = "^[0-9a-f]{64}$"  # an id or a hash, as contracts write it


class Canon(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that is signed or hashed: fields in order, no defaults, no floats."""


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of RPC parameters, RPC results and settings: named fields."""


def _words(error: Exception) -> str:
    """What does not fit, for whoever has to mend it."""
    return str(error).replace(f"`str` matching regex '{HEX64}'", "64 hex digits")


def _to_msgpack(value: object) -> object:
    if isinstance(value, Florins):
        return int(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _from_msgpack(kind: type, value: object) -> object:
    if kind is Florins and type(value) is int:
        return Florins(value)
    raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")


def _to_json(value: object) -> object:
    if isinstance(value, Florins):
        return str(int(value))
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _from_json(kind: type, value: object) -> object:
    if kind is Florins and isinstance(value, str):
        return parse_florins(value)
    raise ValueError(f"expected a decimal string of florins, got {type(value).__name__}")


def canonical(value: Canon) -> bytes:
    """The one byte form of a canonical struct."""
    return msgspec.msgpack.encode(value, enc_hook=_to_msgpack)


def from_canonical(data: bytes, kind: type[T], *, max_bytes: int) -> T:
    """The struct in canonical bytes.

    Raises:
        BadParams: too long, not of this type, or not the one byte form of what it says.
    """
    if len(data) > max_bytes:
        raise BadParams(detail=f"{kind.__name__} has {len(data)} bytes, {max_bytes} are allowed")
    try:
        value = msgspec.msgpack.decode(data, type=kind, dec_hook=_from_msgpack)
        again = msgspec.msgpack.encode(value, enc_hook=_to_msgpack)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise BadParams(detail=f"{kind.__name__}: {error}") from error
    if again != bytes(data):
        raise BadParams(detail=f"{kind.__name__} is not in its canonical form")
    return value


def json_bytes(value: object) -> bytes:
    """The JSON form of any contract struct; amounts become decimal strings."""
    return msgspec.json.encode(value, enc_hook=_to_json)


def from_json(data: bytes | str, kind: type[T]) -> T:
    """The value in JSON text, of this type.

    Raises:
        BadParams: with the path of what does not fit.
    """
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_from_json)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadParams(detail=_words(error)) from error
    except RecursionError as error:
        raise BadParams(detail="nested too deeply") from error


def to_plain(value: object) -> Any:
    """Dicts, lists, strings and numbers as JSON would carry them; bytes become base64 text."""
    return msgspec.to_builtins(value, enc_hook=_to_json)


def from_plain(value: object, kind: type[T]) -> T:
    """The struct in plain JSON-like data.

    Raises:
        BadParams: with the path of what does not fit.
    """
    try:
        return msgspec.convert(value, kind, dec_hook=_from_json)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadParams(detail=_words(error)) from error
    except RecursionError as error:
        raise BadParams(detail="nested too deeply") from error
