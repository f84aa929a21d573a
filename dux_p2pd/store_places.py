"""Where this node has met others, on disk: the SQL of `remembered.py`.

It knows rows, not which of them are worth keeping.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.store import Store
from common.units import Did, UnixMs

PLACES_MIGRATION = """
    CREATE TABLE places (
        did TEXT PRIMARY KEY, address TEXT NOT NULL, met INTEGER NOT NULL, failed INTEGER NOT NULL,
        first_ms INTEGER NOT NULL, met_ms INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Place:
    """One node: how often it was reached there, how often in vain since then, first and last time."""

    did: Did
    address: str
    met: int
    failed: int
    first_ms: UnixMs
    met_ms: UnixMs


class PlaceTable:
    """The table."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held = {str(row["did"]) for row in store.rows("SELECT did FROM places")}  # asked for at every meeting

    def all(self) -> list[Place]:
        """Every row, by DID."""
        return [
            Place(Did(r["did"]), r["address"], r["met"], r["failed"], UnixMs(r["first_ms"]), UnixMs(r["met_ms"]))
            for r in self._store.rows("SELECT * FROM places ORDER BY did")
        ]

    def count(self) -> int:
        """Rows held."""
        return len(self._held)

    def met(self, did: Did, address: str, now_ms: int) -> None:
        """We have reached it ourselves."""
        self._store.write(
            "INSERT INTO places VALUES (?, ?, 1, 0, ?, ?) ON CONFLICT (did) DO UPDATE SET "
            "address = excluded.address, met = met + 1, failed = 0, met_ms = excluded.met_ms",
            *(did, address, now_ms, now_ms),
        )
        self._held.add(did)

    def seen(self, did: Did, address: str, now_ms: int) -> None:
        """It came to us and says that it listens there."""
        self._store.write(
            "INSERT INTO places VALUES (?, ?, 0, 0, ?, ?) ON CONFLICT (did) DO UPDATE SET "
            "address = CASE WHEN met = 0 OR failed > 0 THEN excluded.address ELSE address END, "
            "met_ms = excluded.met_ms",
            *(did, address, now_ms, now_ms),
        )
        self._held.add(did)

    def failed(self, did: Did) -> None:
        """It did not answer there."""
        self._store.write("UPDATE places SET failed = failed + 1 WHERE did = ?", did)

    def drop(self, dids: list[Did]) -> None:
        """Forget these."""
        with self._store.transaction() as tx:
            for did in dids:
                tx.execute("DELETE FROM places WHERE did = ?", did)
        self._held.difference_update(dids)
