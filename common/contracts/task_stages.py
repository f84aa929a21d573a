"""What taskd promises about work in stages: several paid jobs of one service, each paid before the next may cost more.

Stages are contracts of their own. One by one, the next is proposed, and so funded, only when the one before was
accepted and paid in whole; its input may be the result of the one before. Together, all are agreed first and funded by
one payment (the lots of one series, escrow_protocol.md §1), and each begins when the one before is paid. Either way a
stage that fails ends the rest, and what is at stake at any time is one stage.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, field

from common.codec import Wire
from common.contracts.escrow_views import Settlement
from common.errors import CallerMistake
from common.rpc.method import Method, callers_of
from common.units import FLOP, Did, Florins

STAGES_MAX = 8  # as many lots as a contract has
REF_PREFIX = "stages-"

_RequestId = Annotated[str, Meta(min_length=1, max_length=128)]
_Blob = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_StagesId = Annotated[str, Meta(max_length=96)]


class BadStages(CallerMistake):
    """The stages do not fit: {detail}."""

    code = 7013
    key = "bad-stages"


class StagesState(StrEnum):
    """How a purchase in stages fares."""

    GOING_ON = "going-on"
    ACCEPTED = "accepted"  # final: every stage was accepted and paid
    STOPPING = "stopping"  # one failed, others have not ended yet
    STOPPED = "stopped"  # final: one failed; what had not begun never will


STAGES_FINAL = frozenset((StagesState.ACCEPTED, StagesState.STOPPED))


class SubmitStages(Wire, frozen=True, kw_only=True):
    """Buy `count` calls of one service as stages. `inputs`: one for each, or one for the first.

    With one input the result of each stage is the input of the next. `together`: agree on all and fund them by one
    payment; that needs an input for each and takes no second worker. `bonded`: the seller locks a bond first; only
    together. `policy`, `swap_limit_florins`, `strikes`: as of a single call (task.submit), for each stage.
    """

    request_id: _RequestId
    service_id: str
    inputs: Annotated[tuple[_Blob, ...], Meta(min_length=1, max_length=STAGES_MAX)]
    count: Annotated[int, Meta(ge=1, le=STAGES_MAX)]
    args: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=16)] = ()
    price_limit_florins: Florins  # for each stage; the check's price comes on top
    check: str = "none"
    check_limit_florins: Florins = field(default_factory=lambda: Florins(FLOP))
    deliver_blocks: Annotated[int, Meta(ge=1, le=10_000)] = 30  # for each stage
    arbiters: Annotated[tuple[Did, ...], Meta(max_length=9)] = ()
    private_input: bool = False
    together: bool = False
    bonded: bool = False
    policy: Literal["standby", "swap"] = "standby"
    swap_limit_florins: Florins = field(default_factory=lambda: Florins(250_000_000))
    strikes: Annotated[tuple[Did, ...], Meta(max_length=2)] = ()


class StagesRef(Wire, frozen=True):
    """A purchase in stages of this node."""

    stages_id: _StagesId


class CancelStages(Wire, frozen=True):
    """Buyer: begin no further stage, and end the one that runs as far as its contract still allows."""

    request_id: _RequestId
    stages_id: _StagesId


class StageView(Wire, frozen=True, kw_only=True):
    """One stage: the task that it is, once it has begun."""

    number: int  # from 1
    task_id: str  # empty: not begun
    state: str  # of the task; `not-begun` before
    good: bool | None
    contract_id: str | None
    settlement: Settlement | None
    output_blob: str | None
    reason: str


class StagesView(Wire, frozen=True, kw_only=True):
    """A purchase in stages; `task.status` tells more of each stage."""

    stages_id: str
    state: StagesState
    service_id: str
    together: bool
    paid_florins: Florins
    reason: str
    stages: tuple[StageView, ...]
    lines: tuple[str, ...]
    bonded: bool = False


_REF = StagesRef(stages_id="stages-1")
_VIEW = StagesView(
    stages_id="stages-1",
    state=StagesState.STOPPED,
    service_id="s" * 32,
    together=False,
    paid_florins=Florins(10 * FLOP),
    reason="stage 2 ended as refunded: the second worker got something else",
    stages=(
        StageView(
            number=1,
            task_id="task-1",
            state="paid",
            good=True,
            contract_id="3f" * 32,
            settlement=None,
            output_blob="ab" * 32,
            reason="",
        ),
        StageView(
            number=2,
            task_id="task-2",
            state="refunded",
            good=False,
            contract_id="4f" * 32,
            settlement=None,
            output_blob=None,
            reason="the second worker got something else",
        ),
        StageView(
            number=3,
            task_id="",
            state="not-begun",
            good=None,
            contract_id=None,
            settlement=None,
            output_blob=None,
            reason="",
        ),
    ),
    lines=("stage 1 begins",),
)

STAGES_SUBMIT: Method[SubmitStages, StagesRef] = Method(
    name="task.submit_stages",
    params=SubmitStages,
    result=StagesRef,
    summary="Buy several calls of a service as stages; the next is funded when the one before was accepted and paid.",
    callers=callers_of("taskd"),
    once=True,
    example=(
        SubmitStages(
            request_id="r1",
            service_id="s" * 32,
            inputs=("ab" * 32,),
            count=3,
            price_limit_florins=Florins(10 * FLOP),
        ),
        _REF,
    ),
    raises=(BadStages,),
    deadline_max_s=60.0,
)
STAGES_SHOW: Method[StagesRef, StagesView] = Method(
    name="task.stages",
    params=StagesRef,
    result=StagesView,
    summary="How a purchase in stages fares, stage by stage.",
    callers=callers_of("taskd"),
    example=(_REF, _VIEW),
)
STAGES_CANCEL: Method[CancelStages, StagesView] = Method(
    name="task.cancel_stages",
    params=CancelStages,
    result=StagesView,
    summary="Begin no further stage, and end the running one as far as its contract allows.",
    callers=callers_of("taskd"),
    once=True,
    example=(CancelStages(request_id="r2", stages_id="stages-1"), _VIEW),
)
