"""Draws by beacon: who is chosen for a duty about somebody, weighted, without anybody's say.

Every candidate gets a ticket from beacon, duty, subject and its own name; the lowest tickets win, where a candidate of
twice the weight wins twice as often (exponential races). Views of the network that differ in a few candidates draw
nearly the same names, because tickets do not depend on who else stands. Integers only: every machine draws alike.

At most one of a network neighbourhood (IPv4 /24, IPv6 /48) is chosen, and none of the subject's own. All whose address
nobody knows are one neighbourhood together: else whoever told none could fill every seat.

Source: mechanisms.md §2.4.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from common.identity.purposes import Purpose
from common.identity.tagged import tagged
from common.race import arrival
from common.units import Did

BASE_WEIGHT_FLORINS = 5_000_000  # 0.05 FLOP: what a node without any trade weighs, as in Q


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who may be drawn."""

    did: Did
    weight: int  # ω in florins; the base weight is added
    net: str  # its neighbourhood; empty: not known, as of all others of whom it is not


def net_of(address: str) -> str:
    """The /24 of an IPv4 address, the /48 of an IPv6 one; empty for none."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))  # noqa: PLR2004 - versions of IP


def draw(
    beacon: bytes, duty: str, about: Did, candidates: Iterable[Candidate], count: int, *, apart: bool, own_net: str = ""
) -> tuple[Did, ...]:
    """The `count` chosen, first to last; fewer when there are not so many. `apart`: one per neighbourhood."""
    stem = hashlib.sha256(tagged(Purpose.DRAW, b"\x00".join((beacon, duty.encode(), about.encode()))))
    racers = sorted((_time(stem, one), one.did, one.net) for one in candidates if one.did != about)
    chosen: list[Did] = []
    taken = {own_net} - {""}
    for _, did, net in racers:
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
