"""A payment that the node refused binds nothing; decided again, it is handed over again."""

from __future__ import annotations

from common.chain.address import pay_to_key
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, serialize, txid
from common.clock import ManualClock
from common.store import Store
from common.units import FLOP, Florins
from dux_flopd.model import NewPayment, PaymentKind
from dux_flopd.schema import MIGRATIONS
from dux_flopd.store import WalletStore
from tests.chain.contract_kit import public_key


def test_a_way_out_that_was_refused_once_can_be_settled_again() -> None:
    """A settlement is the same transaction whenever it is made: an old refusal must not keep it from the chain."""
    store = WalletStore(Store.open(None, MIGRATIONS, ManualClock()))
    point = Outpoint("ab" * 32, 0)
    tx = Tx((TxInput(point),), (TxOutput(Florins(FLOP), pay_to_key(public_key("seller"))),))
    payment = NewPayment(
        txid=txid(tx), raw=serialize(tx), kind=PaymentKind.SETTLE, request_id="one", caller="escrowd", counterparty="",
        amount=0, fee=1, binds=(point,), contract_id="c",
    )  # fmt: skip
    with store.store.transaction() as decision:
        store.add_payment(decision, payment)
        store.refuse(decision, payment.txid, "16: mandatory-script-verify-flag-failed")
    assert store.open_payments() == []
    with store.store.transaction() as decision:
        store.add_payment(decision, payment)
    assert [item.txid for item in store.open_payments()] == [payment.txid]
