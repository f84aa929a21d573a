"""What waits and what replaces what: the same stories told to the embedded chain and to litecoind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from common.units import FLOP
from dux_sim.chain import policy
from tests.embedded_chain.coin_bench import (
    FEE,
    FINAL,
    Bench,
    Coin,
    EmbeddedBench,
    LitecoindBench,
    litecoind,
    pay,
    raw,
    spend,
    txid,
)

REPLACEABLE = 0xFFFFFFFD
OUT = 50 * FLOP


def simple(coin: Coin, fee: int, to: str = "change", sequence: int = FINAL) -> str:
    return raw(spend(coin, [(coin.value - fee, pay(to))], sequence=sequence))


def the_same_again_is_no_error(bench: Bench) -> list[str]:
    """A wallet that rebroadcasts hears the same answer, until it is in a block: then it hears so."""
    made = simple(bench.coin(), FEE)
    verdicts = [bench.send(made), bench.send(made)]
    bench.mine()
    return [*verdicts, bench.send(made)]


def a_double_spend_conflicts(bench: Bench) -> list[str]:
    """The second spend of an output waits for nothing: it is refused, first as a conflict, then as missing."""
    coin = bench.coin()
    verdicts = [bench.send(simple(coin, FEE, "a")), bench.send(simple(coin, 9 * FEE, "b"))]
    bench.mine()
    return [*verdicts, bench.send(simple(coin, 9 * FEE, "b"))]


def a_replacement_that_pays_more_wins(bench: Bench) -> list[str]:
    """BIP125: three times the fee replaces; afterwards the first is the one that comes too late."""
    coin = bench.coin()
    first, second = simple(coin, FEE, "a", REPLACEABLE), simple(coin, 3 * FEE, "b", REPLACEABLE)
    return [bench.send(first), bench.send(second), bench.send(first)]


def a_replacement_must_pay_for_itself(bench: Bench) -> list[str]:
    """Neither the same fee nor one florin more replaces."""
    coin = bench.coin()
    made = [simple(coin, fee, to, REPLACEABLE) for fee, to in ((FEE, "a"), (FEE, "b"), (FEE + 1, "c"))]
    return [bench.send(item) for item in made]


def a_replacement_takes_its_children_along(bench: Bench) -> list[str]:
    """What needed the replaced one is gone; its inputs are missing then."""
    coin = bench.coin()
    parent = spend(coin, [(OUT - FEE, pay("funder"))], sequence=REPLACEABLE)
    child = simple(Coin(txid(parent), 0, pay("funder"), OUT - FEE), FEE)
    replacement = simple(coin, 5 * FEE, "b", REPLACEABLE)
    return [bench.send(raw(parent)), bench.send(child), bench.send(replacement), bench.send(child)]


def a_replacement_pays_for_the_children_too(bench: Bench) -> list[str]:
    """A fee above the parent's but below that of the family does not replace."""
    coin = bench.coin()
    parent = spend(coin, [(OUT - FEE, pay("funder"))], sequence=REPLACEABLE)
    child = simple(Coin(txid(parent), 0, pay("funder"), OUT - FEE), 4 * FEE)
    return [bench.send(raw(parent)), bench.send(child), bench.send(simple(coin, 3 * FEE, "b", REPLACEABLE))]


def a_child_without_its_parent_misses_inputs(bench: Bench) -> list[str]:
    """The parent has to come first."""
    parent = spend(bench.coin(), [(OUT - FEE, pay("funder"))])
    child = simple(Coin(txid(parent), 0, pay("funder"), OUT - FEE), FEE)
    return [bench.send(child), bench.send(raw(parent)), bench.send(child)]


def families_end_at_twenty_five(bench: Bench) -> list[str]:
    """A chain of unconfirmed spends is refused at the twenty-sixth."""
    coin, verdicts = bench.coin(), []
    for _ in range(26):
        tx = spend(coin, [(coin.value - FEE, pay("funder"))])
        verdicts.append(bench.send(raw(tx)))
        coin = Coin(txid(tx), 0, pay("funder"), coin.value - FEE)
    return verdicts


STORIES: list[tuple[Callable[[Bench], list[str]], list[str]]] = [
    (the_same_again_is_no_error, ["ok", "ok", "known"]),
    (a_double_spend_conflicts, ["ok", "conflict", "missing"]),
    (a_replacement_that_pays_more_wins, ["ok", "ok", "fee"]),
    (a_replacement_must_pay_for_itself, ["ok", "fee", "fee"]),
    (a_replacement_takes_its_children_along, ["ok", "ok", "ok", "missing"]),
    (a_replacement_pays_for_the_children_too, ["ok", "ok", "fee"]),
    (a_child_without_its_parent_misses_inputs, ["missing", "ok", "ok"]),
    (families_end_at_twenty_five, ["ok"] * 25 + ["chain"]),
]


@pytest.fixture(scope="module")
def embedded() -> EmbeddedBench:
    return EmbeddedBench()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LitecoindBench]:
    with litecoind(tmp_path_factory.mktemp("litecoind")) as bench:
        yield bench


@pytest.mark.parametrize(("story", "expected"), STORIES, ids=lambda item: getattr(item, "__name__", ""))
def test_story_on_the_embedded_chain(
    story: Callable[[Bench], list[str]], expected: list[str], embedded: EmbeddedBench
) -> None:
    """The story's verdicts, in order; and a block of all that waits is valid."""
    assert story(embedded) == expected
    embedded.mine()
    assert not [entry for entry in embedded.node.pool.waiting.values() if entry.fee_florins >= FEE]


@pytest.mark.coin_node
@pytest.mark.parametrize(("story", "expected"), STORIES, ids=lambda item: getattr(item, "__name__", ""))
def test_story_on_litecoind(story: Callable[[Bench], list[str]], expected: list[str], real: LitecoindBench) -> None:
    """A real node tells it the same way."""
    assert story(real) == expected
    real.mine()


def test_miner_takes_packages_above_the_floor_only(embedded: EmbeddedBench) -> None:
    """0.01 FLOP per kB is what mainnet's miners take: below it waits, until a child pays for both."""
    low = spend(embedded.coin(), [(OUT - 40_000, pay("funder"))])
    assert embedded.send(raw(low)) == "ok"
    embedded.mine()
    assert embedded.rpc.call("getrawmempool", []) == [txid(low)]
    child = simple(Coin(txid(low), 0, pay("funder"), OUT - 40_000), FEE)
    assert embedded.send(child) == "ok"
    embedded.mine()
    assert embedded.rpc.call("getrawmempool", []) == []


def test_waiting_ends_after_a_day(embedded: EmbeddedBench) -> None:
    """After 24 hours of the chain's time an unmined transaction is gone, and can be sent again."""
    low = raw(spend(embedded.coin(), [(OUT - 40_000, pay("funder"))]))
    assert embedded.send(low) == "ok"
    node = embedded.node
    node.clock.fixed_s = node.now_s() + policy.EXPIRY_S
    embedded.mine()
    assert len(node.pool.waiting) == 1
    node.clock.fixed_s += 1
    embedded.mine()
    assert not node.pool.waiting
    node.clock.fixed_s = 0
    assert embedded.send(low) == "ok"
    embedded.node.pool.drop_with_descendants(next(iter(embedded.node.pool.waiting)))
