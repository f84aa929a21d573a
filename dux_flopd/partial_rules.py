"""What a partially signed transaction does, in words, and which coins pay one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from common.chain.address import is_p2pkh, is_p2sh, script_to_address
from common.chain.fees import fee_for, is_dust
from common.chain.params import ChainFamily
from common.chain.psbt import Partial, keys_of, right_signatures, spent_outputs
from common.chain.script import PLACEHOLDER_SIG, multisig_sig
from common.chain.tx import TxOutput, p2pkh_input_bytes
from common.contracts.wallet_errors import InsufficientFunds
from common.contracts.wallet_shared import PartialInput, PartialOutput
from common.units import Florins, format_flop
from dux_flopd.model import Coin
from dux_flopd.rules import INPUT_FRAME_BYTES, OUTPUT_FRAME_BYTES, TX_FRAME_BYTES

FEE_ODD_FACTOR = 3  # a fee so many times what the size asks for is told
PARTIAL_INPUTS_MAX = 100  # each carries the transaction that made its coin


def input_bytes(redeem: bytes, needed: int) -> int:
    """The longest input script that spends a shared address, or (no redeem script) a key hash."""
    return len(multisig_sig(redeem, [PLACEHOLDER_SIG] * needed)) if redeem else p2pkh_input_bytes()


def gather(
    coins: Sequence[Coin], outputs: tuple[TxOutput, ...], change_script: bytes, script_bytes: int, rate: int
) -> tuple[tuple[Coin, ...], tuple[TxOutput, ...]]:
    """Coins, the largest first, that pay the outputs and the fee, and the outputs with the change behind them.

    Raises:
        InsufficientFunds: all together do not suffice.
    """
    ordered = sorted(coins, key=lambda coin: (-coin.value, coin.outpoint.txid, coin.outpoint.vout))
    need = sum(int(output.value_florins) for output in outputs)
    change = TxOutput(Florins(0), change_script)
    for count in range(1, min(len(ordered), PARTIAL_INPUTS_MAX) + 1):
        chosen = tuple(ordered[:count])
        left = sum(coin.value for coin in chosen) - need
        after_change = left - _fee(count, (*outputs, change), script_bytes, rate)
        if after_change > 0 and not is_dust(after_change):
            return chosen, (*outputs, TxOutput(Florins(after_change), change_script))
        if left >= _fee(count, outputs, script_bytes, rate):
            return chosen, outputs
    most = max(1, min(len(ordered), PARTIAL_INPUTS_MAX))
    have = sum(coin.value for coin in ordered[:most])
    raise InsufficientFunds(have_florins=have, need_florins=need + _fee(most, outputs, script_bytes, rate))


def _fee(inputs: int, outputs: tuple[TxOutput, ...], script_bytes: int, rate: int) -> int:
    size = TX_FRAME_BYTES + inputs * (INPUT_FRAME_BYTES + script_bytes)
    return int(fee_for(size + sum(OUTPUT_FRAME_BYTES + len(output.script) for output in outputs), rate))


def shown_inputs(
    partial: Partial, own_keys: Callable[[bytes], Sequence[bytes]], family: ChainFamily
) -> list[PartialInput]:
    """The coins that are spent; `own_keys`: this wallet's keys for an output script."""
    found = []
    for at, spent in enumerate(spent_outputs(partial)):
        ours, right = own_keys(spent.script), right_signatures(partial, at, spent)
        found.append(
            PartialInput(
                address=script_to_address(spent.script, family) or spent.script.hex(),
                value_florins=spent.value_florins,
                ours=bool(ours),
                needed=keys_of(partial.inputs[at], spent)[0],
                signed=len(right),
                signed_by_us=any(key in right for key in ours),
            )
        )
    return found


def shown_outputs(partial: Partial, is_ours: Callable[[bytes], bool], family: ChainFamily) -> list[PartialOutput]:
    """Who gets what."""
    return [
        PartialOutput(
            address=script_to_address(output.script, family) or output.script.hex(),
            value_florins=output.value_florins,
            ours=is_ours(output.script),
        )
        for output in partial.tx.outputs
    ]


def fee_of(partial: Partial) -> int:
    """What the miner gets."""
    return sum(int(spent.value_florins) for spent in spent_outputs(partial)) - int(partial.tx.paid_florins)


def warnings(
    partial: Partial, inputs: Sequence[PartialInput], outputs: Sequence[PartialOutput], rate: int
) -> list[str]:
    """What is unusual about it, in words for the signer."""
    fee, usual = fee_of(partial), _usual_fee(partial, rate)
    ours = [item for item in inputs if item.ours]
    unnamed = [output for output in partial.tx.outputs if not is_p2pkh(output.script) and not is_p2sh(output.script)]
    wrong = [at for at, item in enumerate(partial.inputs) if len(item.signatures) > inputs[at].signed]
    found = {
        f"it pays {format_flop(-fee)} FLOP more than it spends": fee < 0,
        f"the fee, {format_flop(fee)} FLOP, is under what nodes relay": 0 <= fee < usual,
        f"the fee, {format_flop(max(0, fee))} FLOP, is over {FEE_ODD_FACTOR} times what its size asks for": (
            fee > FEE_ODD_FACTOR * usual
        ),
        "none of its coins is this wallet's to sign": not ours,
        "coins of others are spent, too": bool(ours) and len(ours) < len(inputs),
        "nothing comes back to this wallet": bool(ours) and not any(output.ours for output in outputs),
        "an output pays a script that has no address": bool(unnamed),
        "an output is so small that nodes refuse it": any(is_dust(int(output.value_florins)) for output in outputs),
        f"no block below height {partial.tx.lock_time + 1} may hold it": partial.tx.lock_time > 0,
        f"a signature of input {', '.join(map(str, wrong))} is wrong and does not count": bool(wrong),
    }
    return [text for text, holds in found.items() if holds]


def _usual_fee(partial: Partial, rate: int) -> int:
    size = TX_FRAME_BYTES + sum(OUTPUT_FRAME_BYTES + len(output.script) for output in partial.tx.outputs)
    for item, spent in zip(partial.inputs, spent_outputs(partial), strict=True):
        size += INPUT_FRAME_BYTES + input_bytes(item.redeem, keys_of(item, spent)[0])
    return int(fee_for(size, rate))
