"""`duxnet prove channel`: the short form holds and has seen enough; a fault is found where the sound table is quiet."""

import pytest

from dux_sim.proof.channel.cases import full_cases
from dux_sim.proof.channel.mutations import MUTATIONS, hunt
from dux_sim.proof.channel.walk import Walk
from tests.sim.proof_kit import told_by_short_form

EXITS = ("close 1", "close 2", "close 3", "final 0", "final 1", "final 2", "refund 0")
FIRST = [mutation for mutation in MUTATIONS if mutation.name[1:2] == ":"]


@pytest.mark.histories
@pytest.mark.timeout(2400)
def test_the_short_form_holds_and_has_seen_enough() -> None:
    """No law is broken, every fault is found, the chain says what the walk says; and none of it by seeing nothing."""
    told = told_by_short_form("channel")
    assert told["cases"] >= 13
    assert told["states"] >= 150_000
    assert all(told["exits"][exit_] >= 10 for exit_ in EXITS)
    chain = told["chains"][0]
    assert (chain["differences"], chain["histories"] >= 30, chain["reorganised"] >= 3) == ([], True, True)
    forbidden = {what.partition(":")[0] for what in chain["refused"]}
    assert forbidden == {
        "a refund before its height", "a refund after the close", "another voucher after the close",
        "a stranger with a voucher", "a state that the payer has not signed", "a voucher for a coin that is gone",
        "a voucher for another coin",
    }  # fmt: skip
    assert told["histories_audited"] >= 60


@pytest.mark.parametrize("mutation", FIRST, ids=lambda mutation: mutation.name)
def test_without_the_fault_the_same_walk_is_quiet(mutation: object) -> None:
    """A hunt that would find something in the sound tables, too, proves nothing."""
    case = mutation.case
    assert Walk(case.name, case.setting, case.left).run(4_000).violations == []
    assert hunt(mutation) is not None


def test_the_long_form_names_each_case_once() -> None:
    names = [case.name for case in full_cases()]
    assert len(set(names)) == len(names) >= 35
