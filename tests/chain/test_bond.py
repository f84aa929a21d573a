"""Fidelity bonds: the script as bytes, its number, its proof, and what spends it when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.chain.bond import (
    STEPS_AHEAD,
    BadBond,
    Bond,
    BondProof,
    bond_digest,
    bond_output_script,
    bond_script,
    last_number,
    number_for,
    proof_problem,
    reclaim_digest,
    reclaim_sig,
    reclaim_tx,
    until_of,
)
from common.chain.fees import FEE_FLOOR_FLORINS
from common.chain.script import BadScript
from common.chain.tx import Outpoint, TxOutput
from common.chain.verify import SpendRefused, verify_spend
from common.units import FLOP, Did, Florins
from tests.chain.contract_kit import public_key, sign_digest

OWNER = public_key("bond")
UNTIL = 1_440 * 700
POINT = Outpoint("ab" * 32, 1)
PAYOUT = b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"
RATE = 1_200_000


def proof(**changed: object) -> BondProof:
    bond = Bond("9f" * 32, Did("did:dux:a"), OWNER, UNTIL, POINT)
    bond = replace(bond, **changed)
    return BondProof(bond, sign_digest("bond", bond_digest(bond)))


def problem(found: BondProof) -> str:
    return proof_problem(found, "9f" * 32, "did:dux:a", bond_output_script(OWNER, UNTIL))


def test_the_script_is_the_documented_bytes() -> None:
    """<until> CLTV DROP <owner> CHECKSIG, pushed minimally; no key and no height make none."""
    assert bond_script(OWNER, UNTIL).hex() == "03" + UNTIL.to_bytes(3, "little").hex() + "b17521" + OWNER.hex() + "ac"
    for owner, until in ((bytes(33), UNTIL), (OWNER, 0), (OWNER, 500_000_000)):
        with pytest.raises(BadScript):
            bond_script(owner, until)


@given(tip=st.integers(0, 2_000_000), blocks=st.integers(-10, 1_200_000), step=st.sampled_from([1, 10, 1440]))
def test_a_bond_lasts_at_least_as_long_as_asked_and_is_found_again(tip: int, blocks: int, step: int) -> None:
    """The number is the next step, above the tip, and within what a restored wallet looks through."""
    wanted = max(1, tip + blocks)
    try:
        number = number_for(wanted, tip, step)
    except BadBond:
        assert wanted + step > tip + STEPS_AHEAD * step or wanted <= tip
        return
    assert wanted <= until_of(number, step) < wanted + step
    assert until_of(number, step) > tip
    assert number <= last_number(tip, step)


def test_a_proof_holds_for_one_node_one_chain_and_one_output() -> None:
    """Every part of it is bound: whatever is changed makes it say nothing."""
    assert problem(proof()) == ""
    assert "network" in problem(proof(network="00" * 32))
    assert "node" in problem(proof(did=Did("did:dux:b")))
    assert "script" in problem(proof(until=UNTIL + 1))
    assert "height" in problem(proof(until=0))
    assert "key" in problem(proof(owner=bytes(33)))
    moved = replace(proof(), bond=replace(proof().bond, outpoint=Outpoint("ab" * 32, 0)))
    assert "signature" in problem(moved)
    assert "script" in problem(replace(proof(), bond=replace(proof().bond, owner=public_key("other"))))


def test_it_is_taken_back_whole_and_by_its_owner_alone() -> None:
    """All coins of one bond in one transaction with the lock time; another's key or an earlier lock is refused."""
    coins = ((POINT, 20 * FLOP), (Outpoint("ab" * 32, 0), 5 * FLOP))
    tx = reclaim_tx(OWNER, UNTIL, coins, PAYOUT, RATE)
    assert tx.lock_time == UNTIL
    assert [item.outpoint.vout for item in tx.inputs] == [0, 1]
    assert 25 * FLOP - int(tx.paid_florins) == FEE_FLOOR_FLORINS
    redeem, script = bond_script(OWNER, UNTIL), bond_output_script(OWNER, UNTIL)
    spent = [TxOutput(Florins(5 * FLOP), script), TxOutput(Florins(20 * FLOP), script)]

    def signed(found: object, name: str) -> None:
        sigs = [reclaim_sig(redeem, sign_digest(name, reclaim_digest(found, at, redeem))) for at in range(2)]
        verify_spend(found.signed(sigs), spent)

    signed(tx, "bond")
    with pytest.raises(SpendRefused):
        signed(tx, "other")
    with pytest.raises(SpendRefused):
        signed(replace(tx, lock_time=UNTIL - 1), "bond")


@pytest.mark.parametrize("coins", [(), ((POINT, FLOP // 100),)])
def test_a_bond_of_nothing_is_not_taken_back(coins: tuple[tuple[Outpoint, int], ...]) -> None:
    """The fee would eat it."""
    with pytest.raises(BadBond):
        reclaim_tx(OWNER, UNTIL, coins, PAYOUT, RATE)
