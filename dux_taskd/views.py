"""Turns rows into what callers see, and into sentences. Pure reading; decides nothing."""

from __future__ import annotations

from common.codec import from_canonical
from common.contracts.task import FINAL, KindView, ProbeView, TaskState, TaskView
from common.units import Did, UnixMs, format_flop
from common.work import JOB_BYTES_MAX, JobSpec
from dux_taskd import desk, rules_buyer
from dux_taskd.model import Assignment, Case, CaseState, Task
from dux_taskd.sandbox.model import Offer
from dux_taskd.store import TaskStore, case_ref, job_ref


def kind_of(job: bytes) -> str:
    """The job kind in canonical bytes that were accepted before."""
    return from_canonical(job, JobSpec, max_bytes=JOB_BYTES_MAX).kind.value


def task_view(task: Task, store: TaskStore, *, with_lines: bool, progress: int) -> TaskView:
    """A task as its buyer sees it."""
    main, check = rules_buyer.main_leg(task), rules_buyer.check_leg(task)
    plan = main.plan if main else task.spare[0]
    state = rules_buyer.state_of(task)
    return TaskView(
        task_id=task.task_id,
        role="buyer",
        state=state,
        kind=kind_of(plan.job),
        service_id=plan.service_id,
        buyer=task.buyer,
        seller=plan.worker,
        price_florins=plan.price_florins,
        contract_id=(main.contract_id or None) if main else None,
        settlement=main.settlement if main else None,
        checker=check.plan.worker if check else None,
        check_contract_id=(check.contract_id or None) if check else None,
        check_settlement=check.settlement if check else None,
        check_state=rules_buyer.check_word(task),
        good=main.good if main else None,
        progress_permille=1000 if main and main.commitment else progress,
        output_blob=(main.output_blob or None) if main else None,
        output_hash=(main.output_hash or None) if main else None,
        receipt=store.receipt(main.contract_id) if main else None,
        reason=(main.reason if main else "") or task.reason,
        created_ms=UnixMs(task.created_ms),
        stages_id=task.stages_id,
        stage=task.stage + 1 if task.stages_id else 0,
        lines=store.lines(task.task_id) if with_lines else (),
    )


def assignment_view(a: Assignment, own: Did, store: TaskStore, progress: int, *, with_lines: bool) -> TaskView:
    """A job as its seller sees it."""
    ref = job_ref(a.contract_id)
    return TaskView(
        task_id=ref,
        role="seller",
        state=desk.seller_state(a),
        kind=kind_of(a.job),
        service_id=a.service_id,
        buyer=a.buyer,
        seller=own,
        price_florins=a.price_florins,
        contract_id=a.contract_id,
        settlement=a.settlement,
        checker=None,
        check_contract_id=None,
        check_settlement=None,
        check_state="",
        good=None,
        progress_permille=max(progress, a.progress_permille),
        output_blob=None,
        output_hash=a.output_hash or None,
        receipt=store.receipt(a.contract_id),
        reason=a.reason,
        created_ms=UnixMs(a.created_ms),
        lines=store.lines(ref) if with_lines else (),
    )


def case_view(case: Case, store: TaskStore, *, with_lines: bool) -> TaskView:
    """A case as its arbiter sees it."""
    ref = case_ref(case.contract_id)
    return TaskView(
        task_id=ref,
        role="arbiter",
        state=desk.case_state(case),
        kind=kind_of(case.job),
        service_id=case.service_id,
        buyer=case.buyer,
        seller=case.seller,
        price_florins=case.price_florins,
        contract_id=case.contract_id,
        settlement=case.settlement,
        checker=None,
        check_contract_id=None,
        check_settlement=None,
        check_state="",
        good=case.gross_florins > 0 if case.state is CaseState.VOTED else None,
        progress_permille=0 if case.state is CaseState.OPEN else 1000,
        output_blob=None,
        output_hash=None,
        receipt=store.receipt(case.contract_id),
        reason=case.reason,
        created_ms=UnixMs(case.created_ms),
        lines=store.lines(ref) if with_lines else (),
    )


def kind_view(offer: Offer) -> KindView:
    """What a probe showed."""
    probes = tuple(ProbeView(name=p.name, holds=p.holds, detail=p.detail[:300]) for p in offer.probes)
    return KindView(
        kind=offer.kind.value, offered=offer.offered, engine=offer.engine, reason=offer.reason, probes=probes
    )


NEXT: dict[TaskState, str] = {
    TaskState.WAITING: "Next: the offer is sent, or answered by this node.",
    TaskState.PROPOSED: "Next: the seller quotes, the arbiters accept; nothing is locked before that.",
    TaskState.AGREED: "Next: the buyer's wallet funds the contract; work starts when the coin lies deep enough.",
    TaskState.RUNNING: "Next: the worker delivers before its height, else escrowd asks the arbiters by itself.",
    TaskState.DELIVERED: "Next: the key is shown while arbiters stand by, then the result is opened and checked.",
    TaskState.CHECKING: "Next: the result is judged as soon as the check is known.",
    TaskState.JUDGED: "Next: the contract settles on the chain (`duxnet escrow show`).",
    TaskState.DISPUTED: "Next: the arbiters run the job again and vote; both sides have been heard by then.",
}


def explain(view: TaskView) -> tuple[str, ...]:
    """Why a task stands where it stands and what comes next."""
    head = f"{view.state.value.upper()}: {view.reason or _ENDS.get(view.state, 'as expected so far')}."
    lines = [head, f"{view.role} of service {view.service_id} for {format_flop(view.price_florins)} FLOP."]
    if view.check_state:
        lines.append(f"Second worker {view.checker or '(not asked yet)'}: {view.check_state}.")
    if view.settlement is not None:
        paid, fund = format_flop(view.settlement.provider_florins), format_flop(view.settlement.fund_florins)
        lines.append(f"Settled as {view.settlement.outcome.value}: {paid} FLOP to the seller, {fund} to the fund.")
    lines += [line.text for line in view.lines[-10:]]
    if view.state not in FINAL:
        lines.append(NEXT[view.state])
    return tuple(lines)


_ENDS: dict[TaskState, str] = {
    TaskState.PAID: "the result was paid",
    TaskState.REFUNDED: "the coins are back with the buyer",
    TaskState.CANCELLED: "ended with nothing paid",
    TaskState.REFUSED: "no contract came about",
    TaskState.VOTED: "this node's part is done",
}
