"""What the payer's receipts settle on the payee's side: answered calls leave its books, their price stays in S. Pure.

Promise: a receipt over the same chain of answers settles what is known here. One over calls that an old disk has
forgotten is taken on the payer's word, in S and in the chain, until the payer itself, in a session that it has taken,
knows no longer of it (it has lost its books, too): then S is what this side knows. Source: channel_protocol.md §1, §8.
"""

from __future__ import annotations

from msgspec.structs import replace

from dux_escrowd.channel.model import AT_WORK, Call, CallState, Payee, Receipt, Word
from dux_escrowd.channel.onchain import advanced


def adopted(payee: Payee, receipt: Receipt) -> Payee:
    """Acknowledged calls that were lost here are counted by the payer's own word; nothing known here is forgotten."""
    took = acknowledged(payee, receipt)
    return took if receipt.low <= took.receipt.low else _on_word(took, receipt)


def _on_word(payee: Payee, receipt: Receipt) -> Payee:
    below = [call for call in payee.calls if call.j < receipt.low and call.state not in AT_WORK]
    known = payee.settled_florins + _cost(payee, below)
    kept = tuple(call for call in payee.calls if call not in below)
    settled = max(known, receipt.paid_florins)
    return replace(
        payee,
        calls=kept,
        receipt=replace(receipt, bits=0, paid_florins=settled),
        settled_florins=settled,
        word=Word(low=receipt.low, florins=payee.word.florins + settled - known),
    )


def word_taken_back(payee: Payee, receipt: Receipt) -> Payee:
    """The payer has lost the books from which it once spoke: S is again what is known here, or what it says now.

    Both sides have old copies then, and agree on what both still know; else its next call would wait for ever.
    """
    own = replace(
        payee, settled_florins=payee.settled_florins - payee.word.florins, receipt=Receipt(), word=Word()
    )  # fmt: skip
    return _on_word(own, receipt)


def acknowledged(payee: Payee, receipt: Receipt) -> Payee:
    """Calls that the payer has receipted by the same chain of answers are settled for good."""
    if receipt.low <= payee.receipt.low:
        return payee
    mine = advanced(payee.receipt, payee.calls, receipt.low)
    if mine.low != receipt.low or mine.root != receipt.root:
        return payee
    gone = [call for call in payee.calls if call.j < receipt.low and call.state not in AT_WORK]
    calls = tuple(call for call in payee.calls if call not in gone)
    return replace(payee, calls=calls, receipt=mine, settled_florins=payee.settled_florins + _cost(payee, gone))


def _cost(payee: Payee, calls: list[Call]) -> int:
    return sum(call.price_florins for call in calls if call.state is CallState.OK and payee.counts(call))


def says_less(payee: Payee, receipt: Receipt) -> bool:
    """The payer knows no longer what S was raised to on its word: its books are older than that word."""
    less = receipt.low == payee.receipt.low and receipt.paid_florins < payee.settled_florins
    return receipt.low < payee.word.low or (less and payee.word.florins > 0)
