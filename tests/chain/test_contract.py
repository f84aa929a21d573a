"""Contracts, their scripts and their ways out: amounts to the florin, sizes as measured, every law noticed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from common.chain.address import hash160
from common.chain.contract import Contract, cid, lot_script, lot_value, reserve_of
from common.chain.contract_rules import BadContract, check_contract, contract_problems
from common.chain.fees import FEE_FLOOR_FLORINS, FEE_LADDER, GROSS_MIN_FLORINS, fee_for, is_dust, rungs_for
from common.chain.fund import fund_redeem_script
from common.chain.heights import PROFILES, heights_problems, plan, profile_problems
from common.chain.script import BadScript, pushes
from common.chain.settle import MissingSignature, assemble, judge
from common.chain.spends import SpendKind, classify
from common.chain.templates import Award, BadTemplate, Cancel, Refund, Release, Side, Template, build, rungs_of
from common.chain.tx import SEQUENCE_REPLACEABLE, TxOutput, serialize
from common.chain.verify import SpendRefused, verify_spend
from common.codec import canonical, from_canonical
from common.units import FLOP, Florins, tax_of
from tests.chain.contract_kit import OUTPOINT, Kit, changed, make_contract, public_key

T_HEIGHT = 985_000  # a present height: T takes three bytes


def names_for(kit: Kit, template: Template) -> list[str]:
    """Who signs."""
    if isinstance(template, Refund):
        return ["buyer"]
    if isinstance(template, Award):
        return [template.winner.value, *kit.arbiter_names]
    return ["buyer", "seller"]


def ways_out(price: int) -> list[Template]:
    """One of each kind, paying all, nothing and a part."""
    full, part = Florins(price), Florins(max(GROSS_MIN_FLORINS, price * 2 // 5 + 7))
    return [
        Release(full),
        Release(part),
        Cancel(),
        Award(Florins(0), Side.BUYER, (0, 1, 2)),
        Award(full, Side.SELLER, (0, 1, 2)),
        Award(full, Side.SELLER, (1,)),
        Award(part, Side.BUYER, (0, 2)),
        Award(part, Side.SELLER, (0, 1, 2)),
        Refund(),
    ]


@pytest.mark.parametrize(("arbiters", "e_h", "e"), [(3, 343, 304), (5, 411, 372), (7, 479, 440)])
def test_scripts_have_the_measured_sizes(arbiters: int, e_h: int, e: int) -> None:
    """EP §3: E+h has 343, 411 and 479 bytes for 3, 5 and 7 arbiters, E 39 fewer."""
    locked = make_contract(arbiters=arbiters, price_florins=5 * FLOP, start=T_HEIGHT).contract
    plain = make_contract(arbiters=arbiters, price_florins=5 * FLOP, start=T_HEIGHT, locked=False).contract
    assert (len(lot_script(locked)), len(lot_script(plain))) == (e_h, e)


def test_a_panel_that_does_not_fit_is_refused() -> None:
    """Nine arbiters fit neither under E+h nor, as keys of a fund, do sixteen: the error says what to do."""
    kit = make_contract(arbiters=9, price_florins=5 * FLOP, start=T_HEIGHT)
    with pytest.raises(BadContract, match="fewer keys"):
        check_contract(kit.contract)
    with pytest.raises(BadScript):
        fund_redeem_script(8, tuple(public_key(f"k{at}") for at in range(16)))
    assert len(fund_redeem_script(8, tuple(public_key(f"k{at}") for at in range(15)))) == 513


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("price", [FLOP // 5, FLOP, 10 * FLOP, 24 * FLOP])
def test_every_way_out_is_taken_conserves_and_is_recognised(price: int, locked: bool) -> None:  # noqa: FBT001
    """At every rung: inputs = outputs + fee, no dust, the judge takes it, and reading it back names it."""
    kit = make_contract(price_florins=price, locked=locked)
    contract, value = kit.contract, int(lot_value(kit.contract))
    for template in ways_out(price):
        for rung in range(rungs_of(contract, OUTPOINT, value, template)):
            tx = build(contract, OUTPOINT, value, template, rung)
            full = assemble(contract, template, tx, kit.sign(tx, *names_for(kit, template)), kit.preimage)
            judge(contract, full, value)
            spend = classify(contract, serialize(full), OUTPOINT, value)
            assert spend.template == template
            assert spend.gross_florins == (template.gross_florins if isinstance(template, Release | Award) else 0)
            assert int(full.paid_florins) + int(spend.fee_florins) == value
            assert not any(is_dust(int(output.value_florins)) for output in full.outputs)
            assert int(spend.fee_florins) >= FEE_FLOOR_FLORINS
            shows = locked and isinstance(template, Release | Cancel)
            assert spend.preimage == (kit.preimage if shows else None)


@given(
    gross=st.integers(GROSS_MIN_FLORINS, 10 * FLOP),
    surplus=st.integers(0, 5 * FLOP),
    revealed=st.sets(st.integers(0, 2)),
    winner=st.sampled_from(Side),
)
@settings(max_examples=60, deadline=None)
def test_an_award_gives_everyone_the_rules_part(gross: int, surplus: int, revealed: set[int], winner: Side) -> None:
    """Seller g - tax, fund tax, p to each who revealed, the rest the buyer's; the fee from its bearer."""
    contract = make_contract().contract
    value, seats = int(lot_value(contract)) + surplus, tuple(sorted(revealed))
    tx = build(contract, OUTPOINT, value, Award(Florins(gross), winner, seats))
    paid = {output.script: int(output.value_florins) for output in tx.outputs}
    pay, tax = int(contract.arbiter_pay_florins), int(tax_of(gross, contract.tax_bps))
    assert paid[contract.fund_script] == tax
    assert [paid[contract.arbiters[seat].payout_script] for seat in seats] == [pay] * len(seats)
    fee = value - sum(paid.values())
    free = int(reserve_of(contract)) - pay * len(seats)
    rest = value - gross - pay * len(seats)
    if free >= fee:
        assert paid[contract.seller.payout_script] == gross - tax
        assert paid.get(contract.buyer.payout_script, 0) in (rest - fee, 0)
    assert fee < 2 * FLOP // 100 + FEE_FLOOR_FLORINS


def test_a_release_takes_the_fee_from_the_seller() -> None:
    """RELEASE(10): 9.5 less the fee, 0.5, and the whole reserve with every surplus back to the buyer."""
    contract = make_contract().contract
    value = int(lot_value(contract)) + 123
    tx = build(contract, OUTPOINT, value, Release(Florins(10 * FLOP)))
    assert [int(output.value_florins) for output in tx.outputs] == [
        95 * FLOP // 10 - FLOP // 100,
        FLOP // 2,
        int(reserve_of(contract)) + 123,
    ]
    assert tx.lock_time == 0
    assert tx.inputs[0].sequence == SEQUENCE_REPLACEABLE


def test_the_fee_ladder() -> None:
    """Each rung pays 1, 4, 16 times the fee; the highest costs at most 5 % of the gross, and there is always one."""
    contract = make_contract().contract
    value, template = int(lot_value(contract)), Release(Florins(10 * FLOP))
    fees = [value - int(build(contract, OUTPOINT, value, template, rung).paid_florins) for rung in range(3)]
    assert fees == [fees[0] * step for step in FEE_LADDER]
    assert [rungs_for(FLOP // 100, gross) for gross in (FLOP // 5, FLOP, 32 * FLOP // 10 - 1, 32 * FLOP // 10)] == [
        1,
        2,
        2,
        3,
    ]


@pytest.mark.parametrize("revealed", [(), (0, 1, 2)])
def test_an_award_for_the_buyer_climbs_by_what_goes_back(revealed: tuple[int, ...]) -> None:
    """It has no gross either: with one rung a small rise of fees would keep the coins from the buyer, beyond T too."""
    contract = make_contract().contract
    value, award = int(lot_value(contract)), Award(Florins(0), Side.BUYER, revealed)
    fees = [
        value - int(build(contract, OUTPOINT, value, award, rung).paid_florins)
        for rung in range(rungs_of(contract, OUTPOINT, value, award))
    ]
    assert fees == [fees[0] * step for step in FEE_LADDER]
    assert fees[-1] * 20 <= value


def test_a_cancel_climbs_by_what_goes_back() -> None:
    """It has no gross: the rungs are those whose fee is at most 5 % of the coin, of a small stray fewer, always one."""
    contract = make_contract().contract
    base = value = int(lot_value(contract))
    base -= int(build(contract, OUTPOINT, value, Cancel()).paid_florins)
    edges = [base * step * 20 for step in FEE_LADDER]
    coins = [FLOP // 20, edges[1] - 1, edges[1], edges[2] - 1, edges[2], value]
    assert [rungs_of(contract, OUTPOINT, coin, Cancel()) for coin in coins] == [1, 1, 2, 2, 3, 3]
    for coin in coins[1:]:
        for rung in range(rungs_of(contract, OUTPOINT, coin, Cancel())):
            fee = coin - int(build(contract, OUTPOINT, coin, Cancel(), rung).paid_florins)
            assert (fee, fee * 20 <= coin) == (base * FEE_LADDER[rung], True)


@pytest.mark.parametrize(
    "template",
    [
        Release(Florins(0)),
        Release(Florins(GROSS_MIN_FLORINS - 1)),
        Release(Florins(10 * FLOP + 1)),
        Award(Florins(1), Side.BUYER, ()),
        Award(Florins(0), Side.BUYER, (0, 0)),
        Award(Florins(0), Side.BUYER, (1, 0)),
        Award(Florins(0), Side.BUYER, (3,)),
    ],
)
def test_impossible_ways_out_are_not_built(template: Template) -> None:
    """A gross that is neither 0 nor from 0.2 to the price, or arbiters named twice or not at all."""
    contract = make_contract().contract
    with pytest.raises(BadTemplate):
        build(contract, OUTPOINT, int(lot_value(contract)), template)


def test_an_underpaid_lot_is_never_released_but_goes_back() -> None:
    """A stray output under A + a: no release, and no award but of everything back; cancel and refund are built."""
    contract = make_contract().contract
    value = int(lot_value(contract)) - 1
    for template in (Release(Florins(10 * FLOP)), Award(Florins(0), Side.BUYER, (0,))):
        with pytest.raises(BadTemplate):
            build(contract, OUTPOINT, value, template)
    for back in (Cancel(), Refund(), Award(Florins(0), Side.BUYER, ())):
        outputs = build(contract, OUTPOINT, value, back).outputs
        assert [int(output.value_florins) for output in outputs] == [value - FEE_FLOOR_FLORINS]


def test_refund_binds_by_height() -> None:
    """The judge refuses a refund whose lock time is before T, or whose input is final: CLTV is really enforced."""
    kit = make_contract()
    contract, value = kit.contract, int(lot_value(kit.contract))
    tx = build(contract, OUTPOINT, value, Refund())
    early = structs.replace(tx, lock_time=contract.heights.timeout - 1)
    final = structs.replace(tx, inputs=(structs.replace(tx.inputs[0], sequence=0xFFFFFFFF),))
    for wrong in (early, final):
        full = assemble(contract, Refund(), wrong, kit.sign(wrong, "buyer"))
        with pytest.raises(SpendRefused):
            judge(contract, full, value)


def test_nobody_else_takes_the_lot() -> None:
    """Too few arbiters, the wrong party, no K, a wrong K, the seller's refund: each lacks what the script wants."""
    kit = make_contract()
    contract, value = kit.contract, int(lot_value(kit.contract))
    first = kit.arbiter_names[0]
    cases: list[tuple[Template, list[str], bytes | None]] = [
        (Release(Florins(10 * FLOP)), ["seller"], kit.preimage),
        (Release(Florins(10 * FLOP)), ["buyer", "seller"], None),
        (Release(Florins(10 * FLOP)), ["buyer", "seller"], bytes(32)),
        (Award(Florins(0), Side.BUYER, ()), ["buyer", first], None),
        (Award(Florins(0), Side.BUYER, ()), ["seller", *kit.arbiter_names], None),
        (Award(Florins(0), Side.BUYER, ()), kit.arbiter_names, None),
        (Refund(), ["seller"], None),
    ]
    for template, names, preimage in cases:
        tx = build(contract, OUTPOINT, value, template)
        with pytest.raises(MissingSignature):
            assemble(contract, template, tx, kit.sign(tx, *names), preimage)


def test_the_judge_notices_a_changed_output_and_a_foreign_selector() -> None:
    """SIGHASH_ALL fixes every output, and the branch selector is strict: no other number passes for 1."""
    kit = make_contract()
    contract, value = kit.contract, int(lot_value(kit.contract))
    template = Release(Florins(10 * FLOP))
    tx = build(contract, OUTPOINT, value, template)
    full = assemble(contract, template, tx, kit.sign(tx, "buyer", "seller"), kit.preimage)
    stolen = TxOutput(full.outputs[1].value_florins, contract.seller.payout_script)
    moved = structs.replace(full, outputs=(full.outputs[0], stolen, full.outputs[2]))
    with pytest.raises(SpendRefused):
        judge(contract, moved, value)
    script = full.inputs[0].script_sig
    redeem_push = len(lot_script(contract)) + 3
    for selector in (b"\x52", b"\x53", b"\x01\x11", b"\x02\x01\x00", b"\x00"):
        other = script[: -redeem_push - 1] + selector + script[-redeem_push:]
        with pytest.raises(SpendRefused):
            judge(contract, full.signed([other]), value)
    verify_spend(full, [TxOutput(Florins(value), b"\xa9\x14" + _hash(contract) + b"\x87")])


def _hash(contract: Contract) -> bytes:
    return hash160(lot_script(contract))


def test_what_stands_on_a_chain_never_raises() -> None:
    """Foreign transactions, other branches and scripts of rubbish are told as unknown."""
    kit = make_contract()
    contract, value = kit.contract, int(lot_value(kit.contract))
    tx = build(contract, OUTPOINT, value, Cancel())
    for script in (b"", b"\x4c", b"\x51", b"\xff" * 9, b"\x51\x52" + lot_script(contract)[:10]):
        spend = classify(contract, serialize(tx.signed([script])), OUTPOINT, value)
        assert spend.kind == SpendKind.UNKNOWN
    assert pushes(b"\x01\x07\x55\x00") == [b"\x07", b"\x05", b""]


CHANGES: list[dict[str, object]] = [
    {"version": 3},
    {"service_id": "x" * 129},
    {"job_hash": b"short"},
    {"price_florins": Florins(GROSS_MIN_FLORINS - 1)},
    {"arbiter_pay_florins": Florins(1)},
    {"arbiters_needed": 1},
    {"arbiters_needed": 3},
    {"result_hash": b"short"},
    {"result_salt_hash": b""},
    {"fund_script": b"\x51"},
    {"tax_bps": 10_000},
    {"fee_rate_florins_per_kb": 1},
    {"fee_rate_florins_per_kb": 10**9},
    {"depth_blocks": 1},
    {"start_blocks": 0},
    {"swap_limit_florins": Florins(-1)},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_every_law_of_a_contract_is_noticed(change: dict[str, object]) -> None:
    """The kit's contract breaks nothing; each single change breaks a law and gives another id."""
    contract = make_contract().contract
    assert contract_problems(contract) == []
    wrong = changed(contract, **change)
    assert contract_problems(wrong) != []
    assert cid(wrong) != cid(contract)


def test_panels_grow_with_the_price() -> None:
    """2-of-3 below 25 FLOP, 3-of-5 up to 1000, 4-of-7 above: a smaller panel is refused, a larger one is not."""
    for price, size in ((24 * FLOP, 3), (25 * FLOP, 5), (1000 * FLOP, 5), (1001 * FLOP, 7)):
        assert contract_problems(make_contract(price_florins=price, arbiters=size).contract) == []
        if size > 3:
            assert contract_problems(make_contract(price_florins=price, arbiters=size - 2).contract) != []


def test_a_contract_has_one_byte_form() -> None:
    """What is decoded from its canonical bytes is the same contract with the same id."""
    contract = make_contract().contract
    again = from_canonical(canonical(contract), Contract, max_bytes=4096)
    assert again == contract
    assert cid(again) == cid(contract)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_height_profiles_keep_their_inequalities(name: str) -> None:
    """EP §4 and settled 15: the margin holds three rungs and the depth, and every step leaves the next one time."""
    profile = PROFILES[name]
    assert profile_problems(profile) == []
    for price in (FLOP, 1000 * FLOP, 1001 * FLOP):
        heights = plan(profile, 1000, 20, price)
        assert heights_problems(profile, heights, price) == []
        assert heights.start < heights.fund_by < heights.deliver_by < heights.dispute_by < heights.answer_by
        assert heights.answer_by < heights.commit_by < heights.reveal_by < heights.vote_by < heights.timeout


def test_a_planted_margin_is_noticed() -> None:
    """A profile whose margin is one block short of three rungs and the depth breaks its law."""
    for profile in PROFILES.values():
        short = 3 * profile.rung_blocks + profile.depth_large_blocks - 1
        assert profile_problems(structs.replace(profile, vote_before_blocks=short)) != []


@pytest.mark.parametrize(("size", "fee"), [(1, 1_000_000), (833, 1_000_000), (834, 1_000_800), (1000, 1_200_000)])
def test_fees_round_up_and_have_a_floor(size: int, fee: int) -> None:
    """ceil(size x 0.012 / 1000), never under 0.01 FLOP."""
    assert int(fee_for(size)) == fee
