"""`duxnet prove channel`: the short form holds and has seen enough; a fault is found where the sound table is quiet."""

from collections.abc import Iterator
from typing import Any

import pytest

from dux_sim.proof.channel import walk
from dux_sim.proof.channel.cases import NOTHING, full_cases, quick_cases
from dux_sim.proof.channel.moment import Moment
from dux_sim.proof.channel.moves import arrivals
from dux_sim.proof.channel.mutations import MUTATIONS, hunt
from dux_sim.proof.channel.nodes import SOUND
from dux_sim.proof.channel.walk import Walk
from dux_sim.proof.channel.world import World
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


def test_faults_of_sight_are_found_and_nothing_else_is() -> None:
    """What an output beside the coin, or a reorganisation of both, would freeze is seen by the walk's laws."""
    blind = [mutation for mutation in MUTATIONS if mutation.sight != SOUND]
    assert len(blind) == 3
    for mutation in blind:
        case = mutation.case
        assert Walk(case.name, case.setting, case.left).run(4_000).violations == []
        found = hunt(mutation)
        assert found is not None
        assert any("stranger" in move or "deep" in move for move in found.trace)


@pytest.mark.parametrize("mutation", FIRST, ids=lambda mutation: mutation.name)
def test_without_the_fault_the_same_walk_is_quiet(mutation: object) -> None:
    """A hunt that would find something in the sound tables, too, proves nothing."""
    case = mutation.case
    assert Walk(case.name, case.setting, case.left).run(4_000).violations == []
    assert hunt(mutation) is not None


def test_the_long_form_names_each_case_once() -> None:
    names = [case.name for case in full_cases()]
    assert len(set(names)) == len(names) >= 35


DIMENSIONS = {
    "repetition": ("(1)",),
    "crashes at every write": (", and crashes after the write", "payer crashes and starts", "payee crashes and starts"),
    "restored backups on either side": ("the payer's copy is put back", "the payee's copy is put back"),
    "reorganisations": ("the funding comes back under another id", "the spend waits again", "the spend is forgotten"),
    "deep reorganisations": ("a deep one takes spend and funding, which comes back under another id",),
    "outputs of strangers": ("a stranger pays the script too little",),
    "fees: a spend that a block leaves out, and what asks for more": ("a block that leaves it out",),
    "delay of blocks": ("a block that the payer sees late", "a block that the payee sees late"),
    "a side that is away": ("the payee goes offline", "the payee is back"),
    "failure, fuel, giving up": ("fails", "gets more fuel", "gives call"),
}


def test_every_accident_of_the_issue_is_a_dimension_of_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind is offered and taken somewhere in the short form; messages are lost, late, again and out of order."""
    plain, seen, order = walk.moves, set[str](), {"again": 0, "either first": 0, "none": 0}

    def watched(world: World, moment: Moment) -> Iterator[tuple[str, int, Any]]:
        found = list(plain(world, moment))
        seen.update(name for name, _, _ in found)
        arriving = [name for name, _, _ in arrivals(world, moment)]
        order["either first"] += len(arriving) > 1
        order["none"] += bool(arriving) and any(name == "a block" for name, _, _ in found)
        order["again"] += any("(1)" in name for name in arriving)
        return iter(found)

    monkeypatch.setattr(walk, "moves", watched)
    honest = [
        case for case in quick_cases() if not case.setting.liars and (case.left != NOTHING or case.setting.metered)
    ]
    for case in honest:
        assert Walk(case.name, case.setting, case.left).run(40_000).violations == []
    for dimension, names in DIMENSIONS.items():
        for name in names:
            assert any(name in one for one in seen), f"{dimension}: {name}"
    assert all(order.values()), order
