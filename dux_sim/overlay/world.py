"""The world of a thousand p2pds: who is there, who is away, who lies, and what stands between them.

A process may play the nodes of one region only. What the story does to the world it does in each process alike, drawn
from the same streams at the same moments; so each knows of every node whether it is there, and only its own ones run.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from common.network import Bootstrap, NetworkProfile
from dux_p2pd.overlay import Overlay
from dux_sim.overlay.liars import LyingHousehold, LyingP2pd
from dux_sim.overlay.links import CITIES_S, Links, ToldNetwork
from dux_sim.overlay.nodes import P2PD, Household, OverlayP2pd, make
from dux_sim.overlay.pipes import host_of
from dux_sim.overlay.post import Border, Post
from dux_sim.world.history import Digest, History
from dux_sim.world.keys import keys_of
from dux_sim.world.loop import SimTask
from dux_sim.world.node import OUTSIDE_PORT, SimNode
from dux_sim.world.world import World, profile_for

FIRST = 8  # nodes of the bootstrap list
CHAIN_NODES = 5  # the coin chain is there, and nothing happens on it
SETTINGS: dict[str, Any] = {"peers_target": 8, "peers_max": 256, "reachability": False}


def overlay_profile() -> NetworkProfile:
    """A network whose nodes begin from the first eight."""
    first = tuple(Bootstrap(address=f"{host_of(one)}:{OUTSIDE_PORT}", did=keys_of(one).did) for one in range(FIRST))
    return msgspec.structs.replace(profile_for(CHAIN_NODES), bootstrap=first, arbiters=())


@dataclass
class Member:
    """One node of the history. `absences`: from when to when it was away.

    `is_here`: whether this process plays it. `is_started`: whether it has ever been.
    """

    node: SimNode
    house: Household
    lies: bool
    is_here: bool
    is_started: bool = False
    absences: list[tuple[float, float]] = field(default_factory=list)
    left_s: float | None = None
    is_gone: bool = False  # for good

    @property
    def name(self) -> str:
        """Its name in the history."""
        return self.node.name

    @property
    def is_there(self) -> bool:
        """Whether it was started, and not taken away since; of every node, wherever it runs."""
        return self.is_started and self.left_s is None

    @property
    def is_up(self) -> bool:
        """Whether its p2pd lives and answers, in this process."""
        return self.node.is_up(P2PD)

    @property
    def net(self) -> Overlay:
        """What its p2pd is made of."""
        daemon = self.node.houses[P2PD].daemon
        if not isinstance(daemon, OverlayP2pd):
            raise TypeError(f"{self.name} has never lived")
        return daemon.net

    def was_there(self, since_s: float) -> bool:
        """Whether it has been up without a break since then."""
        return self.is_there and all(back_s <= since_s for _, back_s in self.absences)


class NodeHistories(History):
    """A hash for each node, and one over all of them: it does not depend on who else's events come in between."""

    def __init__(self, now_s: Callable[[], float], *, trace: bool = False, until: int | None = None) -> None:
        super().__init__(now_s, trace=trace, until=until)
        self._digests: dict[str, Any] = {}

    def _digest_of(self, of: str) -> Digest:
        name = of.partition("/")[0]
        found: Digest | None = self._digests.get(name)
        if found is None:
            found = self._digests[name] = hashlib.sha256()
        return found

    def hashes(self) -> dict[str, str]:
        """The hash so far of each node, and of the world ("")."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def hash(self) -> str:
        """Over those of all nodes."""
        return hash_of(self.hashes())


def hash_of(hashes: dict[str, str]) -> str:
    """One hash of all nodes'."""
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(text.encode()).hexdigest()


class OverlayWorld(World):
    """One history's world."""

    net: ToldNetwork
    weather: Links

    history: NodeHistories

    def __init__(
        self, seed: int, *, trace: bool = False, until: int | None = None, border: Border | None = None,
        region: int = 0, delays_s: tuple[float, float] = CITIES_S,
    ) -> None:  # fmt: skip
        """`border`: to the process that plays the other region, where this one plays but `region`."""
        super().__init__(seed, overlay_profile(), trace=trace, until=until)
        history = self.history
        self.is_first = border is None or region == 0  # what is no node's is noted here
        self.post = Post(self.loop, self.context, border, region)
        self.weather = Links(self.stream("weather"), history, seed, delays_s)
        self.net = ToldNetwork(
            self.weather, lambda a, b, data: history.note("frame", f"{a}>{b}", data, of=b), self.post, self.loop.time
        )
        self.members: list[Member] = []
        self._sides: list[tuple[float, dict[str, int]]] = [(0.0, {})]  # since when who stood apart

    def add_member(self, *, lies: bool) -> Member:
        """One more node; it is not started."""
        kind = LyingP2pd if lies else OverlayP2pd
        node = self.add_node((P2PD,), partial(make, kind=kind, **SETTINGS))
        house = (LyingHousehold if lies else Household)(node, self.spawn)
        node.bend = house.client
        member = Member(node, house, lies, self.post.is_here(node.number))
        self.members.append(member)
        return member

    def make_history(self, *, trace: bool, until: int | None) -> NodeHistories:
        """A hash for each node."""
        return NodeHistories(self.loop.time, trace=trace, until=until)

    def numbers(self) -> Iterator[int]:
        """Each life counts by itself: what else this process runs decides no order in it."""
        return itertools.count()

    def fault(self, kind: str, what: str, of: Member | None = None) -> None:
        """Noted once, where the node lives that it happens to."""
        if self.is_first if of is None else of.is_here:
            self.history.fault(kind, what, of="" if of is None else of.name)

    def start(self, member: Member) -> None:
        """Its first life begins, if it is played here."""
        member.is_started = True
        if member.is_here:
            member.node.start(P2PD)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the world's own name."""
        return self.loop.create_task(work, context=self.context.copy())

    # who comes and goes

    def crash(self, member: Member) -> None:
        """Its process is killed: its sockets close by themselves."""
        self.fault("crash", member.name, member)
        self._leave(member)

    def darken(self, member: Member) -> None:
        """Its power fails: nobody hears a word."""
        self.fault("power lost", member.name, member)
        self.weather.dark[member.node.host] = None
        self.net.links_changed(member.node.host)
        self._leave(member)

    def _leave(self, member: Member) -> None:
        member.left_s = self.loop.time()
        member.house.quotes.clear()
        member.node.crash(P2PD)

    def bring_back(self, member: Member) -> None:
        """It starts again from its disk; who still thinks to be connected with it hears that this is over."""
        if member.left_s is None:
            return
        self.history.faults["came back"] += member.is_here
        if self.weather.dark.pop(member.node.host, self) is not self:
            self.net.links_changed(member.node.host)
        member.absences.append((member.left_s, self.loop.time()))
        member.left_s = None
        if member.is_here:
            member.node.start(P2PD)

    def let_go(self, member: Member) -> None:
        """It is away for good, and nothing that was sent to it will ever arrive."""
        member.is_gone = True
        self.net.forget(member.node.host)

    # who stands where

    def part(self, apart: Sequence[Member]) -> None:
        """From now on these and the others do not reach each other; none: all do."""
        sides = {member.node.host: 1 for member in apart}
        self.weather.sides = sides
        self._sides.append((self.loop.time(), sides))
        self.net.links_changed()

    def were_together(self, one: Member, other: Member, since_s: float, to_s: float | None = None) -> bool:
        """Whether nothing stood between them from then on (until then)."""
        last_s = self.loop.time() if to_s is None else to_s
        for at, (from_s, sides) in enumerate(self._sides):
            until_s = self._sides[at + 1][0] if at + 1 < len(self._sides) else self.loop.time()
            if from_s <= last_s and until_s >= since_s and sides.get(one.node.host, 0) != sides.get(other.node.host, 0):
                return False
        return True

    def tasks_by_life(self) -> dict[str, int]:
        """How many tasks every life has that has not ended."""
        found: dict[str, int] = {}
        for task in asyncio.all_tasks(self.loop):
            if isinstance(task, SimTask) and task.life is not None and task.life.alive:
                found[task.life.name] = found.get(task.life.name, 0) + 1
        return found
