"""The book of royalties: paid where the spend has an output, owed where that would be dust, nothing before the end."""

from __future__ import annotations

import pytest
from msgspec import structs

from common.units import FLOP
from dux_escrowd.channel.model import Coin, Payee, PayeeState, Spend, SpendKind
from dux_escrowd.model import Exit, State
from dux_escrowd.model import Spend as LotSpend
from dux_escrowd.royalties import of_channel, of_lot
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
