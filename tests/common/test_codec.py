"""Laws of the two encodings and of amounts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.codec import Canon, Wire, canonical, from_canonical, from_json, json_bytes
from common.errors import BadParams
from common.units import FLOP, MONEY_MAX_FLORINS, Florins, format_flop, parse_flop, parse_florins, tax_of

AMOUNTS = st.integers(0, MONEY_MAX_FLORINS)


class Inner(Canon, frozen=True):
    amount: Florins
    name: str


class Outer(Canon, frozen=True):
    data: bytes
    inner: tuple[Inner, ...]


class View(Wire, frozen=True):
    amount_florins: Florins
    data: bytes = b""


@given(st.binary(max_size=40), st.lists(st.tuples(AMOUNTS, st.text(max_size=8)), max_size=4))
def test_canonical_bytes_come_back_as_they_were(data: bytes, inner: list[tuple[int, str]]) -> None:
    """decode(encode(x)) = x, with amounts as florins again."""
    value = Outer(data=data, inner=tuple(Inner(amount=Florins(a), name=n) for a, n in inner))
    again = from_canonical(canonical(value), Outer, max_bytes=10_000)
    assert again == value
    assert all(type(item.amount) is Florins for item in again.inner)


@given(st.binary(max_size=60))
def test_no_second_form_is_accepted(data: bytes) -> None:
    """Whatever decodes at all is already in the one form."""
    try:
        value = from_canonical(data, Inner, max_bytes=60)
    except BadParams:
        return
    assert canonical(value) == data


@pytest.mark.parametrize(
    "data",
    [
        canonical(Inner(amount=Florins(1), name="a")) + b"\0",  # trailing byte
        b"\x92\xcc\x01\xa1a",  # 1 as a two-byte integer
        b"\x93\x01\xa1a\x01",  # one element too many
        b"\x91\x01",  # one too few
        b"\x92\x01\xd9\x01a",  # the string's length in the long form
        b"\x92\xc3\xa1a",  # true for an integer
        b"\x92\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xa1a",  # 1.0 for an integer
        b"",
    ],
)
def test_other_forms_are_refused(data: bytes) -> None:
    """Trailing bytes, long integers, wrong counts, booleans and floats for integers: refused."""
    with pytest.raises(BadParams):
        from_canonical(data, Inner, max_bytes=100)


def test_size_is_checked_before_anything_is_parsed() -> None:
    """A body above its limit is refused unread."""
    with pytest.raises(BadParams, match="50 are allowed"):
        from_canonical(b"\xff" * 51, Inner, max_bytes=50)


@given(AMOUNTS)
def test_amounts_are_decimal_strings_in_json(amount: int) -> None:
    """JSON never shows an amount as a number, so no reader can take it for a double."""
    text = json_bytes(View(amount_florins=Florins(amount)))
    assert msgspec.json.decode(text)["amount_florins"] == str(amount)
    assert from_json(text, View).amount_florins == amount


@pytest.mark.parametrize(
    "text", ["1", "1.0", '"1e9"', '"01"', '"+1"', '" 1"', '"-0"', "true", "null", '"1000000000000000001"']
)
def test_no_other_form_of_an_amount_is_read(text: str) -> None:
    """Numbers, exponents, signs, spaces, leading zeros and more than all coins: refused with the field's path."""
    with pytest.raises(BadParams, match="amount_florins"):
        from_json(f'{{"amount_florins": {text}}}', View)


@given(AMOUNTS)
def test_flop_text_round_trips(amount: int) -> None:
    """What a person reads can be typed back."""
    assert parse_flop(format_flop(amount)) == amount


@pytest.mark.parametrize("text", ["", "1,5", "1.123456789", "-1", "1e3", "0x10", ".5", "1.", "99999999999"])
def test_flop_text_of_other_forms_is_refused(text: str) -> None:
    """Amounts that could be misread are refused with an example of the right form."""
    with pytest.raises(ValueError, match=r"10\.5|more than the coin has"):
        parse_flop(text)


@given(st.integers(0, 10**15), st.integers(0, 1000))
def test_tax_and_the_rest_are_the_gross(gross: int, bps: int) -> None:
    """Nothing is lost in rounding: the fund's part is rounded down, the provider has the rest."""
    tax = tax_of(gross, bps)
    assert 0 <= tax <= gross
    assert tax * 10_000 <= gross * bps < (tax + 1) * 10_000


def test_five_percent_of_ten_is_a_half() -> None:
    """The example of the specification: 9.5 to the provider, 0.5 to the fund."""
    assert tax_of(10 * FLOP, 500) == FLOP // 2


@pytest.mark.parametrize("value", [1.0, True, "1", 10**18 + 1])
def test_florins_refuse_what_no_amount_is(value: object) -> None:
    """A float, a bool, a string and more coins than exist cannot become an amount."""
    with pytest.raises((TypeError, ValueError)):
        Florins(value)  # type: ignore[arg-type]


def test_parse_florins_refuses_a_float_text() -> None:
    """Florins are whole."""
    with pytest.raises(ValueError, match="decimal string"):
        parse_florins("1.5")


def test_deep_json_is_refused_with_a_clear_error() -> None:
    """Nesting without end is an error of the caller, not of the daemon."""
    with pytest.raises(BadParams):
        from_json(b'{"amount_florins":' + b"[" * 200_000, View)
