"""What every test may count on: programs that a marked test needs are here, or it is skipped with the reason.

With DUX_TEST_ALL=1 (`duxnet test --all`, and the project's own checks) nothing is skipped for a missing program.
"""

import os
import shutil
import subprocess

import pytest

NOTHING_MISSING = ""


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


REQUIREMENTS = {"coin_node": coin_node_missing, "sandbox": sandbox_missing}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, aloud, what this machine cannot run."""
    if os.environ.get("DUX_TEST_ALL") == "1":
        return
    for mark, missing in REQUIREMENTS.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        reason = missing() if marked else NOTHING_MISSING
        for item in marked if reason else ():
            item.add_marker(pytest.mark.skip(reason=reason))
