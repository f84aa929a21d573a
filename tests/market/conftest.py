"""What the machine that runs these tests has in it decides nothing here."""

from __future__ import annotations

from pathlib import Path

import pytest

from dux_registryd import machine


@pytest.fixture(autouse=True)
def gpu_here(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The GPU that this machine shows: none, unless a test puts a `model` in."""
    here, look = {"model": ""}, machine._gpu

    def shown(root: Path) -> tuple[str, int]:
        return (here["model"], 0) if root == machine.ROOT else look(root)

    monkeypatch.setattr(machine, "_gpu", shown)
    return here
