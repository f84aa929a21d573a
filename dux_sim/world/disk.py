"""The disks of a world: SQLite in memory, one per daemon, that outlives the daemon.

Promises that a crash keeps what was committed and nothing else, and that every committed change is part of the history.
Source: settled.md 26 and 27.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

from common.clock import Clock
from common.store import Store, Tx, Value
from dux_sim.world.history import History
from dux_sim.world.loop import LIFE

READS = ("SELECT", "PRAGMA")
STATEMENTS_MAX = 1024


@lru_cache(STATEMENTS_MAX)
def _is_read(sql: str) -> bool:
    return sql.lstrip().startswith(READS)


class SimTx(Tx):
    """A decision that remembers what it writes."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        super().__init__(connection, clock)
        self.written: list[tuple[str, tuple[Value, ...]]] = []

    def execute(self, sql: str, *values: Value) -> sqlite3.Cursor:
        """Run one statement."""
        if not _is_read(sql):
            self.written.append((sql, values))
        return super().execute(sql, *values)


class SimStore(Store):
    """The product's store on a connection that it does not own."""

    on_commit: Callable[[SimTx], None]

    def _wake(self, tx: Tx) -> None:
        """A decision was committed: the history is told."""
        super()._wake(tx)
        if isinstance(tx, SimTx) and tx.written:
            self.on_commit(tx)

    def _make_tx(self) -> Tx:
        return SimTx(self._open(), self._clock)

    def close(self) -> None:
        """The daemon has ended; the disk stays."""
        self._closed = True


class Disk:
    """The committed rows of one daemon."""

    def __init__(self, name: str, history: History) -> None:
        self.name = name
        self._history = history
        self._connection: sqlite3.Connection | None = None
        self.store: SimStore | None = None
        self.path: Path | None = None

    def open(self, _path: Path | None, migrations: Sequence[str], clock: Clock) -> Store:
        """What `Store.open` does, on this disk."""
        connection = self._connection
        if connection is None:
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys=ON")
            self._connection = connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        store = SimStore(connection, None, clock)
        store.on_commit = self._committed
        store.bring_up(self.name, migrations)
        self.store = store
        return store

    def crash(self) -> None:
        """Power off: what was not committed is gone, and the dead can write no more."""
        if self.store is not None:
            self.store.close()
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _committed(self, tx: SimTx) -> None:
        body = msgspec.json.encode(tx.written)
        self._history.note("commit", self.name, body, of=self.name)
        life = LIFE.get()
        if life is not None:
            life.meets("commit")

    def rows(self, sql: str, *values: Value) -> list[sqlite3.Row]:
        """Look at the disk from outside, whether the daemon lives or not."""
        return [] if self._connection is None else self._connection.execute(sql, values).fetchall()

    def wipe(self) -> None:
        """Throw the disk away."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
