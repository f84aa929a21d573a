"""The list of attacks: whatever attacks stands in it, and a person can read what came of it."""

import ast
import re
from pathlib import Path

import pytest

from dux_cli.attacks import told
from dux_cli.docs.attacks import attacks_in, attacks_page, layers_in
from tests.attacks.registry import LAYERS

ROOT = Path(__file__).resolve().parents[2]
NAMED_FOR_ATTACKS = ("attack", "hostile", "lying", "slow_loris", "dead_peers")
CONTROLS = {  # they show that the kit is honest, or how this node itself behaves
    "test_told_truthfully_the_client_gets_in",
    "test_liars_are_the_nearest",
    "test_this_node_does_not_flood_either",
    "test_an_address_that_is_none_says_how_to_write_one",
    "test_gossip_rests_while_a_session_is_replaced",
}


def test_a_file_that_is_named_for_attacks_holds_attacks_alone() -> None:
    """Each of its tests is marked, so none is missing in docs/attacks.md and `duxnet attacks`."""
    marked = {one.test for one in attacks_in(ROOT / "tests", ROOT)}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if any(word in path.stem for word in NAMED_FOR_ATTACKS) and path.name != Path(__file__).name:
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    assert f"{path.relative_to(ROOT)}::{node.name}" in marked or node.name in CONTROLS


def test_every_layer_is_attacked_and_the_page_keeps_their_order() -> None:
    """From the outside in, as the registry has them."""
    found = attacks_in(ROOT / "tests", ROOT)
    assert layers_in(ROOT / "tests") == list(LAYERS)
    page = attacks_page(found, list(LAYERS))
    places = [page.index(f"\n## {layer}\n") for layer in LAYERS]
    assert places == sorted(places)


def row(test: str, outcome: str = "passed", met: str = "", layer: str = "TLS") -> dict[str, object]:
    return {"test": test, "layer": layer, "tries": "tries x " * 20, "meets": "refused", "outcome": outcome, "met": met}


def test_a_person_reads_each_attack_once_within_the_width() -> None:
    """Cases of one test are one attack; what was measured stands below it."""
    lines = list(told([row("a::t[1]", met="closed"), row("a::t[2]", met="closed")], ["TCP", "TLS"], 60))
    assert lines[0] == "TLS: 2 attacks, all held"
    assert lines[-1] == "2 attacks, all held on 1 layer"
    assert [line.strip() for line in lines].count("closed") == 1
    assert sum("✓" in line for line in lines) == 1
    assert "(2 cases)" in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    ("outcome", "sign", "said"), [("failed", "✗", "GOT THROUGH: a::t[2]"), ("skipped", "  - ", "")]
)
def test_what_got_through_and_what_was_skipped_is_said_aloud(outcome: str, sign: str, said: str) -> None:
    """By the name of its test; a skipped attack is no attack that held."""
    lines = list(told([row("a::t[2]", outcome), row("a::u", met="held")], ["TLS"], 100))
    assert any(sign in line for line in lines)
    assert said in "\n".join(lines)
    assert "all held" not in "\n".join(lines)
    assert "1 held, 1 " in lines[-1]


def test_many_outcomes_are_cut_for_a_person() -> None:
    """Four, and how many more there are."""
    text = "\n".join(told([row(f"a::t[{n}]", met=f"outcome {n}") for n in range(9)], ["TLS"], 100))
    assert "outcome 3" in text
    assert "outcome 4" not in text
    assert "5 more outcomes" in text


def test_every_defence_of_the_threat_model_names_attacks_that_are_tried() -> None:
    """The short names in its column «shown by» are parts of names of marked tests."""
    text = (ROOT / "docs" / "threat-model.md").read_text()
    shown = [line.split("|")[3] for line in text.partition("## Layer by layer")[2].splitlines() if line.count("|") == 5]
    named = [name for cell in shown for name in re.findall(r"`(\w+)`", cell)]
    tried = [one.test for one in attacks_in(ROOT / "tests", ROOT)]
    assert len(named) > 50
    assert [name for name in named if not any(name in test for test in tried)] == []
