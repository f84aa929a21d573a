"""What a measurement asks of a machine, and what of a declaration it verifies. Pure.

A figure is the lower median of the newest measurement of each challenger that is not too old: one liar among three
changes nothing, one among two can only lower it. What was never measured, or was answered wrongly, stays declared.

Limits, as told in the documents too: only a part of memory and disk is asked for, at most the network's bounds; a
rented machine measures like an own one; and what is verified is what was there when it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.contracts.peer_benchmark import LANES_MAX
from common.network import BenchmarkParameters
from common.receipts import NodeInfo
from common.standing import BenchmarkResult
from common.units import BPS

BENCHMARK = "benchmark"  # the duty
CORES_SHARE_BPS = 6_000  # of a declared core's speed: hardware threads share one
MB_PER_GB = 1_024
WALK_SHARE = 16  # a held block is read so many times faster than made, at least
WALK_GRACE_S = 0.25  # and two round trips
PARTS = ("cpu", "memory", "storage", "bandwidth")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a node of these declarations is asked for."""

    lanes: int
    memory_mb: int
    disk_mb: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a node; 0: never, or answered wrongly."""

    results: int = 0
    cpu_single: int = 0
    cpu_all: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    up_kbps: int = 0
    down_kbps: int = 0
    newest_ms: int = 0
    failed: tuple[str, ...] = ()


NO_FIGURES = Figures()


def sizes_of(info: NodeInfo, rules: BenchmarkParameters) -> Sizes:
    """A share of what is declared, within bounds, so that a measurement costs little."""
    return Sizes(
        lanes=min(max(info.cpu_cores, 1), LANES_MAX),
        memory_mb=max(1, min(info.memory_mb * rules.memory_share_bps // BPS, rules.memory_max_mb)),
        disk_mb=max(1, min(info.storage_gb * MB_PER_GB * rules.disk_share_bps // BPS, rules.disk_max_mb)),
    )


def walk_limit_s(steps: int, block_s: float, rtt_s: float) -> float:
    """How long a walk may take of who holds what it says; `block_s`: what making one block takes the challenger."""
    return WALK_GRACE_S + 2 * rtt_s + steps * block_s / WALK_SHARE


def figures_of(results: Iterable[BenchmarkResult]) -> Figures:
    """The figures that measurements give; of each challenger the newest counts."""
    newest: dict[str, BenchmarkResult] = {}
    for result in sorted(results, key=lambda one: (one.at_ms, one.prober)):
        newest[result.prober] = result
    found = list(newest.values())
    if not found:
        return NO_FIGURES
    return Figures(
        results=len(found),
        cpu_single=_median([one.cpu_single for one in found]),
        cpu_all=_median([one.cpu_all for one in found]),
        memory_mb=_median([one.memory_mb for one in found]),
        disk_mb=_median([one.disk_mb for one in found]),
        up_kbps=_median([one.up_kbps for one in found]),
        down_kbps=_median([one.down_kbps for one in found]),
        newest_ms=max(one.at_ms for one in found),
        failed=tuple(sorted({part for one in found for part in one.failed.split(",") if part})),
    )


def _median(values: Sequence[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]


def cores_seen(figures: Figures) -> int:
    """How many cores' work was done side by side, rounded."""
    return round(figures.cpu_all / figures.cpu_single) if figures.cpu_single else 0


def verified_parts(info: NodeInfo, figures: Figures, rules: BenchmarkParameters) -> tuple[str, ...]:
    """The parts of a declaration that measurements bear out."""
    if figures.results < rules.needed:
        return ()
    sizes = sizes_of(info, rules)
    borne_out = {
        "cpu": figures.cpu_all * BPS >= figures.cpu_single * sizes.lanes * CORES_SHARE_BPS and figures.cpu_single > 0,
        "memory": figures.memory_mb >= sizes.memory_mb,
        "storage": figures.disk_mb >= sizes.disk_mb,
        "bandwidth": figures.up_kbps > 0 and figures.down_kbps > 0,
    }
    return tuple(part for part in PARTS if borne_out[part])
