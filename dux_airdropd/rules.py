"""When the fund is handed back, how it is divided, who proposes, and what a custodian signs.

Pure: coins, evidence and heights come in. Laws: what is spent is paid, kept or the stated fee; every member's part is
paid or on the ledger; what the ledger owes lies in the change; the same inputs give the same payout bit for bit; all
payouts of one cut-off spend the fund's largest coin, so that at most one of them can be mined.

Source: money.md §6, settled.md 23.
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
from common.codec import canonical
from common.errors import CallerMistake
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.network import NetworkProfile
from common.units import Did, Florins
from dux_airdropd.evidence_rules import census, in_order, item_id
from dux_airdropd.model import Figures, FundCoin, Item, Member, Owed, Plan, Proposal, Round, ShareLine, Window, Witness

LAPSE_BLOCKS = 120  # of attempts without a payout in a block: then the cut-off lapses, and a later one decides
MARGIN_BLOCKS = 24  # before that nobody signs any more: what was signed by then is in a block in time
FORGET_FOREIGN_BLOCKS = 60  # so long a custodian asks for the proof of a payout that it does not know


class NothingToPay(CallerMistake):
    """No payout can be made: {reason}."""

    code = 4010
    key = "nothing-to-pay"


def rule_problem(network: NetworkProfile) -> str:
    """Why the network's airdrop rule cannot run, or an empty string."""
    if network.airdrop.rule != "full":
        return f"rule {network.airdrop.rule!r} needs bonds, which this version does not have"
    if network.is_main:
        return "rule 'full' pays anonymous identities evenly, which is always worth faking for; main needs 'bonded'"
    return ""


# when


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


def cutoff_height(
    coins: Sequence[FundCoin], *, after: int, tip: int, depth: int, owed_florins: int, threshold_florins: int
) -> int | None:
    """The first height after the last payout at which the fund reached the threshold, once it lies `depth` deep."""
    heights = {coin.height for coin in coins if coin.height is not None and coin.height > after} | {after}
    for height in sorted(heights):
        if height + depth - 1 > tip:
            return None
        if available(coins, height, owed_florins) >= threshold_florins:
            return height
    return None


def proposal_after(cutoff: int, figures: Figures) -> int:
    """The height from which payouts are proposed: the cut-off deep enough, and N blocks to exchange evidence."""
    return cutoff + figures.depth_blocks - 1 + figures.evidence_blocks


def attempt_at(tip: int, cutoff: int, figures: Figures) -> int | None:
    """Which attempt a height belongs to, from 0; None before the first. Each lasts as long as the exchange."""
    late = tip - proposal_after(cutoff, figures)
    return None if late < 0 else late // max(1, figures.evidence_blocks)


def lapse_height(cutoff: int, figures: Figures) -> int:
    """The last height at which a payout of this cut-off counts. A cut-off that nobody can be paid from ends here."""
    return proposal_after(cutoff, figures) + LAPSE_BLOCKS


def may_sign(tip: int, cutoff: int, figures: Figures) -> bool:
    """Whether a payout that is signed now can be in a block before its cut-off lapses."""
    return tip <= lapse_height(cutoff, figures) - MARGIN_BLOCKS


def proposer(custodians: Sequence[Did], number: int, attempt: int) -> Did:
    """Who proposes: the custodians in their order, one further with every airdrop and every attempt."""
    return custodians[(number + attempt) % len(custodians)]


# how it is divided


def choose_inputs(coins: Iterable[FundCoin], outputs: tuple[TxOutput, ...], figures: Figures) -> tuple[FundInput, ...]:
    """The largest coins that fit one standard transaction beside these outputs, in the order of their outpoints."""
    ranked = sorted(coins, key=lambda coin: (-coin.value_florins, coin.outpoint.txid, coin.outpoint.vout))
    most = _largest(
        min(len(ranked), PAYOUT_INPUTS_MAX),
        lambda count: payout_size(figures.needed, figures.pubkeys, count, outputs) <= TX_BYTES_MAX,
    )
    chosen = [FundInput(coin.outpoint, Florins(coin.value_florins)) for coin in ranked[:most]]
    return tuple(sorted(chosen, key=lambda item: (item.outpoint.txid, item.outpoint.vout)))


def plan(
    members: Sequence[Member], coins: Sequence[FundCoin], ledger: Mapping[Did, int], name: str, figures: Figures
) -> Plan:
    """The payout that hands the fund's coins to the members evenly; `name` says which airdrop it is.

    Raises:
        NothingToPay: nobody is eligible, or every part would be below the smallest payment.
    """
    if not members:
        raise NothingToPay(reason="nobody is eligible by the evidence held")
    change = TxOutput(Florins(DUST_FLORINS), figures.fund_script)
    inputs = choose_inputs(coins, (*_placeholders(members), change), figures)
    if not inputs:
        raise NothingToPay(reason="the fund has no coin")
    owed = {member.did: ledger.get(member.did, 0) for member in members}
    order = sorted(members, key=lambda member: (-owed[member.did], member.did))
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
) -> Plan:
    """With `reserve` florins kept besides what the ledger owes."""
    pot = sum(int(item.value_florins) for item in inputs) - sum(ledger.values()) - reserve
    paid, share = _paid_count(order, inputs, ledger, pot, figures)
    return _settled(order, paid, share, inputs, ledger, name, figures, with_change=True)


def _paid_count(
    order: Sequence[Member],
    inputs: tuple[FundInput, ...],
    ledger: Mapping[Did, int],
    pot_florins: int,
    figures: Figures,
) -> tuple[int, int]:
    """How many of the first members are paid at once, and everybody's share, with a change output."""

    def share(count: int) -> int:
        outputs = (*_placeholders(order[:count]), TxOutput(Florins(DUST_FLORINS), figures.fund_script))
        fee = int(payout_fee(figures.needed, figures.pubkeys, len(inputs), outputs))
        return (pot_florins - fee) // len(order)

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


# what is signed


def payout_name(number: int, cutoff_hash: str) -> str:
    """What a payout is for: the airdrop's number and its cut-off block."""
    return f"airdrop {number} {cutoff_hash}"


def proposal_id(proposal: Proposal) -> bytes:
    """The name of a proposal: 32 bytes over all that it holds."""
    return tagged_hash(Purpose.AIRDROP_PROPOSAL, canonical(proposal))


def recompute(
    round_: Round,
    evidence: Mapping[bytes, tuple[Item, Witness]],
    window: Window,
    coins: Sequence[FundCoin],
    ledger: Mapping[Did, int],
    figures: Figures,
) -> tuple[Proposal, Plan]:
    """The one proposal that this evidence gives for this cut-off.

    Raises:
        NothingToPay: it gives none.
    """
    members, _ = census((witness for _, witness in evidence.values()), window, figures)
    made = plan(
        members,
        held_at(coins, round_.cutoff_height),
        ledger,
        payout_name(round_.number, round_.cutoff_hash),
        figures,
    )
    proposal = Proposal(
        network=figures.network,
        number=round_.number,
        from_height=round_.from_height,
        cutoff_height=round_.cutoff_height,
        cutoff_hash=round_.cutoff_hash,
        ledger=ledger_lines(ledger),
        items=in_order(item for item, _ in evidence.values()),
        payout=made.payout,
    )
    return proposal, made


def round_fault(proposal: Proposal, mine: Round, network: str) -> str:
    """Why a proposal is not about the airdrop that this node stands at, or an empty string."""
    if proposal.network != network:
        return "it belongs to another network"
    told = (proposal.number, proposal.from_height, proposal.cutoff_height, proposal.cutoff_hash)
    if told != (mine.number, mine.from_height, mine.cutoff_height, mine.cutoff_hash):
        return "it is for another airdrop, or another cut-off"
    return "" if proposal.items == in_order(proposal.items) else "its evidence is out of order"


def signing_fault(proposal: Proposal, own: Proposal, owed_to_see: Iterable[bytes], faults: Mapping[bytes, str]) -> str:
    """Why a custodian does not sign, or an empty string.

    Empty means: every item verified, every item it held is in, and its own recomputation gave the same payout.
    `own` is the recomputation from the proposal's evidence; `owed_to_see` are the items that this custodian held;
    `faults` are those of the proposal's items that do not verify.
    """
    for name, fault in sorted(faults.items()):
        return f"item {name.hex()[:16]} does not verify: {fault}"
    missing = set(owed_to_see) - {item_id(item) for item in proposal.items}
    if missing:
        return f"it leaves out {len(missing)} items that this custodian holds, {min(missing).hex()[:16]} among them"
    if proposal.ledger != own.ledger:
        return "its carry-over ledger differs from this custodian's"
    return "" if proposal == own else "its payout is not what its evidence gives"


# what the chain says of a payout


def spent_by(coins: Iterable[FundCoin], cutoff: int) -> FundCoin | None:
    """The first of the coins that the fund held at the cut-off which a later block has spent; None: none has."""
    spent = [coin for coin in held_at(coins, cutoff) if coin.spent_height is not None]
    return min(spent, key=lambda coin: (coin.spent_height or 0, coin.outpoint.txid, coin.outpoint.vout), default=None)


def pays(coin: FundCoin, payout: FundPayout) -> bool:
    """Whether the transaction that spent this coin is this payout, whoever's signatures it carries."""
    return coin.spent_outputs == payout.outputs and coin.outpoint in {item.outpoint for item in payout.inputs}


def stands(paid: Round, spent: FundCoin | None) -> bool:
    """Whether the payout of a paid airdrop is still where the books say; `spent` is the spent cut-off coin."""
    return spent is not None and (spent.spent_txid, spent.spent_height) == (paid.txid, paid.paid_height)


def is_deep(height: int, tip: int, depth: int) -> bool:
    """Whether a block lies so deep that it is built upon."""
    return tip - height + 1 >= depth
