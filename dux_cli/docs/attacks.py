"""The page of attacks, read from the marks in the tests: what is tried on which layer, and what it must meet.

Nothing is run: the marks hold literals. What a run met, `duxnet attacks` prints.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dux_cli.docs.tables import markdown_table

PREFACE = """# Attacks that are tried at every run of the tests

Made by `duxnet docs` from the marks in `tests/`; do not edit. `./duxnet attacks` runs them all and prints what each one
met. What they defend, and what is accepted, is in [the threat model](threat-model.md)."""


@dataclass(frozen=True)
class Attack:
    """One marked test."""

    layer: str
    tries: str
    meets: str
    test: str  # path::name, without parameters


def attacks_in(tests: Path, root: Path) -> list[Attack]:
    """Every marked test below a folder, in the order of the files."""
    return [found for path in sorted(tests.rglob("test_*.py")) for found in _in_file(path, root)]


def _in_file(path: Path, root: Path) -> Iterator[Attack]:
    text = path.read_text()
    if "@attack(" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "attack":
                    words = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in mark.keywords}
                    layer = ast.literal_eval(mark.args[0])
                    yield Attack(layer, words["tries"], words["meets"], f"{path.relative_to(root)}::{node.name}")


def layers_in(tests: Path) -> list[str]:
    """The layers as the registry of attacks orders them: from the outside in."""
    for node in ast.parse((tests / "attacks" / "registry.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "LAYERS":
            return list(ast.literal_eval(node.value))
    raise LookupError("tests/attacks/registry.py holds no LAYERS")


def attacks_page(attacks: list[Attack], layers: list[str]) -> str:
    """All of them by layer."""
    parts = [PREFACE]
    for layer in layers:
        rows = [(one.tries, one.meets, f"`{one.test}`") for one in attacks if one.layer == layer]
        if rows:
            parts.append(f"## {layer}\n\n{markdown_table(('what is tried', 'what it meets', 'test'), rows)}")
    return "\n\n".join(parts) + "\n"
