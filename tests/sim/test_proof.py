"""`duxnet prove escrow`: the short form holds, sees at least so much, and is the same on one process and on two."""

import pytest

from dux_cli.command import run_main
from dux_cli.main import duxnet
from dux_sim.proof import report
from dux_sim.proof.cases import SCRIPTS, case_of, full_cases
from dux_sim.proof.mutations import MUTATIONS, hunt
from dux_sim.proof.report import Proof, walk_case
from dux_sim.proof.spread import spread
from dux_sim.proof.walk import Walk
from tests.sim.proof_kit import told_by_short_form

EXITS = ("award-0-3", "award-1000000000-3", "cancel", "refund", "release-1000000000", "unspent")
FIRST_SIX = [mutation for mutation in MUTATIONS if mutation.name[1:2] == ":"]


@pytest.mark.histories
@pytest.mark.timeout(2400)
def test_the_short_form_holds_and_has_seen_enough() -> None:
    """No law is broken, every fault is found, 200 histories are as the chain says; and none of it by seeing nothing."""
    told = told_by_short_form("escrow")
    assert told["cases"] >= 28
    both = {case["name"]: case["exits"] for case in told["variants"] if "bond" in case["name"]}
    assert any(exit_.endswith("award-0-3+bond") for exits in both.values() for exit_ in exits)
    assert told["exits"]["award-500000000-3"] >= 50
    assert told["exits"]["release-500000000"] >= 1
    assert told["transitions"] >= 200_000
    assert all(told["exits"][exit_] >= 500 for exit_ in EXITS)
    chain = told["chains"][0]
    assert (chain["differences"], chain["histories"] >= 200, chain["reorganised"] >= 50) == ([], True, True)
    forbidden = {what.partition(":")[0] for what in chain["refused"]}
    assert forbidden == {
        "a refund before its height", "a release of a coin that is gone", "a release without K", "a second way out",
        "an award with k - 1 arbiters",
    }  # fmt: skip
    assert all(chain["exits"][exit_] for exit_ in EXITS)
    climbed = {exit_ for exit_ in chain["exits"] if " x" in exit_}
    assert {exit_.partition(" ")[0] for exit_ in climbed} >= {
        "award-0-3", "award-1000000000-3", "release-1000000000"
    }  # fmt: skip
    assert {exit_.rpartition(" ")[2] for exit_ in climbed} == {"x4", "x16"}
    assert sum(number for exit_, number in chain["exits"].items() if exit_.endswith("'")) >= 10  # under another id
    assert told["histories_audited"] >= 600


def test_a_walk_is_the_same_on_one_process_and_on_two() -> None:
    case = case_of(SCRIPTS[0], "seller silent")
    one, two = (spread(walk_case, [case, case], jobs, lambda _line: None, "") for jobs in (1, 2))
    assert [(w.states, w.transitions, w.exits) for w in one] == [(w.states, w.transitions, w.exits) for w in two]


@pytest.mark.parametrize("mutation", FIRST_SIX[3:], ids=lambda mutation: mutation.name[0])
def test_without_the_fault_the_same_walk_is_quiet(mutation: object) -> None:
    """A hunt that would find something in the sound table, too, proves nothing."""
    case = mutation.case
    walk = Walk(case.name, case.setting, case.left)
    assert walk.run(4_000, story=mutation.story).violations == []
    assert hunt(mutation) is not None


def test_the_long_form_names_each_case_once() -> None:
    names = [case.name + str(case.eager) for case in full_cases()]
    assert len(set(names)) == len(names) >= 270


@pytest.mark.parametrize(
    ("cut_off", "differences", "verdict"),
    [
        ([], [], "holds"),
        (["a"], [], "holds, 1 case cut off"),
        (["a", "b"], [], "holds, 2 cases cut off"),
        (["a", "b"], ["one"], "does not hold, 2 cases cut off"),
    ],
)
def test_what_was_cut_off_stands_beside_the_verdict(
    cut_off: list[str],
    differences: list[str],
    verdict: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last line for a person; whether it holds, and the exit code, are not changed by it."""
    proof = Proof(
        cases=2, violations=[], exits={}, mutations_planted=0, mutations_found=0, quick=True, states=0, transitions=0,
        ends=0, cut_off=cut_off, variants=[], mutations=[], chains=[], histories_audited=0, differences=differences,
    )  # fmt: skip
    monkeypatch.setattr(report, "prove", lambda **_said: proof)
    try:
        code = run_main(duxnet, ["prove", "escrow", "--quick"])
    except SystemExit as end:
        code = end.code
    assert capsys.readouterr().out.splitlines()[-1].split(None, 1) == ["verdict", verdict]
    assert code == (1 if differences else 0)
