"""The embedded chain and litecoind judge the same spends; where they differ, the table says why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.embedded_chain.coin_bench import Bench, EmbeddedBench, litecoind
from tests.embedded_chain.spend_cases import CASES, Case

CASES_MIN = 60


@pytest.fixture(scope="module")
def embedded() -> Bench:
    return EmbeddedBench()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with litecoind(tmp_path_factory.mktemp("litecoind")) as bench:
        yield bench


def judged(bench: Bench, case: Case) -> tuple[str, str]:
    """Relay's verdict, then the verdict of a block on the same transaction (which then holds it)."""
    made = case.make(bench)
    return bench.send(made), bench.in_block([made])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_embedded_chain_judges_as_written(case: Case, embedded: Bench) -> None:
    """Each spend gets the verdicts of the table, from relay and in a block."""
    assert judged(embedded, case) == (case.relay, case.block)


@pytest.mark.coin_node
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_litecoind_judges_alike_or_says_why(case: Case, real: Bench) -> None:
    """The real node gives the same verdicts, or other ones for a stated reason."""
    assert judged(real, case) == (case.elsewhere or (case.relay, case.block))


def test_table_is_whole() -> None:
    """A difference has a reason, a reason has a difference, names are unique, and the table has not shrunk."""
    assert len(CASES) >= CASES_MIN
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert bool(case.why) == (case.elsewhere is not None)
        assert case.elsewhere != (case.relay, case.block)
