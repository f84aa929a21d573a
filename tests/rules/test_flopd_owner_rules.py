"""Decisions for the owner: what speeds a payment up, who pays for it, and what a signer is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.chain.address import pay_to_key, pay_to_script
from common.chain.fees import DUST_FLORINS, FEE_FLOOR_FLORINS, FEE_MAX_FLORINS, FEE_RATE_FLORINS_PER_KB, fee_for
from common.chain.params import EMBEDDED
from common.chain.psbt import Partial, digest_of, new_partial, spent_outputs, with_signature
from common.chain.script import multisig_script
from common.chain.tx import Outpoint, Tx, TxInput, TxOutput, p2pkh_input_bytes, serialize, size_with, txid
from common.contracts.wallet_errors import BumpRefused, InsufficientFunds
from common.units import FLOP, Florins
from dux_flopd.bump_rules import INCREMENT_FLORINS_PER_KB, Paid, child, free_coins, outbids, replacement, ways
from dux_flopd.model import Coin, OwnCoin
from dux_flopd.partial_rules import fee_of, gather, input_bytes, shown_inputs, shown_outputs, warnings
from dux_flopd.rules import limit_list
from tests.chain.contract_kit import public_key, sign_digest
from tests.rules.test_flopd_rules import SCRIPT, SETTINGS, coin

RATE = FEE_RATE_FLORINS_PER_KB
PAYEE = TxOutput(Florins(4 * FLOP), SCRIPT)


@pytest.mark.parametrize(
    ("facts", "open_ways"),
    [
        ((True, True, True, False), ["replace", "child"]),
        ((True, False, True, False), ["child"]),
        ((False, True, True, False), ["child"]),
        ((True, True, False, False), ["replace"]),
        ((True, True, True, True), []),
        ((False, True, False, False), []),
    ],
)
def test_ways(facts: tuple[bool, bool, bool, bool], open_ways: list[str]) -> None:
    """Replaced is what we sent where the coin replaces; a child needs an own output; spent change bars both."""
    is_send, replaces, own, spent = facts
    assert ways(is_send=is_send, replaces=replaces, has_own_outputs=own, is_spent=spent) == open_ways


@given(
    old_fee=st.integers(int(FEE_FLOOR_FLORINS), FLOP),
    old_size=st.integers(189, 193),  # one input of a key, one output: what its signature's length makes of it
    values=st.lists(st.integers(DUST_FLORINS, 3 * FLOP), max_size=6),
    rate=st.integers(RATE, 40 * RATE),
)
def test_a_replacement_pays_the_same_with_more_fee_from_the_same_coins_first(
    old_fee: int, old_size: int, values: list[int], rate: int
) -> None:
    """BIP125: more in all, by its own size more, at a higher rate whatever signatures measure; conserved.

    Every old coin is in it, so both cannot confirm.
    """
    old, more = [coin(4 * FLOP + old_fee, 99)], [coin(value, at) for at, value in enumerate(values)]
    try:
        found = replacement("t", old, more, (PAYEE,), Paid(old_fee, old_size), rate)
    except InsufficientFunds:
        assert sum(values) < 4 * FLOP
        return
    assert found.coins[0] == old[0]
    assert sum(owned.coin.value for owned in found.coins) == 4 * FLOP + found.fee + found.change
    outputs = (PAYEE, *([TxOutput(Florins(found.change), SCRIPT)] if found.change else []))
    tx = Tx(tuple(TxInput(owned.coin.outpoint) for owned in found.coins), outputs)
    size = size_with(tx, [p2pkh_input_bytes()] * len(found.coins))
    assert found.fee >= fee_for(size, rate)
    assert found.fee * 1000 >= old_fee * 1000 + size * INCREMENT_FLORINS_PER_KB
    assert found.fee * old_size > old_fee * size
    assert found.change == 0 or found.change >= DUST_FLORINS


def test_change_that_would_be_dust_goes_to_the_fee() -> None:
    """The old change pays the higher fee; what is left of it is no output."""
    found = replacement("t", [coin(4 * FLOP + 2 * FEE_FLOOR_FLORINS)], [], (PAYEE,), Paid(FEE_FLOOR_FLORINS, 226), RATE)
    assert (found.fee, found.change) == (2 * FEE_FLOOR_FLORINS, 0)


def test_a_fee_that_no_node_takes_is_not_paid() -> None:
    """More than 100 FLOP: the rate was mistyped."""
    with pytest.raises(BumpRefused, match="100 FLOP"):
        replacement("t", [coin(900 * FLOP)], [], (PAYEE,), Paid(FEE_MAX_FLORINS, 226), RATE)


@given(parent_bytes=st.integers(150, 3000), parent_fee=st.integers(0, FLOP), rate=st.integers(RATE, 20 * RATE))
def test_a_child_pays_for_both(parent_bytes: int, parent_fee: int, rate: int) -> None:
    """Parent and child together reach the rate; the child alone never pays under its own."""
    own = [coin(9 * FLOP, height=None)]
    value, fee = child("t", own, parent_bytes, parent_fee, SCRIPT, rate)
    assert value + fee == 9 * FLOP
    size = size_with(Tx((TxInput(own[0].coin.outpoint),), (TxOutput(Florins(value), SCRIPT),)), [p2pkh_input_bytes()])
    assert fee >= fee_for(size, rate)
    assert fee + parent_fee >= fee_for(parent_bytes + size, rate)


def test_a_child_of_dust_is_not_made() -> None:
    """What would be left is not worth an output."""
    with pytest.raises(BumpRefused, match="does not pay"):
        child("t", [coin(DUST_FLORINS + 1000, height=None)], 300, 0, SCRIPT, RATE)


def spend(paid: int, *places: int) -> Tx:
    return Tx(tuple(TxInput(Outpoint("ab" * 32, at)) for at in places), (TxOutput(Florins(paid), SCRIPT),))


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        (spend(9, 0), spend(10, 0), True),
        (spend(10, 0), spend(9, 0), False),
        (spend(10, 0), spend(10, 0), False),
        (spend(20, 0, 1), spend(10, 0), True),
        (spend(10, 0), spend(20, 0, 1), False),
        (spend(10, 0, 1), spend(10, 1, 2), None),
    ],
)
def test_outbids(one: Tx, other: Tx, verdict: bool | None) -> None:  # noqa: FBT001 - a table's column
    """The same coins for a higher fee, or those and more; what shares only some says nothing."""
    assert outbids(one, other) is verdict


def test_an_account_pays_from_its_own_coins() -> None:
    """Spendable ones alone; another account's are out of reach."""
    savings = OwnCoin(coin(FLOP, 1).coin, 1 << 8, 0, is_locked=False)
    coins = [coin(FLOP, 2), savings, coin(FLOP, 3, locked=True)]
    assert free_coins(coins, 1, 1000, 240) == [savings]
    assert free_coins(coins, 0, 1000, 240) == [coins[0]]


def test_limits_are_told_by_the_names_with_which_they_refuse() -> None:
    """The list that a person sees is the list that is asked."""
    assert [name for name, _ in limit_list(SETTINGS)] == [
        "per payment", "per day", "per caller and day", "per counterparty and day",
    ]  # fmt: skip


NAMES = ("anna", "bert")
REDEEM = multisig_script(2, tuple(public_key(name) for name in NAMES))
SHARED = pay_to_script(REDEEM)
OTHER = pay_to_key(public_key("other"))


def shared_coin(value: int, at: int) -> Coin:
    return Coin(Outpoint(f"{at:064x}", 0), SHARED, value, 900, 0, is_coinbase=False)


@given(values=st.lists(st.integers(DUST_FLORINS, 5 * FLOP), max_size=6), amount=st.integers(DUST_FLORINS, 9 * FLOP))
def test_a_shared_payment_conserves_and_pays_its_size(values: list[int], amount: int) -> None:
    """Coins = outputs + fee, the fee by the size with all signatures; change goes back, and is no dust."""
    coins = [shared_coin(value, at) for at, value in enumerate(values)]
    length = input_bytes(REDEEM, 2)
    try:
        chosen, outputs = gather(coins, (TxOutput(Florins(amount), OTHER),), SHARED, length, RATE)
    except InsufficientFunds:
        assert sum(values) < amount + 6 * FLOP // 100
        return
    tx = Tx(tuple(TxInput(one.outpoint) for one in chosen), outputs)
    fee = sum(one.value for one in chosen) - int(tx.paid_florins)
    assert fee >= fee_for(size_with(tx, [length] * len(chosen)), RATE)
    assert outputs[0].value_florins == amount
    assert all(output.script == SHARED and output.value_florins >= DUST_FLORINS for output in outputs[1:])


def partial_of(*outputs: TxOutput, value: int = 5 * FLOP, spent: bytes = SHARED, lock: int = 0) -> Partial:
    previous = Tx((TxInput(Outpoint("cd" * 32, 0), b"\x51"),), (TxOutput(Florins(value), spent),))
    tx = Tx((TxInput(Outpoint(txid(previous), 0)),), outputs, lock)
    return new_partial(tx, [serialize(previous)], [REDEEM if spent == SHARED else b""])


def told(partial: Partial, own: bytes = SHARED) -> list[str]:
    keys = [public_key("anna")]
    inputs = shown_inputs(partial, lambda script: keys if script == own else [], EMBEDDED)
    outputs = shown_outputs(partial, lambda script: script == own, EMBEDDED)
    return warnings(partial, inputs, outputs, RATE)


PLAIN = (TxOutput(Florins(3 * FLOP), OTHER), TxOutput(Florins(2 * FLOP - FEE_FLOOR_FLORINS), SHARED))


@pytest.mark.parametrize(
    ("partial", "words"),
    [
        (partial_of(*PLAIN), []),
        (partial_of(*PLAIN, value=4 * FLOP), ["more than it spends"]),
        (partial_of(*PLAIN, value=5 * FLOP - 1), ["under what nodes relay"]),
        (partial_of(*PLAIN, value=6 * FLOP), ["over 3 times"]),
        (partial_of(*PLAIN, lock=9), ["height 10"]),
        (partial_of(PLAIN[0], value=3 * FLOP + FEE_FLOOR_FLORINS), ["nothing comes back"]),
        (partial_of(*PLAIN, spent=OTHER), ["none of its coins"]),
        (partial_of(PLAIN[0], replace(PLAIN[1], script=b"\x51")), ["nothing comes back", "no address"]),
        (partial_of(*PLAIN, TxOutput(Florins(9), SHARED), value=5 * FLOP + 9), ["so small"]),
        (with_signature(partial_of(*PLAIN), 0, public_key("anna"), b"\x30"), ["wrong and does not count"]),
    ],
)
def test_a_signer_is_told_what_is_unusual(partial: Partial, words: list[str]) -> None:
    """Each oddity in words of its own, and an ordinary payment without any."""
    found = told(partial)
    assert len(found) == len(words), found
    assert all(word in text for word, text in zip(words, found, strict=True)), found


def test_coins_of_others_are_told_and_signatures_counted() -> None:
    """A payment that mixes owners; who has signed is counted by right signatures alone."""
    previous = Tx(
        (TxInput(Outpoint("cd" * 32, 0), b"\x51"),),
        (TxOutput(Florins(5 * FLOP), SHARED), TxOutput(Florins(FLOP), OTHER)),
    )
    inputs = tuple(TxInput(Outpoint(txid(previous), at)) for at in range(2))
    tx = Tx(inputs, (TxOutput(Florins(6 * FLOP - 2 * FEE_FLOOR_FLORINS), SHARED),))
    partial = new_partial(tx, [serialize(previous)] * 2, [REDEEM, b""])
    assert any("others are spent" in text for text in told(partial))
    assert fee_of(partial) == 2 * FEE_FLOOR_FLORINS
    signature = sign_digest("anna", digest_of(partial, 0, spent_outputs(partial)[0]))
    signed = with_signature(partial, 0, public_key("anna"), signature)
    first = shown_inputs(signed, lambda script: [public_key("anna")] if script == SHARED else [], EMBEDDED)[0]
    assert (first.needed, first.signed, first.signed_by_us, first.ours) == (2, 1, True, True)
