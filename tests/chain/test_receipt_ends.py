"""By which branch a lot was taken, and what a receipt may tell of it: real spends of every exit, every outcome told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bitcoin.core.script import CScript
from msgspec import structs

from common.chain.bond_award import LotCoin, assemble_both, build_both, digests_of_both, judge_both
from common.chain.contract import Contract, cid, lot_script, lot_value
from common.chain.script import BRANCH_ARBITERS, BRANCH_COOP, BRANCH_REFUND, award_sig, branch_of, coop_sig, pushes
from common.chain.settle import assemble, judge
from common.chain.spends import KINDS_BY_BRANCH, SpendKind, classify
from common.chain.templates import Award, Cancel, Refund, Release, Side, Template, build, rungs_of
from common.chain.tx import Outpoint, Tx, TxOutput, serialize
from common.codec import canonical
from common.contracts.registry import ReceiptState
from common.receipt_keys import LotSpent, contract_word, lots_in, spend_fault, word_digest
from common.receipts import KeyedReceipt, Outcome, SettledReceipt, receipt_fault
from common.units import FLOP, Did, Florins, tax_of
from dux_airdropd.evidence_rules import item_fault
from dux_airdropd.model import Facts, Item, Kind, Payment, Window
from dux_escrowd.observe import exit_of
from dux_escrowd.records import OUTCOME_OF
from dux_registryd.payment_rules import SeenPayment, heard_finding
from tests.attacks.registry import attack
from tests.chain.contract_kit import OUTPOINT, Kit, bond_beside, make_contract, public_key, sign_digest, with_stage
from tests.chain.test_contract import names_for, ways_out
from tests.market.makers import BUYER, SELLER, receipt
from tests.market.test_receipt_keys import sealed

pytestmark = pytest.mark.patient

BRANCHES = {Release: BRANCH_COOP, Cancel: BRANCH_COOP, Award: BRANCH_ARBITERS, Refund: BRANCH_REFUND}
BOND_OUTPOINT = Outpoint("cd" * 32, 0)
PRICE = 10 * FLOP


def parties_of_the_market(kit: Kit) -> Kit:
    """The contract between two names that can stand in a receipt."""
    contract = kit.contract
    buyer, seller = (structs.replace(contract.buyer, did=BUYER), structs.replace(contract.seller, did=SELLER))
    return Kit(structs.replace(contract, buyer=buyer, seller=seller), kit.arbiter_names, kit.preimage)


def spent(kit: Kit, template: Template, rung: int = 0, value: int = 0) -> Tx:
    """The lot taken by this way out, as the network takes it."""
    held = value or int(lot_value(kit.contract))
    tx = build(kit.contract, OUTPOINT, held, template, rung)
    full = assemble(kit.contract, template, tx, kit.sign(tx, *names_for(kit, template)), kit.preimage)
    judge(kit.contract, full, held)
    return full


def told_by_escrowd(contract: Contract, tx: Tx, outpoint: Outpoint = OUTPOINT, value: int = 0) -> tuple[Outcome, int]:
    """What this product's own escrowd has a receipt say of the spend: outcome and gross."""
    spend = classify(contract, serialize(tx), outpoint, value or int(lot_value(contract)))
    return OUTCOME_OF[exit_of(spend.kind, spend.gross_florins)], int(spend.gross_florins)


def told(contract: Contract, outcome: Outcome, gross: int, signer: str, by: str = "") -> SettledReceipt:
    """A party's receipt of the contract, with the word of the coin key named `by`, or without one."""
    plain = receipt(
        cid=cid(contract), buyer=Did(contract.buyer.did), seller=Did(contract.seller.did), signer=Did(signer),
        price_florins=Florins(max(gross, int(contract.price_florins))), gross_florins=Florins(gross),
        tax_florins=tax_of(Florins(gross), contract.tax_bps), outcome=outcome, network=contract.network,
    )  # fmt: skip
    if not by:
        return plain
    word = contract_word(contract)
    signature = sign_digest(by, word_digest(word))
    return KeyedReceipt(**structs.asdict(plain), lot=word.lot, lot_signature=signature)


def verdicts(contract: Contract, body: SettledReceipt, tx: Tx) -> Iterator[str]:
    """What each reader says of a receipt whose payment is this spend: the registry, custodians and `verify airdrop`."""
    lots = lots_in(serialize(tx))
    yield spend_fault(body, lots) or ""
    seen = SeenPayment(int(body.height), tuple(int(out.value_florins) for out in tx.outputs), lots)
    state, reason = heard_finding([body], seen)
    assert (state is ReceiptState.SETTLED) == (reason == "")
    yield reason
    window = Window(
        network=contract.network, tax_bps=contract.tax_bps, arbiters=frozenset(),
        tax_scripts=frozenset({contract.fund_script}), from_height=0, to_height=10_000,
        to_hash="", taxes_bps=frozenset({contract.tax_bps}),
    )  # fmt: skip
    item = Item(kind=Kind.RECEIPT, data=canonical(sealed(body)))
    yield item_fault(item, Facts(signed=True, payment=Payment(int(body.height), tx.outputs, lots)), window)


def stories(contract: Contract, gross: int) -> Iterator[tuple[Outcome, SettledReceipt]]:
    """Every outcome, as either party tells it, under its key and without; sums fit the outcome."""
    for outcome in Outcome:
        pays = gross if outcome in (Outcome.RELEASED, Outcome.AWARDED) else 0
        if outcome is Outcome.RELEASED and not pays:
            continue  # refused whatever the chain says: a release pays something
        for signer, by in ((BUYER, "buyer"), (SELLER, "seller"), (BUYER, ""), (SELLER, "")):
            yield outcome, told(contract, outcome, pays, signer, by)


def check_every_story(contract: Contract, tx: Tx, truth: Outcome, gross: int, taken_by: str) -> int:
    """The truth is taken by all three readers, and whatever this branch cannot be is refused, saying why."""
    lies = 0
    can_be = lots_in(serialize(tx))[0].outcomes
    assert truth in can_be
    for outcome, body in stories(contract, gross):
        assert receipt_fault(body, contract.network, [contract.tax_bps]) is None
        found = list(verdicts(contract, body, tx))
        if outcome in can_be:
            assert found[:2] == ["", ""], (outcome, found)
            assert outcome is not truth or found[2] == ""
            continue
        lies += 1
        for reason in found:
            assert taken_by in reason
            assert f"that is {' or '.join(can_be)}, not {outcome.value}" in reason
    return lies


TAKEN_BY = {
    BRANCH_COOP: "taken by buyer and seller together",
    BRANCH_ARBITERS: "taken by a party with the arbiters",
    BRANCH_REFUND: "taken by the buyer alone",
}


def test_every_branch_has_its_kinds_and_every_kind_one_branch() -> None:
    """No way out is left out, and none can be told for two branches."""
    kinds = [kind for some in KINDS_BY_BRANCH.values() for kind in some]
    assert sorted(kinds) == sorted(set(SpendKind) - {SpendKind.UNKNOWN})
    lots = [LotSpent(contract_word(make_contract().contract).lot, branch) for branch in KINDS_BY_BRANCH]
    assert sorted(outcome for lot in lots for outcome in lot.outcomes) == sorted(Outcome)


@attack(
    "registry",
    tries="each outcome told of a spend of every exit, by either party, under its key and without",
    meets="what that branch cannot be is refused by registries, custodians and `verify airdrop`; every truth is taken",
)
@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("price", [FLOP // 5, PRICE])
def test_what_a_branch_cannot_be_is_not_told_of_it(price: int, locked: bool) -> None:  # noqa: FBT001
    """Every way out of E and E+h at every rung of the fees, whole and in part, read as it stands on the chain."""
    kit = parties_of_the_market(make_contract(price_florins=price, locked=locked))
    for template in ways_out(price):
        for rung in range(rungs_of(kit.contract, OUTPOINT, int(lot_value(kit.contract)), template)):
            tx = spent(kit, template, rung)
            branch = BRANCHES[type(template)]
            assert branch_of(pushes(tx.inputs[0].script_sig)) == branch
            assert [lot.branch for lot in lots_in(serialize(tx))] == [branch]
            truth, gross = told_by_escrowd(kit.contract, tx)
            assert check_every_story(kit.contract, tx, truth, gross, TAKEN_BY[branch]) >= 4


@attack(
    "registry",
    tries="an award of a part told as a release at that price, under the seller's key",
    meets="the script was taken with the arbiters: that is awarded, not released",
)
def test_a_partial_award_is_no_release() -> None:
    """The seller's key has signed it, the tax is right, the price is what was paid: the branch says otherwise."""
    kit = parties_of_the_market(make_contract(price_florins=PRICE))
    part = Florins(PRICE * 2 // 5)
    tx = spent(kit, Award(part, Side.SELLER, (0, 1, 2)))
    lie = structs.replace(told(kit.contract, Outcome.RELEASED, int(part), SELLER, "seller"), price_florins=part)
    for reason in verdicts(kit.contract, lie, tx):
        assert reason.endswith("its lot was taken by a party with the arbiters: that is awarded, not released")
    assert (
        list(verdicts(kit.contract, told(kit.contract, Outcome.AWARDED, int(part), SELLER, "seller"), tx)) == [""] * 3
    )


def test_strays_and_shapes_of_their_own_are_told_as_escrowd_tells_them() -> None:
    """Less than a lot comes back by both, with the arbiters or after T; parties and arbiters may pay as they like."""
    kit = parties_of_the_market(make_contract(price_florins=PRICE))
    contract, value = kit.contract, int(lot_value(kit.contract))
    for template in (Cancel(), Award(Florins(0), Side.BUYER, ()), Refund()):
        tx = spent(kit, template, value=FLOP)
        truth, gross = told_by_escrowd(contract, tx, value=FLOP)
        check_every_story(contract, tx, truth, gross, TAKEN_BY[BRANCHES[type(template)]])
    bare = build(contract, OUTPOINT, value, Release(Florins(PRICE)))
    script = lot_script(contract)
    for to, outcome in ((contract.seller, Outcome.RELEASED), (contract.buyer, Outcome.CANCELLED)):
        shaped = structs.replace(bare, outputs=(TxOutput(Florins(value - FLOP // 2), to.payout_script),))
        signed = kit.sign(shaped, "buyer", "seller")
        coop = coop_sig(script, signed[public_key("buyer")], signed[public_key("seller")], kit.preimage)
        tx = shaped.signed([coop])
        judge(contract, tx, value)
        assert told_by_escrowd(contract, tx)[0] is outcome
        assert spend_fault(told(contract, outcome, 0, SELLER, "seller"), lots_in(serialize(tx))) is None
        by_name = kit.sign(shaped, "seller", *kit.arbiter_names)
        panel = [by_name[public_key(name)] for name in kit.arbiter_names[: contract.arbiters_needed]]
        tx = shaped.signed([award_sig(script, panel, by_name[public_key("seller")])])
        judge(contract, tx, value)
        assert told_by_escrowd(contract, tx)[0] is Outcome.AWARDED
        assert spend_fault(told(contract, Outcome.AWARDED, 0, SELLER, "seller"), lots_in(serialize(tx))) is None
        assert spend_fault(told(contract, outcome, 0, SELLER, "seller"), lots_in(serialize(tx)))


def test_an_award_of_lot_and_bond_is_awarded_of_both() -> None:
    """Two scripts in one transaction, roles swapped, both taken with the arbiters; a bond that goes back is not."""
    lot = with_stage(make_contract(price_florins=PRICE))
    bond = bond_beside(lot)
    coins = [
        LotCoin(kit.contract, point, int(lot_value(kit.contract)))
        for kit, point in ((lot, OUTPOINT), (bond, BOND_OUTPOINT))
    ]
    tx = build_both(coins[0], coins[1], (0, 1))
    signatures = {
        public_key(name): sign_digest(name, digest)
        for kit, digest in zip((lot, bond), digests_of_both(coins[0], coins[1], tx), strict=True)
        for name in ("buyer", "buyer-bond", *kit.arbiter_names)
        if name.endswith("-bond") == (kit is bond)
    }
    full = assemble_both(coins[0], coins[1], tx, signatures)
    judge_both(coins[0], coins[1], full)
    lots = lots_in(serialize(full))
    assert [one.branch for one in lots] == [BRANCH_ARBITERS, BRANCH_ARBITERS]
    for coin in coins:
        outcome, _ = told_by_escrowd(coin.contract, full, coin.outpoint, coin.value_florins)
        keys = contract_word(coin.contract).lot
        truth = KeyedReceipt(**structs.asdict(receipt(outcome=outcome)), lot=keys, lot_signature=b"")
        assert (outcome, spend_fault(truth, lots)) == (Outcome.AWARDED, None)
        assert "awarded, not refunded" in (spend_fault(structs.replace(truth, outcome=Outcome.REFUNDED), lots) or "")
    for template in (Cancel(), Refund()):
        value = int(lot_value(bond.contract))
        alone = build(bond.contract, BOND_OUTPOINT, value, template)
        full = assemble(bond.contract, template, alone, bond.sign(alone, "seller-bond", "buyer-bond"))
        judge(bond.contract, full, value)
        truth = told_by_escrowd(bond.contract, full, BOND_OUTPOINT)[0]
        assert [(one.branch, truth in one.outcomes) for one in lots_in(serialize(full))] == [
            (BRANCHES[type(template)], True)
        ]


def test_what_is_no_lot_says_nothing_about_an_end() -> None:
    """A payment that spends no contract's script contradicts no receipt without a key, and shows nobody's key."""
    kit = parties_of_the_market(make_contract(price_florins=PRICE))
    for outcome in Outcome:
        assert spend_fault(told(kit.contract, outcome, 0, SELLER), ()) is None
        assert "not of the script" in (spend_fault(told(kit.contract, outcome, 0, SELLER, "seller"), ()) or "")


@pytest.mark.parametrize("selector", [b"", b"\x00", b"\x04", b"\x01\x00", b"\x02\x00"])
def test_a_selector_that_selects_nothing_shows_no_lot(selector: bytes) -> None:
    """The script compares the selector byte for byte; no other bytes spend it, so none are read as a branch."""
    kit = make_contract(price_florins=PRICE)
    tx = spent(kit, Cancel())
    items = pushes(tx.inputs[0].script_sig)
    forged = bytes(CScript([*items[:-2], selector, items[-1]]))
    assert branch_of(pushes(forged)) not in KINDS_BY_BRANCH
    assert lots_in(serialize(tx.signed([forged]))) == ()
    assert branch_of([b"\x01", items[-1]]) == 0
    widened = bytes(CScript([b"\x51" * 9, *items[:-2]])) + b"\x4c\x01\x01" + bytes(CScript([items[-1]]))
    assert [lot.branch for lot in lots_in(serialize(tx.signed([widened])))] == [BRANCH_COOP]
