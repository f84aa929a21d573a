"""What the wire has met, counted for /metrics: each number only grows.

Source: network.md §8 (metrics of all abuse).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial

from dux_p2pd.gate import Refusal


@dataclass(slots=True)
class WireCounts:
    """Counters of one transport."""

    accepted: int = 0  # connections let past the gate
    gate_refused: int = 0  # connections aborted before any TLS: the sum of the four reasons
    gate_banned: int = 0
    gate_half_open: int = 0
    gate_half_open_net: int = 0
    gate_net_rate: int = 0
    handshakes_failed: int = 0
    introductions_failed: int = 0
    introductions_banned: int = 0  # of those, by a DID that is banned here or refused by the registry
    sessions_made: int = 0
    framing_broken: int = 0
    dead_peers: int = 0  # no byte for 15 s
    stuck_peers: int = 0  # asked and did not read
    calls_refused: int = 0  # beyond the peer's budget

    def refused(self, why: Refusal) -> None:
        """The gate let a connection not in."""
        name = f"gate_{why.name.lower()}"
        self.gate_refused += 1
        setattr(self, name, getattr(self, name) + 1)

    def gauges(self) -> Mapping[str, Callable[[], float]]:
        """Each counter under its name in /metrics."""
        return {f"wire_{field.name}": partial(self._value, field.name) for field in fields(self)}

    def _value(self, name: str) -> float:
        return float(getattr(self, name))
