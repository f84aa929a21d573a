"""The book of royalties: paid where the spend has an output, owed where that would be dust, nothing before the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from common.clock import ManualClock
from common.contracts.escrow_royalties import NoSuchRoyaltyPayment, NothingOwed, PayRoyalty, RoyaltyPaid
from common.randomness import SystemRandomness
from common.rpc.method import Empty
from common.store import Store
from common.units import FLOP
from dux_escrowd import royalties
from dux_escrowd.channel.model import Coin, Payee, PayeeState, Spend, SpendKind
from dux_escrowd.model import Exit, State
from dux_escrowd.model import Spend as LotSpend
from dux_escrowd.royalties import RoyaltyMethods, Share, of_channel, of_lot
from dux_escrowd.schema import MIGRATIONS
from tests.chain.contract_kit import make_contract
from tests.chain.test_channel import VALUE, WITH_ROYALTY, terms
from tests.chain.test_lots import with_royalty
from tests.rules.channel_kit import RULES
from tests.rules.test_escrow_table import lot


def closed(cum: int, kind: SpendKind = SpendKind.CLOSE, state: PayeeState = PayeeState.CLOSED) -> Payee:
    coin, spend = Coin("ab" * 32 + ":0", VALUE, 5), Spend(kind, "cd" * 32, cum, 9)
    return Payee(chid="c4" * 32, rules=RULES, state=state, coin=coin, spend=spend)


@pytest.mark.parametrize(
    ("cum", "bps", "paid", "owed"),
    [
        (FLOP, 1_000, 9_500_000, 0),  # a tenth of 0.95
        (FLOP // 5, 1_000, 1_900_000, 0),
        (FLOP // 5, 100, 0, 190_000),  # 0.0019 makes no output
        (FLOP // 5, 526, 0, 999_400),
        (FLOP // 5, 527, 1_001_300, 0),
    ],
)
def test_a_channel_pays_or_owes(cum: int, bps: int, paid: int, owed: int) -> None:
    """By what its close paid for calls, less tax."""
    share = of_channel(structs.replace(WITH_ROYALTY, royalty_bps=bps), closed(cum))
    assert share is not None
    assert (share.script, share.paid_florins, share.owed_florins) == (WITH_ROYALTY.developer_script, paid, owed)


def test_nothing_is_shared_of_what_is_not_final_or_was_not_paid() -> None:
    """Not closed yet, a refund, an unused channel, no developer."""
    for state in (
        closed(FLOP, state=PayeeState.CLOSE_SEEN),
        closed(FLOP, kind=SpendKind.REFUND, state=PayeeState.LOST),
        closed(FLOP, kind=SpendKind.REFUND),
        closed(0),
    ):
        assert of_channel(WITH_ROYALTY, state) is None
    assert of_channel(terms(), closed(FLOP)) is None
    assert of_channel(WITH_ROYALTY, Payee(chid="c4" * 32, rules=RULES, state=PayeeState.CLOSED)) is None


@pytest.mark.parametrize(("gross", "paid", "owed"), [(10 * FLOP, 95_000_000, 0), (FLOP // 20, 0, 475_000)])
def test_a_lot_pays_or_owes(gross: int, paid: int, owed: int) -> None:
    """A tenth of the provider's part of what was released or awarded; nothing of a repayment or before it is final."""
    contract = with_royalty(make_contract(price_florins=10 * FLOP), 1_000).contract
    spend = LotSpend(Exit.RELEASE, "cd" * 32, gross, 9)
    settled = lot(State.CLOSED, spend=spend)
    share = of_lot(contract, settled)
    assert share is not None
    assert (share.script, share.paid_florins, share.owed_florins) == (contract.royalty.payout_script, paid, owed)
    assert of_lot(contract, lot(State.RELEASE_SEEN, spend=spend)) is None
    assert of_lot(contract, lot(State.CLOSED, spend=structs.replace(spend, exit=Exit.REFUND, gross_florins=0))) is None
    assert of_lot(make_contract().contract, settled) is None


# --- paying what is owed ----------------------------------------------------------------------------------------------

ANNA, BERT = b"\xa9\x14" + b"a" * 20 + b"\x87", b"\xa9\x14" + b"b" * 20 + b"\x87"


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> RoyaltyMethods:
    shares = [Share(ANNA, 0, 600_000), Share(ANNA, 5_000_000, 0), Share(ANNA, 0, 400_000), Share(BERT, 0, 999_999)]
    monkeypatch.setattr(royalties, "_channels", lambda _ledger: shares)
    monkeypatch.setattr(royalties, "_lots", lambda _desk: ())
    store = Store.open(None, list(MIGRATIONS), ManualClock())
    desk: Any = SimpleNamespace(
        profile=SimpleNamespace(chain="embedded"), book=SimpleNamespace(store=store), random=SystemRandomness()
    )
    made = RoyaltyMethods(desk, SimpleNamespace())  # type: ignore[arg-type]
    made.shares = shares  # type: ignore[attr-defined]
    return made


async def sums(book: RoyaltyMethods) -> list[tuple[int, int, int]]:
    told = await book.royalties(Empty(), None)  # type: ignore[arg-type]
    return sorted((int(one.paid_florins), int(one.owed_florins), int(one.sent_florins)) for one in told.accounts)


async def test_what_has_come_together_is_paid_once(book: RoyaltyMethods) -> None:
    """A payment keeps its name and its amount until it is noted; what comes to be owed meanwhile is the next one's."""
    ctx: Any = None
    told = await book.royalties(Empty(), ctx)
    anna = next(one.address for one in told.accounts if one.owed_florins == 1_000_000)
    first = await book.pay(PayRoyalty(address=anna), ctx)
    assert (int(first.amount_florins), first.txid) == (1_000_000, "")
    book.shares.append(Share(ANNA, 0, 1_200_000))  # type: ignore[attr-defined]
    assert await book.pay(PayRoyalty(address=anna), ctx) == first
    assert await sums(book) == [(0, 999_999, 0), (5_000_000, 1_200_000, 1_000_000)]
    paid = await book.paid(RoyaltyPaid(payment_id=first.payment_id, txid="ab" * 32), ctx)
    assert await book.paid(RoyaltyPaid(payment_id=first.payment_id, txid="cd" * 32), ctx) == paid
    assert paid.txid == "ab" * 32
    second = await book.pay(PayRoyalty(address=anna), ctx)
    assert (int(second.amount_florins), second.payment_id != first.payment_id) == (1_200_000, True)
    await book.paid(RoyaltyPaid(payment_id=second.payment_id, txid="ef" * 32), ctx)
    assert await sums(book) == [(0, 999_999, 0), (5_000_000, 0, 2_200_000)]
    with pytest.raises(NothingOwed, match="0 FLOP are owed"):
        await book.pay(PayRoyalty(address=anna), ctx)


async def test_books_that_begin_anew_name_no_payment_of_before(book: RoyaltyMethods) -> None:
    """The books are lost, the wallet remembers: under a name of before it would answer with the old transaction."""
    ctx: Any = None
    anna = next(one.address for one in (await book.royalties(Empty(), ctx)).accounts if one.owed_florins == 1_000_000)
    before = await book.pay(PayRoyalty(address=anna), ctx)
    with book._store.transaction() as tx:
        tx.execute("DELETE FROM royalty_payments")
    after = await book.pay(PayRoyalty(address=anna), ctx)
    assert (after.address, after.amount_florins) == (before.address, before.amount_florins)
    assert after.payment_id != before.payment_id
    assert await book.pay(PayRoyalty(address=anna), ctx) == after
    assert len(after.payment_id) <= 128


async def test_dust_and_strangers_are_not_paid(book: RoyaltyMethods) -> None:
    """One florin less than an output; somebody who is owed nothing; a payment that was never named."""
    ctx: Any = None
    told = await book.royalties(Empty(), ctx)
    bert = next(one.address for one in told.accounts if one.owed_florins == 999_999)
    for address in (bert, "2N9hLwkSqr1cPQAPxbrGVUjxyjD11G2e1he"):
        with pytest.raises(NothingOwed):
            await book.pay(PayRoyalty(address=address), ctx)
    with pytest.raises(NoSuchRoyaltyPayment):
        await book.paid(RoyaltyPaid(payment_id="royalty/x/0", txid="ab" * 32), ctx)
    assert await sums(book) == [(0, 999_999, 0), (5_000_000, 1_000_000, 0)]
