"""The arguments of an RPC call: by place or by name, each read with its type, each refusal saying what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.chain.wire import DecodeError, unshown

MISC_ERROR = -1
TYPE_ERROR = -3
NOT_FOUND = -5
INVALID_PARAMETER = -8
DESERIALIZATION_ERROR = -22
VERIFY_ERROR = -25
VERIFY_REJECTED = -26
ALREADY_IN_CHAIN = -27
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603
PARSE_ERROR = -32700


class RpcError(Exception):
    """A call is refused, with Core's code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Args:
    """The arguments of one call, in the order of the method's names."""

    def __init__(self, names: Sequence[str], given: object) -> None:
        """Put named arguments in their places.

        Raises:
            RpcError: too many, unknown names, or neither a list nor an object.
        """
        self._names = names
        if given is None:
            given = []
        if isinstance(given, dict):
            unknown = given.keys() - set(names)
            if unknown:
                raise RpcError(INVALID_PARAMETER, f"Unknown named parameter {min(unknown)}; known: {', '.join(names)}")
            given = [given.get(name) for name in names]
        if not isinstance(given, list):
            raise RpcError(INVALID_REQUEST, "Params must be an array or object")
        if len(given) > len(names):
            raise RpcError(MISC_ERROR, f"at most {len(names)} arguments: {', '.join(names) or 'none'}")
        self._given = given + [None] * (len(names) - len(given))

    def any(self, at: int) -> Any:
        """The argument as it came; None when left out."""
        return self._given[at]

    def text(self, at: int) -> str:
        """A string, which may not be left out."""
        value = self._given[at]
        if not isinstance(value, str):
            raise self._expected(at, "a string")
        return value

    def whole(self, at: int, default: int | None = None) -> int:
        """A whole number that is not negative."""
        value = self._given[at] if self._given[at] is not None else default
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._expected(at, "a whole number, not negative")
        return value

    def flag(self, at: int, *, default: bool) -> bool:
        """True or false; the numbers 0 and 1 do as well."""
        value = self._given[at] if self._given[at] is not None else default
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise self._expected(at, "true or false")
        return bool(value)

    def hash(self, at: int) -> bytes:
        """A hash as people write it, in wire order."""
        try:
            return unshown(self.text(at))
        except DecodeError as error:
            raise RpcError(INVALID_PARAMETER, f"{self._names[at]}: {error}") from error

    def hex(self, at: int) -> bytes:
        """Bytes in hexadecimal."""
        try:
            return bytes.fromhex(self.text(at))
        except ValueError as error:
            raise RpcError(DESERIALIZATION_ERROR, f"{self._names[at]} must be hexadecimal") from error

    def _expected(self, at: int, what: str) -> RpcError:
        return RpcError(TYPE_ERROR, f"argument {at + 1} ({self._names[at]}) must be {what}")
