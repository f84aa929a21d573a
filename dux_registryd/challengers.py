"""Who is to look at whom: draws by the chain's beacon over the nodes known here, remembered while they hold.

Two nodes with nearly the same list of nodes draw nearly the same challengers; each judges by its own draw. What makes
lists differ, and what comes of it, stands in docs/protocol/reputation.md §1a.
"""

from __future__ import annotations

from common.clock import Clock
from common.contracts.registry import NodeStatus
from common.nets import UNSEEN
from common.network import PresenceParameters
from common.units import Did
from dux_registryd.draw_rules import Candidate, draw
from dux_registryd.effects import Outside
from dux_registryd.model import RatedNode
from dux_registryd.networks import Networks
from dux_registryd.presence_rules import PROBE, beacon_height, fixed_at, slot_of
from dux_registryd.rules import status_of
from dux_registryd.sanction_rules import may_serve
from dux_registryd.scores import Scores
from dux_registryd.settings import RegistrydSettings
from dux_registryd.store import Book

NEVER = 1 << 31  # above every height: nothing was witnessed of it
DRAWS_KEPT = 50_000  # a network of 20,000 nodes over two slots


class Challengers:
    """The draws of this node's view of the network."""

    def __init__(
        self,
        book: Book,
        outside: Outside,
        scores: Scores,
        networks: Networks,
        *,
        rules: PresenceParameters,
        clock: Clock,
        settings: RegistrydSettings,
    ) -> None:
        self._book = book
        self._outside = outside
        self._scores = scores
        self._networks = networks
        self._rules = rules
        self._clock = clock
        self._settings = settings
        self._made_for: tuple[int, int, int] = (-1, -1, -1)  # slot, nodes and news of networks of the list
        self._nets: dict[Did, str] = {}
        self._candidates: tuple[Candidate, ...] = ()
        self._tiers: dict[Did, int] = {}
        self._drawn: dict[tuple[int, Did], tuple[Did, ...]] = {}

    async def look_round(self) -> None:
        """See anew who is where; before a draw that is remembered or decides something."""
        await self._networks.look_round()

    async def beacon(self, slot: int) -> bytes | None:
        """What a slot is drawn by; None while the chain does not tell."""
        return await self._outside.beacon(beacon_height(slot, self._rules))

    async def of(self, slot: int, target: Did) -> tuple[Did, ...]:
        """Who was to look at a node in a slot; empty while the chain does not tell or nobody else is there."""
        beacon = await self.beacon(slot)
        return self.drawn_by(beacon, slot, target) if beacon is not None else ()

    def drawn_by(self, beacon: bytes, slot: int, target: Did) -> tuple[Did, ...]:
        """The same for a beacon that is known."""
        candidates = self._listed(slot)
        if (slot, target) not in self._drawn:
            if len(self._drawn) >= DRAWS_KEPT:
                self._drawn.clear()
            rules = self._rules
            self._drawn[slot, target] = draw(
                beacon,
                PROBE,
                target,
                candidates,
                rules.challengers,
                apart=rules.apart,
                own_net=self._nets.get(target, UNSEEN),
                fixed_at=fixed_at(beacon_height(slot, rules)),
            )
        return self._drawn[slot, target]

    def drawn_for(
        self, duty: str, height: int, beacon: bytes, about: Did, count: int, *, least_tier: int = 0, enough: int = 0
    ) -> tuple[Did, ...]:
        """Who is drawn by a height's beacon: of the node's tier or above, of `least_tier` while there are enough."""
        tip = self._outside.tip_seen
        self._listed(slot_of(tip.height, self._rules) if tip else self._made_for[0])
        own_net, apart, known_at = self._nets.get(about, UNSEEN), self._rules.apart, fixed_at(height)
        own_tier = self._tiers.get(about, 1)
        chosen: tuple[Did, ...] = ()
        for tier in range(max(own_tier, least_tier), own_tier - 1, -1):
            able = [one for one in self._candidates if self._tiers[one.did] >= tier]
            chosen = draw(beacon, duty, about, able, count, apart=apart, own_net=own_net, fixed_at=known_at)
            if len(chosen) >= (enough or count):
                return chosen
        return chosen

    def _listed(self, slot: int) -> tuple[Candidate, ...]:
        """Who may be drawn now: registered, heard of within the hour, not suspended; listed anew as nodes come."""
        wanted = (max(slot, self._made_for[0]), self._book.count_nodes(), self._networks.news)
        if wanted != self._made_for:
            self._made_for = wanted
            self._drawn.clear()
            eligible = self._eligible()
            self._nets, since = self._networks.at(wanted[0]), self._book.first_heights()
            self._candidates = tuple(
                Candidate(did, int(rated.score.weight_florins), self._nets.get(did, UNSEEN), since.get(did, NEVER))
                for rated in eligible
                for did in (rated.node.info.did,)
            )
            self._tiers = {rated.node.info.did: max(1, rated.score.tier) for rated in eligible}
        return self._candidates

    def _eligible(self) -> list[RatedNode]:
        now_ms, beat_s = self._clock.unix_ms(), self._settings.heartbeat_s
        heard = [
            node for node in self._book.nodes() if status_of(node.heard_ms, now_ms, beat_s) is not NodeStatus.OFFLINE
        ]
        return [rated for rated in self._scores.rate_all(heard) if may_serve(rated.sanctions)]
