"""Receipts: what the chain must show, and whose word counts."""

from __future__ import annotations

import pytest

from common.contracts.registry import ReceiptState
from common.receipts import Outcome
from common.units import Did
from dux_registryd.payment_rules import (
    SeenPayment,
    claim_finding,
    contract_finding,
    overall,
    payment_finding,
    word_finding,
)
from tests.market.makers import ARBITERS, BUYER, SELLER, STRANGER, lost, receipt

PENDING, SETTLED, REFUSED = ReceiptState.PENDING, ReceiptState.SETTLED, ReceiptState.REFUSED
TAX = 50_000_000


@pytest.mark.parametrize(
    ("seen", "tip", "state"),
    [
        (None, 100, PENDING),
        (None, 100 + 1_440, PENDING),
        (None, 100 + 1_441, REFUSED),
        (SeenPayment(None, (TAX,)), 200, PENDING),
        (SeenPayment(100, (TAX,)), 104, PENDING),
        (SeenPayment(100, (TAX,)), 105, SETTLED),
        (SeenPayment(100, (1, TAX)), 105, SETTLED),
        (SeenPayment(101, (TAX,)), 200, REFUSED),
        (SeenPayment(100, (TAX - 1,)), 105, REFUSED),
        (SeenPayment(100, ()), 105, REFUSED),
    ],
)
def test_the_chain_decides(seen: SeenPayment | None, tip: int, state: ReceiptState) -> None:
    """Settled exactly when the payment is six deep at the height it names and pays the fund the tax it names."""
    assert payment_finding(receipt(), seen, tip=tip, depth=6)[0] is state


def test_where_nothing_was_paid_the_fund_gets_nothing() -> None:
    """A refund is settled without any output to the fund."""
    assert payment_finding(lost(), SeenPayment(100, ()), tip=105, depth=6) == (SETTLED, "")


@pytest.mark.parametrize(
    ("signers", "state"),
    [
        ((BUYER,), PENDING),
        ((BUYER, STRANGER), PENDING),
        ((BUYER, ARBITERS[0]), PENDING),
        ((BUYER, ARBITERS[0], ARBITERS[0]), PENDING),
        ((ARBITERS[0], ARBITERS[2]), SETTLED),
        ((SELLER,), SETTLED),
    ],
)
def test_a_buyer_alone_cannot_slander(signers: tuple[Did, ...], state: ReceiptState) -> None:
    """A job taken back counts by the seller's own word or by two arbiters', not by the buyer's."""
    assert word_finding(lost(), signers, ARBITERS)[0] is state
    assert word_finding(receipt(), signers, ARBITERS) == (SETTLED, "")
    assert word_finding(lost(outcome=Outcome.CANCELLED), signers, ARBITERS) == (SETTLED, "")


def test_one_transaction_settles_one_contract_once() -> None:
    """Other facts that name a payment or a contract which is settled already are refused."""
    assert claim_finding(None)[0] is SETTLED
    assert claim_finding(b"b")[0] is REFUSED
    assert contract_finding(settled_otherwise=False)[0] is SETTLED
    assert contract_finding(settled_otherwise=True)[0] is REFUSED


def test_the_worst_finding_decides() -> None:
    """Refused before pending before settled, with the reason of the first of that kind."""
    assert overall((SETTLED, ""), (PENDING, "p"), (REFUSED, "r"), (REFUSED, "q")) == (REFUSED, "r")
    assert overall((PENDING, "p"), (SETTLED, "")) == (PENDING, "p")
    assert overall() == (SETTLED, "")
