"""What a call may cost, and how it comes about: fixed, up to a limit, or by a meter. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from common.channel_messages import Pricing
from common.errors import CallerMistake
from common.units import Florins, format_flop, parse_flop


class BadPrice(CallerMistake):
    """{text!r} is no price: {reason}."""

    code = 3152
    key = "bad-price"


@dataclass(frozen=True)
class Price:
    """`florins` is the whole of a fixed price, the most of `upto`, and what a metered call begins with."""

    florins: Florins
    pricing: Pricing = Pricing.FIXED


def price_of(text: str | Price, pricing: str = "fixed") -> Price:
    """The price that a person wrote in FLOP, such as `0.5`.

    Raises:
        BadPrice: it is none, or nothing, or of no kind.
    """
    if isinstance(text, Price):
        return text
    try:
        florins, kind = parse_flop(text), Pricing(pricing)
    except ValueError as error:
        raise BadPrice(text=f"{text} {pricing}", reason=str(error)) from error
    if florins < 1:
        raise BadPrice(text=text, reason="a price is at least one florin; what is free is named as free and has none")
    return Price(florins, kind)


@dataclass(frozen=True)
class Prices:
    """The prices of a proxy: by the longest prefix of the path; a prefix that names none is free."""

    default: Price | None
    by_prefix: Mapping[str, Price | None]

    def of(self, path: str) -> Price | None:
        """What a path costs; None: nothing."""
        return self.by_prefix.get(self.prefix_of(path), self.default)

    def prefix_of(self, path: str) -> str:
        """The longest named prefix that a path lies under; `/` when none is."""
        return max((prefix for prefix in self.by_prefix if is_under(path, prefix)), key=len, default="/")


def is_under(path: str, prefix: str) -> bool:
    """Whether a path is the prefix or lies below it; `/a` is not above `/ab`."""
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")


def prices_of(default: str, pricing: str, special: Mapping[str, str], free: tuple[str, ...]) -> Prices:
    """The prices as the command line gives them.

    Raises:
        BadPrice: one of them is none.
    """
    named = {prefix: price_of(text, pricing) for prefix, text in special.items()}
    for prefix in (*named, *free):
        if not prefix.startswith("/"):
            raise BadPrice(text=prefix, reason="a path begins with /")
    return Prices(price_of(default, pricing), named | dict.fromkeys(free))


class Unit(StrEnum):
    """What a meter counts: parts as they come, their bytes, or the time that the answer takes."""

    PART = "part"
    KIB = "KiB"
    SECOND = "s"


@dataclass(frozen=True)
class Rate:
    """So much for each unit."""

    florins: Florins
    unit: Unit

    def cost(self, *, parts: int, sent_bytes: int, elapsed_ms: int) -> Florins:
        """What an answer costs that has come so far; a florin that has begun counts."""
        if self.unit is Unit.PART:
            return Florins(parts * self.florins)
        units, whole = (sent_bytes, 1024) if self.unit is Unit.KIB else (elapsed_ms, 1_000)
        return Florins(-(-units * self.florins // whole))


def rate_of(text: str) -> Rate:
    """The rate that a person wrote, such as `0.0001/KiB`, `0.01/part` or `0.001/s`.

    Raises:
        BadPrice: it is none.
    """
    flop, _, unit = text.partition("/")
    if unit not in tuple(Unit):
        raise BadPrice(text=text, reason="write FLOP/part, FLOP/KiB or FLOP/s")
    return Rate(price_of(flop).florins, Unit(unit))


def says(price: Price) -> str:
    """A price for people."""
    words = {Pricing.FIXED: "", Pricing.UPTO: "at most ", Pricing.METERED: "by the meter, from "}
    return f"{words[price.pricing]}{format_flop(price.florins)} FLOP"
