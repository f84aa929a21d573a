"""Two thousand histories of escrow and of the fund, each under its own faults: no law breaks, and everything occurred.

A kind of fault or a way out that did not occur often enough fails the suite: then the laws were not tried.
"""

import pytest

from dux_sim.orders import Order, Told
from dux_sim.suite import run_many
from dux_sim.world.faults import KINDS

MONEY, FUND = 1_960, 40
EXITS_AT_LEAST = {
    "released": 700,
    "awarded": 150,
    "awarded-back": 300,
    "refunded": 40,
    "cancelled": 90,
    "refused": 60,
    "void": 2,  # rare since words count under any key of their signer: clocks that are wrong void no contract now
}
FAULTS_AT_LEAST = {
    "delay": 8_000,
    "loss": 500,
    "duplicate": 400,
    "reorder": 400,
    "partition": 200,
    "crash": 300,
    "skew": 200,
    "reorg": 100,
    "malleation": 120,
    "chain-away": 200,
    "mempool": 200,
    "liar": 500,
    "silence": 600,
}
FUND_EXITS_AT_LEAST = {"airdrop": 30, "released": 70, "sweep": 15}


def orders(kind: str, count: int) -> list[Order]:
    return [Order(kind=kind, seed=seed, faults=KINDS) for seed in range(count)]


def assert_lawful(told: Told, exits: dict[str, int], faults: dict[str, int]) -> None:
    assert not told.violations, "\n".join(
        f"{one['law']}: {one['detail']}\n  {one['repeat']}" for one in told.violations
    )
    rare = {name: told.exits.get(name, 0) for name, least in exits.items() if told.exits.get(name, 0) < least}
    assert not rare, f"ways out that hardly occurred: {rare}"
    rare = {name: told.faults.get(name, 0) for name, least in faults.items() if told.faults.get(name, 0) < least}
    assert not rare, f"faults that hardly occurred: {rare}"


@pytest.mark.histories
@pytest.mark.timeout(2400)
def test_no_history_of_escrow_breaks_a_law() -> None:
    told = run_many(orders("money", MONEY))
    assert told.histories == MONEY
    assert_lawful(told, EXITS_AT_LEAST, FAULTS_AT_LEAST)


@pytest.mark.histories
@pytest.mark.timeout(2400)
def test_no_history_of_the_fund_breaks_a_law() -> None:
    told = run_many(orders("fund", FUND))
    assert told.histories == FUND
    assert_lawful(told, FUND_EXITS_AT_LEAST, {})
