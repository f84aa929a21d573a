"""What taskd answers: work bought, work sold, work judged, and what this machine can be trusted to wall in.

A task is one paid job seen from one node: the buyer's (`task.submit` makes it), the seller's (an offer that was taken
makes it) or an arbiter's (a case makes it). It goes on by itself and survives any crash; `task.status` shows where it
is and why.
Source: work.md, settled.md 2, 5, 20 and 29; mechanisms.md §4.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, field

from common.chain.heights import DELIVER_BLOCKS_MAX
from common.channel_messages import Outcome
from common.codec import Wire
from common.contracts.base import events_method
from common.contracts.channel import PAYING
from common.contracts.escrow_views import Settlement
from common.contracts.store import CallLimits
from common.contracts.task_stages import STAGES_CANCEL, STAGES_SHOW, STAGES_SUBMIT
from common.errors import CallerMistake, NotNow, Unavailable
from common.rpc.method import Empty, Method, callers_of
from common.units import FLOP, Did, Florins, UnixMs

SWAP_LIMIT_FLORINS = Florins(250_000_000)  # EP §2: one lot of 2.5 FLOP
STRIKES_MAX = 2  # EP §5: each side may strike two
INPUT_BYTES_MAX = 64 * 1024 * 1024  # what a node takes as one job's input
REASON_CHARS_MAX = 500

RequestId = Annotated[str, Meta(min_length=1, max_length=128)]
Blob = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
TaskId = Annotated[str, Meta(max_length=96)]


class KindNotOffered(Unavailable):
    """This machine cannot run {kind} jobs safely: {reason}. `task.probe` shows what was tried."""

    code = 7001
    key = "kind-not-offered"


class NotForSale(CallerMistake):
    """Service {service_id} cannot be bought: {reason}."""

    code = 7002
    key = "not-for-sale"


class PriceAbove(CallerMistake):
    """Service {service_id} costs {price_florins}, more than the {limit_florins} that you allow."""

    code = 7003
    key = "price-above"


class NoChecker(Unavailable):
    """No second worker offers to check {kind} jobs now; submit with check `none`, or repeat later."""

    code = 7004
    key = "no-checker"


class TooFewArbiters(CallerMistake):
    """{price_florins} want {wanted} arbiters beside the parties, {named} are named: name more, or strike fewer."""

    code = 7015
    key = "too-few-arbiters"


class NoSwap(CallerMistake):
    """This cannot be paid before its result is seen: {reason}."""

    code = 7016
    key = "no-swap"


class NoResult(NotNow):
    """Task {task_id} is {state}, so there is no result to fetch ({reason}); `task.explain` tells what comes next."""

    code = 7005
    key = "no-result"


class TooLate(NotNow):
    """Task {task_id} is {state}: it can no longer be cancelled; what was paid is settled by the contract."""

    code = 7006
    key = "too-late"


class BadJob(CallerMistake):
    """The job cannot be made: {detail}."""

    code = 7007
    key = "bad-job"


class TooFewHolders(NotNow):
    """{held} of {wanted} nodes keep the result of contract {contract_id}, as evidence wants; others are asked again."""

    code = 7014
    key = "too-few-holders"


class CallRunning(NotNow):
    """Service {service_id} is at work at the call; repeat it with call_id {call_id} to go on waiting, paid once."""

    code = 7012
    key = "call-running"


class CallNotTaken(NotNow):
    """Service {service_id} did not take the call in {attempts} tries; repeat it with call_id {call_id}, paid once."""

    code = 7009
    key = "call-not-taken"


class CallRefused(NotNow):
    """Service {service_id} refused the call: {reason}; nothing was charged{said}."""

    code = 7010
    key = "call-refused"


class TaskState(StrEnum):
    """Where a task is. The last five are final."""

    WAITING = "waiting"  # seller: quoted, not funded yet; buyer: before the first offer
    PROPOSED = "proposed"  # buyer: offer sent
    AGREED = "agreed"  # contract made, coin on its way
    RUNNING = "running"  # the job runs (buyer: somewhere; seller, arbiter: here)
    DELIVERED = "delivered"  # the encrypted result is there
    CHECKING = "checking"  # buyer: result decrypted, compared with the second worker's
    JUDGED = "judged"  # buyer: said good or bad; the contract settles
    DISPUTED = "disputed"  # the arbiters decide
    PAID = "paid"  # final: the seller has been paid (in part, perhaps, by an award)
    REFUNDED = "refunded"  # final: the buyer has its coins back
    CANCELLED = "cancelled"  # final: nothing was locked, or all of it was given back by both
    REFUSED = "refused"  # final: no contract came about
    VOTED = "voted"  # final: arbiter's part is done


FINAL = frozenset((TaskState.PAID, TaskState.REFUNDED, TaskState.CANCELLED, TaskState.REFUSED, TaskState.VOTED))


class ProbeView(Wire, frozen=True):
    """One control that was tried on this machine."""

    name: str
    holds: bool
    detail: str


class KindView(Wire, frozen=True):
    """A job kind, whether it is offered, and every probe that says why."""

    kind: str
    offered: bool
    engine: str
    reason: str
    probes: tuple[ProbeView, ...]


class Probes(Wire, frozen=True):
    """What this machine can enforce, tried at start."""

    kinds: tuple[KindView, ...]


class Serve(Wire, frozen=True):
    """Run jobs for one of this node's own published services (kind wasm, native or check); `serve` false stops."""

    request_id: RequestId
    service_id: str
    serve: bool = True


class Serving(Wire, frozen=True):
    """The services that this node runs jobs for."""

    service_ids: tuple[str, ...]


class Submit(Wire, frozen=True, kw_only=True):
    """Buy one call. `input_blob` is already at p2pd. `check`: `none`, `auto`, or the id of a service of kind check.

    `policy` swap: pay before the result is seen, its key comes with the payment; only up to `swap_limit_florins` and
    without a check. `strikes`: arbiters that shall not judge.
    """

    request_id: RequestId
    service_id: str
    input_blob: Blob
    args: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=16)] = ()
    price_limit_florins: Florins  # refused above this; the check's price comes on top
    check: str = "none"
    check_limit_florins: Florins = field(default_factory=lambda: Florins(FLOP))
    deliver_blocks: Annotated[int, Meta(ge=1, le=DELIVER_BLOCKS_MAX)] = 30
    arbiters: Annotated[tuple[Did, ...], Meta(max_length=9)] = ()  # empty: those that the network profile lists
    private_input: bool = False  # the input travels encrypted; only worker, checker and arbiters get its key
    compare: Literal["equal", "tolerance"] = "equal"  # how two outputs are compared; a checker's hash serves `equal`
    tolerance_step: Annotated[int, Meta(ge=0, le=255)] = 0  # most by which two bytes may differ
    tolerance_share_ppm: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # millionths of the bytes that may differ
    alternatives: Annotated[tuple[str, ...], Meta(max_length=4)] = ()  # services tried next when one gives nothing
    policy: Literal["standby", "swap"] = "standby"
    swap_limit_florins: Florins = field(default_factory=lambda: SWAP_LIMIT_FLORINS)
    strikes: Annotated[tuple[Did, ...], Meta(max_length=STRIKES_MAX)] = ()


class CallPaid(Wire, frozen=True, kw_only=True):
    """One call of a service over a channel. `call_id` names it: repeated, it is the same call, paid once.

    `open_florins`: open a channel of this size when none can carry it.
    """

    call_id: RequestId
    service_id: str
    data: Annotated[bytes, Meta(max_length=262_144)]
    args: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=16)] = ()
    price_limit_florins: Florins
    open_florins: Florins | None = None


class CalledPaid(Wire, frozen=True, kw_only=True):
    """How the call ended, what it cost, over which channel; `said`: what was done for it."""

    outcome: Outcome
    output: bytes
    detail: str
    charged_florins: Florins
    chid: str
    j: int
    said: tuple[str, ...]


class TaskRef(Wire, frozen=True):
    """A task of this node."""

    task_id: TaskId


class TaskLine(Wire, frozen=True):
    """One thing that happened to a task, in a sentence."""

    at_ms: UnixMs
    text: str


class TaskView(Wire, frozen=True, kw_only=True):
    """One task as this node sees it; `settlement` and `check_settlement` are read from the chain."""

    task_id: str
    role: Literal["buyer", "seller", "arbiter"]
    state: TaskState
    kind: str
    service_id: str
    buyer: Did
    seller: Did
    price_florins: Florins
    contract_id: str | None
    settlement: Settlement | None
    checker: Did | None  # the second worker, where one was paid
    check_contract_id: str | None
    check_settlement: Settlement | None
    check_state: str  # "", waiting, agreed (the hashes are equal), differs, missing
    good: bool | None  # the buyer's judgement, or an arbiter's vote
    progress_permille: int
    output_blob: str | None  # of the result in the clear, at this node's p2pd
    output_hash: bytes | None
    receipt: bytes | None  # this node's signed SettledReceipt (`Attested`), once closed
    reason: str
    created_ms: UnixMs
    stages_id: str = ""  # of the purchase in stages that it is one of
    stage: int = 0  # from 1; 0: it is none
    lines: tuple[TaskLine, ...]


class ListTasks(Wire, frozen=True):
    """Newest first."""

    role: Literal["", "buyer", "seller", "arbiter"] = ""
    open_only: bool = False
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class TaskList(Wire, frozen=True):
    """Tasks of this node, without their lines."""

    tasks: tuple[TaskView, ...]


class CancelTask(Wire, frozen=True):
    """Buyer: end a task before its work was delivered, as far as the contract still allows."""

    request_id: RequestId
    task_id: TaskId


class TryRun(Wire, frozen=True):
    """Run a package here without any contract: for publishers."""

    kind: Literal["wasm", "native"]
    package: Blob
    entry: str
    input_blob: Blob
    args: tuple[str, ...] = ()
    limits: CallLimits = CallLimits()


class TryResult(Wire, frozen=True):
    """How the run ended, what it used, and its output as a blob at this node's p2pd."""

    ended: str
    detail: str
    engine: str
    fuel_used: int
    wall_ms: int
    memory_peak_bytes: int
    output_blob: str | None
    output_hash: bytes | None
    log: str


class Explanation(Wire, frozen=True):
    """Why the task stands where it stands and what comes next, in sentences."""

    task_id: str
    lines: tuple[str, ...]


# Events of task.events: kind = the class's name, body = its fields.


class TaskMoved(Wire, frozen=True):
    """A task changed its state."""

    task_id: str
    role: str
    state: TaskState
    reason: str


_A, _B, _C = (Did("did:dux:" + letter * 52) for letter in "abc")
_REF = TaskRef(task_id="task-1")
_VIEW = TaskView(
    task_id="task-1",
    role="buyer",
    state=TaskState.PAID,
    kind="wasm",
    service_id="s" * 32,
    buyer=_A,
    seller=_B,
    price_florins=Florins(10 * FLOP),
    contract_id="3f" * 32,
    settlement=None,
    checker=_C,
    check_contract_id=None,
    check_settlement=None,
    check_state="agreed",
    good=True,
    progress_permille=1000,
    output_blob="ab" * 32,
    output_hash=b"h" * 32,
    receipt=None,
    reason="",
    created_ms=UnixMs(1_790_000_000_000),
    lines=(TaskLine(at_ms=UnixMs(1_790_000_000_000), text="asked for 10 FLOP"),),
)

PROBE: Method[Empty, Probes] = Method(
    name="task.probe",
    params=Empty,
    result=Probes,
    summary="What this machine can enforce, and so which kinds of jobs it offers.",
    callers=callers_of("taskd"),
    example=(
        Empty(),
        Probes(
            kinds=(
                KindView(
                    kind="wasm",
                    offered=True,
                    engine="wasmtime-50",
                    reason="",
                    probes=(ProbeView(name="fuel stops a loop", holds=True, detail=""),),
                ),
            )
        ),
    ),
)
SERVE: Method[Serve, Serving] = Method(
    name="task.serve",
    params=Serve,
    result=Serving,
    summary="Start (or stop) running jobs for one of this node's published services.",
    callers=callers_of("taskd"),
    once=True,
    example=(Serve(request_id="r1", service_id="s" * 32), Serving(service_ids=("s" * 32,))),
    raises=(KindNotOffered, NotForSale),
)
SUBMIT: Method[Submit, TaskRef] = Method(
    name="task.submit",
    params=Submit,
    result=TaskRef,
    summary="Buy one call of a service; contract, checking and payment follow by themselves.",
    callers=callers_of("taskd"),
    once=True,
    example=(
        Submit(
            request_id="r1",
            service_id="s" * 32,
            input_blob="ab" * 32,
            args=("scale=2",),
            price_limit_florins=Florins(10 * FLOP),
            check="auto",
        ),
        _REF,
    ),
    raises=(NotForSale, PriceAbove, NoChecker, TooFewArbiters, BadJob, NoSwap),
    deadline_max_s=60.0,
)
STATUS: Method[TaskRef, TaskView] = Method(
    name="task.status",
    params=TaskRef,
    result=TaskView,
    summary="Where a task is, and what happened to it.",
    callers=callers_of("taskd"),
    example=(_REF, _VIEW),
)
LIST: Method[ListTasks, TaskList] = Method(
    name="task.list",
    params=ListTasks,
    result=TaskList,
    summary="The tasks of this node, newest first.",
    callers=callers_of("taskd"),
    example=(ListTasks(role="buyer"), TaskList(tasks=(_VIEW,))),
)
RESULT: Method[TaskRef, TaskView] = Method(
    name="task.result",
    params=TaskRef,
    result=TaskView,
    summary="A task whose result is here: fetch `output_blob` from p2pd.",
    callers=callers_of("taskd"),
    example=(_REF, _VIEW),
    raises=(NoResult,),
)
CANCEL: Method[CancelTask, TaskView] = Method(
    name="task.cancel",
    params=CancelTask,
    result=TaskView,
    summary="End a task before its work was delivered.",
    callers=callers_of("taskd"),
    once=True,
    example=(CancelTask(request_id="r2", task_id="task-1"), _VIEW),
    raises=(TooLate,),
)
TRY_RUN: Method[TryRun, TryResult] = Method(
    name="task.run",
    params=TryRun,
    result=TryResult,
    summary="Run a package here without a contract, to see that it works and what it uses.",
    callers=callers_of("taskd"),
    example=(
        TryRun(kind="wasm", package="ab" * 32, entry="dux-wasm/1", input_blob="cd" * 32, args=("scale=2",)),
        TryResult(
            ended="done",
            detail="",
            engine="wasmtime-50",
            fuel_used=1_000_000,
            wall_ms=120,
            memory_peak_bytes=1 << 20,
            output_blob="ef" * 32,
            output_hash=b"h" * 32,
            log="",
        ),
    ),
    raises=(KindNotOffered, BadJob),
    deadline_max_s=600.0,
)
EXPLAIN: Method[TaskRef, Explanation] = Method(
    name="task.explain",
    params=TaskRef,
    result=Explanation,
    summary="Why a task stands where it stands and what comes next.",
    callers=callers_of("taskd"),
    example=(_REF, Explanation(task_id="task-1", lines=("PAID: the second worker found the same result.",))),
)
CALL: Method[CallPaid, CalledPaid] = Method(
    name="task.call",
    params=CallPaid,
    result=CalledPaid,
    summary="Call a service and pay for it over a channel; the same call_id is the same call, paid once.",
    callers=callers_of("taskd"),
    example=(
        CallPaid(call_id="r9", service_id="s" * 32, data=b"duck", price_limit_florins=Florins(100_000)),
        CalledPaid(
            outcome=Outcome.OK,
            output=b"DUCK",
            detail="",
            charged_florins=Florins(100_000),
            chid="c4" * 32,
            j=7,
            said=("over channel c4c4c4c4",),
        ),
    ),
    raises=(NotForSale, PriceAbove, CallNotTaken, CallRunning, CallRefused, *PAYING),
    deadline_max_s=120.0,
)
EVENTS = events_method("task", callers_of("taskd"))

__all__ = ["STAGES_CANCEL", "STAGES_SHOW", "STAGES_SUBMIT"]  # of the file beside this one
