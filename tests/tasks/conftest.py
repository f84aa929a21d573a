"""The slot launcher, as root starts it; without root there is none, and the tests that need it say so."""

from __future__ import annotations

import os
import socket as socketlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.task_kit import SLOT_UIDS

ROOT = Path(__file__).parents[2]


def answers(path: Path) -> bool:
    """Somebody listens there; a socket's file is there a moment earlier."""
    with socketlib.socket(socketlib.AF_UNIX, socketlib.SOCK_SEQPACKET) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a running slot launcher that serves this process."""
    if os.geteuid() != 0:
        pytest.skip("native jobs need a slot launcher, which only root can start: NOT tested here")
    socket = tmp_path_factory.mktemp("slots") / "slots.sock"
    words = ["-m", "dux_taskd.sandbox.slot_launcher", "--socket", str(socket), "--serve-uid", str(os.getuid())]
    words += ["--first-uid", str(SLOT_UIDS)]
    with subprocess.Popen([sys.executable, *words], cwd=ROOT) as process:
        until = time.monotonic() + 20
        while not answers(socket):
            assert process.poll() is None, "the slot launcher ended at its start"
            assert time.monotonic() < until
            time.sleep(0.02)
        yield socket
        process.terminate()
        assert process.wait(20) == 0
