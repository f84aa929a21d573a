"""The award that takes two lots at once: the seller lost, and its bond lot pays the arbiters in place of the buyer.

Promise: every wallet builds the same bytes from the two contracts and their outpoints; the buyer gets its whole lot
back, each arbiter who revealed gets p from the bond, and what is left of the bond, less the fee, is the seller's. Both
inputs are signed with SIGHASH_ALL, so neither can be spent alone by what was signed for both. A seller that is paid
anything keeps its bond: then there is the award of one input (`templates`). Holds no key.

Source: escrow_protocol.md §3 (AWARD with bond lot), §9 (the loser pays).
"""

from __future__ import annotations

from dataclasses import dataclass

from common.chain.contract import Contract, is_bond, lot_output_script, lot_script, lot_value, reserve_of
from common.chain.fees import FEE_LADDER, fee_for, is_dust
from common.chain.script import PLACEHOLDER_SIG, award_sig
from common.chain.settle import MissingSignature
from common.chain.templates import BadTemplate
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, sighash, size_with
from common.chain.verify import is_signature, verify_spend
from common.units import Florins

MARGINS = 2  # the bond's T lies twice the last margin after the lot's: 288 blocks on main


@dataclass(frozen=True)
class LotCoin:
    """A lot with the coin that it rests on."""

    contract: Contract
    outpoint: Outpoint
    value_florins: int


def bond_timeout(lot: Contract) -> int:
    """The least T of a bond beside this lot: an award of the lot can be signed, mined and mined again before it."""
    return lot.heights.timeout + MARGINS * (lot.heights.timeout - lot.heights.vote_by)


def bond_problem(lot: Contract, bond: Contract) -> str | None:
    """Why this contract is no bond for that lot, or None."""
    laws = {
        "it is no bond lot": is_bond(bond) and not is_bond(lot),
        "it belongs to another series": bool(lot.stage.series) and lot.stage.series == bond.stage.series,
        "it is of another network": lot.network == bond.network,
        "it is not the seller's towards the buyer": (
            (bond.buyer.did, bond.seller.did) == (lot.seller.did, lot.buyer.did)
        ),
        "another panel decides about it": (
            {arbiter.did for arbiter in lot.arbiters} == {arbiter.did for arbiter in bond.arbiters}
        ),
        "it holds less than a dispute costs": int(bond.price_florins) >= int(reserve_of(lot)),
        "it is the seller's again too early": bond.heights.timeout >= bond_timeout(lot),
    }
    return next((law for law, holds in laws.items() if not holds), None)


def build_both(lot: LotCoin, bond: LotCoin, revealed: tuple[int, ...], rung: int = 0) -> Tx:
    """The unsigned award: inputs lot and bond; outputs seller's rest, buyer, p to each who revealed (seats of the lot).

    Raises:
        BadTemplate: the two do not belong together, a coin is too small, or seats or rung are not allowed.
    """
    _check(lot, bond, revealed, rung)
    fee = int(base_fee_of_both(lot, bond, revealed)) * FEE_LADDER[rung]
    return _built(lot, bond, revealed, fee)


def base_fee_of_both(lot: LotCoin, bond: LotCoin, revealed: tuple[int, ...]) -> Florins:
    """The fee of the first rung: by the size with every signature at its longest."""
    tx = _built(lot, bond, revealed, 0)
    full = [
        len(award_sig(lot_script(coin.contract), [PLACEHOLDER_SIG] * coin.contract.arbiters_needed, PLACEHOLDER_SIG))
        for coin in (lot, bond)
    ]
    return fee_for(size_with(tx, full), lot.contract.fee_rate_florins_per_kb)


def digests_of_both(lot: LotCoin, bond: LotCoin, tx: Tx) -> tuple[bytes, bytes]:
    """What is signed for the lot's input and for the bond's (32 bytes each)."""
    return sighash(tx, 0, lot_script(lot.contract)), sighash(tx, 1, lot_script(bond.contract))


def assemble_both(lot: LotCoin, bond: LotCoin, tx: Tx, signatures: dict[bytes, bytes]) -> Tx:
    """The full award from right signatures by key (keys of the two lots differ); wrong ones count as missing.

    Raises:
        MissingSignature: naming what is missing.
    """
    sigs: list[bytes] = []
    for coin, digest, winner in zip(
        (lot, bond), digests_of_both(lot, bond, tx), (lot.contract.buyer.key, bond.contract.seller.key), strict=True
    ):
        right = {key: sig for key, sig in signatures.items() if is_signature(key, digest, sig)}
        panel = [right[arbiter.key] for arbiter in coin.contract.arbiters if arbiter.key in right]
        needed = coin.contract.arbiters_needed
        if len(panel) < needed:
            raise MissingSignature(what=f"{needed - len(panel)} arbiters' signatures of one of the two inputs")
        if winner not in right:
            raise MissingSignature(what="the buyer's signature of one of the two inputs")
        sigs.append(award_sig(lot_script(coin.contract), panel[:needed], right[winner]))
    return tx.signed(sigs)


def judge_both(lot: LotCoin, bond: LotCoin, tx: Tx) -> None:
    """Nothing happens for an award of both that the network takes.

    Raises:
        SpendRefused: with the rule it breaks.
    """
    coins = [TxOutput(Florins(coin.value_florins), lot_output_script(coin.contract)) for coin in (lot, bond)]
    verify_spend(tx, coins)


def _check(lot: LotCoin, bond: LotCoin, revealed: tuple[int, ...], rung: int) -> None:
    problem = bond_problem(lot.contract, bond.contract)
    if problem:
        raise BadTemplate(reason=f"no award of both: {problem}")
    if any(coin.value_florins < int(lot_value(coin.contract)) for coin in (lot, bond)):
        raise BadTemplate(reason="a coin holds less than its lot")
    seats = range(len(lot.contract.arbiters))
    if list(revealed) != sorted(set(revealed)) or any(seat not in seats for seat in revealed):
        raise BadTemplate(reason="revealed names each arbiter's position once, in rising order")
    if not 0 <= rung < len(FEE_LADDER):
        raise BadTemplate(reason=f"the fee ladder has rungs 0 to {len(FEE_LADDER) - 1}")


def _built(lot: LotCoin, bond: LotCoin, revealed: tuple[int, ...], fee: int) -> Tx:
    """The bond's rest bears the fee first, then the buyer's part."""
    pay = int(lot.contract.arbiter_pay_florins)
    rest = bond.value_florins - pay * len(revealed)
    by_seller = min(fee, rest)
    shares = [
        (bond.contract.buyer.payout_script, rest - by_seller),
        (lot.contract.buyer.payout_script, lot.value_florins - (fee - by_seller)),
        *((lot.contract.arbiters[seat].payout_script, pay) for seat in revealed),
    ]
    outputs = tuple(TxOutput(Florins(florins), script) for script, florins in shares if not is_dust(florins))
    return Tx((TxInput(lot.outpoint), TxInput(bond.outpoint)), outputs, 0)
