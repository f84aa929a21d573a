"""Whose claim leaves a full queue: what waits idly, then who takes most, by network and by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.nets import UNSEEN
from common.units import Did
from dux_registryd.queue_rules import who_leaves

NET, OTHER = "198.51.100.0/24", "203.0.113.0/24"
ME = Did("me")


def shares(*lines: tuple[str, str, int]) -> dict[str, Counter[str]]:
    """What each name has waiting, by its network."""
    found: dict[str, Counter[str]] = {}
    for name, net, count in lines:
        found.setdefault(net, Counter())[name] += count
    return found


def who(lines: Iterable[tuple[str, str, int, bool]], net: str) -> tuple[str, bool] | None:
    """Whose claim leaves for one of `ME`, and whether an idle one; lines: name, network, how many, idle."""
    by_idle = {wanted: shares(*(one[:3] for one in lines if one[3] is wanted)) for wanted in (True, False)}
    leaves = who_leaves(by_idle[True], by_idle[False], ME, net)
    assert leaves is None or by_idle[leaves.idle][leaves.net][leaves.teller] > 0
    return None if leaves is None else (leaves.teller, leaves.idle)


@pytest.mark.parametrize(
    ("waiting", "net", "leaves"),
    [
        # what was looked for goes first: those whom nobody has seen, then of the network with most the name with most
        ([("a", NET, 1, True), ("b", NET, 90, False)], OTHER, ("a", True)),
        ([("a", NET, 9, True), ("b", UNSEEN, 1, True)], UNSEEN, ("b", True)),
        ([("a", NET, 2, True), ("b", NET, 3, True), ("c", OTHER, 4, True)], OTHER, ("b", True)),
        ([("me", NET, 3, True)], NET, ("me", True)),
        # nothing was: whoever takes most, a network that others have seen before none
        ([("a", NET, 2, False), ("b", NET, 3, False), ("c", OTHER, 4, False)], "n", ("b", False)),
        ([("a", UNSEEN, 1, False), ("b", NET, 9, False)], NET, ("a", False)),
        ([("a", UNSEEN, 2, False), ("b", UNSEEN, 7, False), ("c", NET, 9, False)], NET, ("b", False)),
        ([("a", NET, 9, False)], UNSEEN, None),
        # within one's own network the same by names
        ([("a", NET, 3, False), ("b", NET, 2, False)], NET, ("a", False)),
        ([("a", UNSEEN, 3, False), ("me", UNSEEN, 1, False)], UNSEEN, ("a", False)),
        ([("a", UNSEEN, 1, False), ("b", UNSEEN, 1, False)], UNSEEN, None),
        ([("me", UNSEEN, 9, False)], UNSEEN, None),
        # nobody gives way to somebody who would then hold as much
        ([("a", NET, 2, False), ("me", OTHER, 1, False)], OTHER, None),
        ([], NET, None),
    ],
)
def test_who_leaves(waiting: list[tuple[str, str, int, bool]], net: str, leaves: tuple[str, bool] | None) -> None:
    """Each rule by itself, and what comes first of two."""
    assert who(waiting, net) == leaves


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", NET, OTHER]), st.integers(1, 9))), st.data())
def test_a_name_in_a_network_of_its_own_is_let_in(lines: list[tuple[str, str, int]], data: st.DataObject) -> None:
    """Unless as many networks as there are places hold one each, whoever else fills the queue, with any names."""
    idle = data.draw(st.booleans())
    by_net = {net: names.total() for net, names in shares(*lines).items()}
    leaves = who([(*one, idle) for one in lines], "192.0.2.0/24")
    assert (leaves is not None) == any(idle or net == UNSEEN or count > 1 for net, count in by_net.items())
