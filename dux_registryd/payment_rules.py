"""Whether a receipt's payment is on the chain, and whether what it says may count.

A receipt is a claim. Two questions decide it: does the best chain show the transaction it names, deep enough, at the
height it names, and paying the community fund exactly the tax it names? And has somebody signed it whose word is
enough?

- Something was paid: either party's word is enough, because the tax is burnt.
- The script of the lot that it spends was taken by a branch that can end as the receipt tells: no award is a release.
- Nothing was paid (an award or a refund to the buyer): the buyer alone could slander for nothing. It counts when the
  seller signed it too, or two of the network's arbiters did (their verdict). Until then it stays pending.

One transaction settles one contract. Of rival claims the best attested counts (`common.receipt_keys.Strength`),
whichever came first; among equals the first one settled. Who gave way comes back when that one falls. The best are
those that both keys of the spent script have signed: no thief has these. A key that is not of the script makes a
receipt worth nothing.

Source: mechanisms.md §1.1 (evidence) and §5 (negative votes on refunded jobs: free slander).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from common.contracts.registry import ReceiptState
from common.receipt_keys import LotSpent, is_judged, spend_fault
from common.receipts import KeyedReceipt, Outcome, SettledReceipt
from common.units import Did

MISSING_AFTER_BLOCKS = 1_440  # a payment that the chain does not show a day after its height was never made
AHEAD_BLOCKS = 12  # a receipt above the tip by more is nobody's yet: chains of two nodes differ by less
REORG_BLOCKS = 100  # how far below a lost tip settled receipts are checked again


@dataclass(frozen=True, slots=True)
class SeenPayment:
    """The transaction as this node's chain shows it."""

    height: int | None  # None: waiting, in no block
    fund_florins: tuple[int, ...]  # what each output on the fund's script is worth
    lots: tuple[LotSpent, ...] = ()  # what it spends, with the keys in the scripts


class KeyState(StrEnum):
    """What is known of the key under a receipt."""

    NONE = "none"  # it carries none
    UNSEEN = "unseen"  # the chain has not shown the payment yet: it counts as one without
    SHOWN = "shown"  # of the script that the payment spends
    STRANGE = "strange"  # of another: the receipt is not heard


Finding = tuple[ReceiptState, str]
NOT_SHOWN = "the chain does not show its payment"
BUYER_ALONE = "only the buyer says so: the seller's or two arbiters' receipts are awaited"
IDLE = (NOT_SHOWN, BUYER_ALONE)  # why a claim waits that was looked for: others have to do something first
_SETTLED: Finding = (ReceiptState.SETTLED, "")
GIVEN_WAY: Finding = (ReceiptState.REFUSED, "a better attested claim names its payment or contract otherwise")
REVIVED: Finding = (ReceiptState.PENDING, "the claim that it gave way to has fallen")


def payment_finding(receipt: SettledReceipt, seen: SeenPayment | None, *, tip: int, depth: int) -> Finding:
    """What the chain says of a receipt now, and why it is not settled when it is not."""
    if seen is None:
        gone = abs(tip - receipt.height) > MISSING_AFTER_BLOCKS
        state = ReceiptState.REFUSED if gone else ReceiptState.PENDING
        return state, NOT_SHOWN
    if seen.height is None or tip - seen.height + 1 < depth:
        return ReceiptState.PENDING, f"its payment is not {depth} blocks deep yet"
    if seen.height != receipt.height:
        return ReceiptState.REFUSED, f"its payment is at height {seen.height}, not {receipt.height}"
    if receipt.gross_florins > 0 and int(receipt.tax_florins) not in seen.fund_florins:
        return ReceiptState.REFUSED, "its payment does not pay the community fund the tax"
    return _SETTLED


def word_finding(receipt: SettledReceipt, signers: Collection[Did], arbiters: Collection[Did]) -> Finding:
    """Whether those who signed these facts are enough for them to count."""
    if receipt.gross_florins > 0 or receipt.outcome is Outcome.CANCELLED or receipt.seller in signers:
        return _SETTLED
    if is_judged(receipt, signers, arbiters):
        return _SETTLED
    return ReceiptState.PENDING, BUYER_ALONE


def key_state(receipt: SettledReceipt, seen: SeenPayment) -> KeyState:
    """What the payment's scripts say of the key under a receipt. A transaction never shows other scripts later."""
    if not isinstance(receipt, KeyedReceipt):
        return KeyState.NONE
    return KeyState.SHOWN if any(lot.keys == receipt.lot for lot in seen.lots) else KeyState.STRANGE


def heard_finding(told: Collection[SettledReceipt], seen: SeenPayment | None) -> Finding:
    """Whether anybody is left who tells it, once those with a strange key, or of an end that was not, are not heard."""
    if not told:
        return ReceiptState.REFUSED, "its keys are not of the script that its payment spends"
    faults = [spend_fault(receipt, seen.lots) for receipt in told] if seen is not None else []
    fault = faults[0] if faults and all(faults) else None
    return (ReceiptState.REFUSED, fault) if fault else _SETTLED


def holder_among(strength: int, rivals: Iterable[tuple[SettledReceipt, int]]) -> SettledReceipt | None:
    """Of settled claims with other facts and their strength, of the same payment or contract, the one that stands.

    Rivals that do not are weaker: they give way when this claim settles.
    """
    return next((told for told, theirs in rivals if theirs >= strength), None)


def rival_finding(receipt: SettledReceipt, holder: SettledReceipt | None) -> Finding:
    """What comes of a claim beside the one that holds its payment or contract, if there is one."""
    if holder is None:
        return _SETTLED
    if holder.cid == receipt.cid:
        return ReceiptState.REFUSED, "the chain has settled this contract with other figures"
    return ReceiptState.REFUSED, f"its payment settled contract {holder.cid.hex()[:16]}… already"


def overall(*findings: Finding) -> Finding:
    """The worst of several findings: refused, else pending, else settled."""
    for state in (ReceiptState.REFUSED, ReceiptState.PENDING):
        found = next((finding for finding in findings if finding[0] is state), None)
        if found is not None:
            return found
    return _SETTLED
