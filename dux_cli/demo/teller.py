"""Tells the story on stderr as it happens, with the time each part took."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Teller:
    """One line per thing that happens; `seconds` holds how long each part took."""

    seconds: dict[str, float] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """One step."""
        sys.stderr.write(f"  {text}\n")
        sys.stderr.flush()

    def head(self, text: str) -> None:
        """A new part of the story."""
        bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
        sys.stderr.write(f"\n{bold}{text}{plain}\n")
        sys.stderr.flush()

    @asynccontextmanager
    async def part(self, name: str, title: str) -> AsyncIterator[None]:
        """A timed part."""
        self.head(title)
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            yield
        finally:
            self.seconds[name] = round(loop.time() - started, 1)
