"""Reads a spend of a lot from the chain: which way out it was, who got what, and K when it was shown.

A spend is recognised by rebuilding it: only what matches a template to the last florin is named with its gross;
anything else on the same branch is told as such, so that books never guess. Source: escrow_protocol.md §3, §8.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.chain.contract import Contract, lot_script, result_hash_of
from common.chain.fees import FEE_LADDER
from common.chain.script import BRANCH_ARBITERS, BRANCH_COOP, BRANCH_REFUND, branch_of, pushes
from common.chain.settle import lot_digest
from common.chain.templates import (
    Award,
    BadTemplate,
    Cancel,
    Refund,
    Release,
    Side,
    Template,
    build,
    provider_florins,
)
from common.chain.tx import Outpoint, Tx, parse
from common.chain.verify import is_signature
from common.units import BPS, Florins

GUESSES_MAX = 100  # grosses with one tax that are tried: 20 at 5 %


class SpendKind(StrEnum):
    """Which way out a spend took."""

    RELEASE = "release"
    CANCEL = "cancel"
    AWARD = "award"
    REFUND = "refund"
    UNKNOWN = "unknown"


KINDS_BY_BRANCH = {  # all that a spend through a branch can be, also one that its signers made in a shape of their own
    BRANCH_COOP: (SpendKind.RELEASE, SpendKind.CANCEL),
    BRANCH_ARBITERS: (SpendKind.AWARD,),
    BRANCH_REFUND: (SpendKind.REFUND,),
}


@dataclass(frozen=True)
class Spend:
    """A spend of a lot as found; `template` is None when it matches none exactly."""

    kind: SpendKind
    template: Template | None
    seller_florins: Florins
    fund_florins: Florins
    buyer_florins: Florins
    royalty_florins: Florins
    fee_florins: Florins
    preimage: bytes | None

    @property
    def gross_florins(self) -> Florins:
        """The gross of a recognised spend; otherwise what seller, fund and developer got."""
        if isinstance(self.template, Release | Award):
            return self.template.gross_florins
        return self.seller_florins + self.fund_florins + self.royalty_florins


def classify(contract: Contract, raw: bytes, outpoint: Outpoint, value_florins: int) -> Spend:
    """What this transaction did with the lot's output of `value_florins`. Never raises on what stands on a chain."""
    tx = parse(raw)
    shown = next((pushes(item.script_sig) for item in tx.inputs if item.outpoint == outpoint), [])
    branch = _branch(contract, shown)
    template = _recognised(contract, tx, outpoint, value_florins, shown)
    return Spend(
        kind=_kind(template, branch),
        template=template,
        seller_florins=_paid_to(tx, contract.seller.payout_script),
        fund_florins=_paid_to(tx, contract.fund_script),
        buyer_florins=_paid_to(tx, contract.buyer.payout_script),
        royalty_florins=_paid_to(tx, contract.royalty.payout_script) if contract.royalty.bps else Florins(0),
        fee_florins=Florins(value_florins) - tx.paid_florins,
        preimage=_preimage(contract, shown),
    )


def _branch(contract: Contract, shown: list[bytes]) -> int:
    return branch_of(shown) if shown and shown[-1] == lot_script(contract) else 0


def _kind(template: Template | None, branch: int) -> SpendKind:
    if template is not None:
        return SpendKind(type(template).__name__.lower())
    kinds = KINDS_BY_BRANCH.get(branch, ())
    return kinds[0] if len(kinds) == 1 else SpendKind.UNKNOWN


def _recognised(
    contract: Contract, tx: Tx, outpoint: Outpoint, value_florins: int, shown: list[bytes]
) -> Template | None:
    for template in _candidates(contract, tx, value_florins, shown):
        for rung in range(len(FEE_LADDER)):
            try:
                rebuilt = build(contract, outpoint, value_florins, template, rung)
            except BadTemplate:
                continue
            if rebuilt.outputs == tx.outputs:
                return template
    return None


def _candidates(contract: Contract, tx: Tx, value_florins: int, shown: list[bytes]) -> list[Template]:
    branch = _branch(contract, shown)
    if branch == BRANCH_REFUND:
        return [Refund()]
    if branch == BRANCH_COOP:
        gross = value_florins - int(_paid_to(tx, contract.buyer.payout_script))
        return [Cancel(), Release(Florins(gross))]
    if branch == BRANCH_ARBITERS:
        return _award_candidates(contract, tx, value_florins, _winner(contract, tx, shown))
    return []


def _winner(contract: Contract, tx: Tx, shown: list[bytes]) -> Side:
    signed_by_buyer = is_signature(contract.buyer.key, lot_digest(contract, tx), shown[-3])
    return Side.BUYER if signed_by_buyer else Side.SELLER


def _award_candidates(contract: Contract, tx: Tx, value_florins: int, winner: Side) -> list[Template]:
    paid = {output.script for output in tx.outputs}
    revealed = tuple(seat for seat, arbiter in enumerate(contract.arbiters) if arbiter.payout_script in paid)
    seller, fee = int(_paid_to(tx, contract.seller.payout_script)), value_florins - int(tx.paid_florins)
    guesses = {0, int(contract.price_florins), *_taxed(int(_paid_to(tx, contract.fund_script)), contract.tax_bps)}
    for net in (seller, seller + fee):
        near = net * BPS // max(1, BPS - contract.tax_bps)
        guesses |= {gross for gross in range(near - 2, near + 3) if int(provider_florins(contract, gross)) == net}
    return [Award(Florins(gross), winner, revealed) for gross in sorted(guesses)]


def _taxed(tax: int, tax_bps: int) -> range:
    """Every gross of which this is the tax; none when the tax is too small to tell."""
    if not tax or BPS // max(1, tax_bps) > GUESSES_MAX:
        return range(0)
    return range(-(-tax * BPS // tax_bps), -(-(tax + 1) * BPS // tax_bps))


def _paid_to(tx: Tx, script: bytes) -> Florins:
    return Florins(sum(int(output.value_florins) for output in tx.outputs if output.script == script))


def _preimage(contract: Contract, shown: list[bytes]) -> bytes | None:
    if not contract.result_hash:
        return None
    return next((item for item in shown if result_hash_of(item) == contract.result_hash), None)
