"""`duxnet soak`: real nodes under churn and traffic, and what has leaked when it is over."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from bench.measure import machine
from bench.soak import GROWTH_MAX, Soak
from dux_cli.command import EXIT_FAILED, DuxCommand, Session, pass_session
from dux_cli.output import note

NODES_MAX, MINUTES_MAX = 200, 7 * 24 * 60.0


@click.command(cls=DuxCommand)
@click.option("--nodes", type=click.IntRange(4, NODES_MAX), default=20, show_default=True, help="Real p2pds.")
@click.option("--minutes", type=click.FloatRange(0.2, MINUTES_MAX), default=30.0, show_default=True, help="How long.")
@click.option("--growth", type=click.FloatRange(0.0, 10.0), default=GROWTH_MAX, show_default=True,
              help="Share by which memory may grow after warming up.")  # fmt: skip
@pass_session
def soak(session: Session, *, nodes: int, minutes: float, growth: float) -> None:
    """Nodes on real sockets come and go, store, look up, call and gossip; then what is open is compared.

    Exit code 1 means that memory, tasks, sockets or files have grown beyond what the sessions explain.

    \b
    duxnet soak --nodes 20 --minutes 30 --json
    """
    note(machine())
    with tempfile.TemporaryDirectory(prefix="duxnet-soak-") as folder:
        told = asyncio.run(Soak(Path(folder), nodes=nodes, minutes=minutes, growth_max=growth, tell=note).run())
    note(machine())
    lines = [
        ("memory", f"{told.warm.rss_mib:.1f} → {told.end.rss_mib:.1f} MiB ({told.growth:+.1%})"),
        ("tasks", f"{told.warm.tasks} → {told.end.tasks}"),
        ("session ends", f"{told.warm.sessions} → {told.end.sessions}"),
        ("sockets of no session", f"{told.warm.spare_sockets} → {told.end.spare_sockets}"),
        ("done", ", ".join(f"{name} {count}" for name, count in told.done.items())),
        ("failed", ", ".join(f"{name} {count}" for name, count in told.failed.items()) or "none"),
        ("leaks", "; ".join(told.broken) or "none"),
    ]
    session.out.record(msgspec.to_builtins(told), lines, name="none" if not told.broken else "leaks")
    if told.broken:
        sys.exit(EXIT_FAILED)
