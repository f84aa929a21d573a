"""Nouns of the store: a query, what is known of a service, a rating's standing. Frozen, no logic, no clock."""

from __future__ import annotations

from dataclasses import dataclass

from common.contracts.registry import NodeStatus
from common.receipts import ServiceRecord


@dataclass(frozen=True, slots=True)
class Query:
    """A search text taken apart."""

    words: tuple[str, ...]  # each must begin a word of the service
    phrases: tuple[str, ...]  # each must stand in it
    tags: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether it asks for nothing in particular."""
        return not (self.words or self.phrases or self.tags)


@dataclass(frozen=True, slots=True)
class Stars:
    """What buyers gave a service: how many ratings, and the sum of their stars."""

    count: int
    total: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A service as this node knows it."""

    record: ServiceRecord
    stars: Stars
    total_calls: int
    status: NodeStatus | None  # None: the registry does not know the provider
    relevance: float  # smaller fits better, as the index says


@dataclass(frozen=True, slots=True)
class Bucket:
    """A buyer's room to call a service: full at `rate_limit`, refilled evenly over a minute."""

    room_milli: int  # thousandths of a call
    at_ms: int
