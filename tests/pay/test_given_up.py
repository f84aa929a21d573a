"""Vouchers that a payee keeps without doing anything for them: they count; one id opens one channel more."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from common.clock import ManualClock
from common.contracts import channel as port
from common.contracts.channel_errors import NoChannel
from common.errors import Unavailable
from common.rpc.table import Ctx, MethodTable
from common.units import Did, Florins
from dux_pay.buying import CallOver, Wanted
from dux_pay.fetching import Fetcher, Fetching
from dux_pay.headers import REQUIRED, decode_required, encode
from dux_pay.ledger import Ledger, Limits, OverDayLimit, PaidCall
from tests.attacks.registry import attack
from tests.pay import kit
from tests.pay.kit import CHID, PAYEE, ToyEscrow, World
from tests.pay.test_exchange import Shop, served

PRICE = 50_000_000
LIMITS = Limits(per_call_florins=Florins(10), per_day_florins=Florins(10), open_florins=Florins(100))


def call(oid: str, most: int = 10) -> PaidCall:
    return PaidCall(
        oid=oid, bound=b"r", payee="p", url="u", chid="", number=0, most_florins=most, charged_florins=None,
        state="reserved", header="", receipt="",
    )  # fmt: skip


def given_up(ledger: Ledger, oid: str, chid: str, number: int = 1, most: int = 10) -> None:
    ledger.reserve(call(oid, most))
    ledger.paid(oid, chid=chid, number=number, header="voucher")
    ledger.given_up(oid)


def test_what_left_is_never_forgotten(tmp_path: Path) -> None:
    """A voucher is out: the day is full with it, over a restart too, and nothing takes it back."""
    clock = ManualClock()
    ledger = Ledger(tmp_path / "paid.sqlite", clock, LIMITS)
    given_up(ledger, "o", "channel 0")
    ledger.taken_back("o")
    with pytest.raises(OverDayLimit):
        ledger.reserve(call("o"))
    ledger.close()
    again = Ledger(tmp_path / "paid.sqlite", clock, LIMITS)
    assert (again.spent_today(), again.in_question(), again.channels_given_up("o")) == (10, ["channel 0"], 1)
    assert again.known("o").state == "given up"
    clock.advance(86_400)
    assert (again.spent_today(), again.in_question()) == (0, ["channel 0"]), "its end is not known yet"
    again.close()


def test_a_call_given_up_counts_for_what_its_payee_can_take() -> None:
    """W - S less what calls under way promise of it; once closed, what the close took beyond what calls cost."""
    ledger = Ledger(None, ManualClock(), structs.replace(LIMITS, per_day_florins=Florins(100)))
    given_up(ledger, "a", "c", 1, 6)
    given_up(ledger, "b", "c", 2, 6)
    assert ledger.spent_today() == 12
    ledger.bound("c", 8, is_closed=False, is_final=False)
    assert ledger.spent_today() == 8
    ledger.reserve(call("n", 5))
    ledger.paid("n", chid="c", number=3, header="H")
    ledger.bound("c", 8, is_closed=False, is_final=False)
    assert ledger.spent_today() == 8, "the call under way is paid out of the same surplus"
    ledger.ended("n", state="OK", charged_florins=5, receipt="R")
    ledger.bound("c", 2, is_closed=True, is_final=True)
    assert (ledger.spent_today(), ledger.in_question()) == (7, [])
    ledger.bound("c", -3, is_closed=True, is_final=True)
    assert ledger.spent_today() == 5
    ledger.close()


def paid(ledger: Ledger, oid: str, chid: str, number: int, charged: int, most: int = 10) -> None:
    ledger.reserve(call(oid, most))
    ledger.paid(oid, chid=chid, number=number, header="voucher")
    ledger.ended(oid, state="failed", charged_florins=charged, receipt="R")


def test_what_a_close_takes_beyond_signed_answers_counts_on_the_day_it_is_seen() -> None:
    """Charged nothing, and 3 of 10, by the payee's own word, and closed with all: told once, for what is new of it."""
    clock = ManualClock()
    ledger = Ledger(None, clock, structs.replace(LIMITS, per_day_florins=Florins(100)))
    paid(ledger, "a", "c", 1, 0)
    paid(ledger, "b", "c", 2, 3)
    assert (ledger.spent_today(), ledger.in_question(), ledger.untold()) == (3, ["c"], [])
    clock.advance(86_400)
    ledger.bound("c", 17, is_closed=False, is_final=False)
    assert ledger.spent_today() == 0, "an open channel's surplus pays for its next calls"
    ledger.reserve(call("n", 5))
    ledger.paid("n", chid="c", number=3, header="H")
    ledger.bound("c", 12, is_closed=True, is_final=False)
    assert ledger.spent_today() == 12, "7, and 5 for the call that waits"
    assert [(one.chid, one.payee, one.over_florins) for one in ledger.untold()] == [("c", "p", 7)]
    ledger.bound("c", 12, is_closed=True, is_final=False)
    assert (ledger.untold(), ledger.in_question()) == ([], ["c"])
    ledger.bound("c", 13, is_closed=True, is_final=True)
    assert [one.over_florins for one in ledger.untold()] == [8]
    assert ledger.in_question() == []
    ledger.bound("c", 0, is_closed=False, is_final=False)
    assert ledger.spent_today() == 5, "the close went with its block"
    ledger.close()


def test_channels_are_looked_at_now_and_then() -> None:
    """At the first call, and not again at the next one of the same half minute."""
    clock = ManualClock()
    ledger = Ledger(None, clock, LIMITS)
    assert [ledger.is_look_due(), ledger.is_look_due()] == [True, False]
    clock.advance(30)
    assert ledger.is_look_due()
    ledger.close()


class Keeping(ToyEscrow):
    """A payer's node whose channels the payee closes with the voucher, each time that it refuses a call."""

    ends_as = "REFUSED"

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.took = PRICE
        self.mute = False
        self.state = "CLOSED"

    def serve(self, table: MethodTable) -> None:
        super().serve(table)
        table.serve(port.SHOW, self.show)

    async def pay(self, asked: port.Pay, ctx: Ctx) -> port.Paid:
        if len(self.opened) == len(self.closed):
            if asked.open_florins is None:
                raise NoChannel(payee=PAYEE, price_florins=PRICE, reason="all are closing")
            honest = not self.refuse
            self.opened.append((CHID if honest else hashlib.sha256(b"%d" % len(self.opened)).digest()).hex())
        paid = await super().pay(asked, ctx)
        return structs.replace(paid, call=structs.replace(paid.call, chid=self.opened[-1]))

    async def refused_by(self, report: port.ReportRefusal, ctx: Ctx) -> port.Advice:
        self.closed.append(report.call.chid)
        if report.drop:
            return structs.replace(await super().refused_by(report, ctx), state=self.ends_as)
        return port.Advice(action="ended", state=self.ends_as)

    async def show(self, ref: port.ChannelRef, _ctx: Ctx) -> port.ChannelDetail:
        if self.mute:
            raise Unavailable
        view = structs.replace(
            port.SHOW.example[1].channel, chid=ref.chid, state=self.state, held_florins=Florins(PRICE),
            owed_florins=Florins(0), taken_florins=Florins(self.took), other=Did(PAYEE),
        )  # fmt: skip
        return port.ChannelDetail(channel=view, calls=(), lines=())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kit, "ToyEscrow", Keeping)
    limits = Limits(per_call_florins=Florins(PRICE), per_day_florins=Florins(3 * PRICE), open_florins=Florins(10**9))
    made = World(tmp_path, limits=limits)
    yield made
    made.ledger.close()


async def fetched(world: World, url: str, oid: str) -> None:
    async with Fetcher(world.purse) as fetcher:
        await fetcher.fetch(Fetching(method="POST", url=f"{url}/fixed", body=b"hello", oid=oid))


@attack(
    "payment",
    tries="takes vouchers, says that its channel is closing, and closes it with what it was given",
    meets="each voucher counts against the day's limit until the chain shows less; one id opens one channel more",
)
async def test_a_seller_that_keeps_vouchers_gets_the_day_limit_and_no_more(world: World) -> None:
    """Two channels for one id, then none; the next id has what is left of the day, whatever the seller says."""
    world.escrow.refuse = ["closing"] * 20
    async with served(Shop(world).app) as url:
        with pytest.raises(NoChannel):
            await fetched(world, url, "order-0000000001")
        assert (len(world.escrow.opened), world.ledger.spent_today()) == (2, 2 * PRICE)
        with pytest.raises(OverDayLimit):
            await fetched(world, url, "order-0000000002")
        assert (len(world.escrow.opened), world.ledger.spent_today()) == (3, 3 * PRICE)


async def test_channels_that_closed_for_nothing_do_not_count(world: World) -> None:
    """The day is looked at anew before a call is refused; while the node cannot say, everything counts."""
    world.escrow.refuse = ["closing"] * 3
    world.escrow.took, world.escrow.mute = 0, True
    async with served(Shop(world).app) as url:
        with pytest.raises(NoChannel):
            await fetched(world, url, "order-0000000001")
        with pytest.raises(OverDayLimit):
            await fetched(world, url, "order-0000000002")
        world.escrow.mute = False
        await fetched(world, url, "order-0000000002")
    assert (len(world.escrow.opened), world.ledger.spent_today()) == (4, PRICE)


@pytest.mark.parametrize(("state", "counts", "is_given_up"), [("OK", PRICE, 0), ("FAILED", PRICE, 1)])
async def test_an_end_without_an_answer_counts_whole(world: World, state: str, counts: int, is_given_up: int) -> None:
    """The hello says that the call has ended: what it cost stands in no signed answer here."""
    world.escrow.refuse = ["resync"]
    world.escrow.ends_as = state
    async with served(Shop(world).app) as url:
        with pytest.raises(CallOver, match=state):
            await fetched(world, url, "order-0000000001")
    assert world.ledger.spent_today() == counts
    assert world.ledger.channels_given_up("order-0000000001") == is_given_up
    assert world.ledger.known("order-0000000001").header


@attack(
    "payment",
    tries="signs that a call failed and cost nothing, and closes the channel with the voucher all the same",
    meets="what the close took counts on the day it is seen, the owner is told, and the day's limit holds",
)
@pytest.mark.parametrize("state", ["CLOSE_SEEN", "CLOSED"])
async def test_a_seller_that_signs_failed_and_takes_the_voucher_is_counted(world: World, state: str) -> None:
    """What it took fills the day; the signed answers and the close are the proof."""
    world.escrow.state = state
    async with served(Shop(world).app) as url, Fetcher(world.purse) as fetcher:

        async def bought(path: str) -> tuple[str, ...]:
            got = await fetcher.fetch(Fetching(method="GET", url=f"{url}/{path}", body=b""))
            return got.said

        assert not any("closed channel" in line for line in await bought("broken"))
        assert world.ledger.spent_today() == 0, "by its word"
        world.escrow.closed.append(world.escrow.opened[-1])
        world.escrow.took = 3 * PRICE
        world.clock.advance(30)
        with pytest.raises(OverDayLimit):
            await bought("broken")
        assert world.ledger.spent_today() == 3 * PRICE
        world.clock.advance(86_400)
        told = [line for line in await bought("broken") if "1.5 FLOP more than its signed answers charge" in line]
        assert len(told) == 1
        world.clock.advance(30)
        assert not any("closed channel" in line for line in await bought("broken")), "told once"


async def test_a_signed_answer_is_not_overwritten_by_a_refusal(world: World) -> None:
    """Whoever repeats a call that has ended, and hears of a resync: cost and receipt stay as they were signed."""
    order = Fetching(method="POST", url="", body=b"hello", oid="order-0000000001")
    async with served(Shop(world).app) as url, Fetcher(world.purse) as fetcher:
        asked = replace(order, url=f"{url}/fixed")
        got = await fetcher._ask(asked, None)
        await fetcher.fetch(asked)
        before = world.ledger.known("order-0000000001")
        assert before.receipt
        required = next(value for name, value in got.headers if name.upper() == REQUIRED)
        refused = structs.replace(decode_required(required), error="resync")
        world.escrow.ends_as = "OK"
        body = hashlib.sha256(asked.body).hexdigest()
        with pytest.raises(CallOver):
            await world.purse.pay(
                Wanted(required=encode(refused), method="POST", url=asked.url, body_sha256=body, oid=asked.oid)
            )
    assert world.ledger.known("order-0000000001") == before
