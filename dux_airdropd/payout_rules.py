"""How the fund's coins are divided: which are spent, who is paid at once, what is carried over, what is kept.

Pure. Laws: what is spent is paid, kept or the stated fee; every member's part is paid or on the ledger; what the ledger
owes lies in the change; the same inputs give the same payout bit for bit; all payouts of one cut-off spend the fund's
largest coin, so that at most one of them can be mined. With a cap on the share, what it leaves stays in the fund.

Source: money.md §6, mechanisms.md §2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from common.chain.fees import DUST_FLORINS, TX_BYTES_MAX
from common.chain.fund import (
    PAYOUT_INPUTS_MAX,
    PAYOUT_OUTPUTS_MAX,
    FundInput,
    FundPayout,
    payout_fee,
    payout_size,
)
from common.chain.tx import TxOutput
from common.errors import CallerMistake
from common.units import Did, Florins
from dux_airdropd.model import Figures, FundCoin, Member, Owed, Plan, ShareLine


class NothingToPay(CallerMistake):
    """No payout can be made: {reason}."""

    code = 4010
    key = "nothing-to-pay"


def available(coins: Iterable[FundCoin], height: int, owed_florins: int) -> int:
    """What the fund held at a height and did not owe, in florins."""
    return sum(coin.value_florins for coin in held_at(coins, height)) - owed_florins


def held_at(coins: Iterable[FundCoin], height: int) -> list[FundCoin]:
    """The fund's coins in blocks up to this height that no block up to it had spent."""
    return [
        coin
        for coin in coins
        if coin.height is not None
        and coin.height <= height
        and (coin.spent_height is None or coin.spent_height > height)
    ]


def chosen(
    coins: Iterable[FundCoin], needed: int, pubkeys: tuple[bytes, ...], outputs: tuple[TxOutput, ...]
) -> tuple[FundInput, ...]:
    """The largest coins that fit one standard transaction beside these outputs, in the order of their outpoints."""
    ranked = sorted(coins, key=lambda coin: (-coin.value_florins, coin.outpoint.txid, coin.outpoint.vout))
    most = _largest(
        min(len(ranked), PAYOUT_INPUTS_MAX),
        lambda count: payout_size(needed, pubkeys, count, outputs) <= TX_BYTES_MAX,
    )
    taken = [FundInput(coin.outpoint, Florins(coin.value_florins)) for coin in ranked[:most]]
    return tuple(sorted(taken, key=lambda item: (item.outpoint.txid, item.outpoint.vout)))


def plan(
    members: Sequence[Member],
    coins: Sequence[FundCoin],
    ledger: Mapping[Did, int],
    name: str,
    figures: Figures,
    *,
    cap_florins: int | None = None,
) -> Plan:
    """The payout that hands the fund's coins to the members evenly; `name` says which airdrop it is.

    `cap_florins`: no share is larger, and what is left stays in the fund; None: all of it goes out.

    Raises:
        NothingToPay: nobody is eligible, or every part would be below the smallest payment.
    """
    if not members:
        raise NothingToPay(reason="nobody is eligible by the evidence held")
    change = TxOutput(Florins(DUST_FLORINS), figures.fund_script)
    inputs = chosen(
        coins,
        figures.needed,
        figures.pubkeys,
        (*_placeholders(sorted(members, key=lambda member: member.did)[:PAYOUT_OUTPUTS_MAX]), change),
    )
    if not inputs:
        raise NothingToPay(reason="the fund has no coin")
    owed = {member.did: ledger.get(member.did, 0) for member in members}
    order = sorted(members, key=lambda member: (-owed[member.did], member.did))
    if cap_florins is not None:
        return _with_change(order, inputs, ledger, name, figures, reserve=int(DUST_FLORINS), cap=cap_florins)
    return _divide(order, inputs, ledger, name, figures)


def _divide(
    order: Sequence[Member], inputs: tuple[FundInput, ...], ledger: Mapping[Did, int], name: str, figures: Figures
) -> Plan:
    """Without change when nothing has to be kept, else with change, the last time with at least the smallest one."""
    total, owed_total = sum(int(item.value_florins) for item in inputs), sum(ledger.values())
    everyone = len(order) <= PAYOUT_OUTPUTS_MAX and owed_total == sum(ledger.get(member.did, 0) for member in order)
    if everyone:
        fee = int(payout_fee(figures.needed, figures.pubkeys, len(inputs), _placeholders(order)))
        share = (total - owed_total - fee) // len(order)
        if share + min(ledger.get(member.did, 0) for member in order) >= figures.carry_below_florins:
            return _settled(order, len(order), share, inputs, ledger, name, figures, with_change=False)
    made = _with_change(order, inputs, ledger, name, figures, reserve=0)
    if made.change_florins >= DUST_FLORINS:
        return made
    return _with_change(order, inputs, ledger, name, figures, reserve=int(DUST_FLORINS))


def _with_change(
    order: Sequence[Member],
    inputs: tuple[FundInput, ...],
    ledger: Mapping[Did, int],
    name: str,
    figures: Figures,
    *,
    reserve: int,
    cap: int | None = None,
) -> Plan:
    """With `reserve` florins kept besides what the ledger owes, and no share above the cap."""
    pot = sum(int(item.value_florins) for item in inputs) - sum(ledger.values()) - reserve
    paid, share = _paid_count(order, inputs, ledger, pot, figures, cap)
    return _settled(order, paid, share, inputs, ledger, name, figures, with_change=True)


def _paid_count(
    order: Sequence[Member],
    inputs: tuple[FundInput, ...],
    ledger: Mapping[Did, int],
    pot_florins: int,
    figures: Figures,
    cap: int | None,
) -> tuple[int, int]:
    """How many of the first members are paid at once, and everybody's share, with a change output."""

    def share(count: int) -> int:
        outputs = (*_placeholders(order[:count]), TxOutput(Florins(DUST_FLORINS), figures.fund_script))
        fee = int(payout_fee(figures.needed, figures.pubkeys, len(inputs), outputs))
        even = (pot_florins - fee) // len(order)
        return even if cap is None else min(even, cap)

    count = _largest(
        min(len(order), PAYOUT_OUTPUTS_MAX - 1),
        lambda count: share(count) + ledger.get(order[count - 1].did, 0) >= figures.carry_below_florins,
    )
    if count == 0 or share(count) <= 0:
        raise NothingToPay(reason="every part would be below the smallest payment")
    return count, share(count)


def _settled(
    order: Sequence[Member],
    paid_count: int,
    share: int,
    inputs: tuple[FundInput, ...],
    ledger: Mapping[Did, int],
    name: str,
    figures: Figures,
    *,
    with_change: bool,
) -> Plan:
    lines = []
    for place, member in enumerate(order):
        before = ledger.get(member.did, 0)
        paid = before + share if place < paid_count else 0
        lines.append(ShareLine(member, share, before, paid, before + share - paid))
    lines.sort(key=lambda line: line.member.did)
    after = {**ledger, **{line.member.did: line.after_florins for line in lines}}
    outputs = tuple(TxOutput(Florins(line.paid_florins), line.member.script) for line in lines if line.paid_florins)
    total, paid_total = sum(int(item.value_florins) for item in inputs), sum(line.paid_florins for line in lines)
    change = 0
    if with_change:
        kept = TxOutput(Florins(DUST_FLORINS), figures.fund_script)
        fee = int(payout_fee(figures.needed, figures.pubkeys, len(inputs), (*outputs, kept)))
        change = total - paid_total - fee
        outputs = (*outputs, TxOutput(Florins(change), figures.fund_script))
    return Plan(
        payout=FundPayout(figures.network, name, figures.needed, figures.pubkeys, inputs, outputs),
        lines=tuple(lines),
        ledger_after=ledger_lines(after),
        share_florins=share,
        spent_florins=total,
        paid_florins=paid_total,
        change_florins=change,
        fee_florins=total - paid_total - change,
    )


def _placeholders(members: Sequence[Member]) -> tuple[TxOutput, ...]:
    return tuple(TxOutput(Florins(DUST_FLORINS), member.script) for member in members)


def _largest(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest count of 1 to `limit` that holds, when whatever holds for a count holds for all below; else 0."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def ledger_lines(ledger: Mapping[Did, int]) -> tuple[Owed, ...]:
    """A ledger as it is signed: positive lines in the order of DIDs."""
    return tuple(Owed(did, Florins(florins)) for did, florins in sorted(ledger.items()) if florins > 0)
