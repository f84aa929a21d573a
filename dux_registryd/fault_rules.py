"""When two signed statements prove a fault, and what proven faults cost their signer. Pure.

A fault is *equivocation*: two statements of one signer at one place that cannot both be honest. It needs nobody's
judgement, so every node finds the same. What it costs: the first two tiers and half of what was earned before it, the
second within 180 days 90 days of suspension, the third the name. Silence, a lost vote, one odd result are no faults.

Source: mechanisms.md §1.1 (faults), §3.3 (what is a fault and what never is).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.errors import BadParams
from common.identity.purposes import Purpose
from common.receipts import (
    HEARTBEAT_BYTES_MAX,
    Attested,
    Heartbeat,
    body_of,
    described,
    receipt_in,
)
from common.standing import STATEMENT_BYTES_MAX, AuditVerdict, BenchmarkResult
from common.units import Did, UnixMs

DAY_MS = 86_400_000
AGAIN_DAYS = 180  # a second fault within these suspends
SUSPENDED_DAYS = 90
FAULTS_TO_BAN = 3
TIERS_DOWN = 2


@dataclass(frozen=True, slots=True)
class Said:
    """A statement, as far as contradictions go: who, where, and what must be the same at one place."""

    signer: Did
    place: str
    content: object
    at_ms: UnixMs


def _node(envelope: Attested) -> Said:
    info = described(envelope).info
    return Said(info.did, str(info.at_ms), envelope.body, info.at_ms)


def _heartbeat(envelope: Attested) -> Said:
    beat = body_of(envelope, Heartbeat, HEARTBEAT_BYTES_MAX)
    return Said(beat.did, str(beat.at_ms), envelope.body, beat.at_ms)


def _receipt(envelope: Attested) -> Said:
    """One payment of one contract has one price, one gross and one outcome; its height may move with the chain."""
    one = receipt_in(envelope)
    money = (one.buyer, one.seller, one.price_florins, one.gross_florins, one.tax_florins, one.outcome)
    return Said(one.signer, f"{one.cid.hex()}/{one.txid}", money, one.at_ms)


def _verdict(envelope: Attested) -> Said:
    one = body_of(envelope, AuditVerdict, STATEMENT_BYTES_MAX)
    return Said(one.auditor, one.audit.hex(), one.passed, one.at_ms)


def _benchmark(envelope: Attested) -> Said:
    one = body_of(envelope, BenchmarkResult, STATEMENT_BYTES_MAX)
    return Said(one.prober, f"{one.period}/{one.target}", envelope.body, one.at_ms)


CLAIMS: dict[str, tuple[Purpose, Callable[[Attested], Said]]] = {
    "node": (Purpose.REGISTRATION, _node),
    "heartbeat": (Purpose.HEARTBEAT, _heartbeat),
    "receipt": (Purpose.SETTLED_RECEIPT, _receipt),
    "verdict": (Purpose.AUDIT_VERDICT, _verdict),
    "benchmark": (Purpose.BENCHMARK, _benchmark),
}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A fault as two statements show it; their signatures are not looked at."""

    signer: Did
    claim: str
    place: str
    purpose: Purpose
    at_ms: UnixMs  # of the later statement


def contradiction(claim: str, one: Attested, other: Attested) -> Contradiction | str:
    """The fault that two statements prove, or why they prove none."""
    if claim not in CLAIMS:
        return f"no such claim; write one of {', '.join(CLAIMS)}"
    purpose, read = CLAIMS[claim]
    try:
        first, second = read(one), read(other)
    except BadParams as error:
        return error.message
    if not one.did == other.did == first.signer == second.signer:
        return "they are not statements of one signer about itself"
    if first.place != second.place:
        return "they stand at two places, so both may be honest"
    if first.content == second.content:
        return "they say the same"
    return Contradiction(first.signer, claim, first.place, purpose, UnixMs(max(first.at_ms, second.at_ms)))


@dataclass(frozen=True, slots=True)
class Penalty:
    """What faults cost now."""

    faults: int = 0
    tiers_down: int = 0
    halved_days: tuple[int, ...] = ()  # ages of faults: what was earned before each counts half
    suspended_until_ms: int = 0
    banned: bool = False


NO_PENALTY = Penalty()


def penalty_of(faults_at_ms: Sequence[int], now_ms: int) -> Penalty:
    """The cost of proven faults, whatever the order in which they became known."""
    moments = sorted(at_ms for at_ms in faults_at_ms if at_ms <= now_ms)
    if not moments:
        return NO_PENALTY
    again = [later for before, later in itertools.pairwise(moments) if later - before <= AGAIN_DAYS * DAY_MS]
    return Penalty(
        faults=len(moments),
        tiers_down=TIERS_DOWN if now_ms - moments[-1] <= AGAIN_DAYS * DAY_MS else 0,
        halved_days=tuple((now_ms - at_ms) // DAY_MS for at_ms in moments),
        suspended_until_ms=max((at_ms + SUSPENDED_DAYS * DAY_MS for at_ms in again), default=0),
        banned=len(moments) >= FAULTS_TO_BAN,
    )


def halvings(age_days: int, penalty: Penalty) -> int:
    """How often what was earned so many days ago is halved: once for each fault since."""
    return sum(age_days >= days for days in penalty.halved_days)
