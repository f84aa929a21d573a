"""Rules that a plain spend never meets: malformed transactions, limits of relay, of replacements and of the mempool."""

from __future__ import annotations

import msgspec
import pytest
from bitcoin.core.script import CScript

from common.chain.invalid import Invalid
from common.chain.wire import NULL_HASH, NULL_INDEX, OutPoint, Tx, TxIn, TxOut, decode_tx
from common.units import FLOP
from dux_sim.chain import policy, tx_rules
from dux_sim.chain.consensus import BLOCK_BYTES_MAX, MONEY_MAX_FLORINS
from dux_sim.chain.tx_rules import Coin
from tests.embedded_chain.coin_bench import FEE, EmbeddedBench, build, pay, pub, raw, script, sign, spend, txid
from tests.embedded_chain.coin_bench import Coin as Spendable

replace = msgspec.structs.replace
PLAIN = Tx(1, (TxIn(OutPoint(b"\x01" * 32, 0), b"", 0xFFFFFFFF),), (TxOut(FLOP, pay("a")),), 0)
NULL = TxIn(OutPoint(NULL_HASH, NULL_INDEX), b"\x51\x51", 0xFFFFFFFF)
ALONE = [
    ("bad-txns-vin-empty", replace(PLAIN, inputs=())),
    ("bad-txns-vout-empty", replace(PLAIN, outputs=())),
    ("bad-txns-oversize", replace(PLAIN, outputs=(TxOut(0, bytes(BLOCK_BYTES_MAX)),))),
    ("bad-txns-prevout-null", replace(PLAIN, inputs=(PLAIN.inputs[0], NULL))),
    ("bad-cb-length", replace(PLAIN, inputs=(replace(NULL, script_sig=bytes(101)),))),
    ("bad-txns-inputs-duplicate", replace(PLAIN, inputs=PLAIN.inputs * 2)),
    ("bad-txns-vout-toolarge", replace(PLAIN, outputs=(TxOut(MONEY_MAX_FLORINS + 1, b""),))),
    ("bad-txns-txouttotal-toolarge", replace(PLAIN, outputs=(TxOut(MONEY_MAX_FLORINS, b""), TxOut(1, b"")))),
]


@pytest.mark.parametrize(("reason", "tx"), ALONE, ids=[reason for reason, _ in ALONE])
def test_what_no_block_may_hold(reason: str, tx: Tx) -> None:
    """Each malformation alone, by Core's name for it."""
    with pytest.raises(Invalid) as caught:
        tx_rules.check_tx(tx)
    assert caught.value.reason == reason


def test_sound_transactions_and_coinbases_pass() -> None:
    """The plain one and a coinbase are well formed; all the money there can be is a valid amount."""
    tx_rules.check_tx(PLAIN)
    tx_rules.check_tx(replace(PLAIN, inputs=(NULL,)))
    tx_rules.check_tx(replace(PLAIN, outputs=(TxOut(MONEY_MAX_FLORINS, b""),)))


def coin(value: int, *, height: int = 1, is_coinbase: bool = False) -> Coin:
    return Coin(TxOut(value, pay("a")), height, is_coinbase)


def test_amounts_and_maturity_of_what_is_spent() -> None:
    """The fee is what is left; inputs beyond all money, and coinbases younger than 240 blocks, are refused."""
    assert tx_rules.fee_of(PLAIN, [coin(FLOP + 7)], 5) == 7
    with pytest.raises(Invalid, match="inputvalues-outofrange"):
        tx_rules.fee_of(PLAIN, [coin(MONEY_MAX_FLORINS), coin(1)], 5)
    with pytest.raises(Invalid, match="in-belowout"):
        tx_rules.fee_of(PLAIN, [coin(FLOP - 1)], 5)
    assert tx_rules.fee_of(PLAIN, [coin(FLOP, is_coinbase=True)], 241) == 0
    with pytest.raises(Invalid, match="premature"):
        tx_rules.fee_of(PLAIN, [coin(FLOP, is_coinbase=True)], 240)


@pytest.mark.parametrize(
    ("lock_time", "sequence", "height", "time_s", "final"),
    [
        (0, 0, 1, 1, True),
        (10, 0, 10, 0, False),
        (10, 0, 11, 0, True),
        (10, 0xFFFFFFFF, 1, 0, True),
        (499_999_999, 0, 499_999_999, 2**31, False),
        (500_000_000, 0, 2**31, 500_000_000, False),
        (500_000_000, 0, 1, 500_000_001, True),
    ],
)
def test_lock_times_by_height_and_by_time(
    lock_time: int, sequence: int, height: int, time_s: int, *, final: bool
) -> None:
    """Below half a billion it is a height, from there on a time; final sequences switch it off."""
    inputs = (replace(PLAIN.inputs[0], sequence=sequence),)
    assert tx_rules.is_final(replace(PLAIN, inputs=inputs, lock_time=lock_time), height, time_s) is final


RELATIVE = [
    (1, 5, 0, 0, True),
    (2, 5, 5, 0, True),
    (2, 5, 4, 10**9, False),
    (2, 1 << 31 | 5, 0, 0, True),
    (2, 1 << 22 | 2, 0, 1024, True),
    (2, 1 << 22 | 2, 9999, 1023, False),
]


@pytest.mark.parametrize(("version", "sequence", "blocks", "seconds", "holds"), RELATIVE)
def test_relative_locks_that_relay_honours(
    version: int, sequence: int, blocks: int, seconds: int, *, holds: bool
) -> None:
    """BIP68 from version 2 on, by blocks or by 512 seconds, unless the sequence switches it off."""
    tx = replace(PLAIN, version=version, inputs=(replace(PLAIN.inputs[0], sequence=sequence),))
    assert policy.sequence_locks_hold(tx, [blocks], [seconds]) is holds


def test_limits_of_a_standard_transaction() -> None:
    """A scriptSig of 1,651 bytes, 4,001 signature checks, a witness output spent: each refused by its name."""
    long = replace(PLAIN, inputs=(replace(PLAIN.inputs[0], script_sig=bytes(1651)),))
    with pytest.raises(Invalid, match="scriptsig-size"):
        policy.check_standard(long)
    policy.check_sigops(4000)
    with pytest.raises(Invalid, match="too-many-sigops"):
        policy.check_sigops(4001)
    with pytest.raises(Invalid, match="nonstandard-inputs"):
        policy.check_inputs_standard(PLAIN, [Coin(TxOut(1, b"\x00\x14" + bytes(20)), 1, is_coinbase=False)])
    with pytest.raises(Invalid, match="nonstandard-inputs"):
        policy.check_inputs_standard(PLAIN, [Coin(TxOut(1, b"\xa9\x14" + bytes(20) + b"\x87"), 1, is_coinbase=False)])
    assert policy.fee_at(1, 10) == 1
    assert policy.fee_at(1, 0) == 0
    assert policy.relay_size(PLAIN, 100) == 2000


@pytest.fixture
def bench() -> EmbeddedBench:
    return EmbeddedBench(blocks=2)


def joined(coins: list[Spendable], value: int, sequence: int = 0) -> str:
    """A spend of several coins of `funder`."""
    tx = build(coins, [(value, pay("change"))], sequence=sequence)
    for at, each in enumerate(coins):
        tx.vin[at].scriptSig = CScript(script(sign(tx, at, each.lock, "funder"), pub("funder")))
    return raw(tx)


def reason(bench: EmbeddedBench, made: str) -> str:
    """Core's words for the refusal."""
    with pytest.raises(Invalid) as caught:
        bench.node.submit_tx(decode_tx(bytes.fromhex(made)))
    return caught.value.reason


def test_a_replacement_brings_no_new_unconfirmed_parent(bench: EmbeddedBench) -> None:
    """BIP125 rule 2: what the replaced did not rest on may not be rested on now."""
    contested, other = bench.coin(), bench.coin()
    assert bench.send(raw(spend(contested, [(contested.value - FEE, pay("a"))], sequence=0))) == "ok"
    parent = spend(other, [(other.value - FEE, pay("funder"))], sequence=0)
    assert bench.send(raw(parent)) == "ok"
    waiting = Spendable(txid(parent), 0, pay("funder"), other.value - FEE)
    assert reason(bench, joined([contested, waiting], 50 * FLOP)) == "replacement-adds-unconfirmed"


def test_a_replacement_does_not_rest_on_what_it_replaces(bench: EmbeddedBench) -> None:
    """Spending an output of the replaced one as well is no replacement."""
    coin_ = bench.coin()
    first = spend(coin_, [(coin_.value - FEE, pay("funder"))], sequence=0)
    assert bench.send(raw(first)) == "ok"
    own = Spendable(txid(first), 0, pay("funder"), coin_.value - FEE)
    assert reason(bench, joined([coin_, own], 90 * FLOP)) == "bad-txns-spends-conflicting-tx"


def test_a_replacement_evicts_a_hundred_at_most(bench: EmbeddedBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit (lowered here) it is refused."""
    monkeypatch.setattr(policy, "REPLACED_MAX", 1)
    coin_ = bench.coin()
    first = spend(coin_, [(coin_.value - FEE, pay("funder"))], sequence=0)
    own = Spendable(txid(first), 0, pay("funder"), coin_.value - FEE)
    for made in (first, spend(own, [(own.value - FEE, pay("a"))])):
        assert bench.send(raw(made)) == "ok"
    assert reason(bench, raw(spend(coin_, [(FLOP, pay("a"))], sequence=0))) == "too many potential replacements"


def test_the_mempool_has_a_size(bench: EmbeddedBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it new transactions are refused until a block makes room; a coinbase never waits."""
    monkeypatch.setattr(policy, "MEMPOOL_TXS_MAX", 1)
    first, second = (raw(spend(c, [(c.value - FEE, pay("a"))])) for c in (bench.coin(), bench.coin()))
    assert bench.send(first) == "ok"
    assert reason(bench, second) == "mempool full"
    bench.mine()
    assert bench.send(second) == "ok"
    coinbase = bench.node.chain.tip.block.txs[0]
    assert reason(bench, coinbase.raw.hex()) == "coinbase"


def test_a_block_pushes_out_what_conflicts_with_it(bench: EmbeddedBench) -> None:
    """A rival that a miner took in makes the waiting one and its children leave."""
    coin_ = bench.coin()
    first = spend(coin_, [(coin_.value - FEE, pay("funder"))])
    own = Spendable(txid(first), 0, pay("funder"), coin_.value - FEE)
    for made in (first, spend(own, [(own.value - FEE, pay("a"))])):
        assert bench.send(raw(made)) == "ok"
    assert bench.in_block([raw(spend(coin_, [(FLOP, pay("b"))]))]) == "ok"
    assert not bench.node.pool.waiting
