"""Keeps the processes of a node running: one that ends is started again, later each time it ends soon.

Promises: a process that ends is started again after 1, 2, 4 … 30 seconds, and after 1 again once it has lived for a
minute; one that says that its settings are unusable is not started again, and everything ends; a slot launcher that
says that this machine has no slots is let be. Knows nothing of what the processes do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from common.clock import Clock, SystemClock
from common.errors import CallerMistake
from dux_cli.supervisor import SLOTS, Node, last_words

PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 30.0
LIVED_LONG_S = 60.0
EXIT_NOT_HERE = 69  # as the slot launcher says it where the machine lets it make no slots
EXIT_BAD_SETTINGS = 78  # as the daemon base says it (EX_CONFIG)


class UnusableSettings(CallerMistake):
    """{daemon} cannot use its settings: {tail}. Mend them in {config}, then `duxnet up` again."""

    code = 1124
    key = "unusable-settings"


@dataclass
class Backoff:
    """How long to wait before the next start."""

    next_s: float = field(default=PAUSE_FIRST_S)

    def pause_after(self, lived_s: float) -> float:
        """Seconds to wait after a process that lived so long."""
        if lived_s >= LIVED_LONG_S:
            self.next_s = PAUSE_FIRST_S
        pause, self.next_s = self.next_s, min(self.next_s * 2, PAUSE_MAX_S)
        return pause


async def keep_running(node: Node, say: Callable[[str], None], clock: Clock | None = None) -> None:
    """Watch every process of the node until cancelled.

    Raises:
        UnusableSettings: starting it again would not help.
    """
    async with asyncio.TaskGroup() as group:
        for name in node.process_names():
            group.create_task(_keep(node, name, say, clock or SystemClock()), name=name)


async def _keep(node: Node, name: str, say: Callable[[str], None], clock: Clock) -> None:
    backoff = Backoff()
    while True:
        await node.start(name)
        began = clock.monotonic()
        code = await node.wait_for_exit(name)
        if code == EXIT_BAD_SETTINGS:
            words = last_words(node.folder.log(name))
            raise UnusableSettings(daemon=name, tail=words, config=str(node.folder.config))
        if code == EXIT_NOT_HERE and name == SLOTS:
            say(last_words(node.folder.log(name)))
            return
        pause_s = backoff.pause_after(clock.monotonic() - began)
        say(f"{name} ended ({ended_how(code)}); starting it again in {pause_s:g} s")
        await asyncio.sleep(pause_s)


def ended_how(code: int) -> str:
    """An exit code as a person reads it."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
