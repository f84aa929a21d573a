"""Work in stages: what one stage's end means for the others, by tables and through real taskds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from common.contracts import task as contract
from common.contracts.escrow_views import Voided
from common.contracts.task import FINAL, TaskState
from common.contracts.task_stages import (
    STAGES_CANCEL,
    STAGES_FINAL,
    STAGES_SHOW,
    STAGES_SUBMIT,
    BadStages,
    CancelStages,
    StagesRef,
    StagesState,
    StagesView,
    SubmitStages,
)
from common.errors import NotFound
from common.receipts import Outcome
from common.units import FLOP, Florins
from dux_taskd.sandbox.model import Ended
from dux_taskd.sandbox.model import Outcome as RunOutcome
from dux_taskd.stage_rules import (
    BeginStage,
    Seen,
    Stages,
    accepted,
    begun,
    deliver_blocks_of,
    is_chained,
    look,
    place_of,
    stages_problem,
    state_of,
    stop,
)
from tests.tasks.fake_market import ARBITERS, Market, did
from tests.tasks.task_daemons import Player, QuickRunner, playing, sell
from tests.tasks.task_kit import wait_until

BUYER, SELLER, CHECKER = 1, 2, 3
BLOB = "ab" * 32
DONE = Seen(TaskState.PAID, good=True, paid_whole=True, reason="")
RUNS = Seen(TaskState.RUNNING, good=None, paid_whole=False, reason="")


def wish(count: int = 3, inputs: int = 1, **changes: Any) -> SubmitStages:
    fields: dict[str, Any] = {
        "request_id": "r", "service_id": "s", "inputs": (BLOB,) * inputs, "count": count,
        "price_limit_florins": Florins(10 * FLOP),
    }  # fmt: skip
    return SubmitStages(**(fields | changes))


def stages(begun_count: int, asked: int | None = None, **changes: Any) -> Stages:
    tasks = tuple(f"task-{at}" for at in range(begun_count))
    row = Stages("stages-1", wish(**changes), b"s" * 32, 0, begun=tasks, asked=asked or begun_count)
    assert begun(replace(row, begun=tasks[:-1], asked=0), tasks[-1]).begun == tasks
    return row


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"inputs": 3}, ""),
        ({"inputs": 2}, "one for each of the 3"),
        ({"together": True}, "an input each"),
        ({"inputs": 3, "together": True}, ""),
        ({"inputs": 3, "together": True, "bonded": True}, ""),
        ({"inputs": 3, "together": True, "check": "auto"}, "no second worker"),
        ({"bonded": True}, "funded together"),
        ({"check": "auto"}, ""),
    ],
)
def test_what_can_be_bought_in_stages(changes: dict[str, Any], problem: str) -> None:
    """Inputs for all or for the first; what is funded together is known before; the reason says what to change."""
    found = stages_problem(wish(**changes))
    assert (found == "") if not problem else problem in found
    assert is_chained(wish(**changes)) == (changes.get("inputs", 1) < 3)


@pytest.mark.parametrize(
    ("seen", "orders", "state"),
    [
        ([RUNS], [], StagesState.GOING_ON),
        ([DONE], [1], StagesState.GOING_ON),
        ([DONE, RUNS], [], StagesState.GOING_ON),
        ([DONE, DONE], [2], StagesState.GOING_ON),
        ([DONE, DONE, DONE], [], StagesState.ACCEPTED),
        ([Seen(TaskState.JUDGED, good=True, paid_whole=True, reason="")], [], StagesState.GOING_ON),
        ([Seen(TaskState.PAID, good=False, paid_whole=True, reason="")], [], StagesState.STOPPED),
        ([Seen(TaskState.PAID, good=True, paid_whole=False, reason="")], [], StagesState.STOPPED),
        *[
            ([DONE, Seen(state, good=None, paid_whole=False, reason="x")], [], StagesState.STOPPED)
            for state in sorted(FINAL - {TaskState.PAID})
        ],
    ],
)
def test_the_next_stage_begins_when_the_one_before_is_accepted(
    seen: list[Seen], orders: list[int], state: StagesState
) -> None:
    """Judged good and paid in whole, for good; judged alone is too early, anything less ends the rest."""
    turn = look(stages(len(seen)), seen)
    assert turn.orders == tuple(BeginStage("stages-1", number) for number in orders)
    assert state_of(turn.stages, seen) is state
    assert look(turn.stages, seen).orders == (), "a stage is ordered once"
    assert bool(turn.stages.stopped) == (state is StagesState.STOPPED)


def test_together_all_begin_and_one_failure_ends_those_that_still_run() -> None:
    """All are ordered at once; the first failure is the reason that stays; ended ones are left alone."""
    row = stages(1, inputs=3, together=True)
    assert [order.number for order in look(row, [RUNS]).orders] == [1, 2]
    lost = Seen(TaskState.REFUNDED, good=False, paid_whole=False, reason="it was wrong")
    row = stages(3, inputs=3, together=True)
    turn = look(row, [DONE, lost, RUNS])
    assert (turn.cancel, turn.stages.stopped) == ((2,), "stage 2 ended as refunded: it was wrong")
    assert state_of(turn.stages, [DONE, lost, RUNS]) is StagesState.STOPPING
    assert look(turn.stages, [lost, lost, lost]).stages.stopped == turn.stages.stopped
    assert stop(turn.stages, "later").stopped == turn.stages.stopped
    assert not accepted(lost)


def test_together_stages_are_lots_of_one_series_and_their_heights_follow_each_other() -> None:
    """Each begins where the one before has to be delivered, all counted from one funding; one by one has no series."""
    row = stages(1, inputs=3, together=True, deliver_blocks=12, bonded=True)
    places = [place_of(row, number) for number in range(3)]
    assert [(p.series, p.number, p.count, p.begins_blocks, p.bonded) for p in places if p] == [
        (b"s" * 32, number, 3, 12 * number, True) for number in range(3)
    ]
    assert [deliver_blocks_of(row, number) for number in range(3)] == [12, 24, 36]
    alone = stages(1, deliver_blocks=12)
    assert (place_of(alone, 1), deliver_blocks_of(alone, 1)) == (None, 12)


# Through real taskds.


@pytest.fixture
def market(tmp_path: Path) -> Market:
    return Market(tmp_path)


class Appending(QuickRunner):
    """Adds a letter to its input, so that each stage's result tells what it was made of; may go wrong at a length."""

    def __init__(self, wrong_at: int = 0) -> None:
        super().__init__()
        self.wrong_at = wrong_at

    async def run(self, run: Any, *, deadline_s: float, progress: Any) -> RunOutcome:
        found = await super().run(run, deadline_s=deadline_s, progress=progress)
        tail = b"?" if self.wrong_at and len(run.input) >= self.wrong_at else b"+"
        return replace(found, output=run.input + tail) if found.ended is Ended.DONE else found


@contextlib.asynccontextmanager
async def stage(market: Market, seller: QuickRunner | None = None) -> AsyncIterator[dict[int, Player]]:
    async with contextlib.AsyncExitStack() as stack:
        players: dict[int, Player] = {}
        for number in (BUYER, SELLER, CHECKER, *ARBITERS):
            runner = (seller or Appending()) if number == SELLER else Appending()
            players[number] = await stack.enter_async_context(playing(market, number, runner))
        yield players


async def buy(player: Player, service: str, count: int = 3, datas: tuple[bytes, ...] = (b"a",), **more: Any) -> str:
    inputs = tuple(player.node.put(data) for data in datas)
    asked = wish(count, service_id=service, **more)
    ref: StagesRef = await player.ask(STAGES_SUBMIT, replace(asked, inputs=inputs))
    return ref.stages_id


async def ended(player: Player, stages_id: str) -> StagesView:
    async with asyncio.timeout(20):
        while True:
            view: StagesView = await player.ask(STAGES_SHOW, StagesRef(stages_id=stages_id))
            if view.state in STAGES_FINAL:
                return view
            await asyncio.sleep(0.01)


async def test_each_stage_goes_on_with_the_result_of_the_one_before(market: Market) -> None:
    """Three contracts one after another, each checked and paid; never is more than one open; results are shown."""
    async with stage(market) as players:
        service = await sell(players[SELLER])
        await sell(players[CHECKER], "check", FLOP)
        view = await ended(players[BUYER], await buy(players[BUYER], service, check="auto"))
        assert (view.state, view.paid_florins) == (StagesState.ACCEPTED, 30 * FLOP)
        blobs = players[BUYER].node.blobs
        assert [blobs[str(one.output_blob)] for one in view.stages] == [b"a+", b"a++", b"a+++"]
        task = await players[BUYER].view(view.stages[1].task_id)
        assert (task.stages_id, task.stage) == (view.stages_id, 2)
        assert [line.split(" begins")[0] for line in view.lines] == [f"stage {n} of 3" for n in (1, 2, 3)]
        mains = [deal for deal in market.deals.values() if deal.wish.seller == did(SELLER)]
        assert [deal.wish.lots for deal in mains] == [None] * 3


async def test_the_next_stage_is_not_funded_before_the_one_before_is_paid(market: Market) -> None:
    """While the first waits for its key there is one contract and no other."""
    market.hold_keys = True
    async with stage(market) as players:
        service = await sell(players[SELLER])
        stages_id = await buy(players[BUYER], service, 2)
        await wait_until(lambda: any(deal.delivered for deal in market.deals.values()))
        await asyncio.sleep(0.1)
        assert len(market.deals) == 1
        market.hold_keys = False
        market.show_key(next(iter(market.deals.values())))
        assert (await ended(players[BUYER], stages_id)).state is StagesState.ACCEPTED
        assert len(market.deals) == 2


async def test_what_is_asked_of_the_contracts_holds_for_each_stage(market: Market) -> None:
    """Policy, limit and strikes go into every stage's contract, the bond into the series."""
    async with stage(market) as players:
        candidates = tuple(market.node(number).did for number in range(10, 14))
        service = await sell(players[SELLER], price=2 * FLOP)
        await buy(
            players[BUYER], service, 2, (b"duck", b"swan"), inputs=2, together=True, bonded=True, policy="swap",
            swap_limit_florins=Florins(2 * FLOP), arbiters=candidates, strikes=candidates[:1],
        )  # fmt: skip
        await wait_until(lambda: len(market.deals) == 2)
        for deal in market.deals.values():
            assert (deal.wish.policy, deal.wish.swap_limit_florins) == ("swap", 2 * FLOP)
            assert deal.wish.arbiters == candidates[1:]
            assert deal.wish.lots is not None
            assert deal.wish.lots.bonded


@pytest.mark.parametrize("bonded", [True, False])
async def test_a_bond_that_did_not_come_is_named_as_what_was_waited_for(market: Market, *, bonded: bool) -> None:
    """Nothing is funded before the seller's bond lies there: who waited in vain reads so."""
    market.fund_by_hand = True
    async with stage(market) as players:
        service = await sell(players[SELLER])
        stages_id = await buy(players[BUYER], service, 2, (b"a", b"b"), inputs=2, together=True, bonded=bonded)
        await wait_until(lambda: len(market.deals) == 2)
        for deal in market.deals.values():
            market.tell(deal.buyer, Voided(contract_id=deal.contract_id))
        view = await ended(players[BUYER], stages_id)
        assert (view.state, "waits for the seller's bond" in view.reason) == (StagesState.STOPPED, bonded)
        assert view.bonded is bonded


async def test_a_failed_stage_stops_the_rest(market: Market) -> None:
    """The second result is wrong: coins back, no third contract, the first stays paid; the reason names the stage."""
    async with stage(market, Appending(wrong_at=2)) as players:
        service = await sell(players[SELLER])
        await sell(players[CHECKER], "check", FLOP)
        view = await ended(players[BUYER], await buy(players[BUYER], service, check="auto"))
        assert [one.state for one in view.stages] == ["paid", "refunded", "not-begun"]
        assert (view.state, view.paid_florins) == (StagesState.STOPPED, 10 * FLOP)
        assert view.reason.startswith("stage 2 ended as refunded")
        assert len([deal for deal in market.deals.values() if deal.wish.seller == did(SELLER)]) == 2


async def test_together_all_are_agreed_and_a_failure_gives_the_rest_back(market: Market) -> None:
    """Lots of one series with an input each; the seller gives back what was cancelled."""
    market.fund_by_hand = True
    async with stage(market) as players:
        service = await sell(players[SELLER])
        stages_id = await buy(players[BUYER], service, 3, (b"a", b"b", b"c"), together=True, deliver_blocks=12)
        await wait_until(lambda: len(market.deals) == 3 and all(d.state == "AGREED" for d in market.deals.values()))
        first, second, third = sorted(market.deals.values(), key=lambda deal: deal.wish.deliver_blocks)
        places = [deal.wish.lots for deal in (first, second, third)]
        assert [place.begins_blocks for place in places if place] == [0, 12, 24]
        assert len({place.series for place in places if place}) == 1
        market.settle(first, Outcome.AWARDED, 0)
        await wait_until(lambda: second.state == third.state == "CLOSED")
        view = await ended(players[BUYER], stages_id)
        assert (view.state, [one.state for one in view.stages][1:]) == (StagesState.STOPPED, ["cancelled"] * 2)


async def test_an_owner_ends_the_rest_and_what_is_wrong_is_told_at_once(market: Market) -> None:
    """A cancelled purchase begins no further stage; bad wishes are refused before anything is locked."""
    market.fund_by_hand = True
    async with stage(market) as players:
        service = await sell(players[SELLER])
        with pytest.raises(BadStages, match="one for each"):
            await buy(players[BUYER], service, 3, (b"a", b"b"))
        with pytest.raises(contract.PriceAbove):
            await buy(players[BUYER], service, 3, price_limit_florins=Florins(1))
        with pytest.raises(NotFound):
            await players[BUYER].ask(STAGES_SHOW, StagesRef(stages_id="stages-none"))
        assert not market.deals
        stages_id = await buy(players[BUYER], service, 3)
        await wait_until(lambda: any(deal.state == "AGREED" for deal in market.deals.values()))
        for request_id in ("c1", "c2"):
            await players[BUYER].ask(STAGES_CANCEL, CancelStages(request_id=request_id, stages_id=stages_id))
        view = await ended(players[BUYER], stages_id)
        assert (view.state, view.reason) == (StagesState.STOPPED, "the owner asked for the end")
        assert len(market.deals) == 1


async def test_a_stage_that_cannot_begin_ends_the_rest(market: Market) -> None:
    """The service is withdrawn between two stages: the reason says so, the first result stays."""
    market.hold_keys = True
    async with stage(market) as players:
        service = await sell(players[SELLER])
        stages_id = await buy(players[BUYER], service, 2)
        await wait_until(lambda: any(deal.delivered for deal in market.deals.values()))
        number, shown = market.services[service]
        market.services[service] = (number, replace(shown, withdrawn=True))
        market.show_key(next(iter(market.deals.values())))
        view = await ended(players[BUYER], stages_id)
        assert [one.state for one in view.stages] == ["paid", "not-begun"]
        assert "withdrawn" in view.reason
