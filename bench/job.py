"""Whole jobs: without escrow, and paid."""

from __future__ import annotations

from bench.free_job import measure_free
from bench.measure import Run
from bench.paid_job import measure_paid
from bench.rows import Finding


async def measure(run: Run) -> list[Finding]:
    """Jobs per second without escrow, then the paid job with its parts."""
    return [*await measure_free(run), *await measure_paid(run)]
