"""How others follow what a daemon decided: its events in order, with a wait for the next one.

Promises no event twice and none skipped for a reader that gives its last cursor back. Knows nothing of kinds or bodies.
"""

from __future__ import annotations

import asyncio

from common.store import Event, Store


class EventFeed:
    """Lets others read this daemon's events in order, waiting for new ones."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Event()
        store.on_event(self._changed.set)

    async def since(self, cursor: int, wait_s: float, limit: int) -> list[Event]:
        """Events after `cursor`, oldest first, at most `limit`; waits up to `wait_s` when there are none."""
        found = self._read(cursor, limit)
        if found or wait_s <= 0:
            return found
        try:
            async with asyncio.timeout(wait_s):
                while not found:
                    self._changed.clear()
                    await self._changed.wait()
                    found = self._read(cursor, limit)
        except TimeoutError:
            return []
        return found

    def _read(self, cursor: int, limit: int) -> list[Event]:
        rows = self._store.rows("SELECT * FROM events WHERE cursor > ? ORDER BY cursor LIMIT ?", cursor, limit)
        return [Event(row["cursor"], row["at_ms"], row["kind"], row["body"]) for row in rows]
