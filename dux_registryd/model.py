"""Nouns of the registry: what is known of a node and of a settlement. Frozen, no logic, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.receipts import NO_HARDWARE, Hardware, Heartbeat, NodeInfo, Outcome
from common.units import BlockHeight, Did, Florins


@dataclass(frozen=True, slots=True)
class Settlement:
    """One contract's end, with its payment checked on the chain."""

    cid: bytes
    buyer: Did
    seller: Did
    price_florins: Florins
    gross_florins: Florins
    tax_florins: Florins
    height: BlockHeight
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Weight:
    """What one settlement adds today to its seller's good and bad, in florins of tax."""

    settlement: Settlement
    age_days: int
    good_florins: Florins
    bad_florins: Florins


@dataclass(frozen=True, slots=True)
class Presence:
    """What was witnessed of a node's presence, in days of blocks."""

    days_known: int  # since the first heartbeat witnessed
    days_witnessed: int  # days with a heartbeat or a slot seen, among the last `PRESENCE_WINDOW_DAYS`
    days_good: int = 0  # of these, days of which drawn challengers saw most slots
    uptime_bps: int | None = None  # part of the last seven days' slots that were up; None: never judged
    uptime_days: int = 0  # whole days of slots behind that part
    services: tuple[tuple[str, int], ...] = ()  # what it did for the network, by name, as those whom it served signed
    probing_bps: int | None = None  # part of the looks at others that it owed and made; None: it owed none


@dataclass(frozen=True, slots=True)
class Link:
    """How long one node's answers take to reach another, as the asking one has signed."""

    prober: Did
    target: Did
    rtt_ms: int  # smoothed: an eighth of each new figure
    least_ms: int
    samples: int
    slot: int  # of the last sample


NEVER_SEEN = Presence(days_known=0, days_witnessed=0)


@dataclass(frozen=True, slots=True)
class Score:
    """A node's standing; every figure follows from weights and presence alone."""

    good_florins: Florins  # E
    bad_florins: Florins  # N
    score_ppm: int  # Q, millionths
    standing_milli: int  # s, thousandths
    weight_florins: Florins  # ω
    trade_tier: int
    duty_tier: int

    @property
    def tier(self) -> int:
        """The lower of what trade and what duty give (settled.md 31)."""
        return min(self.trade_tier, self.duty_tier)


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a machine is."""

    uptime_s: int
    load_milli: tuple[int, int, int]
    memory_used_bps: int
    disk_used_bps: int
    memory_available_mb: int
    cpu_available: int


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A registered node as this registry holds it."""

    info: NodeInfo
    heartbeat: Heartbeat | None
    heard_ms: int  # when this node last heard of it, by its own clock; 0: never
    hardware: Hardware = NO_HARDWARE


class State(StrEnum):
    """What is kept from a node."""

    BANNED = "banned"  # no session, no call, no duty, on no list
    SUSPENDED = "suspended"  # no duty, on no list
    RELIEVED = "relieved"  # no duty: its standing is too low
    FROZEN = "frozen"  # no duty: it has been silent too long


@dataclass(frozen=True, slots=True)
class Sanction:
    """One reason to keep something from a node."""

    did: Did
    state: State
    reason: str
    evidence: str
    set_by: str
    since_ms: int
    until_ms: int | None  # None: for good, or as long as its reason lasts


@dataclass(frozen=True, slots=True)
class RatedNode:
    """A known node with its standing: what lists are made of."""

    node: KnownNode
    score: Score
    jobs_done: int
    jobs_failed: int
    presence: Presence = NEVER_SEEN
    sanctions: tuple[Sanction, ...] = ()
    verified: tuple[str, ...] = ()  # parts of what it declares that were measured
    bonded_florins: int = 0  # locked in its fidelity bonds
