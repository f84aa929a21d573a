"""Names of which something is wanted soon: each once, in the order in which they came; whoever asks does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator


class Wants:
    """What one task works off. Bounded by how many names there are, not by how often they are wanted."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._wake = asyncio.Event()

    def add(self, name: str) -> None:
        """It is wanted; one that waits already keeps its place."""
        self._names[name] = None
        self._wake.set()

    def wake(self) -> None:
        """Let the task look, though no name is wanted."""
        self._wake.set()

    async def some(self) -> None:
        """Return when there is something to look at."""
        await self._wake.wait()
        self._wake.clear()

    def taken(self) -> Iterator[str]:
        """All of them, those that come meanwhile, too; each is off the list before it is worked on."""
        while self._names:
            name = next(iter(self._names))
            del self._names[name]
            yield name
