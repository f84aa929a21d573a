"""The table of spends that both chains judge, and what each must say.

A row is a name, how to build the transaction, and the verdicts (relay, block) of both; where they differ by design the
row says why. The builders get a bench and use fresh coins of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bitcoin.core import CMutableTransaction
from bitcoin.core.script import SIGHASH_ALL, SIGHASH_ANYONECANPAY, SIGHASH_NONE, SIGHASH_SINGLE, CScript

from common.units import FLOP
from tests.embedded_chain.coin_bench import (
    FEE,
    FINAL,
    WITH_LOCK,
    Bench,
    build,
    funded,
    p2sh,
    pay,
    pub,
    raw,
    script,
    sign,
    spend,
    with_high_s,
)

OP_1, OP_2, OP_3, OP_4 = 0x51, 0x52, 0x53, 0x54
IF, ELSE, ENDIF, DROP, DUP, EQUAL, EQUALVERIFY = 0x63, 0x67, 0x68, 0x75, 0x76, 0x87, 0x88
CHECKSIG, MULTISIG, MULTISIGVERIFY, CLTV, CSV = 0xAC, 0xAE, 0xAF, 0xB1, 0xB2
CAT, NOP5, OP_RETURN = 0x7E, 0xB4, 0x6A


@dataclass(frozen=True)
class Case:
    """One row: verdicts of relay and of a block, the same on both unless `elsewhere` says litecoind's and why."""

    name: str
    make: Callable[[Bench], str]
    relay: str = "ok"
    block: str = "ok"
    elsewhere: tuple[str, str] | None = None
    why: str = ""


CASES: list[Case] = []


def case(
    relay: str = "ok", block: str = "ok", *, elsewhere: tuple[str, str] | None = None, why: str = ""
) -> Callable[[Callable[[Bench], str]], Callable[[Bench], str]]:
    """Put a builder into the table."""

    def put(make: Callable[[Bench], str]) -> Callable[[Bench], str]:
        CASES.append(Case(make.__name__, make, relay, block, elsewhere, why))
        return make

    return put


def number(value: int) -> bytes:
    """A height as a script number (above 16)."""
    return value.to_bytes(value.bit_length() // 8 + 1, "little")


def two_of_three() -> bytes:
    return script(OP_2, pub("a"), pub("b"), pub("c"), OP_3, MULTISIG)


def escrow(height: int) -> bytes:
    """The contract script with its three branches (facts §6), two of three arbiters."""
    parties = (pub("buyer"), pub("seller"), OP_2)
    coop = script(OP_2, *parties, MULTISIG)
    panel = script(OP_2, pub("arb1"), pub("arb2"), pub("arb3"), OP_3, MULTISIG)
    award = script(DROP, OP_1, *parties, MULTISIGVERIFY) + panel
    refund = script(OP_3, EQUALVERIFY, number(height), CLTV, DROP, pub("buyer"), CHECKSIG)
    inner = script(DUP, OP_2, EQUAL, IF) + award + script(ELSE) + refund + script(ENDIF)
    return script(DUP, OP_1, EQUAL, IF, DROP) + coop + script(ELSE) + inner + script(ENDIF)


def from_script(bench: Bench, redeem: bytes, unlock: Callable[[CMutableTransaction], bytes], **shape: int) -> str:
    """A spend of a fresh P2SH output; `unlock(tx)` gives the scriptSig before the redeem script."""
    coin = funded(bench, p2sh(redeem))
    tx = build([coin], [(coin.value - FEE, pay("change"))], **shape)
    tx.vin[0].scriptSig = CScript(unlock(tx) + script(redeem))
    return raw(tx)


def signed_by(redeem: bytes, *names: str) -> Callable[[CMutableTransaction], bytes]:
    """The dummy and one signature per name, in order."""
    return lambda tx: script(0, *(sign(tx, 0, redeem, name) for name in names))


# plain spends


@case()
def pay_to_key_hash(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(COIN_OUT, pay("change"))]))


COIN_OUT = 50 * FLOP - FEE


@case()
def pay_to_public_key(bench: Bench) -> str:
    lock = script(pub("a"), CHECKSIG)
    coin = funded(bench, lock)
    tx = build([coin], [(coin.value - FEE, pay("change"))])
    tx.vin[0].scriptSig = CScript(script(sign(tx, 0, lock, "a")))
    return raw(tx)


@case("script", "script")
def signature_of_another_key(bench: Bench) -> str:
    coin = bench.coin()
    tx = build([coin], [(COIN_OUT, pay("change"))])
    tx.vin[0].scriptSig = CScript(script(sign(tx, 0, coin.lock, "thief"), pub("funder")))
    return raw(tx)


@case("script", "script")
def outputs_changed_after_signing(bench: Bench) -> str:
    tx = spend(bench.coin(), [(COIN_OUT, pay("change"))])
    tx.vout[0].scriptPubKey = CScript(pay("thief"))
    return raw(tx)


@case("script", "ok")
def high_s_signature(bench: Bench) -> str:
    coin = bench.coin()
    tx = build([coin], [(COIN_OUT, pay("change"))])
    tx.vin[0].scriptSig = CScript(script(with_high_s(sign(tx, 0, coin.lock, "funder")), pub("funder")))
    return raw(tx)


@case("script", "script")
def signature_not_in_der(bench: Bench) -> str:
    coin = bench.coin()
    tx = build([coin], [(COIN_OUT, pay("change"))])
    good = sign(tx, 0, coin.lock, "funder")
    padded = b"\x30" + bytes([good[1] + 1, 2, good[3] + 1, 0]) + good[4:]
    tx.vin[0].scriptSig = CScript(script(padded, pub("funder")))
    return raw(tx)


@case("script", "ok")
def hash_type_undefined(bench: Bench) -> str:
    coin = bench.coin()
    tx = build([coin], [(COIN_OUT, pay("change"))])
    tx.vin[0].scriptSig = CScript(script(sign(tx, 0, coin.lock, "funder", 0x41), pub("funder")))
    return raw(tx)


def _hash_type(bench: Bench, kind: int) -> str:
    coin = bench.coin()
    tx = build([coin], [(COIN_OUT, pay("change"))])
    tx.vin[0].scriptSig = CScript(script(sign(tx, 0, coin.lock, "funder", kind), pub("funder")))
    return raw(tx)


@case()
def hash_type_all_anyone_can_pay(bench: Bench) -> str:
    return _hash_type(bench, SIGHASH_ALL | SIGHASH_ANYONECANPAY)


@case()
def hash_type_none(bench: Bench) -> str:
    return _hash_type(bench, SIGHASH_NONE)


@case()
def hash_type_single(bench: Bench) -> str:
    return _hash_type(bench, SIGHASH_SINGLE)


@case("script", "ok")
def push_longer_than_needed(bench: Bench) -> str:
    coin = bench.coin()
    tx = build([coin], [(COIN_OUT, pay("change"))])
    signature = sign(tx, 0, coin.lock, "funder")
    tx.vin[0].scriptSig = CScript(b"\x4c" + bytes([len(signature)]) + signature + script(pub("funder")))
    return raw(tx)


# shared and branching scripts


@case()
def two_of_three_signed_by_two(bench: Bench) -> str:
    redeem = two_of_three()
    return from_script(bench, redeem, signed_by(redeem, "a", "c"))


@case("script", "script")
def two_of_three_signed_by_one(bench: Bench) -> str:
    redeem = two_of_three()
    return from_script(bench, redeem, signed_by(redeem, "a"))


@case("script", "script")
def two_of_three_in_wrong_order(bench: Bench) -> str:
    redeem = two_of_three()
    return from_script(bench, redeem, signed_by(redeem, "c", "a"))


@case("script", "ok", elsewhere=("script", "script"), why="NULLDUMMY came with SegWit, which Flopcoin never activated")
def dummy_not_empty(bench: Bench) -> str:
    redeem = two_of_three()
    return from_script(
        bench,
        redeem,
        lambda tx: script(OP_1, sign(tx, 0, redeem, "a"), sign(tx, 0, redeem, "b")),
    )


@case("script", "ok")
def extra_item_left_on_the_stack(bench: Bench) -> str:
    redeem = two_of_three()
    unlock = signed_by(redeem, "a", "b")
    return from_script(bench, redeem, lambda tx: script(OP_1) + unlock(tx))


@case("script", "script")
def wrong_redeem_script(bench: Bench) -> str:
    coin = funded(bench, p2sh(two_of_three()))
    other = script(OP_1, pub("thief"), OP_1, MULTISIG)
    tx = build([coin], [(coin.value - FEE, pay("change"))])
    tx.vin[0].scriptSig = CScript(script(0, sign(tx, 0, other, "thief"), other))
    return raw(tx)


@case("nonstandard", "ok")
def redeem_script_with_sixteen_sigops(bench: Bench) -> str:
    redeem = (
        script(pub("a"), CHECKSIG, DROP, pub("a"), CHECKSIG, DROP, OP_1, pub("a"), OP_1, MULTISIG)
        + script(0, IF)
        + script(*[CHECKSIG] * 13)
        + script(ENDIF)
    )

    def unlock(tx: CMutableTransaction) -> bytes:
        signature = sign(tx, 0, redeem, "a")
        return script(0, signature, signature, signature)

    return from_script(bench, redeem, unlock)


@case()
def escrow_both_parties(bench: Bench) -> str:
    redeem = escrow(bench.height() + 100)
    unlock = signed_by(redeem, "buyer", "seller")
    return from_script(bench, redeem, lambda tx: unlock(tx) + script(OP_1))


@case("script", "script")
def escrow_buyer_alone_twice(bench: Bench) -> str:
    redeem = escrow(bench.height() + 100)
    unlock = signed_by(redeem, "buyer", "buyer")
    return from_script(bench, redeem, lambda tx: unlock(tx) + script(OP_1))


def _award(party: str, *arbiters: str) -> Callable[[Bench], str]:
    def make(bench: Bench) -> str:
        redeem = escrow(bench.height() + 100)
        panel, own = signed_by(redeem, *arbiters), signed_by(redeem, party)
        return from_script(bench, redeem, lambda tx: panel(tx) + own(tx) + script(OP_2))

    make.__name__ = f"escrow_award_by_{party}_and_{'_'.join(arbiters)}"
    return make


case()(_award("seller", "arb1", "arb3"))
case()(_award("buyer", "arb2", "arb3"))
case("script", "script")(_award("seller", "arb1"))
case("script", "script")(_award("thief", "arb1", "arb2"))
case("script", "script")(_award("arb1", "arb2", "arb3"))


def _refund(name: str, lock_offset: int, time_offset: int, sequence: int, who: str) -> Callable[[Bench], str]:
    """A refund of a contract with T = tip + 1 + lock_offset, with nLockTime = T + time_offset.

    Funding it takes one block more, which `+ 1` is for: at T the transaction can be in the block after T.
    """

    def make(bench: Bench) -> str:
        height = bench.height() + 1 + lock_offset
        redeem = escrow(height)
        unlock = lambda tx: script(sign(tx, 0, redeem, who), OP_3)  # noqa: E731
        return from_script(bench, redeem, unlock, lock_time=height + time_offset, sequence=sequence)

    make.__name__ = f"escrow_refund_{name}"
    return make


case()(_refund("at_T", 0, 0, WITH_LOCK, "buyer"))
case("non-final", "non-final")(_refund("one_block_before_T", 1, 0, WITH_LOCK, "buyer"))
case("script", "script")(_refund("with_lock_time_below_T", 1, -1, WITH_LOCK, "buyer"))
case("script", "script")(_refund("with_final_sequence", 0, 0, FINAL, "buyer"))
case("script", "script")(_refund("by_seller", 0, 0, WITH_LOCK, "seller"))


@case("script", "ok", elsewhere=("script", "script"), why="CSV never activated on Flopcoin: only its relay honours it")
def relative_lock_in_script_not_reached(bench: Bench) -> str:
    redeem = script(OP_4, CSV, DROP, pub("a"), CHECKSIG)
    return from_script(bench, redeem, lambda tx: script(sign(tx, 0, redeem, "a")), version=2, sequence=1)


@case("non-final", "ok", elsewhere=("non-final", "non-final"), why="BIP68 never activated on Flopcoin: relay only")
def relative_lock_of_sequence_not_reached(bench: Bench) -> str:
    coin = funded(bench, pay("funder"))
    return raw(spend(coin, [(coin.value - FEE, pay("change"))], version=2, sequence=5))


@case("script", "ok")
def reserved_nop(bench: Bench) -> str:
    redeem = script(NOP5, pub("a"), CHECKSIG)
    return from_script(bench, redeem, lambda tx: script(sign(tx, 0, redeem, "a")))


@case("script", "script")
def disabled_opcode(bench: Bench) -> str:
    redeem = script(OP_1, OP_1, CAT, DROP, pub("a"), CHECKSIG)
    return from_script(bench, redeem, lambda tx: script(sign(tx, 0, redeem, "a")))


@case("nonstandard", "ok")
def script_sig_that_computes(bench: Bench) -> str:
    coin = bench.coin()
    tx = build([coin], [(COIN_OUT, pay("change"))])
    unlock = script(sign(tx, 0, coin.lock, "funder"), pub("funder"))
    tx.vin[0].scriptSig = CScript(unlock + script(OP_1, DROP))
    return raw(tx)


# lock times and amounts


@case("non-final", "non-final")
def lock_time_at_the_next_height(bench: Bench) -> str:
    coin = bench.coin()
    return raw(spend(coin, [(COIN_OUT, pay("change"))], lock_time=bench.height() + 1, sequence=WITH_LOCK))


@case()
def lock_time_at_the_tip(bench: Bench) -> str:
    coin = bench.coin()
    return raw(spend(coin, [(COIN_OUT, pay("change"))], lock_time=bench.height(), sequence=WITH_LOCK))


@case()
def lock_time_ignored_by_final_sequences(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(COIN_OUT, pay("change"))], lock_time=bench.height() + 50))


@case("belowout", "belowout")
def more_out_than_in(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(50 * FLOP + 1, pay("change"))]))


@case("amount", "amount")
def output_beyond_all_money(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(10**18 + 1, pay("change"))]))


@case("amount", "amount")
def sum_of_outputs_beyond_all_money(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(6 * 10**17, pay("change"))] * 2))


@case("amount", "amount")
def negative_output(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(-1, pay("change"))]))


@case("malformed", "malformed")
def same_input_twice(bench: Bench) -> str:
    coin = bench.coin()
    tx = build([coin, coin], [(COIN_OUT, pay("change"))])
    for at in range(2):
        tx.vin[at].scriptSig = CScript(script(sign(tx, at, coin.lock, "funder"), pub("funder")))
    return raw(tx)


@case("malformed", "malformed")
def no_outputs(bench: Bench) -> str:
    return raw(spend(bench.coin(), []))


@case("missing", "missing")
def output_that_never_was(bench: Bench) -> str:
    coin = bench.coin()
    coin.txid = "11" * 32
    return raw(spend(coin, [(COIN_OUT, pay("change"))]))


@case("missing", "missing")
def output_spent_in_a_block(bench: Bench) -> str:
    coin = bench.coin()
    assert bench.in_block([raw(spend(coin, [(COIN_OUT, pay("change"))]))]) == "ok"
    return raw(spend(coin, [(COIN_OUT, pay("thief"))]))


@case("immature", "immature", elsewhere=("ok", "ok"), why="maturity is 240 blocks on Flopcoin, 100 on litecoind")
def coinbase_spent_at_depth_150(bench: Bench) -> str:
    coin = bench.young_coinbase(150)
    return raw(spend(coin, [(coin.value - FEE, pay("change"))]))


@case("immature", "immature")
def coinbase_spent_one_block_too_early(bench: Bench) -> str:
    coin = bench.young_coinbase(bench.maturity - 1)
    return raw(spend(coin, [(coin.value - FEE, pay("change"))]))


@case()
def coinbase_spent_at_maturity(bench: Bench) -> str:
    coin = bench.young_coinbase(bench.maturity)
    return raw(spend(coin, [(coin.value - FEE, pay("change"))]))


# relay: fees, dust, forms


@case("fee", "ok")
def no_fee(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(50 * FLOP, pay("change"))]))


@case("fee", "ok", elsewhere=("ok", "ok"), why="relay costs 0.001 per kB on Flopcoin, 0.00001 on litecoind")
def fee_below_flopcoins_relay_floor(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(50 * FLOP - 15_000, pay("change"))]))


@case("ok", "ok")
def fee_at_flopcoins_relay_floor(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(50 * FLOP - 20_000, pay("change"))]))


def _with_small_output(value: int, extra_fee: int = 0) -> Callable[[Bench], str]:
    return lambda bench: raw(
        spend(bench.coin(), [(value, pay("a")), (50 * FLOP - value - 1_000_000 - extra_fee, pay("b"))])
    )


def _named(name: str, make: Callable[[Bench], str]) -> Callable[[Bench], str]:
    make.__name__ = name
    return make


FLOP_DUST = "dust is below 0.001 on Flopcoin (5,460 florins on litecoind)"
SOFT_DUST = "an output below 0.01 costs 0.01 more on Flopcoin"
case("dust", "ok")(_named("dust_of_1000_florins", _with_small_output(1_000)))
case("dust", "ok", elsewhere=("ok", "ok"), why=FLOP_DUST)(_named("dust_below_0_001", _with_small_output(99_999)))
case("fee", "ok", elsewhere=("ok", "ok"), why=SOFT_DUST)(
    _named("soft_dust_without_its_fee", _with_small_output(999_999))
)
case()(_named("soft_dust_with_its_fee", _with_small_output(100_000, 1_000_000)))
case()(_named("output_of_0_01", _with_small_output(1_000_000)))


@case("size", "ok")
def transaction_of_100_kilobytes(bench: Bench) -> str:
    outputs = [(1_500_000, pay(f"r{n}")) for n in range(2_950)]
    return raw(spend(bench.coin(), outputs))


@case()
def payout_of_900_outputs(bench: Bench) -> str:
    outputs = [(1_500_000, pay(f"r{n}")) for n in range(900)]
    return raw(spend(bench.coin(), outputs))


@case()
def data_of_80_bytes(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(0, script(OP_RETURN, bytes(80))), (COIN_OUT, pay("a"))]))


@case("nonstandard", "ok")
def data_of_81_bytes(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(0, script(OP_RETURN, bytes(81))), (COIN_OUT, pay("a"))]))


@case("nonstandard", "ok")
def data_in_two_outputs(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(0, script(OP_RETURN, b"x" * 9))] * 2 + [(COIN_OUT, pay("a"))]))


@case()
def bare_multisig_of_three(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(COIN_OUT, two_of_three())]))


@case("nonstandard", "ok")
def bare_multisig_of_four(bench: Bench) -> str:
    lock = script(OP_2, pub("a"), pub("b"), pub("c"), pub("d"), OP_4, MULTISIG)
    return raw(spend(bench.coin(), [(COIN_OUT, lock)]))


@case("nonstandard", "ok")
def output_of_unknown_form(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(COIN_OUT, script(DUP, DROP, OP_1))]))


@case("nonstandard", "ok")
def version_three(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(COIN_OUT, pay("a"))], version=3))


@case("nonstandard", "ok", elsewhere=("ok", "ok"), why="SegWit is off on Flopcoin, so its outputs are unknown forms")
def output_to_a_witness_program(bench: Bench) -> str:
    return raw(spend(bench.coin(), [(COIN_OUT, script(0, bytes(20)))]))
