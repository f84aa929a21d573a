"""The main job and its bad days, through real taskds on a market of contract-level fakes."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from common.contracts import task as contract
from common.contracts.task import TaskState
from common.errors import NotPermitted
from common.receipts import KeyedReceipt, Outcome
from common.units import FLOP, Florins
from dux_taskd import cases
from dux_taskd.effects import HOLD_TRIES
from dux_taskd.sandbox.model import Ended
from dux_taskd.store import QUOTE_HOLDS_MS, TaskStore
from tests.attacks.registry import attack
from tests.tasks.fake_market import ARBITERS, Market, did
from tests.tasks.task_daemons import Player, QuickRunner, playing, sell, submit
from tests.tasks.task_kit import wait_until

BUYER, SELLER, CHECKER, OTHER = 1, 2, 3, 4


@pytest.fixture
def market(tmp_path: Path) -> Market:
    return Market(tmp_path)


@contextlib.asynccontextmanager
async def stage(market: Market, *, seller: QuickRunner | None = None, checker: QuickRunner | None = None,
                buyer: QuickRunner | None = None):  # fmt: skip
    """Buyer, seller, checker and three arbiters."""
    async with contextlib.AsyncExitStack() as stack:
        players: dict[int, Player] = {}
        runners = {BUYER: buyer, SELLER: seller, CHECKER: checker}
        for number in (BUYER, SELLER, CHECKER, *ARBITERS):
            players[number] = await stack.enter_async_context(playing(market, number, runners.get(number)))
        yield players


async def test_a_restored_wallet_has_receipts_without_its_keys(market: Market) -> None:
    """Who does not hold the contract any more cannot vouch for it; its receipt goes out all the same."""
    market.restored = True
    async with stage(market) as players:
        service = await sell(players[SELLER])
        view = await players[BUYER].until(await submit(players[BUYER], service))
        assert view.state is TaskState.PAID
        await wait_until(lambda: {did(BUYER), did(SELLER)} <= {receipt.signer for receipt in market.receipts})
        assert not any(isinstance(receipt, KeyedReceipt) for receipt in market.receipts)


async def test_a_paid_job_is_run_checked_and_paid(market: Market) -> None:
    """Both workers run it, hashes agree, both are paid, the buyer holds the result, all parties sign receipts."""
    async with stage(market) as players:
        service = await sell(players[SELLER])
        await sell(players[CHECKER], "check", FLOP)
        task_id = await submit(players[BUYER], service, check="auto")
        view = await players[BUYER].until(task_id)
        assert (view.state, view.check_state, view.good) == (TaskState.PAID, "agreed", True)
        assert view.output_blob is not None
        assert players[BUYER].node.blobs[view.output_blob] == b"DUCK"
        result = await players[BUYER].ask(contract.RESULT, contract.TaskRef(task_id=task_id))
        assert (result.output_blob, result.output_hash) == (view.output_blob, view.output_hash)
        assert view.settlement is not None
        assert (view.settlement.gross_florins, view.settlement.provider_florins) == (10 * FLOP, 950_000_000)
        assert view.check_settlement is not None
        assert view.check_settlement.gross_florins == FLOP
        seller = await players[SELLER].until(f"job-{view.contract_id}")
        assert (seller.state, seller.output_hash) == (TaskState.PAID, view.output_hash)
        await wait_until(lambda: len(market.receipts) >= 10)
        signers = {(receipt.cid.hex(), receipt.signer) for receipt in market.receipts}
        for contract_id, worker in ((view.contract_id, SELLER), (view.check_contract_id, CHECKER)):
            assert {(contract_id, did(n)) for n in (BUYER, worker, *ARBITERS)} <= signers
        assert all(r.outcome is Outcome.RELEASED and r.tax_florins * 20 == r.gross_florins for r in market.receipts)
        keyed = {receipt.signer for receipt in market.receipts if isinstance(receipt, KeyedReceipt)}
        assert keyed == {did(BUYER), did(SELLER), did(CHECKER)}, "parties sign under their keys, arbiters have none"
        explained = await players[BUYER].ask(contract.EXPLAIN, contract.TaskRef(task_id=task_id))
        assert "agreed" in " ".join(explained.lines)


async def test_the_checker_delivers_a_hash_and_nothing_else(market: Market) -> None:
    """What the checker sealed opens to 32 bytes; neither it nor the seller shows the hash before its key is shown."""
    market.hold_keys = True
    async with stage(market) as players:
        service = await sell(players[SELLER])
        await sell(players[CHECKER], "check", FLOP)
        task_id = await submit(players[BUYER], service, check="auto")
        await players[BUYER].until(task_id, TaskState.DELIVERED)
        view = await players[BUYER].view(task_id)
        await wait_until(lambda: all(deal.delivered for deal in market.deals.values()))
        output_hash = (await players[SELLER].view(f"job-{view.contract_id}")).output_hash
        assert output_hash is not None
        for deal in market.deals.values():
            assert deal.delivered is not None
            said = deal.delivered.work_receipt + deal.delivered.output_commitment
            assert output_hash not in said
        assert (await players[BUYER].view(task_id)).output_hash is None
        with pytest.raises(contract.NoResult, match="delivered"):
            await players[BUYER].ask(contract.RESULT, contract.TaskRef(task_id=task_id))
        for deal in market.deals.values():
            market.show_key(deal)
        assert (await players[BUYER].until(task_id)).state is TaskState.PAID


@pytest.mark.parametrize(("forgers", "asked", "kept"), [(1, 1, 3), (2, HOLD_TRIES + 1, 2)])
async def test_forged_storage_receipts_do_not_count(market: Market, forgers: int, asked: int, kept: int) -> None:
    """Three that hold are enough; with fewer holders are asked again, a few times, and the work is delivered anyway."""
    market.forgers = ARBITERS[:forgers]
    async with stage(market) as players:
        service = await sell(players[SELLER])
        task_id = await submit(players[BUYER], service, check="none")
        view = await players[BUYER].until(task_id)
        delivered = market.deals[str(view.contract_id)].delivered
        assert delivered is not None
        assert (len(delivered.receipts), len(market.holds)) == (kept, asked)
        assert delivered.holders == (did(SELLER), *(did(n) for n in (BUYER, *ARBITERS[forgers:])))


@pytest.mark.parametrize(
    ("blocks_left", "outcome"), [(20, Outcome.RELEASED), (0, Outcome.CANCELLED)], ids=["in time", "too late"]
)
async def test_a_seller_that_lost_its_disk_runs_its_job_again_or_gives_it_back(
    market: Market, blocks_left: int, outcome: Outcome
) -> None:
    """In the middle of the run: the new taskd knows nothing but what the restored escrowd tells it."""
    stuck = QuickRunner()
    stuck.gate = asyncio.Event()
    async with playing(market, BUYER) as buyer, contextlib.AsyncExitStack() as arbiters:
        for number in ARBITERS:
            await arbiters.enter_async_context(playing(market, number))
        async with playing(market, SELLER, stuck) as lost:
            service = await sell(lost)
            task_id = await submit(buyer, service, check="none")
            await wait_until(lambda: stuck.runs == 1)
        deal = next(iter(market.deals.values()))
        package = lost.node.blobs
        market.restores(deal, blocks_left=blocks_left)
        lost.node.blobs.update(package)  # a service's package is published, and had from there
        async with playing(market, SELLER) as again:
            view = await buyer.until(task_id)
            assert view.settlement is not None
            assert view.settlement.outcome is outcome
            job = await again.until(f"job-{deal.contract_id}")
            assert again.runner.runs == (1 if blocks_left else 0)
            assert job.state is (TaskState.PAID if blocks_left else TaskState.REFUNDED)


async def test_a_seller_that_is_too_late_gives_back_without_a_verdict(market: Market) -> None:
    """The buyer asks the arbiters because nothing came in time: nobody has to vote."""
    slow = QuickRunner()
    slow.gate = asyncio.Event()
    async with stage(market, seller=slow) as players:
        service = await sell(players[SELLER])
        task_id = await submit(players[BUYER], service, check="none")
        await wait_until(lambda: slow.runs == 1)
        deal = next(iter(market.deals.values()))
        market.dispute(deal, deal.buyer, "nothing was delivered in time", too_late=True)
        view = await players[BUYER].until(task_id)
        assert view.settlement is not None
        assert (view.settlement.outcome, slow.killed) == (Outcome.CANCELLED, 1)


async def test_a_wrong_result_is_disputed_and_not_paid(market: Market) -> None:
    """Hashes differ, the buyer's own run sides with the checker, arbiters run it again: coins back, checker paid."""
    async with stage(market, seller=QuickRunner(b" altered")) as players:
        service = await sell(players[SELLER])
        await sell(players[CHECKER], "check", FLOP)
        task_id = await submit(players[BUYER], service, check="auto")
        view = await players[BUYER].until(task_id)
        assert (view.state, view.check_state, view.good) == (TaskState.REFUNDED, "differs", False)
        assert view.settlement is not None
        assert (view.settlement.outcome, view.settlement.gross_florins) == (Outcome.AWARDED, 0)
        assert view.check_settlement is not None
        assert view.check_settlement.gross_florins == FLOP
        case = await players[ARBITERS[0]].until(f"case-{view.contract_id}")
        assert (case.state, case.good) == (TaskState.VOTED, False)
        deal = market.deals[str(view.contract_id)]
        assert deal.evidence[0] == market.deals[str(view.check_contract_id)].delivered.work_receipt  # type: ignore[union-attr]


async def test_a_lying_checker_does_not_cost_an_honest_seller_its_pay(market: Market) -> None:
    """The buyer's own run sides with the seller: result paid, check disputed and not paid."""
    async with stage(market, checker=QuickRunner(b" altered")) as players:
        service = await sell(players[SELLER])
        await sell(players[CHECKER], "check", FLOP)
        task_id = await submit(players[BUYER], service, check="auto")
        view = await players[BUYER].until(task_id)
        assert (view.state, view.check_state) == (TaskState.PAID, "differs")
        assert view.check_settlement is not None
        assert view.check_settlement.gross_florins == 0


async def test_a_buyer_that_never_judges_does_not_keep_the_sellers_pay(market: Market) -> None:
    """The seller's dispute: arbiters run the job again and award the whole price."""
    async with stage(market) as players:
        market.hold_keys = True
        service = await sell(players[SELLER])
        task_id = await submit(players[BUYER], service)
        view = await players[BUYER].until(task_id, TaskState.DELIVERED)
        deal = market.deals[str(view.contract_id)]
        market.dispute(deal, did(SELLER), "no release")
        view = await players[BUYER].until(task_id)
        assert view.state is TaskState.PAID
        assert view.settlement is not None
        assert view.settlement.outcome is Outcome.AWARDED
        market.unheard_of = deal.arbiters[0]
        for party in (BUYER, SELLER):
            await wait_until(lambda party=party: (did(party), "vote", deal.arbiters[-1]) in market.thanked)
        assert not {words for words in market.thanked if words[0] in deal.arbiters}


async def test_a_vanished_seller_costs_nothing_and_the_next_service_is_asked(market: Market) -> None:
    """The first seller is gone after the offer: award of nothing, then the alternative delivers and is paid."""
    async with stage(market) as players, playing(market, OTHER) as other:
        service, second = await sell(players[SELLER]), await sell(other)
        players[SELLER].daemon.stopping.set()
        task_id = await submit(players[BUYER], service, alternatives=(second,))
        view = await players[BUYER].until(task_id, TaskState.PROPOSED)
        deal = market.deals[str(view.contract_id)]
        market.advance(deal)
        market.dispute(deal, did(BUYER), "no start")
        view = await players[BUYER].until(task_id)
        assert (view.state, view.seller) == (TaskState.PAID, did(OTHER))
        assert deal.settlement is not None
        assert deal.settlement.gross_florins == 0


async def test_a_service_whose_provider_is_away_is_asked_after_those_that_are_there(market: Market) -> None:
    """Though it was named first: nothing waits for it."""
    async with stage(market) as players, playing(market, OTHER) as other:
        first, second = await sell(players[SELLER]), await sell(other)
        market.nodes[did(SELLER)].taskd = None
        view = await players[BUYER].until(await submit(players[BUYER], first, alternatives=(second,)))
        assert (view.state, view.seller) == (TaskState.PAID, did(OTHER))


async def test_a_refused_offer_locks_nothing(market: Market) -> None:
    """A service that is not served is refused with the reason; without alternatives the task ends as refused."""
    async with stage(market) as players:
        service = market.publish(SELLER, "wasm", FLOP, players[SELLER].node.put(b"x"))
        task_id = await submit(players[BUYER], service)
        view = await players[BUYER].until(task_id)
        assert view.state is TaskState.REFUSED
        assert "does not run jobs" in view.reason


async def test_a_job_that_fails_gives_the_coins_back(market: Market) -> None:
    """A run without a result ends in a cancel by the seller, with its reason."""
    runner = QuickRunner()
    runner.ends = [Ended.OUT_OF_FUEL]
    async with stage(market, seller=runner) as players:
        task_id = await submit(players[BUYER], await sell(players[SELLER]))
        view = await players[BUYER].until(task_id)
        assert view.state is TaskState.CANCELLED
        job = await players[SELLER].until(f"job-{view.contract_id}")
        assert "out-of-fuel" in job.reason


async def test_a_run_that_broke_is_repeated(market: Market) -> None:
    """A sandbox that broke under a job is no fault of the job: it runs again and is paid."""
    runner = QuickRunner()
    runner.ends = [Ended.BROKEN, Ended.BROKEN]
    async with stage(market, seller=runner) as players:
        task_id = await submit(players[BUYER], await sell(players[SELLER]))
        assert (await players[BUYER].until(task_id)).state is TaskState.PAID
        assert runner.runs == 3


async def test_cancelling_before_delivery_kills_the_job_and_gives_all_back(market: Market) -> None:
    """The seller's sandbox is killed, the contract ends as cancelled; after delivery it is too late."""
    import asyncio  # noqa: PLC0415

    runner = QuickRunner()
    runner.gate = asyncio.Event()
    async with stage(market, seller=runner) as players:
        service = await sell(players[SELLER])
        task_id = await submit(players[BUYER], service)
        await players[BUYER].until(task_id, TaskState.RUNNING)
        await players[BUYER].ask(contract.CANCEL, contract.CancelTask(request_id="c", task_id=task_id))
        view = await players[BUYER].until(task_id)
        assert view.state is TaskState.CANCELLED
        runner.gate.set()
        task_id = await submit(players[BUYER], service, request_id="r2")
        await players[BUYER].until(task_id)
        with pytest.raises(contract.TooLate):
            await players[BUYER].ask(contract.CANCEL, contract.CancelTask(request_id="c2", task_id=task_id))


async def test_a_private_input_is_read_by_its_audience_only(market: Market) -> None:
    """The blob is a ciphertext; worker and checker get its key from the buyer, a stranger does not."""
    from common.contracts.peer_task import INPUT_KEY, AskInputKey  # noqa: PLC0415
    from common.peers import Peers  # noqa: PLC0415

    async with stage(market) as players, playing(market, OTHER) as other:
        service = await sell(players[SELLER])
        await sell(players[CHECKER], "check", FLOP)
        task_id = await submit(players[BUYER], service, b"secret duck", check="auto", private_input=True)
        view = await players[BUYER].until(task_id)
        assert view.state is TaskState.PAID
        assert players[BUYER].node.blobs[str(view.output_blob)] == b"SECRET DUCK"
        assert not [blob for blob in players[SELLER].node.blobs.values() if b"secret" in blob.lower()]
        row = players[BUYER].daemon.parts.table.store.row("SELECT blob FROM input_keys")  # type: ignore[union-attr]
        ask = AskInputKey(blob=bytes.fromhex(row["blob"]))  # type: ignore[index]
        with pytest.raises(Exception, match="audience"):
            await Peers(other.node.neighbour("p2pd")).call(did(BUYER), INPUT_KEY, ask)


async def test_prices_are_checked_before_anything_is_proposed(market: Market) -> None:
    """Too dear a service, no checker within the limit, an unknown service: an error each, and no contract."""
    async with stage(market) as players:
        service = await sell(players[SELLER])
        with pytest.raises(contract.PriceAbove):
            await submit(players[BUYER], service, price_limit_florins=Florins(9 * FLOP))
        with pytest.raises(contract.NoChecker):
            await submit(players[BUYER], service, check="auto")
        await sell(players[CHECKER], "check", 2 * FLOP)
        with pytest.raises(contract.NoChecker):
            await submit(players[BUYER], service, check="auto")
        with pytest.raises(contract.NotForSale):
            await submit(players[BUYER], "nothing")
        assert market.deals == {}


@pytest.mark.parametrize(("price", "panel"), [(25 * FLOP - 1, 3), (30 * FLOP, 5), (1_001 * FLOP, 7)])
async def test_the_panel_grows_with_the_price(market: Market, price: int, panel: int) -> None:
    """A dear call is bought with the arbiters that its price wants; with fewer nothing is proposed."""
    candidates = tuple(market.node(number).did for number in range(10, 18))
    async with stage(market) as players:
        service = await sell(players[SELLER], price=price)
        dear = {"price_limit_florins": Florins(price), "arbiters": (did(BUYER), did(SELLER), *candidates[: panel - 1])}
        with pytest.raises(contract.TooFewArbiters, match=f"want {panel} arbiters .* {panel - 1} are named"):
            await submit(players[BUYER], service, **dear)
        assert market.deals == {}
        task_id = await submit(players[BUYER], service, **(dear | {"arbiters": candidates}))
        assert (await players[BUYER].until(task_id)).state is TaskState.PAID
        (deal,) = market.deals.values()
        assert len(deal.arbiters) == panel


async def test_who_pays_first_gets_the_result_with_the_payment_and_judges_no_more(market: Market) -> None:
    """Policy swap: the contract says so, the result is here although all is over, and nobody is asked to judge."""
    async with stage(market) as players:
        service = await sell(players[SELLER], price=2 * FLOP)
        task_id = await submit(players[BUYER], service, policy="swap")
        view = await players[BUYER].until(task_id)
        assert (view.state, view.good) == (TaskState.PAID, True)
        assert players[BUYER].node.blobs[str(view.output_blob)] == b"DUCK"
        (deal,) = market.deals.values()
        assert (deal.wish.policy, deal.wish.swap_limit_florins, deal.wish.result_lock) == ("swap", 250_000_000, True)
        assert deal.judged == [], "a judgement would move nothing"


async def test_paying_first_is_refused_where_it_gains_nothing(market: Market) -> None:
    """Above the limit, with a check that would come too late, of a service that shows its results anyway."""
    async with stage(market) as players:
        dear = await sell(players[SELLER], price=3 * FLOP)
        await sell(players[CHECKER], "check", FLOP)
        open_one = market.publish(OTHER, "wasm", 2 * FLOP, result_lock=False)
        for service, changes, words in (
            (dear, {}, r"it costs 3 FLOP, and the swap limit is 2\.5 FLOP"),
            (dear, {"swap_limit_florins": Florins(4 * FLOP), "check": "auto"}, "buy with check none"),
            (open_one, {}, "shows its results before they are paid"),
        ):
            with pytest.raises(contract.NoSwap, match=words):
                await submit(players[BUYER], service, policy="swap", **changes)
        assert market.deals == {}


async def test_a_service_may_show_its_results_before_they_are_paid(market: Market) -> None:
    """As its record says, so its contracts are, and the buyer judges what it has read."""
    async with stage(market) as players:
        service = await sell(players[SELLER], result_lock=False)
        task_id = await submit(players[BUYER], service)
        assert (await players[BUYER].until(task_id)).state is TaskState.PAID
        (deal,) = market.deals.values()
        assert (deal.wish.result_lock, deal.judged) == (False, [True])


@attack(
    "escrow",
    tries="a buyer leaves the lock out of its offer, to read before it pays",
    meets="refused: a seller takes its service's lock alone",
)
async def test_a_lock_that_is_left_out_is_missed(market: Market) -> None:
    """The wish goes past the buyer's own taskd, and is refused all the same."""
    async with stage(market) as players:
        service = await sell(players[SELLER])
        await players[BUYER].until(await submit(players[BUYER], service))
        (deal,) = market.deals.values()
        assert deal.wish.result_lock
        sly = market.node(BUYER).propose(replace(deal.wish, request_id="sly", result_lock=False))
        job = await players[SELLER].until(f"job-{sly.contract_id}")
        assert job.state is TaskState.REFUSED
        assert "does not sell the result as the service does" in job.reason


async def test_the_buyer_strikes_two_arbiters(market: Market) -> None:
    """They are not among the candidates; with too few others nothing is proposed."""
    candidates = tuple(market.node(number).did for number in range(10, 15))
    async with stage(market) as players:
        service = await sell(players[SELLER])
        wish = {"arbiters": candidates, "strikes": candidates[1:3]}
        with pytest.raises(contract.TooFewArbiters, match=r"want 3 arbiters .* 2 are named"):
            await submit(players[BUYER], service, **(wish | {"arbiters": candidates[:4]}))
        await submit(players[BUYER], service, **wish)
        await wait_until(lambda: bool(market.deals))
        (deal,) = market.deals.values()
        assert deal.wish.arbiters == (candidates[0], *candidates[3:])


async def test_a_repeated_submit_buys_once(market: Market) -> None:
    """The same request_id gets the same task; another wish under it is refused."""
    async with stage(market) as players:
        service = await sell(players[SELLER])
        first = await submit(players[BUYER], service)
        assert await submit(players[BUYER], service) == first
        await players[BUYER].until(first)
        assert len(market.deals) == 1


async def test_seller_progress_reaches_the_buyer_only(market: Market) -> None:
    """The buyer of the contract is told how far it is; anybody else is refused."""
    import asyncio  # noqa: PLC0415

    from common.contracts.peer_task import AskProgress  # noqa: PLC0415

    runner = QuickRunner()
    runner.gate = asyncio.Event()
    async with stage(market, seller=runner) as players:
        task_id = await submit(players[BUYER], await sell(players[SELLER]))
        view = await players[BUYER].until(task_id, TaskState.RUNNING)
        async with asyncio.timeout(20):
            while (await players[BUYER].view(task_id)).progress_permille != 500:
                await asyncio.sleep(0.05)
        methods = players[SELLER].daemon.parts._peer_methods["task.progress"]
        from common.codec import canonical  # noqa: PLC0415
        from common.contracts.base import PeerCallIn  # noqa: PLC0415

        ask = canonical(AskProgress(contract_id=bytes.fromhex(str(view.contract_id))))
        with pytest.raises(NotPermitted):
            await methods(PeerCallIn(method="task.progress", params=ask, sender=did(OTHER)))
        runner.gate.set()
        await players[BUYER].until(task_id)


async def test_arbiters_that_find_nothing_delivered_vote_nothing(market: Market) -> None:
    """A seller that never delivers earns nothing, whoever asks the arbiters."""
    import asyncio  # noqa: PLC0415

    runner = QuickRunner()
    runner.gate = asyncio.Event()
    async with stage(market, seller=runner) as players:
        task_id = await submit(players[BUYER], await sell(players[SELLER]))
        view = await players[BUYER].until(task_id, TaskState.RUNNING)
        market.dispute(market.deals[str(view.contract_id)], did(BUYER), "too late")
        view = await players[BUYER].until(task_id)
        assert view.state is TaskState.REFUNDED
        case = await players[ARBITERS[1]].view(f"case-{view.contract_id}")
        assert "nothing was delivered" in case.reason


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An arbiter that waits looks again soon, so that no test waits for its patience."""
    monkeypatch.setattr(cases, "PAUSE_MAX_S", 0.3)


@pytest.mark.usefixtures("quick_looks")
async def test_an_arbiter_waits_for_what_is_away_as_long_as_a_vote_is_still_in_time(market: Market) -> None:
    """The holders of a delivered result are silent for long and come back: the seller gets its pay, not a vote of 0."""
    async with stage(market) as players:
        market.hold_keys = True
        task_id = await submit(players[BUYER], await sell(players[SELLER]))
        view = await players[BUYER].until(task_id, TaskState.DELIVERED)
        deal = market.deals[str(view.contract_id)]
        assert deal.delivered is not None
        blob = deal.delivered.ciphertext_blob
        held = {node: node.blobs.pop(blob) for node in market.nodes.values() if blob in node.blobs}
        market.height = 290
        market.dispute(deal, did(SELLER), "not released")
        await wait_until(lambda: players[ARBITERS[0]].node.calls.count("blob.fetch") >= 6)
        assert not deal.votes
        for node, data in held.items():
            node.blobs[blob] = data
        heard = [await players[number].until(f"case-{deal.contract_id}") for number in ARBITERS]
        assert sum(case.good is True for case in heard) >= 2  # the case may be over before the third has looked again
        assert {case.good for case in heard} <= {True, None}


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(
    ("shown", "forgers", "reason"),
    [(True, 2, "2 had promised"), (True, 1, "had promised to keep"), (False, 0, "key of the result was not shown")],
    ids=["the result, kept by two", "the result, kept by three", "its key"],
)
async def test_when_a_vote_is_due_what_is_still_away_is_weighed(
    market: Market, *, shown: bool, forgers: int, reason: str
) -> None:
    """At the last height that still allows a vote a key that is away earns nothing, nor a result that nobody gives.

    But where three of the contract's nodes had promised to keep it, this node does not vote against the seller.
    """
    market.forgers = ARBITERS[:forgers]
    async with stage(market) as players:
        market.hold_keys = True
        task_id = await submit(players[BUYER], await sell(players[SELLER]))
        view = await players[BUYER].until(task_id, TaskState.DELIVERED)
        deal = market.deals[str(view.contract_id)]
        assert deal.delivered is not None
        if shown:
            for node in market.nodes.values():
                node.blobs.pop(deal.delivered.ciphertext_blob, None)
        else:
            deal.key = b""
        market.height = 297
        market.dispute(deal, did(SELLER), "not released")
        await wait_until(lambda: players[ARBITERS[0]].node.calls.count("chain.tip") >= 3)
        assert not deal.votes
        market.height = 298
        cases = [await players[number].until(f"case-{deal.contract_id}") for number in ARBITERS]
        judged = [case for case in cases if reason in case.reason]
        assert {case.state for case in cases} == {TaskState.VOTED}
        if forgers == 1:
            assert [case.good for case in judged] == [None] * len(ARBITERS)
            assert not deal.votes
        else:  # two votes end it, maybe before the third has looked again
            assert len(judged) >= 2
            assert {case.good for case in judged} == {False}
            await wait_until(lambda: bool(deal.votes))  # a vote leaves the outbox after the case says so


async def test_events_of_other_parts_do_not_wait_for_a_proposal(market: Market) -> None:
    """While a proposal of ours cannot be answered, an event of a contract in which we are only arbiter passes."""
    async with stage(market) as players:
        service = await sell(players[SELLER])
        first = await submit(players[BUYER], service)
        done = await players[BUYER].until(first)
        follower_store = players[ARBITERS[0]].daemon.parts.table.store
        assert follower_store is not None
        with follower_store.transaction() as tx:
            tx.execute("INSERT INTO tasks VALUES ('stuck', ?, 'waiting', 0, 1, 0)", b"{}")
        second = await submit(players[BUYER], service, request_id="r2")
        await players[BUYER].until(second)
        events = len(players[ARBITERS[0]].node.events)
        await wait_until(
            lambda: follower_store.row("SELECT value FROM cursors WHERE name = 'escrow'")["value"] == events  # type: ignore[index]
        )
        assert done.state is TaskState.PAID


async def test_quotes_that_nobody_took_hold_no_place_for_ever(market: Market) -> None:
    """Offers that are quoted and never funded fill the places only for a while."""
    market.fund_by_hand = True
    async with stage(market) as players:
        service = await sell(players[SELLER])
        task_id = await submit(players[BUYER], service)
        await players[BUYER].until(task_id, TaskState.AGREED)
        store = TaskStore(players[SELLER].daemon.parts.table.store)  # type: ignore[arg-type]
        now_ms = players[SELLER].daemon.clock.unix_ms()
        assert store.open_jobs(now_ms) == 1
        assert store.open_jobs(now_ms + QUOTE_HOLDS_MS + 1_000) == 0
