"""What a measurement asks of a machine, and what of a declaration it verifies. Pure.

A figure is the lower median of the newest measurement of each challenger that is not too old: one liar among three
changes nothing, one among two can only lower it. What was never measured, or was answered wrongly, stays declared.

An answer that is right and late accuses nobody: a small board, a long line or a busy hour look the same from outside.
It leaves the part unverified and is told as slow; only a wrong answer starts an audit.

Limits, as told in the documents too: one core as fast as the challenger's may pass for about ten slow ones; only a
part of memory and disk is asked for, at most the network's bounds; a rented machine measures like an own one; and what
is verified is what was there when it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.contracts.peer_benchmark import LANES_MAX
from common.network import BenchmarkParameters
from common.receipts import NodeInfo
from common.standing import BenchmarkResult
from common.units import BPS

CORES_SHARE_BPS = 6_000  # of a declared core's speed: hardware threads share one
MB_PER_GB = 1_024
LANE_SHARE = 8  # how many times slower than the challenger's a core may be: a small board's is four, threads halve it
WALK_SHARE = 16  # a held block is read so many times faster than made, at least
GRACE_S = 0.25  # of every limit, and two round trips
RTT_S_MAX = 0.5  # credited; the measured node makes its own pings slow if it likes
WIRE_SHARE = 0.75  # of the time of an answer, at most, is taken off as the line's
SLOW = "-slow"  # ends the name of a part that was answered rightly and too late
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


def lanes_limit_s(iterations: int, hash_s: float, rtt_s: float) -> float:
    """How long chains may take side by side, one or many: each on its own core; `hash_s`: one of the challenger's.

    Without it a node that answers slowly when one lane is asked for would have any number of cores verified.
    """
    return _grace_s(rtt_s) + iterations * hash_s * LANE_SHARE


def walk_limit_s(steps: int, block_s: float, rtt_s: float) -> float:
    """How long a walk may take of who holds what it says; `block_s`: what making one block takes the challenger."""
    return _grace_s(rtt_s) + steps * block_s / WALK_SHARE


def _grace_s(rtt_s: float) -> float:
    return GRACE_S + 2 * min(rtt_s, RTT_S_MAX)


def worked_s(taken_s: float, rtt_s: float) -> float:
    """An answer's time less the line's part of it, which slow pings do not make all of it."""
    return max(taken_s - min(rtt_s, RTT_S_MAX, taken_s * WIRE_SHARE), 1e-3)


def wrong_parts(failed: Iterable[str]) -> tuple[str, ...]:
    """Of what failed, what was answered wrongly: it accuses."""
    return tuple(part for part in failed if part and not part.endswith(SLOW))


def slow_parts(failed: Iterable[str]) -> tuple[str, ...]:
    """Of what failed, the parts answered rightly and too late: unverified, and nothing against the node."""
    return tuple(part.removesuffix(SLOW) for part in failed if part.endswith(SLOW))


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
