"""Several lots, the bond lot and its award of two inputs, royalties: to the florin, judged, every law noticed."""

from __future__ import annotations

import pytest
from msgspec import structs

from common.chain.bond_award import (
    LotCoin,
    assemble_both,
    base_fee_of_both,
    bond_problem,
    bond_timeout,
    build_both,
    digests_of_both,
    judge_both,
)
from common.chain.contract import LOTS_MAX, NO_ROYALTY, LotKind, lot_value, reserve_of
from common.chain.contract_rules import contract_problems
from common.chain.fees import FEE_LADDER, is_dust
from common.chain.settle import MissingSignature, assemble, judge
from common.chain.spends import SpendKind, classify
from common.chain.templates import (
    Award,
    BadTemplate,
    Cancel,
    Refund,
    Release,
    Side,
    build,
    provider_florins,
    royalty_of,
)
from common.chain.tx import Outpoint, Tx, serialize
from common.chain.verify import SpendRefused
from common.units import FLOP, Florins, tax_of
from tests.chain.contract_kit import (
    OUTPOINT,
    SERIES,
    Kit,
    bond_beside,
    changed,
    make_contract,
    public_key,
    sign_digest,
    with_royalty,
    with_stage,
)

pytestmark = pytest.mark.patient

BOND_OUTPOINT = Outpoint("cd" * 32, 0)


def pair(arbiters: int = 3, price: int = 10 * FLOP, surplus: int = 0) -> tuple[Kit, Kit, LotCoin, LotCoin]:
    lot = with_stage(make_contract(arbiters=arbiters, price_florins=price))
    bond = bond_beside(lot)
    coins = [
        LotCoin(kit.contract, point, int(lot_value(kit.contract)) + surplus)
        for kit, point in ((lot, OUTPOINT), (bond, BOND_OUTPOINT))
    ]
    return lot, bond, coins[0], coins[1]


def signatures(lot: Kit, bond: Kit, coins: tuple[LotCoin, LotCoin], tx: Tx, arbiters: int) -> dict[bytes, bytes]:
    """The buyer's and so many arbiters' signatures of both inputs."""
    of_lot, of_bond = digests_of_both(*coins, tx)
    pairs = [("buyer", of_lot), ("buyer-bond", of_bond)]
    pairs += [(name, of_lot) for name in lot.arbiter_names[:arbiters]]
    pairs += [
        (name, of_bond) for name in bond.arbiter_names if name.removesuffix("-bond") in lot.arbiter_names[:arbiters]
    ]
    return {public_key(name): sign_digest(name, digest) for name, digest in pairs}


@pytest.mark.parametrize("arbiters", [3, 5, 7])
@pytest.mark.parametrize("price", [FLOP, 10 * FLOP])
def test_an_award_of_both_gives_the_buyer_all_and_the_arbiters_the_bond(arbiters: int, price: int) -> None:
    """At every rung: buyer A + a, p each from the bond, the rest the seller's; judged by the network's own rules."""
    lot, bond, coin, bonded = pair(arbiters, price)
    assert contract_problems(lot.contract) == []
    assert contract_problems(bond.contract) == []
    pay = int(lot.contract.arbiter_pay_florins)
    for seats in ((), (0,), tuple(range(arbiters))):
        for rung in range(len(FEE_LADDER)):
            tx = build_both(coin, bonded, seats, rung)
            full = assemble_both(
                coin, bonded, tx, signatures(lot, bond, (coin, bonded), tx, lot.contract.arbiters_needed)
            )
            judge_both(coin, bonded, full)
            paid = {output.script: int(output.value_florins) for output in full.outputs}
            fee = coin.value_florins + bonded.value_florins - sum(paid.values())
            rest = bonded.value_florins - pay * len(seats)
            assert [paid[lot.contract.arbiters[seat].payout_script] for seat in seats] == [pay] * len(seats)
            wanted = int(base_fee_of_both(coin, bonded, seats)) * FEE_LADDER[rung]
            if rest - wanted >= FLOP // 100:
                assert fee == wanted
                assert paid[lot.contract.buyer.payout_script] == coin.value_florins
                assert paid[bond.contract.buyer.payout_script] == rest - wanted
            assert not any(is_dust(value) for value in paid.values())
            assert lot.contract.seller.payout_script not in paid


def test_an_award_of_both_is_signed_for_both_or_not_at_all() -> None:
    """One arbiter too few, no buyer, the loser in its place: refused; neither input is spent alone."""
    lot, bond, coin, bonded = pair()
    tx = build_both(coin, bonded, (0, 1))
    right = signatures(lot, bond, (coin, bonded), tx, 2)
    for missing in ("buyer", "buyer-bond", lot.arbiter_names[0], f"{lot.arbiter_names[1]}-bond"):
        with pytest.raises(MissingSignature):
            assemble_both(coin, bonded, tx, {key: sig for key, sig in right.items() if key != public_key(missing)})
    full = assemble_both(coin, bonded, tx, right)
    alone = Tx((full.inputs[0],), full.outputs, 0)
    with pytest.raises(SpendRefused):
        judge(coin.contract, alone, coin.value_florins)
    swapped = structs.replace(full, outputs=full.outputs[::-1])
    with pytest.raises(SpendRefused):
        judge_both(coin, bonded, swapped)


def test_a_bond_belongs_to_its_lot_or_is_none() -> None:
    """Another series, another panel, too small, too early, roles not swapped: each is told, and no award is built."""
    lot, bond, coin, bonded = pair()
    assert bond_problem(lot.contract, bond.contract) is None
    assert bond.contract.heights.timeout >= bond_timeout(lot.contract)
    assert bond_timeout(lot.contract) == lot.contract.heights.timeout + 288
    early = structs.replace(bond.contract.heights, timeout=bond_timeout(lot.contract) - 1)
    wrong = [
        changed(bond.contract, stage=structs.replace(bond.contract.stage, series=bytes(32))),
        changed(bond.contract, arbiters=bond.contract.arbiters[:2]),
        changed(bond.contract, price_florins=Florins(int(bond.contract.price_florins) - 1)),
        changed(bond.contract, heights=early),
        changed(bond.contract, network="11" * 32),
        changed(bond.contract, buyer=bond.contract.seller, seller=bond.contract.buyer),
        lot.contract,
    ]
    for other in wrong:
        assert bond_problem(lot.contract, other)
        with pytest.raises(BadTemplate):
            build_both(coin, LotCoin(other, BOND_OUTPOINT, bonded.value_florins), ())
    for seats in ((0, 0), (1, 0), (3,)):
        with pytest.raises(BadTemplate):
            build_both(coin, bonded, seats)
    with pytest.raises(BadTemplate):
        build_both(coin, LotCoin(bond.contract, BOND_OUTPOINT, bonded.value_florins - 1), ())
    with pytest.raises(BadTemplate):
        build_both(coin, bonded, (), len(FEE_LADDER))


def test_a_bond_goes_back_whole_or_stands_in_an_award() -> None:
    """Cancel and refund give it to the seller; a release or an award of the bond alone is never built."""
    _lot, bond, _coin, bonded = pair()
    for template, names in ((Cancel(), ["seller-bond", "buyer-bond"]), (Refund(), ["seller-bond"])):
        tx = build(bond.contract, BOND_OUTPOINT, bonded.value_florins, template)
        full = assemble(bond.contract, template, tx, bond.sign(tx, *names))
        judge(bond.contract, full, bonded.value_florins)
        assert {output.script for output in full.outputs} == {bond.contract.buyer.payout_script}
        assert classify(bond.contract, serialize(full), BOND_OUTPOINT, bonded.value_florins).template == template
    for other in (Release(bond.contract.price_florins), Award(Florins(0), Side.BUYER, ())):
        with pytest.raises(BadTemplate, match="bond"):
            build(bond.contract, BOND_OUTPOINT, bonded.value_florins, other)
    assert int(reserve_of(bond.contract)) == 0


@pytest.mark.parametrize("bps", [1, 500, 1_000, 5_000])
@pytest.mark.parametrize("price", [FLOP // 5, FLOP, 10 * FLOP])
def test_a_royalty_is_a_share_of_the_providers_part(bps: int, price: int) -> None:
    """Settled 29: five per cent stay five of the gross; the developer's floor(part x bps) is paid unless it is dust."""
    kit = with_royalty(make_contract(price_florins=price), bps)
    contract, value = kit.contract, int(lot_value(kit.contract))
    assert contract_problems(contract) == []
    part = price - int(tax_of(price, 500))
    royalty = part * bps // 10_000
    assert int(royalty_of(contract, price)) == royalty
    for template in (Release(Florins(price)), Award(Florins(price), Side.SELLER, (0, 1, 2))):
        tx = build(contract, OUTPOINT, value, template)
        names = ["buyer", "seller"] if isinstance(template, Release) else ["seller", *kit.arbiter_names]
        full = assemble(contract, template, tx, kit.sign(tx, *names), kit.preimage)
        judge(contract, full, value)
        paid = {output.script: int(output.value_florins) for output in full.outputs}
        assert paid[contract.fund_script] == int(tax_of(price, 500))
        assert paid.get(contract.royalty.payout_script, 0) == (0 if is_dust(royalty) else royalty)
        if not is_dust(royalty):
            assert [output.script for output in full.outputs][1:3] == [
                contract.fund_script,
                contract.royalty.payout_script,
            ]
        spend = classify(contract, serialize(full), OUTPOINT, value)
        assert (spend.template, spend.kind) == (template, SpendKind(type(template).__name__.lower()))
        fee = (
            0 if isinstance(template, Award) and value - price >= 4 * int(spend.fee_florins) else int(spend.fee_florins)
        )
        if isinstance(template, Release):
            assert int(spend.seller_florins) == int(provider_florins(contract, price)) - fee


WRONG = [
    {"series": b"short"},
    {"count": LOTS_MAX + 1},
    {"number": 1},
    {"count": 0},
    {"begins": 5},
]


@pytest.mark.parametrize("change", WRONG, ids=lambda change: next(iter(change)))
def test_every_law_of_a_series_is_noticed(change: dict[str, object]) -> None:
    """A name of 32 bytes, one to eight lots, a number among them, the first begins at once."""
    right = with_stage(make_contract()).contract
    assert contract_problems(right) == []
    assert contract_problems(changed(right, stage=structs.replace(right.stage, **change))) != []  # type: ignore[arg-type]


def test_a_later_stage_begins_between_funding_and_its_delivery() -> None:
    """START of a later stage is due from a height after funding and before its delivery; nothing else is signed."""
    base = make_contract()
    heights = base.contract.heights
    assert contract_problems(with_stage(base, 1, 2, heights.fund_by + 5).contract) == []
    for begins in (0, heights.fund_by - 1, heights.deliver_by):
        assert contract_problems(with_stage(base, 1, 2, begins).contract) != []


def test_every_law_of_a_royalty_and_a_bond_is_noticed() -> None:
    """Too large, nobody, paid to a party; a bond with a lock, a pay, a royalty, or below the least."""
    kit = with_royalty(make_contract(), 1_000)
    for change in ({"bps": 5_001}, {"bps": 0}, {"did": ""}, {"payout_script": kit.contract.seller.payout_script}):
        wrong = changed(kit.contract, royalty=structs.replace(kit.contract.royalty, **change))  # type: ignore[arg-type]
        assert contract_problems(wrong) != []
    bond = bond_beside(with_stage(make_contract())).contract
    for fields in (
        {"result_hash": b"h" * 32},
        {"arbiter_pay_florins": Florins(1)},
        {"price_florins": Florins(FLOP // 10)},
        {"royalty": kit.contract.royalty},
        {"stage": structs.replace(bond.stage, series=b"")},
    ):
        assert contract_problems(changed(bond, **fields)) != []
    assert (bond.stage.kind, bond.stage.series, bond.royalty) == (LotKind.BOND, SERIES, NO_ROYALTY)
