"""The areas of `duxnet bench`. A new one is a file with `async def measure(run) -> list[Finding]`, and a line here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module

from bench.measure import Run
from bench.rows import Finding

Measure = Callable[[Run], Awaitable[list[Finding]]]


@dataclass(frozen=True)
class Area:
    """One topic: what it measures, where, and whether `--quick` alone includes it (seconds, not minutes)."""

    module: str
    what: str
    cheap: bool = False
    parts: tuple[str, ...] = ()  # that can be measured alone

    def load(self) -> Measure:
        """The function that measures it, imported now."""
        found: Measure = import_module(self.module).measure
        return found


AREAS: dict[str, Area] = {
    "rpc": Area("bench.rpc", "a daemon's JSON-RPC beside litecoind's", cheap=True),
    "peer": Area("bench.peer", "calls and bulk between two nodes beside a bare TLS echo", cheap=True),
    "sandbox": Area("bench.sandbox", "the start of a job's sandbox beside docker run", cheap=True),
    "node": Area("bench.node", "memory, idle CPU and start of a whole node"),
    "money": Area(
        "bench.money",
        "headers judged and linked beside bare scrypt, calls that are paid, the escrow proof's short form",
        cheap=True,
        parts=("headers", "channel", "proof"),
    ),
    "job": Area("bench.job", "jobs without escrow, and the whole paid job with its parts"),
    "network": Area(
        "bench.network",
        "the network's table: calls, memory, DHT, gossip, the way back; simulated and soaked when asked for",
        parts=("calls", "memory", "dht", "gossip", "return", "spread", "sim", "soak"),
    ),
    "sim": Area("bench.sim", "simulated histories per second", cheap=True),
}
PARTS = [part for area in AREAS.values() for part in area.parts]


def chosen(names: tuple[str, ...], *, quick: bool, only: tuple[str, ...] = ()) -> list[str]:
    """The areas to run: those named, else those of the parts named, else all, else (quick) the cheap ones.

    Each once, in the order of the table.
    """
    names = names or tuple(name for name, area in AREAS.items() if set(area.parts) & set(only))
    return [name for name, area in AREAS.items() if name in names or (not names and (area.cheap or not quick))]
