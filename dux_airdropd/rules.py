"""When the fund is handed back, who proposes, and what a custodian signs.

Pure: coins, evidence and heights come in. Laws: the same inputs give the same payout bit for bit, and nobody signs
another one. How it is divided is payout_rules.py; who is eligible, evidence_rules.py and bonded_rules.py.

Source: money.md §6, settled.md 23.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from common.chain.fund import FundPayout
from common.codec import canonical
from common.identity.purposes import Purpose
from common.identity.tagged import tagged_hash
from common.network import NetworkProfile
from common.parameters import version_problem
from common.units import Did
from dux_airdropd.bonded_rules import bond_least, bonded_census, carried_after, share_cap
from dux_airdropd.evidence_rules import census, in_order, item_id
from dux_airdropd.model import (
    NOTHING_CARRIED,
    Carried,
    Census,
    Figures,
    FundCoin,
    Item,
    Plan,
    Proposal,
    Round,
    Window,
    Witness,
)
from dux_airdropd.payout_rules import available, held_at, ledger_lines, plan

LAPSE_BLOCKS = 120  # of attempts without a payout in a block: then the cut-off lapses, and a later one decides
MARGIN_BLOCKS = 24  # before that nobody signs any more: what was signed by then is in a block in time
FORGET_FOREIGN_BLOCKS = 60  # so long a custodian asks for the proof of a payout that it does not know


def rule_problem(network: NetworkProfile) -> str:
    """Why the network's airdrop rule cannot run, or an empty string."""
    if network.airdrop.rule == "full" and network.is_main:
        return "rule 'full' pays anonymous identities evenly, which is always worth faking for; main needs 'bonded'"
    return ""


# when


def cutoff_height(
    coins: Sequence[FundCoin],
    *,
    after: int,
    tip: int,
    depth: int,
    owed_florins: int,
    threshold_at: Callable[[int], int],
) -> int | None:
    """The first height after the last payout at which the fund reached the threshold, once it lies `depth` deep."""
    heights = {coin.height for coin in coins if coin.height is not None and coin.height > after} | {after}
    for height in sorted(heights):
        if height + depth - 1 > tip:
            return None
        if available(coins, height, owed_florins) >= threshold_at(height):
            return height
    return None


def earliest_cutoff(from_height: int, figures: Figures) -> int:
    """By rule `bonded`, which leaves what nobody may be paid: a cut-off comes a window of presence after the last."""
    if figures.rule != "bonded" or from_height == 0:
        return 0
    return from_height + figures.bonded.presence_days * figures.bonded.day_blocks - 1


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


# what is signed


def payout_name(number: int, cutoff_hash: str) -> str:
    """What a payout is for: the airdrop's number and its cut-off block."""
    return f"airdrop {number} {cutoff_hash}"


def proposal_id(proposal: Proposal) -> bytes:
    """The name of a proposal: 32 bytes over all that it holds."""
    return tagged_hash(Purpose.AIRDROP_PROPOSAL, canonical(proposal))


def census_of(
    witnesses: Iterable[Witness],
    window: Window,
    figures: Figures,
    carried: Carried,
    beacon: bytes,
    asns: Mapping[str, int],
) -> Census:
    """Who gets a share by the network's rule, and why the others get none."""
    if figures.rule == "bonded":
        return bonded_census(witnesses, window, figures, carried, beacon, asns)
    members, refusals = census(witnesses, window, figures)
    return Census(tuple(members), tuple(refusals))


def plan_of(
    found: Census, round_: Round, coins: Sequence[FundCoin], ledger: Mapping[Did, int], carried: Carried,
    figures: Figures, *, name: str,
) -> Plan:  # fmt: skip
    """The payout to these members, and what it leaves to the next airdrop.

    Raises:
        NothingToPay: there is none.
    """
    held = held_at(coins, round_.cutoff_height)
    if figures.rule != "bonded":
        return plan(found.members, held, ledger, name, figures)
    blocks = round_.cutoff_height - round_.from_height + 1
    bond = min(found.least_bond_florins, bond_least(carried, figures.bonded))
    cap = share_cap(figures.bonded, bond, blocks, strict=carried.strict)
    made = plan(found.members, held, ledger, name, figures, cap_florins=cap)
    after = carried_after(
        carried, found, figures.bonded, fund_florins=sum(coin.value_florins for coin in held) - sum(ledger.values()),
        from_height=round_.from_height, to_height=round_.cutoff_height,
    )  # fmt: skip
    return msgspec.structs.replace(made, carried_after=after, cap_florins=cap)


def recompute(
    round_: Round,
    evidence: Mapping[bytes, tuple[Item, Witness]],
    window: Window,
    coins: Sequence[FundCoin],
    ledger: Mapping[Did, int],
    figures: Figures,
    *,
    carried: Carried = NOTHING_CARRIED,
    beacon: bytes = b"",
    asns: Mapping[str, int] | None = None,
) -> tuple[Proposal, Plan]:
    """The one proposal that this evidence gives for this cut-off.

    Raises:
        NothingToPay: it gives none.
    """
    found = census_of((witness for _, witness in evidence.values()), window, figures, carried, beacon, asns or {})
    name = payout_name(round_.number, round_.cutoff_hash)
    made = plan_of(found, round_, coins, ledger, carried, figures, name=name)
    proposal = Proposal(
        network=figures.network,
        parameters=figures.parameters,
        number=round_.number,
        from_height=round_.from_height,
        cutoff_height=round_.cutoff_height,
        cutoff_hash=round_.cutoff_hash,
        beacon=beacon,
        carried=carried,
        ledger=ledger_lines(ledger),
        items=in_order(item for item, _ in evidence.values()),
        payout=made.payout,
    )
    return proposal, made


def round_fault(proposal: Proposal, mine: Round, network: str, parameters: int) -> str:
    """Why a proposal is not about the airdrop that this node stands at, or an empty string."""
    if proposal.network != network:
        return "it belongs to another network"
    apart = version_problem(proposal.parameters, parameters)
    if apart:
        return apart
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
    if (proposal.carried, proposal.beacon) != (own.carried, own.beacon):
        return "what it carries from the airdrop before, or its draw, differs from this custodian's"
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
