"""What the latencies between nodes say of the network: each pair once, and the median between regions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.contracts.registry_witness import RegionLink
from common.units import Did
from dux_registryd.model import Link

NOWHERE = "unknown"  # the region of nodes that tell none


def region_of(text: str) -> str:
    """A region's name in its one form."""
    return text.strip().lower() or NOWHERE


def between(links: Iterable[Link], regions: Mapping[Did, str]) -> tuple[RegionLink, ...]:
    """The median latency of every pair of regions, in the order of their names; nodes not in `regions` do not count."""
    found: dict[tuple[str, str], list[int]] = {}
    for link in links:
        if link.prober in regions and link.target in regions:
            one, other = sorted((regions[link.prober], regions[link.target]))
            found.setdefault((one, other), []).append(link.rtt_ms)
    return tuple(
        RegionLink(one=one, other=other, rtt_ms=median(times), links=len(times))
        for (one, other), times in sorted(found.items())
    )


def median(numbers: list[int]) -> int:
    """The lower median of at least one number."""
    return sorted(numbers)[(len(numbers) - 1) // 2]
