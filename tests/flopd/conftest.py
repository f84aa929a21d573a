"""One coin node of each kind for the whole run; every test that asks for `bench` runs on each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.flopd.coin_node import STARTERS, CoinBench, missing
from tests.flopd.wallets import WalletNode

NODES = [
    pytest.param("embedded"),
    pytest.param("litecoind", marks=pytest.mark.coin_node),
    pytest.param("flopcoind", marks=pytest.mark.coin_node),
]


@pytest.fixture(scope="session", params=NODES)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoinBench]:
    """A coin node with a bank."""
    reason = missing(request.param)
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        yield stack.enter_context(STARTERS[request.param](tmp_path_factory.mktemp(request.param)))


SUITE = (
    "test_bumps",
    "test_chain",
    "test_channels",
    "test_contracts",
    "test_crashes",
    "test_fund",
    "test_payments",
    "test_reorganisation",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The chain suite runs over every source; what is not about the chain, or is about a node's RPC, over one."""
    if "bench" in metafunc.fixturenames:
        is_core = any(metafunc.definition.get_closest_marker(name) for name in ("node_rpc", "one_source"))
        in_suite = metafunc.module.__name__.rpartition(".")[2] in SUITE and not is_core
        metafunc.parametrize("bench", ["core", "spv"] if in_suite else ["core"], indirect=True)


@pytest.fixture
def bench(node: CoinBench, request: pytest.FixtureRequest) -> CoinBench:
    """The node, seen by the wallets through its RPC or as one of their peers."""
    return replace(node, source=request.param)


@pytest.fixture
def wallet(tmp_path: Path, bench: CoinBench) -> WalletNode:
    """A fresh wallet, not running yet."""
    return WalletNode(tmp_path, bench)
