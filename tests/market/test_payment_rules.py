"""Receipts: what the chain must show, and whose word counts."""

from __future__ import annotations

import pytest

from common.chain.script import BRANCH_ARBITERS, BRANCH_COOP
from common.contracts.registry import ReceiptState
from common.receipt_keys import LotSpent
from common.receipts import Outcome
from common.units import BlockHeight, Did
from dux_registryd.payment_rules import (
    KeyState,
    SeenPayment,
    heard_finding,
    holder_among,
    key_state,
    overall,
    payment_finding,
    rival_finding,
    word_finding,
)
from tests.market.keyed import LOT, OTHER_LOT, keyed
from tests.market.makers import ARBITERS, BUYER, SELLER, STRANGER, lost, receipt

PENDING, SETTLED, REFUSED = ReceiptState.PENDING, ReceiptState.SETTLED, ReceiptState.REFUSED
TAX = 50_000_000


@pytest.mark.parametrize(
    ("seen", "tip", "state"),
    [
        (None, 100, PENDING),
        (None, 100 + 1_440, PENDING),
        (None, 100 + 1_441, REFUSED),
        (SeenPayment(None, (TAX,)), 100 + 1_441, PENDING),
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


def test_a_payment_far_ahead_of_the_chain_does_not_wait_for_ever() -> None:
    """A day above the tip is as far as a day below it."""
    assert payment_finding(receipt(height=BlockHeight(1_540)), None, tip=100, depth=6)[0] is PENDING
    assert payment_finding(receipt(height=BlockHeight(1_541)), None, tip=100, depth=6)[0] is REFUSED


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
    assert word_finding(lost(buyer=ARBITERS[0]), (ARBITERS[0], ARBITERS[1]), ARBITERS)[0] is PENDING
    assert word_finding(lost(outcome=Outcome.CANCELLED), signers, ARBITERS) == (SETTLED, "")


def test_the_better_attested_of_two_claims_counts() -> None:
    """Of claims of one payment or contract the stronger counts, whichever came first; of equals the first."""
    mine, other = receipt(), receipt(cid=b"\x02" * 32, seller=STRANGER, signer=STRANGER)
    same = receipt(seller=STRANGER)
    assert holder_among(1, []) is None
    assert holder_among(2, [(other, 1)]) is None
    assert holder_among(1, [(other, 1)]) is other
    assert holder_among(1, [(other, 0), (same, 2)]) is same
    assert rival_finding(mine, None) == (SETTLED, "")
    assert rival_finding(mine, other) == (REFUSED, "its payment settled contract 0202020202020202… already")
    assert rival_finding(mine, same)[1].endswith("with other figures")


def test_a_key_that_the_payment_does_not_show_is_strange() -> None:
    """Of the script that the payment spends, of another, of none; a receipt without a key has none to judge."""
    shows = SeenPayment(100, (TAX,), (LotSpent(LOT, BRANCH_COOP),))
    assert key_state(receipt(), shows) is KeyState.NONE
    assert key_state(keyed(receipt()), shows) is KeyState.SHOWN
    other = LotSpent(OTHER_LOT, BRANCH_COOP)
    assert key_state(keyed(receipt()), SeenPayment(100, (TAX,), (other,))) is KeyState.STRANGE
    assert key_state(keyed(receipt()), SeenPayment(100, (TAX,))) is KeyState.STRANGE


def test_a_story_that_nobody_is_heard_for_is_refused() -> None:
    """Those with a strange key are left out before; then somebody has to be left who tells an end that was."""
    strange = (REFUSED, "its keys are not of the script that its payment spends")
    for seen in (None, SeenPayment(100, (TAX,))):
        assert heard_finding([receipt()], seen) == (SETTLED, "")
        assert heard_finding([], seen) == strange
    assert heard_finding([keyed(receipt())], None) == (SETTLED, "")  # gone for now: its keys were seen before
    released, awarded = (LotSpent(LOT, branch) for branch in (BRANCH_COOP, BRANCH_ARBITERS))
    both = [receipt(), keyed(receipt())]
    for told in ([receipt()], [keyed(receipt())], both):
        assert heard_finding(told, SeenPayment(None, (TAX,), (released,))) == (SETTLED, "")
        found = heard_finding(told, SeenPayment(100, (TAX,), (awarded,)))
        assert found == (REFUSED, "its lot was taken by a party with the arbiters: that is awarded, not released")
    beside = SeenPayment(100, (TAX,), (awarded, LotSpent(OTHER_LOT, BRANCH_COOP)))
    assert heard_finding([keyed(receipt())], beside)[0] is REFUSED
    assert heard_finding(both, beside) == (SETTLED, "")  # one without a key may be about either lot


def test_the_worst_finding_decides() -> None:
    """Refused before pending before settled, with the reason of the first of that kind."""
    assert overall((SETTLED, ""), (PENDING, "p"), (REFUSED, "r"), (REFUSED, "q")) == (REFUSED, "r")
    assert overall((PENDING, "p"), (SETTLED, "")) == (PENDING, "p")
    assert overall() == (SETTLED, "")
