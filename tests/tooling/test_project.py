"""Laws about the project itself: its contracts are complete, its pages fresh, its lock files bare."""

import re
import tomllib
from pathlib import Path

import pytest

from dux_cli.docs.command import differing, pages
from dux_cli.testing import PACKAGES as TEST_PACKAGES
from dux_cli.testing import rules_modules

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ["requirements-build.lock", "requirements.lock", "requirements-dev.lock"]
PACKAGES = sorted(
    path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name.startswith(("bench", "common", "dux_"))
)


def contract(name: str) -> dict[str, object]:
    return next(found for found in PROJECT["tool"]["importlinter"]["contracts"] if found["id"] == name)


def test_every_rules_module_is_held_to_purity() -> None:
    """A module that is named for its rules is in the contract that forbids it time, files and chance."""
    named = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "rules" in path.stem.split("_")
    }
    assert set(contract("pure-rules")["source_modules"]) >= named


def test_every_branch_of_every_rules_module_counts() -> None:
    """What is held to purity is held to full coverage too: no module that only decides is left out of either."""
    counted = {name.removesuffix(".py").replace("/", ".") for name in rules_modules()}
    assert counted == set(contract("pure-rules")["source_modules"])
    assert all((ROOT / name).is_file() for name in rules_modules())
    assert {"common.chain.contract_rules", "dux_sim.chain.tx_rules", "dux_escrowd.rules"} <= counted


def test_every_package_is_watched() -> None:
    """Imports, types and coverage know every package of the project."""
    assert sorted(PROJECT["tool"]["importlinter"]["root_packages"]) == PACKAGES
    assert sorted(PROJECT["tool"]["coverage"]["run"]["source"]) == PACKAGES


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_names_versions_and_hashes_and_no_place(name: str) -> None:
    """Every package has an exact version and a hash; no index, no address, no path of somebody's machine."""
    text = (ROOT / name).read_text()
    packages = re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n?", "", text).strip())
    assert packages
    for package in packages:
        assert re.match(r"[A-Za-z0-9._-]+==[^\s]+ \\\n", package), package[:80]
        assert "--hash=sha256:" in package
    assert not re.search(r"://|--index|--extra|--find|--trusted|/tmp|/home|/root", text)


def test_declared_dependencies_are_locked() -> None:
    """What pyproject.toml asks for is in the lock files, so that the launcher installs it."""
    locked = {
        line.split("==")[0].lower() for name in LOCKS for line in (ROOT / name).read_text().splitlines() if "==" in line
    }
    asked = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    normal = {re.match(r"[A-Za-z0-9._-]+", name)[0].lower().replace("_", "-") for name in asked}
    assert normal <= locked


def test_generated_pages_are_fresh() -> None:
    """API pages, errors, diagrams and READMEs' tables say what the program does; `duxnet docs` writes them anew."""
    assert differing(pages()) == []


def test_a_new_machine_installs_what_the_tests_need() -> None:
    """`.ci/run` and `duxnet test` as root install the same packages; the former Python's own environments as well."""
    text = (ROOT / ".ci/run").read_text().replace("\\\n", " ")
    listed = re.search(r"install -y --no-install-recommends (.*?) >", text)
    assert listed is not None
    assert set(listed[1].split()) == {*TEST_PACKAGES, "python3-venv"}
