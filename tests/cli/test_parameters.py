"""The parameter set: versions that follow one another, signed by the founders, refused with words that help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from common.network import NetworkProfile, load_profile
from common.parameter_file import load_network, parameters_file
from common.parameters import (
    FORM,
    AirdropParameters,
    BondedParameters,
    ParametersRefused,
    bounds_problem,
    chain_problem,
    form_problem,
    in_force,
    next_set,
    set_problem,
    step_problem,
    version_problem,
)
from common.units import FLOP, Florins
from tests.cli.test_network import CHAIN, NOW_MS, Desk

PROFILE = NetworkProfile(name="x", chain="embedded", genesis="ab" * 32, heights="demo")
FIRST = PROFILE.first_parameters
SECOND = next_set(FIRST, from_height=100, tax_bps=400)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_a_set_is_proposed_signed_and_taken_once_its_height_has_come(desk: Desk) -> None:
    """One signature is too few; two let every node take it; daemons then read the new figures from one place."""
    file = desk.found("a", "b", "c")
    for name in "ab":
        desk.types("network", "sign", str(file), node=name)
    desk.types("init", "--network", str(file), *CHAIN, node="a")
    out = str(desk.home / "next.yaml")
    words = ("parameters", "propose", "--from-height", "100", out)
    assert "quarter at once" in desk.types(*words, "--set", "tax_bps=100", node="a", code=3)
    assert "no figure" in desk.types(*words, "--set", "tax=100", node="a", code=3)
    changes = ("--set", "tax_bps=450", "--set", f"airdrop.threshold_florins={110 * FLOP}")
    desk.types(*words, *changes, node="a")
    take = ("parameters", "apply", out, "--tip")
    assert "0 of the council's 3 have signed it, 2 are needed" in desk.types(*take, "100", node="a", code=3)
    for name in "ab":
        desk.types("parameters", "sign", out, "--profile", str(file), node=name)
    assert "from height 100 on and the chain is at 99" in desk.types(*take, "99", node="a", code=4)
    desk.types(*take, "100", node="a")
    shown = json.loads(desk.types("parameters", "show", "--json", node="a"))
    assert (shown["parameters"]["version"], shown["parameters"]["tax_bps"], shown["versions"]) == (2, 450, 2)
    profile = load_network(desk.home / "a/config/network.yaml", now_ms=NOW_MS)
    assert (profile.tax_bps, profile.airdrop.threshold_florins) == (450, Florins(110 * FLOP))
    assert profile.taxes_bps == {450, 500}
    assert load_profile(desk.home / "a/config/network.yaml").tax_bps == 500, "the profile's own words stay signed"
    assert "version 2, the one after 2 is needed" in desk.types(*take, "100", node="a", code=3)


def test_a_file_with_one_bad_set_is_refused_as_a_whole(desk: Desk) -> None:
    """Changed after signing, of a newer form, not a list, missing fields: each with its number and what to do."""
    file = desk.found("a", "b")
    beside, out = parameters_file(file), str(desk.home / "next.yaml")
    for name in "ab":
        desk.types("network", "sign", str(file), node=name)
    desk.types("init", "--network", str(file), *CHAIN, node="a")
    desk.types("parameters", "propose", "--from-height", "9", "--set", "tax_bps=450", out, node="a")
    for name in "ab":
        desk.types("parameters", "sign", out, "--profile", str(file), node=name)
    sound: list[Any] = yaml.safe_load(Path(out).read_text())
    beside.write_text(yaml.safe_dump(sound))
    assert load_network(file, now_ms=NOW_MS).parameters.version == 2
    for key, value, word in (
        ("tax_bps", 460, "0 of the council's 2"),
        ("form", FORM + 1, "update the program"),
        ("form", "x", "unknown"),
        ("version", 3, "the one after 1"),
        ("before", "00", "does not rest on"),
        ("network", "cd" * 32, "of network"),
        ("nonsense", 1, "unknown field"),
        ("from_height", 0, "later height"),
    ):
        changed = [sound[0] | {"parameters": sound[0]["parameters"] | {key: value}}]
        beside.write_text(yaml.safe_dump(changed))
        with pytest.raises(ParametersRefused, match=word):
            load_network(file, now_ms=NOW_MS)
    for text in ("{", "a: 1", "- 3"):
        beside.write_text(text)
        with pytest.raises(ParametersRefused):
            load_network(file, now_ms=NOW_MS)


def test_versions_have_words() -> None:
    """Equal, newer here, newer there; a form from the future and one that never was."""
    assert version_problem(2, 2) == ""
    assert "get the newer set" in version_problem(3, 2)
    assert "its maker has to take" in version_problem(1, 2)
    assert form_problem(FORM) == ""
    assert "update the program" in form_problem(FORM + 1)
    assert "unknown" in form_problem(0)


def test_the_set_of_a_height() -> None:
    """The latest that holds; before the second holds, the first."""
    assert [in_force((FIRST, SECOND), height).version for height in (0, 99, 100, 5000)] == [1, 1, 2, 2]


BAD_STEPS = [
    ({"version": 3}, "the one after 1"),
    ({"before": "00"}, "does not rest"),
    ({"from_height": 0}, "later height"),
    ({"tax_bps": 626}, "tax_bps goes from 500 to 626"),
    ({"tax_bps": 399}, "tax_bps goes from 500 to 399"),
    ({"airdrop": AirdropParameters(threshold_florins=Florins(126 * FLOP))}, "threshold"),
]


@pytest.mark.parametrize(("changes", "word"), BAD_STEPS)
def test_each_bad_step_has_its_word(changes: dict[str, Any], word: str) -> None:
    """Number, parent, height, and at most a quarter at once."""
    assert step_problem(FIRST, SECOND) == ""
    assert word in step_problem(FIRST, replace(SECOND, **changes))


def test_bounds_hold_everywhere_and_main_has_its_own() -> None:
    """Outside the constitution: on any network, and on main alone."""
    assert bounds_problem(500, AirdropParameters()) == ""
    assert "tax_bps" in bounds_problem(1001, AirdropParameters())
    assert "min_reputation" in bounds_problem(500, AirdropParameters(min_reputation=1.5))
    low = AirdropParameters(bonded=BondedParameters(bond_least_florins=Florins(FLOP)))
    assert bounds_problem(500, low) == ""
    plain = replace(FIRST, airdrop=low)
    assert set_problem(plain, is_main=False) == ""
    assert "bond_least_florins must be between" in set_problem(plain, is_main=True)
    assert set_problem(FIRST, is_main=True) == ""
    assert chain_problem((FIRST, SECOND), "ab" * 32, is_main=True) == (0, "")
    assert chain_problem((FIRST,) * 1001, "ab" * 32, is_main=False)[1].startswith("a network has at most")
