"""Which offers a seller takes, what becomes of an assignment, and how an arbiter votes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from common.codec import canonical
from common.contracts.escrow_views import Settlement
from common.receipts import Outcome
from common.units import FLOP, Did, Florins
from common.work import EQUAL, Comparator, ComparatorKind, JobKind, JobSpec, Limits, job_hash
from dux_taskd import rules_seller
from dux_taskd.model import Assignment, Case, Consider, GiveBack, GiveQuote, HandOver, JobState
from dux_taskd.rules_arbiter import Finding, verdict
from dux_taskd.rules_seller import Terms, offer_fault
from dux_taskd.sandbox.model import Ended

A, B = (Did("did:dux:" + letter * 52) for letter in "ab")
LIMITS = Limits(fuel=100, memory_bytes=1 << 20, wall_s=10, output_bytes=1000)


def job(**changes: Any) -> JobSpec:
    fields: dict[str, Any] = {
        "v": 1, "kind": JobKind.WASM, "package": b"p" * 32, "entry": "dux-wasm/1", "args": (), "input_blob": b"i" * 32,
        "input_hash": b"h" * 32, "input_private": False, "limits": LIMITS, "comparator": EQUAL, "audience": (),
    }  # fmt: skip
    return JobSpec(**(fields | changes))


def offer(spec: JobSpec, price: int = FLOP, state: JobState = JobState.OFFERED) -> Assignment:
    return Assignment(
        contract_id="c", buyer=A, service_id="s", job=canonical(spec), job_hash=bytes(job_hash(spec)),
        price_florins=Florins(price), deliver_blocks=10, created_ms=0, state=state,
    )  # fmt: skip


TERMS = Terms(
    serving=True, kind="wasm", price_florins=Florins(FLOP), package=b"p" * 32, entry="dux-wasm/1", limits=LIMITS,
    own_did=B, kinds_offered=frozenset((JobKind.WASM,)), open_jobs=0, open_jobs_max=1, memory_bytes_max=1 << 30,
    wall_s_max=60,
)  # fmt: skip


def test_a_fitting_offer_is_taken() -> None:
    """For a served service, at its price, for its package, within its limits."""
    assert offer_fault(offer(job()), job(), TERMS) == ""
    check = job(kind=JobKind.CHECK, package=b"other" + bytes(27), entry="x")
    assert offer_fault(offer(check), check, replace(TERMS, kind="check")) == ""
    private = job(input_private=True, audience=(B,))
    judged = replace(TERMS, arbiters=frozenset(("did:dux:anna",)))
    assert "arbiters" in offer_fault(offer(private), private, judged)  # else a buyer could blind them, and win
    assert offer_fault(offer(private), private, TERMS) == ""


@pytest.mark.parametrize(
    ("spec", "terms", "price", "word"),
    [
        (job(), {"serving": False}, FLOP, "does not run"),
        (job(), {"kind": "native"}, FLOP, "kind"),
        (job(), {"kinds_offered": frozenset()}, FLOP, "safely"),
        (job(), {}, FLOP - 1, "price"),
        (job(package=b"q" * 32), {}, FLOP, "package"),
        (job(entry="other"), {}, FLOP, "entry"),
        (job(limits=replace(LIMITS, fuel=101)), {}, FLOP, "limits"),
        (job(limits=replace(LIMITS, memory_bytes=(1 << 20) + 1)), {}, FLOP, "limits"),
        (job(limits=replace(LIMITS, wall_s=11)), {}, FLOP, "limits"),
        (job(limits=replace(LIMITS, output_bytes=1001)), {}, FLOP, "limits"),
        (job(), {"memory_bytes_max": 1 << 19}, FLOP, "memory"),
        (job(), {"wall_s_max": 9}, FLOP, "at most 9 s"),
        (job(comparator=Comparator(kind=ComparatorKind.CUSTOM, step=0, share_ppm=0)), {}, FLOP, "custom"),
        (
            job(kind=JobKind.CHECK, comparator=Comparator(kind=ComparatorKind.TOLERANCE, step=1, share_ppm=1)),
            {"kind": "check"}, FLOP, "hashes",
        ),
        (job(input_private=True, audience=(A,)), {}, FLOP, "not meant"),
        (job(), {"royalty_is_right": False}, FLOP, "royalty"),
        (job(), {"lock_is_right": False}, FLOP, "sell the result as the service does"),
        (job(), {"open_jobs": 1}, FLOP, "later"),
    ],
)  # fmt: skip
def test_an_offer_that_does_not_fit_is_refused_with_the_reason(
    spec: JobSpec, terms: dict[str, Any], price: int, word: str
) -> None:
    """Each condition alone is enough, and its reason names it."""
    assert word in offer_fault(offer(spec, price), spec, replace(TERMS, **terms))


def test_a_job_under_another_hash_is_refused() -> None:
    """The hash in the contract must be the job's."""
    assert "hash" in offer_fault(replace(offer(job()), job_hash=b"x" * 32), job(), TERMS)


def at(state: JobState) -> Assignment:
    return offer(job(), state=state)


def test_an_offer_is_decided_once() -> None:
    """Considered, then quoted or refused; a second decision changes nothing."""
    assert rules_seller.on_offer(at(JobState.OFFERED)).orders == (Consider(contract_id="c"),)
    taken = rules_seller.on_decided(at(JobState.OFFERED), "")
    assert taken.orders == (GiveQuote(contract_id="c", accept=True, reason=""),)
    refused = rules_seller.on_decided(at(JobState.OFFERED), "busy")
    assert (refused.assignment.state, refused.orders) == (
        JobState.REFUSED, (GiveQuote(contract_id="c", accept=False, reason="busy"),),
    )  # fmt: skip
    assert rules_seller.on_decided(taken.assignment, "busy") == (taken.assignment, ())


@pytest.mark.parametrize("state", JobState)
def test_events_move_only_where_they_fit(state: JobState) -> None:
    """Funded, paused, cancel, sealed, failed: each moves from the states that it belongs to, and from no other."""
    a = at(state)
    assert (rules_seller.on_funded(a).assignment.state is JobState.WORKING) == (
        state in (JobState.QUOTED, JobState.PAUSED, JobState.WORKING)
    )
    assert (rules_seller.on_paused(a).assignment.state is JobState.PAUSED) == (
        state in (JobState.WORKING, JobState.PAUSED)
    )
    cancelled = rules_seller.on_cancel_asked(a)
    assert bool(cancelled.orders) == (state in rules_seller.OPEN)
    sealed = rules_seller.on_sealed(a, "b", b"c", b"r", b"o")
    assert (HandOver(contract_id="c") in sealed.orders) == (state is JobState.WORKING)
    failed = rules_seller.on_failed(a, "x", may_repeat=False)
    assert (GiveBack(contract_id="c") in failed.orders) == (state is JobState.WORKING)


def test_a_broken_run_is_repeated_only_so_often() -> None:
    """Twice more; then all coins go back."""
    a = at(JobState.WORKING)
    for _ in range(rules_seller.ATTEMPTS_MAX - 1):
        turn = rules_seller.on_failed(a, "broke", may_repeat=True)
        assert (turn.assignment.state, turn.orders) == (JobState.WORKING, ())
        a = turn.assignment
    assert rules_seller.on_failed(a, "broke", may_repeat=True).assignment.state is JobState.GIVEN_BACK


def test_ends_and_their_undoing() -> None:
    """Closed is the end; a reorganisation makes it what it was; a spend in sight is no end; voided is one."""
    settlement = Settlement(
        outcome=Outcome.RELEASED, gross_florins=Florins(1), provider_florins=Florins(1), fund_florins=Florins(0),
        fee_florins=Florins(0), txid="", height=1,
    )  # fmt: skip
    sealed = replace(at(JobState.SEALED), ciphertext_blob="b")
    seen = rules_seller.on_spend(sealed, settlement, closed=False).assignment
    assert seen.state is JobState.SEALED
    closed = rules_seller.on_spend(seen, settlement, closed=True).assignment
    assert closed.state is JobState.CLOSED
    assert rules_seller.on_spend(closed, None, closed=False).assignment == sealed
    given = rules_seller.on_spend(at(JobState.GIVEN_BACK), settlement, closed=True).assignment
    assert rules_seller.on_spend(given, None, closed=False).assignment.state is JobState.GIVEN_BACK
    voided = rules_seller.on_voided(at(JobState.QUOTED)).assignment
    assert voided.state is JobState.CLOSED
    assert rules_seller.on_funded(voided).assignment.state is JobState.WORKING, "a late payment that counts"
    assert rules_seller.on_funded(rules_seller.on_voided(sealed).assignment).assignment == sealed
    assert rules_seller.on_funded(closed).assignment == closed


CASE = Case(
    contract_id="c", buyer=A, seller=B, service_id="s", job=b"", price_florins=Florins(FLOP), ciphertext_blob="b",
    commitment=b"c", content_key=b"k", work_receipt=b"r", holders=(), created_ms=0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("case", "kind", "finding", "gross"),
    [
        (replace(CASE, ciphertext_blob=""), JobKind.WASM, Finding(), 0),
        (replace(CASE, content_key=b""), JobKind.WASM, Finding(), 0),
        (CASE, JobKind.WASM, Finding(fault="broken"), 0),
        (CASE, JobKind.WASM, Finding(missing="input"), 0),
        (CASE, JobKind.WASM, Finding(ended=Ended.DONE, agrees=True), FLOP),
        (CASE, JobKind.WASM, Finding(ended=Ended.DONE, agrees=False), 0),
        (CASE, JobKind.NATIVE, Finding(ended=Ended.DONE, agrees=True), FLOP),
        (CASE, JobKind.WASM, Finding(ended=Ended.OUT_OF_FUEL), 0),
        (CASE, JobKind.CHECK, Finding(ended=Ended.REFUSED), 0),
        (CASE, JobKind.NATIVE, Finding(ended=Ended.FAILED), None),
        (CASE, JobKind.WASM, Finding(ended=Ended.DEADLINE), None),
        (CASE, JobKind.WASM, Finding(ended=Ended.BROKEN), None),
        (CASE, JobKind.WASM, Finding(), None),
    ],
)
def test_an_arbiter_votes_by_what_it_found(case: Case, kind: JobKind, finding: Finding, gross: int | None) -> None:
    """Nothing delivered or nothing as promised: 0. An own run decides where it is comparable; else no vote."""
    found = verdict(case, kind, finding)
    assert (None if found is None else int(found.gross_florins)) == gross
    assert found is None or found.reason


@pytest.mark.parametrize(("begun", "state"), [(True, JobState.WORKING), (False, JobState.QUOTED)])
def test_work_that_came_back_is_run_again_while_a_delivery_counts(*, begun: bool, state: JobState) -> None:
    """Funded: at once; else when it is funded. With no block left all goes back, before anybody has to ask."""
    turn = rules_seller.on_returned(at(JobState.OFFERED), begun=begun, blocks_left=1)
    assert (turn.assignment.state, turn.orders) == (state, ())
    late = rules_seller.on_returned(at(JobState.OFFERED), begun=begun, blocks_left=0)
    assert (late.assignment.state, late.orders) == (JobState.GIVEN_BACK, (GiveBack(contract_id="c"),))


def test_what_cannot_be_delivered_any_more_is_given_back() -> None:
    """The buyer disputes because the time is over: only then, and only while nothing is sealed."""
    for state in (JobState.QUOTED, JobState.WORKING, JobState.PAUSED):
        turn = rules_seller.on_disputed(at(state), too_late=True)
        assert (turn.assignment.state, turn.orders) == (JobState.GIVEN_BACK, (GiveBack(contract_id="c"),))
        assert rules_seller.on_disputed(at(state), too_late=False) == (at(state), ())
    for state in (JobState.SEALED, JobState.GIVEN_BACK, JobState.CLOSED):
        assert rules_seller.on_disputed(at(state), too_late=True) == (at(state), ())
