"""Every kind of refusal and blame has a number in /metrics. That each is counted where it happens, its attack shows."""

from __future__ import annotations

import pytest

from dux_p2pd import scores
from dux_p2pd.abuse import BLAMED, Abuse, AbuseCounts
from dux_p2pd.gate import Gate, Refusal
from dux_p2pd.wire_counts import WireCounts
from dux_p2pd.wire_limits import NET_BURST, NET_HALF_OPEN


def refusals(gate: Gate, net: str, count: int) -> list[Refusal | None]:
    return [gate.admit(net, 0.0) for _ in range(count)]


def test_the_gate_names_each_reason() -> None:
    """Banned, too many at once of all and of one net, too many in a short time."""
    gate = Gate()
    gate.bans.add("banned", 9.0)
    assert refusals(gate, "banned", 1) == [Refusal.BANNED]
    assert refusals(gate, "one", NET_HALF_OPEN + 1)[-1] is Refusal.HALF_OPEN_NET
    quick = Gate()
    for _ in range(int(NET_BURST)):
        assert quick.admit("quick", 0.0) is None
        quick.leave("quick")
    assert quick.admit("quick", 0.0) is Refusal.NET_RATE
    for number in range(64):
        gate.admit(f"net {number}", 0.0)
    assert gate.admit("late", 0.0) is Refusal.HALF_OPEN


@pytest.mark.parametrize("why", Refusal)
def test_each_reason_of_the_gate_has_a_number(why: Refusal) -> None:
    """Its own, and the sum."""
    count = WireCounts()
    count.refused(why)
    told = {name: value() for name, value in count.gauges().items() if value()}
    assert told == {"wire_gate_refused": 1, f"wire_gate_{why.name.lower()}": 1}


def test_each_kind_has_a_number_and_each_blame_a_kind() -> None:
    """Whoever adds a weight of blame has to name it here: weights are told apart by their values."""
    weights = [value for name, value in vars(scores).items() if name.startswith("BLAME_")]
    assert sorted(BLAMED) == sorted(weights)
    counts = AbuseCounts()
    for kind in Abuse:
        counts.add(kind)
    for weight in weights:
        counts.blamed(weight)
    told = {name: value() for name, value in counts.gauges().items()}
    assert told == {f"abuse_{kind}": 2 if kind in BLAMED.values() else 1 for kind in Abuse}
