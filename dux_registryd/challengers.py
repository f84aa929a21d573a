"""Who is to look at whom, over the nodes known here: challengers who draw themselves, and draws by the chain's beacon.

Two nodes with nearly the same list of nodes take nearly the same witnesses and draw nearly the same challengers; each
judges by its own list. What makes lists differ, and what comes of it, stands in docs/protocol/reputation.md §1a.
"""

from __future__ import annotations

from dataclasses import replace

from common.clock import Clock
from common.contracts.registry import NodeStatus
from common.identity.ecvrf import verified
from common.nets import UNSEEN
from common.network import PresenceParameters
from common.units import Did
from common.witness import Sighting, look_input
from dux_registryd.draw_rules import Candidate, draw
from dux_registryd.effects import Outside
from dux_registryd.look_rules import SLACK, Round, ticket_of
from dux_registryd.model import RatedNode
from dux_registryd.networks import Networks
from dux_registryd.presence_rules import beacon_height, fixed_at, slot_of
from dux_registryd.rules import status_of
from dux_registryd.sanction_rules import may_serve
from dux_registryd.scores import Scores
from dux_registryd.settings import RegistrydSettings
from dux_registryd.store import Book

NEVER = 1 << 31  # above every height: nothing was witnessed of it
ROUNDS_KEPT = 32  # slots of which sightings may still come, and some more


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
        self._lookers: tuple[Candidate, ...] = ()
        self._look_keys: dict[Did, bytes] = {}
        self._rounds: dict[int, Round] = {}
        self._measuring: dict[tuple[int, int], Round] = {}  # by height of the beacon and tier

    async def look_round(self) -> None:
        """See anew who is where; before a draw that is remembered or decides something."""
        await self._networks.look_round()

    async def beacon(self, slot: int) -> bytes | None:
        """What a slot is drawn by; None while the chain does not tell."""
        return await self._outside.beacon(beacon_height(slot, self._rules))

    def round_of(self, slot: int) -> Round:
        """Who may look at whom in a slot."""
        self._listed(slot)
        if slot not in self._rounds:
            if len(self._rounds) >= ROUNDS_KEPT:
                self._rounds.clear()
            rules, known_at = self._rules, fixed_at(beacon_height(slot, self._rules))
            self._rounds[slot] = Round(self._lookers, wanted=rules.challengers, apart=rules.apart, fixed_at=known_at)
        return self._rounds[slot]

    def net_of(self, did: Did) -> str:
        """The neighbourhood of a node, as rounds of now take it."""
        return self._nets.get(did, UNSEEN)

    def may_look(self, target: Did, slot: int, own: Did, drawn: bytes) -> bool:
        """Whether this node is to look at another, by what its own key drew."""
        found = self.round_of(slot)
        return found.may_look(own, target, ticket_of(drawn), self.net_of(target))

    def is_witness(self, sighting: Sighting) -> bool:
        """Whether a sighting's witness had drawn itself, by its proof; within what views may differ."""
        target, prober = Did(sighting.target), Did(sighting.prober)
        asked = look_input(sighting.network, sighting.beacon, sighting.slot, target, prober)
        return self.has_drawn(self.round_of(sighting.slot), target, prober, asked, sighting.proof)

    def measurers(self, height: int, about: Did, count: int) -> Round:
        """Who may measure a node by a height's beacon, so many of whom are expected: those of its tier or above."""
        tip = self._outside.tip_seen
        self._listed(slot_of(tip.height, self._rules) if tip else self._made_for[0])
        tier = self._tiers.get(about, 1)
        if (height, tier) not in self._measuring:
            if len(self._measuring) >= ROUNDS_KEPT:
                self._measuring.clear()
            able = (one for one in self._lookers if self._tiers[one.did] >= tier)
            made = Round(able, wanted=count, apart=self._rules.apart, fixed_at=fixed_at(height))
            self._measuring[height, tier] = made
        return self._measuring[height, tier]

    def has_drawn(self, found: Round, target: Did, who: Did, asked: bytes, proof: bytes) -> bool:
        """Whether a proof shows that somebody's key has drawn it a place in a round, about a node."""
        key = self._look_keys.get(who)
        drawn = verified(key, asked, proof) if key is not None else None
        return drawn is not None and found.may_look(who, target, ticket_of(drawn), self.net_of(target), SLACK)

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
            self._rounds.clear()
            self._measuring.clear()
            eligible = self._eligible()
            self._nets, since = self._networks.at(wanted[0]), self._book.first_heights()
            self._candidates = tuple(
                Candidate(did, int(rated.score.weight_florins), self._nets.get(did, UNSEEN), since.get(did, NEVER))
                for rated in eligible
                for did in (rated.node.info.did,)
            )
            looks = self._book.look_keys()
            self._look_keys = {one.did: looks[one.did][0] for one in self._candidates if one.did in looks}
            self._lookers = tuple(
                replace(one, since=max(one.since, looks[one.did][1])) for one in self._candidates if one.did in looks
            )
            self._tiers = {rated.node.info.did: max(1, rated.score.tier) for rated in eligible}
        return self._candidates

    def _eligible(self) -> list[RatedNode]:
        now_ms, beat_s = self._clock.unix_ms(), self._settings.heartbeat_s
        heard = [
            node for node in self._book.nodes() if status_of(node.heard_ms, now_ms, beat_s) is not NodeStatus.OFFLINE
        ]
        return [rated for rated in self._scores.rate_all(heard) if may_serve(rated.sanctions)]
