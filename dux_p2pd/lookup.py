"""Lookups: nearer and nearer to a place, over several disjoint paths, without waiting for the silent.

Each path keeps three calls under way to the nearest nodes that it has heard of. A call that takes longer than its peer
usually does no longer holds a place: the next node is asked beside it, and its answer still counts if it comes. A path
ends when the `width` nearest that it knows have been asked, and those it knows of the k nearest that any path knows; a
lie can therefore lead one path astray and not the others, and no node answers on two of them. Of one /24 (/48) few are
asked, and one stands in the result. Three paths of eight ask as many as one of k does: each node that is asked and not
yet known costs a connection, which is most of what a lookup costs.

The `kademlia` package's crawler waits for the slowest of every round; with a third of a network frozen that is most of
a lookup's time, so the rounds are our own. Source: settled.md 16, transport_identity.md §3.1, network.md §4.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice

from common.clock import Clock
from common.units import Did
from dux_p2pd.routing import ALPHA, DuxNode, K, Place

PATH_WIDTH = 8  # of each of three paths
CALLED_MAX = 96  # nodes one lookup calls at most, whatever it is told
PER_NET_CALLED = 3  # of them in one /24 (/48)
FLYING_MAX = 4 * ALPHA  # calls of a path under way, late ones among them: where all are late, more would not help
WAITED_FOR = K // 2  # with fewer answers than this (or half the width), those that are slow are waited for as well


@dataclass(frozen=True, slots=True)
class Found:
    """One node's answer: what it holds at the place, and the nodes that it names."""

    records: tuple[bytes, ...] = ()
    nodes: tuple[DuxNode, ...] = ()


Ask = Callable[[DuxNode, bytes], Awaitable[Found | None]]
"""The call that a lookup makes; None when the node did not answer."""


@dataclass(slots=True)
class Lookup:
    """The outcome: the nearest nodes that answered, nearest first, and every record with who gave it."""

    nodes: list[DuxNode] = field(default_factory=list)
    records: list[tuple[bytes, DuxNode]] = field(default_factory=list)
    holders: list[tuple[DuxNode, frozenset[bytes]]] = field(default_factory=list)  # who gave any, in order of answers
    called: int = 0
    cut_short: bool = False  # it ended because the caller had enough


Enough = Callable[[Lookup], bool]


@dataclass(frozen=True, slots=True)
class Manners:
    """How a lookup treats nodes: how long it waits before it goes on beside one, and whom it asks only if it must.

    Of a path's nearest those that are at hand are asked first. Only for puts: a reader who asks those first that are
    connected to it lets them choose who answers.
    """

    soft_s: Callable[[DuxNode], float]
    is_last: Callable[[DuxNode], bool]
    clock: Clock
    is_at_hand: Callable[[Did], bool] | None = None


@dataclass(slots=True)
class _Call:
    node: DuxNode
    path: int
    due_s: float  # from then on it holds no place
    task: asyncio.Task[Found | None]


class _Search:
    """One lookup under way."""

    def __init__(
        self,
        key: bytes,
        start: list[DuxNode],
        ask: Ask,
        *,
        paths: int,
        width: int,
        manners: Manners,
        enough: Enough | None,
    ) -> None:
        self._place, self._ask, self._manners, self._enough = Place(key), ask, manners, enough
        self._width, self._waited_for = width, min(WAITED_FOR, width * paths // 2)
        self._known: list[dict[int, DuxNode]] = [{} for _ in range(paths)]  # of each path, by distance
        self._order: list[list[DuxNode]] = [[] for _ in range(paths)]  # the same, nearest first; empty: to be sorted
        for index, node in enumerate(start):
            self._known[index % paths][self._place.distance_to(node)] = node
        self._nearest: list[int] = []  # the k nearest distances that any path knows; empty: to be sorted
        self._called: set[bytes] = set()
        self._failed: dict[bytes, int] = {}  # with their distance
        self._nets: Counter[str] = Counter()
        self._flying: list[_Call] = []
        self._answered: dict[bytes, DuxNode] = {}
        self.outcome = Lookup()

    async def run(self) -> Lookup:
        """To the end; what is still under way then is given up."""
        async with asyncio.TaskGroup() as group:
            while not self.outcome.cut_short:
                self._launch(group)
                if not self._flying or self._may_leave():
                    break
                await asyncio.wait(
                    [call.task for call in self._flying],
                    timeout=self._till_due_s(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._land()
            for call in self._flying:
                call.task.cancel()
        nearest = sorted(self._answered.values(), key=self._place.distance_to)
        self.outcome.nodes, self.outcome.called = one_per_net(nearest)[:K], len(self._called)
        return self.outcome

    def _launch(self, group: asyncio.TaskGroup) -> None:
        """Fill the free places of every path."""
        now_s = self._manners.clock.monotonic()
        for path in range(len(self._known)):
            own = [call for call in self._flying if call.path == path]
            busy = sum(1 for call in own if call.due_s > now_s)
            for node in self._next_of(path, min(ALPHA - busy, FLYING_MAX - len(own))):
                self._called.add(node.id)
                self._nets[node.net] += 1
                task = group.create_task(_guarded(self._ask, node, self._place.id))
                self._flying.append(_Call(node, path, now_s + self._manners.soft_s(node), task))

    def _next_of(self, path: int, count: int) -> list[DuxNode]:
        """The nearest that may be called; those to be asked last only where too few others have answered."""
        room = min(count, CALLED_MAX - len(self._called))
        if room <= 0:
            return []
        known, late = self._nearest_of(path), self._late()
        unfit = self._failed.keys() | late if late else self._failed
        fits = (node for node in known if node.id not in unfit and not self._is_last(node))
        found = self._spread(self._at_hand_first(list(islice(fits, self._width))), room)
        if not found and self._width < K and len(self._known) > 1:  # only then the others are looked at
            found = self._spread(self._at_hand_first(self._also_near(list(islice(fits, K - self._width)))), room)
        return found if found or len(self._answered) >= self._waited_for else self._spread(known, room)

    def _at_hand_first(self, nodes: list[DuxNode]) -> list[DuxNode]:
        is_at_hand = self._manners.is_at_hand
        return nodes if is_at_hand is None else sorted(nodes, key=lambda node: not is_at_hand(node.did))

    def _nearest_of(self, path: int) -> list[DuxNode]:
        """What a path knows, nearest first: sorted anew only after an answer."""
        if not self._order[path]:
            known = self._known[path]
            self._order[path] = [known[far] for far in sorted(known)]
        return self._order[path]

    def _also_near(self, beyond: list[DuxNode]) -> list[DuxNode]:
        """Of a path's nodes beyond its width those that stand among the k nearest that any path knows."""
        if not beyond:
            return []
        if not self._nearest:
            self._nearest = sorted(set().union(*self._known).difference(self._failed.values()))[:K]
        nearest, place = self._nearest, self._place.long_id
        return [node for node in beyond if len(nearest) < K or place ^ node.long_id <= nearest[-1]]

    def _late(self) -> set[bytes]:
        now_s = self._manners.clock.monotonic()
        return {call.node.id for call in self._flying if call.due_s <= now_s}

    def _is_last(self, node: DuxNode) -> bool:
        return node.id not in self._called and self._manners.is_last(node)

    def _spread(self, nodes: list[DuxNode], room: int) -> list[DuxNode]:
        """Of these the uncalled ones, no more of one net than may be called."""
        found: list[DuxNode] = []
        nets = dict(self._nets)
        for node in nodes:
            called = nets.get(node.net, 0)
            if node.id not in self._called and called < PER_NET_CALLED:
                nets[node.net] = called + 1
                found.append(node)
                if len(found) == room:
                    break
        return found

    def _may_leave(self) -> bool:
        """Nobody is left to ask, and those that are late are not needed."""
        now_s = self._manners.clock.monotonic()
        return len(self._answered) >= self._waited_for and all(call.due_s <= now_s for call in self._flying)

    def _till_due_s(self) -> float | None:
        now_s = self._manners.clock.monotonic()
        return min((call.due_s - now_s for call in self._flying if call.due_s > now_s), default=None)

    def _land(self) -> None:
        """Take in what has come."""
        for call in [call for call in self._flying if call.task.done()]:
            self._flying.remove(call)
            found = call.task.result()
            if found is None:
                self._failed[call.node.id] = self._place.distance_to(call.node)
                self._nearest = []
                continue
            self._take(call, found)
            if self._enough is not None and self._enough(self.outcome):
                self.outcome.cut_short = True
                return

    def _take(self, call: _Call, found: Found) -> None:
        self._answered[call.node.id] = call.node
        self.outcome.records += [(record, call.node) for record in found.records]
        if found.records:
            self.outcome.holders.append((call.node, frozenset(found.records)))
        known, place = self._known[call.path], self._place.long_id
        for node in found.nodes[:K]:
            known.setdefault(place ^ node.long_id, node)
        self._order[call.path], self._nearest = [], []


async def _guarded(ask: Ask, node: DuxNode, key: bytes) -> Found | None:
    return await ask(node, key)


async def lookup(
    key: bytes,
    start: list[DuxNode],
    ask: Ask,
    *,
    manners: Manners,
    paths: int = 1,
    width: int = K,
    enough: Enough | None = None,
) -> Lookup:
    """The k nearest nodes to a place that answer, and the records they hold there; less when the caller has enough.

    Each path asks at least the `width` nearest that it hears of.
    """
    return await _Search(key, start, ask, paths=paths, width=width, manners=manners, enough=enough).run()


def one_per_net(nodes: list[DuxNode]) -> list[DuxNode]:
    """The first node of each /24 (IPv6: /48): whoever owns a net owns one place in a result, not all."""
    by_net: dict[str, DuxNode] = {}
    for node in nodes:
        by_net.setdefault(node.net, node)
    return list(by_net.values())
