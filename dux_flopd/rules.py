"""flopd's pure decisions: which coins pay, what a payment costs, whether a limit forbids it, what has become of it.

No time, no chance, no disk, no network: everything comes in as arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from common.chain.fees import fee_for, is_dust
from common.chain.tx import Outpoint, TxOutput, p2pkh_input_bytes
from common.contracts.wallet_errors import CoinNotFree, CoinsPending, InsufficientFunds, OverLimit
from common.errors import BadParams
from common.units import Florins
from dux_flopd.model import OwnCoin, Selection, Spent
from dux_flopd.settings import FlopSettings

INPUTS_MAX = 500  # about 75 kB: relayed, and signed in a moment
NONCE_BYTES = 32  # that a contract key is bound to
GAP = 20  # own scripts followed beyond the last one used
TX_FRAME_BYTES = 14  # version, lock time and both counts at their longest
INPUT_FRAME_BYTES = 41  # outpoint, length of the script, sequence
OUTPUT_FRAME_BYTES = 9  # value, length of the script
CHANGE_SCRIPT = b"\x76\xa9\x14" + b"\0" * 20 + b"\x88\xac"  # stands for the change output when sizes are counted


CoinState = Literal["spendable", "locked", "immature", "pending"]
PaymentState = Literal["waiting", "seen", "confirmed", "conflicted", "refused", "replaced"]


def coin_state(owned: OwnCoin, tip: int, maturity_blocks: int) -> CoinState:
    """spendable, locked, immature or pending."""
    height = owned.coin.height
    if height is None:
        return "pending"
    if owned.is_locked:
        return "locked"
    ripe = not owned.coin.is_coinbase or tip - height + 1 >= maturity_blocks
    return "spendable" if ripe else "immature"


def select(coins: Sequence[OwnCoin], outputs: tuple[TxOutput, ...], rate: int, tip: int, maturity: int) -> Selection:
    """The coins that pay `outputs` and the fee: the smallest single one that does, else the fewest, largest first.

    Change that would be dust goes to the fee.

    Raises:
        InsufficientFunds: all coins together do not suffice.
        CoinsPending: they will, once a block confirms or ripens them.
    """
    free = sorted((c for c in coins if coin_state(c, tip, maturity) == "spendable"), key=_order)
    need = sum(int(output.value_florins) for output in outputs)
    single = next((found for c in free if (found := _paid_by((c,), outputs, need, rate))), None)
    if single is not None:
        return single
    largest = list(reversed(free))
    for count in range(2, min(len(largest), INPUTS_MAX) + 1):
        found = _paid_by(tuple(largest[:count]), outputs, need, rate)
        if found is not None:
            return found
    raise _shortage(coins, free, need + _fee(max(1, min(len(free), INPUTS_MAX)), outputs, rate))


def chosen_coins(coins: Sequence[OwnCoin], only: Sequence[Outpoint], height: int, maturity: int) -> list[OwnCoin]:
    """The coins that the owner named.

    Raises:
        CoinNotFree: one of them is not there, not ripe, or bound.
    """
    free = {owned.coin.outpoint: owned for owned in coins if coin_state(owned, height, maturity) == "spendable"}
    for outpoint in only:
        if outpoint not in free:
            raise CoinNotFree(outpoint=str(outpoint))
    return [free[outpoint] for outpoint in dict.fromkeys(only)]


def _order(owned: OwnCoin) -> tuple[int, str, int]:
    return owned.coin.value, owned.coin.outpoint.txid, owned.coin.outpoint.vout


def size_of(chosen: Selection, outputs: tuple[TxOutput, ...]) -> int:
    """The most bytes that the payment of a selection can have."""
    change = (TxOutput(Florins(chosen.change), CHANGE_SCRIPT),) if chosen.change else ()
    return _size(len(chosen.coins), (*outputs, *change))


def _size(inputs: int, outputs: tuple[TxOutput, ...]) -> int:
    size = TX_FRAME_BYTES + inputs * (INPUT_FRAME_BYTES + p2pkh_input_bytes())
    return size + sum(OUTPUT_FRAME_BYTES + len(output.script) for output in outputs)


def _fee(inputs: int, outputs: tuple[TxOutput, ...], rate: int) -> int:
    return int(fee_for(_size(inputs, outputs), rate))


def _paid_by(coins: tuple[OwnCoin, ...], outputs: tuple[TxOutput, ...], need: int, rate: int) -> Selection | None:
    have = sum(owned.coin.value for owned in coins)
    with_change = _fee(len(coins), (*outputs, TxOutput(Florins(0), CHANGE_SCRIPT)), rate)
    if have - need - with_change > 0 and not is_dust(have - need - with_change):
        return Selection(coins, with_change, have - need - with_change)
    if have - need >= _fee(len(coins), outputs, rate):
        return Selection(coins, have - need, 0)
    return None


def _shortage(coins: Sequence[OwnCoin], free: list[OwnCoin], need: int) -> InsufficientFunds | CoinsPending:
    have = sum(owned.coin.value for owned in free)
    everything = sum(owned.coin.value for owned in coins)
    if everything >= need:
        return CoinsPending(need_florins=need, have_florins=have, pending_florins=everything - have)
    return InsufficientFunds(need_florins=need, have_florins=have)


def check_nonce(nonce: bytes) -> None:
    """Nothing happens for a nonce of the right length.

    Raises:
        BadParams: it has another.
    """
    if len(nonce) != NONCE_BYTES:
        raise BadParams(detail=f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")


def check_limits(settings: FlopSettings, amount: int, spent: Spent, caller: str) -> None:
    """Nothing happens when the owner's standing approval covers this payment of this caller's.

    Raises:
        OverLimit: naming the limit that it breaks.
    """
    used = (0, int(spent.total), int(spent.by_caller), int(spent.to_counterparty))
    for (name, limit), before in zip(limit_list(settings, caller), used, strict=True):
        if before + amount > limit:
            raise OverLimit(amount_florins=amount, limit=name, limit_florins=limit)


def limit_list(settings: FlopSettings, caller: str = "") -> list[tuple[str, int]]:
    """The limits of the standing approval by name, in the order in which they are asked: a caller's own, where set."""
    own = {str(name): limit for name, limit in settings.limits_of_callers.items()}
    of_caller = (own_limit(caller), int(own[caller])) if caller in own else None
    return [
        ("per payment", int(settings.limit_per_payment_florins)),
        ("per day", int(settings.limit_per_day_florins)),
        of_caller or ("per caller and day", int(settings.limit_per_caller_florins)),
        ("per counterparty and day", int(settings.limit_per_counterparty_florins)),
    ]


def own_limit(caller: str) -> str:
    """The name of one caller's own limit."""
    return f"of {caller} and day"


def payment_state(*, refused: str, height: int | None, waits: bool, conflicted: bool) -> PaymentState:
    """What became of a payment: confirmed and seen beat everything, for the chain decides."""
    if height is not None:
        return "confirmed"
    if waits:
        return "seen"
    if conflicted:
        return "conflicted"
    return "refused" if refused else "waiting"


def confirmations(height: int | None, tip: int) -> int:
    """How many blocks confirm what stands at a height; 0 outside a block."""
    return 0 if height is None else max(0, tip - height + 1)
