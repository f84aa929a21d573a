"""The parameter set: versions that follow one another, signed by the founders, refused with words that help."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from common.council import Known, signed_words
from common.identity.log import encode_log
from common.identity.purposes import Purpose
from common.identity.signed import Signed
from common.network import NetworkProfile, load_profile
from common.parameter_file import (
    SignedSet,
    load_network,
    parameters_file,
    read_sets,
    taking_problem,
    under,
    waiting_file,
)
from common.parameters import (
    FORM,
    AirdropParameters,
    BondedParameters,
    ParameterSet,
    ParametersRefused,
    bounds_problem,
    chain_problem,
    form_problem,
    in_force,
    next_set,
    set_bytes,
    set_problem,
    step_problem,
    version_problem,
)
from common.units import FLOP, Florins
from tests.cli.test_network import CHAIN, NOW_MS, Desk
from tests.identity.log_kit import ICP, LATER_MS, ROT1, log
from tests.identity.log_kit import key as log_key

pytestmark = pytest.mark.patient

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
    take = ("parameters", "apply", out, "--offline", "--tip")
    assert "0 of the council's 3 have signed it, 2 are needed" in desk.types(*take, "100", node="a", code=3)
    for name in "ab":
        desk.types("parameters", "sign", out, "--profile", str(file), node=name)
    said = desk.types(*take, "99", node="a")
    assert "at height 100, the chain is at 99" in said
    waiting = waiting_file(desk.home / "a/config/network.yaml")
    assert [one.parameters.version for one in read_sets(waiting)] == [2]
    assert load_network(desk.home / "a/config/network.yaml", now_ms=NOW_MS).tax_bps == 500
    assert "2 from 100" in desk.types("parameters", "show", node="a")
    assert "version 2, the one after 2 is needed" in desk.types(*take, "100", node="a", code=3)
    waiting.unlink()
    assert "now" in desk.types(*take, "100", node="a")
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


ALONE = replace(PROFILE, council=(log(ICP).did,))
THIRD = next_set(SECOND, from_height=200, tax_bps=420)
ROTATED = Known(logs=(log(ICP, ROT1),), only=frozenset(ALONE.council))


def by_founder(one: ParameterSet, name: str, *events: Signed) -> SignedSet:
    """A set signed by the only founder with this key, as the last of these events or of earlier ones sets it."""
    own = log(*events)
    signature = signed_words(
        Purpose.PARAMETERS, set_bytes(one), own.did, encode_log(own), log_key(name), int(name.removeprefix("a"))
    )
    return SignedSet(parameters=one, signatures=(signature,))


OLD_SECOND, NEW_SECOND = by_founder(SECOND, "a0", ICP), by_founder(SECOND, "a1", ICP, ROT1)
OLD_THIRD, NEW_THIRD = by_founder(THIRD, "a0", ICP), by_founder(THIRD, "a1", ICP, ROT1)
NOT_FOUND = Known(only=frozenset())
TAKEN = [
    ("by the key of now", (), (NEW_SECOND,), ROTATED, ""),
    ("by a replaced key", (), (OLD_SECOND,), ROTATED, r"0 of the council's 1 .* \(1 more by keys since replaced"),
    ("by a replaced key, and nobody asked", (), (OLD_SECOND,), Known(), ""),
    ("by a name that was not found", (), (OLD_SECOND,), NOT_FOUND, r"\(1 more by keys"),
    ("vouched for by a later set", (), (OLD_SECOND, NEW_THIRD), ROTATED, ""),
    ("nobody asked, but a held set tells of the new key", (NEW_SECOND,), (OLD_THIRD,), Known(), "0 of the council's 1"),
    ("by a replaced key, on a held set", (OLD_SECOND,), (OLD_THIRD,), ROTATED, "0 of the council's 1"),
    ("empty", (OLD_SECOND,), (), ROTATED, "holds no set"),
]


@pytest.mark.parametrize(("_why", "before", "new", "known", "word"), TAKEN, ids=[one[0] for one in TAKEN])
def test_what_was_signed_before_a_rotation(
    _why: str, before: tuple[SignedSet, ...], new: tuple[SignedSet, ...], known: Known, word: str
) -> None:
    """A set is taken by keys of now, its own or a later set's; once taken it is loaded, whatever became of the keys."""
    found = taking_problem(ALONE, before, new, now_ms=LATER_MS, known=known)
    assert re.search(word, found) if word else not found
    loaded = under(ALONE, (*before, *new), path=Path("x"), now_ms=LATER_MS)
    assert loaded.parameters == (*before, *new)[-1].parameters


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
