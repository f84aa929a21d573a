"""Draws by beacon: who is chosen for a duty about somebody, weighted, without anybody's say.

Every candidate gets a ticket from beacon, duty, subject and its own name; the lowest tickets win, where a candidate of
twice the weight wins twice as often (exponential races). Views of the network that differ in a few candidates draw
nearly the same names, because tickets do not depend on who else stands. Integers only: every machine draws alike.

At most one of a network neighbourhood (IPv4 /24, IPv6 /48) is chosen, and none of the subject's own. All whose network
nobody has seen are one neighbourhood together: else whoever showed none could fill every seat. So are all that are seen
in private networks, where addresses are anybody's choice, unless nobody at all is seen in a public one (one house or
machine): there each counts by itself.

Whoever was not known at `fixed_at`, well below the draw's block, takes only seats that those who were leave free: names
made to fit a beacon win nothing.

Source: mechanisms.md §2.4.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.identity.purposes import Purpose
from common.identity.tagged import tagged
from common.nets import UNSEEN, net_of
from common.race import arrival
from common.units import Did

PRIVATE = "private"  # a network that, like UNSEEN, many share one seat of
BASE_WEIGHT_FLORINS = 5_000_000  # 0.05 FLOP: what a node without any trade weighs, as in Q


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who may be drawn."""

    did: Did
    weight: int  # ω in florins; the base weight is added
    net: str  # its neighbourhood; empty: not known, as of all others of whom it is not
    since: int = 0  # height of the first that was witnessed of it


def known_net(told: str) -> str:
    """A neighbourhood as another node told it, if it is one of ours; else empty."""
    return told if told and net_of(told.partition("/")[0]) == told else UNSEEN


def commonest(nets: Iterable[str]) -> str:
    """The neighbourhood that most have seen; of equals the one that sorts first; empty when nobody has seen any."""
    counted = Counter(net for net in nets if net)
    return min(counted, key=lambda net: (-counted[net], net), default=UNSEEN)


def neighbourhoods(nets: Mapping[Did, str]) -> dict[Did, str]:
    """Whose seat each node takes: private networks are one, unless nobody is seen in a public one."""
    private = {net for net in nets.values() if net and not ipaddress.ip_network(net).is_global}
    if all(net in private for net in nets.values() if net):
        return dict(nets)
    return {did: PRIVATE if net in private else net for did, net in nets.items()}


def draw(
    beacon: bytes,
    duty: str,
    about: Did,
    candidates: Iterable[Candidate],
    count: int,
    *,
    apart: bool,
    own_net: str = UNSEEN,
    fixed_at: int = 0,
) -> tuple[Did, ...]:
    """The `count` chosen, first to last; fewer when there are not so many. `apart`: one per neighbourhood."""
    stem = hashlib.sha256(tagged(Purpose.DRAW, b"\x00".join((beacon, duty.encode(), about.encode()))))
    racers = sorted(
        (one.since > fixed_at, _time(stem, one), one.did, one.net) for one in candidates if one.did != about
    )
    chosen: list[Did] = []
    taken = {own_net} - {UNSEEN}
    for _, _, did, net in racers:
        if len(chosen) == count:
            break
        if apart and net in taken:
            continue
        chosen.append(did)
        taken.add(net)
    return tuple(chosen)


def _time(stem: hashlib._Hash, one: Candidate) -> tuple[int, bytes]:
    """When a candidate arrives: -log2(ticket) over weight, and the ticket for ties."""
    ticket = stem.copy()
    ticket.update(b"\x00" + one.did.encode())
    return arrival(ticket.digest(), one.weight + BASE_WEIGHT_FLORINS)
