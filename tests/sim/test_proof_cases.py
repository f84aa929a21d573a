"""The long form's list: each case once, and what was left out is walked as a part of another case."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from dux_sim.proof.cases import PARTIES, SCRIPTS, Case, Script, broad_cases, case_of, full_cases, inclusion
from dux_sim.proof.cast import Setting
from dux_sim.proof.search import LawBroken
from dux_sim.proof.states import Allowance, Moment, key_of
from dux_sim.proof.walk import Walk

STANDBY, SWAP, _OVER_LIMIT, PLAIN = SCRIPTS
ACCIDENT: Allowance = (1, 0, 0, 1)
LIE: Allowance = (0, 1, 0, 1)
MOMENTS_MAX = 500


def likeness(case: Case, setting: Setting) -> object:
    """What makes two cases the same walk: arbiters are counted, not named."""
    panel = set(setting.panel)
    arbiters = [len(names & panel) for names in (setting.liars, setting.silent)]
    parties = [tuple(sorted(names - panel)) for names in (setting.liars, setting.silent)]
    return repr((setting.deal, arbiters, parties, setting.worth_florins, setting.parts, case.left))


def test_whatever_is_left_out_of_the_long_form_is_a_part_of_a_case_that_stays() -> None:
    kept = full_cases()
    stays = {likeness(case, case.setting) for case in kept}
    left_out = [case for case in broad_cases() if inclusion(case) is not None]
    assert len(left_out) >= 100
    for case in left_out:
        assert any(likeness(case, wider) in stays for wider in wider_ones(case)), case.name


def wider_ones(case: Case) -> Iterator[Setting]:
    """The inclusions, one after another."""
    wider = inclusion(case)
    while wider is not None:
        yield wider
        wider = inclusion(replace(case, setting=wider))


@dataclass
class Both:
    """A case and the one that has all of it."""

    case: Walk
    wider: Walk

    def agree(self, moment: Moment) -> list[Moment]:
        """Each move of the case is one of the wider, too, and comes to the same moment or breaks the same law."""
        wider = dict(self.wider.ways(moment))
        ends = [(act, wider[name]) for name, act in self.case.ways(moment)]
        found = []
        for one, two in ((after(act), after(other)) for act, other in ends):
            assert told(one) == told(two)
            found += [one] if isinstance(one, Moment) else []
        return found


def after(act: object) -> Moment | str:
    try:
        return act()  # type: ignore[operator,no-any-return]
    except LawBroken as broken:
        return str(broken)


def told(after_move: Moment | str) -> object:
    return key_of(after_move) if isinstance(after_move, Moment) else after_move


@pytest.mark.parametrize(
    ("script", "parties", "bought", "silent", "left"),
    [
        (STANDBY, "buyer silent", 0, 0, ACCIDENT),
        (STANDBY, "buyer silent", 2, 0, LIE),
        (SWAP, "both honest", 0, 1, ACCIDENT),
        (SWAP, "both honest", 0, 2, LIE),
        (PLAIN, "seller lies, bad work", 0, 3, LIE),
    ],
)
def test_a_case_that_is_left_out_is_walked_within_the_other(
    script: Script, parties: str, bought: int, silent: int, left: Allowance
) -> None:
    case = case_of(script, parties, bought=bought, silent=silent, left=left)
    wider = inclusion(case)
    assert wider is not None
    both = Both(Walk(case.name, case.setting, left), Walk(case.name, wider, left))
    start = both.case.start()
    assert key_of(start) == key_of(both.wider.start())
    queue, known = [start], {key_of(start)}
    for moment in queue:  # grows while it is walked
        for one in both.agree(moment) if len(queue) < MOMENTS_MAX else ():
            if key_of(one) not in known:
                known.add(key_of(one))
                queue.append(one)
    assert len(queue) >= MOMENTS_MAX // 4


def test_two_cases_are_two_where_something_differs() -> None:
    """With standby a bought arbiter answers pings; two that are bought move together, and are k."""
    assert inclusion(case_of(STANDBY, "both honest", silent=1)) is None
    assert inclusion(case_of(SWAP, "both honest", bought=1, silent=1)) is None
    assert inclusion(case_of(SWAP, "both honest", bought=2, silent=1)) is None
    assert all(inclusion(case_of(SWAP, parties)) is None for parties in PARTIES if parties != "buyer silent")
