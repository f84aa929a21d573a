"""What can be simulated, what came of it, and the command that repeats it: the simulator as others call it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from dux_sim.fund.story import FundStory
from dux_sim.money.laws import INSTANT_LAWS, Violation
from dux_sim.money.story import MoneyStory
from dux_sim.network.story import NetworkStory
from dux_sim.overlay.halves import play_in_two
from dux_sim.overlay.laws import summary, violations
from dux_sim.overlay.story import OverlayStory
from dux_sim.overlay.world import hash_of
from dux_sim.world.coin import cheap_work
from dux_sim.world.faults import Fault, FaultKind
from dux_sim.world.history import History
from dux_sim.world.world import quiet_memory

Kind = Literal["network", "overlay", "money", "fund"]
LAST_LINES = 40
Story = NetworkStory | OverlayStory | MoneyStory | FundStory


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One history that is wanted. `schedule`: these faults in place of those that the seed gives."""

    kind: Kind
    seed: int
    faults: tuple[FaultKind, ...]
    nodes: int = 6
    hours: float = 24.0
    schedule: tuple[Fault, ...] | None = None
    processes: int = 1  # of an overlay: the history is the same

    def command(self) -> str:
        """The command line that repeats it."""
        faults = ",".join(self.faults) or "none"
        size = f"--nodes {self.nodes} --hours {self.hours:g}"
        what = {"network": f"--story whole {size}", "overlay": f"--story overlay {size}"}.get(self.kind)
        what = what or f"--{self.kind} 1"
        return f"./duxnet sim {what} --seed {self.seed} --faults {faults}"


class Told(msgspec.Struct, kw_only=True):
    """What came of one history, or of many together."""

    history_hash: str
    violations: list[dict[str, Any]]
    exits: dict[str, int]
    faults: dict[str, int]
    messages: int
    commits: int
    blocks: int
    events: int
    histories: int
    seconds: float
    cpu_seconds: float


def story_of(order: Order, *, trace: bool = False, until: int | None = None) -> Story:
    """The history, about to begin."""
    if order.kind == "network":
        return NetworkStory(
            nodes=order.nodes, seed=order.seed, hours=order.hours, kinds=order.faults, faults=order.schedule,
            trace=trace, until=until,
        )  # fmt: skip
    if order.kind == "overlay":
        return OverlayStory(
            nodes=order.nodes, seed=order.seed, hours=order.hours, kinds=order.faults, trace=trace, until=until
        )
    kind = MoneyStory if order.kind == "money" else FundStory
    return kind(order.seed, order.faults, schedule=order.schedule, trace=trace, until=until)


def faults_of(order: Order) -> tuple[Fault, ...]:
    """The schedule of faults that the order's seed gives."""
    story = story_of(order)
    story.world.close()
    return tuple(story.faults)


def perform(order: Order) -> Told:
    """Run one history to its end."""
    started, cpu = time.perf_counter(), time.process_time()
    if order.kind == "overlay" and order.processes > 1:
        return _in_two(order, started)
    with cheap_work():
        story = story_of(order)
        violations = story.run()
    return told(order, story.history, violations, time.perf_counter() - started, time.process_time() - cpu)


def _in_two(order: Order, started: float) -> Told:
    """One history of the overlay in two processes."""
    found, why, cpu_seconds = play_in_two(nodes=order.nodes, seed=order.seed, hours=order.hours, kinds=order.faults)
    history = History(lambda: 0.0)
    broken = [Violation("progress", why)] if found is None else violations(found)
    made = told(order, history, broken, time.perf_counter() - started, cpu_seconds)
    if found is None:
        return made
    history.counts.update(found.counts)
    return msgspec.structs.replace(
        made, history_hash=hash_of(found.hashes), exits=dict(sorted(summary(found).items())), faults=found.faults,
        messages=history.messages, commits=history.counts["commit"], blocks=history.counts["block"],
        events=found.events,
    )  # fmt: skip


def told(order: Order, history: History, violations: Sequence[Violation], seconds: float, cpu_seconds: float) -> Told:
    """The report of one history."""
    return Told(
        history_hash=history.hash(),
        violations=[
            {"law": one.law, "detail": one.detail, "seed": order.seed, "repeat": order.command()} for one in violations
        ],
        exits=dict(sorted(history.exits.items())),
        faults=dict(sorted(history.faults.items())),
        messages=history.messages,
        commits=history.counts["commit"],
        blocks=history.counts["block"],
        events=history.events,
        histories=1,
        seconds=round(seconds, 3),
        cpu_seconds=round(cpu_seconds, 3),
    )


def alone(order: Order) -> Told:
    """Run one history in a process that does nothing else."""
    with quiet_memory():
        return perform(order)


def read(order: Order, until: str = "") -> list[str]:
    """The lines of a history: all of it, or up to in front of an event's number, or of a law's breaking."""
    number = int(until) if until.isdigit() else None
    with quiet_memory(), cheap_work():
        story = story_of(order, trace=True, until=number)
        law = "" if number is not None else until
        instant = order.kind != "overlay" and bool(law) and any(law in name for name in INSTANT_LAWS)
        if not isinstance(story, OverlayStory) and instant:
            story.history.watch = lambda kind: kind in ("commit", "block") and story.books.breaks_now(law)
        violations = story.run()
        lines = list(story.history.lines)
    if until:
        lines = lines[-LAST_LINES:]
    if instant and story.history.stopped:
        lines.append(f"STOPPED: with this event a law is broken: {law}")
    return [*lines, *(f"VIOLATION {one.law}: {one.detail}" for one in violations if law in one.law)]
