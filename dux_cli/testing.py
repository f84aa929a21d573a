"""`duxnet test`: every check of the project, in the order from quick to slow, ending with pytest's own summary line.

Promises: what is missing on the machine is installed where this may be done (root on Debian), else said aloud before
the tests that need it are skipped; with --all nothing may be missing. Exit code 0 means that every check passed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = [
    "litecoind",
    "bubblewrap",
    "docker.io",
    "iptables",
    "docker-compose",
    "clang",
    "curl",
    "lld",
    "make",
    "libseccomp2",
    "softhsm2",
    "swtpm",
    "tpm2-tools",
    "microsocks",
    "tor",
    "systemd",
    "systemd-container",
    "mmdebstrap",
    "iproute2",
]  # Debian's, for the real coin node, sandbox, wasm, token, TPM, Tor, containers, the booted units
JAVASCRIPT = ("nodejs", "npm")  # Debian's too, where no other make of them is installed: they would shut each other out
TOOLS = {
    "litecoind": "tests against a real coin node",
    "iptables": "tests of several hosts with NAT",
    "bwrap": "tests of the native sandbox",
    "dockerd": "tests in containers",
    "docker-compose": "tests in containers",
    "curl": "tests of buyers over HTTP",
    "npm": "tests of x402's JavaScript client",
    "clang": "the rebuild of the example's wasm",
    "wasm-ld": "the rebuild of the example's wasm",
    "softhsm2-util": "tests of keys in a PKCS#11 token",
    "swtpm": "tests of TPM quotes",
    "tpm2_quote": "tests of TPM quotes",
    "tor": "tests of the egress through Tor",
    "make": "the rebuild of the example's wasm",
    "systemd-analyze": "the lint of the systemd units",
    "systemd-nspawn": "the boot of the systemd units",
    "mmdebstrap": "the boot of the systemd units, and tests in containers",
    "ip": "the boot of the systemd units",
}
ALL_VARIABLE = "DUX_TEST_ALL"  # read by tests/conftest.py: a missing tool fails a test instead of skipping it
SECOND_TRY = (
    "--reruns",
    "1",
)  # docs/decisions/second-try.md says why; tests/conftest.py tells the first failure
SECOND_TRIES_MAX = 3  # of a run; one test in a thousand met bad luck, more is a fault
SLOW = ("constellation", "coin_node", "sandbox", "nspawn", "containers", "histories", "patient")


@dataclass(frozen=True)
class Aside:
    """Tests that run in a process of their own beside the rest, which mostly waits."""

    name: str
    marks: str
    folders: tuple[str, ...]
    only_computes: bool = False  # no verdict depends on how long it takes: it gets what others leave of the processors


ASIDES = (
    Aside("histories", "histories", ("tests/rules", "tests/sim"), only_computes=True),
    Aside("machines", "containers or nspawn", ("tests/containers", "tests/systemd")),
)


@dataclass(frozen=True)
class Check:
    """One command, what it proves, and whether `--fast` leaves it out."""

    what: str
    command: tuple[str, ...]
    slow: bool = False


def checks(python: str) -> list[Check]:
    """The checks that look at the source; tools are run from the environment that runs this."""
    tools = Path(python).parent
    return [
        Check("ruff", (python, "-m", "ruff", "check", "--quiet", ".")),
        Check("ruff format", (python, "-m", "ruff", "format", "--check", "--quiet", ".")),
        Check("import-linter", (str(tools / "lint-imports"), "--no-cache")),
        Check("mypy --strict", (python, "-m", "mypy", "--no-error-summary", *typed_packages()), slow=True),
    ]


def typed_packages() -> list[str]:
    """The packages that mypy reads: common, the benchmarks and every dux_*."""
    return ["bench", "common", *sorted(path.name for path in CHECKOUT.glob("dux_*") if (path / "__init__.py").exists())]


def missing_tools(find: Callable[[str], str | None] = shutil.which) -> dict[str, str]:
    """Programs that some tests need and this machine lacks, with what they are for."""
    return {tool: purpose for tool, purpose in TOOLS.items() if find(tool) is None}


def install_tools() -> None:
    """As root on Debian, install what the tests need; elsewhere do nothing."""
    if not missing_tools() or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    packages = [*PACKAGES, *(() if shutil.which("npm") else JAVASCRIPT)]
    click.echo(f"installing {' '.join(packages)} (apt-get) …", err=True)
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "-qq", "update"], ["apt-get", "-qq", "install", "-y", "--no-install-recommends"]):
        words = [*command, *(packages if "install" in command else [])]
        subprocess.run(words, check=False, env=environment, **quiet)  # type: ignore[call-overload]


def run_check(check: Check) -> bool:
    """Run it; its output is shown only when it fails."""
    done = subprocess.run(check.command, cwd=CHECKOUT, check=False, capture_output=True, text=True)
    click.echo(f"{'ok    ' if done.returncode == 0 else 'FAILED'} {check.what}", err=True)
    if done.returncode != 0:
        click.echo(done.stdout + done.stderr, err=True)
    return done.returncode == 0


def rules_modules() -> list[str]:
    """The files that only decide, as the import contract `pure-rules` lists them: each branch must be covered."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    pure = next(contract for contract in contracts if contract["id"] == "pure-rules")
    return [name.replace(".", "/") + ".py" for name in pure["source_modules"]]


@dataclass(frozen=True)
class Measuring:
    """How far the rules modules are covered, measured in several processes; nothing else is: tracing costs."""

    folder: Path

    def begin(self) -> None:
        """Write what is measured."""
        settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]
        rules = set(rules_modules())
        paths = (path for source in settings["source"] for path in sorted((CHECKOUT / source).rglob("*.py")))
        names = (path.relative_to(CHECKOUT).as_posix() for path in paths)
        sources = "\n  ".join(settings["source"])
        others = "\n  ".join(name for name in names if name not in rules)  # `include` would forget what is not imported
        (self.folder / "rc").write_text(f"[run]\nbranch = true\nsource =\n  {sources}\nomit =\n  {others}\n")

    def words(self) -> tuple[str, ...]:
        """Pytest's."""
        return ("--cov", "--cov-report=", f"--cov-config={self.folder / 'rc'}")

    def of(self, name: str) -> dict[str, str]:
        """The environment of a process beside the rest: its measurements lie apart."""
        return {"COVERAGE_FILE": str(self.folder / name)}

    def collect(self, names: Sequence[str]) -> None:
        """Add those processes' measurements to the rest's."""
        files = [str(self.folder / name) for name in names if (self.folder / name).exists()]
        command = [sys.executable, "-m", "coverage", "combine", "--quiet", "--append", *files]
        if files:
            subprocess.run(command, cwd=CHECKOUT, check=True)


def run_pytest(arguments: Sequence[str], environment: dict[str, str], *, aside: bool = False) -> tuple[int, str]:
    """(exit code, the summary line) of pytest, whose output is shown as it comes, on stderr when put `aside`."""
    command = [sys.executable, "-m", "pytest", *arguments]
    last = ""
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True) as pytest:
        for line in pytest.stdout or ():
            click.echo(line, nl=False, err=aside)
            last = line.strip() or last
    return pytest.returncode, last


@contextmanager
def run_beside(
    aside: Aside, environment: dict[str, str], measuring: Measuring
) -> Iterator[Callable[[], tuple[int, str]]]:
    """Run these tests in a process of their own meanwhile; yields how to wait for (exit code, output)."""
    polite = ["nice", "-n", "19"] if aside.only_computes and shutil.which("nice") else []
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", aside.marks, "-p", "no:cacheprovider"]
    measured = () if aside.only_computes else measuring.words()
    words = [*polite, *pytest, *measured, *second_try(environment), *aside.folders]
    environment = environment | measuring.of(aside.name)
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(words, cwd=CHECKOUT, env=environment, stdout=output, stderr=subprocess.STDOUT)

        def finished() -> tuple[int, str]:
            code = process.wait()
            output.seek(0)
            return code, output.read()

        try:
            yield finished
        finally:
            process.terminate()
            process.wait()


def second_try(environment: dict[str, str]) -> tuple[str, ...]:
    """Pytest's words for «try once more what failed», in a run that judges all; a person sees a failure at once."""
    return SECOND_TRY if ALL_VARIABLE in environment else ()


def second_tries(summary: str) -> int:
    """How many tests were tried once more, by pytest's summary line."""
    told = re.search(r"(\d+) rerun", summary)
    return int(told[1]) if told else 0


def run_whole_suite(environment: dict[str, str], *, fast: bool, aside: bool) -> tuple[int, str]:
    """(exit code, the summary line) of all tests; the words of those that ran beside stand before it."""
    if fast:
        return run_pytest(["-q", "-m", " and ".join(f"not {mark}" for mark in SLOW)], environment, aside=aside)
    rest = " and ".join(f"not ({one.marks})" for one in ASIDES)
    with ExitStack() as stack:
        measuring = Measuring(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="duxnet-coverage-"))))
        measuring.begin()
        others = {one.name: stack.enter_context(run_beside(one, environment, measuring)) for one in ASIDES}
        words = ["-q", *measuring.words(), "-m", rest, *second_try(environment)]
        code, summary = run_pytest(words, environment, aside=aside)
        tries = second_tries(summary)
        for name, finished in others.items():
            other, told = finished()
            click.echo(f"{name}, beside the rest:\n{told}", err=aside)
            code = code or other
            tries += second_tries((told.strip().splitlines() or [""])[-1])
        measuring.collect(list(others))
    if tries > SECOND_TRIES_MAX:
        click.echo(f"{tries} tests needed a second try, more than {SECOND_TRIES_MAX}: a fault, not bad luck", err=aside)
        code = code or 1
    return code, summary


def run_rules_coverage() -> bool:
    """Every branch of every rules module was taken by the tests that have just run."""
    include = ",".join(rules_modules())
    check = Check(
        "every branch of the rules modules",
        (sys.executable, "-m", "coverage", "report", f"--include={include}", "--fail-under=100", "--show-missing"),
    )
    return run_check(check)


def development_packages_are_here() -> bool:
    """True when pytest and its companions can be imported."""
    from importlib.util import find_spec

    return all(find_spec(name) for name in ("pytest", "ruff", "mypy", "coverage"))


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="A missing program fails its tests; a failed test gets a second try, told aloud.",
)
@click.option(
    "--fast",
    is_flag=True,
    help="Only what takes a minute: no types, processes, coin node, sandbox, nor what waits for seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object; all else goes to stderr.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test(*, everything: bool, fast: bool, as_json: bool, pytest_arguments: tuple[str, ...]) -> None:
    """Run every check of the project.

    \b
    duxnet test                 all that this machine can run
    duxnet test --fast          before every commit
    duxnet test tests/rules -k refund    a part of it, without the checks of the source
    """
    if not development_packages_are_here():
        raise click.ClickException("the developers' packages are missing: ./duxnet test, or pip install -e '.[dev]'")
    prepare(everything=everything, fast=fast)
    whole = not pytest_arguments
    passed = {check.what: run_check(check) for check in checks(sys.executable) if whole and not (fast and check.slow)}
    environment = test_environment(everything=everything)
    if whole:
        code, summary = run_whole_suite(environment, fast=fast, aside=as_json)
    else:
        code, summary = run_pytest(pytest_arguments, environment, aside=as_json)
    if whole and not fast:
        passed["every branch of the rules modules"] = run_rules_coverage()
    if not all(passed.values()):
        click.echo("a check of the source failed; its words stand above", err=True)
    told = json.dumps({"passed": code == 0 and all(passed.values()), "checks": passed, "tests": summary})
    if as_json or whole:  # of a part, pytest's own last line has been printed just now
        click.echo(told if as_json else summary)
    sys.exit(code or (0 if all(passed.values()) else 1))


def prepare(*, everything: bool, fast: bool) -> None:
    """Install what is missing and may be installed; say what stays missing and what follows."""
    if not fast:
        install_tools()
    follows = "failed" if everything else "skipped"
    for tool, purpose in missing_tools().items():
        click.echo(f"{tool} is not on this machine: {purpose} will be {follows}", err=True)


def test_environment(*, everything: bool) -> dict[str, str]:
    """What the tests' processes see."""
    return os.environ | ({ALL_VARIABLE: "1"} if everything else {})
