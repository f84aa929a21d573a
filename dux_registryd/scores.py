"""Scores of nodes from the receipts held here, at the tip last seen. Reads, decides by the rules, writes nothing."""

from __future__ import annotations

from collections.abc import Iterable

from common.contracts.registry import Reputation
from common.quality import DAY_BLOCKS
from common.units import Did
from dux_registryd.effects import Outside
from dux_registryd.model import KnownNode, Presence, RatedNode, Score, Settlement, Weight
from dux_registryd.reputation_rules import (
    activity_florins,
    jobs,
    presence_of,
    score_of,
    weigh,
)
from dux_registryd.store import Book, by_seller
from dux_registryd.views import reputation_view


class Scores:
    """What this node thinks of others, and why."""

    def __init__(self, book: Book, outside: Outside, tax_bps: int) -> None:
        self._book = book
        self._outside = outside
        self._tax_bps = tax_bps

    def tip(self) -> int:
        """The height at which scores are told: the chain's tip as last seen, or where receipts were last checked."""
        if self._outside.tip_seen is not None:
            return self._outside.tip_seen.height
        last = self._book.last_tip()
        return last[0] if last else 0

    def rate_all(self, nodes: Iterable[KnownNode]) -> list[RatedNode]:
        """Nodes with their standing."""
        settlements = by_seller(self._book.settlements())
        return [self._rated(node, settlements.get(node.info.did, [])) for node in nodes]

    def rate(self, node: KnownNode) -> RatedNode:
        """One node with its standing."""
        return self._rated(node, self._sold_by(node.info.did))

    def reputation(self, did: Did) -> Reputation:
        """A node's standing with the receipts behind it; a stranger's, too."""
        weights, presence = self._weights(self._sold_by(did)), self._presence(did)
        activity = activity_florins(did, self._book.settlements_of(did))
        return reputation_view(did, score_of(weights, presence), weights, presence, activity=activity, tip=self.tip())

    def score(self, did: Did) -> Score:
        """A node's standing alone."""
        return score_of(self._weights(self._sold_by(did)), self._presence(did))

    def _sold_by(self, did: Did) -> list[Settlement]:
        return [settlement for settlement in self._book.settlements_of(did) if settlement.seller == did]

    def _rated(self, node: KnownNode, settlements: list[Settlement]) -> RatedNode:
        weights = self._weights(settlements)
        done, failed = jobs(weights)
        score = score_of(weights, self._presence(node.info.did))
        return RatedNode(node=node, score=score, jobs_done=done, jobs_failed=failed)

    def _weights(self, settlements: list[Settlement]) -> list[Weight]:
        tip = self.tip()
        return [weigh(settlement, tip, self._tax_bps) for settlement in settlements]

    def _presence(self, did: Did) -> Presence:
        return presence_of(self._book.presence_days(did), self.tip() // DAY_BLOCKS)
