"""Simulated histories per second. The simulator offers none yet: the row says so until it does."""

from __future__ import annotations

from bench.measure import Run
from bench.rows import Finding

NOTHING_YET = "dux_sim offers no histories yet"


async def measure(_run: Run) -> list[Finding]:
    """One row, empty."""
    return [Finding(name="simulated histories", unit="histories/s", ours=None, peer=NOTHING_YET)]
