"""The seller's decisions: which offers are taken, and what becomes of an assignment. Pure.

Laws: an offer is taken only for a service that this node serves, at its price or above, for its package within its
limits, of a kind that the probe has seen to hold; work starts only on a funded contract; a contract whose work cannot
be delivered is given back, all coins to the buyer. An unfit fact changes nothing.

Source: escrow_protocol.md §5, settled.md 36.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from common.contracts.escrow_views import Settlement
from common.units import Florins, format_flop
from common.work import ComparatorKind, JobKind, JobSpec, Limits, job_hash
from dux_taskd.model import Assignment, Consider, GiveBack, GiveQuote, HandOver, JobState, Order

LOST, LATE = "this node lost its disk, and there is no time to run it again", "it was not delivered in time"
NOT_FUNDED = "it was not funded in time"
ATTEMPTS_MAX = 3  # of a run that broke through no fault of the job
OPEN = frozenset((JobState.OFFERED, JobState.QUOTED, JobState.WORKING, JobState.PAUSED))
OVER = frozenset((JobState.REFUSED, JobState.GIVEN_BACK, JobState.CLOSED))


class Turn(NamedTuple):
    """The assignment as it is now, and what is to be done."""

    assignment: Assignment
    orders: tuple[Order, ...]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What this node asks for a service, and how it stands now."""

    serving: bool
    kind: str
    price_florins: Florins
    package: bytes
    entry: str
    limits: Limits
    own_did: str
    kinds_offered: frozenset[JobKind]
    open_jobs: int
    open_jobs_max: int
    memory_bytes_max: int
    wall_s_max: int
    royalty_is_right: bool = True
    lock_is_right: bool = True
    arbiters: frozenset[str] = frozenset()  # of the contract that is offered; looked up for private inputs


def offer_fault(offer: Assignment, job: JobSpec, terms: Terms) -> str:
    """Why this offer is not taken, in a sentence that the buyer reads; empty when it is."""
    claims = (
        (terms.serving, "this node does not run jobs for that service"),
        (bytes(job_hash(job)) == offer.job_hash, "the job is not the one that its hash names"),
        (terms.kind == job.kind.value, f"the service is of kind {terms.kind}"),
        (job.kind.runtime in terms.kinds_offered, f"this machine cannot run {job.kind.runtime.value} jobs safely now"),
        (offer.price_florins >= terms.price_florins, f"the price is {format_flop(terms.price_florins)} FLOP"),
        (job.kind is JobKind.CHECK or job.package == terms.package, "the service runs another package"),
        (job.kind is JobKind.CHECK or job.entry == terms.entry, "the service has another entry"),
        (within(job.limits, terms.limits), "the limits are above the service's"),
        (job.limits.memory_bytes <= terms.memory_bytes_max, "this machine gives less memory"),
        (job.limits.wall_s <= terms.wall_s_max, f"this machine runs a job for at most {terms.wall_s_max} s"),
        (job.comparator.kind is not ComparatorKind.CUSTOM, "custom comparators are not offered yet"),
        (job.kind is not JobKind.CHECK or job.comparator.kind is ComparatorKind.EQUAL, "a check compares hashes"),
        (not job.input_private or terms.own_did in job.audience, "the input is not meant for this node"),
        (
            not job.input_private or terms.arbiters <= set(job.audience),
            "the input is not meant for the arbiters: they could not judge the result",
        ),
        (terms.royalty_is_right, "the offer does not pay the service's developer its royalty"),
        (terms.lock_is_right, "the offer does not sell the result as the service does: by its key, or open"),
        (terms.open_jobs < terms.open_jobs_max, "this node has all the jobs it can take; ask again later"),
    )
    return next((fault for holds, fault in claims if not holds), "")


def within(asked: Limits, given: Limits) -> bool:
    """True when nothing is asked above what is given."""
    return (
        asked.fuel <= given.fuel
        and asked.memory_bytes <= given.memory_bytes
        and asked.wall_s <= given.wall_s
        and asked.output_bytes <= given.output_bytes
    )


def on_offer(offer: Assignment) -> Turn:
    """A new offer is considered."""
    return Turn(offer, (Consider(contract_id=offer.contract_id),))


def on_decided(a: Assignment, fault: str) -> Turn:
    """The decision is on disk before it is said."""
    if a.state is not JobState.OFFERED:
        return Turn(a, ())
    state = JobState.REFUSED if fault else JobState.QUOTED
    order = GiveQuote(contract_id=a.contract_id, accept=not fault, reason=fault)
    return Turn(replace(a, state=state, reason=fault), (order,))


def on_funded(a: Assignment) -> Turn:
    """Funded (again, or late by LATE_OK): work, unless it is done already."""
    if a.state is JobState.CLOSED and a.reason == NOT_FUNDED:
        return Turn(replace(a, state=JobState.SEALED if a.ciphertext_blob else JobState.WORKING, reason=""), ())
    if a.state not in (JobState.QUOTED, JobState.PAUSED):
        return Turn(a, ())
    return Turn(replace(a, state=JobState.WORKING), ())


def on_returned(a: Assignment, *, begun: bool, blocks_left: int) -> Turn:
    """Work that came back after this node lost its disk: run (again) while a delivery counts, else given back."""
    if blocks_left <= 0:
        return _give_back(a, LOST)
    return Turn(replace(a, state=JobState.WORKING if begun else JobState.QUOTED), ())


def on_disputed(a: Assignment, *, too_late: bool) -> Turn:
    """The buyer asks the arbiters because nothing came in time: what cannot be delivered any more is given back."""
    return _give_back(a, LATE) if too_late and a.state in OPEN else Turn(a, ())


def on_paused(a: Assignment) -> Turn:
    """The funding left the chain: stop until it is back."""
    return Turn(replace(a, state=JobState.PAUSED), ()) if a.state is JobState.WORKING else Turn(a, ())


def on_cancel_asked(a: Assignment) -> Turn:
    """The buyer would rather end: agreed, as long as nothing is delivered."""
    return _give_back(a, "the buyer asked for the end") if a.state in OPEN else Turn(a, ())


def on_sealed(a: Assignment, blob: str, commitment: bytes, receipt: bytes, output_hash: bytes) -> Turn:
    """The result is encrypted and kept here: hand it over."""
    if a.state is not JobState.WORKING:
        return Turn(a, ())
    sealed = replace(
        a,
        state=JobState.SEALED,
        ciphertext_blob=blob,
        commitment=commitment,
        work_receipt=receipt,
        output_hash=output_hash,
        progress_permille=1000,
    )
    return Turn(sealed, (HandOver(contract_id=a.contract_id),))


def on_failed(a: Assignment, reason: str, *, may_repeat: bool) -> Turn:
    """A run without a result: once more where it was not the job's fault, else all coins go back."""
    if a.state is not JobState.WORKING:
        return Turn(a, ())
    if may_repeat and a.attempts + 1 < ATTEMPTS_MAX:
        return Turn(replace(a, attempts=a.attempts + 1, reason=reason), ())
    return _give_back(a, reason)


def _give_back(a: Assignment, reason: str) -> Turn:
    return Turn(replace(a, state=JobState.GIVEN_BACK, reason=reason), (GiveBack(contract_id=a.contract_id),))


def on_spend(a: Assignment, settlement: Settlement | None, *, closed: bool) -> Turn:
    """How the coin went; a reorganisation opens a closed assignment again as what it holds."""
    if closed:
        return Turn(replace(a, state=JobState.CLOSED, settlement=settlement), ())
    state = a.state
    if state is JobState.CLOSED:
        state = JobState.SEALED if a.ciphertext_blob else JobState.GIVEN_BACK
    return Turn(replace(a, state=state, settlement=settlement), ())


def on_voided(a: Assignment) -> Turn:
    """Not funded: over, unless the payment comes late and both let it count."""
    return Turn(replace(a, state=JobState.CLOSED, reason=NOT_FUNDED), ())
