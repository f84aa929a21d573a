"""The four ways out of a lot, as transactions that every wallet builds alike: RELEASE, CANCEL, AWARD, REFUND.

Amounts, order of outputs and who bears the fee follow the table of escrow_protocol.md §3. An output that would be dust
is left out and goes to the fee. Nobody but flopd signs what is built here, and flopd signs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from common.chain.contract import Contract, is_bond, lot_script, lot_value, reserve_of
from common.chain.fees import FEE_LADDER, GROSS_MIN_FLORINS, fee_for, is_dust, rungs_for
from common.chain.script import PLACEHOLDER_SIG, PREIMAGE_BYTES, award_sig, coop_sig, refund_sig
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, size_with
from common.codec import Canon
from common.errors import CallerMistake
from common.units import BPS, Florins, tax_of


class BadTemplate(CallerMistake):
    """No such transaction can be built from the contract: {reason}."""

    code = 2021
    key = "bad-template"


class Side(StrEnum):
    """A party of the contract."""

    BUYER = "buyer"
    SELLER = "seller"


class Release(Canon, frozen=True, tag="release"):
    """Both agree that the seller gets a gross of g."""

    gross_florins: Florins


class Cancel(Canon, frozen=True, tag="cancel"):
    """Both agree that the buyer gets everything back."""


class Award(Canon, frozen=True, tag="award"):
    """k arbiters and the winner give the seller a gross of g; `revealed` = positions of the arbiters who are paid."""

    gross_florins: Florins
    winner: Side
    revealed: tuple[int, ...]


class Refund(Canon, frozen=True, tag="refund"):
    """The buyer alone takes everything, after T."""


Template = Release | Cancel | Award | Refund


@dataclass(frozen=True)
class _Share:
    """One output before the fee; shares with a lower `bears` pay the fee first, None never does."""

    script: bytes
    florins: int
    bears: int | None = None


def gross_of(template: Template) -> Florins:
    """g: what is paid for the work, before tax."""
    return template.gross_florins if isinstance(template, Release | Award) else Florins(0)


def build(contract: Contract, outpoint: Outpoint, value_florins: int, template: Template, rung: int = 0) -> Tx:
    """The unsigned transaction of this way out: spends the lot's output of `value_florins`, at a rung of the fees.

    Raises:
        BadTemplate: the gross, the arbiters' positions or the rung are not allowed, or nothing would be left.
    """
    _check(contract, value_florins, template, rung)
    shares = _shares(contract, value_florins, template)
    fee = base_fee(contract, outpoint, value_florins, template) * FEE_LADDER[rung]
    outputs = _outputs(_charged(shares, fee, _free_reserve(contract, template)))
    if not outputs:
        raise BadTemplate(reason="nothing would be left after the fee")
    return _tx(contract, outpoint, outputs, template)


def base_fee(contract: Contract, outpoint: Outpoint, value_florins: int, template: Template) -> Florins:
    """The fee at the first rung: by the size with every output above dust and every signature at its longest."""
    outputs = _outputs(_shares(contract, value_florins, template))
    tx = _tx(contract, outpoint, outputs, template)
    return fee_for(size_with(tx, [_script_sig_bytes(contract, template)]), contract.fee_rate_florins_per_kb)


def rungs_of(contract: Contract, outpoint: Outpoint, value_florins: int, template: Template) -> int:
    """How many rungs co-signatures are given for: the highest costs at most 5 % of g, and there is always one.

    A way out that pays nothing for the work has no g (a cancel, an award for the buyer): what is there goes back to who
    bears the fee, so it is 5 % of that. With one rung alone a small rise of fees would hold it where it is.
    """
    return rungs_for(base_fee(contract, outpoint, value_florins, template), gross_of(template) or value_florins)


def royalty_of(contract: Contract, gross_florins: int) -> Florins:
    """The developer's share of the provider's part of a gross, rounded down; below dust it is owed, not paid."""
    provider = int(gross_florins) - int(tax_of(gross_florins, contract.tax_bps))
    return Florins(provider * contract.royalty.bps // BPS)


def provider_florins(contract: Contract, gross_florins: int) -> Florins:
    """What the seller's own output holds of a gross, before any chain fee."""
    royalty = royalty_of(contract, gross_florins)
    left = int(gross_florins) - int(tax_of(gross_florins, contract.tax_bps))
    return Florins(left if is_dust(int(royalty)) else left - int(royalty))


def _check(contract: Contract, value_florins: int, template: Template, rung: int) -> None:
    gross, price = int(gross_of(template)), int(contract.price_florins)
    if isinstance(template, Release | Award) and is_bond(contract):
        raise BadTemplate(reason="a bond lot goes back, or into an award together with the lot that it stands for")
    is_stray_award = isinstance(template, Award) and not gross and not template.revealed  # all back, of any output
    too_little = value_florins < int(lot_value(contract)) and not is_stray_award
    if isinstance(template, Release | Award) and too_little:
        raise BadTemplate(reason=f"the output holds {value_florins} florins, the lot is {int(lot_value(contract))}")
    if not 0 <= gross <= price or 0 < gross < GROSS_MIN_FLORINS:
        raise BadTemplate(reason=f"gross {gross} must be 0, or from {GROSS_MIN_FLORINS} to the price {price}")
    if isinstance(template, Release) and gross == 0:
        raise BadTemplate(reason="a release pays the seller; to pay nothing, cancel")
    if not 0 <= rung < len(FEE_LADDER):
        raise BadTemplate(reason=f"the fee ladder has rungs 0 to {len(FEE_LADDER) - 1}")
    if isinstance(template, Award):
        _check_revealed(template.revealed, len(contract.arbiters))


def _check_revealed(revealed: tuple[int, ...], arbiters: int) -> None:
    if list(revealed) != sorted(set(revealed)) or any(not 0 <= seat < arbiters for seat in revealed):
        raise BadTemplate(reason="revealed names each arbiter's position once, in rising order")


def _shares(contract: Contract, value_florins: int, template: Template) -> list[_Share]:
    buyer = contract.buyer.payout_script
    if isinstance(template, Cancel | Refund):
        return [_Share(buyer, value_florins, 0)]
    gross = int(template.gross_florins)
    tax = int(tax_of(gross, contract.tax_bps))
    seller = _Share(contract.seller.payout_script, int(provider_florins(contract, gross)))
    fund = [_Share(contract.fund_script, tax), *_developer(contract, gross)]
    if isinstance(template, Release):
        return [replace(seller, bears=0), *fund, _Share(buyer, value_florins - gross)]
    pay = int(contract.arbiter_pay_florins)
    paid = [_Share(contract.arbiters[seat].payout_script, pay) for seat in template.revealed]
    rest = value_florins - gross - pay * len(paid)
    loser_first = (1, 0) if template.winner == Side.SELLER else (0, 1)
    return [replace(seller, bears=loser_first[0]), *fund, _Share(buyer, rest, loser_first[1]), *paid]


def _developer(contract: Contract, gross: int) -> list[_Share]:
    """The developer's output, after the fund's: none without a royalty, or below dust."""
    royalty = int(royalty_of(contract, gross))
    return [] if is_dust(royalty) else [_Share(contract.royalty.payout_script, royalty)]


def _free_reserve(contract: Contract, template: Template) -> int:
    """What an award leaves of the reserve: it pays the fee before anybody's part does, whoever lost."""
    if not isinstance(template, Award):
        return 0
    return int(reserve_of(contract)) - int(contract.arbiter_pay_florins) * len(template.revealed)


def _charged(shares: list[_Share], fee: int, free_reserve: int) -> list[_Share]:
    """The shares after the fee: the free reserve (in the buyer's share) bears it first, then the bearers in order."""
    left = list(shares)
    if free_reserve:
        buyer_at = next(at for at, share in enumerate(left) if at and share.bears is not None)
        part = min(fee, free_reserve)
        left[buyer_at] = replace(left[buyer_at], florins=left[buyer_at].florins - part)
        fee -= part
    bearers = sorted(
        (at for at, share in enumerate(left) if share.bears is not None), key=lambda at: left[at].bears or 0
    )
    for at in bearers:
        part = min(fee, left[at].florins)
        left[at] = replace(left[at], florins=left[at].florins - part)
        fee -= part
    return left


def _outputs(shares: list[_Share]) -> tuple[TxOutput, ...]:
    return tuple(TxOutput(Florins(share.florins), share.script) for share in shares if not is_dust(share.florins))


def _tx(contract: Contract, outpoint: Outpoint, outputs: tuple[TxOutput, ...], template: Template) -> Tx:
    lock_time = contract.heights.timeout if isinstance(template, Refund) else 0
    return Tx((TxInput(outpoint),), outputs, lock_time)


def _script_sig_bytes(contract: Contract, template: Template) -> int:
    script = lot_script(contract)
    if isinstance(template, Refund):
        return len(refund_sig(script, PLACEHOLDER_SIG))
    if isinstance(template, Award):
        return len(award_sig(script, [PLACEHOLDER_SIG] * contract.arbiters_needed, PLACEHOLDER_SIG))
    shown = bytes(PREIMAGE_BYTES) if contract.result_hash else None
    return len(coop_sig(script, PLACEHOLDER_SIG, PLACEHOLDER_SIG, shown))
