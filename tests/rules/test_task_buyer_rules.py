"""The buyer's decisions, case by case, and their laws in random histories."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from common.contracts.escrow_views import Settlement
from common.contracts.task import FINAL, TaskState
from common.receipts import Outcome
from common.units import FLOP, Did, Florins
from dux_taskd import rules_buyer
from dux_taskd.model import (
    Advanced,
    CancelLeg,
    CancelWanted,
    Delivered,
    DisputeSeen,
    Fact,
    FoundFaulty,
    JudgeLeg,
    KeyShown,
    LegKind,
    LegState,
    Opened,
    OpenResult,
    Plan,
    Propose,
    Proposed,
    RanAgain,
    Refused,
    ReRun,
    RunAgain,
    SpendSeen,
    Task,
)
from dux_taskd.rules_buyer import Turn, begin, check_word, decide, is_over, state_of

A, B, C = (Did("did:dux:" + letter * 52) for letter in "abc")
RIGHT, WRONG = b"r" * 32, b"w" * 32
MAIN, CHECK = 0, 1


def plan(kind: LegKind, worker: Did = B) -> Plan:
    return Plan(kind=kind, service_id=kind.value, worker=worker, price_florins=Florins(FLOP), job=b"job")


def task(*plans: Plan) -> Task:
    spare = plans or (plan(LegKind.MAIN), plan(LegKind.CHECK, C))
    return Task(task_id="t", buyer=A, arbiters=(), deliver_blocks=9, created_ms=0, spare=spare)


def play(start: Task, *facts: Fact) -> Turn:
    """All facts in turn, and all orders."""
    turn = begin(start)
    orders = list(turn.orders)
    for fact in facts:
        turn = decide(turn.task, fact)
        orders += turn.orders
    return Turn(turn.task, tuple(orders))


def agreed(leg: int) -> tuple[Fact, ...]:
    return (Proposed(leg=leg, contract_id=f"c{leg}"), Advanced(leg=leg, state=LegState.AGREED))


def delivered(leg: int) -> tuple[Fact, ...]:
    done = Delivered(leg=leg, ciphertext_blob="b", commitment=b"c", work_receipt=bytes([leg]), holders=(B,))
    return (*agreed(leg), Advanced(leg=leg, state=LegState.RUNNING), done)


def opened(leg: int, output_hash: bytes = RIGHT) -> tuple[Fact, ...]:
    return (
        *delivered(leg),
        KeyShown(leg=leg, content_key=b"k"),
        Opened(leg=leg, output_hash=output_hash, output_blob="o"),
    )


def settled(gross: int, outcome: Outcome = Outcome.RELEASED) -> Settlement:
    return Settlement(
        outcome=outcome, gross_florins=Florins(gross), provider_florins=Florins(gross), fund_florins=Florins(0),
        fee_florins=Florins(0), txid="aa", height=1,
    )  # fmt: skip


def closed(leg: int, gross: int = FLOP, outcome: Outcome = Outcome.RELEASED) -> SpendSeen:
    return SpendSeen(leg=leg, settlement=settled(gross, outcome), closed=True)


def judged(turn: Turn) -> dict[int, bool]:
    return {order.leg: order.good for order in turn.orders if isinstance(order, JudgeLeg)}


def kinds(turn: Turn) -> list[str]:
    return [type(order).__name__ for order in turn.orders]


ALONE = task(plan(LegKind.MAIN))


SWAP = replace(ALONE, policy="swap")


@pytest.mark.parametrize("order", ["key first", "closed first"])
def test_what_was_paid_first_is_judged_for_oneself_alone(order: str) -> None:
    """Policy swap: good or bad is written down, also when the contract is over by then; nothing is told to anybody."""
    key, end = KeyShown(leg=MAIN, content_key=b"k"), closed(MAIN)
    facts = (key, end) if order == "key first" else (end, key)
    good = play(SWAP, *delivered(MAIN), *facts, Opened(leg=MAIN, output_hash=RIGHT, output_blob="o"))
    bad = play(SWAP, *delivered(MAIN), *facts, FoundFaulty(leg=MAIN, reason="it does not open"))
    for turn, verdict in ((good, True), (bad, False)):
        assert (turn.task.legs[MAIN].good, judged(turn)) == (verdict, {})
        assert (state_of(turn.task), is_over(turn.task)) == (TaskState.PAID, True)
    assert bad.task.reason == "it does not open"


def test_a_disputed_swap_is_judged_before_the_arbiters() -> None:
    """The seller did not take the payment and asked them: what the buyer found is heard."""
    disputed = DisputeSeen(leg=MAIN, reason="no release")
    key = KeyShown(leg=MAIN, content_key=b"k")
    turn = play(SWAP, *delivered(MAIN), disputed, key, Opened(leg=MAIN, output_hash=RIGHT, output_blob="o"))
    assert judged(turn) == {MAIN: True}
    checked = replace(task(), policy="swap")
    assert not rules_buyer.paid_first(checked, play(checked, *agreed(MAIN)).task.legs[CHECK]), "a check is standby"


def test_the_check_is_asked_for_once_the_job_is_agreed() -> None:
    """One contract at the start, the second worker's when the first is agreed, not before."""
    assert kinds(play(task())) == ["Propose"]
    assert kinds(play(task(), Proposed(leg=MAIN, contract_id="c"))) == ["Propose"]
    assert kinds(play(task(), *agreed(MAIN))) == ["Propose", "Propose"]


def test_equal_hashes_are_good_for_both() -> None:
    """Both opened, equal: both judged good, in whatever order they arrive."""
    for first, second in ((MAIN, CHECK), (CHECK, MAIN)):
        turn = play(task(), *agreed(MAIN), *opened(first), *opened(second))
        assert judged(turn) == {MAIN: True, CHECK: True}
        assert check_word(turn.task) == "agreed"


def test_without_a_check_an_opened_result_is_good() -> None:
    """What opens as committed is paid when no check was asked for."""
    turn = play(ALONE, *opened(MAIN))
    assert judged(turn) == {MAIN: True}
    assert check_word(turn.task) == ""
    assert play(turn.task, closed(MAIN)).task.legs[MAIN].state is LegState.CLOSED


@pytest.mark.parametrize(
    ("own", "main_good", "check_good"), [(RIGHT, True, False), (WRONG, False, True), (b"x" * 32, False, False)]
)
def test_a_difference_is_settled_by_an_own_run(own: bytes, *, main_good: bool, check_good: bool) -> None:
    """Hashes differ: this node runs the job once and sides with what it found, with the other's receipt as evidence."""
    before = play(task(), *agreed(MAIN), *opened(MAIN, RIGHT), *opened(CHECK, WRONG))
    assert judged(before) == {}
    assert kinds(before).count("RunAgain") == 1
    assert check_word(before.task) == "differs"
    turn = decide(before.task, RanAgain(rerun=ReRun(output_hash=own, reason="")))
    assert judged(turn) == {MAIN: main_good, CHECK: check_good}
    bad = [order for order in turn.orders if isinstance(order, JudgeLeg) and not order.good]
    assert all(order.evidence == bytes([1 - order.leg]) for order in bad)


def test_the_first_own_run_counts() -> None:
    """An order that a crash repeats may end otherwise: what was judged by the first run stays what it was judged by."""
    before = play(task(), *agreed(MAIN), *opened(MAIN, RIGHT), *opened(CHECK, WRONG))
    first = decide(before.task, RanAgain(rerun=ReRun(output_hash=RIGHT, reason="")))
    again = decide(first.task, RanAgain(rerun=ReRun(output_hash=WRONG, reason="")))
    assert again.task == first.task
    assert not again.orders


def test_where_no_own_run_is_possible_the_second_worker_counts() -> None:
    """A difference that this node cannot look into is put before the arbiters, with the checker's receipt."""
    turn = play(
        task(), *agreed(MAIN), *opened(MAIN), *opened(CHECK, WRONG), RanAgain(rerun=ReRun(output_hash=b"", reason="no"))
    )
    assert judged(turn) == {MAIN: False, CHECK: True}


def test_a_checker_that_fails_is_replaced_then_replaced_by_an_own_run() -> None:
    """Refused, then disputed: the next checker; none left: an own run decides."""
    three = task(plan(LegKind.MAIN), plan(LegKind.CHECK, C), plan(LegKind.CHECK, A))
    turn = play(three, *agreed(MAIN), *opened(MAIN), Refused(leg=1, reason="busy"))
    assert [o.leg for o in turn.orders if isinstance(o, Propose)] == [0, 1, 2]
    gone = decide(turn.task, DisputeSeen(leg=2, reason="no start"))
    assert kinds(gone) == ["RunAgain"]
    assert check_word(gone.task) == "missing"
    done = decide(gone.task, RanAgain(rerun=ReRun(output_hash=RIGHT, reason="")))
    assert judged(done) == {MAIN: True}


def test_with_nobody_to_ask_an_opened_result_is_paid_unchecked() -> None:
    """No checker, no own run: the arbiters would find it right or wrong, this node has nothing against it."""
    turn = play(
        task(),
        *agreed(MAIN),
        *opened(MAIN),
        Refused(leg=1, reason="no"),
        RanAgain(rerun=ReRun(output_hash=b"", reason="")),
    )
    assert judged(turn) == {MAIN: True}
    assert "unchecked" in turn.task.reason


def test_a_result_that_does_not_open_is_bad() -> None:
    """Broken seal or commitment: bad, for job and check alike; the check goes on for itself."""
    faulty = FoundFaulty(leg=MAIN, reason="does not open")
    turn = play(ALONE, *delivered(MAIN), KeyShown(leg=MAIN, content_key=b"k"), faulty)
    assert judged(turn) == {MAIN: False}
    shown = KeyShown(leg=CHECK, content_key=b"k")
    turn = play(task(), *agreed(MAIN), *delivered(CHECK), shown, FoundFaulty(leg=CHECK, reason="x"), *opened(MAIN))
    assert judged(turn) == {CHECK: False}
    assert kinds(turn)[-1] == "RunAgain"
    turn = play(task(), *agreed(MAIN), *delivered(MAIN), KeyShown(leg=MAIN, content_key=b"k"), faulty, *opened(CHECK))
    assert judged(turn) == {MAIN: False, CHECK: True}


def test_a_dispute_before_the_check_is_in_makes_this_node_run_the_job() -> None:
    """The seller asked the arbiters while the check is out: no further checker, an own run, then the truth."""
    turn = play(task(), *agreed(MAIN), *opened(MAIN), DisputeSeen(leg=MAIN, reason="no release"))
    assert kinds(turn)[-1] == "RunAgain"
    assert judged(decide(turn.task, RanAgain(rerun=ReRun(output_hash=RIGHT, reason="")))) == {MAIN: True}
    three = task(plan(LegKind.MAIN), plan(LegKind.CHECK, C), plan(LegKind.CHECK, A))
    turn = play(three, *agreed(MAIN), DisputeSeen(leg=MAIN, reason="x"), Refused(leg=1, reason="x"))
    assert [o.leg for o in turn.orders if isinstance(o, Propose)] == [0, 1]


def test_a_contract_that_gave_nothing_is_followed_by_the_next_service() -> None:
    """Refused, voided, or taken back unpaid: the alternative is asked; a paid one is the end."""
    two = task(plan(LegKind.MAIN), plan(LegKind.MAIN, C))
    for end in (Refused(leg=0, reason="no"), closed(0, 0, Outcome.AWARDED)):
        turn = play(two, *agreed(0), end)
        assert [o.leg for o in turn.orders if isinstance(o, Propose)] == [0, 1]
    assert kinds(play(two, *opened(0), closed(0))).count("Propose") == 1


def test_a_check_without_anything_to_compare_is_paid() -> None:
    """The seller vanished; the checker did its part."""
    turn = play(task(), *agreed(MAIN), *opened(CHECK), closed(MAIN, 0, Outcome.AWARDED))
    assert judged(turn) == {CHECK: True}
    assert check_word(decide(turn.task, closed(CHECK)).task) == "missing"


def test_a_late_different_check_is_left_to_the_arbiters() -> None:
    """The job was paid unchecked; a hash that comes later and differs proves nothing against the checker."""
    nothing = RanAgain(rerun=ReRun(output_hash=b"", reason=""))
    dispute = DisputeSeen(leg=CHECK, reason="slow")
    turn = play(task(), *agreed(MAIN), *opened(MAIN), *delivered(CHECK), dispute, nothing)
    assert judged(turn) == {MAIN: True}
    late = play(turn.task, KeyShown(leg=CHECK, content_key=b"k"), Opened(leg=CHECK, output_hash=WRONG, output_blob=""))
    assert judged(late) == {}


def test_cancelling_asks_every_undelivered_contract_once() -> None:
    """The wish goes out once to each contract; nothing new is proposed; what was delivered goes on."""
    turn = play(task(), *agreed(MAIN), CancelWanted(), CancelWanted())
    assert [order.leg for order in turn.orders if isinstance(order, CancelLeg)] == [0, 1]
    turn = play(turn.task, Refused(leg=0, reason="voided"), Refused(leg=1, reason="voided"))
    assert (state_of(turn.task), is_over(turn.task)) == (TaskState.CANCELLED, True)
    turn = play(task(), Proposed(leg=0, contract_id="c"), CancelWanted(), *opened(MAIN)[1:])
    assert judged(turn) == {MAIN: True}
    assert check_word(turn.task) == "waiting"


def test_an_award_may_bring_the_key_after_the_end() -> None:
    """An arbiter shows the key with its award: the result is opened, and the task is over only then."""
    turn = play(ALONE, *delivered(MAIN), closed(MAIN, FLOP, Outcome.AWARDED))
    assert is_over(turn.task)
    late = decide(turn.task, KeyShown(leg=MAIN, content_key=b"k"))
    assert kinds(late) == ["OpenResult"]
    assert not is_over(late.task)
    done = decide(late.task, Opened(leg=MAIN, output_hash=RIGHT, output_blob="o"))
    assert (is_over(done.task), done.task.legs[0].state, judged(done)) == (True, LegState.CLOSED, {})
    bad = decide(late.task, FoundFaulty(leg=MAIN, reason="broken"))
    assert (is_over(bad.task), judged(bad)) == (True, {})


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (agreed(MAIN), LegState.RUNNING),
        (delivered(MAIN), LegState.DELIVERED),
        ((*delivered(MAIN), KeyShown(leg=0, content_key=b"k")), LegState.REVEALED),
        ((*delivered(MAIN), KeyShown(leg=0, content_key=b"k"), FoundFaulty(leg=0, reason="x")), LegState.FAULTY),
        (opened(MAIN), LegState.OPENED),
    ],
)
def test_a_reorganisation_reopens_a_closed_contract_as_what_it_holds(facts: tuple[Fact, ...], state: LegState) -> None:
    """A spend that leaves the chain takes the end back, and nothing else."""
    turn = play(ALONE, *facts, closed(MAIN), SpendSeen(leg=MAIN, settlement=None, closed=False))
    assert (turn.task.legs[0].state, turn.task.legs[0].settlement) == (state, None)


def test_a_spend_in_sight_ends_nothing() -> None:
    """Only a closed spend is an end."""
    turn = play(ALONE, *delivered(MAIN), SpendSeen(leg=MAIN, settlement=settled(0, Outcome.REFUNDED), closed=False))
    assert (turn.task.legs[0].state, state_of(turn.task)) == (LegState.DELIVERED, TaskState.DELIVERED)


def test_facts_that_do_not_fit_change_nothing() -> None:
    """A second proposal, a key before delivery, an opening without a key, a refusal after the key: nothing moves."""
    done = play(ALONE, *opened(MAIN)).task
    fresh = play(ALONE, *agreed(MAIN)).task
    for before, fact in (
        (done, Proposed(leg=0, contract_id="other")),
        (done, Refused(leg=0, reason="x")),
        (done, Advanced(leg=0, state=LegState.AGREED)),
        (done, delivered(MAIN)[-1]),
        (done, KeyShown(leg=0, content_key=b"other")),
        (done, Opened(leg=0, output_hash=WRONG, output_blob="")),
        (done, FoundFaulty(leg=0, reason="x")),
        (fresh, KeyShown(leg=0, content_key=b"k")),
        (fresh, Opened(leg=0, output_hash=RIGHT, output_blob="")),
    ):
        after = decide(before, fact)
        assert after.orders == ()
        assert replace(after.task, reason=before.reason) == before


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ((), TaskState.WAITING),
        ((Proposed(leg=0, contract_id="c"),), TaskState.PROPOSED),
        (agreed(0), TaskState.AGREED),
        (delivered(0)[:3], TaskState.RUNNING),
        (delivered(0), TaskState.DELIVERED),
        ((*delivered(0), KeyShown(leg=0, content_key=b"k")), TaskState.CHECKING),
        ((*delivered(0), DisputeSeen(leg=0, reason="x")), TaskState.DISPUTED),
        (opened(0), TaskState.JUDGED),
        ((*opened(0), closed(0)), TaskState.PAID),
        ((*delivered(0), closed(0, 0, Outcome.REFUNDED)), TaskState.REFUNDED),
        ((*agreed(0), closed(0, 0, Outcome.CANCELLED)), TaskState.CANCELLED),
        ((Refused(leg=0, reason="no"),), TaskState.REFUSED),
    ],
)
def test_callers_see_one_word(facts: tuple[Fact, ...], state: TaskState) -> None:
    """Each way a task can stand has its word; the last five are final exactly when nothing is left to do."""
    turn = play(ALONE, *facts)
    assert state_of(turn.task) is state
    assert (state in FINAL) is is_over(turn.task)


def test_a_task_before_its_first_contract_waits() -> None:
    """Nothing proposed, nothing over."""
    assert (state_of(task()), check_word(task()), is_over(task())) == (TaskState.WAITING, "waiting", False)


FACTS = st.one_of(
    st.builds(Proposed, leg=st.sampled_from((0, 1)), contract_id=st.just("c")),
    st.builds(Refused, leg=st.sampled_from((0, 1)), reason=st.just("r")),
    st.builds(Advanced, leg=st.sampled_from((0, 1)), state=st.sampled_from((LegState.AGREED, LegState.RUNNING))),
    st.sampled_from((delivered(0)[-1], delivered(1)[-1])),
    st.builds(KeyShown, leg=st.sampled_from((0, 1)), content_key=st.just(b"k")),
    st.builds(
        Opened, leg=st.sampled_from((0, 1)), output_hash=st.sampled_from((RIGHT, WRONG)), output_blob=st.just("o")
    ),
    st.builds(FoundFaulty, leg=st.sampled_from((0, 1)), reason=st.just("f")),
    st.builds(DisputeSeen, leg=st.sampled_from((0, 1)), reason=st.just("d")),
    st.builds(RanAgain, rerun=st.builds(ReRun, output_hash=st.sampled_from((RIGHT, WRONG, b"")), reason=st.just(""))),
    st.sampled_from((closed(0), closed(1), closed(0, 0, Outcome.AWARDED), closed(1, 0, Outcome.REFUNDED))),
    st.builds(SpendSeen, leg=st.sampled_from((0, 1)), settlement=st.none(), closed=st.just(False)),
    st.just(CancelWanted()),
)


def test_what_was_found_faulty_is_not_opened_afterwards() -> None:
    """A result that was judged bad because it did not open stays so, whatever arrives late."""
    key = [
        Delivered(leg=0, ciphertext_blob="b", commitment=b"c", work_receipt=b"r", holders=()),
        KeyShown(leg=0, content_key=b"k"),
    ]
    turn = begin(task())
    for fact in (*key, FoundFaulty(leg=0, reason="f"), Opened(leg=0, output_hash=b"h" * 32, output_blob="o")):
        turn = decide(turn.task, fact)
    assert turn.task.legs[0].faulty
    assert turn.task.legs[0].output_hash == b""


@settings(max_examples=400, deadline=None)
@given(st.lists(FACTS, max_size=24))
def test_laws_of_every_history(facts: list[Fact]) -> None:
    """Whatever arrives, each contract is proposed and judged at most once, and never against what is known.

    Good only of what was opened; bad of an opened result only when an own run or another's hash contradicts it; opened
    only after a key; one own run at most.
    """
    turn = begin(task())
    orders = list(turn.orders)
    for fact in facts:
        if getattr(fact, "leg", 0) < len(turn.task.legs):
            turn = decide(turn.task, fact)
            orders += turn.orders
    judgements = [order for order in orders if isinstance(order, JudgeLeg)]
    assert len({order.leg for order in judgements}) == len(judgements)
    for kind in (Propose, OpenResult, CancelLeg):
        legs = [order.leg for order in orders if isinstance(order, kind)]
        assert len(set(legs)) == len(legs)
    assert sum(isinstance(order, RunAgain) for order in orders) <= 1
    for order in judgements:
        leg = turn.task.legs[order.leg]
        assert leg.content_key
        if order.good:
            assert leg.output_hash
        elif leg.output_hash:
            others = {other.output_hash for other in turn.task.legs if other.output_hash}
            own = turn.task.rerun.output_hash if turn.task.rerun else b""
            assert (others | {own}) - {b"", leg.output_hash}


def test_the_laws_notice_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that pays what was never opened is caught by the case above it."""
    monkeypatch.setattr(rules_buyer, "_verdict_on_main", lambda *_: (True, "planted"))
    turn = play(task(), *agreed(MAIN), *opened(MAIN, RIGHT), *opened(CHECK, WRONG))
    assert judged(turn) != {}
