"""What every test may count on: programs that a marked test needs are here, or it is skipped with the reason.

With DUX_TEST_ALL=1 (`duxnet test --all`, and the project's own checks) nothing is skipped for a missing program.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from dux_cli.testing import SECOND_TRIES_MAX
from tests.containers.engine import engine_missing
from tests.systemd import machine

NOTHING_MISSING = ""
SHOWN_CHARS = 6_000

crowded = [HealthCheck.too_slow]  # a verdict on the machine's load, not on the test
settings.register_profile("person", suppress_health_check=crowded)
settings.register_profile("ci", derandomize=True, suppress_health_check=crowded)  # the same cases on every machine
settings.load_profile("ci" if os.environ.get("CI") else "person")


def coin_node_missing() -> str:
    """Why no real coin node can be started, or an empty string."""
    if shutil.which("litecoind") or os.environ.get("DUX_FLOPCOIND"):
        return NOTHING_MISSING
    return "no litecoind (apt-get install litecoind), and DUX_FLOPCOIND names no binary"


def sandbox_missing() -> str:
    """Why bubblewrap cannot wall anything in here, or an empty string."""
    if not shutil.which("bwrap"):
        return "no bwrap (apt-get install bubblewrap)"
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return NOTHING_MISSING if tried.returncode == 0 else f"bwrap cannot make namespaces: {tried.stderr.strip()[:200]}"


def systemd_missing() -> str:
    """Why units cannot be looked at here, or an empty string."""
    return NOTHING_MISSING if shutil.which("systemd-analyze") else "no systemd-analyze (apt-get install systemd)"


def tor_missing() -> str:
    """Why there can be no Tor network here, or an empty string."""
    lacking = [program for program in ("tor", "tor-gencert") if shutil.which(program) is None]
    return f"no {' and no '.join(lacking)} (apt-get install tor)" if lacking else NOTHING_MISSING


OPTIONAL = ("flopcoin",)  # reasons that name one of these may skip a test even where all shall run


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where all shall run, a test that was skipped for want of something has failed."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("DUX_TEST_ALL") == "1":
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(name in reason.lower() for name in OPTIONAL):
            report.outcome, report.longrepr = "failed", f"{item.nodeid} may not be skipped here: {reason}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which many tests needed a second try has failed."""
    if exitstatus == 0 and len(second_tries(session.config)) > SECOND_TRIES_MAX:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show, whole, how the tests failed that passed at their second try."""
    for report in second_tries(config):
        terminalreporter.section(f"first try of {report.nodeid} ({report.when})")
        terminalreporter.line(report.longreprtext)
        for name, content in report.sections:
            terminalreporter.line(f"{name}: {content[-SHOWN_CHARS:]}")
    if len(second_tries(config)) > SECOND_TRIES_MAX:
        terminalreporter.line(f"more than {SECOND_TRIES_MAX} tests needed a second try: that is a fault, not bad luck")


def second_tries(config: pytest.Config) -> list[pytest.TestReport]:
    """The failures after which pytest-rerunfailures tried once more (`duxnet test --all`)."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return [] if reporter is None else list(reporter.stats.get("rerun", ()))


REQUIREMENTS = {
    "coin_node": coin_node_missing,
    "sandbox": sandbox_missing,
    "units": systemd_missing,
    "nspawn": machine.missing,
    "containers": engine_missing,
    "tor": tor_missing,
}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, aloud, what this machine cannot run; only for tests that were chosen is anything tried."""
    if os.environ.get("DUX_TEST_ALL") == "1":
        return
    for mark, missing in REQUIREMENTS.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        reason = missing() if marked else NOTHING_MISSING
        for item in marked if reason else ():
            item.add_marker(pytest.mark.skip(reason=reason))
