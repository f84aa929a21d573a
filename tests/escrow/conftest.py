"""One embedded chain for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.escrow.kit import Net
from tests.flopd.coin_node import CoinBench, embedded


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoinBench]:
    """The embedded chain as a process, with a bank."""
    with embedded(tmp_path_factory.mktemp("chain")) as found:
        yield found


@pytest.fixture
def net(bench: CoinBench, tmp_path: Path) -> Net:
    """No nodes yet."""
    return Net(bench, tmp_path)
