"""Laws of the contract files: what two daemons share must be exact, complete and unambiguous."""

from __future__ import annotations

import importlib
import pkgutil
import re
from graphlib import TopologicalSorter
from pathlib import Path

import msgspec
import pytest

import common.contracts
from common.codec import from_plain, to_plain
from common.errors import DuxError, all_errors
from common.rpc.method import ANYONE, CALL_GRAPH, DAEMONS, Method, methods_in

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    importlib.import_module(f"common.contracts.{info.name}") for info in pkgutil.iter_modules(common.contracts.__path__)
]
METHODS = list({id(method): method for module in MODULES for method in methods_in(module)}.values())

BLOCKS = {
    "common": (1000, 1999),
    "wallet": (2000, 2999),
    "escrow": (3000, 3999),
    "airdrop": (4000, 4999),
    "registry": (5000, 5999),
    "store": (6000, 6999),
    "task": (7000, 7999),
    "p2p": (8000, 8999),
}


def test_every_daemon_has_contracts() -> None:
    """Each of the seven daemons serves something."""
    domains = {module.__name__.rsplit(".", 1)[-1] for module in MODULES if methods_in(module)}
    assert {"p2p", "wallet", "escrow", "airdrop", "registry", "store", "task"} <= domains


def test_method_names_are_unique() -> None:
    """One name, one method."""
    names = [method.name for method in METHODS]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_examples_are_of_their_types(method: Method) -> None:
    """The documented call and answer decode as the contract says: the documents cannot drift."""
    given, answer = method.example
    assert type(given) is method.params
    assert from_plain(msgspec.json.decode(msgspec.json.encode(to_plain(given))), method.params) == given
    assert from_plain(msgspec.json.decode(msgspec.json.encode(to_plain(answer))), method.result) == answer


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_contracts_are_complete(method: Method) -> None:
    """A summary that ends as a sentence, callers that exist, a deadline, errors that are ours."""
    assert method.summary.endswith(".")
    assert method.callers
    assert set(method.callers) <= set(ANYONE)
    assert 0 < method.deadline_max_s <= 600
    assert all(issubclass(error, DuxError) for error in method.raises)


def test_no_daemon_calls_upward_or_itself() -> None:
    """Callers named by a contract stand above the daemon in the call graph, which has no cycle."""
    owner = {"p2p": "p2pd", "wallet": "flopd", "escrow": "escrowd", "airdrop": "airdropd"}
    owner |= {"registry": "registryd", "store": "stored", "task": "taskd"}
    edges = {
        (caller, owner[module.__name__.rsplit(".", 1)[-1]])
        for module in MODULES
        if module.__name__.rsplit(".", 1)[-1] in owner
        for method in methods_in(module)
        for caller in method.callers
        if caller in DAEMONS and set(method.callers) != set(ANYONE)
    }
    assert [edge for edge in sorted(edges) if edge[1] not in CALL_GRAPH[edge[0]]] == []
    tuple(TopologicalSorter(CALL_GRAPH).static_order())  # raises on a cycle


def test_every_error_that_is_declared_is_raised() -> None:
    """An error that nobody raises is a promise in the documents that the program does not keep."""
    families = {"DuxError", "CallerMistake", "NotNow", "Unavailable", "PeerMisbehaved"}
    sources = [path.read_text() for package in ("common", "dux_*") for path in ROOT.glob(f"{package}/**/*.py")]
    declared = [error.__name__ for error in all_errors() if error.__module__.startswith(("common.", "dux_"))]
    used = re.compile(r"(?<!class )\b([A-Z]\w+)\(|raise ([A-Z]\w+)\b")
    raised = {one or other for text in sources for one, other in used.findall(text)}
    assert sorted(set(declared) - raised - families) == []


def test_error_codes_are_unique_and_in_their_blocks() -> None:
    """A program can tell every error by its number, and a person by its text."""
    errors = [error for error in all_errors() if error.__module__.startswith(("common.", "dux_"))]
    codes: dict[int, str] = {}
    for error in errors:
        assert error.code not in codes or codes[error.code] == error.__name__, (error, codes[error.code])
        codes[error.code] = error.__name__
        assert (error.__doc__ or "").strip().splitlines()[0].endswith((".", "?")), error
        assert error.key == error.key.lower()
    for error in errors:
        if error.__module__.startswith("common.contracts."):
            domain = error.__module__.rsplit(".", 1)[-1].removesuffix("_errors")
            low, high = BLOCKS.get(domain, (1000, 8999))
            assert low <= error.code <= high, error
