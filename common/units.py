"""Units as types: money in florins, time in milliseconds, places by height.

Money is an integer number of florins (1 FLOP = 10^8). A float never touches an amount. In JSON an amount is a decimal
string; in signed bytes it is an integer; for people it is FLOP with up to eight decimals. No other form exists.
"""

from __future__ import annotations

import re
from typing import NewType, Self

UnixMs = NewType("UnixMs", int)
BlockHeight = NewType("BlockHeight", int)
Did = NewType("Did", str)
Hash32 = NewType("Hash32", bytes)

FLOP = 100_000_000
MONEY_MAX_FLORINS = 10**18  # the coin's MAX_MONEY: 10^10 FLOP
BPS = 10_000

_FLOP_TEXT = re.compile(r"(\d{1,11})(?:\.(\d{1,8}))?")
_FLORIN_TEXT = re.compile(r"0|-?[1-9]\d{0,18}")


class Florins(int):
    """An amount of coins, 10^-8 FLOP each. May be negative only as a difference."""

    __slots__ = ()

    def __new__(cls, value: int = 0) -> Self:
        """Refuse what no amount can be: a bool, a float, more than all coins there can be."""
        if type(value) is not int and not isinstance(value, Florins):
            raise TypeError(f"florins are integers, not {type(value).__name__}")
        if abs(value) > MONEY_MAX_FLORINS:
            raise ValueError(f"{value} florins are more than the coin has")
        return super().__new__(cls, value)

    def __add__(self, other: int) -> Florins:
        return Florins(int(self) + int(other))

    __radd__ = __add__

    def __sub__(self, other: int) -> Florins:
        return Florins(int(self) - int(other))

    def __repr__(self) -> str:
        return f"Florins({int(self)})"


def parse_florins(text: str) -> Florins:
    """The amount in a JSON string, in florins.

    Raises:
        ValueError: not the one decimal form (no sign but minus, no leading zeros, no exponent, no spaces).
    """
    if not _FLORIN_TEXT.fullmatch(text):
        raise ValueError(f"expected a decimal string of florins, got {text!r}")
    return Florins(int(text))


def parse_flop(text: str) -> Florins:
    """The amount a person wrote in FLOP, such as `10.5`.

    Raises:
        ValueError: not digits with at most eight decimals.
    """
    match = _FLOP_TEXT.fullmatch(text.strip())
    if not match:
        raise ValueError(f"write an amount in FLOP with up to eight decimals, such as 10.5, not {text!r}")
    whole, decimals = match.group(1), (match.group(2) or "").ljust(8, "0")
    return Florins(int(whole) * FLOP + int(decimals))


def format_flop(florins: int) -> str:
    """The amount as a person reads it: `10.5`, no trailing zeros."""
    sign, whole, rest = "-" if florins < 0 else "", *divmod(abs(int(florins)), FLOP)
    decimals = f"{rest:08d}".rstrip("0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def tax_of(gross: int, tax_bps: int) -> Florins:
    """The community fund's part of a gross amount, rounded down; the rest is the provider's."""
    return Florins(int(gross) * tax_bps // BPS)
