"""Addresses to begin from, and which of them to dial next: decided here from what is handed in, dialled elsewhere.

Three kinds: the bootstrap list, places where this node itself has met others (best first), and hints (from peers, from
the LAN), which are believed so little that a flood of them displaces only other hints. One look takes from each kind in
turn, so that neither a dead list nor a swarm of hints keeps a node out. Of the bootstrap list the own region comes
first; the others follow as soon as one of the own region has failed.

Source: network.md §3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

from common.nets import may_listen_at, net_of
from common.randomness import Randomness
from common.units import Did
from dux_p2pd.rules import contact_at
from dux_p2pd.session import Address

ALONE_PAUSE_S = 5.0  # who is connected to nobody tries each address this often: the fault is likely at this end
HINTS_MAX = 64  # not dialled yet; the oldest makes room
HINTS_PER_NET_MAX = 4  # of one /24 or /48
HINT_FAILURES_MAX = 2  # then a hint is forgotten
BOOTSTRAP, REMEMBERED, HINT = "bootstrap", "remembered", "hint"


@dataclass(slots=True)
class Source:
    """One address; `rank` orders the remembered ones, highest first."""

    address: Address
    did: Did | None
    kind: str = BOOTSTRAP
    region: str = ""
    rank: float = 0.0
    failures: int = 0
    due_s: float = 0.0
    tried_s: float = float("-inf")

    def is_due(self, now_s: float, *, alone: bool) -> bool:
        """Whether it may be tried now."""
        return self.due_s <= now_s or (alone and self.tried_s + ALONE_PAUSE_S <= now_s)


class Sources:
    """All of them, by address."""

    def __init__(self, region: str, own_did: Did) -> None:
        """`region`: where this node is; empty when nobody said."""
        self._region, self._own_did = region, own_did
        self._all: OrderedDict[Address, Source] = OrderedDict()

    def __iter__(self) -> Iterator[Source]:
        return iter(self._all.values())

    def add(self, text: str, did: Did | None, *, kind: str, region: str = "", rank: float = 0.0) -> None:
        """An address of the list or of the disk; one that is there already keeps its kind."""
        address = may_listen_at(text)
        if address is not None and did != self._own_did:
            self._all.setdefault(address, Source(address, did, kind, region, rank))

    def hint(self, text: str, did: Did | None) -> bool:
        """Somebody says that a node is there; whether that is worth a dial."""
        address = contact_at(text)  # no name is looked up for strangers
        if address is None or did == self._own_did or address in self._all:
            return False
        if did is not None and any(source.did == did for source in self):
            return False
        hints = [source for source in self if source.kind == HINT]
        if sum(net_of(source.address[0]) == net_of(address[0]) for source in hints) >= HINTS_PER_NET_MAX:
            return False
        if len(hints) >= HINTS_MAX:
            del self._all[hints[0].address]
        self._all[address] = Source(address, did, HINT)
        return True

    def failed(self, source: Source) -> None:
        """Count it; a hint that leads nowhere is dropped."""
        source.failures += 1
        if source.kind == HINT and source.failures >= HINT_FAILURES_MAX:
            self._all.pop(source.address, None)

    def forget(self, text: str) -> None:
        """This address is our own."""
        address = may_listen_at(text)
        if address is not None:
            self._all.pop(address, None)

    def choose(self, due: list[Source], count: int, random: Randomness) -> list[Source]:
        """`count` of those that are due: from each kind in turn, the promising ones first."""
        lists = [source for source in due if source.kind == BOOTSTRAP]
        near = [source for source in lists if not self._is_far(source)]
        far = [source for source in lists if self._is_far(source)]
        met = sorted((source for source in due if source.kind == REMEMBERED), key=lambda source: -source.rank)
        hints = [source for source in due if source.kind == HINT]
        turns = zip_longest(random.sample(near, len(near)), met, random.sample(hints, len(hints)))
        mixed = (source for turn in turns for source in turn if source is not None)
        ordered = chain(mixed, random.sample(far, len(far)))
        return list(islice(ordered, max(count, 0)))

    def _is_far(self, source: Source) -> bool:
        """Of another region, while nobody of the own one has failed."""
        if not self._region or source.region == self._region:
            return False
        own = [one for one in self if one.kind == BOOTSTRAP and one.region == self._region]
        return bool(own) and not any(one.failures for one in own)
