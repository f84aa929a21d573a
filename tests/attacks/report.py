"""pytest plugin: writes what each attack tried and met as JSON to the file that DUX_ATTACKS_REPORT names."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.registry import MET

ROWS: list[dict[str, Any]] = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """One row per attack that ran or was skipped."""
    outcome = yield
    report, mark = outcome.get_result(), item.get_closest_marker("attack")
    if mark is not None and (call.when == "call" or report.skipped or report.failed):
        ROWS.append({
            "test": item.nodeid,
            **mark.kwargs,
            "outcome": report.outcome,
            "met": "; ".join(MET.get(item.nodeid, ())),
            "seconds": round(report.duration, 2),
        })  # fmt: skip


def pytest_sessionfinish() -> None:
    """The file, at the end."""
    name = os.environ.get("DUX_ATTACKS_REPORT")
    if name:
        Path(name).write_text(json.dumps(ROWS))
