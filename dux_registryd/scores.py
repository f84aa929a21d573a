"""Scores of nodes from the receipts held here, at the tip last seen. Reads, decides by the rules, writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from common.clock import Clock
from common.contracts.registry import Reputation
from common.network import NetworkProfile, TierRule
from common.quality import DAY_BLOCKS
from common.units import BPS, Did, Florins
from dux_registryd.audit_rules import NO_AUDITS, AuditWeight
from dux_registryd.effects import Outside
from dux_registryd.fault_rules import Penalty, penalty_of
from dux_registryd.machines import Machines
from dux_registryd.model import KnownNode, Presence, RatedNode, Sanction, Score, Settlement, Weight
from dux_registryd.presence_rules import WINDOW_DAYS, is_good_day, slot_of, slots_finished, slots_per_day, uptime_bps
from dux_registryd.reputation_rules import (
    PRESENCE_WINDOW_DAYS,
    activity_florins,
    duties_of,
    jobs,
    presence_of,
    score_of,
    weigh,
)
from dux_registryd.sanction_rules import by_rules, causes_of, in_force, may_serve
from dux_registryd.store import Book, by_seller
from dux_registryd.store_presence import MILLI
from dux_registryd.views import reputation_view


class Scores:
    """What this node thinks of others, and why."""

    def __init__(self, book: Book, outside: Outside, machines: Machines, network: NetworkProfile, clock: Clock) -> None:
        self._book = book
        self._machines = machines
        self._outside = outside
        self._clock = clock
        self._network = network
        self.audit_weight: Callable[[Did, int], AuditWeight] = lambda _did, _tip: NO_AUDITS  # set at assembly
        self.services: Callable[[Did], tuple[tuple[str, int], ...]] = lambda _did: ()  # likewise
        self.bonded: Callable[[Did, int], Florins] = lambda _did, _tip: Florins(0)  # likewise
        self._rules = network.presence
        self._tiers = network.tiers

    def tip(self) -> int:
        """The height at which scores are told: the chain's tip as last seen, or where receipts were last checked."""
        seen = self._outside.tip_seen
        return self._book.height_by(seen.height if seen else None)

    def rate_all(self, nodes: Iterable[KnownNode]) -> list[RatedNode]:
        """Nodes with their standing."""
        settlements = by_seller(self._book.settlements())
        faults, local = self._book.fault_times(), self._book.sanctions()
        return [
            self._rated(node, settlements.get(node.info.did, []), faults, local.get(node.info.did)) for node in nodes
        ]

    def rate(self, node: KnownNode) -> RatedNode:
        """One node with its standing."""
        did = node.info.did
        return self._rated(node, self._sold_by(did), self._book.fault_times(), self._book.sanctions().get(did))

    def reputation(self, did: Did) -> Reputation:
        """A node's standing with the receipts behind it; a stranger's, too."""
        weights, presence = self._weights(self._sold_by(did)), self.presence(did)
        activity = activity_florins(did, self._book.settlements_of(did))
        score, sanctions = self._score(did, weights, presence, self.penalty(did)), self.sanctions(did)
        duties = _duties(score, sanctions, self._tiers)
        return reputation_view(
            did, score, weights, presence, duties=duties, sanctions=sanctions, activity=activity, tip=self.tip()
        )

    def duties(self, did: Did) -> tuple[str, ...]:
        """What the network asks of a node of this one's tier; nothing of one that is kept from duties."""
        return _duties(self.score(did), self.sanctions(did), self._tiers)

    def score(self, did: Did) -> Score:
        """A node's standing alone."""
        return self._score(did, self._weights(self._sold_by(did)), self.presence(did), self.penalty(did))

    def _score(self, did: Did, weights: list[Weight], presence: Presence, penalty: Penalty) -> Score:
        audits, bonded = self.audit_weight(did, self.tip()), self.bonded(did, self.tip())
        return score_of(weights, presence, self._tiers, penalty, audits, bonded)

    def penalty(self, did: Did) -> Penalty:
        """What a node's proven faults cost it now."""
        return penalty_of(self._book.fault_times().get(did, ()), self._clock.unix_ms())

    def sanctions(self, did: Did) -> tuple[Sanction, ...]:
        """What is kept from a node, registered or not."""
        held, local = self._book.node(did), self._book.sanctions().get(did)
        return self._sanctions(did, self.score(did), self.penalty(did), held.heard_ms if held else 0, local)

    def _sanctions(
        self, did: Did, score: Score, penalty: Penalty, heard_ms: int, local: Sanction | None
    ) -> tuple[Sanction, ...]:
        now_ms = self._clock.unix_ms()
        is_low = score.trade_tier == 0 and not penalty.banned
        low_by = causes_of(score.bad_florins, self.audit_weight(did, self.tip()).bad) if is_low else ""
        found = by_rules(did, penalty, low_by=low_by, heard_ms=heard_ms, now_ms=now_ms)
        return (*in_force([local] if local else [], now_ms), *found)

    def _sold_by(self, did: Did) -> list[Settlement]:
        return [settlement for settlement in self._book.settlements_of(did) if settlement.seller == did]

    def _rated(
        self, node: KnownNode, settlements: list[Settlement], faults: dict[Did, list[int]], local: Sanction | None
    ) -> RatedNode:
        did, weights = node.info.did, self._weights(settlements)
        done, failed = jobs(weights)
        presence = self.presence(did)
        penalty = penalty_of(faults.get(did, ()), self._clock.unix_ms())
        score = self._score(did, weights, presence, penalty)
        return RatedNode(
            node=node,
            score=score,
            jobs_done=done,
            jobs_failed=failed,
            presence=presence,
            sanctions=self._sanctions(did, score, penalty, node.heard_ms, local),
            verified=self._machines.verified(node.info),
            bonded_florins=self.bonded(did, self.tip()),
        )

    def _weights(self, settlements: list[Settlement]) -> list[Weight]:
        tip = self.tip()
        return [weigh(settlement, tip, self._network.tax_bps) for settlement in settlements]

    def presence(self, did: Did) -> Presence:
        """What was witnessed of a node."""
        rules, tip = self._rules, self.tip()
        today, now = tip // DAY_BLOCKS, slot_of(tip, rules)
        first_day = today - PRESENCE_WINDOW_DAYS + 1
        good = sum(is_good_day(up, rules) for _, up in self._book.up_days(did, first_day))
        up, first = self._book.up_slots(did, now - WINDOW_DAYS * slots_per_day(rules), now)
        owed_milli, looks = self._book.probing(did, first_day)
        return replace(
            presence_of(self._book.presence_days(did), today),
            days_good=good,
            services=self.services(did),
            uptime_bps=uptime_bps(up, first, now, rules),
            uptime_days=slots_finished(first, now, rules) // slots_per_day(rules),
            probing_bps=min(BPS, looks * MILLI * BPS // owed_milli) if owed_milli else None,
        )


def _duties(score: Score, sanctions: Collection[Sanction], tiers: tuple[TierRule, ...]) -> tuple[str, ...]:
    return duties_of(score.tier, tiers) if may_serve(sanctions) else ()
