"""Which fee speeds a waiting transaction up, and which coins pay it. Pure.

Two ways: the same payment once more with more fee (the network replaces it where the coin does so, BIP125), or a child
that spends what the waiting one gives back to us, and pays for both. Source: facts §2 (RBF, incremental fee), BIP125.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from common.chain.fees import FEE_MAX_FLORINS, KB, fee_for, is_dust
from common.chain.tx import Tx, TxOutput, p2pkh_input_bytes
from common.contracts.wallet_errors import BumpRefused, InsufficientFunds
from common.units import Florins, format_flop
from dux_flopd.model import OwnCoin, Selection
from dux_flopd.rules import (
    CHANGE_SCRIPT,
    INPUT_FRAME_BYTES,
    INPUTS_MAX,
    OUTPUT_FRAME_BYTES,
    TX_FRAME_BYTES,
    CoinState,
    coin_state,
)

INCREMENT_FLORINS_PER_KB = 10_000  # 0.0001 FLOP: what a replacement pays beyond the replaced, by its own size
RATE_FACTOR = 2  # of the wallet's rate, when the owner names none

How = Literal["replace", "child"]


@dataclass(frozen=True, slots=True)
class Paid:
    """What the transaction that is replaced pays, and its bytes as it stands in the nodes' pools."""

    fee: int
    size: int


def ways(*, is_send: bool, replaces: bool, has_own_outputs: bool, is_spent: bool) -> list[How]:
    """Which ways are open, the cheaper first."""
    found: list[How] = []
    if is_send and replaces and not is_spent:
        found.append("replace")
    if has_own_outputs and not is_spent:
        found.append("child")
    return found


def replacement(
    name: str, old: Sequence[OwnCoin], more: Sequence[OwnCoin], outputs: tuple[TxOutput, ...], paid: Paid, rate: int
) -> Selection:
    """The coins, fee and change of the same payment at a higher rate: the old coins, and more where they must.

    `more`: other spendable coins of the same account.

    Raises:
        InsufficientFunds: all of them do not suffice. BumpRefused: the fee would be more than a node takes.
    """
    spare = sorted(more, key=lambda owned: (-owned.coin.value, owned.coin.outpoint.txid, owned.coin.outpoint.vout))
    need = sum(int(output.value_florins) for output in outputs)
    chosen = list(old)
    while True:
        found = _change_or_not(tuple(chosen), outputs, need, paid, rate)
        if found is not None:
            if found.fee > FEE_MAX_FLORINS:
                raise BumpRefused(txid=name, reason="a node takes no fee over 100 FLOP; name a lower rate")
            return found
        if not spare or len(chosen) >= INPUTS_MAX:
            have = sum(owned.coin.value for owned in chosen)
            raise InsufficientFunds(have_florins=have, need_florins=need + _fee(len(chosen), outputs, paid, rate))
        chosen.append(spare.pop(0))


def _change_or_not(
    coins: tuple[OwnCoin, ...], outputs: tuple[TxOutput, ...], need: int, paid: Paid, rate: int
) -> Selection | None:
    have = sum(owned.coin.value for owned in coins)
    with_change = _fee(len(coins), (*outputs, TxOutput(Florins(0), CHANGE_SCRIPT)), paid, rate)
    if have - need - with_change > 0 and not is_dust(have - need - with_change):
        return Selection(coins, with_change, have - need - with_change)
    if have - need >= _fee(len(coins), outputs, paid, rate):
        return Selection(coins, have - need, 0)
    return None


def _fee(inputs: int, outputs: tuple[TxOutput, ...], paid: Paid, rate: int) -> int:
    """The rate's, and what nodes ask of a replacement: its own relay on top, and a higher rate than the replaced had.

    Signatures differ by a byte or two, so a rise by the relay alone may be a lower rate: sizes here are the largest.
    """
    size = _size(inputs, outputs)
    relayed = paid.fee + -(-size * INCREMENT_FLORINS_PER_KB // KB)
    return max(int(fee_for(size, rate)), relayed, paid.fee * size // paid.size + 1)


def _size(inputs: int, outputs: tuple[TxOutput, ...]) -> int:
    spent = inputs * (INPUT_FRAME_BYTES + p2pkh_input_bytes())
    return TX_FRAME_BYTES + spent + sum(OUTPUT_FRAME_BYTES + len(output.script) for output in outputs)


def child_fee(parent_bytes: int, parent_fee: int, inputs: int, outputs: tuple[TxOutput, ...], rate: int) -> int:
    """What a child pays so that parent and child together pay the rate; never less than its own."""
    size = _size(inputs, outputs)
    return max(int(fee_for(size, rate)), int(fee_for(parent_bytes + size, rate)) - parent_fee)


def child(
    name: str, own: Sequence[OwnCoin], parent_bytes: int, parent_fee: int, script: bytes, rate: int
) -> tuple[int, int]:
    """Value and fee of the child that spends these outputs of the parent to one own script.

    Raises:
        BumpRefused: they are not worth it.
    """
    have = sum(owned.coin.value for owned in own)
    fee = child_fee(parent_bytes, parent_fee, len(own), (TxOutput(Florins(0), script),), rate)
    if is_dust(have - fee) or fee > FEE_MAX_FLORINS:
        raise BumpRefused(
            txid=name, reason=f"what it gives back, {format_flop(have)} FLOP, does not pay a fee of {format_flop(fee)}"
        )
    return have - fee, fee


def outbids(tx: Tx, waiting: Tx) -> bool | None:
    """Whether a transaction takes the place of one that waits and spends the same; None: it says nothing about that.

    The same coins with less paid out, or those coins and more: that is how this wallet replaces.
    """
    mine = {item.outpoint for item in tx.inputs}
    theirs = {item.outpoint for item in waiting.inputs}
    if mine == theirs:
        return int(tx.paid_florins) < int(waiting.paid_florins)
    if mine > theirs:
        return True
    return False if mine < theirs else None


def free_coins(coins: Sequence[OwnCoin], account: int, tip: int, maturity: int) -> list[OwnCoin]:
    """The spendable coins of an account."""
    wanted: CoinState = "spendable"
    return [owned for owned in coins if owned.account == account and coin_state(owned, tip, maturity) == wanted]
