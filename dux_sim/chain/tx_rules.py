"""Which transactions consensus allows, apart from what their scripts say.

Pure: the outputs spent are handed in. Words of refusal are Core's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from common.chain.invalid import Invalid
from common.chain.wire import OutPoint, Tx, TxOut, is_null
from dux_sim.chain import consensus
from dux_sim.chain.errors import MissingInputs


class Coin(msgspec.Struct, frozen=True):
    """An unspent output and where it comes from."""

    out: TxOut
    height: int
    is_coinbase: bool


def check_tx(tx: Tx) -> None:
    """What can be said about a transaction without knowing anything else.

    Raises:
        Invalid: it can be in no block.
    """
    if not tx.inputs:
        raise Invalid("bad-txns-vin-empty")
    if not tx.outputs:
        raise Invalid("bad-txns-vout-empty")
    if len(tx.raw) > consensus.BLOCK_BYTES_MAX:
        raise Invalid("bad-txns-oversize")
    _check_amounts(tx)
    if len({txin.prevout for txin in tx.inputs}) != len(tx.inputs):
        raise Invalid("bad-txns-inputs-duplicate")
    if tx.is_coinbase:
        length = len(tx.inputs[0].script_sig)
        if not consensus.COINBASE_SCRIPT_BYTES_MIN <= length <= consensus.COINBASE_SCRIPT_BYTES_MAX:
            raise Invalid("bad-cb-length")
    elif any(is_null(txin.prevout) for txin in tx.inputs):
        raise Invalid("bad-txns-prevout-null")


def _check_amounts(tx: Tx) -> None:
    total = 0
    for out in tx.outputs:
        if out.value_florins < 0:
            raise Invalid("bad-txns-vout-negative")
        if out.value_florins > consensus.MONEY_MAX_FLORINS:
            raise Invalid("bad-txns-vout-toolarge")
        total += out.value_florins
        if total > consensus.MONEY_MAX_FLORINS:
            raise Invalid("bad-txns-txouttotal-toolarge")


def is_final(tx: Tx, height: int, time_s: int) -> bool:
    """Whether a block at this height and time may hold it; the time is the block's own, for BIP113 never came."""
    if tx.lock_time == 0:
        return True
    if tx.lock_time < (height if tx.lock_time < consensus.LOCKTIME_THRESHOLD else time_s):
        return True
    return all(txin.sequence == consensus.SEQUENCE_FINAL for txin in tx.inputs)


def spent_coins(tx: Tx, coins: Mapping[OutPoint, Coin]) -> list[Coin]:
    """The outputs that a transaction spends, in order.

    Raises:
        MissingInputs: one does not exist, or is spent.
    """
    try:
        return [coins[txin.prevout] for txin in tx.inputs]
    except KeyError as error:
        raise MissingInputs from error


def fee_of(tx: Tx, spent: Sequence[Coin], height: int) -> int:
    """Coins are conserved: what goes in comes out or is the fee, returned in florins.

    Raises:
        Invalid: a coinbase is spent too early, amounts are out of range, or more comes out than goes in.
    """
    for coin in spent:
        if coin.is_coinbase and height - coin.height < consensus.COINBASE_MATURITY_BLOCKS:
            raise Invalid("bad-txns-premature-spend-of-coinbase", detail=f"depth {height - coin.height}")
    value_in = sum(coin.out.value_florins for coin in spent)
    if not 0 <= value_in <= consensus.MONEY_MAX_FLORINS:
        raise Invalid("bad-txns-inputvalues-outofrange")
    value_out = sum(out.value_florins for out in tx.outputs)
    if value_in < value_out:
        raise Invalid("bad-txns-in-belowout", detail=f"{value_in} < {value_out}")
    return value_in - value_out
