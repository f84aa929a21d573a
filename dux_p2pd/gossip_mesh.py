"""The meshes of all topics: the neighbours in them, back-offs, and the heartbeat that keeps them.

It does what `mesh_rules` decides. While nothing changes and nothing is said, it sleeps; a heartbeat looks over the
meshes that may want other members, and over all of them now and then, because scores fade.

Source: network.md §5.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping

from common.clock import Clock
from common.nets import net_of
from common.randomness import Randomness
from common.units import Did
from dux_p2pd.gossip_flow import Outflow
from dux_p2pd.gossip_limits import (
    BACKOFF_S,
    BACKOFF_S_MAX,
    FULL_BACKOFF_S,
    GOSSIP_AT,
    HEARTBEAT_S,
    LOOK_S,
    MESH_HIGH,
    MESH_LOW,
    MESH_WANTED,
    OPPORTUNE_S,
    PEERS_REMEMBERED,
    SHED_EVERY_S,
    SOON_S,
)
from dux_p2pd.gossip_score import Conducts
from dux_p2pd.mesh_rules import (
    Neighbour,
    graft_fault,
    to_graft,
    to_graft_for_more,
    to_prune,
    wants_grafting,
    wants_pruning,
)
from dux_p2pd.peers import PeerBook
from dux_p2pd.session import Session


class Meshes:
    """Who gets whole messages, by topic."""

    def __init__(
        self,
        topics: tuple[str, ...],
        peers: PeerBook,
        conducts: Conducts,
        flows: Mapping[Did, Outflow],
        *,
        clock: Clock,
        random: Randomness,
    ) -> None:
        """`flows` are the neighbours there are now, with what goes to each."""
        self._peers = peers
        self._conducts = conducts
        self._flows = flows
        self._clock = clock
        self._random = random
        self._mesh: dict[str, dict[Did, None]] = {topic: {} for topic in topics}
        self._carried: dict[Did, frozenset[str]] = {}
        self._nets: dict[Did, tuple[str, str]] = {}
        self._blanks: dict[Did, tuple[Session, Neighbour]] = {}
        self._backoff: OrderedDict[tuple[str, Did], float] = OrderedDict()
        self._crowded: set[str] = set()  # topics whose mesh has refused somebody for want of room
        self._shed_s: dict[str, float] = {}
        self._stirred, self._soon = asyncio.Event(), False
        self._due, self._looked_s = set(topics), 0.0  # topics to be looked over at the next heartbeat
        self._lacking = set(topics)  # topics whose mesh wanted more members when it was looked over last
        self._opportune_s = clock.monotonic() + OPPORTUNE_S
        self.on_member: list[Callable[[Did], None]] = []  # told of who came into a mesh

    # what is asked of it

    def of(self, topic: str) -> list[Did]:
        """The neighbours in a topic's mesh."""
        return list(self._mesh.get(topic, ()))

    def told_first(self, topic: str, count: int) -> list[Did]:
        """Who gets this node's own message at once: the mesh, and others by lot up to so many."""
        members = self.of(topic)
        return members + self._heard_outside(topic, count - len(members))

    def lazy(self, topic: str, count: int) -> list[Did]:
        """Some neighbours outside the mesh, by lot, to be told ids."""
        return self._heard_outside(topic, count)

    def _heard_outside(self, topic: str, count: int) -> list[Did]:
        """So many neighbours outside the mesh whose offers are heard, by lot; only they are looked at."""
        found: list[Did] = []
        dids = self._outside(topic) if count > 0 else []
        for did in self._random.sample(dids, len(dids)):
            found += [one.did for one in self._neighbours(topic, [did]) if one.score >= GOSSIP_AT]
            if len(found) >= count:
                break
        return found

    def _outside(self, topic: str) -> list[Did]:
        members = self._mesh.get(topic, {})
        return [did for did in self._flows if did not in members and self._carries(did, topic)]

    def _givers(self, topic: str) -> list[Did]:
        """Of those outside a mesh that lacks nobody, the only ones that may come in: who gave something on it first."""
        gave, members = self._conducts.gave, self._mesh.get(topic, {})
        return [did for did in self._flows if gave(did, topic) and did not in members and self._carries(did, topic)]

    def _dialled(self, dids: list[Did]) -> list[Did]:
        found = ((did, self._peers.session_with(did)) for did in dids)
        return [did for did, session in found if session is not None and session.peer.dialled]

    def _carries(self, did: Did, topic: str) -> bool:
        """Whether the neighbour carries the topic; before it has said so, it is taken to carry all."""
        carried = self._carried.get(did)
        return carried is None or topic in carried

    def _neighbours(self, topic: str, dids: list[Did]) -> list[Neighbour]:
        now, found = self._clock.monotonic(), []
        for did in dids:
            session = self._peers.session_with(did)
            if session is not None:
                conduct = self._conducts.of(did, now)
                one = self._blank(did, session)
                if not conduct.is_blank:
                    one = Neighbour(did, conduct.score_on(topic, now), one.outbound, one.net)
                found.append(one)
        return found

    def _blank(self, did: Did, session: Session) -> Neighbour:
        """The neighbour before its conduct is looked at; remembered, because meshes are looked over often."""
        known = self._blanks.get(did)
        if known is None or known[0] is not session:
            known = self._blanks[did] = session, Neighbour(did, 0.0, session.peer.dialled, self._net(did, session))
        return known[1]

    def _net(self, did: Did, session: Session) -> str:
        """The neighbour's net; remembered, because an address takes long to read."""
        host = session.peer.address[0]
        known = self._nets.get(did)
        if known is None or known[0] != host:
            known = self._nets[did] = host, net_of(host)
        return known[1]

    # what neighbours do

    def came(self, did: Did) -> None:
        """A new neighbour, or a new session with one: it may have forgotten that it is in our mesh."""
        self._carried.pop(did, None)
        for topic, members in self._mesh.items():
            if did in members:
                self._flows[did].graft(topic)
                self._due.add(topic)  # who dialled whom may be another now
        self._due |= self._lacking
        self._stir_if_due(soon=True)

    def left(self, did: Did) -> None:
        """It is gone."""
        self._carried.pop(did, None)
        self._nets.pop(did, None)
        self._blanks.pop(did, None)
        for topic, members in self._mesh.items():
            if did in members:
                del members[did]
                self._due.add(topic)
        self._stir_if_due(soon=True)

    def carries(self, did: Did, topics: tuple[str, ...]) -> None:
        """It carries these topics, and no others."""
        self._carried[did] = frozenset(topics)
        for topic, members in self._mesh.items():
            if did in members and topic not in self._carried[did]:
                del members[did]
                self._due.add(topic)
        self._due |= self._lacking
        self._stir_if_due()

    def on_graft(self, did: Did, topic: str) -> None:
        """It has us in its mesh and wants to be in ours."""
        members, flow = self._mesh.get(topic), self._flows.get(did)
        if members is None or flow is None or did in members:
            return
        now = self._clock.monotonic()
        asker = self._neighbours(topic, [did])
        in_backoff = self._in_backoff(topic, did, now)
        if in_backoff:
            self._conducts.of(did, now).broke_rule(now)
        inside = self._neighbours(topic, list(members)) if len(members) >= MESH_WANTED else []  # else nobody counts
        if not asker or graft_fault(asker[0], inside, in_backoff=in_backoff):
            is_full = bool(asker) and not in_backoff and asker[0].score >= 0
            self._part(topic, did, flow, FULL_BACKOFF_S if is_full else BACKOFF_S)
            if is_full:
                self._crowded.add(topic)
                self._look_over(topic)
            return
        self._take_in(topic, did)
        self._look_over(topic)

    def _take_in(self, topic: str, did: Did) -> None:
        self._mesh[topic][did] = None
        for told in self.on_member:
            told(did)

    def on_prune(self, did: Did, topic: str, backoff_s: int) -> None:
        """It has us in its mesh no more."""
        members = self._mesh.get(topic)
        if members is None:
            return
        members.pop(did, None)
        self._back_off(topic, did, min(max(backoff_s, FULL_BACKOFF_S), BACKOFF_S_MAX))
        self._look_over(topic)

    def _part(self, topic: str, did: Did, flow: Outflow, wait_s: int = BACKOFF_S) -> None:
        self._back_off(topic, did, wait_s)
        flow.prune(topic, wait_s)

    def _back_off(self, topic: str, did: Did, wait_s: float) -> None:
        until_s = self._clock.monotonic() + wait_s
        self._backoff[topic, did] = max(until_s, self._backoff.pop((topic, did), 0.0))
        if len(self._backoff) > PEERS_REMEMBERED:
            self._backoff.popitem(last=False)

    def _in_backoff(self, topic: str, did: Did, now: float) -> bool:
        return self._backoff.get((topic, did), 0.0) > now

    # the heartbeat

    def stir(self, *, soon: bool = False) -> None:
        """There is something to do at the next heartbeat."""
        self._soon = self._soon or soon
        self._stirred.set()

    def change(self) -> None:
        """Every mesh may want other members: somebody fell in esteem."""
        self._due.update(self._mesh)
        self.stir()

    def _look_over(self, topic: str) -> None:
        self._due.add(topic)
        self.stir()

    def _stir_if_due(self, *, soon: bool = False) -> None:
        """Most of those who come and go concern no mesh: then there is no heartbeat for them."""
        if self._due:
            self.stir(soon=soon)

    async def run(self, beat: Callable[[], bool]) -> None:
        """Keep the meshes, and call `beat` at each heartbeat, for ever; sleep while there is nothing to do."""
        while True:
            await self._stirred.wait()
            spread = 0.9 + 0.2 * self._random.uniform()
            await asyncio.sleep((SOON_S if self._soon else HEARTBEAT_S) * spread)
            self._stirred.clear()
            self._soon = False
            short = self._keep_all()
            if bool(short) | beat():
                self.stir(soon=short == "now")

    def _keep_all(self) -> str:
        """The meshes in which something has changed, or all when scores may have; what is lacking, as `_keep` says."""
        now = self._clock.monotonic()
        is_opportune = now >= self._opportune_s
        if is_opportune:
            self._opportune_s = now + OPPORTUNE_S
        due, self._due = self._due, set()
        if is_opportune or now >= self._looked_s + LOOK_S:
            due, self._looked_s = set(self._mesh), now
        short = {topic: self._keep(topic, is_opportune=is_opportune) for topic in self._mesh if topic in due}
        self._due.update(topic for topic, lack in short.items() if lack)
        return "now" if "now" in short.values() else "later" if self._due else ""

    def _keep(self, topic: str, *, is_opportune: bool) -> str:
        """One topic's mesh at a heartbeat; when it lacks members that there are: `now`, `later`, else nothing."""
        members, now = self._mesh[topic], self._clock.monotonic()
        inside = self._neighbours(topic, list(members))
        most = self._most(topic, now)
        if wants_pruning(inside, most):
            for did in to_prune(self._shuffled(inside), most):
                del members[did]
                self._part(topic, did, self._flows[did])
            inside = [one for one in inside if one.did in members]
        self._lacking.discard(topic)
        is_short = wants_grafting(inside)
        if not (is_opportune or is_short):
            return ""  # most heartbeats of most meshes end here, whatever the number of neighbours
        if not is_short:
            candidates = self._givers(topic)
        elif len(members) >= MESH_LOW and not is_opportune:  # but too few of them were dialled by us
            candidates = self._dialled(self._outside(topic))
        else:
            candidates = self._outside(topic)
        outside = self._shuffled(self._neighbours(topic, candidates))
        free = [one for one in outside if not self._in_backoff(topic, one.did, now)]
        chosen = to_graft(inside, free)
        if is_opportune:
            chosen += [did for did in to_graft_for_more(inside, free) if did not in chosen]
        for did in chosen:
            self._take_in(topic, did)
            self._flows[did].graft(topic)
        if wants_grafting(self._neighbours(topic, list(members)) if chosen else inside):
            self._lacking.add(topic)
        if len(members) >= MESH_LOW or len(outside) == len(chosen):
            return ""
        return "now" if len(free) > len(chosen) else "later"

    def _most(self, topic: str, now: float) -> int:
        """How many members may stay: fewer once somebody found no room, so that newcomers find some."""
        if topic not in self._crowded or now < self._shed_s.get(topic, 0.0):
            return MESH_HIGH
        self._crowded.discard(topic)
        self._shed_s[topic] = now + SHED_EVERY_S
        return MESH_WANTED

    def _shuffled(self, neighbours: list[Neighbour]) -> list[Neighbour]:
        return self._random.sample(neighbours, len(neighbours))
