"""Makes room for a copy where all room for others' copies is taken: `room_rules` says whose copies go.

What is dropped is the largest of one owner; it has other keepers, and finds out at its next renewal, at which it may
find room again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from common.room_rules import who_gives_way
from common.store import Store
from common.units import Did

DROPPED_MAX = 8  # copies, for one


class Room:
    """Others' copies, where there are too many of them."""

    def __init__(self, store: Store, active: Callable[[], Awaitable[list[Did]]]) -> None:
        self._store, self._active = store, active
        self._known: frozenset[str] = frozenset()  # who lived at the last block

    async def look(self) -> None:
        """Who lives is asked at each block while anything is kept: a copy that comes waits for no registry."""
        if self._store.row("SELECT 1 FROM kept_copies LIMIT 1") is not None:
            self._known = frozenset(await self._active())

    def makes(self, owner: Did, more: int, *, places: int, size: int) -> bool:
        """Whether so many places and bytes became free for `more` bytes of this owner: nothing is dropped in vain."""
        measure = "count(*)" if places else "sum(length(sealed))"
        sql = f"SELECT owner, {measure} AS held FROM kept_copies GROUP BY owner ORDER BY owner"  # noqa: S608 - own words
        held = {str(row["owner"]): int(row["held"]) for row in self._store.rows(sql)}
        giver = who_gives_way(held, owner, 1 if places else more, self._known)
        if giver is None:
            return False
        sql = "SELECT tag, length(sealed) AS size FROM kept_copies WHERE owner = ? ORDER BY size DESC, tag LIMIT ?"
        dropped = list[bytes]()
        for row in self._store.rows(sql, giver, DROPPED_MAX):
            if places > 0 or size > 0:
                dropped.append(bytes(row["tag"]))
                places, size = places - 1, size - int(row["size"])
        if places > 0 or size > 0:
            return False
        with self._store.transaction() as tx:
            for tag in dropped:
                tx.execute("DELETE FROM kept_copies WHERE tag = ? AND owner = ?", tag, giver)
        return True
