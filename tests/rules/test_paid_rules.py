"""How a call is paid, what binds request and response, and what cannot go over a channel."""

from __future__ import annotations

import msgspec
import pytest

from common.channel_messages import Outcome
from common.contracts.store import SERVICE_SHOW
from common.units import FLOP
from dux_taskd.paid_rules import PayBy, call_hash, fuelled, lease_over_hash, not_for_channel, output_hash, pay_by

SERVICE = msgspec.structs.replace(SERVICE_SHOW.example[1].service, kind="wasm", withdrawn=False)


def test_a_request_is_bound_whole() -> None:
    """Service, arguments, input and the caller's id: none can be another's."""
    base = call_hash("s", ("a",), b"x", "o" * 16)
    others = (("t", ("a",), b"x", "o" * 16), ("s", ("b",), b"x", "o" * 16), ("s", ("a",), b"y", "o" * 16),
              ("s", ("a",), b"x", "p" * 16))  # fmt: skip
    assert all(call_hash(*other) != base for other in others)
    assert len({output_hash(outcome, b"x") for outcome in Outcome}) == 3


def test_fuel_goes_up_by_periods_to_the_limit_and_no_further() -> None:
    """A step at a time; the last one is what is left of the limit."""
    assert [fuelled(now, 100, 250) for now in (100, 200, 250, 300)] == [200, 250, None, None]
    assert lease_over_hash() not in {output_hash(outcome, b"") for outcome in Outcome}


@pytest.mark.parametrize(
    ("wish", "price", "case", "way"),
    [
        ("escrow", 1, {}, PayBy.ESCROW),
        ("channel", 10 * FLOP, {}, PayBy.CHANNEL),
        ("auto", 1, {"checked": True}, PayBy.ESCROW),
        ("auto", 1, {"fits": False}, PayBy.ESCROW),
        ("auto", 1, {}, PayBy.CHANNEL),
        ("auto", FLOP, {"open_channel": True}, PayBy.CHANNEL),
        ("auto", FLOP, {}, PayBy.ESCROW),
        ("auto", 10 * FLOP, {"young_channel": True}, PayBy.ESCROW),
    ],
)
def test_channel_or_escrow(wish: str, price: int, case: dict[str, bool], way: PayBy) -> None:
    """As asked, or by what the call needs; the reason is always told."""
    chosen, why = pay_by(wish, price, **{"checked": False, "fits": True, "open_channel": False, **case})
    assert chosen is way
    assert why
    assert ("too young" in why) == ("young_channel" in case)


@pytest.mark.parametrize(
    ("change", "size"),
    [({"withdrawn": True}, 1), ({"kind": "check"}, 1), ({"provider": "did:me"}, 1), ({}, 262_145)],
)
def test_what_does_not_go_over_a_channel(change: dict[str, object], size: int) -> None:
    """Withdrawn, of another kind, one's own, or too large for a message."""
    assert not_for_channel(SERVICE, "did:me", 1) == ""
    assert not_for_channel(msgspec.structs.replace(SERVICE, **change), "did:me", size) != ""
