"""Whose claim leaves when as many wait for the chain as may, and one more comes. Pure.

What was looked for and waits all the same (its payment is not on the chain, or others have to speak) leaves before what
nobody has looked for yet: an honest receipt is told when its payment lies deep, so it is looked at once and waits no
more, and junk waits. Else whoever takes most gives way, by networks (/24, /48) first and within one by names, for names
are free; all whom nobody has seen anywhere share one network, and go before others.

What leaves is forgotten, not refused: told again it is as new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from common.nets import UNSEEN
from common.room_rules import who_gives_way
from common.units import Did

Shares = Mapping[str, Counter[str]]  # how many claims each name has waiting, under the network that it is seen in


@dataclass(frozen=True, slots=True)
class Leaves:
    """Whose claim leaves: of the idle ones the one that is so longest, else the newest."""

    teller: str
    net: str
    idle: bool


def who_leaves(idle: Shares, fresh: Shares, teller: Did, net: str) -> Leaves | None:
    """Who makes room for one more claim of a name in this network; None: nobody, it is not kept.

    `idle`: what was looked for and waits all the same; `fresh`: all else. No name without a claim stands in either.
    """
    sizes = {name: names.total() for name, names in (idle or fresh).items()}
    if idle:
        most = max(sizes, key=lambda name: (name == UNSEEN, sizes[name], name))
        return Leaves(_most(idle[most]), most, idle=True)
    giver = who_gives_way(sizes, net, 1, known={*sizes, net} - {UNSEEN})
    if giver is not None:
        return Leaves(_most(fresh[giver]), giver, idle=False)
    name = who_gives_way(fresh.get(net, {}), teller, 1)
    return None if name is None else Leaves(name, net, idle=False)


def _most(names: Counter[str]) -> str:
    return names.most_common(1)[0][0]
